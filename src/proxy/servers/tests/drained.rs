//! Servers that somebody has taken out, and what onlookers hear of.

use super::super::*;
use Without::Down;

/// One worker with two servers and a backup. Two failures in a row eject.
fn servers(board: &Arc<Board>) -> Servers {
    let server = |name: &str, backup| Server { name: name.into(), weight: 1, backup };
    let health = Rules { failures: 2, slow_start: 0, ..Rules::default() };
    let place = Place { number: 0, probes: false, seed: 1 };
    let list = vec![server("a", false), server("b", false), server("c", true)];
    Servers::new(Policy { health, ..Policy::default() }, list, board.clone(), place)
}

/// Who gets the next four requests.
fn four(servers: &mut Servers) -> Result<Vec<ServerId>, Without> {
    (0..4).map(|_| servers.pick(&Asked { now: 5, ..Asked::default() }, Some(1))).collect()
}

fn turns(servers: &mut Servers) -> Result<Vec<ServerId>, Without> {
    (0..4).map(|_| servers.pick(&Asked { now: 5, ..Asked::default() }, None)).collect()
}

#[test]
fn who_is_drained_gets_nothing_and_backups_stand_in() {
    let board = Arc::new(Board::new(3));
    let mut servers = servers(&board);
    assert_eq!(turns(&mut servers), Ok(vec![0, 1, 0, 1]));
    board.drain(1, true);
    assert_eq!((turns(&mut servers), four(&mut servers)), (Ok(vec![0; 4]), Ok(vec![0; 4])), "sticky or not");
    board.drain(0, true);
    assert_eq!(turns(&mut servers), Ok(vec![2; 4]));
    board.drain(2, true);
    assert_eq!(turns(&mut servers), Err(Down));
    board.drain(1, false);
    assert_eq!(four(&mut servers), Ok(vec![1; 4]));
    board.drain(0, false);
    let both = turns(&mut servers).unwrap();
    assert!(both.contains(&0) && both.contains(&1) && !both.contains(&2), "{both:?}");
}

/// Better one that may fail than none, but not one that somebody works on.
#[test]
fn an_ejection_ends_when_all_others_are_drained_but_a_drain_does_not() {
    let board = Arc::new(Board::new(3));
    let mut servers = servers(&board);
    let failed = [servers.failed(0, Fault::Answer, 1, 2), servers.failed(0, Fault::Answer, 1, 2)];
    assert_eq!(failed, [false, true]);
    assert_eq!((turns(&mut servers), servers.standing(0, 5).1.ejected), (Ok(vec![1; 4]), true));
    board.drain(1, true);
    assert_eq!(turns(&mut servers), Ok(vec![2; 4]), "the backup is up");
    board.drain(2, true);
    assert_eq!((turns(&mut servers), servers.standing(0, 5).1.ejected), (Ok(vec![0; 4]), false));
    board.drain(0, true);
    assert_eq!(turns(&mut servers), Err(Down));
}

#[test]
fn who_looks_on_hears_of_changes_once() {
    let board = Arc::new(Board::new(3));
    let mut servers = servers(&board);
    assert!(servers.take_changed() && !servers.take_changed());
    assert_eq!(servers.pick(&Asked::default(), Some(1)), Ok(1));
    assert_eq!(servers.standing(1, 5), (1, Standing { share: 100, ..Standing::default() }));
    board.drain(1, true);
    assert!(!servers.take_changed());
    assert!(turns(&mut servers).is_ok() && servers.take_changed());
    assert_eq!(servers.standing(9, 5).0, 0);
}

#[test]
fn a_drained_backup_stands_in_for_nobody() {
    let list = [super::server("a", 1, false), super::server("spare", 1, true)];
    let board = Arc::new(Board::new(2));
    let mut worker = super::Worker::among(&list, super::policy(Check::Off), board.clone(), false);
    board.drain(1, true);
    assert_eq!(worker.picks(2), [0, 0]);
    assert_eq!(
        worker.servers.stand_in(Tried::default().and(0), 0),
        None,
        "the admin side has said: no requests for it"
    );
}

#[test]
fn the_last_one_that_is_not_drained_is_not_ejected() {
    let list = [super::server("a", 1, false), super::server("b", 1, false)];
    let board = Arc::new(Board::new(2));
    let mut worker = super::Worker::among(&list, super::policy(Check::Off), board.clone(), false);
    board.drain(1, true);
    assert_eq!(worker.picks(2), [0, 0]);
    let ejections = (0..40).filter(|_| worker.servers.failed(0, Fault::Answer, 0, 0)).count();
    let first = worker.servers.failed(0, Fault::Answer, 0, 0);
    board.drain(1, false);
    assert!(worker.pick().is_ok());
    let ejected = worker.servers.failed(0, Fault::Answer, 0, 0);
    let state = worker.servers.health[0].state(0);
    assert_eq!((ejections, first), (0, false), "it is the last one; with the other one back: {ejected}, {state:?}");
}
