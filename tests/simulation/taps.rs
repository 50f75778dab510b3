//! What the proxy sends, read and held against the plan as it goes out: answers to clients, requests to servers.

use super::book::{Book, ExchangeId, Shape, Wrong};
use super::bytes::is_noise;
use super::message::{Body, Frame, Head, head_end};
use super::net::{ConnId, Net};

/// A broken rule, and how.
pub type Broken = (&'static str, String);

fn broken<T>(rule: &'static str, what: impl Into<String>) -> Result<T, Broken> {
    Err((rule, what.into()))
}

const RIGHT_BYTES: &str = "bytes are relayed exactly";
const RIGHT_CLIENT: &str = "answers come in order and to the right client";
const ONCE: &str = "what may have been seen is not sent twice";
const CLEAN: &str = "connections are clean when they are used again";

/// One answer as the client is sent it. Offsets count all bytes to this client.
#[derive(Clone, Debug)]
pub struct Given {
    /// With the interim answers before it.
    pub begins: u64,
    pub head_end: u64,
    /// `None`: not whole, or whole only when the connection ends.
    pub end: Option<u64>,
    pub status: u16,
    /// Made by the proxy.
    pub own: bool,
    pub until_close: bool,
    pub close: bool,
    pub content: u64,
}

#[derive(Debug, Default)]
pub struct ClientTap {
    pub answers: Vec<Given>,
    /// Where interim answers end, and which they are.
    pub interims: Vec<(u64, u16)>,
    pub total: u64,
    head: Vec<u8>,
    begins: u64,
    seen_interims: u8,
    body: Option<Body>,
    pub tunnel: bool,
    pub tunnelled: u64,
}

impl ClientTap {
    /// Bytes that belong to the answer to exchange number `index` of the connection.
    pub fn bytes_of(&self, index: usize) -> u64 {
        match self.answers.get(index) {
            Some(answer) => answer.end.unwrap_or(self.total) - answer.begins,
            None if index == self.answers.len() => self.total - self.begins,
            None => 0,
        }
    }

    pub fn feed(&mut self, book: &Book, conn: ConnId, mut bytes: &[u8]) -> Result<(), Broken> {
        if book.stories[&conn].wild {
            return self.feed_wild(book, conn, bytes);
        }
        while !bytes.is_empty() {
            let n = if self.tunnel {
                self.feed_tunnel(book, conn, bytes)?
            } else if self.body.is_some() {
                self.feed_body(book, conn, bytes)?
            } else {
                self.feed_head(book, conn, bytes)?
            };
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Who sends anything gets anything, but nothing of other clients.
    fn feed_wild(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<(), Broken> {
        self.total += bytes.len() as u64;
        let text = String::from_utf8_lossy(bytes);
        for token in text.split("X-Id: ").skip(1).filter_map(|rest| rest.split_once("\r\n")).map(|(token, _)| token) {
            if book.find(token).is_some_and(|id| !book.stories[&conn].exchanges.contains(&id)) {
                return broken(RIGHT_CLIENT, format!("c{conn} gets the answer {token}"));
            }
        }
        Ok(())
    }

    /// The exchange that what comes now belongs to.
    fn current(&self, book: &Book, conn: ConnId, index: usize) -> Option<ExchangeId> {
        book.stories[&conn].exchanges.get(index).copied()
    }

    fn feed_tunnel(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let id = self.current(book, conn, self.answers.len() - 1).unwrap_or_default();
        if !is_noise(book.exchanges[id].answer_key(id), self.tunnelled, bytes) && !book.exchanges[id].wild_answer {
            return broken(RIGHT_BYTES, format!("tunnel {id} to c{conn} from {}", self.tunnelled));
        }
        self.tunnelled += bytes.len() as u64;
        self.total += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn feed_head(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = head_end(&self.head) else {
            self.total += bytes.len() as u64;
            return Ok(bytes.len());
        };
        let used = end - before;
        self.total += used as u64;
        let head = Head::of(&std::mem::take(&mut self.head)[..end]).or_else(|error| broken(RIGHT_BYTES, error))?;
        self.take_head(book, conn, &head)?;
        Ok(used)
    }

    fn take_head(&mut self, book: &Book, conn: ConnId, head: &Head) -> Result<(), Broken> {
        let status = head.line.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0u16);
        if !head.line.starts_with("HTTP/1.1 ") || status < 100 {
            return broken(RIGHT_BYTES, format!("c{conn} gets the status line {:?}", head.line));
        }
        let Some(id) = self.current(book, conn, self.answers.len()) else {
            return broken(RIGHT_CLIENT, format!("c{conn} gets {:?} and has asked for nothing", head.line));
        };
        let exchange = &book.exchanges[id];
        let plan = &exchange.plan;
        if status < 200 && status != 101 {
            self.interims.push((self.total, status));
            self.seen_interims += 1;
            let most = plan.answer.interims + u8::from(plan.answer.continues);
            if !exchange.wild_answer && (self.seen_interims > most || plan.old) {
                return broken(RIGHT_BYTES, format!("c{conn} gets an interim answer too many"));
            }
            return Ok(());
        }
        let own = head.get("x-id").is_none();
        if let Some(token) = head.get("x-id").filter(|_| !exchange.wild_answer)
            && (token != exchange.token || status != plan.answer.status)
        {
            return broken(RIGHT_CLIENT, format!("c{conn} gets {status} {token} for {}", exchange.token));
        }
        let frame = head.frame(Frame::UntilClose).or_else(|error| broken(RIGHT_BYTES, error))?;
        let bare = plan.method == "HEAD" || matches!(status, 101 | 204 | 304);
        let frame = if bare { Frame::Bare } else { frame };
        let planned = match (plan.answer.shape, plan.answer.wrong) {
            _ if bare => Frame::Bare,
            (Shape::None, _) => Frame::Length(0),
            // Its next try may be right; which one this is of, only its length tells.
            (Shape::Length(n), Wrong::Short(more))
                if exchange.attempts_answered <= plan.answer.wrong_times || frame == Frame::Length(n + more) =>
            {
                Frame::Length(n + more)
            }
            (Shape::Length(n), _) => Frame::Length(n),
            (Shape::Chunked(_), _) if !plan.old => Frame::Chunked,
            (Shape::Chunked(_) | Shape::UntilClose(_), _) => Frame::UntilClose,
        };
        if !own && !exchange.wild_answer && frame != planned {
            return broken(RIGHT_BYTES, format!("c{conn} gets {frame:?} instead of {planned:?}"));
        }
        if own && !exchange.wild_answer && (status < 400 || !(bare || matches!(frame, Frame::Length(_)))) {
            return broken(RIGHT_BYTES, format!("c{conn} gets a page of our own with {status} and {frame:?}"));
        }
        self.begin_answer(status, own, frame, head);
        Ok(())
    }

    fn begin_answer(&mut self, status: u16, own: bool, frame: Frame, head: &Head) {
        let body = Body::new(frame);
        self.seen_interims = 0;
        self.answers.push(Given {
            begins: self.begins,
            head_end: self.total,
            end: None,
            status,
            own,
            until_close: body.is_until_close(),
            close: head.says("connection", "close"),
            content: 0,
        });
        if status == 101 {
            self.tunnel = true;
        } else if body.is_done() {
            self.end_answer();
        } else {
            self.body = Some(body);
        }
    }

    fn end_answer(&mut self) {
        self.body = None;
        self.begins = self.total;
        if let Some(answer) = self.answers.last_mut() {
            answer.end = Some(self.total);
        }
    }

    fn feed_body(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let id = self.current(book, conn, self.answers.len() - 1).unwrap_or_default();
        let exchange = &book.exchanges[id];
        let (Some(answer), Some(body)) = (self.answers.last_mut(), &mut self.body) else { return Ok(bytes.len()) };
        let mut wrong = None;
        let judged = !answer.own && !exchange.wild_answer;
        let used = body.read(bytes, |at, piece| {
            if judged && !is_noise(exchange.answer_key(id), at, piece) {
                wrong.get_or_insert(at);
            }
        });
        let used = used.or_else(|error| broken(RIGHT_BYTES, format!("c{conn}: {error}")))?;
        if let Some(at) = wrong {
            return broken(
                RIGHT_BYTES,
                format!("c{conn} gets other content for {id} between {at} and {}", body.content),
            );
        }
        answer.content = body.content;
        self.total += used as u64;
        if body.is_done() {
            self.end_answer();
        }
        Ok(used)
    }
}

/// One request as the server is sent it. Offsets count all bytes to this connection.
#[derive(Clone, Debug)]
pub struct Asked {
    pub exchange: Option<ExchangeId>,
    pub head_end: u64,
    /// Where it ends, once it does.
    pub end: Option<u64>,
    pub expects: bool,
    pub content: u64,
}

#[derive(Debug, Default)]
pub struct ServerTap {
    pub asked: Vec<Asked>,
    pub total: u64,
    /// Bytes of a head that is not whole.
    head: Vec<u8>,
    known: Option<ExchangeId>,
    body: Option<Body>,
    /// The server has switched: what comes now is no request.
    pub tunnel: bool,
    pub tunnelled: u64,
}

impl ServerTap {
    /// No request is on its way.
    pub fn is_between(&self) -> bool {
        self.head.is_empty() && self.body.is_none() && !self.tunnel
    }

    /// A request has begun, and nobody can say which.
    pub fn is_unknown(&self) -> bool {
        self.known.is_none() && !self.head.is_empty()
    }

    /// `unclean`: why no request may begin now.
    pub fn feed(
        &mut self,
        book: &mut Book,
        net: &Net,
        conn: ConnId,
        mut bytes: &[u8],
        unclean: Option<&str>,
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let n = if self.tunnel {
                self.feed_tunnel(book, conn, bytes)?
            } else if self.body.is_some() {
                self.feed_body(book, conn, bytes)?
            } else {
                if let Some(why) = unclean.filter(|_| self.head.is_empty()) {
                    return broken(CLEAN, format!("c{conn} gets a request: {why}"));
                }
                self.feed_head(book, net, conn, bytes)?
            };
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn feed_head(&mut self, book: &mut Book, net: &Net, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        self.attribute(book, net, conn)?;
        let Some(end) = head_end(&self.head) else {
            self.total += bytes.len() as u64;
            return Ok(bytes.len());
        };
        let used = end - before;
        self.total += used as u64;
        let head = Head::of(&std::mem::take(&mut self.head)[..end]).or_else(|error| broken(RIGHT_BYTES, error))?;
        let id = self.known.take();
        let frame = head.frame(Frame::Bare).or_else(|error| broken(RIGHT_BYTES, error))?;
        if let Some(id) = id.filter(|id| !book.exchanges[*id].wild) {
            judge_request(book, id, &head, frame)?;
        }
        let expects = head.get("expect").is_some();
        self.asked.push(Asked { exchange: id, head_end: self.total, end: None, expects, content: 0 });
        let body = Body::new(frame);
        if body.is_done() {
            self.end_request();
        } else {
            self.body = Some(body);
        }
        Ok(used)
    }

    /// Whose request it is, as soon as its line is there.
    fn attribute(&mut self, book: &mut Book, net: &Net, conn: ConnId) -> Result<(), Broken> {
        if self.known.is_some() {
            return Ok(());
        }
        let Some(end) = self.head.iter().position(|byte| *byte == b'\r') else { return Ok(()) };
        let line = String::from_utf8_lossy(&self.head[..end]).into_owned();
        self.known = book.find_in(&line);
        let Some(id) = self.known else { return Ok(()) };
        let exchange = &mut book.exchanges[id];
        if let Some(last) = exchange.carried.last().filter(|_| !exchange.wild)
            && net.conns[*last].received > book.lines[last].read_before
        {
            return broken(ONCE, format!("{line} goes to c{conn} although c{last} has begun to answer"));
        }
        exchange.carried.push(conn);
        if exchange.carried.len() > 1 && !exchange.plan.is_idempotent() && !exchange.wild {
            return broken(ONCE, format!("{line} goes to {:?}", exchange.carried));
        }
        // Where clients belong to servers, the same server is asked once more if an idle connection has died.
        if exchange.carried.len() > 3 && !exchange.wild {
            return broken(ONCE, format!("{line} is tried too often: {:?}", exchange.carried));
        }
        Ok(())
    }

    fn end_request(&mut self) {
        self.body = None;
        if let Some(asked) = self.asked.last_mut() {
            asked.end = Some(self.total);
        }
    }

    fn feed_body(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let (Some(asked), Some(body)) = (self.asked.last_mut(), &mut self.body) else { return Ok(bytes.len()) };
        let exchange = asked.exchange.map(|id| (id, &book.exchanges[id])).filter(|(_, exchange)| !exchange.wild);
        let mut wrong = None;
        let used = body.read(bytes, |at, piece| {
            if exchange.is_some_and(|(id, exchange)| !is_noise(exchange.request_key(id), at, piece)) {
                wrong.get_or_insert(at);
            }
        });
        let used = used.or_else(|error| broken(RIGHT_BYTES, format!("c{conn}: {error}")))?;
        if let Some(at) = wrong {
            return broken(RIGHT_BYTES, format!("c{conn} gets other content between {at} and {}", body.content));
        }
        asked.content = body.content;
        self.total += used as u64;
        if body.is_done() {
            let whole = exchange.is_none_or(|(_, exchange)| exchange.plan.shape.content() == body.content);
            if !whole {
                return broken(RIGHT_BYTES, format!("c{conn}: a request ends after {} bytes", body.content));
            }
            self.end_request();
        }
        Ok(used)
    }

    fn feed_tunnel(&mut self, book: &Book, conn: ConnId, bytes: &[u8]) -> Result<usize, Broken> {
        let id = self.asked.last().and_then(|asked| asked.exchange);
        let exchange = id.map(|id| (id, &book.exchanges[id])).filter(|(_, exchange)| !exchange.wild);
        if exchange.is_some_and(|(id, exchange)| !is_noise(exchange.request_key(id), self.tunnelled, bytes)) {
            return broken(RIGHT_BYTES, format!("tunnel to c{conn} from {}", self.tunnelled));
        }
        self.tunnelled += bytes.len() as u64;
        self.total += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// A head as the server is sent it.
fn judge_request(book: &Book, id: ExchangeId, head: &Head, frame: Frame) -> Result<(), Broken> {
    let exchange = &book.exchanges[id];
    let plan = &exchange.plan;
    let wanted = match plan.shape {
        Shape::None | Shape::UntilClose(_) => Frame::Bare,
        Shape::Length(n) => Frame::Length(n),
        Shape::Chunked(_) => Frame::Chunked,
    };
    let line = format!("{} /{} HTTP/1.1", plan.method, exchange.token);
    let from = super::io::address(exchange.client).ip().to_string();
    let right = head.line == line
        && frame == wanted
        && head.get("host") == Some("sim")
        && head.get("via").is_some()
        && head.get("x-forwarded-for") == Some(&from)
        && head.get("upgrade").is_some() == plan.upgrade
        && head.get("expect").is_some() == plan.expect
        && head.get("connection").is_some() == plan.upgrade;
    if right { Ok(()) } else { broken(RIGHT_BYTES, format!("the server gets {} {frame:?} for {line}", head.line)) }
}
