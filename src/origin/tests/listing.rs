//! Listings: nothing of a name gets out of its place, and every link leads to what it names.

use crate::http1::field::FieldSpace;
use crate::http1::{Limits, request};
use crate::origin::RelativePath;
use crate::origin::listing::{Entry, html, json, wants_json};
use proptest::prelude::*;

fn path(text: &[u8]) -> RelativePath {
    let mut path = RelativePath::default();
    path.decode(text).unwrap();
    path
}

fn file(name: &[u8], length: u64) -> Entry {
    Entry { name: name.to_vec(), directory: false, length, modified: 784_111_777 }
}

fn folder(name: &[u8]) -> Entry {
    Entry { directory: true, ..file(name, 4096) }
}

/// The values of all `href` attributes.
fn links(page: &str) -> Vec<&str> {
    page.split(" href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|link| *link != "data:,")
        .collect()
}

#[test]
fn folders_come_first_and_hidden_names_do_not_come() {
    let entries =
        [file(b"b", 1), file(b".env", 1), folder(b"z"), file(b"A", 2), file(b"a", 3), folder(b".git"), folder(b"Y")];
    assert_eq!(links(&html(&path(b"/"), &entries)), ["Y/", "z/", "A", "a", "b"]);
    assert_eq!(links(&html(&path(b"/x%20y/z/"), &entries[..1])), ["../../", "../", "../", "b"]);
    assert!(html(&path(b"/"), &entries).contains("<p>2 folders, 3 files</p>"));
    assert!(html(&path(b"/"), &entries[2..4]).contains("<p>1 folder, 1 file</p>"));
}

#[test]
fn an_empty_folder_says_so() {
    for (at, table) in [(&b"/"[..], false), (b"/a/", true)] {
        let page = html(&path(at), &[file(b".hidden", 1)]);
        assert!(page.contains("This folder is empty.") && page.contains("<table>") == table, "{page}");
    }
    assert_eq!(json(&[]), "[\n]\n");
}

#[test]
fn a_row_tells_name_size_and_time() {
    let page = html(&path(b"/"), &[file(b"a.txt", 1_234_567)]);
    let row = "<tr><th scope=\"row\"><a href=\"a.txt\"><bdi>a.txt</bdi></a></th>\
        <td><data value=\"1234567\" title=\"1,234,567 bytes\">1.2 MiB</data></td>\
        <td><time datetime=\"1994-11-06T08:49:37Z\">1994-11-06 08:49</time></td></tr>";
    assert!(page.contains(row), "{page}");
}

#[test]
fn sizes_for_people() {
    for (length, title, size) in [
        (0, "0 bytes", "0 B"),
        (1, "1 byte", "1 B"),
        (1023, "1,023 bytes", "1023 B"),
        (1024, "1,024 bytes", "1.0 KiB"),
        (1536, "1,536 bytes", "1.5 KiB"),
        (10 * 1024, "10,240 bytes", "10 KiB"),
        (1_047_552, "1,047,552 bytes", "1023 KiB"),
        (1_048_575, "1,048,575 bytes", "1.0 MiB"),
        (u64::MAX, "18,446,744,073,709,551,615 bytes", "16 EiB"),
    ] {
        let page = html(&path(b"/"), &[file(b"a", length)]);
        assert!(page.contains(&format!("title=\"{title}\">{size}</data>")), "{length}: {page}");
    }
}

#[test]
fn names_are_text_and_nothing_else() {
    let nasty = b"\"><script>'&\x01\x7f{{table}}\xe2\x80\xaetxt.exe";
    let shown = "&quot;&gt;&lt;script&gt;&#39;&amp;\u{2401}\u{2421}{{table}}\u{fffd}txt.exe";
    let page = html(&path(b"/"), &[file(nasty, 1)]);
    assert!(page.contains(&format!("<bdi>{shown}</bdi>")), "{page}");
    // The same name as a folder's: in the title, the heading and the crumbs.
    let mut uri = vec![b'/'];
    uri.extend(nasty.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()));
    let page = html(&path(&[&uri[..], b"/"].concat()), &[]);
    assert!(page.contains(&format!("<title>Index of /{shown}/</title>")), "{page}");
    assert_eq!(page.matches(shown).count(), 3, "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn names_that_are_not_utf8_are_linked_by_their_bytes() {
    let entries = [file(b"a\xff", 5), folder(b"\xc3\xa4")];
    let page = html(&path(b"/"), &entries);
    assert_eq!(links(&page), ["%C3%A4/", "a%FF"]);
    assert!(page.contains("<bdi>a\u{fffd}</bdi>") && page.contains("<bdi>\u{e4}/</bdi>"), "{page}");
    let value: serde_json::Value = serde_json::from_str(&json(&entries)).unwrap();
    let expected = serde_json::json!([
        { "name": "\u{e4}", "type": "directory", "modified": "1994-11-06T08:49:37Z" },
        { "name": "a\u{fffd}", "type": "file", "size": 5, "modified": "1994-11-06T08:49:37Z", "href": "a%FF" },
    ]);
    assert_eq!(value, expected);
}

#[test]
fn a_page_names_nothing_elsewhere() {
    let page = html(&path(b"/a/"), &[file(b"b", 1)]);
    for foreign in ["http:", "https:", "url(", "@import", "<script", " src=", " on"] {
        let found = page.find(foreign).map(|at| &page[at..(at + 40).min(page.len())]);
        assert_eq!(found, None);
    }
}

#[test]
fn json_is_for_those_who_like_it_better() {
    for (accept, expected) in [
        ("application/json", true),
        ("application/json, text/plain, */*", true),
        ("application/json;q=0.9, text/html;q=0.8", true),
        ("text/html;q=0.8, application/*", true),
        ("*/*, text/html;q=0.5", true),
        ("APPLICATION/JSON", true),
        ("application/json;charset=utf-8;q=0.4", true),
        ("application/json;charset=utf-8", true),
        ("text/html, application/json", false),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
        ("application/json;q=0.5, text/html", false),
        ("application/json;q=0.5, */*", false),
        ("application/json;q=0", false),
        ("application/json;q=2", false),
        ("application/jsonx, x/*", false),
        ("*/*", false),
        ("", false),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        let mut space = FieldSpace::new();
        let head = request::parse(bytes.as_bytes(), &mut space, &Limits::REQUEST).unwrap();
        assert_eq!(wants_json(&head.fields), expected, "{accept}");
    }
}

proptest! {
    #[test]
    fn every_link_leads_back_to_its_name(name in prop::collection::vec(1u8.., 1..20), directory: bool, modified: i64) {
        let served = name[0] != b'.' && !name.contains(&b'/');
        prop_assume!(served);
        let entries = [Entry { name: name.clone(), directory, length: 1, modified }];
        let page = html(&path(b"/"), &entries);
        let links = links(&page);
        prop_assert_eq!(links.len(), 1);
        let expected = [&name[..], if directory { b"/" } else { b"" }].concat();
        let followed = path(format!("/{}", links[0]).as_bytes());
        prop_assert_eq!(followed.as_bytes(), &expected[..]);
        // Tags and quotes are the template's alone.
        let plain = html(&path(b"/"), &[Entry { name: b"x".to_vec(), ..entries[0].clone() }]);
        for special in ['<', '>', '"', '\''] {
            prop_assert_eq!(page.matches(special).count(), plain.matches(special).count());
        }
        let value: serde_json::Value = serde_json::from_str(&json(&entries)).unwrap();
        prop_assert_eq!(value[0]["name"].as_str().unwrap(), &*String::from_utf8_lossy(&name));
        if let Ok(text) = std::str::from_utf8(&name) {
            prop_assert_eq!(value[0]["name"].as_str().unwrap(), text);
            prop_assert!(value[0].get("href").is_none());
        } else {
            prop_assert_eq!(value[0]["href"].as_str().unwrap(), links[0]);
        }
    }
}
