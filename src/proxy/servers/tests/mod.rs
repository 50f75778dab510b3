//! The set of servers as a whole: probes, ejections, backups, places, and several workers that share a board.

mod drained;

use super::*;
use crate::engine::DialError;

fn server(name: &str, weight: u32, backup: bool) -> Server {
    Server { name: name.to_owned(), weight, backup }
}

fn policy(check: Check) -> Policy {
    let health = Rules { slow_start: 0, ..Rules::default() };
    Policy { health, probes: Plan { check, ..Plan::default() }, ..Policy::default() }
}

/// A worker's servers, and its chores.
struct Worker {
    servers: Servers,
    chores: Chores,
}

impl Worker {
    fn new(list: &[Server], policy: Policy) -> Worker {
        let board = Board::new(list.len()).limited(&policy, vec![Box::new(|| {})]);
        Worker::among(list, policy, Arc::new(board), true)
    }

    fn among(list: &[Server], policy: Policy, board: Arc<Board>, probes: bool) -> Worker {
        let place = Place { number: 0, probes, seed: 1 };
        Worker { servers: Servers::new(policy, list.to_vec(), board, place), chores: Chores::default() }
    }

    /// Two workers with the same two servers, and what they share. The first one probes.
    fn two(check: &Check) -> ([Worker; 2], Arc<Board>) {
        let list = ["a", "b"].map(|name| server(name, 1, false));
        let board = Arc::new(Board::new(2));
        let worker = |probes| Worker::among(&list, policy(check.clone()), board.clone(), probes);
        ([worker(true), worker(false)], board.clone())
    }

    /// The worker's chores at that second; returns which servers are to be probed.
    fn at(&mut self, second: u64) -> Vec<ServerId> {
        self.chores.now.mono = second * SECOND;
        self.servers.attend(&mut self.chores);
        self.chores.news.clear();
        let mut asked: Vec<_> = self.chores.errands.drain(..).map(|errand| errand.server).collect();
        asked.sort_unstable();
        asked
    }

    /// The server's probe ends now.
    fn probed(&mut self, server: ServerId, outcome: Outcome) {
        self.chores.news.push(News::Errand { server, outcome });
        self.servers.attend(&mut self.chores);
        self.chores.news.clear();
        self.chores.errands.clear();
    }

    fn pick(&mut self) -> Result<ServerId, Without> {
        let asked = Asked { now: self.chores.now.mono, ..Asked::default() };
        self.servers.pick(&asked, None)
    }

    fn picks(&mut self, count: usize) -> Vec<ServerId> {
        (0..count).map_while(|_| self.pick().ok()).collect()
    }

    /// So many exchanges in a row are failed by a server.
    fn fail(&mut self, server: ServerId, times: usize) {
        let now = self.chores.now.mono;
        for _ in 0..times {
            self.servers.failed(server, Fault::Connect, now, now);
        }
    }
}

fn refused() -> Outcome {
    Outcome::Failed(DialError::Refused)
}

fn connected() -> Outcome {
    Outcome::Answer { bytes: Vec::new(), side: crate::engine::Side::Open }
}

#[test]
fn all_servers_are_probed_at_once_and_one_that_is_not_there_gets_no_request() {
    let mut worker = Worker::new(&["a", "b", "c"].map(|name| server(name, 1, false)), policy(Check::Tcp));
    assert_eq!(worker.picks(3), [0, 1, 2], "up until proven otherwise");
    assert_eq!(worker.at(0), [0, 1, 2]);
    worker.probed(0, connected());
    worker.probed(1, refused());
    worker.probed(2, connected());
    assert_eq!(worker.picks(4), [0, 2, 0, 2]);
    assert_eq!(worker.at(1), [0; 0]);
    // It is asked after a fifth of the interval, as its state may change: at first because the probe failed.
    let mut asked = Vec::new();
    for second in 2..=6 {
        asked.extend(worker.at(second).into_iter().filter(|server| *server == 1));
    }
    assert_eq!(asked, [1], "down, it is asked as often as others");
    worker.probed(1, connected());
    assert_eq!(worker.picks(2), [0, 2], "one success is not enough");
    assert!(worker.at(8).contains(&1), "but asks for another one soon");
    worker.probed(1, connected());
    let mut picks = worker.picks(3);
    picks.sort_unstable();
    assert_eq!(picks, [0, 1, 2]);
}

#[test]
fn when_all_are_down_there_is_none_at_once_and_the_first_that_is_back_is_used() {
    let mut worker = Worker::new(&[server("a", 1, false), server("b", 1, false)], policy(Check::Tcp));
    worker.at(0);
    worker.probed(0, refused());
    worker.probed(1, Outcome::TimedOut);
    assert_eq!((worker.pick(), worker.servers.retry_after()), (Err(Without::Down), 5));
    worker.at(6);
    worker.probed(1, connected());
    worker.at(8);
    worker.probed(1, connected());
    assert_eq!(worker.picks(3), [1, 1, 1]);
}

#[test]
fn a_backup_serves_only_while_no_other_can() {
    let list = [server("a", 1, false), server("b", 1, false), server("spare", 1, true)];
    let mut worker = Worker::new(&list, policy(Check::Tcp));
    worker.at(0);
    assert_eq!(worker.picks(4), [0, 1, 0, 1]);
    worker.probed(0, refused());
    assert_eq!(worker.picks(2), [1, 1]);
    worker.probed(1, refused());
    assert_eq!(worker.picks(2), [2, 2]);
    worker.at(6);
    worker.probed(0, connected());
    worker.at(8);
    worker.probed(0, connected());
    assert_eq!(worker.picks(2), [0, 0]);
}

#[test]
fn five_failures_in_a_row_eject_for_ten_seconds_but_never_the_last() {
    let mut worker = Worker::new(&[server("a", 1, false), server("b", 1, false)], policy(Check::Off));
    worker.at(1);
    worker.fail(0, 4);
    worker.servers.succeeded(0, SECOND, 1, SECOND);
    worker.fail(0, 4);
    assert_eq!(worker.picks(2), [0, 1], "a success ends a row");
    worker.fail(0, 1);
    assert_eq!(worker.picks(3), [1, 1, 1]);
    worker.fail(1, 50);
    assert_eq!(worker.picks(2), [1, 1], "better a bad one than none");
    worker.at(10);
    assert_eq!(worker.picks(2), [1, 1]);
    worker.at(11);
    let mut picks = worker.picks(2);
    picks.sort_unstable();
    assert_eq!(picks, [0, 1]);
}

#[test]
fn an_ejected_server_is_taken_back_when_the_others_are_down() {
    let mut worker = Worker::new(&[server("a", 1, false), server("b", 1, false)], policy(Check::Tcp));
    worker.at(0);
    worker.fail(0, 5);
    assert_eq!(worker.picks(2), [1, 1]);
    worker.probed(1, refused());
    assert_eq!(worker.picks(2), [0, 0]);
}

#[test]
fn what_one_worker_finds_all_workers_know_with_their_next_request() {
    let ([mut prober, mut other], _) = Worker::two(&Check::Tcp);
    assert_eq!((prober.at(0), other.at(0)), (vec![0, 1], vec![]), "one asks for all");
    prober.probed(0, refused());
    assert_eq!(other.picks(2), [1, 1]);
    prober.at(6);
    prober.probed(0, connected());
    assert_eq!(other.picks(2), [1, 1]);
    prober.at(8);
    prober.probed(0, connected());
    let mut picks = other.picks(2);
    picks.sort_unstable();
    assert_eq!(picks, [0, 1]);
}

#[test]
fn what_one_worker_ejects_gets_no_requests_from_any_until_it_is_on_trial_with_all() {
    let list = ["a", "b", "c"].map(|name| server(name, 1, false));
    let board = Arc::new(Board::new(3));
    let mut one = Worker::among(&list, policy(Check::Off), board.clone(), false);
    let mut other = Worker::among(&list, policy(Check::Off), board, false);
    one.at(1);
    other.at(1);
    one.fail(0, 5);
    assert_eq!((one.picks(2), other.picks(2)), (vec![1, 2], vec![1, 2]));
    other.fail(1, 5);
    assert_eq!(other.picks(2), [1, 2], "one of three is enough, whoever ejected it");
    other.at(11);
    assert!(other.picks(3).contains(&0), "its time is over for all");
    one.at(12);
    other.at(12);
    other.fail(0, 1);
    assert!(!other.picks(3).contains(&0) && !one.picks(3).contains(&0), "on trial one failure is enough");
    one.at(31);
    assert!(!one.picks(3).contains(&0), "the second time lasts twice as long");
    one.at(32);
    assert!(one.picks(3).contains(&0));
}

#[test]
fn workers_that_meet_failures_at_the_same_time_eject_no_more_than_one_would() {
    let list = ["a", "b", "c"].map(|name| server(name, 1, false));
    let board = Arc::new(Board::new(3));
    let mut workers = [0, 1, 2].map(|_| Worker::among(&list, policy(Check::Off), board.clone(), false));
    // None picks a server in between, so none has read what the others do.
    let ejected = [0, 0, 1]
        .into_iter()
        .zip(&mut workers)
        .map(|(server, worker)| (0..5).filter(|_| worker.servers.failed(server, Fault::Answer, 0, 0)).count());
    assert_eq!(ejected.collect::<Vec<_>>(), [1, 0, 0]);
    assert!(workers.iter_mut().all(|worker| worker.picks(2) == [1, 2]));
}

#[test]
fn workers_agree_after_a_pardon_that_one_has_slept_through() {
    let ([mut one, mut other], board) = Worker::two(&Check::Off);
    one.at(1);
    other.at(1);
    one.fail(0, 5);
    assert_eq!((one.picks(2), other.picks(2)), (vec![1, 1], vec![1, 1]));
    one.at(2);
    board.drain(1, true);
    assert_eq!(one.picks(2), [0, 0], "pardoned");
    board.drain(1, false);
    one.at(3);
    one.picks(1);
    one.fail(0, 1);
    assert_eq!(one.picks(2), [1, 1], "ejected again, until 23");
    other.at(12);
    assert_eq!(other.picks(4), [1; 4]);
}

#[test]
fn the_worker_that_probes_looks_soon_at_what_another_has_ejected() {
    let ([mut prober, mut other], _) = Worker::two(&Check::Tcp);
    prober.at(0);
    prober.probed(0, connected());
    prober.probed(1, connected());
    other.at(0);
    other.fail(0, 5);
    assert_eq!((other.picks(2), prober.picks(2)), (vec![1, 1], vec![1, 1]));
    assert_eq!(prober.at(1), [0]);
    prober.probed(0, connected());
    assert!(other.picks(2).contains(&0), "only connects had failed, and one succeeds");
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    let mut slow = policy(Check::Off);
    slow.health.slow_start = 10 * SECOND;
    let mut worker = Worker::new(&[server("a", 1, false), server("b", 1, false)], slow);
    worker.at(1);
    worker.fail(0, 5);
    let share = |worker: &mut Worker| worker.picks(1000).iter().filter(|server| **server == 0).count();
    assert_eq!(share(&mut worker), 0);
    // Its ejection ends at 11 s. Weights follow in steps of a tenth of the time.
    for (second, least, most) in [(11, 80, 100), (16, 340, 370), (21, 500, 500)] {
        worker.at(second);
        assert!((least..=most).contains(&share(&mut worker)), "{second} s: {}", share(&mut worker));
    }
}

#[test]
fn a_full_server_gets_no_more_and_a_wanted_one_is_taken_if_it_may_be() {
    let mut few = policy(Check::Off);
    few.most = Some(1);
    let mut worker = Worker::new(&[server("a", 1, false), server("b", 1, false)], few);
    let asked = Asked::default();
    assert_eq!(worker.servers.pick(&asked, Some(1)), Ok(1));
    assert_eq!(worker.servers.pick(&asked, Some(1)), Ok(0), "it has enough to do");
    assert_eq!(worker.pick(), Err(Without::Room));
    worker.servers.done(1, false);
    assert_eq!((worker.pick(), worker.servers.in_flight()), (Ok(1), 2));
    worker.servers.done(1, false);
    assert_eq!(worker.servers.pick(&asked, Some(7)), Ok(1), "one that is not there");
}

#[test]
fn a_limit_holds_for_all_workers_together() {
    let mut few = policy(Check::Off);
    few.most = Some(2);
    let board = Board::new(2).limited(&few, vec![Box::new(|| {}), Box::new(|| {})]);
    let board = Arc::new(board);
    let list = [server("a", 1, false), server("b", 1, true)];
    let [mut one, mut other] = [0, 1].map(|_| Worker::among(&list, few.clone(), board.clone(), false));
    assert_eq!((one.pick(), other.pick()), (Ok(0), Ok(0)));
    assert_eq!((one.pick(), other.pick()), (Err(Without::Room), Err(Without::Room)));
    assert_eq!(
        (one.servers.stand_in(Tried::default().and(0), 0), other.servers.stand_in(Tried::default().and(0), 0)),
        (Some(1), Some(1))
    );
    assert_eq!(one.servers.stand_in(Tried::default().and(0), 0), None, "the backup is full");
    one.servers.done(0, false);
    assert_eq!((other.pick(), one.pick(), other.servers.in_flight()), (Ok(0), Err(Without::Room), 3));
}

#[test]
fn who_belongs_to_a_server_waits_for_a_connection_that_idles_in_another_worker() {
    let list = [server("a", 1, false), server("b", 1, false)];
    let policy = Policy { most: Some(1), ..policy(Check::Off) };
    let board = Board::new(2).limited(&policy, vec![Box::new(|| {}), Box::new(|| {})]);
    let board = Arc::new(board);
    let worker = |number| {
        let place = Place { number, probes: false, seed: 1 };
        let servers = Servers::new(policy.clone(), list.to_vec(), board.clone(), place);
        Worker { servers, chores: Chores::default() }
    };
    let (mut one, mut other) = (worker(0), worker(1));
    let asked = Asked::default();
    assert_eq!(one.servers.pick(&asked, Some(0)), Ok(0));
    assert_eq!(other.servers.pick(&asked, Some(0)), Ok(1), "it is busy");
    other.servers.done(1, false);
    one.servers.done(0, true);
    assert_eq!(other.servers.pick(&asked, Some(0)), Err(Without::Room), "it only idles");
    assert_eq!(other.servers.pick(&asked, None), Ok(1), "no matter for who goes anywhere");
    other.servers.done(1, false);
    let session = crate::engine::SessionId { slot: 1, generation: 1 };
    other.servers.queue().join(session);
    one.at(1);
    assert_eq!(std::mem::take(&mut one.chores.release), [0]);
    one.chores.news.push(News::IdleGone { server: 0 });
    one.at(1);
    assert_eq!(other.servers.pick(&asked, Some(0)), Ok(0));
}

#[test]
fn weights_count() {
    let mut worker = Worker::new(&[server("a", 3, false), server("b", 1, false)], policy(Check::Off));
    assert_eq!(worker.picks(8), [0, 1, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn who_drains_probes_nobody() {
    let mut worker = Worker::new(&[server("a", 1, false)], policy(Check::Tcp));
    worker.chores.drain = Drain::Finish;
    assert_eq!(worker.at(0), [0; 0]);
    assert_eq!(worker.servers.attend(&mut worker.chores), Micros::MAX);
}

#[test]
fn a_request_is_not_sent_back_to_whom_it_was_tried_on_while_there_are_others() {
    for method in [Method::RoundRobin, Method::Least, Method::TwoChoices, Method::Hash] {
        let mut few = policy(Check::Off);
        (few.method, few.most) = (method, Some(9));
        let mut worker = Worker::new(&["a", "b", "c"].map(|name| server(name, 1, false)), few);
        let except = Tried::default().and(0).and(1);
        // The third has as much to do as it may have, one less.
        (0..8).for_each(|_| assert_eq!(worker.servers.pick(&Asked::default(), Some(2)), Ok(2)));
        let asked = Asked { except, ..Asked::default() };
        assert_eq!(worker.servers.pick(&asked, None), Ok(2), "{method:?}");
        assert_eq!(worker.servers.pick(&asked, None), Err(Without::Room), "better wait for it");
        worker.servers.board.drain(2, true);
        assert!(worker.servers.pick(&asked, None).is_ok_and(|server| server != 2), "there is no other");
    }
}
