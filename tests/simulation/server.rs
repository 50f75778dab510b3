//! A server's end of one connection: reads requests, answers as planned or as wrong as planned, keeps the connection or ends it.

use super::book::{Answer, Book, Exchange, ExchangeId, Line, SHORT, STALLS, Shape, Wrong, content};
use super::bytes::Bytes;
use super::client::{Pace, mutated};
use super::net::{ActorId, ConnId, Net, What};
use super::random::Random;
use super::taps::Asked;
use pilb::base::Micros;
use pilb::base::time::SECOND;

/// How long a stuck server keeps its connection.
const STUCK: Micros = 1500 * SECOND;

pub struct Server {
    pub conn: ConnId,
    random: Random,
    reads: Pace,
    sends: Pace,
    /// Ends a connection that idles so long.
    idle_close: Option<Micros>,
    received: u64,
    /// Requests answered.
    served: usize,
    /// The current one will be answered then.
    answer_at: Option<Micros>,
    continued: bool,
    out: Bytes,
    state: State,
    idle_since: Micros,
    next_read: Micros,
    next_send: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    /// Its answer is on its way; then this.
    Answering(After),
    Tunnel,
    /// Says nothing any more, until then.
    Stuck(Micros),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Go,
    Close,
    Reset,
    Stall,
}

impl Server {
    pub fn new(conn: ConnId, mut random: Random, net: &Net, idle_close: Option<Micros>) -> Server {
        let slow = net.weather.server_slow;
        let mut pace = || {
            if random.chance(slow) {
                Pace::Slow { most: 1 + random.skewed(100_000), every: 500 + random.skewed(100_000) }
            } else {
                Pace::Whole
            }
        };
        let (reads, sends) = (pace(), pace());
        Server {
            conn,
            random,
            reads,
            sends,
            idle_close,
            received: 0,
            served: 0,
            answer_at: None,
            continued: false,
            out: Bytes::default(),
            state: State::Listening,
            idle_since: net.now,
            next_read: 0,
            next_send: 0,
        }
    }

    pub fn act(&mut self, me: ActorId, net: &mut Net, book: &mut Book) {
        if self.state == State::Gone {
            return;
        }
        if net.conns[self.conn].peer_reset {
            return self.leave(net);
        }
        if let State::Stuck(until) = self.state {
            return if net.now >= until { self.leave(net) } else { net.at(until, What::Actor(me)) };
        }
        self.read(me, net);
        // Each step may make the next one possible.
        while self.step(me, net, book) {}
        if self.state == State::Gone {
            return;
        }
        let done = self.out.is_empty() && self.state != State::Tunnel;
        if net.peer_at_end(self.conn) && (done || self.tunnel_is_over(book)) {
            return self.leave(net);
        }
        self.idle(me, net, book);
    }

    fn read(&mut self, me: ActorId, net: &mut Net) {
        let most = match self.reads {
            Pace::Slow { .. } if net.now < self.next_read => 0,
            Pace::Slow { most, every } => {
                self.next_read = net.now + every;
                most.max(net.conns[self.conn].least_read())
            }
            _ => u64::MAX,
        };
        self.received += net.peer_read(self.conn, most);
        if net.conns[self.conn].peer_unread() > 0 && matches!(self.reads, Pace::Slow { .. }) {
            net.at(self.next_read, What::Actor(me));
        }
    }

    fn step(&mut self, me: ActorId, net: &mut Net, book: &mut Book) -> bool {
        self.send(me, net);
        match self.state {
            State::Listening => self.listen(me, net, book),
            State::Answering(after) => self.out.is_empty() && self.finish(after, me, net, book),
            State::Tunnel if self.out.is_empty() => {
                net.peer_end(self.conn);
                false
            }
            _ => false,
        }
    }

    fn send(&mut self, me: ActorId, net: &mut Net) {
        if self.out.is_empty() {
            return;
        }
        let most = match self.sends {
            Pace::Slow { .. } if net.now < self.next_send => 0,
            Pace::Slow { most, every } => {
                self.next_send = net.now + every;
                most.max(20 + self.out.len() / 20)
            }
            _ => u64::MAX,
        };
        let goes_on = net.peer_send(self.conn, &mut self.out, most) > 0 || most == 0;
        // Who met a full window hears when there is room.
        if goes_on && !self.out.is_empty() && matches!(self.sends, Pace::Slow { .. }) {
            net.at(self.next_send, What::Actor(me));
        }
    }

    /// Is there a request to answer, and is it time? True if it has begun to.
    fn listen(&mut self, me: ActorId, net: &mut Net, book: &mut Book) -> bool {
        let Some(asked) = book.lines[&self.conn].tap.asked.get(self.served).cloned() else { return false };
        if asked.head_end > self.received {
            return false;
        }
        let answer = asked.exchange.map(|id| book.exchanges[id].plan.answer.clone());
        let early = answer.as_ref().is_some_and(|answer| answer.early);
        if asked.expects && !self.continued && answer.as_ref().is_none_or(|answer| answer.continues) {
            self.continued = true;
            self.out.text(b"HTTP/1.1 100 Continue\r\n\r\n");
            if let Some(line) = book.lines.get_mut(&self.conn) {
                line.owed += self.out.len();
            }
            return true;
        }
        if !early && asked.end.is_none_or(|end| end > self.received) {
            return false;
        }
        let think = answer.as_ref().map_or(0, |answer| answer.think);
        let at = *self.answer_at.get_or_insert(net.now + think);
        if net.now < at {
            net.at(at, What::Actor(me));
            return false;
        }
        match (asked.exchange, answer) {
            (Some(id), Some(answer)) => self.answer(id, &asked, &answer, net, book),
            _ => {
                self.out.text(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                self.state = State::Answering(After::Close);
            }
        }
        true
    }

    fn answer(&mut self, id: ExchangeId, asked: &Asked, answer: &Answer, net: &mut Net, book: &mut Book) {
        let exchange = &mut book.exchanges[id];
        exchange.attempts_answered += 1;
        let wrong = if exchange.attempts_answered <= answer.wrong_times { answer.wrong } else { Wrong::Nothing };
        let switch = exchange.plan.upgrade && answer.status == 101;
        let key = exchange.answer_key(id);
        let mut bytes = Bytes::default();
        let head = head(exchange, answer, wrong);
        bytes.text(head.as_bytes());
        let bodiless = exchange.plan.method == "HEAD" || matches!(answer.status, 101 | 204 | 304);
        let fitting = match wrong {
            Wrong::Short(_) => matches!(answer.shape, Shape::Length(_)) && !bodiless,
            Wrong::Extra(_) => !switch && (!matches!(answer.shape, Shape::UntilClose(_)) || bodiless),
            _ => true,
        };
        let wrong = if fitting { wrong } else { Wrong::Nothing };
        if !bodiless {
            bytes.append(content(answer.shape, key, &exchange.plan));
        }
        let ends = answer.close || matches!(answer.shape, Shape::UntilClose(_)) || answer.old;
        let mut after = if ends { After::Close } else { After::Go };
        if wrong != Wrong::Nothing {
            after = self.spoil(&mut bytes, wrong, (after, bodiless), id, book);
        } else {
            book.exchanges[id].answered = Some(answer.shape.content());
            if after == After::Close {
                self.ends_unsaid(bodiless, id, book);
            }
        }
        if after == After::Close && asked.end.is_none_or(|end| end > self.received) {
            book.blame(id, "closes before it has read the request");
        }
        net.note(|| {
            format!("c{} server answers {id} with {} bytes, {wrong:?}, then {after:?}", self.conn, bytes.len())
        });
        if let Some(line) = book.lines.get_mut(&self.conn) {
            line.owed += bytes.len();
            line.right = line.owed - if let Wrong::Extra(n) = wrong { n } else { 0 };
            line.tap.tunnel = switch;
        }
        self.out.append(bytes);
        self.state = State::Answering(after);
        if switch && wrong == Wrong::Nothing {
            self.out.noise(key, 0, answer.shape.content());
            self.state = State::Tunnel;
        }
    }

    fn spoil(
        &mut self,
        bytes: &mut Bytes,
        wrong: Wrong,
        (after, bodiless): (After, bool),
        id: ExchangeId,
        book: &mut Book,
    ) -> After {
        match wrong {
            Wrong::Nothing => after,
            Wrong::Cut { after: n, reset } => {
                let whole = n >= bytes.len();
                bytes.truncate(n);
                book.blame(id, "its answer is cut");
                // With the body's length unknown, an end is an end.
                let shape = book.exchanges[id].plan.answer.shape;
                match shape {
                    Shape::UntilClose(_) if !reset => book.exchanges[id].answered = Some(0),
                    Shape::UntilClose(_) if !bodiless => {}
                    _ if whole => book.exchanges[id].answered = Some(shape.content()),
                    _ => {}
                }
                if whole {
                    self.ends_unsaid(bodiless, id, book);
                }
                if reset { After::Reset } else { After::Close }
            }
            Wrong::Stall { after: n } => {
                let shape = book.exchanges[id].plan.answer.shape;
                if n >= bytes.len() && (bodiless || !matches!(shape, Shape::UntilClose(_))) {
                    book.exchanges[id].answered = Some(shape.content());
                }
                bytes.truncate(n);
                book.blame(id, STALLS);
                After::Stall
            }
            Wrong::Garbage(n) => {
                let mut text = vec![0; n as usize];
                text.iter_mut().for_each(|byte| *byte = self.random.next() as u8);
                *bytes = Bytes::default();
                bytes.text(&text);
                book.blame(id, "its answer is garbage");
                book.exchanges[id].wild_answer = true;
                After::Close
            }
            Wrong::Mutated(seed) => {
                *bytes = mutated(bytes, &mut Random::new(seed));
                book.blame(id, "its answer is changed");
                book.exchanges[id].wild_answer = true;
                self.soil(book);
                if let Some(line) = book.lines.get_mut(&self.conn) {
                    line.unsure = true;
                }
                After::Close
            }
            Wrong::Extra(n) => {
                bytes.noise(0, 0, n);
                book.blame(id, "bytes behind its answer");
                book.exchanges[id].answered = Some(book.exchanges[id].plan.answer.shape.content());
                self.soil(book);
                after
            }
            Wrong::Endless(_) => {
                book.blame(id, "its head is too long");
                book.exchanges[id].wild_answer = true;
                after
            }
            Wrong::Short(_) => {
                book.blame(id, SHORT);
                if after == After::Close { After::Close } else { After::Stall }
            }
        }
    }

    fn soil(&self, book: &mut Book) {
        if let Some(line) = book.lines.get_mut(&self.conn) {
            line.dirty = true;
        }
    }

    /// The answer is on the wire.
    fn finish(&mut self, after: After, me: ActorId, net: &mut Net, book: &mut Book) -> bool {
        match after {
            After::Close => self.leave(net),
            After::Reset => {
                net.peer_break(self.conn);
                self.state = State::Gone;
            }
            After::Stall => {
                let until = net.now + STUCK;
                self.state = State::Stuck(until);
                if let Some(Line { stuck, .. }) = book.lines.get_mut(&self.conn) {
                    *stuck = true;
                }
                net.at(until, What::Actor(me));
            }
            After::Go => {
                // An early answer leaves the rest of the request to be read.
                let asked = &book.lines[&self.conn].tap.asked[self.served];
                if asked.end.is_none_or(|end| end > self.received) {
                    return false;
                }
                (self.served, self.continued, self.answer_at) = (self.served + 1, false, None);
                self.state = State::Listening;
                self.idle_since = net.now;
                return true;
            }
        }
        false
    }

    /// Waits for the next request, but not for ever.
    fn idle(&mut self, me: ActorId, net: &mut Net, book: &mut Book) {
        let Some(most) = self.idle_close.filter(|_| self.state == State::Listening) else { return };
        let line = &book.lines[&self.conn];
        let has_some = line.tap.asked.get(self.served).is_some_and(|asked| asked.head_end <= self.received);
        if has_some || self.answer_at.is_some() {
            return;
        }
        // Nobody ends a new connection before its first request can have come.
        let until = self.idle_since + if self.served == 0 { most.max(5 * SECOND) } else { most };
        if net.now < until {
            return net.at(until, What::Actor(me));
        }
        self.ends_idle(book);
        self.leave(net);
    }

    /// It ends behind a whole answer. If that does not say so, who asks on it meanwhile is not to blame.
    fn ends_unsaid(&self, bodiless: bool, id: ExchangeId, book: &mut Book) {
        let answer = &book.exchanges[id].plan.answer;
        let says = answer.close || answer.old || (!bodiless && matches!(answer.shape, Shape::UntilClose(_)));
        if !says {
            self.ends_idle(book);
        }
    }

    fn ends_idle(&self, book: &mut Book) {
        if let Some(Line { idle_closed, .. }) = book.lines.get_mut(&self.conn) {
            *idle_closed = true;
        }
    }

    fn tunnel_is_over(&self, _book: &Book) -> bool {
        self.state == State::Tunnel && self.out.is_empty()
    }

    fn leave(&mut self, net: &mut Net) {
        self.state = State::Gone;
        net.peer_close(self.conn);
    }
}

/// An interim answer.
pub const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";

fn head(exchange: &Exchange, answer: &Answer, wrong: Wrong) -> String {
    let (token, method) = (&exchange.token, exchange.plan.method);
    let mut head = String::new();
    let (many, long) = match wrong {
        Wrong::Endless(n) if n % 2 == 0 => (17 + n as usize % 50, 0),
        Wrong::Endless(n) => (0, 33_000 + n as usize),
        _ => (0, exchange.plan.pad),
    };
    for _ in 0..usize::from(answer.interims) + many {
        head += INTERIM;
    }
    head += &format!("HTTP/1.{} {} Word\r\nX-Id: {token}\r\n", u8::from(!answer.old), answer.status);
    if long > 0 {
        head += &format!("X-Pad: {}\r\n", "p".repeat(long));
    }
    if answer.status == 101 {
        return head + "Connection: Upgrade\r\nUpgrade: noise\r\n\r\n";
    }
    let more = if let Wrong::Short(more) = wrong { more } else { 0 };
    match answer.shape {
        _ if answer.status == 204 || answer.status == 304 => {}
        Shape::None => head += "Content-Length: 0\r\n",
        Shape::Length(n) => head += &format!("Content-Length: {}\r\n", n + more),
        Shape::Chunked(_) if method == "HEAD" => {}
        Shape::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
        Shape::UntilClose(_) => {}
    }
    if answer.close {
        head += "Connection: close\r\n";
    }
    if let Some(seconds) = answer.announces {
        head += &format!("Keep-Alive: timeout={seconds}\r\n");
    }
    head + "\r\n"
}
