//! The worker's stock of buffers, last in first out, so that a busy worker touches the same warm memory again and again.

/// Buffers of one size. A burst's surplus goes back to the allocator instead of staying here for good.
#[derive(Debug)]
pub struct BufferPool {
    free: Vec<Box<[u8]>>,
    size: usize,
    keep: usize,
    /// Buffers that are out now, and the most that were since the last burst was over.
    lent: usize,
    most: usize,
}

impl BufferPool {
    /// Hands out buffers of `size` bytes and keeps at most `keep` unused ones.
    pub fn new(size: usize, keep: usize) -> Self {
        BufferPool { free: Vec::with_capacity(keep), size, keep, lent: 0, most: 0 }
    }

    /// Bytes in each buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A buffer with arbitrary content.
    pub fn take(&mut self) -> Box<[u8]> {
        self.lent += 1;
        self.most = self.most.max(self.lent);
        self.free.pop().unwrap_or_else(|| vec![0; self.size].into_boxed_slice())
    }

    /// Takes a buffer back. One of another size (a widened one) is freed.
    pub fn give(&mut self, buffer: Box<[u8]>) {
        self.lent = self.lent.saturating_sub(1);
        if buffer.len() == self.size && self.free.len() < self.keep {
            self.free.push(buffer);
        }
    }

    /// Many more buffers were out than are now: what was freed should go back to the system. Says so once.
    pub fn burst_is_over(&mut self) -> bool {
        let over = self.had_burst() && self.lent < self.most / 4;
        if over {
            self.most = self.lent;
        }
        over
    }

    /// There was a burst of which no end was told yet.
    pub fn had_burst(&self) -> bool {
        self.most > 2 * self.keep
    }

    /// How many unused buffers are kept now.
    pub fn spare(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_given_is_the_first_one_taken_and_surplus_is_freed() {
        let mut pool = BufferPool::new(64, 1);
        let (mut a, b) = (pool.take(), pool.take());
        a[0] = 7;
        pool.give(a);
        pool.give(b);
        assert_eq!(pool.spare(), 1);
        assert_eq!(pool.take()[0], 7);
        pool.give(vec![0; 128].into_boxed_slice());
        assert_eq!(pool.spare(), 0);
    }

    #[test]
    fn the_end_of_a_burst_is_told_once() {
        let mut pool = BufferPool::new(64, 1);
        let lent: Vec<_> = (0..8).map(|_| pool.take()).collect();
        assert!(pool.had_burst() && !pool.burst_is_over());
        lent.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.burst_is_over());
        assert!(!pool.burst_is_over() && !pool.had_burst());
    }
}
