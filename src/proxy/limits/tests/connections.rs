//! The table of connections, beside a map that counts.

use super::client;
use crate::proxy::limits::{Connections, Entry, Ticket};
use proptest::prelude::*;
use std::collections::HashMap;

fn entered(entry: Entry) -> Ticket {
    match entry {
        Entry::Entered(ticket) => ticket,
        Entry::Refused => panic!("refused"),
    }
}

#[test]
fn each_client_has_its_own_count() {
    let table = Connections::new(1000, 1);
    let mut tickets = [(); 3].map(|()| entered(table.enter(client(1), 3)));
    assert_eq!(table.enter(client(1), 3), Entry::Refused);
    let _other = entered(table.enter(client(2), 3));
    assert_eq!((table.of(client(1)), table.of(client(2)), table.clients()), (3, 1, 2));
    table.leave(&mut tickets[1]);
    table.leave(&mut tickets[1]);
    assert_eq!(table.of(client(1)), 2);
    tickets[1] = entered(table.enter(client(1), 3));
    tickets.iter_mut().for_each(|ticket| table.leave(ticket));
    assert_eq!((table.of(client(1)), table.clients()), (0, 1));
}

#[test]
fn a_limit_that_became_lower_lets_nobody_in_until_enough_have_left() {
    let table = Connections::new(8, 1);
    let mut tickets = [(); 5].map(|()| entered(table.enter(client(1), 9)));
    for ticket in &mut tickets[..3] {
        assert_eq!(table.enter(client(1), 2), Entry::Refused);
        table.leave(ticket);
    }
    assert_eq!(table.enter(client(1), 2), Entry::Refused);
    table.leave(&mut tickets[3]);
    assert!(entered(table.enter(client(1), 2)).counts());
    assert_eq!(table.enter(client(2), 0), Entry::Refused);
}

#[test]
fn who_finds_the_set_full_comes_in_uncounted_and_takes_nothing_when_it_leaves() {
    let table = Connections::new(8, 1);
    let mut counted: Vec<_> = (0..8).map(|n| entered(table.enter(client(n), 1))).collect();
    assert!(counted.iter().all(Ticket::counts));
    let mut guests: Vec<_> = (0..5).map(|_| entered(table.enter(client(99), 1))).collect();
    assert!(guests.iter().all(|ticket| !ticket.counts()) && table.of(client(99)) == 0);
    guests.iter_mut().for_each(|ticket| table.leave(ticket));
    assert!((0..8).all(|n| table.of(client(n)) == 1));
    table.leave(&mut counted[3]);
    assert!(entered(table.enter(client(99), 1)).counts());
}

#[test]
fn few_are_uncounted_in_a_table_of_twice_the_size() {
    let table = Connections::new(65_536, 1);
    let counted = (0..30_000).filter(|n| entered(table.enter(client(*n), 1)).counts()).count();
    assert!(counted > 29_500, "{counted} of 30,000");
}

proptest! {
    #[test]
    fn the_table_counts_as_a_map_does(
        places in 1..30usize,
        most in 0..5u32,
        steps in proptest::collection::vec((0..20u32, any::<Option<prop::sample::Index>>()), 0..300),
    ) {
        let table = Connections::new(places, 7);
        let mut model: HashMap<u32, u32> = HashMap::new();
        let mut open: Vec<(u32, Ticket)> = Vec::new();
        for (n, leaves) in steps {
            if let Some(at) = leaves.filter(|_| !open.is_empty()) {
                let (n, mut ticket) = open.swap_remove(at.index(open.len()));
                *model.get_mut(&n).unwrap() -= u32::from(ticket.counts());
                table.leave(&mut ticket);
            } else {
                let count = model.entry(n).or_default();
                match table.enter(client(n), most) {
                    Entry::Refused => prop_assert!(*count >= most),
                    Entry::Entered(ticket) => {
                        prop_assert!(*count < most);
                        // Only a newcomer may go uncounted, and only where a set can be full.
                        prop_assert!(ticket.counts() || (*count == 0 && model.values().filter(|n| **n > 0).count() >= 8));
                        *model.entry(n).or_default() += u32::from(ticket.counts());
                        open.push((n, ticket));
                    }
                }
            }
            for n in 0..20 {
                prop_assert_eq!(table.of(client(n)), u64::from(model.get(&n).copied().unwrap_or(0)));
            }
            prop_assert_eq!(table.clients(), model.values().filter(|n| **n > 0).count());
        }
    }
}
