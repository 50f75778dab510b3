//! The ring between a worker and the writer. The worker copies a record in and goes on; it never waits and never makes a syscall.

use crate::engine::record::{AccessLog, AccessRecord};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Records that a worker's ring holds, 3.3 MB of them. The writer comes by before a busy worker can fill it (see `writer::pace`).
pub const RECORDS: usize = 4096;

/// What a worker has counted. Written by it alone, on a cache line of its own (two, for processors that fetch pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    /// Records put into the ring.
    queued: AtomicU64,
    /// Records that found the ring full.
    dropped: AtomicU64,
}

impl Counts {
    /// Records put into the ring, and records that found it full.
    pub fn read(&self) -> (u64, u64) {
        (self.queued.load(Relaxed), self.dropped.load(Relaxed))
    }
}

/// A worker's end: the [`AccessLog`] that it hands its records to.
#[derive(Debug)]
pub struct RingLog(Option<Inlet>);

#[derive(Debug)]
struct Inlet {
    records: Producer<AccessRecord>,
    counts: Arc<Counts>,
    queued: u64,
    dropped: u64,
}

impl RingLog {
    /// A log that takes everything and keeps nothing.
    pub fn off() -> Self {
        RingLog(None)
    }
}

impl AccessLog for RingLog {
    fn record(&mut self, record: &AccessRecord) {
        let Some(inlet) = &mut self.0 else { return };
        // The copy takes the unused text bytes along. Leaving them out (numbers in one ring, text in another) was measured
        // and saved nothing that could be told from noise.
        if inlet.records.push(record.clone()).is_ok() {
            inlet.queued += 1;
            inlet.counts.queued.store(inlet.queued, Relaxed);
        } else {
            inlet.dropped += 1;
            inlet.counts.dropped.store(inlet.dropped, Relaxed);
        }
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct RingOutlet {
    records: Consumer<AccessRecord>,
    counts: Arc<Counts>,
    /// Records of this round that are still to be taken.
    owed: usize,
    taken: u64,
    /// Drops that [`RingOutlet::new_drops`] has told of.
    told: u64,
}

/// A ring for `records` records, with both its ends.
pub fn ring(records: usize) -> (RingLog, RingOutlet) {
    let (producer, consumer) = RingBuffer::new(records);
    let counts = Arc::new(Counts::default());
    let inlet = Inlet { records: producer, counts: Arc::clone(&counts), queued: 0, dropped: 0 };
    (RingLog(Some(inlet)), RingOutlet { records: consumer, counts, owed: 0, taken: 0, told: 0 })
}

impl RingOutlet {
    /// Begins a round: the records that are here now are owed, those that come meanwhile are not. Returns how many they are.
    pub fn begin(&mut self) -> usize {
        self.owed = self.records.slots();
        self.owed
    }

    /// How many records there is room for.
    pub fn capacity(&self) -> usize {
        self.records.buffer().capacity()
    }

    /// Takes some of the owed records, `most` at most, oldest first. Returns how many it took.
    pub fn take(&mut self, most: usize, each: impl FnMut(&AccessRecord)) -> usize {
        let n = self.owed.min(most);
        // There are as many as were owed: only this end takes them out.
        let Ok(chunk) = self.records.read_chunk(n) else { return 0 };
        let (head, tail) = chunk.as_slices();
        head.iter().chain(tail).for_each(each);
        chunk.commit_all();
        self.owed -= n;
        self.taken += n as u64;
        n
    }

    /// How many records were dropped since this was asked last.
    pub fn new_drops(&mut self) -> u64 {
        let (_, dropped) = self.counts.read();
        let new = dropped - self.told;
        self.told = dropped;
        new
    }

    /// Records taken from the ring so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// What the worker has counted.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Peer;

    fn push(log: &mut RingLog, moments: std::ops::Range<u64>) {
        for unix in moments {
            log.record(&AccessRecord::new(unix, Peer::Unix));
        }
    }

    fn take(outlet: &mut RingOutlet, most: usize) -> Vec<u64> {
        let mut moments = Vec::new();
        let n = outlet.take(most, |record| moments.push(record.unix));
        assert_eq!(n, moments.len());
        moments
    }

    #[test]
    fn records_come_out_in_order_also_around_the_rings_end() {
        let (mut log, mut outlet) = ring(4);
        push(&mut log, 0..3);
        assert_eq!(outlet.begin(), 3);
        assert_eq!(take(&mut outlet, 9), [0, 1, 2]);
        push(&mut log, 3..7);
        assert_eq!(outlet.begin(), 4);
        assert_eq!(take(&mut outlet, 3), [3, 4, 5]);
        assert_eq!(take(&mut outlet, 3), [6]);
        assert_eq!((outlet.taken(), outlet.counts().read()), (7, (7, 0)));
    }

    #[test]
    fn a_round_ends_although_records_keep_coming() {
        let (mut log, mut outlet) = ring(4);
        push(&mut log, 0..2);
        outlet.begin();
        push(&mut log, 2..4);
        assert_eq!(take(&mut outlet, 9), [0, 1]);
        assert!(take(&mut outlet, 9).is_empty());
        assert_eq!(outlet.begin(), 2);
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_it() {
        let (mut log, mut outlet) = ring(2);
        push(&mut log, 0..5);
        assert_eq!((outlet.counts().read(), outlet.new_drops(), outlet.new_drops()), ((2, 3), 3, 0));
        outlet.begin();
        assert_eq!(take(&mut outlet, 9), [0, 1]);
        push(&mut log, 5..6);
        assert_eq!((outlet.counts().read(), outlet.new_drops()), ((3, 3), 0));
        outlet.begin();
        assert_eq!(take(&mut outlet, 9), [5]);
    }

    #[test]
    fn a_log_that_is_off_takes_everything() {
        let mut log = RingLog::off();
        push(&mut log, 0..10_000);
        assert!(log.0.is_none());
    }

    #[test]
    fn the_workers_end_can_move_to_its_thread_and_its_counters_share_no_cache_line() {
        fn is_send<T: Send>() {}
        is_send::<RingLog>();
        is_send::<RingOutlet>();
        assert_eq!((align_of::<Counts>(), size_of::<Counts>()), (128, 128));
    }
}
