//! What one seed's world is like: which faults happen, and how often. Most seeds have a few, some have none, some have all.

use super::random::Random;
use pilb::base::Micros;

/// Chances are per mille.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// How long bytes and connections travel, at most.
    pub latency: Micros,
    /// What arrives comes in pieces.
    pub pieces: bool,
    // ---- the kernel
    pub eagain: u32,
    pub eintr: u32,
    pub short_read: u32,
    pub short_write: u32,
    pub short_splice: u32,
    pub spurious: u32,
    /// An event comes in a later batch.
    pub late_event: u32,
    pub shuffle: bool,
    pub small_batches: bool,
    /// An event of a closed stream is told all the same.
    pub stale_event: u32,
    pub accept_error: u32,
    pub dial_error: u32,
    /// Descriptors that this process may have.
    pub descriptors: usize,
    /// Splicing is refused: never, always, or from the first pipe on.
    pub no_splice: bool,
    pub no_pipe: u32,
    /// A reset throws away what its receiver has not read.
    pub reset_eats: bool,
    /// Wait returns late by so much at most.
    pub lazy_wait: Micros,
    /// A batch takes so long at most.
    pub slow_loop: Micros,
    // ---- the world
    pub leaps: u32,
    pub wall_jumps: bool,
    /// Window of a socket, from and to.
    pub window: (u64, u64),
    pub dial_refused: u32,
    pub dial_hangs: u32,
    /// A client's connection breaks at a random byte.
    pub client_reset: u32,
    pub client_slow: u32,
    pub client_stuck: u32,
    pub client_hostile: u32,
    /// Ends its half in the midst of a request.
    pub client_ends: u32,
    pub interims: u32,
    /// Clients of HTTP/1.0, answers that close, answers that end so, clients that pipeline.
    pub old: u32,
    pub closes: u32,
    pub until_close: u32,
    pub pipelines: u32,
    pub server_reset: u32,
    pub server_slow: u32,
    pub server_stuck: u32,
    pub server_wrong: u32,
    pub server_early: u32,
    /// A server ends a connection that idles.
    pub idle_close: u32,
    pub large: u32,
    pub commands: u32,
}

impl Weather {
    /// Nothing goes wrong, bytes travel whole and fast.
    pub fn calm() -> Weather {
        Weather {
            latency: 200,
            descriptors: usize::MAX,
            window: (1 << 18, 1 << 20),
            large: 50,
            interims: 80,
            old: 80,
            closes: 100,
            until_close: 120,
            pipelines: 400,
            ..Weather::default()
        }
    }

    /// Each fault is there or not; how strong differs by seed.
    pub fn of(random: &mut Random) -> Weather {
        let storm = *random.pick(&[0u32, 120, 250, 250, 400, 700]);
        let mut some = |most: u64| if random.chance(storm) { 1 + random.skewed(most) as u32 } else { 0 };
        let mut weather = Weather {
            eagain: some(400),
            eintr: some(300),
            short_read: some(900),
            short_write: some(900),
            short_splice: some(900),
            spurious: some(300),
            late_event: some(600),
            stale_event: some(600),
            accept_error: some(500),
            dial_error: some(200),
            no_pipe: some(900),
            dial_refused: some(500),
            dial_hangs: some(300),
            client_reset: some(500),
            client_slow: some(700),
            client_stuck: some(400),
            client_hostile: some(400),
            client_ends: some(300),
            server_reset: some(400),
            server_slow: some(700),
            server_stuck: some(300),
            server_wrong: some(400),
            server_early: some(400),
            idle_close: some(900),
            commands: some(900),
            leaps: some(700),
            ..Weather::calm()
        };
        let mut on = || random.chance(storm);
        weather.pieces = on();
        weather.shuffle = on();
        weather.small_batches = on();
        weather.reset_eats = on();
        weather.wall_jumps = on();
        weather.no_splice = on() && on();
        let (few, slow, lazy, tight) = (on() && on(), on(), on(), on());
        if few {
            weather.descriptors = random.within(3, 24) as usize;
        }
        if slow {
            weather.slow_loop = random.skewed(20_000);
        }
        if lazy {
            weather.lazy_wait = random.skewed(30_000);
        }
        if tight {
            let high = *random.pick(&[8, 64, 2000, 20_000, 300_000]);
            weather.window = (1 + high / 20, high);
        }
        // Even the smallest windows let a head through in time.
        let slowest = if weather.window.1 < 1000 { 3 } else { 5 };
        weather.latency = [0, 50, 500, 5000, 40_000][random.below(slowest) as usize];
        weather.large = *random.pick(&[0, 20, 50, 150]);
        weather.theme(random);
        if weather.window.1 < 100 {
            // Slow as it is.
            weather.client_slow = 0;
        }
        weather
    }

    /// Some seeds look at one matter more closely.
    fn theme(&mut self, random: &mut Random) {
        let mut often = || 200 + random.below(600) as u32;
        match often() % 13 {
            0 => {
                // Much content, and ends in the midst of it.
                (self.large, self.client_reset, self.server_reset) = (600, often() / 2, often() / 3);
                (self.window, self.no_splice, self.no_pipe) = ((20_000, 4_000_000), false, 0);
                self.server_wrong = often() / 4;
            }
            1 => (self.stale_event, self.dial_refused, self.dial_hangs) = (900, often() / 2, often() / 3),
            2 => {
                // Answers that come before their time, and break.
                (self.server_early, self.server_reset, self.client_ends) = (often(), often() / 2, often() / 4);
                (self.large, self.old, self.until_close, self.late_event) = (often() / 2, often(), often(), often());
                (self.server_slow, self.client_slow) = (often(), often());
            }
            3 => (self.idle_close, self.latency) = (950, 5000),
            4 => (self.interims, self.server_reset) = (often(), often() / 2),
            5 => (self.server_wrong, self.server_early) = (often(), often() / 3),
            6 => (self.pipelines, self.closes) = (900, often()),
            _ => {}
        }
    }
}
