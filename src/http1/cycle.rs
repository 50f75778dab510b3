//! The cycle of one exchange: two halves, request and response, and what may follow when both are done.
//!
//! All transitions are in [`Half::after`]; all consequences in [`Cycle::next`]. The table that they make is printed into
//! `tests/golden/cycle.txt`.

/// How far one direction of an exchange has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Half {
    /// The head has not been seen whole.
    #[default]
    Head,
    /// The head has gone on, the body has not ended.
    Body,
    /// The message is complete.
    Done,
    /// After 101: bytes without messages.
    Tunnel,
    /// The message can never be completed.
    Broken,
}

/// What happens to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A 1xx head; the real one is still to come.
    Interim,
    /// A head that no body follows.
    BareHead,
    /// A head, and its body begins.
    HeadAndBody,
    /// The last byte of the body.
    End,
    /// 101 went through.
    Switch,
    /// A malformed byte, an early end, a timeout.
    Break,
}

impl Half {
    pub const ALL: [Half; 5] = [Half::Head, Half::Body, Half::Done, Half::Tunnel, Half::Broken];

    /// The transition table. `None`: the event cannot happen in this state.
    pub fn after(self, event: Event) -> Option<Half> {
        match (self, event) {
            (Half::Head, Event::Interim) => Some(Half::Head),
            (Half::Head, Event::BareHead) => Some(Half::Done),
            (Half::Head, Event::HeadAndBody) => Some(Half::Body),
            (Half::Body, Event::End) => Some(Half::Done),
            (Half::Head | Half::Done, Event::Switch) => Some(Half::Tunnel),
            (Half::Head | Half::Body | Half::Tunnel | Half::Broken, Event::Break) => Some(Half::Broken),
            _ => None,
        }
    }
}

impl Event {
    pub const ALL: [Event; 6] =
        [Event::Interim, Event::BareHead, Event::HeadAndBody, Event::End, Event::Switch, Event::Break];
}

/// What may be done with the two connections now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The exchange goes on.
    Wait,
    /// The response is complete, the request is not: pass the rest of it on before anything else.
    FinishRequest,
    /// Both are complete: the connections may be used again as far as each side agreed.
    Again,
    /// Bytes flow both ways.
    Tunnel,
    /// Nothing after this can be told apart any more: both connections must end.
    Close,
}

/// Both halves of the exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    pub request: Half,
    pub response: Half,
}

impl Cycle {
    /// Moves the request's half. An event that cannot happen breaks it: nothing can be trusted then.
    pub fn request(&mut self, event: Event) {
        debug_assert!(self.request.after(event).is_some(), "request {:?} {event:?}", self.request);
        self.request = self.request.after(event).unwrap_or(Half::Broken);
    }

    /// Moves the response's half.
    pub fn response(&mut self, event: Event) {
        debug_assert!(self.response.after(event).is_some(), "response {:?} {event:?}", self.response);
        self.response = self.response.after(event).unwrap_or(Half::Broken);
    }

    /// The joint rules.
    pub fn next(&self) -> Next {
        match (self.request, self.response) {
            (Half::Broken, _) | (_, Half::Broken) => Next::Close,
            (Half::Tunnel, _) | (_, Half::Tunnel) => Next::Tunnel,
            (Half::Done, Half::Done) => Next::Again,
            (Half::Body, Half::Done) => Next::FinishRequest,
            // An answer to a request that has no head is nobody's.
            (Half::Head, Half::Body | Half::Done) => Next::Close,
            (_, Half::Head | Half::Body) => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn table() -> String {
        let mut out = String::from("# state x event -> state\n");
        for half in Half::ALL {
            for event in Event::ALL {
                let after = half.after(event).map_or("-".to_owned(), |half| format!("{half:?}"));
                writeln!(out, "{:7} {:12} {after}", format!("{half:?}"), format!("{event:?}")).unwrap();
            }
        }
        out.push_str("# request x response -> next\n");
        for request in Half::ALL {
            for response in Half::ALL {
                let next = Cycle { request, response }.next();
                writeln!(out, "{:7} {:9} {next:?}", format!("{request:?}"), format!("{response:?}")).unwrap();
            }
        }
        out
    }

    #[test]
    fn the_table_is_the_golden_one() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cycle.txt");
        if std::env::var_os("PILB_BLESS").is_some() {
            std::fs::write(golden, table()).unwrap();
        }
        assert_eq!(table(), std::fs::read_to_string(golden).unwrap(), "PILB_BLESS=1 writes the table anew");
    }

    #[test]
    fn nothing_leaves_broken_or_reuses_an_unfinished_exchange() {
        for event in Event::ALL {
            assert!(matches!(Half::Broken.after(event), None | Some(Half::Broken)));
        }
        for request in Half::ALL {
            for response in Half::ALL {
                let next = Cycle { request, response }.next();
                assert_eq!(next == Next::Again, request == Half::Done && response == Half::Done);
            }
        }
    }
}
