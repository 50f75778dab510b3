//! The whole proxy: clients and servers that say and do what a script wants, and a judge who reads along.
//!
//! A script is a byte of settings and then steps, each a letter with what belongs to it, parted by `|`:
//!
//! ```text
//! c bytes   the client sends                  s bytes   the server sends
//! C bytes   ... byte by byte                  S bytes   ... byte by byte
//! f n       ... n times an x                  F n       ... n times an x
//! e         the client ends its stream        E         the server ends its stream
//! r         the client's connection breaks    R         the server's connection breaks
//! w n       the client takes n more bytes     v n       the server takes n more bytes
//! W         ... any number                    V         ... any number
//! M         sending to the client fails       N         sending to the server fails
//! m         dials are left in the air         a         dials succeed
//! o         the dial succeeds                 x         the dial is refused
//! X         the next dial lacks a socket      Y         the next dial is refused at once
//! i         idle servers end                  I, J      ... end or break, noticed only when used
//! t n       n milliseconds pass               T         the deadline comes
//! U         a moment before the deadline      q, Q      draining begins, or is over
//! ```
//!
//! The settings: bits 0 and 1 the number of servers, 2 small buffers, 3 forwarding fields off, 4 small limits, 5 no retries.
//! `A` (0x41) is one server and all defaults. When a client's connection is over, the next step is another client's.

use super::story::Story;
use super::world::{Dials, World};
use pilb::engine::{DialError, Drain, Side};
use pilb::http1::Limits;
use pilb::proxy::{Forwarded, Settings};

/// Filler bytes of one step at most.
const FILLER: usize = 40_000;
/// And of a whole script.
const ALL_FILLER: usize = 200_000;
const STEPS: usize = 300;

/// `data`: a script.
pub fn run(data: &[u8]) {
    let Some((&setting, script)) = data.split_first() else { return };
    let mut world =
        World::new(settings(setting), usize::from(setting & 3), if setting & 4 == 0 { 16 * 1024 } else { 4096 });
    let mut filler = ALL_FILLER;
    for step in script.split(|&byte| byte == b'|').take(STEPS) {
        let Some((&letter, rest)) = step.split_first() else { continue };
        play(&mut world, letter, rest, &mut filler);
    }
    world.so_far().judge();
}

fn settings(bits: u8) -> Settings {
    let mut settings = Settings::default();
    if bits & 8 != 0 {
        settings.forwarded = Forwarded::Off;
    }
    if bits & 16 != 0 {
        settings.request = Limits { head: 1024, fields: 8, target: 64 };
        settings.response = Limits { head: 1024, fields: 8, target: 0 };
        settings.max_body = 1000;
    }
    if bits & 32 != 0 {
        settings.retries = 0;
    }
    settings
}

fn play(world: &mut World, letter: u8, rest: &[u8], filler: &mut usize) {
    match letter {
        b'c' => send(world, rest),
        b's' => say(world, rest),
        b'C' | b'S' => {
            for byte in rest {
                match letter {
                    b'C' => send(world, &[*byte]),
                    _ => say(world, &[*byte]),
                }
                judged(world.happen());
            }
            return;
        }
        b'f' | b'F' => {
            let n = number(rest).min(FILLER).min(*filler);
            *filler -= n;
            let bytes = vec![b'x'; n];
            if letter == b'f' { send(world, &bytes) } else { say(world, &bytes) }
        }
        b'e' => world.client.coming = Side::Ended,
        b'r' => world.client.reset(),
        b'w' => world.client.credit = Some(number(rest)),
        b'W' => world.client.credit = None,
        b'M' => world.client.fails = true,
        b'E' => server(world, |link| link.coming = Side::Ended),
        b'R' => server(world, |link| link.reset()),
        b'v' => server(world, |link| link.credit = Some(number(rest))),
        b'V' => server(world, |link| link.credit = None),
        b'N' => server(world, |link| link.fails = true),
        b'm' => world.dials = Dials::Wait,
        b'a' => world.dials = Dials::Succeed,
        b'o' => world.dialed(Ok(())),
        b'x' => world.dialed(Err(DialError::Refused)),
        b'X' => world.next_dial = Some(DialError::NoSocket),
        b'Y' => world.next_dial = Some(DialError::Refused),
        b'i' => world.end_idle(Side::Ended, true),
        b'I' => world.end_idle(Side::Ended, false),
        b'J' => world.end_idle(Side::Broken, false),
        b't' => pass(world, number(rest) as u64 * 1000),
        b'T' | b'U' => {
            let left = world.deadline().saturating_sub(world.now.mono);
            pass(world, left.saturating_sub(u64::from(letter == b'U')));
        }
        b'q' => world.drain = Drain::Finish,
        b'Q' => world.drain = Drain::Now,
        _ => return,
    }
    judged(world.happen());
}

/// Nobody speaks after the end.
fn send(world: &mut World, bytes: &[u8]) {
    if world.client.coming == Side::Open {
        world.client.inbox.extend(bytes);
    }
}

fn say(world: &mut World, bytes: &[u8]) {
    server(world, |link| {
        if link.coming == Side::Open {
            link.inbox.extend(bytes);
        }
    });
}

fn server(world: &mut World, does: impl FnOnce(&mut super::world::Link)) {
    if let Some(link) = world.server() {
        does(link);
    }
}

fn pass(world: &mut World, micros: u64) {
    // A day at most: what is older than any timeout is old enough.
    let micros = micros.min(86_400_000_000);
    world.now.mono += micros;
    world.now.unix += micros;
}

fn number(digits: &[u8]) -> usize {
    digits.iter().take(9).filter(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'))
}

fn judged(story: Option<Story>) {
    if let Some(story) = story {
        story.judge();
    }
}
