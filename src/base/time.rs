//! Moments. The clock is read in `net/` once per wait and handed down as a [`Now`].

/// Microseconds: a span, or a moment counted from the start of the process.
pub type Micros = u64;

/// One second in [`Micros`].
pub const SECOND: Micros = 1_000_000;

/// The moment at which a batch of events is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, from the start of the process. Deadlines use only this one.
    pub mono: Micros,
    /// Wall clock since the Unix epoch. Dates and log lines use only this one.
    pub unix: Micros,
}
