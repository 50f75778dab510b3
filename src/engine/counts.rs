//! What is counted of exchanges and servers: plain numbers, each of which has one writer.

use crate::base::Micros;
use crate::engine::close::CloseReason;
use crate::engine::record::AccessRecord;

/// Classes of status: none was sent, 1xx to 5xx, any other.
pub const CLASSES: usize = 7;
const REASONS: usize = CloseReason::ALL.len();
/// Classes of time: up to 64 us, up to twice that, and so on to 33 s, and any longer one.
pub const SPANS: usize = 21;
const SHORTEST: Micros = 64;

/// Of all exchanges. All but `waiting` only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Exchanges by class of status and by how they ended.
    ends: [[u64; REASONS]; CLASSES],
    /// Exchanges by how long they took, from the first byte of the request to the last one of the answer, and all of that together.
    spans: [u64; SPANS],
    pub time: Micros,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Requests that were given to another server, or to the same one again.
    pub retries: u64,
    /// Client connections, and how many of those are over.
    pub opened: u64,
    pub closed: u64,
    /// Requests that wait for a server now.
    pub waiting: u64,
}

impl Default for Totals {
    fn default() -> Self {
        let (ends, spans) = ([[0; REASONS]; CLASSES], [0; SPANS]);
        let (time, bytes_up, bytes_down, retries) = (0, 0, 0, 0);
        Totals { ends, spans, time, bytes_up, bytes_down, retries, opened: 0, closed: 0, waiting: 0 }
    }
}

impl Totals {
    /// An exchange is over.
    pub fn record(&mut self, record: &AccessRecord) {
        let class = usize::from(record.status / 100).min(CLASSES - 1);
        self.ends[class][record.end as usize] += 1;
        self.spans[span(record.total)] += 1;
        self.time += record.total;
        self.bytes_up += record.bytes_up;
        self.bytes_down += record.bytes_down;
    }

    /// All exchanges that are over.
    pub fn exchanges(&self) -> u64 {
        self.ends.iter().flatten().sum()
    }

    /// Those with a status of this class: 0 for none, 1 to 5, 6 for any other.
    pub fn of_class(&self, class: usize) -> u64 {
        self.ends.get(class).map_or(0, |ends| ends.iter().sum())
    }

    /// Those that ended so.
    pub fn of_end(&self, reason: CloseReason) -> u64 {
        self.ends.iter().map(|ends| ends[reason as usize]).sum()
    }

    /// The spans, each as its longest time and how many exchanges took no longer. What is missing to all took longer than any.
    pub fn within(&self) -> impl Iterator<Item = (Micros, u64)> {
        let sums = self.spans.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        sums.take(SPANS - 1).enumerate().map(|(at, sum)| (SHORTEST << at, sum))
    }

    /// Those of another worker as well.
    pub fn add(&mut self, other: &Totals) {
        let sums: Vec<u64> = self.words().zip(other.words()).map(|(ours, theirs)| ours + theirs).collect();
        *self = Totals::read(&mut sums.into_iter());
    }

    /// All numbers, one after the other.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let few = [self.time, self.bytes_up, self.bytes_down, self.retries, self.opened, self.closed, self.waiting];
        few.into_iter().chain(self.spans).chain(self.ends.iter().flatten().copied())
    }

    /// From what [`Totals::words`] gave; what is missing is 0.
    pub fn read(words: &mut impl Iterator<Item = u64>) -> Totals {
        let mut next = || words.next().unwrap_or(0);
        let (time, bytes_up, bytes_down, retries) = (next(), next(), next(), next());
        let (opened, closed, waiting) = (next(), next(), next());
        let mut totals = Totals { time, bytes_up, bytes_down, retries, opened, closed, waiting, ..Totals::default() };
        totals.spans.iter_mut().chain(totals.ends.iter_mut().flatten()).for_each(|count| *count = next());
        totals
    }
}

/// The class of a time.
fn span(time: Micros) -> usize {
    let doublings = u64::BITS - (time.saturating_sub(1) / SHORTEST).leading_zeros();
    (doublings as usize).min(SPANS - 1)
}

/// Of one server. All but `in_flight` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTotals {
    /// Requests that it was given and that are over, well or not.
    pub requests: u64,
    /// Those that count against it.
    pub failures: u64,
    /// How often that made it be left out for a while.
    pub ejections: u64,
    /// Requests that it owes an answer to now.
    pub in_flight: u64,
}

impl ServerTotals {
    /// How many numbers there are.
    pub const WORDS: usize = 4;

    pub fn words(&self) -> [u64; Self::WORDS] {
        [self.requests, self.failures, self.ejections, self.in_flight]
    }

    pub fn read([requests, failures, ejections, in_flight]: [u64; Self::WORDS]) -> ServerTotals {
        ServerTotals { requests, failures, ejections, in_flight }
    }

    pub fn add(&mut self, other: &ServerTotals) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.ejections += other.ejections;
        self.in_flight += other.in_flight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Peer;

    #[test]
    fn an_exchange_counts_by_its_status_and_by_its_end() {
        let mut totals = Totals::default();
        let mut record = AccessRecord::new(0, Peer::Unix);
        for (status, end) in [
            (200, CloseReason::Done),
            (204, CloseReason::Done),
            (502, CloseReason::BadResponse),
            (0, CloseReason::ClientReset),
            (999, CloseReason::Done),
        ] {
            (record.status, record.end, record.bytes_up, record.bytes_down) = (status, end, 1, 10);
            totals.record(&record);
        }
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|class| totals.of_class(class)), [1, 0, 2, 0, 0, 1, 1, 0]);
        assert_eq!((totals.of_end(CloseReason::Done), totals.of_end(CloseReason::ClientReset)), (3, 1));
        assert_eq!((totals.exchanges(), totals.bytes_up, totals.bytes_down), (5, 5, 50));
    }

    #[test]
    fn an_exchange_counts_by_its_time() {
        let mut totals = Totals::default();
        let mut record = AccessRecord::new(0, Peer::Unix);
        for time in [0, 64, 65, 128, 129, 33_554_432, 33_554_433, u64::MAX / 2] {
            record.total = time;
            totals.record(&record);
        }
        let within: Vec<_> = totals.within().collect();
        assert_eq!(within[..3], [(64, 2), (128, 4), (256, 5)]);
        assert_eq!((within.len(), within.last()), (SPANS - 1, Some(&(33_554_432, 6))));
        assert_eq!(totals.exchanges(), 8);
    }

    #[test]
    fn numbers_come_back_as_they_were_and_add_up() {
        let mut totals = Totals { bytes_up: 1, retries: 3, opened: 5, waiting: 7, ..Totals::default() };
        totals.ends[2][0] = 9;
        totals.ends[CLASSES - 1][REASONS - 1] = 11;
        (totals.time, totals.spans[SPANS - 1]) = (13, 15);
        assert_eq!(Totals::read(&mut totals.words()), totals);
        let mut twice = totals.clone();
        twice.add(&totals);
        assert_eq!((twice.exchanges(), twice.opened, twice.bytes_up), (40, 10, 2));
        let mut server = ServerTotals { requests: 1, failures: 2, ejections: 3, in_flight: 4 };
        assert_eq!(ServerTotals::read(server.words()), server);
        server.add(&server.clone());
        assert_eq!(server.words(), [2, 4, 6, 8]);
    }
}
