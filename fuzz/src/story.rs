//! What happened to one client connection, and whether it may have happened: every byte on either side held against the naive reference.

use super::reference::{self, End, Frame, Request, Way};
use super::show;
use pilb::engine::record::Part;
use pilb::engine::{AccessRecord, Close, CloseReason, Side};

/// A client connection from its first byte to its last.
#[derive(Default)]
pub struct Story {
    /// What the proxy read from the client and wrote to it.
    pub sent: Vec<u8>,
    pub got: Vec<u8>,
    /// Each record, and how much the client had got by then.
    pub records: Vec<(AccessRecord, usize)>,
    pub attempts: Vec<Attempt>,
    /// For which exchange each dial was.
    pub dials: Vec<usize>,
    /// `None`: it still goes on.
    pub close: Option<Close>,
    /// The client's connection broke.
    pub broken: bool,
    /// The app's last call ended an exchange.
    pub closed_by_a_record: bool,
    /// Further servers that a request may be tried on.
    pub retries: u8,
}

/// A server's part in an exchange.
pub struct Attempt {
    pub exchange: usize,
    pub connected: bool,
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
    /// How the server's stream had ended by then.
    pub side: Side,
    /// It was found fit for another exchange.
    pub parked: bool,
}

/// What the client makes of the bytes of one exchange.
struct Answer<'b> {
    status: u16,
    /// Head, without the interim ones before it.
    head: Option<reference::Head<'b>>,
    interims: usize,
    frame: Frame,
    content: Vec<u8>,
    end: End,
}

impl Story {
    /// Panics if it may not have happened.
    pub fn judge(&self) {
        let (mut at, mut from) = (0, 0);
        for (index, (record, to)) in self.records.iter().enumerate() {
            let unread = self.sent.len() - at;
            while self.sent[at..].starts_with(b"\r\n") {
                at += 2;
            }
            let last = index + 1 == self.records.len() && self.close.is_some();
            // Too many empty lines are a refused request, too.
            assert!(record.bytes_up <= unread as u64, "another count of bytes up: {} of {unread}", record.bytes_up);
            let tale = Tale { story: self, index, record, sent: &self.sent[at..], got: &self.got[from..*to], last };
            at += tale.judge();
            from = *to;
        }
        if self.close.is_some() {
            assert_eq!(from, self.got.len(), "the client got bytes of no exchange: {}", show(&self.got[from..]));
            assert!(self.attempts.iter().all(|attempt| attempt.exchange < self.records.len()), "an unlogged exchange");
            if !self.closed_by_a_record {
                let rest = &self.sent[at..];
                let blank = rest.iter().all(|byte| b"\r\n".contains(byte));
                assert!(blank, "closed over a request without a word: {}", show(rest));
            }
        }
    }

    /// Does a server have the request that begins with `written`?
    pub fn request_is_whole(&self, written: &[u8]) -> bool {
        reference::request(written).is_some_and(|request| {
            let rest = &written[request.head.len..];
            request.frame.is_some_and(|frame| reference::body(frame, rest, false).end == End::Whole)
        })
    }

    /// Is `read` a whole answer to the request that begins with `written`?
    pub fn answer_is_whole(&self, written: &[u8], read: &[u8]) -> bool {
        let Some((answer, at)) = final_answer(read, written.starts_with(b"HEAD ")) else { return false };
        answer.frame.is_some_and(|frame| reference::body(frame, &read[at..], false).end == End::Whole)
    }
}

/// The answer behind the interim ones, and where its body begins.
fn final_answer(bytes: &[u8], to_head: bool) -> Option<(reference::Response<'_>, usize)> {
    let mut at = 0;
    loop {
        let answer = reference::response(&bytes[at..], to_head)?;
        at += answer.head.len;
        if answer.status >= 200 || answer.status == 101 {
            return Some((answer, at));
        }
    }
}

/// One exchange of a story.
struct Tale<'s> {
    story: &'s Story,
    index: usize,
    record: &'s AccessRecord,
    /// What the client sent, from this request on.
    sent: &'s [u8],
    /// What it got for it.
    got: &'s [u8],
    /// The connection ended with it.
    last: bool,
}

impl Tale<'_> {
    /// Returns the length of the request, as far as it came.
    fn judge(&self) -> usize {
        let request = reference::request(self.sent);
        let attempts: Vec<&Attempt> = self.attempts().collect();
        self.judge_record();
        if let Some(request) = &request {
            attempts.iter().for_each(|attempt| self.judge_forwarded(request, attempt));
        } else {
            assert!(attempts.is_empty() && self.dials() == 0, "forwarded without a head: {}", self.shown());
        }
        self.judge_retries(&attempts);
        self.judge_answer(request.as_ref(), attempts.last().copied());
        let len = request.and_then(|request| {
            let body = reference::body(request.frame?, &self.sent[request.head.len..], false);
            (body.end == End::Whole).then_some(request.head.len + body.used)
        });
        if !self.last {
            assert!(len.is_some(), "goes on after half a request: {}", self.shown());
        }
        len.unwrap_or(self.sent.len())
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.story.attempts.iter().filter(|attempt| attempt.exchange == self.index)
    }

    fn dials(&self) -> usize {
        self.story.dials.iter().filter(|&&exchange| exchange == self.index).count()
    }

    fn shown(&self) -> String {
        let attempts = self.attempts().map(|attempt| {
            let (sent, received) = (show(&attempt.sent), show(&attempt.received));
            format!("\n server got {sent}\n server said {received} {:?}", attempt.side)
        });
        let (sent, got) = (show(self.sent), show(self.got));
        let close = if self.last { self.story.close } else { None };
        let end = self.record.end.word();
        format!("\n client sent {sent}{}\n client got {got} {close:?}, logged {end}", attempts.collect::<String>())
    }

    fn judge_record(&self) {
        let record = self.record;
        assert_eq!(record.bytes_down, self.got.len() as u64, "another count of bytes down: {}", self.shown());
        assert_eq!(usize::from(record.attempts), self.dials(), "another count of attempts: {}", self.shown());
        assert!(self.sent.starts_with(record.part(Part::Line)), "another request line: {}", self.shown());
        assert!(record.client_reused == (self.index > 0), "first or not: {}", self.shown());
    }

    /// What a server got is this request, as far as it came.
    fn judge_forwarded(&self, request: &Request<'_>, attempt: &Attempt) {
        let shown = || format!("forwarded: {}", self.shown());
        assert!(attempt.connected || attempt.sent.is_empty(), "{}", shown());
        let Some(frame) = request.frame else { panic!("ambiguous, {}", shown()) };
        let came = reference::body(frame, &self.sent[request.head.len..], false);
        let Some(seen) = reference::request(&attempt.sent) else {
            let start = [request.method, b" "].concat();
            let n = start.len().min(attempt.sent.len());
            assert_eq!(attempt.sent[..n], start[..n], "{}", shown());
            assert!(!attempt.parked, "{}", shown());
            return;
        };
        let (head, rest) = attempt.sent.split_at(seen.head.len);
        reference::strict_head(head, Way::ToServer);
        let (target, host) = request.forwarded();
        assert_eq!((seen.method, seen.target), (request.method, &target[..]), "another target {}", shown());
        assert!(host.is_none_or(|host| seen.head.values("host") == [&host[..]]), "another host {}", shown());
        assert_eq!(seen.frame, Some(frame), "another frame {}", shown());
        // The server's word counts, also where the client did not live to hear it.
        if final_answer(&attempt.received, false).is_some_and(|(answer, _)| answer.status == 101) {
            let tunnel = &self.sent[request.head.len..];
            assert!(tunnel.starts_with(rest), "another tunnel {}", shown());
            return;
        }
        let body = reference::body(frame, rest, false);
        assert_ne!(body.end, End::Bad, "malformed body {}", shown());
        assert!(came.content.starts_with(&body.content), "another body {}", shown());
        if body.end == End::Whole {
            assert_eq!(came.end, End::Whole, "a made-up end {}", shown());
            assert_eq!((body.used, body.content.len()), (rest.len(), came.content.len()), "too much {}", shown());
        }
        assert!(!attempt.parked || body.end == End::Whole, "parked in the middle of it, {}", shown());
    }

    /// Tried again only where nothing came back and nothing can have happened twice.
    fn judge_retries(&self, attempts: &[&Attempt]) {
        assert!(self.dials() <= 1 + usize::from(self.story.retries), "too often tried: {}", self.shown());
        let idempotent = [&b"GET"[..], b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"]
            .iter()
            .any(|method| self.sent.starts_with(&[method, &b" "[..]].concat()));
        // Attempts that a dial failed for left no trace; the last trace is a retried one if the last dial failed.
        for attempt in attempts.iter().rev().skip(1) {
            assert!(attempt.received.is_empty(), "tried again after an answer: {}", self.shown());
            assert!(idempotent || attempt.sent.is_empty(), "done twice: {}", self.shown());
        }
    }

    /// What the client got is an answer, and the server's where it is not ours.
    fn judge_answer(&self, request: Option<&Request<'_>>, attempt: Option<&Attempt>) {
        let line = self.record.part(Part::Line);
        // A head that was refused was not understood, and gets a page with a body whatever its method.
        let to_head = line.starts_with(b"HEAD ") && request.is_some();
        let Some(answer) = self.read_answer(to_head && self.understood()) else {
            assert_ne!(self.record.end, CloseReason::Done, "done without an answer: {}", self.shown());
            assert!(self.last, "goes on without an answer: {}", self.shown());
            return;
        };
        let Some(head) = &answer.head else { return };
        assert_eq!(self.record.status, answer.status, "another status: {}", self.shown());
        assert_eq!(self.record.head_down as usize, head.len, "another length of head: {}", self.shown());
        let old = request.is_some_and(|request| !request.modern) && self.understood();
        if old {
            assert!(!head.has("transfer-encoding"), "a coding for HTTP/1.0: {}", self.shown());
            assert_eq!(answer.interims, 0, "an interim answer for HTTP/1.0: {}", self.shown());
        }
        let connection = head.list("connection");
        let says = |word: &str| connection.contains(&word.to_owned());
        if !self.last {
            assert_eq!(answer.end, End::Whole, "goes on in the middle of an answer: {}", self.shown());
            assert!(!says("close") && says("keep-alive") == old, "goes on unannounced: {}", self.shown());
        }
        assert!(self.last || self.story.close.is_none() || !says("close"), "did not close: {}", self.shown());
        let page = format!("{} ", answer.status);
        let own = head.values("content-type") == [b"text/plain; charset=utf-8"]
            && (answer.content.starts_with(page.as_bytes()) || answer.content.is_empty());
        let delivered =
            matches!(self.record.end, CloseReason::Done | CloseReason::TunnelDone | CloseReason::TunnelIdle);
        match attempt {
            _ if !delivered && own => {}
            Some(attempt) => self.judge_relayed(&answer, attempt, to_head, delivered),
            None => panic!("an answer out of nothing: {}", self.shown()),
        }
    }

    /// Did the proxy get as far as to know the method?
    fn understood(&self) -> bool {
        self.dials() > 0
            || matches!(self.record.end, CloseReason::Local | CloseReason::NoUpstream | CloseReason::BodyTooLarge)
    }

    fn read_answer(&self, to_head: bool) -> Option<Answer<'_>> {
        let (mut at, mut interims) = (0, 0);
        let (answer, rest) = loop {
            if at == self.got.len() {
                return (at > 0).then_some(Answer {
                    status: 0,
                    head: None,
                    interims,
                    frame: Frame::Bare,
                    content: Vec::new(),
                    end: End::Partial,
                });
            }
            let answer = reference::response(&self.got[at..], to_head);
            let Some(answer) = answer else {
                assert!(self.last, "goes on in a head: {}", self.shown());
                return Some(Answer {
                    status: 0,
                    head: None,
                    interims,
                    frame: Frame::Bare,
                    content: Vec::new(),
                    end: End::Partial,
                });
            };
            let from = at;
            at += answer.head.len;
            reference::strict_head(&self.got[from..at], Way::ToClient);
            if answer.status >= 200 || answer.status == 101 {
                break (answer, &self.got[at..]);
            }
            interims += 1;
        };
        let Some(frame) = answer.frame else { panic!("framed in two ways: {}", self.shown()) };
        let clean = self.last && matches!(self.story.close, Some(Close::Finish | Close::Linger));
        let frame = if answer.status == 101 { Frame::UntilClose } else { frame };
        let body = reference::body(frame, rest, clean && !self.story.broken);
        assert_ne!(body.end, End::Bad, "a malformed body: {}", self.shown());
        assert!(body.end != End::Whole || body.used == rest.len(), "something behind the answer: {}", self.shown());
        Some(Answer {
            status: answer.status,
            head: Some(answer.head),
            interims,
            frame,
            content: body.content,
            end: body.end,
        })
    }

    /// The server's answer, no more than it said, and whole only if it was.
    fn judge_relayed(&self, answer: &Answer<'_>, attempt: &Attempt, to_head: bool, delivered: bool) {
        let shown = || format!("relayed: {}", self.shown());
        let Some((said, at)) = final_answer(&attempt.received, to_head) else { panic!("made up, not {}", shown()) };
        assert_eq!(said.status, answer.status, "another status {}", shown());
        let rest = &attempt.received[at..];
        if answer.status == 101 {
            assert!(rest.starts_with(&answer.content), "another tunnel {}", shown());
            return;
        }
        let Some(frame) = said.frame else { panic!("ambiguous, {}", shown()) };
        let ended = attempt.side == Side::Ended;
        let body = reference::body(frame, rest, ended);
        assert!(body.content.starts_with(&answer.content), "another body {}", shown());
        if answer.end == End::Whole && !self.story.broken {
            assert_eq!(body.end, End::Whole, "a made-up end {}", shown());
            assert_eq!(body.content.len(), answer.content.len(), "cut short, {}", shown());
        }
        if delivered {
            assert_eq!(body.end, End::Whole, "done before the server was, {}", shown());
            let whole = answer.end == End::Whole || self.story.broken || self.drained_of_its_end(answer);
            assert!(whole, "done before the client had it, {}", shown());
        }
        if attempt.parked {
            assert_eq!((body.end, body.used), (End::Whole, rest.len()), "parked with something left, {}", shown());
            assert_ne!(frame, Frame::UntilClose, "parked though it ends, {}", shown());
            assert!(!said.head.list("connection").contains(&"close".to_owned()), "parked though it ends, {}", shown());
        }
    }

    /// An answer without a length ends with the connection, which still goes on while the script ends.
    fn drained_of_its_end(&self, answer: &Answer<'_>) -> bool {
        answer.frame == Frame::UntilClose && self.story.close.is_none()
    }
}
