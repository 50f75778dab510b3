//! The listing of a directory, as a page for people and as JSON for programs.
//!
//! Names are bytes that anybody may have chosen. In text they are shown as UTF-8, with a replacement for what is none, and
//! escaped; in links they are percent-encoded byte by byte. All links are relative, so that a prefix that a proxy took away
//! does no harm. What begins with a dot is left out, as it is not served either.
//!
//! (Writing to a String cannot fail, so what `write!` returns is dropped.)

use crate::base::date::http_date;
use crate::base::json::quoted;
use crate::http1::Fields;
use crate::http1::field::{tokens, trim};
use crate::origin::coding::{MOST_ELEMENTS, weight};
use crate::origin::path::RelativePath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::borrow::Cow;
use std::fmt::Write;

/// The page; `{{path}}` and the like stand for what is filled in.
const PAGE: &str = include_str!("listing.html");
/// The policy under which the page works, and nothing else does.
pub const FIELDS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
    base-uri 'none'; form-action 'none'\r\n";

/// What stays as it is in a link: unreserved characters (RFC 3986 §2.3). So no name can look like a scheme or a query.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Something in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub directory: bool,
    /// Bytes; of no meaning for a directory.
    pub length: u64,
    /// Seconds since the Unix epoch.
    pub modified: i64,
}

impl Entry {
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The link from the directory's page.
    fn href(&self) -> String {
        format!("{}{}", percent_encode(&self.name, SEGMENT), if self.directory { "/" } else { "" })
    }
}

/// Directories first, then by name as people look for it: a capital letter changes nothing, unless nothing else differs.
fn shown(entries: &[Entry]) -> Vec<&Entry> {
    let mut shown: Vec<&Entry> = entries.iter().filter(|entry| !entry.name.starts_with(b".")).collect();
    shown.sort_by_cached_key(|entry| (!entry.directory, entry.text().to_lowercase(), &entry.name));
    shown
}

/// The page of the directory `path`. It needs no script and nothing from elsewhere; see [`FIELDS`].
pub fn html(path: &RelativePath, entries: &[Entry]) -> String {
    debug_assert!(path.is_directory());
    let entries = shown(entries);
    let folders: Vec<&[u8]> = path.segments().filter(|segment| !segment.is_empty()).collect();
    let mut page = String::with_capacity(PAGE.len() + 300 * entries.len());
    let mut rest = PAGE;
    while let Some((before, (name, after))) = rest.split_once("{{").and_then(|(a, b)| Some((a, b.split_once("}}")?))) {
        page.push_str(before);
        match name {
            "path" => page.push_str(&escaped(&String::from_utf8_lossy(&[b"/", path.as_bytes()].concat()))),
            "name" => page.push_str(&escaped(&String::from_utf8_lossy(folders.last().unwrap_or(&&b"/"[..])))),
            "crumbs" => crumbs(&mut page, &folders),
            "table" => table(&mut page, !folders.is_empty(), &entries),
            _ => page.push_str(&summary(&entries)),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The way from the root, each step with its link.
fn crumbs(page: &mut String, folders: &[&[u8]]) {
    let names = std::iter::once(&b"root"[..]).chain(folders.iter().copied());
    for (depth, name) in names.enumerate() {
        let name = escaped(&String::from_utf8_lossy(name));
        let _ = match folders.len() - depth {
            0 => write!(page, "<li aria-current=\"page\"><bdi>{name}</bdi></li>"),
            up => write!(page, "<li><a href=\"{}\"><bdi>{name}</bdi></a></li>", "../".repeat(up)),
        };
    }
}

fn table(page: &mut String, parent: bool, entries: &[&Entry]) {
    if entries.is_empty() && !parent {
        return;
    }
    page.push_str("  <table>\n    <thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Size</th>");
    page.push_str("<th scope=\"col\">Modified (UTC)</th></tr></thead>\n    <tbody>\n");
    if parent {
        page.push_str("    <tr><th scope=\"row\"><a class=\"folder\" rel=\"up\" href=\"../\">Parent folder</a></th>");
        page.push_str("<td></td><td></td></tr>\n");
    }
    for entry in entries {
        let (class, slash) = if entry.directory { (" class=\"folder\"", "/") } else { ("", "") };
        let (href, name) = (entry.href(), entry.text());
        let _ = write!(
            page,
            "    <tr><th scope=\"row\"><a{class} href=\"{href}\"><bdi>{}{slash}</bdi></a></th>",
            escaped(&name)
        );
        if entry.directory {
            page.push_str("<td></td>");
        } else {
            let (size, exact) = (human(entry.length), grouped(entry.length));
            let _ = write!(page, "<td><data value=\"{}\" title=\"{exact}\">{size}</data></td>", entry.length);
        }
        let iso = iso(entry.modified);
        let _ = writeln!(page, "<td><time datetime=\"{iso}\">{} {}</time></td></tr>", &iso[..10], &iso[11..16]);
    }
    page.push_str("    </tbody>\n  </table>\n");
}

/// `1 folder, 2 files`.
fn summary(entries: &[&Entry]) -> String {
    let folders = entries.iter().filter(|entry| entry.directory).count();
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let parts = [counted(folders, "folder"), counted(entries.len() - folders, "file")];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if text.is_empty() { "This folder is empty.".to_owned() } else { text }
}

/// An array of `{"name", "type", "size", "modified"}` in the order of the page, one to a line. A directory has no size; a
/// name that is not UTF-8 is shown with replacements and has an `"href"` beside it.
pub fn json(entries: &[Entry]) -> String {
    let mut out = String::from("[");
    for (at, entry) in shown(entries).into_iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        let (name, kind) = (entry.text(), if entry.directory { "directory" } else { "file" });
        let _ = write!(out, "{{\"name\":{},\"type\":\"{kind}\"", quoted(&name));
        if !entry.directory {
            let _ = write!(out, ",\"size\":{}", entry.length);
        }
        let _ = write!(out, ",\"modified\":\"{}\"", iso(entry.modified));
        if matches!(name, Cow::Owned(_)) {
            let _ = write!(out, ",\"href\":\"{}\"", entry.href());
        }
        out.push('}');
    }
    out.push_str("\n]\n");
    out
}

/// Does the client like `application/json` better than `text/html`? Liked alike, what it names by itself wins over what a
/// wildcard covers (`application/json, */*`), and the page otherwise. The answer varies by Accept.
pub fn wants_json(fields: &Fields<'_, '_>) -> bool {
    let (mut json, mut html) = (Liking::default(), Liking::default());
    let lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept"));
    for element in lines.flat_map(|line| tokens(line.value)).take(MOST_ELEMENTS) {
        let mut pieces = element.split(|&byte| byte == b';').map(trim);
        let name = pieces.next().unwrap_or(b"");
        let given = pieces.find(|piece| matches!(piece, [b'q' | b'Q', b'=', ..]));
        let Some(weight) = given.map_or(Some(1000), weight) else { continue };
        json.hear(name, "application/json", weight);
        html.hear(name, "text/html", weight);
    }
    json.weight > 0 && (json.weight, json.detail) > (html.weight, html.detail)
}

/// How much a type is liked, and by how exact a name: that of the type, of its kind, or `*/*` (RFC 9110 §12.5.1).
#[derive(Clone, Copy, Default)]
struct Liking {
    detail: u8,
    weight: u16,
}

impl Liking {
    fn hear(&mut self, range: &[u8], name: &str, weight: u16) {
        let kind = name.split('/').next().unwrap_or(name);
        let covers_kind = || range.strip_suffix(b"/*").is_some_and(|r| r.eq_ignore_ascii_case(kind.as_bytes()));
        let detail = match range {
            b"*/*" => 1,
            _ if range.eq_ignore_ascii_case(name.as_bytes()) => 3,
            _ if covers_kind() => 2,
            _ => return,
        };
        if detail >= self.detail {
            *self = Liking { detail, weight };
        }
    }
}

/// Text that means nothing but itself in HTML and in its attributes. Control characters are shown as their pictures, and
/// those that turn the direction of text around, so that a name can look like another, are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\0'..='\x1f' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            '\x7f' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            _ => out.push(c),
        }
    }
    out
}

/// `2026-11-23T20:41:00Z`. Moments before 1970 show as its start, as in Last-Modified.
fn iso(seconds: i64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // `Mon, 23 Nov 2026 20:41:00 GMT`
    let http = http_date(u64::try_from(seconds).unwrap_or(0)).to_string();
    let month = MONTHS.find(&http[8..11]).unwrap_or_default() / 3 + 1;
    format!("{}-{month:02}-{}T{}Z", &http[12..16], &http[5..7], &http[17..25])
}

/// `980 B`, `1.5 KiB`, `15 KiB`: two or three digits that count.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of a unit, rounded; from about 1023.5 on the next unit.
    let mut at = 0;
    let tenths = |at: usize| ((u128::from(bytes) * 10 + (1 << (10 * at + 9))) >> (10 * (at + 1))) as u64;
    while tenths(at) >= 10_235 && at + 1 < UNITS.len() {
        at += 1;
    }
    match tenths(at) {
        few @ ..100 => format!("{}.{} {}", few / 10, few % 10, UNITS[at]),
        many => format!("{} {}", (many + 5) / 10, UNITS[at]),
    }
}

/// `1,536 bytes`.
fn grouped(bytes: u64) -> String {
    let digits = bytes.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out.push_str(if bytes == 1 { " byte" } else { " bytes" });
    out
}
