//! Which core each worker stays on. With a worker for every core, a thread that the scheduler moves only leaves its caches behind.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::thread;

/// A core by the system's number.
pub(super) type Core = usize;

/// The cores that this process may use; none if that cannot be found out.
pub(super) fn allowed() -> Vec<Core> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// The core of each worker, if there is exactly one for each. With fewer workers the scheduler chooses better: it knows what else runs.
pub(super) fn one_each(allowed: &[Core], workers: usize) -> Vec<Core> {
    if workers > 1 && workers == allowed.len() { allowed.to_vec() } else { Vec::new() }
}

/// Keeps this thread on the core. It serves as well where that is refused.
pub(super) fn stay_on(core: Core) {
    let mut only = CpuSet::new();
    only.set(core);
    let (thread, result) = (thread::current(), sched_setaffinity(None, &only));
    let name = thread.name().unwrap_or("a worker");
    match result {
        Ok(()) => log::debug!("{name}: stays on core {core}"),
        Err(error) => log::debug!("{name}: not kept on core {core} ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_gets_a_core_only_if_there_are_as_many() {
        assert_eq!(one_each(&[0, 1, 2, 3], 4), [0, 1, 2, 3]);
        assert_eq!(one_each(&[2, 5], 2), [2, 5]);
        for (cores, workers) in [(&[0, 1, 2, 3][..], 3), (&[0, 1], 3), (&[0], 1), (&[], 2)] {
            assert!(one_each(cores, workers).is_empty(), "{workers} workers on {cores:?}");
        }
    }

    #[test]
    fn a_thread_stays_where_it_is_told_to() {
        let last = *allowed().last().unwrap();
        let stayed = thread::spawn(move || {
            stay_on(last);
            allowed()
        });
        assert_eq!(stayed.join().unwrap(), [last]);
        // A core that there is none: refused, and nothing has changed.
        let before = allowed();
        stay_on(CpuSet::MAX_CPU - 1);
        assert_eq!(allowed(), before);
    }
}
