//! Who stays and who goes.

use super::{bytes, memory, name};
use crate::cache::word::State;
use crate::cache::{Found, Index, Name, Writer};

/// Objects of 64 bytes in an index for a thousand.
struct Desk<'m> {
    index: Index<'m>,
    w: Writer,
    gone: Vec<Name>,
}

impl Desk<'_> {
    fn insert(&mut self, n: u64) {
        self.index.insert(&mut self.w, name(n), Found { made: 5, size: 64 }, u64::MAX, &mut self.gone);
    }

    fn has(&self, n: u64) -> bool {
        self.index.find(name(n), 5).is_some()
    }

    fn in_main(&self, n: u64) -> bool {
        self.index.object(name(n)).is_some_and(|(_, word)| word.state() == State::Main)
    }
}

fn desk(memory: &mut [u64]) -> Desk<'_> {
    let index = Index::create(bytes(memory), 1000, 7).unwrap();
    Desk { index, w: Writer::default(), gone: Vec::new() }
}

#[test]
fn a_scan_washes_away_only_what_was_of_no_use() {
    let mut memory = memory(1000);
    let mut desk = desk(&mut memory);
    (0..800).for_each(|n| desk.insert(n));
    (0..800).for_each(|n| desk.index.touch(name(n)));
    (1000..21_000).for_each(|n| desk.insert(n));
    let stayed = (0..800).filter(|&n| desk.has(n)).count();
    assert!(stayed > 780, "{stayed}");
    // The last of the scan are there as well.
    assert!((20_950..21_000).all(|n| desk.has(n)));
}

#[test]
fn who_comes_back_soon_stays_and_who_comes_back_late_is_new() {
    let mut memory = memory(1000);
    let mut desk = desk(&mut memory);
    (0..1100).for_each(|n| desk.insert(n));
    let early = (0..1000).find(|&n| !desk.has(n)).unwrap();
    assert!(desk.gone.contains(&name(early)));
    desk.insert(early);
    assert!(desk.in_main(early), "a ghost was known");
    let late = (0..1000).find(|&n| !desk.has(n)).unwrap();
    (2000..10_000).for_each(|n| desk.insert(n));
    desk.insert(late);
    assert!(desk.has(late) && !desk.in_main(late), "the ghost was forgotten");
}

#[test]
fn nobody_waits_for_an_index_in_which_all_are_of_use() {
    let mut memory = memory(1000);
    let mut desk = desk(&mut memory);
    for n in 0..2000 {
        desk.insert(n);
        assert!(desk.has(n));
        // Everybody is of use all the time.
        (n.saturating_sub(1200)..=n).for_each(|n| desk.index.touch(name(n)));
    }
    assert!(desk.index.objects() >= 990);
}

#[test]
fn holes_in_the_main_ring_are_closed_before_they_cost_an_object() {
    let mut memory = memory(1000);
    let mut desk = desk(&mut memory);
    (0..900).for_each(|n| desk.insert(n));
    let waiting = desk.index.small.len();
    let held = |desk: &Desk<'_>| (0..900 - waiting).filter(|&n| desk.has(n)).count();
    let before = held(&desk);
    for n in 900..5000 {
        // The ring of the small queue is full: the oldest there goes on to the main queue, and somebody removes it.
        desk.insert(n);
        desk.index.remove(name(n - waiting));
    }
    assert!(before > 600 && held(&desk) + 20 > before, "of {before} there are {}", held(&desk));
    assert_eq!(desk.index.names().count() as u64, desk.index.objects());
}
