//! HTTP/1.1 on the wire, strictly: what is not exactly as RFC 9112 wants it from a sender is an error that shows the bytes.

use crate::house::PATIENCE;
use socket2::SockRef;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// As the programs show it.
    pub fn parse(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(text.parse().unwrap_or_else(|error| panic!("no address: {text:?} ({error})"))),
        }
    }

    pub fn connect(&self) -> io::Result<Socket> {
        let socket = match self {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.wait_at_most(PATIENCE);
        Ok(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Either kind of stream.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A second handle of the same socket, for another thread.
    pub fn twin(&self) -> Socket {
        match self {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().unwrap()),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().unwrap()),
        }
    }

    /// How long a read or a write may wait.
    pub fn wait_at_most(&self, time: Duration) {
        let options = SockRef::from(self);
        options.set_read_timeout(Some(time)).unwrap();
        options.set_write_timeout(Some(time)).unwrap();
    }

    /// Ends our half.
    pub fn end(&self) {
        self.shut(Shutdown::Write);
    }

    pub fn shut(&self, how: Shutdown) {
        // A connection that the other side has ended is ended as well.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Resets the connection when the last handle is dropped.
    pub fn reset(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why there is no (whole) message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The stream ended cleanly before the first byte of a message.
    Closed,
    /// The stream ended within a message.
    Cut,
    /// The connection was reset, before or within a message.
    Reset,
    /// The message is not HTTP.
    Malformed(String),
}

/// Field lines in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    pub fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The field's only value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        first
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

/// A start line and the fields.
#[derive(Clone, Debug)]
pub struct Head {
    pub line: String,
    pub fields: Fields,
}

impl Head {
    /// A word of the start line.
    fn word(&self, nth: usize) -> &str {
        self.line.splitn(3, ' ').nth(nth).unwrap_or("")
    }

    pub fn method(&self) -> &str {
        self.word(0)
    }

    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// The n of a target like `/name/n`, the last one if there are several.
    pub fn number(&self) -> u64 {
        self.target().rsplit('/').next().unwrap().parse().unwrap()
    }
}

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    /// Does it say that the connection ends?
    pub fn says_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A socket with what was read ahead: the client's or the server's end of a connection.
#[derive(Debug)]
pub struct Wire {
    pub socket: Socket,
    ahead: Vec<u8>,
}

const READ: usize = 64 * 1024;
const LONGEST_HEAD: usize = 64 * 1024;

impl Wire {
    pub fn new(socket: Socket) -> Wire {
        Wire { socket, ahead: Vec::new() }
    }

    pub fn to(address: &Address) -> Wire {
        Wire::new(address.connect().unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }

    /// A connection that comes from this address of ours.
    pub fn from(ip: &str, to: &Address) -> Wire {
        let Address::Tcp(to) = to else { panic!("{to} is no IP address") };
        let socket = socket2::Socket::new(socket2::Domain::for_address(*to), socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&(*to).into()).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
        let stream: TcpStream = socket.into();
        stream.set_nodelay(true).unwrap();
        let socket = Socket::Tcp(stream);
        socket.wait_at_most(PATIENCE);
        Wire::new(socket)
    }

    /// Reads more. False at the end of the stream.
    fn more(&mut self) -> Result<bool, End> {
        let held = self.ahead.len();
        self.ahead.resize(held + READ, 0);
        let result = loop {
            match self.socket.read(&mut self.ahead[held..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.ahead.truncate(held + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(n) => Ok(n > 0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?} after {:?}", String::from_utf8_lossy(&self.ahead))
            }
            Err(_) => Err(End::Reset),
        }
    }

    /// Reads until there is something ahead, within a message.
    fn need(&mut self) -> Result<(), End> {
        if self.ahead.is_empty() && !self.more()? { Err(End::Cut) } else { Ok(()) }
    }

    /// Takes what is there up to and with the first `end`.
    fn until(&mut self, end: &[u8], limit: usize) -> Result<Vec<u8>, End> {
        let mut looked = 0;
        loop {
            let from = looked.max(end.len() - 1) + 1 - end.len();
            if let Some(at) = self.ahead[from..].windows(end.len()).position(|window| window == end) {
                return Ok(self.ahead.drain(..from + at + end.len()).collect());
            }
            looked = self.ahead.len();
            if looked > limit {
                return Err(malformed("too long", &self.ahead));
            }
            if !self.more()? {
                return Err(if self.ahead.is_empty() { End::Closed } else { End::Cut });
            }
        }
    }

    /// Reads a head.
    pub fn head(&mut self) -> Result<Head, End> {
        let bytes = self.until(b"\r\n\r\n", LONGEST_HEAD)?;
        let text = latin(&bytes);
        let mut lines = text[..text.len() - 4].split("\r\n");
        let line = lines.next().unwrap_or("").to_owned();
        if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(malformed("a bare CR, LF or NUL", &bytes));
        }
        Ok(Head { line, fields: fields(lines, &bytes)? })
    }

    /// Reads a body, giving its content to `take` as it comes. Returns the trailers.
    pub fn body(&mut self, framing: Framing, take: &mut dyn FnMut(&[u8])) -> Result<Fields, End> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.exactly(length, take)?,
            Framing::Chunked => return self.chunks(take),
            Framing::UntilClose => loop {
                take(&self.ahead);
                self.ahead.clear();
                if !self.more()? {
                    break;
                }
            },
        }
        Ok(Fields::default())
    }

    fn exactly(&mut self, mut left: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), End> {
        while left > 0 {
            self.need()?;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead.len());
            take(&self.ahead[..n]);
            self.ahead.drain(..n);
            left -= n as u64;
        }
        Ok(())
    }

    fn chunks(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<Fields, End> {
        let cut = |end| if end == End::Closed { End::Cut } else { end };
        loop {
            let line = self.until(b"\r\n", 1024).map_err(cut)?;
            let digits = std::str::from_utf8(&line[..line.len() - 2]).unwrap_or("");
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(length) = u64::from_str_radix(digits, 16).ok().filter(|_| plain) else {
                return Err(malformed("a chunk line", &line));
            };
            if length == 0 {
                break;
            }
            self.exactly(length, take)?;
            let end = self.until(b"\r\n", 2).map_err(cut)?;
            if end != b"\r\n" {
                return Err(malformed("the end of a chunk", &end));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n", LONGEST_HEAD).map_err(cut)?;
            if line == b"\r\n" {
                let text = latin(&trailers);
                return fields(text.split_terminator("\r\n"), &trailers);
            }
            trailers.extend(line);
        }
    }

    // ---- as a client

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends what is told here as the request, with a Host, and reads the answer.
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(get(target));
        self.answer()
    }

    /// A request with a body of known length.
    pub fn post(&mut self, target: &str, body: &[u8]) -> Answer {
        self.send(post(target, body));
        self.answer()
    }

    /// The answer to anything but HEAD, interim ones included.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap_or_else(|end| panic!("no answer: {end:?}"))
    }

    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).unwrap_or_else(|end| panic!("no answer: {end:?}"))
    }

    pub fn try_answer(&mut self, to_head: bool) -> Result<Answer, End> {
        let mut body = Vec::new();
        let mut answer = self.answer_into(to_head, &mut |bytes| body.extend_from_slice(bytes))?;
        answer.body = body;
        Ok(answer)
    }

    /// Reads an answer, whose body goes to `take`.
    pub fn answer_into(&mut self, to_head: bool, take: &mut dyn FnMut(&[u8])) -> Result<Answer, End> {
        let head = self.head()?;
        let status = status(&head)?;
        let framing = response_framing(&head, status, to_head)?;
        let trailers = self.body(framing, take)?;
        Ok(Answer { status, head, framing, body: Vec::new(), trailers })
    }

    /// The stream must end here, and cleanly.
    pub fn expect_end(&mut self) {
        assert_eq!(self.how_it_ends(), End::Closed);
    }

    /// Nothing more may come; says in which way.
    pub fn how_it_ends(&mut self) -> End {
        match self.ahead.is_empty().then(|| self.more()) {
            Some(Ok(false)) => End::Closed,
            Some(Err(end)) => end,
            _ => panic!("more came: {:?}", String::from_utf8_lossy(&self.ahead)),
        }
    }

    /// Everything up to the end of the stream, and how it ends.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.more() {
                Ok(true) => {}
                Ok(false) => return (std::mem::take(&mut self.ahead), End::Closed),
                Err(end) => return (std::mem::take(&mut self.ahead), end),
            }
        }
    }

    /// Exactly these bytes come next.
    pub fn expect(&mut self, bytes: &[u8]) {
        while self.ahead.len() < bytes.len() && self.more().unwrap_or(false) {}
        let n = self.ahead.len().min(bytes.len());
        assert_eq!(String::from_utf8_lossy(&self.ahead[..n]), String::from_utf8_lossy(bytes));
        self.ahead.drain(..n);
    }

    /// What has come by now, without waiting.
    pub fn peek(&mut self) -> usize {
        let mut some = [std::mem::MaybeUninit::uninit(); 64];
        let socket = SockRef::from(&self.socket);
        socket.set_nonblocking(true).unwrap();
        let came = socket.peek(&mut some).unwrap_or(0);
        socket.set_nonblocking(false).unwrap();
        self.ahead.len() + came
    }
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n")
}

pub fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: test.example\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn fields<'t>(lines: impl Iterator<Item = &'t str>, bytes: &[u8]) -> Result<Fields, End> {
    let mut all = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a line without a colon", bytes))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(malformed("a field name", bytes));
        }
        all.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Fields(all))
}

fn status(head: &Head) -> Result<u16, End> {
    let line = &head.line;
    let digits = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("");
    let shape = digits.bytes().all(|byte| byte.is_ascii_digit()) && line.as_bytes().get(12) == Some(&b' ');
    digits.parse().ok().filter(|_| shape).ok_or_else(|| malformed("a status line", line.as_bytes()))
}

fn response_framing(head: &Head, status: u16, to_head: bool) -> Result<Framing, End> {
    let framing = framing(&head.fields, Framing::UntilClose)?;
    let bodiless = status < 200 || status == 204;
    if bodiless && framing != Framing::UntilClose {
        return Err(malformed("a body's frame on a bodiless answer", format!("{head:?}").as_bytes()));
    }
    Ok(if bodiless || status == 304 || to_head { Framing::None } else { framing })
}

/// How a request's body is framed.
pub fn request_framing(head: &Head) -> Result<Framing, End> {
    framing(&head.fields, Framing::None)
}

fn framing(fields: &Fields, default: Framing) -> Result<Framing, End> {
    let all = |name| fields.all(name).collect::<Vec<_>>();
    match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => Ok(default),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([digits], []) if digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() => {
            Ok(Framing::Length(digits.parse().unwrap()))
        }
        _ => Err(malformed("ambiguous framing", format!("{fields:?}").as_bytes())),
    }
}

/// Field values may hold any byte from 0x80 on (RFC 9110 §5.5).
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn malformed(what: &str, bytes: &[u8]) -> End {
    let shown = &bytes[..bytes.len().min(2000)];
    End::Malformed(format!("{what}: {:?}", String::from_utf8_lossy(shown)))
}

/// Bytes that only their seed decides, none of which can be lost, doubled or exchanged without being noticed.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    left: usize,
}

impl Pattern {
    pub fn new(seed: u64) -> Pattern {
        Pattern { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, word: [0; 8], left: 0 }
    }

    fn next(&mut self) -> [u8; 8] {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    }

    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.left == 0 {
                let mut words = out.chunks_exact_mut(8);
                for word in &mut words {
                    word.copy_from_slice(&self.next());
                }
                out = words.into_remainder();
                if out.is_empty() {
                    return;
                }
                (self.word, self.left) = (self.next(), 8);
            }
            let n = out.len().min(self.left);
            let from = 8 - self.left;
            out[..n].copy_from_slice(&self.word[from..from + n]);
            self.left -= n;
            out = &mut out[n..];
        }
    }

    pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Pattern::new(seed).fill(&mut bytes);
        bytes
    }
}

/// Compares what comes with a pattern.
#[derive(Debug)]
pub struct Check {
    pattern: Pattern,
    scratch: Vec<u8>,
    pub length: u64,
}

impl Check {
    pub fn new(seed: u64) -> Check {
        Check { pattern: Pattern::new(seed), scratch: Vec::new(), length: 0 }
    }

    pub fn take(&mut self, bytes: &[u8]) {
        self.scratch.resize(bytes.len(), 0);
        self.pattern.fill(&mut self.scratch);
        if self.scratch != bytes {
            let at = self.scratch.iter().zip(bytes).position(|(expected, came)| expected != came).unwrap();
            panic!("byte {} of the body is wrong", self.length + at as u64);
        }
        self.length += bytes.len() as u64;
    }
}

/// Sends `length` bytes of a pattern. `stalled` is told, each time nothing could be sent for `wait`, how many went by then; it says
/// whether to go on. Returns what was sent.
pub fn pour(
    socket: &mut Socket,
    seed: u64,
    length: u64,
    wait: Duration,
    stalled: &mut dyn FnMut(u64) -> bool,
) -> io::Result<u64> {
    let (mut pattern, mut block, mut sent) = (Pattern::new(seed), vec![0; READ], 0);
    socket.wait_at_most(wait);
    while sent < length {
        let n = usize::try_from(length - sent).unwrap_or(usize::MAX).min(READ);
        pattern.fill(&mut block[..n]);
        let mut from = 0;
        while from < n {
            match socket.write(&block[from..n]) {
                Ok(written) => {
                    from += written;
                    sent += written as u64;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if !stalled(sent) {
                        return Ok(sent);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    socket.wait_at_most(PATIENCE);
    Ok(sent)
}
