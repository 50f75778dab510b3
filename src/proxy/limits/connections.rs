//! How many connections each client has open: a table that all workers share.
//!
//! A word is a client's tag (40 bits) and its count (24 bits). A count of 0 says nothing, so its place is free: nobody is ever pushed out.
//! If all places of a set are taken, by clients with open connections, a newcomer is let in *uncounted*: an honest client is never
//! refused because of others. Of 20,000 clients at once in a table for 65,536 that happens to one in 1,900; of as many as it
//! has places, to one in 7. (An attacker cannot aim at a set, and one who has so many addresses is not stopped by counts per address.)
//!
//! Never more than the limit are admitted and counted, whatever the workers do at the same moment: who adds one looks again
//! afterwards, and goes back if there are too many. All writes of the table have one order (`SeqCst`); of those whose connections are
//! open at some moment, the one who wrote last saw all the others when it looked again.

use super::client::{Client, Set, Spot, Table};
use std::sync::atomic::Ordering::SeqCst;

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const TAG_BITS: u32 = 64 - COUNT_BITS;
/// How often others may be faster before a newcomer goes uncounted. They would have to be 64 times, within some 100 ns each.
const TRIES: usize = 64;

/// The proof that a connection was counted, to be given back when it is over. Empty for one that was not.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "a connection that is not given back is counted for ever"]
pub struct Ticket(Option<std::num::NonZeroU32>);

impl Ticket {
    /// The place's number, from 1.
    fn of(spot: &Spot, place: usize) -> Ticket {
        let number = spot.set * super::client::PLACES + place + 1;
        Ticket(u32::try_from(number).ok().and_then(std::num::NonZeroU32::new))
    }

    /// Was the connection counted?
    pub fn counts(&self) -> bool {
        self.0.is_some()
    }
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// It may stay. The ticket is empty if there was no room to count it.
    Entered(Ticket),
    /// The client has as many as it may.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub struct Connections {
    table: Table,
}

impl Connections {
    /// A table with places for so many clients, 8 bytes each. `seed` is a secret.
    pub fn new(clients: usize, seed: u64) -> Connections {
        Connections { table: Table::new(clients, seed, TAG_BITS) }
    }

    /// One more connection of a client, which may have at most `most`.
    pub fn enter(&self, client: Client, most: u32) -> Entry {
        let spot = self.table.spot(client);
        for _ in 0..TRIES {
            let seen = look(self.table.set(&spot), spot.tag);
            if let Some(entry) = self.enter_as_seen(&spot, &seen, u64::from(most).min(COUNT)) {
                return entry;
            }
        }
        Entry::Entered(Ticket::default())
    }

    /// Enters a set that looked so a moment ago. None if its place has changed since: look again.
    fn enter_as_seen(&self, spot: &Spot, seen: &Look, most: u64) -> Option<Entry> {
        if seen.count >= most {
            return Some(Entry::Refused);
        }
        let (place, before, after) = match (seen.first, seen.free) {
            (Some((place, word)), _) => (place, word, word + 1),
            (None, Some(place)) => (place, 0, spot.tag << COUNT_BITS | 1),
            (None, None) => return Some(Entry::Entered(Ticket::default())),
        };
        let set = self.table.set(spot);
        set.0[place].compare_exchange(before, after, SeqCst, SeqCst).ok()?;
        let mut ticket = Ticket::of(spot, place);
        if look(set, spot.tag).count <= most {
            return Some(Entry::Entered(ticket));
        }
        self.leave(&mut ticket);
        Some(Entry::Refused)
    }

    /// The connection is over. Empties the ticket, so that doing it twice does no harm.
    pub fn leave(&self, ticket: &mut Ticket) {
        let Some(number) = ticket.0.take() else { return };
        let Some(place) = self.table.place(number.get() - 1) else { return };
        // As long as its count is not 0 a place keeps its client, so this is still the one that entered.
        let left = place.fetch_update(SeqCst, SeqCst, |word| match word & COUNT {
            0 => None,
            1 => Some(0),
            _ => Some(word - 1),
        });
        debug_assert!(left.is_ok(), "left what it did not enter");
    }

    /// How many connections of a client are counted now.
    pub fn of(&self, client: Client) -> u64 {
        let spot = self.table.spot(client);
        look(self.table.set(&spot), spot.tag).count
    }

    /// How many clients have counted connections. Reads the whole table.
    pub fn clients(&self) -> usize {
        self.table.taken()
    }

    pub fn places(&self) -> usize {
        self.table.places()
    }
}

/// What a set knows of a client.
struct Look {
    /// All connections. Two workers that let in its first ones at the same moment may have taken two places.
    count: u64,
    first: Option<(usize, u64)>,
    free: Option<usize>,
}

fn look(set: &Set, tag: u64) -> Look {
    let mut look = Look { count: 0, first: None, free: None };
    for (place, word) in set.0.iter().enumerate() {
        let word = word.load(SeqCst);
        if word == 0 {
            look.free = look.free.or(Some(place));
        } else if word >> COUNT_BITS == tag {
            look.count += word & COUNT;
            look.first = look.first.or(Some((place, word)));
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Client = Client::V4([192, 0, 2, 1]);

    #[test]
    fn who_saw_an_older_set_does_not_pass_the_limit() {
        let table = Connections::new(8, 1);
        let spot = table.table.spot(CLIENT);
        let early = look(table.table.set(&spot), spot.tag);
        let Entry::Entered(_kept) = table.enter(CLIENT, 2) else { panic!("refused") };
        assert_eq!(table.enter_as_seen(&spot, &early, 2), None, "its free place is taken");
        // One that saw another place free makes a second entry of the same client: fine, within the limit.
        let late = Look { free: Some(5), ..early };
        let Some(Entry::Entered(mut second)) = table.enter_as_seen(&spot, &late, 2) else { panic!("refused") };
        assert_eq!((table.of(CLIENT), table.clients()), (2, 2));
        let later = Look { free: Some(6), ..late };
        assert_eq!(table.enter_as_seen(&spot, &later, 2), Some(Entry::Refused));
        assert_eq!((table.of(CLIENT), table.clients()), (2, 2), "it left no trace");
        assert_eq!(table.enter(CLIENT, 2), Entry::Refused);
        table.leave(&mut second);
        assert_eq!((table.of(CLIENT), table.clients()), (1, 1));
    }
}
