//! Threads that may wait: for disks, for compressors. What a worker's loop must not do itself is done here.
//!
//! A pool has two kinds of threads, so that opening a file does not queue behind compressing one. Each session waits for
//! one job at a time, so the queue is about as long as there are sessions; what clients began who have left is done all the same.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// What a job mostly does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It waits for the system.
    Io,
    /// It computes.
    Work,
}

/// See the module. Clones share the threads, which end with the process.
#[derive(Clone)]
pub struct Pool {
    io: Arc<Queue>,
    work: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

impl Pool {
    /// Starts so many threads of each kind, at least one.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(io: usize, work: usize) -> io::Result<Pool> {
        let pool = Pool { io: Arc::default(), work: Arc::default() };
        for (queue, count, name) in [(&pool.io, io, "pilb-io"), (&pool.work, work, "pilb-make")] {
            for _ in 0..count.max(1) {
                let queue = queue.clone();
                thread::Builder::new().name(name.to_owned()).spawn(move || queue.serve())?;
            }
        }
        Ok(pool)
    }

    /// Has a job done, some time soon.
    pub fn run(&self, kind: Kind, job: impl FnOnce() + Send + 'static) {
        let queue = if kind == Kind::Io { &self.io } else { &self.work };
        queue.jobs().push_back(Box::new(job));
        queue.more.notify_one();
    }
}

impl Queue {
    /// A job that panicked elsewhere has left the list whole.
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Job {
        let mut jobs = self.jobs();
        loop {
            if let Some(job) = jobs.pop_front() {
                return job;
            }
            jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self) {
        loop {
            // In a build that unwinds (tests) one bad job must not take the thread from the others.
            if catch_unwind(AssertUnwindSafe(self.next())).is_err() {
                log::error!("a job of the pool failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn jobs_are_done_in_order_and_the_kinds_do_not_wait_for_each_other() {
        let pool = Pool::start(1, 1).unwrap();
        let (tell, told) = channel();
        let (open, gate) = channel::<()>();
        pool.run(Kind::Work, move || gate.recv().unwrap());
        for n in 0..3 {
            let tell = tell.clone();
            pool.run(Kind::Io, move || tell.send(n).unwrap());
        }
        assert_eq!([told.recv(), told.recv(), told.recv()], [Ok(0), Ok(1), Ok(2)]);
        pool.run(Kind::Work, move || tell.send(9).unwrap());
        open.send(()).unwrap();
        assert_eq!(told.recv(), Ok(9));
    }

    #[test]
    fn a_job_that_fails_takes_nobody_with_it() {
        let pool = Pool::start(1, 1).unwrap();
        let (tell, told) = channel();
        pool.run(Kind::Io, || panic!("on purpose"));
        pool.run(Kind::Io, move || tell.send(()).unwrap());
        assert_eq!(told.recv(), Ok(()));
    }
}
