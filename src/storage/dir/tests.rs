//! Who waits for what, and is woken by whom.

use super::*;
use crate::origin::coding::Coding;
use crate::storage::root::Root;
use crate::storage::{Options, Pool};
use rustix::fs::{MemfdFlags, memfd_create};
use std::io::Write;

#[test]
fn what_several_sessions_of_a_worker_ask_for_at_once_is_made_for_the_first_one() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("a.txt"), "text ".repeat(1_000)).unwrap();
    let root = Root::open(folder.path()).unwrap();
    let site = Site::of(root, Options::default(), None, Pool::start(1, 1).unwrap());
    let source = site.source(b"a.txt".to_vec()).unwrap().unwrap();
    let made = crate::storage::make::coded(&site, source, Coding::Gzip).unwrap();
    let mut store = DirStore::new(site, 16, || ());
    let sessions = [1, 2, 3].map(|slot| SessionId { slot, generation: 0 });
    store.waiting.insert(7, sessions.to_vec());
    store.tickets.extend(sessions[1..].iter().map(|session| (*session, Ticket::Waits)));
    let mut woken = Vec::new();
    store.loaded(b"key", 7, &Ok(Loading::Loaded(Arc::new(made))), &mut woken);
    let joined = woken.iter().map(|session| match store.tickets.remove(session) {
        Some(Ticket::Found(Ok(Loading::Loaded(loaded)))) => match loaded.facts.cached {
            Cached::Made { joined, .. } => joined,
            other => panic!("{other:?}"),
        },
        _ => panic!("nothing was found"),
    });
    assert_eq!(joined.collect::<Vec<_>>(), [false, true], "the one that has left does not count");
    assert_eq!(woken, sessions[1..]);
}

/// A store, and what tells that there is news.
fn store() -> (DirStore, Receiver<()>) {
    let site = Site::open(std::env::temp_dir().as_path(), Options::default(), None, Pool::start(1, 1).unwrap());
    let (tell, told) = channel();
    (
        DirStore::new(site.unwrap(), 10, move || {
            let _ = tell.send(());
        }),
        told,
    )
}

/// A file of which nobody can say whether it is in memory, and one that certainly is.
fn files() -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    let cold = memfd_create("cold", MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&cold, &[7; 9000]).unwrap();
    let mut warm = tempfile::tempfile().unwrap();
    warm.write_all(&[7; 9000]).unwrap();
    (Arc::new(cold), Arc::new(warm.into()))
}

/// Who asks for a file in the folder of the store, and waits for it.
fn ask(store: &mut DirStore, slot: u32) {
    use crate::http1::{Limits, field::FieldSpace, request};
    let mut space = FieldSpace::new();
    let head = request::parse(
        b"GET /no%20such HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n",
        &mut space,
        &Limits::REQUEST,
    );
    let head = head.unwrap();
    let mut path = RelativePath::default();
    path.decode(b"/no%20such").unwrap();
    let accept = crate::origin::coding::Accept::of(&head.fields);
    store.key = path.as_bytes().to_vec();
    let session = SessionId { slot, generation: 1 };
    store.ask_pool(&Ask { path: &path, index: false, head: &head, accept, session, now: Now::default() });
}

#[test]
fn who_asks_after_the_look_gets_no_answer_from_before() {
    let (mut store, told) = store();
    let (open, gate) = channel::<()>();
    store.site.run(Kind::Io, move || gate.recv().unwrap());
    ask(&mut store, 1);
    ask(&mut store, 2);
    assert_eq!(store.waiting.len(), 1, "nobody has looked: one look is enough");
    store.asking.values().for_each(|asking| asking.begun.store(true, SeqCst));
    ask(&mut store, 3);
    ask(&mut store, 4);
    assert_eq!(store.waiting.len(), 2);
    open.send(()).unwrap();
    let mut woken = Vec::new();
    while woken.len() < 4 {
        told.recv_timeout(std::time::Duration::from_secs(9)).expect("all are answered");
        store.woken(&mut woken);
    }
    assert!(store.asking.is_empty() && store.waiting.is_empty());
}

#[test]
fn nobody_gets_a_whole_large_file_in_one_turn() {
    let (mut store, _told) = store();
    let (file, _) = files();
    for resident in [false, true] {
        let piece = loop {
            match store.piece(&mut Body::File { file: file.clone(), resident }, 5, 9 << 30, SessionId::default()) {
                Ok(Piece::Wait) => store.woken(&mut Vec::new()),
                piece => break piece,
            }
        };
        assert!(matches!(piece, Ok(Piece::Here(content)) if (content.at(), content.left()) == (5, WINDOW)));
    }
}

#[test]
fn a_read_that_became_needless_keeps_nobody_from_the_next_one() {
    let (mut store, told) = store();
    let (cold, warm) = files();
    let session = SessionId { slot: 1, generation: 1 };
    assert!(!is_warm(&cold, 0) && is_warm(&warm, 0));
    assert!(matches!(store.window(&cold, 0, 100, session), Piece::Wait));
    // Before that is known, somebody else has read the same bytes.
    assert!(matches!(store.window(&warm, 0, 100, session), Piece::Here(_)));
    assert!(matches!(store.window(&cold, 4096, 100, session), Piece::Wait));
    let mut woken = Vec::new();
    while woken.is_empty() {
        told.recv_timeout(std::time::Duration::from_secs(9)).expect("it is read");
        store.woken(&mut woken);
    }
    assert!(matches!(store.window(&cold, 4096, 100, session), Piece::Here(_)));
    assert!(store.tickets.is_empty(), "the next request begins anew");
}
