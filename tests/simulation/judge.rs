//! Holds what the worker says and has against what truly happened: after each turn, and at the end.

use super::book::{Book, Exchange, ExchangeId, Line, SHORT, STALLS, Shape, Story};
use super::io::connection_of;
use super::net::{Conn, Fin, Net};
use super::taps::{Broken, Given};
use pilb::base::Micros;
use pilb::base::time::SECOND;
use pilb::engine::record::Part;
use pilb::engine::{AccessRecord, CloseReason};
use pilb::net::Census;
use pilb::proxy::Settings;
use pilb::proxy::seats::Seats;
use std::sync::Arc;

const ONE_RECORD: &str = "one record per exchange, with its true outcome";
const CUT: &str = "a cut answer does not look complete";
const IN_TIME: &str = "every deadline is kept";
const NO_LEAK: &str = "nothing leaks";
const NO_EXCUSE: &str = "what nobody has spoilt goes well";
const ARRIVES: &str = "what was answered arrives";
const ONCE: &str = "what may have been seen is not sent twice";
const LIMIT: &str = "no server has more connections than it may";
const AWAKE: &str = "nobody waits for a deadline while bytes lie ready";

/// A tick of the worker's wheel.
const TICK: Micros = 1 << 16;

pub struct Judge {
    pub settings: Settings,
    pub servers: usize,
    pub linger: Micros,
    pub drain: Micros,
    /// Places for clients.
    pub places: usize,
    /// There may be too little memory for all requests.
    pub short: bool,
    /// Bytes that a request's buffer takes.
    pub buffer: usize,
    /// Where servers may have so many connections only.
    seats: Option<Arc<Seats>>,
    /// Since when requests wait although each server has a seat that could be had.
    room_since: Option<Micros>,
    last_look: Micros,
    /// When somebody waited for a place last.
    waited: Micros,
}

fn check(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err((rule, what())) }
}

impl Judge {
    pub fn new(settings: Settings, servers: usize, net: &pilb::net::Settings, seats: Option<Arc<Seats>>) -> Judge {
        let (linger, drain, places, short) = (net.linger, net.drain, net.max_sessions, net.buffers < usize::MAX);
        let buffer = net.buffer;
        Judge {
            settings,
            servers,
            linger,
            drain,
            places,
            short,
            buffer,
            seats,
            room_since: None,
            last_look: 0,
            waited: 0,
        }
    }

    /// By so much a deadline may be missed.
    fn slack(&self, net: &Net) -> Micros {
        2 * TICK
            + net.weather.lazy_wait
            + 2000
            + 20 * net.weather.slow_loop
            + net.leapt.map_or(0, |(longest, _)| longest)
    }

    // ---- after each turn

    pub fn count(&self, net: &Net, census: &Census, workers: usize) -> Result<(), Broken> {
        let clients = net.held_clients;
        // Who is handed over to another worker is in no count for a moment.
        let seated = census.sessions + census.waiting;
        let fits = (if workers > 1 { seated <= clients } else { seated == clients })
            && census.upstreams + census.errands == net.held.len() - clients;
        check(fits, NO_LEAK, || format!("{census:?} beside {clients} clients of {} streams", net.held.len()))?;
        let pipes = census.lent_pipes <= net.pipes && net.pipes <= census.lent_pipes + 16 * workers;
        check(pipes, NO_LEAK, || format!("{census:?} beside {} pipes", net.pipes))?;
        if let Some(most) = self.settings.servers.most {
            let mut each = vec![0; self.servers];
            net.held.iter().filter_map(|id| net.conns[*id].server).for_each(|server| each[usize::from(server)] += 1);
            let probe = usize::from(self.settings.servers.probes.kind().is_some());
            let most = most as usize + probe;
            check(each.iter().all(|count| *count <= most), LIMIT, || format!("{each:?} connections per server"))?;
            // Another worker would take the seat of a connection that has none.
            let taken = |server| self.seats.as_ref().map_or(0, |seats| seats.taken(server));
            let seats: Vec<u32> = (0..self.servers as u16).map(taken).collect();
            let seated = each.iter().zip(&seats).all(|(count, seats)| *count <= *seats as usize + probe);
            check(seated, LIMIT, || format!("{each:?} connections per server, and {seats:?} seats"))?;
        }
        let idle = census.sessions + census.waiting == 0;
        let holds = census.lent_buffers + census.lent_pipes + (census.upstreams - census.idle);
        check(!idle || holds == 0, NO_LEAK, || format!("nobody is there, and {census:?}"))
    }

    /// Requests wait for a server: do they have to? (With health in play a server that has room may not be one for them.)
    pub fn wait(&mut self, net: &Net, waiting: usize) -> Result<(), Broken> {
        let policy = &self.settings.servers;
        let Some(seats) = self.seats.as_ref().filter(|_| policy.health.failures == 0 && policy.probes.kind().is_none())
        else {
            return Ok(());
        };
        let room = waiting > 0 && (0..self.servers as u16).all(|server| !seats.is_busy(server));
        self.room_since = room.then(|| self.room_since.unwrap_or(net.now));
        let since = self.room_since.unwrap_or(net.now);
        // Less than the half second after which a worker looks at its idle connections of itself.
        check(net.now - since <= SECOND / 4 + self.slack(net), IN_TIME, || {
            format!("{waiting} wait while all servers have room since {} s", since as f64 / 1e6)
        })
    }

    pub fn record(&self, net: &Net, book: &mut Book, record: &AccessRecord) -> Result<(), Broken> {
        let conn = connection_of(&record.client).unwrap_or_default();
        let Some(story) = book.stories.get_mut(&conn) else {
            return Err((ONE_RECORD, format!("of nobody: {}", show(record))));
        };
        let index = story.records;
        story.records += 1;
        story.down += record.bytes_down;
        check(record.wait_head <= self.settings.client_head + self.slack(net), IN_TIME, || {
            format!("c{conn} has waited for a head: {}", show(record))
        })?;
        if story.wild {
            return Ok(());
        }
        let Some(id) = story.exchanges.get(index).copied() else {
            return Err((ONE_RECORD, format!("c{conn} has asked for less: {}", show(record))));
        };
        let line = book.exchanges[id].line();
        let quoted = String::from_utf8_lossy(record.part(Part::Line)).into_owned();
        check(line.starts_with(&quoted), ONE_RECORD, || format!("c{conn}: of {quoted:?} instead of {line:?}"))?;
        let bytes = story.tap.bytes_of(index);
        // The method of half a head may not be known: then the page has its content even if that was to be HEAD.
        let counts = quoted == line || record.attempts > 0;
        check(bytes == record.bytes_down || !counts, ONE_RECORD, || {
            format!("c{conn} was sent {bytes} bytes: {}", show(record))
        })?;
        let given = story.tap.answers.get(index).cloned();
        let tunnelled = story.tap.tunnelled;
        book.exchanges[id].record = Some(record.clone());
        self.outcome(net, book, id, given.as_ref(), tunnelled)?;
        self.times(net, book, id, record)
    }

    fn outcome(
        &self,
        net: &Net,
        book: &Book,
        id: ExchangeId,
        given: Option<&Given>,
        tunnelled: u64,
    ) -> Result<(), Broken> {
        let exchange = &book.exchanges[id];
        let Some(record) = &exchange.record else { return Ok(()) };
        let conn = &net.conns[exchange.client];
        let told = || format!("{}: {given:?}, {}", exchange.line(), show(record));
        let status = given.map_or(0, |given| given.status);
        check(status == record.status || (given.is_none() && record.bytes_down > 0), ONE_RECORD, told)?;
        let whole = given.is_some_and(|given| is_whole(given, conn));
        if let Some(given) = given.filter(|given| whole && !given.own && !exchange.wild_answer) {
            check(exchange.answered.is_some(), CUT, told)?;
            let due = if bodiless(exchange) { 0 } else { exchange.plan.answer.shape.content() };
            let cut = matches!(exchange.plan.answer.shape, Shape::UntilClose(_)) && exchange.answered == Some(0);
            check(given.content == due || cut || given.content == 0 && due == 0, CUT, told)?;
        }
        let tunnel = given.is_some_and(|given| given.status == 101);
        match record.end {
            // Who pipelines while the proxy closes may lose the end of the last answer to a reset.
            CloseReason::Done => {
                let raced = conn.late && book.stories[&exchange.client].pipelines;
                // Who resets as the end comes may have had all, and does not see an end that is the connection's.
                let reset =
                    !book.stories[&exchange.client].blames.is_empty() && given.is_some_and(|given| given.until_close);
                check((whole || raced || reset) && !tunnel, ONE_RECORD, told)?;
            }
            CloseReason::TunnelDone => {
                let all = exchange.plan.answer.shape.content();
                check(tunnel && (tunnelled == all || !exchange.blames.is_empty()), CUT, told)?;
            }
            _ => {}
        }
        check(excused(net, book, exchange, record, self), NO_EXCUSE, || format!("{} {:?}", told(), exchange.blames))?;
        self.retried(net, book, exchange, record)
    }

    /// What another try could have saved has had one.
    fn retried(&self, net: &Net, book: &Book, exchange: &Exchange, record: &AccessRecord) -> Result<(), Broken> {
        // Who is ejected, down or full is no other server.
        let policy = &self.settings.servers;
        let others = policy.health.failures == 0 && policy.probes.kind().is_none() && policy.most.is_none();
        let once = record.attempts == 1 && record.first_byte == 0 && book.stopped.is_none() && others;
        let told = |why: &str| format!("{} was not tried again ({why}): {}", exchange.line(), show(record));
        let refused = matches!(record.end, CloseReason::UpstreamRefused | CloseReason::UpstreamConnectTimeout);
        // What does not fit a buffer, or has others waiting behind it, may have had to make room while it was held for another try.
        let size = record.bytes_up.max(exchange.plan.shape.content());
        let fits = size <= self.buffer as u64 && !book.stories[&exchange.client].pipelines;
        check(!(once && refused && self.servers > 1 && self.settings.retries > 0), NO_EXCUSE, || told("refused"))?;
        let failed = book.refusals.iter().chain(&book.hangs).filter(|at| Some(**at) >= exchange.begun).count();
        // A connection that had served before got some of it, and then there was another dial.
        let first = exchange.carried.first().and_then(|conn| book.lines[conn].tap.asked.first());
        let served_before =
            first.is_some_and(|asked| asked.exchange.is_none_or(|id| book.exchanges[id].token != exchange.token));
        let again = usize::from(record.attempts) > failed + 1 && served_before;
        check(!again || exchange.plan.is_idempotent(), ONCE, || format!("{} {}", exchange.line(), show(record)))?;
        let died = matches!(record.end, CloseReason::UpstreamClosed | CloseReason::UpstreamReset);
        let may = exchange.plan.is_idempotent() && fits && self.settings.retries > 0;
        let reused = exchange.carried.first().is_some_and(|conn| book.lines[conn].tap.asked.len() > 1);
        let silent = exchange.carried.first().is_some_and(|conn| {
            let line = &book.lines[conn];
            !line.dirty && net.conns[*conn].received == line.owed.min(net.conns[*conn].received)
        });
        check(!(once && died && may && reused && silent), NO_EXCUSE, || told("died"))
    }

    /// Timeouts come when they are due, and only if it was truly silent for so long.
    fn times(&self, net: &Net, book: &Book, id: ExchangeId, record: &AccessRecord) -> Result<(), Broken> {
        let exchange = &book.exchanges[id];
        let s = &self.settings;
        let told = || format!("{} {}", exchange.line(), show(record));
        let carrier = exchange.carried.last().map(|conn| &net.conns[*conn]);
        let client = &net.conns[exchange.client];
        let (due, of) = match record.end {
            CloseReason::ClientHeadTimeout => (s.client_head, Some(client)),
            CloseReason::ClientBodyTimeout => (s.client_body, Some(client)),
            CloseReason::ClientWriteTimeout => (s.client_write, None),
            CloseReason::UpstreamConnectTimeout => (s.upstream_connect, None),
            CloseReason::UpstreamWriteTimeout => (s.upstream_read, None),
            CloseReason::UpstreamTimeout => (s.upstream_response, carrier),
            CloseReason::UpstreamReadTimeout => (s.upstream_read, carrier),
            CloseReason::TunnelIdle => (s.tunnel_idle, None),
            _ => return Ok(()),
        };
        check(record.total >= due, IN_TIME, || format!("too early: {}", told()))?;
        // While the page for a late head is on its way, nothing more is read.
        let delivers = record.end == CloseReason::ClientHeadTimeout && record.total > due + self.slack(net);
        if let Some(conn) = of.filter(|_| net.leapt.is_none() && !delivers) {
            check(!neglected(conn, net.now, due), AWAKE, || format!("{:?} {}", conn.neglect, told()))?;
        }
        let moved = carrier.map_or(0, |conn| conn.stamps.until(net.now)).max(client.stamps.until(net.now));
        // A page that is not taken waits for the client in its turn.
        let untaken =
            book.stories[&exchange.client].tap.answers.get(exchange.index).is_none_or(|given| given.end.is_none());
        let wait = if untaken { due.max(s.client_write) } else { due };
        let most = wait + self.slack(net) + if record.attempts > 1 { 2 * s.upstream_connect } else { 0 };
        check(net.now - moved <= most || record.end == CloseReason::UpstreamConnectTimeout, IN_TIME, || {
            format!("silent for {} s: {}", (net.now - moved) as f64 / 1e6, told())
        })?;
        // There was a queue before it, and the page must have been taken, too; each byte of it that was buys some time.
        let queue = if s.servers.most.is_some() { s.queue + self.slack(net) } else { 0 };
        let page = s.client_write + record.bytes_down * SECOND / u64::from(s.min_rate) + self.slack(net);
        let connect = queue + u64::from(record.attempts) * (s.upstream_connect + self.slack(net)) + page;
        check(
            // The try before may have lasted.
            record.end != CloseReason::UpstreamConnectTimeout
                || record.attempts > 1
                || record.total <= connect + record.wait_head,
            IN_TIME,
            told,
        )
    }

    /// Nobody is forgotten.
    pub fn look(&mut self, net: &Net, book: &Book, census: &Census) -> Result<(), Broken> {
        if census.waiting > 0 {
            self.waited = net.now;
        }
        if net.now < self.last_look + SECOND {
            return Ok(());
        }
        self.last_look = net.now;
        let s = &self.settings;
        for id in &net.held {
            let conn = &net.conns[*id];
            let Some(story) = book.stories.get(id).filter(|_| conn.server.is_none()) else { continue };
            let current = story.exchanges.get(story.records);
            // Several may have ended just now. And of which of its requests the records are, nobody knows of a hostile client.
            let lately = if story.wild { 0 } else { story.records.saturating_sub(3) };
            let recent = story.exchanges.iter().skip(lately).take(if story.wild { usize::MAX } else { 4 });
            let carriers = recent.flat_map(|id| &book.exchanges[*id].carried);
            let moved = carriers.map(|conn| net.conns[*conn].stamps.until(net.now)).max().unwrap_or(0);
            // It may be the one that had to wait for a place.
            let placed =
                if conn.stamps.until(net.now) <= conn.begun { self.waited.max(conn.begun) } else { conn.begun };
            let silent = net.now - moved.max(conn.stamps.until(net.now)).max(placed);
            let longest = [
                s.client_idle,
                s.client_head,
                s.client_body,
                s.client_write,
                s.upstream_response + 2 * s.upstream_connect,
                s.upstream_read,
                if story.tap.tunnel || story.wild || current.is_some_and(|id| book.exchanges[*id].plan.upgrade) {
                    s.tunnel_idle
                } else {
                    0
                },
            ];
            let most = longest.iter().max().unwrap_or(&0) + self.linger + self.slack(net);
            check(silent <= most, IN_TIME, || {
                format!("c{id} is silent for {} s and still there", silent as f64 / 1e6)
            })?;
        }
        let at_rest = net.held.iter().all(|id| is_at_rest(&net.conns[*id], book.stories.get(id)));
        let busy = census.lent_buffers + census.lent_pipes + (census.upstreams - census.idle);
        check(!at_rest || busy == 0 || census.queued > 0, NO_LEAK, || format!("nobody does anything, and {census:?}"))?;
        let drained = book.drained.is_none_or(|at| net.now <= at + self.drain + self.linger + self.slack(net) + SECOND);
        check(drained || net.held.is_empty(), IN_TIME, || "the drain time is over and the worker is not".to_owned())
    }

    // ---- at the end

    /// No worker is left, and no seat is taken.
    pub fn all_given_back(&self) -> Result<(), Broken> {
        let taken = |server| self.seats.as_ref().map_or(0, |seats| seats.taken(server));
        let left: Vec<u32> = (0..self.servers as u16).map(taken).collect();
        check(left.iter().all(|taken| *taken == 0), NO_LEAK, || format!("{left:?} seats taken at the end"))
    }

    pub fn finish(&self, net: &Net, book: &Book) -> Result<(), Broken> {
        check(net.held.is_empty() && net.pipes == 0, NO_LEAK, || {
            format!("{} streams, {} pipes", net.held.len(), net.pipes)
        })?;
        let pressed =
            net.most_clients > self.places || net.weather.descriptors < usize::MAX || net.weather.accept_error > 0;
        for (conn, story) in &book.stories {
            if story.wild {
                let (down, total) = (story.down, story.tap.total);
                check(down == total, ONE_RECORD, || format!("c{conn} was sent {total} bytes, not {down}"))?;
                continue;
            }
            let mut open = true;
            for id in &story.exchanges {
                let exchange = &book.exchanges[*id];
                let given = story.tap.answers.get(exchange.index);
                if exchange.record.is_none() {
                    let touched = given.is_some() || !exchange.carried.is_empty();
                    check(!touched, ONE_RECORD, || format!("none of {} on c{conn}", exchange.line()))?;
                    let gone = !story.blames.is_empty()
                        || book.drained.or(book.stopped).is_some()
                        || net.leapt.is_some()
                        // Who idles makes room, perhaps just as it wants to ask.
                        || (pressed && open)
                        || (net.weather.accept_error > 0 && net.conns[*conn].received == 0);
                    check(gone || !open, NO_EXCUSE, || format!("{} on c{conn} was not served", exchange.line()))?;
                }
                // A reset by our own hand may not overtake an answer; but for who pipelines while the proxy closes.
                let raced = story.pipelines
                    && (net.conns[*conn].late || is_cut_by_reset(story, exchange.index, &net.conns[*conn]));
                let whole = given.filter(|given| given.end.is_some_and(|end| end > story.received));
                // Nor where places, descriptors or memory are too short to wait for the client.
                let low = exchange.record.as_ref().is_some_and(|record| record.end == CloseReason::MemoryLow);
                let raced = raced || low || pressed;
                let patient = story.hasty && net.weather.window.0 > 1000 && net.weather.latency < 10_000;
                if let Some(given) =
                    whole.filter(|_| story.blames.is_empty() && patient && !raced && book.stopped.is_none())
                {
                    let told = || format!("c{conn} never got {given:?} of {}", exchange.line());
                    check(net.leapt.is_some(), ARRIVES, told)?;
                }
                // Whose server has failed may lose its own connection as well, once its answer has begun.
                open &= exchange.blames.is_empty()
                    && exchange.plan.persists()
                    && given.is_some_and(|given| given.end.is_some() && !given.close);
            }
        }
        Ok(())
    }
}

/// A client that has all its answers and has asked for nothing more; a server.
fn is_at_rest(conn: &Conn, story: Option<&Story>) -> bool {
    let done = |story: &Story| !story.wild && story.records == story.exchanges.len() && conn.received == story.wrote;
    conn.server.is_some() || (story.is_some_and(done) && conn.out_fin == Fin::Open)
}

fn bodiless(exchange: &Exchange) -> bool {
    exchange.plan.method == "HEAD" || matches!(exchange.plan.answer.status, 101 | 204 | 304)
}

/// Does the client have, or get, all of it, as far as it can tell?
fn is_whole(given: &Given, conn: &Conn) -> bool {
    given.end.is_some() || (given.until_close && conn.out_fin != Fin::Open && !conn.reset_by_worker)
}

/// Is a later answer on this connection cut that has no end of its own? Only a reset shows that, and it takes what is under way with it.
fn is_cut_by_reset(story: &Story, index: usize, conn: &Conn) -> bool {
    let last = story.tap.answers.len().saturating_sub(1);
    let cut = story.tap.answers.last().is_some_and(|given| given.until_close && given.end.is_none());
    cut && last > index && conn.reset_by_worker
}

fn neglected(conn: &Conn, now: Micros, due: Micros) -> bool {
    let since = match (conn.unread_since, conn.neglect) {
        (Some(since), _) => since,
        (None, Some((since, until))) if until == now => since,
        _ => return false,
    };
    2 * (now - since) > due
}

/// Has somebody done something that explains this end?
fn excused(net: &Net, book: &Book, exchange: &Exchange, record: &AccessRecord, judge: &Judge) -> bool {
    let story = &book.stories[&exchange.client];
    let begun = exchange.begun.unwrap_or(0);
    let since = |list: &[Micros]| list.iter().any(|at| *at >= begun);
    let bad = |line: &Line| line.dirty || line.idle_closed || line.stuck;
    // Whose it is, half a request line does not say.
    let spoilt = || {
        !exchange.blames.is_empty()
            || exchange.carried.iter().any(|conn| bad(&book.lines[conn]))
            || book.lines.values().any(|line| line.tap.is_unknown() && bad(line))
    };
    let stuck = || {
        exchange.blames.iter().any(|why| [STALLS, SHORT].contains(why))
            || exchange.carried.iter().any(|conn| book.lines[conn].stuck || book.lines[conn].dirty)
            || book.lines.values().any(|line| line.tap.is_unknown() && line.stuck)
    };
    match record.end {
        CloseReason::Done | CloseReason::TunnelDone => true,
        CloseReason::UpstreamRefused => since(&book.refusals),
        // Only where servers are probed, and then not before probes have failed.
        CloseReason::NoUpstream => {
            let trouble = book.refusals.len() + book.hangs.len() + book.no_sockets.len() > 0;
            let trouble = trouble || net.weather.descriptors < usize::MAX || net.leapt.is_some();
            judge.settings.servers.probes.kind().is_some() && trouble
        }
        CloseReason::QueueFull => {
            let policy = &judge.settings.servers;
            policy.most.is_some_and(|most| book.stories.len() > policy.queue.min(most as usize))
        }
        CloseReason::QueueTimeout => {
            judge.settings.servers.most.is_some() && record.total >= judge.settings.queue && book.stories.len() > 1
        }
        CloseReason::MemoryLow => judge.short,
        CloseReason::UpstreamConnectTimeout => since(&book.hangs) || net.leapt.is_some(),
        CloseReason::UpstreamNoSocket => since(&book.no_sockets) || net.weather.descriptors < usize::MAX,
        // While the process stands still a server may find that nothing is asked of it.
        CloseReason::UpstreamClosed | CloseReason::UpstreamReset => spoilt() || net.leapt.is_some(),
        CloseReason::UpstreamTruncated | CloseReason::BadResponse | CloseReason::BadResponseBody => spoilt(),
        CloseReason::UpstreamWriteTimeout | CloseReason::UpstreamReadTimeout => stuck() || net.leapt.is_some(),
        CloseReason::UpstreamTimeout => {
            // Who expects 100 (Continue) may wait for it; that its body would never have come, nobody knows.
            let whole = story.request_ends.get(exchange.index).is_some_and(|end| *end <= story.wrote);
            stuck() || net.leapt.is_some() || (exchange.plan.expect && !whole && !story.blames.is_empty())
        }
        CloseReason::ClientClosed
        | CloseReason::ClientReset
        | CloseReason::ClientHeadTimeout
        | CloseReason::ClientBodyTimeout
        | CloseReason::ClientWriteTimeout => !story.blames.is_empty() || net.leapt.is_some(),
        CloseReason::TunnelIdle => !story.blames.is_empty() || spoilt() || net.leapt.is_some(),
        CloseReason::Drained => {
            book.stopped.is_some() || book.drained.is_some_and(|at| net.now + 1000 >= at + judge.drain)
        }
        _ => false,
    }
}

pub fn show(record: &AccessRecord) -> String {
    format!(
        "[{} {} {} {} down={} up={} head={} total={} attempts={} first={} {:?}]",
        String::from_utf8_lossy(record.part(Part::Line)),
        record.status,
        record.end.word(),
        record.detail,
        record.bytes_down,
        record.bytes_up,
        record.wait_head,
        record.total,
        record.attempts,
        record.first_byte,
        record.server,
    )
}
