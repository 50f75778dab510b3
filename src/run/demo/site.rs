//! The files that the demo's origins serve.

use std::fs;
use std::io;
use std::path::Path;

/// The page for browsers. It shows what the caches do by asking for the other files.
const PAGE: &str = include_str!("page.html");
const LOST: &str = include_str!("lost.html");
const HAIKU: &str = "Three wells in a ring\nthe bucket goes round and round\neach keeps its water\n";
const PICTURE: &str = include_str!("ring.svg");
/// Of the story: what comes out of a compressor takes a moment to make, and is a fraction of it.
const LENGTH: usize = 300_000;

/// The page for what is not there.
pub(super) const NOT_FOUND: &str = "/lost.html";

/// Writes the files to `root`, which is made.
pub(super) fn write(root: &Path) -> io::Result<()> {
    let shelf = root.join("shelf");
    fs::create_dir_all(&shelf)?;
    fs::write(root.join("index.html"), PAGE)?;
    fs::write(root.join("lost.html"), LOST)?;
    fs::write(root.join("story.txt"), story(LENGTH))?;
    fs::write(shelf.join("haiku.txt"), HAIKU)?;
    fs::write(shelf.join("ring.svg"), PICTURE)?;
    fs::write(shelf.join("squares.csv"), squares())
}

/// A text of at least so many bytes that is the same every time. It tells of requests.
fn story(length: usize) -> String {
    const WHO: [&str; 8] = [
        "A small request",
        "The morning's first request",
        "A request with a long cookie",
        "An impatient client",
        "A crawler from far away",
        "A phone on a slow train",
        "The neighbour's browser",
        "A script that nobody remembers",
    ];
    const DID: [&str; 8] = [
        "came to the door and asked for",
        "knocked twice and wanted",
        "waited in the queue for",
        "had heard of, and now wished to see,",
        "sent four lines and a blank one to get",
        "kept its connection open just for",
        "asked, not for the first time, for",
        "was sent on to fetch",
    ];
    const WHAT: [&str; 8] = [
        "a page about the sea",
        "the smallest picture in the house",
        "a list of all that begins with q",
        "the second half of a film",
        "yesterday's weather",
        "a table with nine columns",
        "the story that you are reading",
        "something that had never been there",
    ];
    const END: [&str; 8] = [
        "the first origin had it at hand",
        "the second origin made it anew, and kept it",
        "the third origin said that nothing had changed",
        "it was packed so tightly that it fitted into one packet",
        "it took three milliseconds and no more",
        "somebody else was waiting for the same, so both went home together",
        "a minute later it was forgotten",
        "the log got one more line",
    ];
    let mut dice: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut pick = |from: &[&'static str; 8]| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        from[(dice >> 61) as usize]
    };
    let mut text = String::from("THE STORY OF THE REQUESTS\n");
    let mut number = 0;
    while text.len() < length {
        number += 1;
        let gap = if number % 5 == 1 { "\n\n" } else { "\n" };
        text += &format!("{gap}{number}. {} {} {}; {}.", pick(&WHO), pick(&DID), pick(&WHAT), pick(&END));
    }
    text + "\n"
}

fn squares() -> String {
    (1..=500_u32).fold("number,square,cube\n".to_owned(), |text, n| text + &format!("{n},{},{}\n", n * n, n * n * n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::demo::TTL;
    use tempfile::TempDir;

    #[test]
    fn the_files_are_written_and_always_the_same() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("site");
        write(&root).unwrap();
        let text = fs::read_to_string(root.join("story.txt")).unwrap();
        assert!((LENGTH..LENGTH + 400).contains(&text.len()), "{}", text.len());
        assert_eq!(text, story(LENGTH));
        assert!(root.join(&NOT_FOUND[1..]).is_file() && root.join("shelf/squares.csv").is_file());
        assert!(squares().ends_with("\n500,250000,125000000\n"));
    }

    #[test]
    fn the_pages_need_nothing_from_elsewhere() {
        for page in [PAGE, LOST] {
            for part in [" src=", "@import", "url(", "https:", "<link rel=\"stylesheet"] {
                assert!(!page.contains(part), "{part}");
            }
            assert!(page.contains("Content-Security-Policy"));
        }
    }

    #[test]
    fn the_page_knows_how_long_an_answer_is_kept() {
        assert!(PAGE.contains(&format!("const TTL = {TTL};")));
        for path in ["/story.txt", "/shelf/"] {
            assert!(PAGE.contains(&format!("value=\"{path}\"")), "{path}");
        }
    }
}
