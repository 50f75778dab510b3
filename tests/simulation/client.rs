//! A client: sends its requests as it was made to, reads what comes, and goes.

use super::book::{Book, ExchangeId};
use super::bytes::Bytes;
use super::net::{ActorId, ConnId, Net, What};
use super::random::Random;
use pilb::base::Micros;
use pilb::base::time::SECOND;

/// How fast it sends or reads.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    Whole,
    /// So many bytes each so often.
    Slow {
        most: u64,
        every: Micros,
    },
    /// One byte each so often, and at last none.
    Trickle {
        every: Micros,
    },
    /// Nothing any more after so many bytes.
    StuckAfter(u64),
}

/// What kind of client it is.
#[derive(Clone, Debug)]
pub struct Manner {
    pub sends: Pace,
    pub reads: Pace,
    /// Requests under way at once.
    pub depth: usize,
    /// Resets after so many bytes sent and received.
    pub resets_after: Option<u64>,
    /// Ends its half after so many bytes sent, be it in the midst of a request, and reads on.
    pub ends_after: Option<u64>,
    /// Ends its half behind the last request.
    pub half_closes: bool,
    /// Leaves the connection open at the end until the proxy ends it.
    pub stays: bool,
    /// Does not close when the proxy has ended.
    pub deaf: bool,
    /// What it sends is changed at random.
    pub hostile: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            sends: Pace::Whole,
            reads: Pace::Whole,
            depth: 1,
            resets_after: None,
            ends_after: None,
            half_closes: false,
            stays: false,
            deaf: false,
            hostile: false,
        }
    }
}

/// A stuck client goes away at last.
const PATIENCE: Micros = 2000 * SECOND;
/// Whoever sends byte by byte is tired after so many.
const TRICKLE: u64 = 2000;
/// How long it waits for 100 (Continue).
const CONTINUE: Micros = SECOND;

pub struct Client {
    pub conn: Option<ConnId>,
    random: Random,
    manner: Manner,
    exchanges: Vec<ExchangeId>,
    /// How many of them were begun.
    begun: usize,
    /// The next request may be sent from then on.
    ready_at: Option<Micros>,
    out: Bytes,
    /// The body that waits for 100, and until when.
    held: Option<(Bytes, Micros)>,
    wrote: u64,
    received: u64,
    next_send: Micros,
    next_read: Micros,
    tries: u32,
    tunnel_sent: bool,
    /// It goes if nothing has moved by then, and looks when.
    gives_up: Micros,
    alarm: Micros,
    moved: u64,
    pub gone: bool,
}

impl Client {
    pub fn new(random: Random, manner: Manner, exchanges: Vec<ExchangeId>) -> Client {
        Client {
            conn: None,
            random,
            manner,
            exchanges,
            begun: 0,
            ready_at: None,
            out: Bytes::default(),
            held: None,
            wrote: 0,
            received: 0,
            next_send: 0,
            next_read: 0,
            tries: 0,
            tunnel_sent: false,
            gives_up: Micros::MAX,
            alarm: 0,
            moved: 0,
            gone: false,
        }
    }

    pub fn act(&mut self, me: ActorId, net: &mut Net, book: &mut Book) {
        if self.gone {
            return;
        }
        let Some(conn) = self.conn.or_else(|| self.connect(me, net, book)) else { return };
        self.read(me, conn, net);
        if let Some(story) = book.stories.get_mut(&conn) {
            story.received = self.received;
        }
        if net.conns[conn].peer_reset {
            return self.leave(net);
        }
        self.begin(me, conn, net, book);
        self.send(me, conn, net, book);
        self.end(me, conn, net, book);
    }

    fn connect(&mut self, me: ActorId, net: &mut Net, book: &mut Book) -> Option<ConnId> {
        self.conn = net.peer_connect(me);
        match self.conn {
            Some(conn) => {
                net.note(|| format!("c{conn} connects: {:?} for {:?}", self.manner, self.exchanges));
                let story = book.stories.entry(conn).or_default();
                story.wild = self.manner.hostile;
                story.pipelines = self.manner.depth > 1;
                self.alarm = net.now;
                self.blame_manner(conn, book);
            }
            None if self.tries < 5 => {
                self.tries += 1;
                net.at(net.now + SECOND, What::Actor(me));
            }
            None => self.gone = true,
        }
        self.conn
    }

    /// Some manners end anything.
    fn blame_manner(&self, conn: ConnId, book: &mut Book) {
        let Some(story) = book.stories.get_mut(&conn) else { return };
        if self.manner.hostile {
            story.blames.push("hostile");
        }
        if let Pace::StuckAfter(_) | Pace::Trickle { .. } = self.manner.sends {
            story.blames.push("stops sending");
        }
        if let Pace::StuckAfter(_) = self.manner.reads {
            story.blames.push("stops reading");
        }
        if self.manner.resets_after.is_some() {
            story.blames.push("resets");
        }
        if self.manner.ends_after.is_some() {
            story.blames.push("ends in the midst");
        }
        story.hasty = matches!(self.manner.reads, Pace::Whole);
    }

    fn read(&mut self, me: ActorId, conn: ConnId, net: &mut Net) {
        let most = match self.manner.reads {
            Pace::Whole => u64::MAX,
            Pace::Slow { .. } if net.now < self.next_read => 0,
            Pace::Slow { most, every } => {
                self.next_read = net.now + every;
                most.max(net.conns[conn].least_read())
            }
            Pace::StuckAfter(n) => n.saturating_sub(self.received),
            Pace::Trickle { .. } => 1,
        };
        self.received += net.peer_read(conn, most);
        if net.conns[conn].peer_unread() > 0 && matches!(self.manner.reads, Pace::Slow { .. }) {
            net.at(self.next_read, What::Actor(me));
        }
    }

    /// Requests that have their whole answer.
    fn answered(&self, conn: ConnId, book: &Book) -> usize {
        let story = &book.stories[&conn];
        if story.wild {
            // Who knows.
            return self.begun;
        }
        story.tap.answers.partition_point(|answer| answer.end.is_some_and(|end| end <= self.received))
    }

    /// Puts the next request into the way out.
    fn begin(&mut self, me: ActorId, conn: ConnId, net: &mut Net, book: &mut Book) {
        self.release(me, conn, net, book);
        let answered = self.answered(conn, book);
        while self.held.is_none()
            && self.begun < self.exchanges.len()
            && self.begun < answered + self.manner.depth
            && (self.begun == 0 || book.exchanges[self.exchanges[self.begun - 1]].plan.goes_on())
        {
            let id = self.exchanges[self.begun];
            let think = book.exchanges[id].plan.think;
            let ready = *self.ready_at.get_or_insert(net.now + think);
            if net.now < ready {
                return net.at(ready, What::Actor(me));
            }
            self.ready_at = None;
            self.begun += 1;
            book.begin(id, conn, net.now);
            let (mut head, body) = book.exchanges[id].request(id);
            if self.manner.hostile {
                head.append(body);
                head = mutated(&head, &mut self.random);
                self.out.append(head);
            } else if book.exchanges[id].plan.expect {
                self.out.append(head);
                let until = net.now + CONTINUE;
                self.held = Some((body, until));
                net.at(until, What::Actor(me));
            } else {
                self.out.append(head);
                self.out.append(body);
            }
            let story = book.stories.entry(conn).or_default();
            story.request_ends.push(self.wrote + self.out.len());
        }
    }

    /// The body that waited for 100, and what is said in a tunnel.
    fn release(&mut self, me: ActorId, conn: ConnId, net: &mut Net, book: &mut Book) {
        let story = &book.stories[&conn];
        if let Some((_, until)) = &self.held {
            let index = self.begun - 1;
            let begins = if index == 0 { 0 } else { story.tap.answers.get(index - 1).and_then(|a| a.end).unwrap_or(0) };
            let told =
                story.tap.interims.iter().any(|(end, status)| *status == 100 && *end > begins && *end <= self.received);
            let refused = story.tap.answers.get(index).is_some_and(|answer| answer.head_end <= self.received);
            if refused && !told {
                // The answer came instead: it does not want the body, and this client has no more to say.
                self.held = None;
                self.begun = self.exchanges.len().max(self.begun);
                let id = self.exchanges[index];
                book.blame(id, "its body was not asked for");
                if let Some(story) = book.stories.get_mut(&conn) {
                    story.blames.push("keeps a body back");
                }
            } else if (told || net.now >= *until)
                && let Some((body, _)) = self.held.take()
            {
                self.out.append(body);
                if let Some(end) = book.stories.get_mut(&conn).and_then(|story| story.request_ends.last_mut()) {
                    *end = self.wrote + self.out.len();
                }
            }
        }
        let tap = &book.stories[&conn].tap;
        if tap.tunnel && !self.tunnel_sent && tap.answers.last().is_some_and(|answer| answer.head_end <= self.received)
        {
            self.tunnel_sent = true;
            let id = self.exchanges[self.begun - 1];
            let exchange = &book.exchanges[id];
            self.out.noise(exchange.request_key(id), 0, exchange.plan.chunk);
            net.at(net.now, What::Actor(me));
        }
    }

    fn send(&mut self, me: ActorId, conn: ConnId, net: &mut Net, book: &mut Book) {
        if self.out.is_empty() {
            return;
        }
        let most = match self.manner.sends {
            Pace::Whole => u64::MAX,
            Pace::Slow { .. } if net.now < self.next_send => 0,
            Pace::Slow { most, every } => {
                self.next_send = net.now + every;
                most.max(20 + self.out.len() / 20)
            }
            Pace::StuckAfter(n) => n.saturating_sub(self.wrote),
            Pace::Trickle { .. } if net.now < self.next_send || self.wrote >= TRICKLE => 0,
            Pace::Trickle { every } => {
                self.next_send = net.now + every;
                1
            }
        };
        let most = most.min(self.manner.ends_after.map_or(u64::MAX, |n| n.saturating_sub(self.wrote)));
        let n = net.peer_send(conn, &mut self.out, most);
        let goes_on = n > 0 || most == 0;
        self.wrote += n;
        if let Some(story) = book.stories.get_mut(&conn) {
            story.wrote = self.wrote;
        }
        // Who met a full window hears when there is room.
        if goes_on
            && (self.next_send > net.now || n > 0)
            && !self.out.is_empty()
            && matches!(self.manner.sends, Pace::Slow { .. } | Pace::Trickle { .. })
        {
            net.at(self.next_send, What::Actor(me));
        }
    }

    /// How long nothing has moved.
    fn be_patient(&mut self, me: ActorId, net: &mut Net) {
        if std::mem::replace(&mut self.moved, 1 + self.wrote + self.received) != self.moved {
            self.gives_up = net.now + PATIENCE;
        }
        if net.now >= self.alarm {
            self.alarm = self.gives_up;
            net.at(self.alarm, What::Actor(me));
        }
    }

    fn end(&mut self, me: ActorId, conn: ConnId, net: &mut Net, book: &mut Book) {
        if self.manner.resets_after.is_some_and(|n| self.wrote + self.received >= n) {
            net.peer_break(conn);
            return self.leave(net);
        }
        if net.now >= self.gives_up {
            if let Some(story) = book.stories.get_mut(&conn) {
                story.blames.push("has lost patience");
            }
            return self.leave(net);
        }
        self.be_patient(me, net);
        if self.manner.ends_after.is_some_and(|n| self.wrote >= n) {
            net.peer_end(conn);
            self.out = Bytes::default();
            self.begun = self.exchanges.len();
        }
        let last = self.begun == self.exchanges.len()
            || (self.begun > 0 && !book.exchanges[self.exchanges[self.begun - 1]].plan.goes_on());
        let said = last && self.out.is_empty() && self.held.is_none();
        let tunnel = book.stories[&conn].tap.tunnel;
        if said && (self.tunnel_sent || (self.manner.half_closes && !tunnel && !self.may_tunnel(book))) {
            net.peer_end(conn);
        }
        if self.manner.deaf {
            return;
        }
        if net.peer_at_end(conn) && (!tunnel || self.tunnel_sent && self.out.is_empty()) {
            return self.leave(net);
        }
        if said && !tunnel && !self.manner.stays && !self.manner.hostile && self.answered(conn, book) >= self.begun {
            self.leave(net);
        }
    }

    fn may_tunnel(&self, book: &Book) -> bool {
        self.begun > 0 && book.exchanges[self.exchanges[self.begun - 1]].plan.upgrade
    }

    /// It has not connected yet.
    pub fn is_to_come(&self) -> bool {
        !self.gone && self.conn.is_none()
    }

    fn leave(&mut self, net: &mut Net) {
        self.gone = true;
        net.note(|| format!("c{:?} leaves: wrote {}, received {}", self.conn, self.wrote, self.received));
        if let Some(conn) = self.conn {
            net.peer_close(conn);
        }
    }
}

/// The same bytes with a few edits.
pub fn mutated(bytes: &Bytes, random: &mut Random) -> Bytes {
    let mut text = bytes.to_vec();
    for _ in 0..random.within(0, 3) {
        // Heads are more worth a change than bodies.
        let most = if random.chance(800) { text.len().min(200) } else { text.len() };
        let at = random.below(most as u64) as usize;
        let byte = *random.pick(&[b'\r', b'\n', b' ', b':', 0, b'0', b'9', b'a', b'/', 255, b'\t', b',']);
        match random.below(5) {
            0 if at < text.len() => text[at] = byte,
            1 => text.insert(at, byte),
            2 if at < text.len() => drop(text.remove(at)),
            3 => text.truncate(at),
            _ => {
                let extra = *random.pick(&[
                    &b"Transfer-Encoding: chunked\r\n"[..],
                    b"Content-Length: 7\r\n",
                    b"Connection: close\r\n",
                    b"Expect: 100-continue\r\n",
                    b"\r\n\r\n",
                    b"GET /evil HTTP/1.1\r\nHost: e\r\n\r\n",
                ]);
                let line = text.windows(2).position(|two| two == b"\r\n").map_or(0, |end| end + 2);
                text.splice(line..line, extra.iter().copied());
            }
        }
    }
    let mut out = Bytes::default();
    out.text(&text);
    out
}
