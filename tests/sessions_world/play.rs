//! Performs a script, line by line, on a world.

use super::script::{Mode, Script, Step};
use super::text::{self, fits, number, show, show_pattern};
use super::wire::{End, Ours};
use super::world::{Checked, Config, Dialed, Dials, World};
use pilb::base::Micros;
use pilb::base::time::SECOND;
use pilb::engine::record::Part;
use pilb::engine::{AccessRecord, Drain};
use pilb::proxy::limits::{Networks, Rate, Rates, Trusted};
use pilb::proxy::{Forwarded, StickyRule};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A script being performed.
struct Play {
    config: Config,
    world: Option<World>,
    mode: Mode,
}

/// Performs a script in a mode; the error is a whole report.
pub fn perform(file: &str, script: &Script, mode: Mode) -> Result<String, String> {
    let mut play = Play { config: Config::default(), world: None, mode };
    let mut line = script.line;
    let outcome = script
        .steps
        .iter()
        .try_for_each(|step| {
            line = step.line;
            guarded(|| play.step(step)).map_err(|error| format!("{}\n    {error}", step.text))
        })
        .and_then(|()| guarded(|| play.end()).map_err(|error| format!("(the end)\n    {error}")));
    let transcript = play.world.map_or(String::new(), |world| world.transcript.text());
    let name = &script.name;
    match outcome {
        Ok(()) => Ok(transcript),
        Err(error) => Err(format!("{name} ({}) at {file}:{line}: {error}\n  so far:\n{transcript}", mode.name())),
    }
}

/// A failed assertion of the app is a failure of the script.
fn guarded(step: impl FnOnce() -> Checked) -> Checked {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("the app panicked: {}", text.unwrap_or_default()))
    })
}

impl Play {
    fn step(&mut self, step: &Step) -> Checked {
        let (verb, rest) = step.text.split_once(' ').unwrap_or((&step.text, ""));
        let rest = rest.trim_start();
        if self.world.is_none() {
            match verb {
                "servers" => {
                    self.config.servers = number(rest)? as usize;
                    return Ok(());
                }
                "set" => return self.set(rest),
                _ => self.world = Some(World::new(&self.config, self.mode)),
            }
        }
        let Some(world) = self.world.as_mut() else { return Err("no world".to_owned()) };
        let run = !step.together;
        match verb {
            "client" | "client>" | "client<" => client(world, &step.text["client".len()..], run)?,
            "upstream" => upstream(world, rest, run)?,
            "server" => server(world, rest)?,
            "dial" => dial(world, rest)?,
            "after" => world.pass_time(time(rest)?)?,
            "drain" => world.drain(Drain::Finish)?,
            "stop" => world.drain(Drain::Now)?,
            "expect" => expect(world, rest)?,
            _ => return Err("unknown line".to_owned()),
        }
        if run { world.run() } else { Ok(()) }
    }

    fn set(&mut self, text: &str) -> Checked {
        let (key, value) = text.split_once(' ').ok_or("set KEY VALUE")?;
        let config = &mut self.config;
        let proxy = &mut config.proxy;
        match key {
            "client_head" => proxy.client_head = time(value)?,
            "client_idle" => proxy.client_idle = time(value)?,
            "client_body" => proxy.client_body = time(value)?,
            "client_write" => proxy.client_write = time(value)?,
            "upstream_connect" => proxy.upstream_connect = time(value)?,
            "upstream_response" => proxy.upstream_response = time(value)?,
            "upstream_read" => proxy.upstream_read = time(value)?,
            "upstream_idle" => proxy.upstream_idle = time(value)?,
            "tunnel_idle" => proxy.tunnel_idle = time(value)?,
            "max_body" => proxy.max_body = number(value)?,
            "retries" => proxy.retries = number(value)? as u8,
            "retry_percent" => proxy.retry_percent = number(value)? as u32,
            "min_rate" => proxy.min_rate = number(value)? as u32,
            "most" => proxy.servers.most = Some(number(value)? as u32),
            "queue_length" => proxy.servers.queue = number(value)? as usize,
            "queue" => proxy.queue = time(value)?,
            "sticky" => proxy.sticky = Some(StickyRule { name: value.to_owned(), key: *b"0123456789abcdef" }),
            "client_rate" => {
                let rate = Rate::new(number(value)? as u32, 60 * SECOND, 1);
                proxy.gate.rate = Some((rate, Arc::new(Rates::new(64, 1))));
            }
            "trusted" => {
                let network = value.parse().map_err(|_| format!("{value} is no network"))?;
                proxy.trusted = Trusted { networks: Networks::new([network]), unix: false };
            }
            "backups" => config.backups = number(value)? as usize,
            "eject_after" => proxy.servers.health.failures = number(value)? as u32,
            "request_head" => proxy.request.head = number(value)? as usize,
            "response_head" => proxy.response.head = number(value)? as usize,
            "forwarded" => {
                proxy.forwarded = match value {
                    "append" => Forwarded::Append,
                    "replace" => Forwarded::Replace,
                    _ => Forwarded::Off,
                }
            }
            "buffer" => config.buffer = number(value)? as usize,
            "buffers" => config.buffers = number(value)? as usize,
            "start" => config.start = number(value)? as usize,
            "linger" => config.linger = time(value)?,
            "drain" => config.drain = time(value)?,
            "idle_per_server" => config.idle_per_server = number(value)? as usize,
            _ => return Err(format!("unknown setting {key}")),
        }
        Ok(())
    }

    /// Nothing may be left that the script did not expect.
    fn end(&mut self) -> Checked {
        let Some(world) = self.world.as_mut() else { return Err("an empty script".to_owned()) };
        world.run()?;
        if let Some(record) = world.next_record() {
            return Err(format!("unexpected record: {} {}", record.status, record.end.word()));
        }
        if let Some(conn) = world.conns.iter().position(|conn| !conn.expected) {
            return Err(format!("unexpected dial: {}", world.name(conn)));
        }
        for (key, conn) in world.conns.iter().enumerate() {
            if !conn.link.sock.out.is_empty() {
                return Err(format!(
                    "unexpected bytes for upstream {}: {}",
                    world.name(key),
                    show(&conn.link.sock.out)
                ));
            }
        }
        for (number, client) in world.clients.iter().enumerate() {
            if let Some(client) = client
                && !client.link.sock.out.is_empty()
            {
                return Err(format!("unexpected bytes for client {number}: {}", show(&client.link.sock.out)));
            }
        }
        world.end()
    }
}

/// `5s`, `100ms`, `1.5s`.
fn time(text: &str) -> Checked<Micros> {
    let text = text.trim();
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1000.0),
        (None, Some(number)) => (number, SECOND as f64),
        _ => return Err(format!("not a time: {text:?}")),
    };
    let number: f64 = number.parse().map_err(|_| format!("not a time: {text:?}"))?;
    Ok((number * unit).round() as Micros)
}

/// A leading number, and what follows.
fn leading_number(text: &str) -> (Option<usize>, &str) {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok(), text[end..].trim_start_matches(' '))
}

fn after_operator(text: &str) -> &str {
    let text = &text[1..];
    text.strip_prefix(' ').unwrap_or(text)
}

/// Looks at bytes that have come.
fn look(out: &mut Vec<u8>, looked: &mut Vec<u8>, wanted: &str) -> Checked {
    let wanted = text::pattern(wanted)?;
    *looked = std::mem::take(out);
    if fits(&wanted, looked) {
        return Ok(());
    }
    Err(format!("expected: {}\n    has come: {}", show_pattern(&wanted), show(looked)))
}

/// `has` and `lacks`.
fn contains(looked: &[u8], wanted: &str, should: bool) -> Checked {
    let wanted = text::bytes(wanted)?;
    let does = looked.windows(wanted.len().max(1)).any(|window| window == wanted);
    if does == should { Ok(()) } else { Err(format!("looked at: {}", show(looked))) }
}

fn client(world: &mut World, rest: &str, run: bool) -> Checked {
    let (number, rest) = leading_number(rest);
    let number = number.unwrap_or(0);
    world.connect(number);
    match rest.as_bytes().first() {
        Some(b'>') => return world.client_sends(number, &text::bytes(after_operator(rest))?, run),
        Some(b'<') => {
            let client = world.client(number);
            return look(&mut client.link.sock.out, &mut client.looked, after_operator(rest));
        }
        _ => {}
    }
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "has" => return contains(&world.client(number).looked, rest, true),
        "lacks" => return contains(&world.client(number).looked, rest, false),
        _ => world.say(format!("client {number} {verb} {rest}")),
    }
    let sock = &mut world.client(number).link.sock;
    match verb {
        "connects" => {}
        "ends" => sock.finish(End::Fin),
        "closes" => {
            sock.finish(End::Fin);
            sock.deaf = true;
        }
        "resets" => sock.finish(End::Reset),
        "window" => sock.open_window(window(rest)?),
        _ => return Err("unknown client line".to_owned()),
    }
    Ok(())
}

fn window(text: &str) -> Checked<usize> {
    if text == "open" { Ok(usize::MAX) } else { Ok(number(text)? as usize) }
}

/// `0` is server 0's latest connection, `0.1` its second one.
fn find_conn<'t>(world: &World, text: &'t str) -> Checked<(usize, &'t str)> {
    let (server, rest) = leading_number(text);
    let server = server.ok_or("which server?")?;
    let (wanted, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_number(rest),
        None => (None, rest),
    };
    let found =
        world.conns.iter().rposition(|conn| conn.server == server && wanted.is_none_or(|wanted| wanted == conn.number));
    found.map(|conn| (conn, rest)).ok_or_else(|| format!("server {server} has no such connection"))
}

fn upstream(world: &mut World, rest: &str, run: bool) -> Checked {
    let (key, rest) = find_conn(world, rest)?;
    match rest.as_bytes().first() {
        Some(b'>') => return world.upstream_sends(key, &text::bytes(after_operator(rest))?, run),
        Some(b'<') => {
            let conn = &mut world.conns[key];
            return look(&mut conn.link.sock.out, &mut conn.looked, after_operator(rest));
        }
        _ => {}
    }
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "has" => return contains(&world.conns[key].looked, rest, true),
        "lacks" => return contains(&world.conns[key].looked, rest, false),
        _ => world.say(format!("upstream {} {verb} {rest}", world.name(key))),
    }
    let sock = &mut world.conns[key].link.sock;
    let news = sock.news;
    match verb {
        "ends" => sock.finish(End::Fin),
        "closes" => {
            sock.finish(End::Fin);
            sock.deaf = true;
        }
        "resets" => sock.finish(End::Reset),
        "window" => sock.open_window(window(rest)?),
        _ => return Err("unknown upstream line".to_owned()),
    }
    if rest == "unseen" {
        sock.news = news;
    }
    Ok(())
}

fn server(world: &mut World, rest: &str) -> Checked {
    let (which, rest) = rest.split_once(' ').ok_or("server N what?")?;
    let which = if which == "*" { None } else { Some(number(which)? as usize) };
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    for (index, server) in world.servers.iter_mut().enumerate() {
        if which.is_some_and(|which| which != index) {
            continue;
        }
        match verb {
            "asks" => server.dials = Dials::Ask,
            "accepts" => server.dials = Dials::Accept,
            "refuses" => server.dials = Dials::Refuse,
            "no-socket" => server.dials = Dials::NoSocket,
            "no-socket-once" => server.dials = Dials::NoSocketOnce,
            "window" => server.window = Some(window(rest)?),
            "answers" => {
                server.answer = Some(rest.to_owned());
                server.dials = Dials::Accept;
            }
            _ => return Err("unknown server line".to_owned()),
        }
    }
    Ok(())
}

fn dial(world: &mut World, rest: &str) -> Checked {
    let (server, outcome) = leading_number(rest);
    let server = server.ok_or("dial which server?")?;
    let pending = world
        .conns
        .iter()
        .position(|conn| conn.server == server && conn.dialed == Dialed::Pending && conn.link.sock.ours == Ours::Open);
    let key = pending.ok_or_else(|| format!("no dial to server {server} is under way"))?;
    world.say(format!("dial to {} {outcome}", world.name(key)));
    let conn = &mut world.conns[key];
    conn.expected = true;
    conn.dialed = match outcome {
        "ok" => Dialed::Ok,
        "refused" => Dialed::Refused,
        "hangs" => Dialed::Pending,
        _ => return Err("ok, refused or hangs?".to_owned()),
    };
    Ok(())
}

// ---- expectations

fn expect(world: &mut World, rest: &str) -> Checked {
    // What went before has an effect first, even where it was meant for one batch with this.
    world.run()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words[..] {
        ["log", ..] => {
            let record = world.next_record().ok_or("there is no record")?;
            expect_record(&record, rest.trim_start_matches("log").trim())
        }
        ["no", "log"] => match world.peek_record() {
            None => Ok(()),
            Some(record) => Err(format!("there is one: {} {}", record.status, record.end.word())),
        },
        ["no", "dial"] => {
            let pending = world.conns.iter().any(|conn| !conn.expected);
            if pending { Err("there is one".to_owned()) } else { Ok(()) }
        }
        ["idle", count] => same("idle connections", world.idle_count() as u64, number(count)?),
        ["unread", "client", how, count] => {
            let unread = world.client(0).link.sock.inbox.len() as u64;
            compare("unread of the client", unread, how, number(count)?)
        }
        ["unread", "upstream", which, how, count] => {
            let (key, _) = find_conn(world, which)?;
            compare("unread of the server", world.conns[key].link.sock.inbox.len() as u64, how, number(count)?)
        }
        ["upstream", which, state] => expect_upstream(world, which, state),
        ["client", which, state] => expect_client(world, number(which)? as usize, state),
        [state] => expect_client(world, 0, state),
        _ => Err("unknown expectation".to_owned()),
    }
}

fn same(what: &str, is: impl Display, wanted: impl Display) -> Checked {
    let (is, wanted) = (is.to_string(), wanted.to_string());
    if is == wanted { Ok(()) } else { Err(format!("{what}: {is}, expected {wanted}")) }
}

fn compare(what: &str, is: u64, how: &str, wanted: u64) -> Checked {
    let holds = match how {
        "=" => is == wanted,
        ">=" => is >= wanted,
        "<=" => is <= wanted,
        _ => return Err("=, >= or <=?".to_owned()),
    };
    if holds { Ok(()) } else { Err(format!("{what}: {is}, expected {how} {wanted}")) }
}

fn expect_client(world: &mut World, number: usize, state: &str) -> Checked {
    let (gone, lingering, waiting) = (world.is_gone(number), world.is_lingering(number), world.is_waiting(number));
    let ours = world.client(number).link.sock.ours;
    let holds = match state {
        "open" => ours == Ours::Open && !gone && !lingering,
        "waiting" => waiting,
        "close" => matches!(ours, Ours::Ended | Ours::Closed),
        "linger" => ours == Ours::Ended && lingering,
        "reset" => ours == Ours::Reset,
        "gone" => gone,
        _ => return Err("unknown state".to_owned()),
    };
    if holds {
        Ok(())
    } else {
        Err(format!("it is {ours:?}, gone: {gone}, lingering: {lingering}, waiting: {waiting}"))
    }
}

fn expect_upstream(world: &World, which: &str, state: &str) -> Checked {
    let (key, _) = find_conn(world, which)?;
    let (ours, idle) = (world.conns[key].link.sock.ours, world.is_idle(key));
    let holds = match state {
        "open" => ours == Ours::Open && !idle,
        "idle" => idle,
        "ended" => ours == Ours::Ended,
        "closed" => matches!(ours, Ours::Closed | Ours::Reset),
        _ => return Err("unknown state".to_owned()),
    };
    if holds { Ok(()) } else { Err(format!("it is {ours:?}, idle: {idle}")) }
}

/// `200 done key=value ...`; a value may be quoted.
fn expect_record(record: &AccessRecord, wanted: &str) -> Checked {
    let mut wanted = wanted;
    let mut word = || -> Option<String> {
        wanted = wanted.trim_start();
        let mut quoted = false;
        let end = wanted.find(|c: char| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        });
        let (word, rest) = wanted.split_at(end.unwrap_or(wanted.len()));
        wanted = rest;
        (!word.is_empty()).then(|| word.to_owned())
    };
    same("status", record.status, number(&word().ok_or("a status")?)? as u16)?;
    same("end", record.end.word(), &word().ok_or("an end")?)?;
    while let Some(pair) = word() {
        let (key, value) = pair.split_once('=').ok_or("key=value")?;
        let value = value.trim_matches('"');
        let yes_no = |is: bool| if is { "yes" } else { "no" };
        let quoted = |part| show(record.part(part));
        match key {
            "attempts" => same(key, u64::from(record.attempts), number(value)?)?,
            "server" => same(key, record.server.map_or("-".to_owned(), |server| server.to_string()), value.to_owned())?,
            "detail" => same(key, record.detail, value)?,
            "up" => same(key, record.bytes_up, number(value)?)?,
            "down" => same(key, record.bytes_down, number(value)?)?,
            "head" => same(key, u64::from(record.head_down), number(value)?)?,
            "reused" => same(key, yes_no(record.upstream_reused), value)?,
            "client-reused" => same(key, yes_no(record.client_reused), value)?,
            "wait" => same(key, record.wait_head, time(value)?)?,
            "connect" => same(key, record.connect, time(value)?)?,
            "first" => same(key, record.first_byte, time(value)?)?,
            "total" => same(key, record.total, time(value)?)?,
            "line" => same(key, quoted(Part::Line), value.to_owned())?,
            "host" => same(key, quoted(Part::Host), value.to_owned())?,
            _ => return Err(format!("unknown key {key}")),
        }
    }
    Ok(())
}
