//! Runs the protocol corpus (`tests/corpus/*.case`, see its README) through the proxy, without sockets: every case whole, byte by
//! byte, and with another message behind it. What goes out is read back by the small, strict reader in this file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use pilb::base::buffer::HEADROOM;
use pilb::base::{BufferPool, Now, Peer, Size};
use pilb::engine::{
    AccessLog, AccessRecord, Again, App, Close, CloseReason, Drain, Effects, Flow, Guilty, SessionId, Side, Turn,
    Uplink, Wish,
};
use pilb::http1::field::FieldSpace;
use pilb::http1::request::Method;
use pilb::http1::response::{self, Asked};
use pilb::http1::{Body, HeadScan, Limits, Piece};
use pilb::proxy::{Proxy, Settings};
use std::collections::HashSet;
use std::path::Path;

type Outcome = Result<(), String>;

/// Fails with the text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => { if !$condition { return Err(format!($($text)+)); } };
}

// ---- the cases

/// Keys that occur once, and those that may be repeated.
const SINGLE: &[&str] = &[
    "case",
    "row",
    "to",
    "client",
    "upgrade",
    "expect",
    "phase",
    "eof",
    "interim",
    "left",
    "persist",
    "line",
    "method",
    "target",
    "host",
    "status",
    "framing",
    "body",
    "wire",
    "idempotent",
];
const REPEATED: &[&str] = &[
    "keeps",
    "joined",
    "present",
    "drops",
    "option",
    "lacks",
    "trailer",
    "drops-trailer",
    "interim-keeps",
    "interim-lacks",
];

struct Case {
    at: String,
    request: bool,
    keys: Vec<(String, String)>,
    input: Vec<u8>,
}

impl Case {
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn text(&self, key: &str) -> Option<Vec<u8>> {
        self.get(key).map(|value| unescape(value).unwrap())
    }

    fn texts(&self, key: &str) -> Vec<Vec<u8>> {
        self.all(key).map(|value| unescape(value).unwrap()).collect()
    }

    fn number(&self, key: &str) -> usize {
        self.get(key).map_or(0, |value| value.parse().unwrap())
    }

    fn expect(&self) -> &str {
        self.get("expect").unwrap()
    }

    /// The bytes at the end of the input that are not part of the message.
    fn left(&self) -> &[u8] {
        &self.input[self.input.len() - self.number("left")..]
    }

    fn check_keys(&self) -> Outcome {
        for key in SINGLE {
            ensure!(self.all(key).count() <= 1, "`{key}` is given twice");
        }
        for (key, value) in &self.keys {
            ensure!(SINGLE.contains(&key.as_str()) || REPEATED.contains(&key.as_str()), "unknown key `{key}`");
            unescape(value)?;
        }
        let Some(expect) = self.get("expect") else { return Err("`expect` is missing".to_owned()) };
        let (word, rest) = expect.split_once(' ').unwrap_or((expect, ""));
        let known = match word {
            "complete" | "partial" => rest.is_empty(),
            "until-close" | "tunnel" => rest.is_empty() && !self.request,
            "refuse" if self.request => !rest.is_empty() && rest.split('|').all(|status| status.parse::<u16>().is_ok()),
            "refuse" => rest.is_empty(),
            "local" => rest == "200" && self.request,
            _ => false,
        };
        ensure!(known, "unknown expectation `{expect}`");
        ensure!((word == "refuse") == self.get("phase").is_some(), "`phase` belongs to refusals");
        ensure!(matches!(word, "partial" | "until-close") == self.get("eof").is_some(), "`eof` belongs to open ends");
        for (key, values) in [
            ("phase", &["head", "body"][..]),
            ("eof", &["error", "clean"]),
            ("persist", &["yes", "no"]),
            ("idempotent", &["yes", "no"]),
            ("upgrade", &["yes", "no"]),
            ("client", &["1.0", "1.1"]),
        ] {
            ensure!(self.get(key).is_none_or(|value| values.contains(&value)), "`{key}` has no such value");
        }
        for key in ["interim", "left"] {
            ensure!(self.get(key).is_none_or(|value| value.parse::<usize>().is_ok()), "`{key}` is no number");
        }
        ensure!(self.number("left") <= self.input.len(), "`left` is more than there is");
        Ok(())
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = text.as_bytes();
    let bytes = unescape_until(&mut rest, false)?;
    Ok(bytes)
}

fn unescape_until(rest: &mut &[u8], inner: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    loop {
        match **rest {
            [] if inner => return Err("a repetition is not closed".to_owned()),
            [] => return Ok(out),
            [b'}', ref after @ ..] if inner => {
                *rest = after;
                return Ok(out);
            }
            [b'\\', b'x', high, low, ref after @ ..] => {
                let digits = [high, low];
                let hex = std::str::from_utf8(&digits).map_err(|error| error.to_string())?;
                out.push(u8::from_str_radix(hex, 16).map_err(|_| format!("bad escape \\x{hex}"))?);
                *rest = after;
            }
            [b'\\', b'{', ref after @ ..] => {
                let star = after.iter().position(|&byte| byte == b'*').ok_or("a repetition without `*`")?;
                let count = std::str::from_utf8(&after[..star]).ok().and_then(|count| count.parse::<usize>().ok());
                *rest = &after[star + 1..];
                let part = unescape_until(rest, true)?;
                out.extend(part.repeat(count.ok_or("a repetition without a number")?));
            }
            [b'\\', letter, ref after @ ..] => {
                out.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'\\' => b'\\',
                    other => return Err(format!("unknown escape \\{}", char::from(other))),
                });
                *rest = after;
            }
            [b'\\'] => return Err("a backslash at the end".to_owned()),
            [byte, ref after @ ..] => {
                out.push(byte);
                *rest = after;
            }
        }
    }
}

/// Reads all case files. Faults of the files themselves end up in `faults`.
fn load(faults: &mut Vec<String>) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut open = false;
        for (index, line) in text.lines().enumerate() {
            let at = format!("tests/corpus/{name}:{}", index + 1);
            if line.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) || line.ends_with(' ') {
                faults.push(format!("{at}: only printable ASCII, and no space at the end"));
            }
            if line.is_empty() || line.starts_with('#') {
                open &= !line.is_empty();
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                faults.push(format!("{at}: neither `key: value` nor a comment"));
                continue;
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            if !open {
                open = true;
                if key != "case" {
                    faults.push(format!("{at}: a block begins with `case:`"));
                }
                cases.push(Case { at, request: name.starts_with("request-"), keys: Vec::new(), input: Vec::new() });
            }
            let case = cases.last_mut().unwrap();
            match (key, unescape(value)) {
                ("in", Ok(bytes)) => case.input.extend(bytes),
                ("in", Err(error)) => faults.push(format!("{}: {error}", case.at)),
                _ => case.keys.push((key.to_owned(), value.to_owned())),
            }
        }
    }
    let mut names = HashSet::new();
    for case in &cases {
        let name = case.get("case").unwrap_or("");
        if !names.insert(name) {
            faults.push(format!("{}: a second case `{name}`", case.at));
        }
        if let Err(error) = case.check_keys() {
            faults.push(format!("{}: {name}: {error}", case.at));
        }
    }
    cases
}

// ---- what was forwarded, read back

/// A head as it went out.
struct Head {
    line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    lines: Vec<Vec<u8>>,
    len: usize,
}

impl Head {
    /// Reads the head that `bytes` begin with, if it is all there. It must be flawless.
    fn read(bytes: &[u8]) -> Result<Option<Head>, String> {
        let Some(len) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut rest = &bytes[..len - 2];
        while let Some(end) = find(rest, b"\r\n") {
            lines.push(rest[..end].to_vec());
            rest = &rest[end + 2..];
        }
        let line = lines.remove(0);
        let mut fields = Vec::new();
        for line in &lines {
            fields.push(field(line).ok_or_else(|| format!("forwards the bad line {}", show(line)))?);
        }
        let head = Head { line, fields, lines, len };
        let (lengths, codings) = (head.values("content-length").len(), head.values("transfer-encoding").len());
        ensure!(lengths + codings <= 1, "forwards {lengths} Content-Length and {codings} Transfer-Encoding lines");
        Ok(Some(head))
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| &v[..])
            .collect()
    }

    fn words(&self) -> Vec<&[u8]> {
        self.line.split(|&byte| byte == b' ').collect()
    }

    fn status(&self) -> Result<u16, String> {
        let code = self.line.get(9..12).and_then(|code| std::str::from_utf8(code).ok()).and_then(|c| c.parse().ok());
        ensure!(self.line.starts_with(b"HTTP/1.1 ") && self.line.get(12) == Some(&b' '), "sends {}", show(&self.line));
        code.ok_or_else(|| format!("sends {}", show(&self.line)))
    }

    /// How the message is framed; `bodiless` if no body follows whatever the fields say.
    fn framing(&self, request: bool, bodiless: bool) -> Result<Wire, String> {
        if bodiless {
            return Ok(Wire::None);
        }
        if let [coding] = self.values("transfer-encoding")[..] {
            ensure!(coding == b"chunked", "forwards Transfer-Encoding: {}", show(coding));
            return Ok(Wire::Chunked);
        }
        if let [length] = self.values("content-length")[..] {
            let number = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            return Ok(Wire::Length(number.ok_or("forwards a bad Content-Length")?));
        }
        Ok(if request { Wire::None } else { Wire::Close })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    None,
    Length(u64),
    Chunked,
    Close,
}

impl Wire {
    fn word(self) -> String {
        match self {
            Wire::None => "none".to_owned(),
            Wire::Length(n) => format!("length {n}"),
            Wire::Chunked => "chunked".to_owned(),
            Wire::Close => "close".to_owned(),
        }
    }

    /// What `bytes` behind a head are; `None` if they are not a whole body.
    fn decode(self, bytes: &[u8]) -> Result<Option<Decoded>, String> {
        let (content, len, trailers) = match self {
            Wire::None => (Vec::new(), 0, Vec::new()),
            Wire::Close => (bytes.to_vec(), bytes.len(), Vec::new()),
            Wire::Length(n) => match usize::try_from(n).ok().filter(|&n| n <= bytes.len()) {
                Some(n) => (bytes[..n].to_vec(), n, Vec::new()),
                None => return Ok(None),
            },
            Wire::Chunked => return dechunk(bytes),
        };
        Ok(Some(Decoded { content, len, trailers }))
    }
}

struct Decoded {
    content: Vec<u8>,
    len: usize,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a chunked body in its canonical form; anything else is a fault of the sender, which is the proxy.
fn dechunk(bytes: &[u8]) -> Result<Option<Decoded>, String> {
    let (mut at, mut content, mut trailers) = (0, Vec::new(), Vec::new());
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&bytes[at..at + end]).unwrap_or("?");
        let size = u64::from_str_radix(digits, 16).ok().filter(|size| format!("{size:x}") == digits);
        let size = size.ok_or_else(|| format!("forwards the chunk line {digits:?}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else { return Ok(None) };
        if bytes.len() < end.saturating_add(2) {
            return Ok(None);
        }
        content.extend_from_slice(&bytes[at..end]);
        ensure!(&bytes[end..end + 2] == b"\r\n", "forwards a chunk without its CRLF");
        at = end + 2;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some(Decoded { content, len: at, trailers }));
        }
        trailers.push(field(line).ok_or_else(|| format!("forwards the bad trailer {}", show(line)))?);
    }
}

/// Name and value of a field line.
fn field(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    (!name.is_empty() && name.iter().all(token) && value.iter().all(text)).then(|| (name.to_vec(), value.to_vec()))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Bytes for a message, long ones shortened.
fn show(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 300 { format!("`{text}`") } else { format!("`{}...` ({} bytes)", &text[..200], bytes.len()) }
}

fn same(what: &str, got: &[u8], wanted: &[u8]) -> Outcome {
    ensure!(got == wanted, "{what} is {}, not {}", show(got), show(wanted));
    Ok(())
}

/// Holds a forwarded head and body against the case.
fn check_message(case: &Case, head: &Head, wire: Wire, sent: &[u8]) -> Outcome {
    if let Some(line) = case.text("line") {
        same("the line", &head.line, &line)?;
    }
    for line in case.texts("keeps") {
        ensure!(head.lines.contains(&line), "no line {} in {}", show(&line), show(&head.lines.join(&b"\r\n"[..])));
    }
    for text in case.texts("joined") {
        let (name, value) = field(&text).ok_or("`joined` is no field line")?;
        let name = String::from_utf8(name).unwrap();
        ensure!(!head.values(&name).is_empty(), "no {name}");
        same(&name, &head.values(&name).join(&b", "[..]), &value)?;
    }
    for name in case.all("present") {
        ensure!(!head.values(name).is_empty(), "no {name}");
    }
    for name in case.all("drops") {
        ensure!(head.values(name).is_empty(), "{name} is forwarded");
    }
    for option in case.all("option") {
        let options = head.values("connection").join(&b","[..]).to_ascii_lowercase();
        let wanted = option.to_ascii_lowercase();
        let has = options.split(|&byte| byte == b',').any(|option| option.trim_ascii() == wanted.as_bytes());
        ensure!(has, "Connection has no option {option}");
    }
    for text in case.texts("lacks") {
        let all = [&head.line[..], &head.lines.join(&b"\n"[..])[..]].join(&b'\n').to_ascii_lowercase();
        ensure!(find(&all, &text.to_ascii_lowercase()).is_none(), "{} is forwarded", show(&text));
    }
    if let Some(framing) = case.get("framing") {
        ensure!(wire.word() == framing, "framing is {}, not {framing}", wire.word());
    }
    if let Some(bytes) = case.text("wire") {
        same("the wire", sent, &bytes)?;
    }
    let body = wire.decode(sent)?.ok_or("the forwarded body is not complete")?;
    ensure!(body.len == sent.len(), "{} bytes are forwarded behind the body", sent.len() - body.len);
    if let Some(content) = case.text("body") {
        same("the body", &body.content, &content)?;
    }
    for text in case.texts("trailer") {
        let (name, value) = field(&text).ok_or("`trailer` is no field line")?;
        let has = body.trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case(&name) && *v == value);
        ensure!(has, "no trailer {}", show(&text));
    }
    for name in case.all("drops-trailer") {
        let has = body.trailers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        ensure!(!has, "the trailer {name} is forwarded");
    }
    Ok(())
}

// ---- the rig: a proxy with one client and one server, without sockets

#[derive(Default)]
struct Log(Vec<AccessRecord>);

impl AccessLog for Log {
    fn record(&mut self, record: &AccessRecord) {
        self.0.push(record.clone());
    }
}

struct Rig {
    proxy: Proxy,
    session: <Proxy as App>::Session,
    up: Flow,
    down: Flow,
    pool: BufferPool,
    log: Log,
    client: Side,
    uplink: Uplink,
    /// What the proxy last did with the server's connection.
    wish: Wish,
    closed: Option<Close>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Bytes for which the proxy had no ear any more.
    unheard: usize,
}

/// Bytes of a buffer, as the proxy has them by default.
const BUFFER: usize = 16 * 1024;

impl Rig {
    fn new() -> Rig {
        let mut proxy = Proxy::new(Settings::default(), vec!["upstream:80".to_owned()], 0);
        let peer = Peer::Ip("192.0.2.1:5000".parse().unwrap());
        let session = proxy.open(peer, Now::default());
        Rig {
            proxy,
            session,
            up: Flow::default(),
            down: Flow::default(),
            pool: BufferPool::new(HEADROOM + BUFFER, 4),
            log: Log::default(),
            client: Side::Open,
            uplink: Uplink::None,
            wish: Wish::Stay,
            closed: None,
            to_server: Vec::new(),
            to_client: Vec::new(),
            unheard: 0,
        }
    }

    /// Calls the proxy until it wants no further call, as the loop does.
    fn turn(&mut self) -> Outcome {
        for _ in 0..100 {
            if self.closed.is_some() {
                return Ok(());
            }
            let mut turn = Turn {
                now: Now { mono: 1000, unix: 784_111_777_000_000 },
                session: SessionId::default(),
                up: &mut self.up,
                down: &mut self.down,
                client: self.client,
                uplink: self.uplink,
                expired: false,
                drain: Drain::No,
                pool: &mut self.pool,
                log: &mut self.log,
                effects: Effects::default(),
            };
            self.proxy.advance(&mut self.session, &mut turn);
            let effects = turn.effects;
            let mut again = effects.again != Again::No;
            match effects.upstream {
                Wish::Stay => {}
                Wish::Dial { .. } => {
                    self.uplink = Uplink::Linked { reused: false, side: Side::Open };
                    again = true;
                }
                Wish::Park { .. } | Wish::Drop => self.uplink = Uplink::None,
            }
            if effects.upstream != Wish::Stay {
                self.wish = effects.upstream;
            }
            if let Uplink::Linked { .. } = self.uplink {
                drain(&mut self.up, &mut self.to_server);
            }
            drain(&mut self.down, &mut self.to_client);
            self.closed = effects.close;
            if !again {
                return Ok(());
            }
        }
        Err("the proxy wants to be called for ever".to_owned())
    }

    /// Bytes come from the client, at most `step` at a time.
    fn client_sends(&mut self, bytes: &[u8], step: usize) -> Outcome {
        self.arrive(bytes, step, true)
    }

    /// Bytes come from the server, as long as there is a connection to it.
    fn server_sends(&mut self, bytes: &[u8], step: usize) -> Outcome {
        self.arrive(bytes, step, false)
    }

    fn arrive(&mut self, mut bytes: &[u8], step: usize, client: bool) -> Outcome {
        while !bytes.is_empty() && self.closed.is_none() {
            if !client && !matches!(self.uplink, Uplink::Linked { .. }) {
                break;
            }
            let flow = if client { &mut self.up } else { &mut self.down };
            let room = flow.room(&mut self.pool, Size::Small);
            let n = step.min(bytes.len()).min(room.len());
            ensure!(n > 0, "the proxy reads no further, {} bytes are left", bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            flow.filled(n);
            bytes = &bytes[n..];
            self.turn()?;
        }
        self.unheard = bytes.len();
        Ok(())
    }

    fn client_ends(&mut self) -> Outcome {
        self.client = Side::Ended;
        self.turn()
    }

    fn server_ends(&mut self) -> Outcome {
        ensure!(matches!(self.uplink, Uplink::Linked { .. }), "the server's connection is gone before its end");
        self.uplink = Uplink::Linked { reused: false, side: Side::Ended };
        self.turn()
    }

    fn end(&self) -> Option<CloseReason> {
        self.log.0.last().map(|record| record.end)
    }

    fn ends(&self) -> String {
        let Some(record) = self.log.0.last() else { return "nothing is logged".to_owned() };
        format!("{} {} {} is logged", record.status, record.end.word(), record.detail)
    }
}

fn drain(flow: &mut Flow, into: &mut Vec<u8>) {
    let n = flow.ready().len();
    into.extend_from_slice(flow.ready());
    flow.sent(n);
}

/// Is what was sent a whole message? Nothing at all is none.
fn is_whole(sent: &[u8], request: bool, bodiless: bool) -> Result<bool, String> {
    let Some(head) = Head::read(sent)? else { return Ok(false) };
    Ok(head.framing(request, bodiless)?.decode(&sent[head.len..])?.is_some())
}

// ---- the three ways

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Whole,
    Bytes,
    Trailing,
}

const NEXT_REQUEST: &[u8] = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n";
const NEXT_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Input, step and unread rest.
fn prepare(case: &Case, mode: Mode) -> (Vec<u8>, usize, Vec<u8>) {
    let next = if case.request { NEXT_REQUEST } else { NEXT_RESPONSE };
    let (mut input, mut left) = (case.input.clone(), case.left().to_vec());
    if mode == Mode::Trailing {
        input.extend_from_slice(next);
        left.extend_from_slice(next);
    }
    (input, if mode == Mode::Bytes { 1 } else { usize::MAX }, left)
}

fn run(case: &Case, mode: Mode) -> Outcome {
    if case.request { run_request(case, mode) } else { run_response(case, mode) }
}

// ---- requests

fn run_request(case: &Case, mode: Mode) -> Outcome {
    let (input, step, left) = prepare(case, mode);
    let mut rig = Rig::new();
    rig.client_sends(&input, step)?;
    let (word, rest) = case.expect().split_once(' ').unwrap_or((case.expect(), ""));
    match word {
        "refuse" => request_refused(case, &mut rig, rest),
        "local" => request_answered(&rig, 200, &left),
        "partial" => request_partial(case, &mut rig),
        _ => request_complete(case, &mut rig, mode, &left),
    }
}

/// The answer is the proxy's own.
fn request_answered(rig: &Rig, status: u16, left: &[u8]) -> Outcome {
    let head = Head::read(&rig.to_client)?.ok_or_else(|| format!("no answer of our own; {}", rig.ends()))?;
    ensure!(head.status()? == status, "answers {}, not {status}; {}", show(&head.line), rig.ends());
    ensure!(rig.end() == Some(CloseReason::Local), "{}", rig.ends());
    let next: &[u8] = if left.is_empty() { b"" } else { b"GET /next HTTP/1.1\r\n" };
    let only = rig.to_server.starts_with(next) && (!left.is_empty() || rig.to_server.is_empty());
    ensure!(only, "forwards {}", show(&rig.to_server));
    let body = head.framing(false, false)?.decode(&rig.to_client[head.len..])?.ok_or("the answer is not complete")?;
    ensure!(head.len + body.len == rig.to_client.len(), "answers more than once: {}", show(&rig.to_client));
    Ok(())
}

fn request_refused(case: &Case, rig: &mut Rig, statuses: &str) -> Outcome {
    let Some(head) = Head::read(&rig.to_client)? else {
        return Err(format!("not refused; to the server went {}; {}", show(&rig.to_server), rig.ends()));
    };
    let status = head.status()?;
    ensure!(statuses.split('|').any(|s| s.parse() == Ok(status)), "answers {status}, not {statuses}; {}", rig.ends());
    ensure!(rig.closed.is_some(), "the connection stays open");
    ensure!(head.values("connection") == [b"close"], "answers without Connection: close");
    let in_body = rig.end() == Some(CloseReason::BadRequestBody);
    let phase = if in_body { "body" } else { "head" };
    ensure!(case.get("phase") == Some(phase), "refused in the {phase}; {}", rig.ends());
    ensure!(in_body || rig.to_server.is_empty(), "forwards {}", show(&rig.to_server));
    ensure!(rig.uplink == Uplink::None, "keeps the server's connection");
    ensure!(!is_whole(&rig.to_server, true, false)?, "ends the forwarded message all the same");
    Ok(())
}

fn request_partial(case: &Case, rig: &mut Rig) -> Outcome {
    ensure!(rig.closed.is_none() && rig.log.0.is_empty(), "ended already; {}", rig.ends());
    ensure!(!is_whole(&rig.to_server, true, false)?, "taken as complete: {}", show(&rig.to_server));
    rig.client_ends()?;
    ensure!(rig.closed.is_some(), "stays open after the client's end");
    if case.get("eof") == Some("clean") {
        ensure!(rig.log.0.is_empty(), "a clean end is an error: {}", rig.ends());
    } else {
        ensure!(rig.end().is_some_and(|end| end.guilty() == Guilty::Client), "the end is no error: {}", rig.ends());
        ensure!(!is_whole(&rig.to_server, true, false)?, "ends the forwarded message all the same");
        ensure!(rig.uplink == Uplink::None, "keeps the server's connection");
    }
    Ok(())
}

fn request_complete(case: &Case, rig: &mut Rig, mode: Mode, left: &[u8]) -> Outcome {
    let answer = || format!("answered {}; {}", show(&rig.to_client), rig.ends());
    ensure!(rig.closed.is_none() && rig.to_client.is_empty(), "{}", answer());
    let head = Head::read(&rig.to_server)?.ok_or("no whole head is forwarded")?;
    let words = head.words();
    ensure!(words.len() == 3 && words[2] == b"HTTP/1.1", "forwards the line {}", show(&head.line));
    if let Some(method) = case.text("method") {
        same("the method", words[0], &method)?;
    }
    if let Some(target) = case.text("target") {
        same("the target", words[1], &target)?;
    }
    ensure!(head.values("host").len() == 1, "forwards {} Host lines", head.values("host").len());
    if let Some(host) = case.text("host") {
        same("Host", head.values("host")[0], &host)?;
    }
    if let Some(wanted) = case.get("idempotent") {
        ensure!(Method::of(words[0]).is_idempotent() == (wanted == "yes"), "idempotent is not {wanted}");
    }
    let wire = head.framing(true, false)?;
    check_message(case, &head, wire, &rig.to_server[head.len..])?;
    same("the unread rest", rig.up.raw(), left)?;
    // What becomes of the connection shows after the answer.
    rig.to_server.clear();
    rig.server_sends(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n", usize::MAX)?;
    ensure!(rig.log.0.first().map(|record| record.end) == Some(CloseReason::Done), "{}", rig.ends());
    match case.get("persist") {
        Some("yes") => ensure!(rig.closed.is_none(), "the connection is closed"),
        Some(_) => ensure!(rig.closed.is_some(), "the connection stays open"),
        None => {}
    }
    if mode == Mode::Trailing && rig.closed.is_none() && case.number("left") == 0 {
        ensure!(rig.to_server.starts_with(b"GET /next HTTP/1.1\r\n"), "then forwards {}", show(&rig.to_server));
    }
    if rig.closed.is_some() {
        ensure!(rig.to_server.is_empty(), "forwards what stands behind the last request: {}", show(&rig.to_server));
    }
    Ok(())
}

// ---- responses

/// The head of a final answer and where it begins, if it has come.
type Final = Option<(usize, Head)>;

/// What the client got: interim heads, then the final one with its place.
fn answer_read(bytes: &[u8]) -> Result<(Vec<Head>, Final), String> {
    let (mut at, mut interim) = (0, Vec::new());
    while let Some(head) = Head::read(&bytes[at..])? {
        let status = head.status()?;
        if status >= 200 || status == 101 {
            return Ok((interim, Some((at, head))));
        }
        at += head.len;
        interim.push(head);
    }
    ensure!(at == bytes.len(), "sends {} where a head should be", show(&bytes[at..]));
    Ok((interim, None))
}

fn run_response(case: &Case, mode: Mode) -> Outcome {
    let (input, step, left) = prepare(case, mode);
    let method = case.get("to").unwrap_or("GET");
    let upgrade = if case.get("upgrade") == Some("yes") { "Connection: Upgrade\r\nUpgrade: websocket\r\n" } else { "" };
    let version = case.get("client").unwrap_or("1.1");
    let mut rig = Rig::new();
    rig.client_sends(format!("{method} / HTTP/{version}\r\nHost: a\r\n{upgrade}\r\n").as_bytes(), usize::MAX)?;
    ensure!(is_whole(&rig.to_server, true, false)?, "the request did not come through");
    rig.server_sends(&input, step)?;
    let (interim, last) = answer_read(&rig.to_client)?;
    let bodiless = |status: u16| method == "HEAD" || status < 200 || matches!(status, 204 | 304);
    if case.expect() != "refuse" {
        let count = interim.len();
        ensure!(count == case.number("interim"), "{count} interim answers are forwarded; {}", rig.ends());
        check_interim(case, &interim, &rig.to_client)?;
    }
    match case.expect() {
        "refuse" => return response_refused(case, &rig, last, bodiless),
        "partial" => return response_partial(case, &mut rig, bodiless),
        _ => {}
    }
    let (at, head) = last.ok_or_else(|| format!("no head is forwarded; {}", rig.ends()))?;
    let status = head.status()?;
    if let Some(wanted) = case.get("status") {
        ensure!(status.to_string() == wanted, "the status is {status}, not {wanted}; {}", rig.ends());
    }
    let asked = Asked { head: method == "HEAD", upgrade: !upgrade.is_empty() };
    if case.expect() != "until-close" {
        let unread = unread(&input, asked)?;
        same("the unread rest", &input[input.len() - unread..], &left)?;
    }
    match case.expect() {
        "tunnel" => return response_tunnel(case, &mut rig, at, &head, &left),
        "until-close" => {
            ensure!(rig.log.0.is_empty() && rig.closed.is_none(), "ended before the server did; {}", rig.ends());
            rig.server_ends()?;
            let clean = rig.end() == Some(CloseReason::Done);
            ensure!(clean == (case.get("eof") == Some("clean")), "the end is another one; {}", rig.ends());
        }
        _ => {}
    }
    ensure!(rig.end() == Some(CloseReason::Done), "not complete; {}", rig.ends());
    let wire = head.framing(false, bodiless(status))?;
    check_message(case, &head, wire, &rig.to_client[at + head.len..])?;
    ensure!(wire != Wire::Close || rig.closed == Some(Close::Finish), "the client's connection does not end");
    ensure!(version == "1.1" || head.values("transfer-encoding").is_empty(), "sends Transfer-Encoding to HTTP/1.0");
    let parked = matches!(rig.wish, Wish::Park { .. });
    // Bytes that came behind the answer end the connection in any case.
    match case.get("persist") {
        Some("yes") if left.is_empty() => ensure!(parked, "the server's connection is not kept"),
        Some("no") => ensure!(!parked, "the server's connection is kept"),
        _ => {}
    }
    ensure!(!parked || rig.unheard == left.len(), "keeps a connection with bytes behind the answer");
    let close = head.values("connection").iter().any(|value| value.eq_ignore_ascii_case(b"close"));
    ensure!(rig.closed.is_none() || close, "closes without Connection: close");
    Ok(())
}

fn check_interim(case: &Case, interim: &[Head], sent: &[u8]) -> Outcome {
    for line in case.texts("interim-keeps") {
        ensure!(interim.iter().all(|head| head.lines.contains(&line)), "an interim answer has no line {}", show(&line));
    }
    let all = sent[..interim.iter().map(|head| head.len).sum()].to_ascii_lowercase();
    for text in case.texts("interim-lacks") {
        ensure!(find(&all, &text.to_ascii_lowercase()).is_none(), "an interim answer forwards {}", show(&text));
    }
    Ok(())
}

fn response_refused(case: &Case, rig: &Rig, last: Final, bodiless: impl Fn(u16) -> bool) -> Outcome {
    let phase = match rig.end() {
        Some(CloseReason::BadResponse) => "head",
        Some(CloseReason::BadResponseBody) => "body",
        _ => return Err(format!("not refused; to the client went {}; {}", show(&rig.to_client), rig.ends())),
    };
    ensure!(case.get("phase") == Some(phase), "refused in the {phase}; {}", rig.ends());
    ensure!(rig.uplink == Uplink::None && rig.wish == Wish::Drop, "keeps the server's connection");
    let Some((at, head)) = last else {
        ensure!(phase == "body", "no 502 is sent; {}", rig.ends());
        ensure!(rig.closed == Some(Close::Reset), "neither answer nor cut; {}", rig.ends());
        return Ok(());
    };
    let status = head.status()?;
    if phase == "head" || status == 502 {
        ensure!(status == 502, "answers {status}, not 502; {}", rig.ends());
        return Ok(());
    }
    ensure!(rig.closed.is_some(), "the client's connection stays open");
    let wire = head.framing(false, bodiless(status))?;
    let whole = wire.decode(&rig.to_client[at + head.len..])?.is_some();
    ensure!(!whole || rig.closed == Some(Close::Reset), "what the client got looks complete");
    Ok(())
}

fn response_partial(case: &Case, rig: &mut Rig, bodiless: impl Fn(u16) -> bool) -> Outcome {
    ensure!(rig.closed.is_none() && rig.log.0.is_empty(), "ended already; {}", rig.ends());
    rig.server_ends()?;
    let blamed = rig.end().is_some_and(|end| end.guilty() == Guilty::Upstream);
    ensure!(blamed && case.get("eof") == Some("error"), "the end is no error: {}", rig.ends());
    ensure!(rig.uplink == Uplink::None && rig.wish == Wish::Drop, "keeps the server's connection");
    let (_, last) = answer_read(&rig.to_client)?;
    let Some((at, head)) = last else {
        ensure!(rig.closed == Some(Close::Reset), "neither answer nor cut; {}", rig.ends());
        return Ok(());
    };
    let status = head.status()?;
    if status == 502 {
        return Ok(());
    }
    let wire = head.framing(false, bodiless(status))?;
    let whole = wire.decode(&rig.to_client[at + head.len..])?.is_some();
    ensure!(!whole || rig.closed == Some(Close::Reset), "what the client got looks complete");
    ensure!(rig.closed.is_some(), "the client's connection stays open");
    Ok(())
}

fn response_tunnel(case: &Case, rig: &mut Rig, at: usize, head: &Head, left: &[u8]) -> Outcome {
    ensure!(head.status()? == 101, "forwards {}", show(&head.line));
    check_message(case, head, Wire::None, b"")?;
    ensure!(case.get("persist") != Some("yes"), "a tunnel is not used again");
    same("the tunnel's first bytes", &rig.to_client[at + head.len..], left)?;
    ensure!(rig.closed.is_none() && rig.log.0.is_empty(), "the tunnel is closed; {}", rig.ends());
    let bytes = b"\0GET / HTTP/1.1\r\n\xff";
    rig.to_server.clear();
    rig.client_sends(bytes, usize::MAX)?;
    same("what goes up the tunnel", &rig.to_server, bytes)?;
    rig.to_client.clear();
    rig.server_sends(bytes, usize::MAX)?;
    same("what comes down the tunnel", &rig.to_client, bytes)
}

/// How many bytes the engine leaves unread behind the final answer.
fn unread(mut bytes: &[u8], asked: Asked) -> Result<usize, String> {
    loop {
        let len = HeadScan::default().end(bytes).map_err(|fault| fault.word())?.ok_or("the engine finds no head")?;
        let mut space = FieldSpace::new();
        let head =
            response::parse(&bytes[..len], &mut space, &Limits::RESPONSE, asked).map_err(|fault| fault.word())?;
        bytes = &bytes[len..];
        if head.status == 101 {
            return Ok(bytes.len());
        }
        if head.is_interim() {
            continue;
        }
        let mut body = Body::new(head.framing);
        loop {
            let len = match body.next(bytes).map_err(|fault| fault.word())? {
                Piece::End => return Ok(bytes.len()),
                Piece::NeedMore => return Err("the engine wants more".to_owned()),
                Piece::ChunkEnd => 2,
                Piece::Data(len) | Piece::Chunk { len, .. } | Piece::LastChunk { len } | Piece::Trailers { len } => len,
            };
            bytes = &bytes[len..];
        }
    }
}

// ---- the test

#[test]
fn corpus() {
    let mut faults = Vec::new();
    let cases = load(&mut faults);
    assert!(faults.is_empty(), "faulty case files:\n{}", faults.join("\n"));
    let requests = cases.iter().filter(|case| case.request).count();
    let responses = cases.len() - requests;
    assert!(cases.len() >= 400 && requests >= 200 && responses >= 200, "{requests} requests, {responses} responses");
    for case in &cases {
        let ends = matches!(case.expect(), "complete" | "tunnel" | "local 200");
        for mode in [Mode::Whole, Mode::Bytes, Mode::Trailing] {
            if mode == Mode::Trailing && !ends {
                continue;
            }
            if let Err(difference) = run(case, mode) {
                faults.push(format!("{}: {} ({mode:?}): {difference}", case.at, case.get("case").unwrap_or("")));
            }
        }
    }
    let failed: HashSet<_> = faults.iter().map(|fault| fault.split(" (").next()).collect();
    assert!(
        faults.is_empty(),
        "{} of {} cases ({requests} requests, {responses} responses) fail:\n{}",
        failed.len(),
        cases.len(),
        faults.join("\n")
    );
}

#[test]
fn escapes() {
    assert_eq!(unescape(r"a\r\n\t\0\\\x7fb").unwrap(), b"a\r\n\t\0\\\x7fb");
    assert_eq!(unescape(r"\{3*a\x7d}\{2*\{2*x}-}}").unwrap(), b"a}a}a}xx-xx-}");
    for bad in [r"\", r"\q", r"\xg0", r"\{3*a", r"\{a*b}", r"\{3}"] {
        assert!(unescape(bad).is_err(), "{bad}");
    }
}
