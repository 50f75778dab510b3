//! The PROXY protocol: a verdict stays whatever bytes follow, and what was read is read again from what is written of it.

use super::show;
use pilb::base::Peer;
use pilb::proxy::limits::preface::{self, LONGEST_BLOCK};
use pilb::proxy::limits::{PrefaceFault, Source, Version};

type Verdict = Result<Option<(usize, Source)>, PrefaceFault>;

/// `data`: the first bytes of a connection.
pub fn run(data: &[u8]) {
    let mut settled: Option<(usize, Verdict)> = None;
    for cut in 0..=data.len() {
        let verdict = preface::read(&data[..cut]);
        if let Some((before, known)) = settled {
            assert_eq!(known, verdict, "after {before} and {cut} bytes of {}", show(data));
        } else if verdict != Ok(None) {
            settled = Some((cut, verdict));
        }
    }
    let Some((cut, verdict)) = settled else {
        assert!(data.len() < LONGEST_BLOCK, "still undecided: {}", show(data));
        return;
    };
    match verdict {
        Ok(Some((len, source))) => {
            assert_eq!(len, cut, "decided where it ends: {}", show(data));
            written(source);
        }
        Ok(None) => {}
        Err(fault) => assert!(!fault.word().is_empty()),
    }
}

fn written(source: Source) {
    let (peer, local) = match source {
        Source::Client(addr) => (Peer::Ip(addr), Some(addr)),
        Source::Local | Source::Unix => (Peer::Unix, None),
    };
    for (version, local) in [(Version::One, None), (Version::One, local), (Version::Two, None), (Version::Two, local)] {
        let mut out = Vec::new();
        preface::write(&mut out, version, peer, local);
        let (len, again) = match preface::read(&out) {
            Ok(Some(read)) => read,
            other => panic!("{other:?} of {}", show(&out)),
        };
        assert_eq!(len, out.len(), "{}", show(&out));
        // An IPv4 address in IPv6's clothes is written as what it is.
        let told = match again {
            Source::Client(addr) => Peer::Ip(addr),
            Source::Local | Source::Unix => Peer::Unix,
        };
        assert_eq!(told.to_string(), peer.to_string(), "{}", show(&out));
    }
}
