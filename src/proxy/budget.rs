//! The retry budget: how many of the requests of late may be tried a second time.
//!
//! One retry saves a request from one server's bad moment. When *all* servers are in trouble, a retry for each request doubles the load just
//! when there is least to spare, and so keeps them in trouble (a retry storm). So retries are bought with requests: within a window of ten
//! seconds, at most a share of the requests in it (a fifth: then the load grows by a fifth at the very worst). A share of few requests
//! would be none, and a quiet proxy could not save the one request that it has: so three a second are always allowed, which hurts nobody.
//! It counts for one worker; each has its own requests and so its own share.

use crate::base::Micros;
use crate::base::time::SECOND;

/// Seconds in the window, the one that runs included.
const SECONDS: usize = 10;
/// Retries within the window whatever the share says: three a second.
const LEAST: u64 = 3 * SECONDS as u64;

/// What happened within one second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    retries: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    /// The second that runs.
    now: Bucket,
    /// When it is over.
    until: Micros,
    /// The nine seconds before, as a ring; the oldest is at `oldest`.
    past: [Bucket; SECONDS - 1],
    oldest: usize,
    /// The sum of `past`.
    sum: Bucket,
}

impl Budget {
    /// Retries within `percent` of the requests, at least three a second; 0: no retries at all.
    pub fn new(percent: u32) -> Budget {
        let past = [Bucket::default(); SECONDS - 1];
        Budget {
            percent: u64::from(percent),
            now: Bucket::default(),
            until: SECOND,
            past,
            oldest: 0,
            sum: Bucket::default(),
        }
    }

    /// A request has come.
    pub fn request(&mut self, now: Micros) {
        if now >= self.until {
            self.roll(now);
        }
        self.now.requests += 1;
    }

    /// May a request be tried again? If so, that retry is spent: ask last.
    pub fn may_retry(&mut self, now: Micros) -> bool {
        if now >= self.until {
            self.roll(now);
        }
        let requests = self.sum.requests + self.now.requests;
        let spent = self.sum.retries + self.now.retries;
        let allowed = if self.percent == 0 { 0 } else { (requests * self.percent / 100).max(LEAST) };
        let may = spent < allowed;
        self.now.retries += u64::from(may);
        may
    }

    /// Begins the second in which `now` is.
    fn roll(&mut self, now: Micros) {
        let over = (now - self.until) / SECOND + 1;
        self.until += over * SECOND;
        // Those that lie further back than the window need not be put there one by one.
        for _ in 0..over.min(SECONDS as u64) {
            let ended = std::mem::take(&mut self.now);
            let gone = std::mem::replace(&mut self.past[self.oldest], ended);
            self.sum.requests = self.sum.requests + ended.requests - gone.requests;
            self.sum.retries = self.sum.retries + ended.retries - gone.retries;
            self.oldest = (self.oldest + 1) % self.past.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn spend(budget: &mut Budget, now: Micros) -> usize {
        (0..10_000).take_while(|_| budget.may_retry(now)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_of_the_last_ten_seconds_may_be_tried_again() {
        let mut budget = Budget::new(20);
        for second in 0..10 {
            (0..100).for_each(|_| budget.request(second * SECOND));
        }
        assert_eq!(spend(&mut budget, 9 * SECOND), 200);
    }

    #[test]
    fn thirty_within_ten_seconds_are_allowed_to_the_quietest() {
        let mut budget = Budget::new(20);
        budget.request(0);
        assert_eq!(spend(&mut budget, 5 * SECOND), 30);
        assert_eq!(spend(&mut budget, 14 * SECOND), 0, "they were spent in the window");
        assert_eq!(spend(&mut budget, 15 * SECOND), 30);
    }

    #[test]
    fn no_percent_is_no_retry_at_all() {
        let mut budget = Budget::new(0);
        (0..1000).for_each(|_| budget.request(0));
        assert_eq!(spend(&mut budget, 0), 0);
    }

    #[test]
    fn a_pause_of_any_length_forgets() {
        let mut budget = Budget::new(20);
        (0..10_000).for_each(|_| budget.request(0));
        assert_eq!(spend(&mut budget.clone(), 1_000_000 * SECOND), 30);
        assert_eq!(spend(&mut budget, 9 * SECOND), 2000, "but not within the window");
    }

    #[test]
    fn when_all_servers_fail_the_load_grows_by_a_fifth() {
        let (mut budget, mut sent) = (Budget::new(20), 0u32);
        for request in 0..60_000u64 {
            let now = request * SECOND / 1000;
            budget.request(now);
            sent += 1 + u32::from(budget.may_retry(now));
        }
        assert!((60_000..=72_000).contains(&sent), "{sent}");
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_counting_one_by_one(
            percent in 0..=100u32,
            steps in prop::collection::vec((0..2 * SECOND, 0..200usize, 0..80usize), 0..60),
        ) {
            let (mut budget, mut now) = (Budget::new(percent), 0);
            let (mut requests, mut retries) = (VecDeque::new(), VecDeque::new());
            for (span, asked, tried) in steps {
                now += span;
                (0..asked).for_each(|_| budget.request(now));
                requests.extend(std::iter::repeat_n(now / SECOND, asked));
                for list in [&mut requests, &mut retries] {
                    list.retain(|second| second + SECONDS as u64 > now / SECOND);
                }
                for _ in 0..tried {
                    let allowed = (requests.len() * percent as usize / 100).max(if percent == 0 { 0 } else { 30 });
                    let may = retries.len() < allowed;
                    prop_assert_eq!(budget.may_retry(now), may);
                    retries.extend(may.then_some(now / SECOND));
                }
            }
        }
    }
}
