//! The worker's stock of buffers, last in first out, so that a busy worker touches the same warm memory again and again.

use crate::base::buffer::Buffer;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Heads and whatever comes in small pieces.
    Small,
    /// Content in bulk: fewer and larger reads. Their number is limited; when all are out, a small one must do.
    Large,
}

/// Buffers of two sizes. A burst's surplus goes back to the allocator instead of staying here for good.
#[derive(Debug)]
pub struct BufferPool {
    small: Shelf,
    /// Never more than it keeps are out.
    large: Shelf,
    /// Bytes of the buffers that are out, as large as they are now.
    out: usize,
    /// With so many bytes out, buffers are short.
    short: usize,
}

/// Buffers of one size.
#[derive(Debug)]
struct Shelf {
    #[expect(clippy::vec_box, reason = "a flow without a buffer should cost a word")]
    free: Vec<Box<Buffer>>,
    size: usize,
    keep: usize,
    /// Buffers that are out now, and the most that were since the last burst was over.
    lent: usize,
    most: usize,
    /// The fewest that were unused since surplus was looked for.
    spare: usize,
}

/// Unused large buffers that are kept whatever happens.
const KEEP_LARGE: usize = 4;
/// So many small buffers may be out before they are short, however little memory there is for all.
const LEAST: usize = 4;

impl BufferPool {
    /// Hands out buffers of `size` bytes and keeps at most `keep` unused ones. A large buffer is no larger than these.
    pub fn new(size: usize, keep: usize) -> Self {
        BufferPool { small: Shelf::new(size, keep), large: Shelf::new(size, 0), out: 0, short: usize::MAX }
    }

    /// The same with large buffers of `size` bytes (more than the others have), of which at most `most` are out at once.
    pub fn with_large(mut self, size: usize, most: usize) -> Self {
        if size > self.small.size {
            self.large = Shelf::new(size, most);
        }
        self
    }

    /// The same for one that has `bytes` for all its buffers. Nobody is refused a buffer: what has begun must be able to go on. But once
    /// half of them are out, nothing should begin (see [`BufferPool::is_short`]), since what runs may need as much again. A quarter is
    /// for large ones.
    pub fn within(mut self, bytes: usize) -> Self {
        self.short = (bytes / 2).max(LEAST * self.small.size);
        self.large.keep = self.large.keep.min(bytes / 4 / self.large.size);
        self
    }

    /// Is so much out that nothing should begin that would keep a buffer?
    pub fn is_short(&self) -> bool {
        self.out >= self.short
    }

    /// Bytes in a small buffer.
    pub fn size(&self) -> usize {
        self.small.size
    }

    /// An empty buffer.
    pub fn take(&mut self, size: Size) -> Box<Buffer> {
        let large = size == Size::Large && self.large.lent < self.large.keep;
        let mut buffer = if large { self.large.take() } else { self.small.take() };
        buffer.is_large = large;
        self.out += buffer.size();
        buffer
    }

    /// Puts a large buffer in the place of a small one, if there is one to have. It is empty.
    pub fn enlarge(&mut self, buffer: &mut Box<Buffer>) {
        if !buffer.is_large && self.large.lent < self.large.keep {
            let large = self.take(Size::Large);
            self.give(std::mem::replace(buffer, large));
        }
    }

    /// Takes a buffer back. One of another size (a widened or folded one) is freed.
    pub fn give(&mut self, buffer: Box<Buffer>) {
        self.out -= buffer.size();
        if buffer.is_large { self.large.give(buffer) } else { self.small.give(buffer) }
    }

    // ---- buffers that change their size while they are out

    /// Makes a buffer larger so that `bytes` unjudged ones fit (a head over the usual size).
    pub fn widen(&mut self, buffer: &mut Buffer, bytes: usize) {
        self.out -= buffer.size();
        buffer.widen(bytes);
        self.out += buffer.size();
    }

    /// Lets a buffer that may wait long for its next bytes take no more memory than those it has, if they are few. It goes on as a small one.
    pub fn fold(&mut self, buffer: &mut Buffer) {
        self.out -= buffer.size();
        buffer.fold(self.small.size);
        self.out += buffer.size();
        if buffer.is_large && buffer.is_folded() {
            buffer.is_large = false;
            self.large.lent -= 1;
            self.small.note_lent();
        }
    }

    /// Makes room for more in a folded buffer.
    #[cold]
    pub fn unfold(&mut self, buffer: &mut Buffer) {
        self.out -= buffer.size();
        buffer.unfold();
        self.out += buffer.size();
    }

    // ---- bursts

    /// Frees the large buffers that nobody has needed since this was asked last. True if many more buffers were out than are now, or
    /// some were freed here: what was freed should go back to the system. Says so once.
    pub fn burst_is_over(&mut self) -> bool {
        let small = &mut self.small;
        let over = small.had_burst() && small.lent < small.most / 4;
        if over {
            // Those that are still out will be freed, too, but for as many as are kept.
            small.most = if small.lent > small.keep { small.lent.max(2 * small.keep + 1) } else { small.lent };
        }
        self.large.free_surplus(KEEP_LARGE) | over
    }

    /// There was a burst of which no end was told yet, or there may be surplus.
    pub fn had_burst(&self) -> bool {
        self.small.had_burst() || self.large.free.len() > KEEP_LARGE
    }

    /// How many buffers of either size are out now.
    pub fn lent(&self) -> usize {
        self.small.lent + self.large.lent
    }

    /// How many unused small buffers are kept now.
    pub fn spare(&self) -> usize {
        self.small.free.len()
    }
}

impl Shelf {
    fn new(size: usize, keep: usize) -> Self {
        Shelf { free: Vec::with_capacity(keep), size, keep, lent: 0, most: 0, spare: 0 }
    }

    fn take(&mut self) -> Box<Buffer> {
        self.note_lent();
        let buffer = self.free.pop().unwrap_or_else(|| Box::new(Buffer::new(self.size)));
        self.spare = self.spare.min(self.free.len());
        buffer
    }

    fn note_lent(&mut self) {
        self.lent += 1;
        self.most = self.most.max(self.lent);
    }

    fn give(&mut self, mut buffer: Box<Buffer>) {
        debug_assert!(self.lent > 0, "a buffer came back twice");
        self.lent -= 1;
        if buffer.size() == self.size && self.free.len() < self.keep {
            buffer.reset();
            self.free.push(buffer);
        }
    }

    /// Frees those that were unused all the time since this was called last, the coldest, down to `keep`. True if there were any.
    fn free_surplus(&mut self, keep: usize) -> bool {
        let surplus = self.spare.min(self.free.len().saturating_sub(keep));
        self.free.drain(..surplus);
        self.spare = self.free.len();
        surplus > 0
    }

    fn had_burst(&self) -> bool {
        self.most > 2 * self.keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::HEADROOM;

    #[test]
    fn the_last_buffer_given_is_the_first_one_taken_and_surplus_is_freed() {
        let mut pool = BufferPool::new(64, 1);
        let (mut a, b) = (pool.take(Size::Small), pool.take(Size::Small));
        a.room();
        let first = &raw const *a;
        pool.give(a);
        pool.give(b);
        assert_eq!(pool.spare(), 1);
        let again = pool.take(Size::Small);
        assert!(std::ptr::eq(first, &raw const *again) && again.is_bare());
        let mut wide = again;
        pool.widen(&mut wide, 128);
        pool.give(wide);
        assert_eq!((pool.spare(), pool.lent(), pool.out), (0, 0, 0));
    }

    #[test]
    fn the_end_of_a_burst_is_told_once() {
        let mut pool = BufferPool::new(64, 1);
        let lent: Vec<_> = (0..8).map(|_| pool.take(Size::Small)).collect();
        assert!(pool.had_burst() && !pool.burst_is_over());
        lent.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.burst_is_over());
        assert!(!pool.burst_is_over() && !pool.had_burst());
    }

    #[test]
    fn a_burst_that_ends_slowly_is_over_once_more() {
        let mut pool = BufferPool::new(64, 4);
        let mut lent: Vec<_> = (0..40).map(|_| pool.take(Size::Small)).collect();
        lent.drain(6..).for_each(|buffer| pool.give(buffer));
        assert!(pool.burst_is_over() && pool.had_burst(), "two of six will not be kept");
        lent.drain(..).for_each(|buffer| pool.give(buffer));
        assert!(pool.burst_is_over() && !pool.had_burst());
    }

    #[test]
    fn large_ones_that_nobody_needs_are_freed() {
        let mut pool = BufferPool::new(64, 1).with_large(256, 10);
        let mut lent: Vec<_> = (0..10).map(|_| pool.take(Size::Large)).collect();
        lent.drain(..).for_each(|buffer| pool.give(buffer));
        assert!(!pool.burst_is_over(), "all ten were needed since the last look");
        let two = [pool.take(Size::Large), pool.take(Size::Large)];
        two.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.had_burst() && pool.burst_is_over());
        assert_eq!(pool.large.free.len(), KEEP_LARGE);
        assert!(!pool.had_burst() && !pool.burst_is_over());
    }

    #[test]
    fn once_half_of_them_is_out_buffers_are_short_but_folded_ones_do_not_count() {
        let mut pool = BufferPool::new(2048, 1).with_large(8192, 64).within(32 * 1024);
        assert_eq!(pool.large.keep, 1);
        let mut lent: Vec<_> = (0..8).map(|_| pool.take(Size::Small)).collect();
        assert!(pool.is_short());
        lent[0].room()[..3].copy_from_slice(b"GET");
        lent[0].filled(3);
        pool.fold(&mut lent[0]);
        assert!(!pool.is_short());
        pool.unfold(&mut lent[0]);
        assert!(pool.is_short());
        pool.fold(&mut lent[0]);
        lent.drain(..4).for_each(|buffer| pool.give(buffer));
        assert!(!pool.is_short());
        lent.push(pool.take(Size::Large));
        assert!(pool.is_short());
        lent.drain(..).for_each(|buffer| pool.give(buffer));
        assert_eq!((pool.lent(), pool.out), (0, 0));
    }

    /// `--max-head` and `--max-response-head` may be up to 1 MiB, more than a large buffer has.
    #[test]
    fn a_small_one_widened_beyond_a_large_one_comes_back_as_a_small_one() {
        let mut pool = BufferPool::new(HEADROOM + 16 * 1024, 64).with_large(HEADROOM + 144 * 1024, 64).within(4 << 20);
        for _ in 0..1000 {
            let mut buffer = pool.take(Size::Small);
            pool.widen(&mut buffer, 256 * 1024);
            pool.give(buffer);
        }
        assert_eq!((pool.lent(), pool.is_short()), (0, false), "nothing is out any more");
    }

    #[test]
    fn widened_ones_count_for_what_they_have() {
        let mut pool = BufferPool::new(HEADROOM + 4096, 64).within(256 * 1024);
        let mut lent: Vec<_> = (0..16).map(|_| pool.take(Size::Small)).collect();
        lent.iter_mut().for_each(|buffer| pool.widen(buffer, 16 * 1024));
        assert!(pool.is_short());
    }

    #[test]
    fn a_folded_widened_one_does_not_hide_others() {
        let mut pool = BufferPool::new(HEADROOM + 4096, 64).within(10 * 5120);
        let _others: Vec<_> = (0..5).map(|_| pool.take(Size::Small)).collect();
        assert!(pool.is_short());
        let mut wide = pool.take(Size::Small);
        pool.widen(&mut wide, 64 * 1024);
        wide.room()[..3].copy_from_slice(b"GET");
        wide.filled(3);
        pool.fold(&mut wide);
        assert!(pool.is_short(), "five of ten are still out");
    }

    #[test]
    fn a_folded_large_one_leaves_its_room_to_others() {
        let mut pool = BufferPool::new(2048, 1).with_large(8192, 1);
        let mut waits = pool.take(Size::Large);
        waits.room()[..1].copy_from_slice(b"G");
        waits.filled(1);
        pool.fold(&mut waits);
        assert_eq!(waits.size(), 1);
        assert_eq!(pool.take(Size::Large).size(), 8192, "one byte is all that the other one takes");
    }

    /// Found by the simulation: it was taken for a small one, so that in the end no large ones were left to hand out.
    #[test]
    fn a_large_one_that_comes_back_folded_is_still_large() {
        let mut pool = BufferPool::new(2048, 1).with_large(8192, 1);
        for _ in 0..3 {
            let mut buffer = pool.take(Size::Large);
            assert_eq!(buffer.size(), 8192);
            buffer.room()[..3].copy_from_slice(b"GET");
            buffer.filled(3);
            pool.fold(&mut buffer);
            pool.give(buffer);
            assert_eq!(pool.lent(), 0);
        }
    }

    #[test]
    fn large_ones_are_few_and_small_ones_take_their_place() {
        let mut pool = BufferPool::new(64, 1).with_large(256, 2);
        let mut lens: Vec<Box<Buffer>> = (0..3).map(|_| pool.take(Size::Large)).collect();
        assert_eq!(lens.iter().map(|buffer| buffer.size()).collect::<Vec<_>>(), [256, 256, 64]);
        let mut small = lens.pop().unwrap();
        pool.enlarge(&mut small);
        assert_eq!(small.size(), 64, "both are out");
        pool.give(lens.pop().unwrap());
        pool.enlarge(&mut small);
        assert_eq!((small.size(), pool.spare()), (256, 1));
        let mut none = BufferPool::new(64, 1);
        assert_eq!(none.take(Size::Large).size(), 64);
        none.enlarge(&mut small);
        assert_eq!(none.large.lent, 0);
    }
}
