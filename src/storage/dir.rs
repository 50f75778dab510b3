//! A worker's store: what it has at hand is answered at once; what must be opened, read, compressed or listed is given to the pool, and
//! the sessions that wait for it are woken by mail.
//!
//! Never stale: what is at hand is looked at again (its name, and the facts of the file behind it) before it is sent, once per batch of
//! events, as the clock is read once per batch.

use crate::base::{Content, Micros, Now, Source};
use crate::engine::SessionId;
use crate::origin::store::{Cached, Facts};
use crate::origin::{Ask, Opened, Piece, Purge, RelativePath, Store, StoreError, listing};
use crate::storage::cache::CacheDir;
use crate::storage::flight::{End, Flight, Listener, Look};
use crate::storage::hot::{Hot, Weigh};
use crate::storage::loaded::{Body, IN_MEMORY, Kept, Loaded, Loading};
use crate::storage::make::keys_of;
use crate::storage::pool::Kind;
use crate::storage::site::{Site, Want, at_once};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of answers that a worker has at hand.
const HOT_BYTES: usize = 64 << 20;
/// Bytes of a file given to the loop at once.
const WINDOW: u64 = 1 << 20;
/// An answer that is being made is begun to be sent when so much of it is there; before that it is worth waiting for its length.
const BEGIN: u64 = 64 * 1024;
/// How long a worker believes that there is no compressed file beside one.
const BELIEVE: Micros = 5_000_000;
/// How often an object of the cache is told that it is asked for.
const TOUCH: Micros = 1_000_000;

/// See the module.
pub struct DirStore {
    site: Arc<Site>,
    hot: Hot<AtHand>,
    mail: Arc<Mail>,
    inbox: Receiver<News>,
    tickets: HashMap<SessionId, Ticket>,
    /// The job of the pool that will answer a question.
    asking: HashMap<Box<[u8]>, Asking>,
    /// Who waits for a job, by its number.
    waiting: HashMap<u64, Vec<SessionId>>,
    /// Who waits for more of an answer being made.
    riders: HashMap<usize, Vec<SessionId>>,
    /// The key of the request at hand.
    key: Vec<u8>,
    /// Jobs given to the pool, the last one's number.
    jobs: u64,
}

/// What a session waits for, or gets when it asks again.
enum Ticket {
    Waits,
    Found(Result<Loading, StoreError>),
    /// This job reads its file from this offset on. It may have become of no use by the time it ends.
    Reads {
        job: u64,
        at: u64,
    },
    /// The bytes of its file from this offset are in memory now.
    Warm(u64),
    /// So many answers were dropped.
    Purged(u64),
}

/// A job that was given to the pool. Once it has begun to look, who asks later must not have its answer: what it saw may have changed
/// before they asked.
struct Asking {
    job: u64,
    begun: Arc<AtomicBool>,
}

/// An answer at hand, and when it was looked at.
struct AtHand {
    loaded: Arc<Loaded>,
    checked: Micros,
    loaded_at: Micros,
    touched: Micros,
}

impl Weigh for AtHand {
    fn weight(&self) -> usize {
        match (&self.loaded.body, &self.loaded.kept) {
            (Body::Memory(bytes), _) => bytes.len(),
            // Its bytes are in memory of ours.
            (Body::File { .. }, Some(_)) => self.loaded.facts.length.unwrap_or(0) as usize,
            _ => 0,
        }
    }
}

/// What a worker is told by the pool.
enum News {
    /// The answer to a question, by this job.
    Loaded(Box<[u8]>, u64, Result<Loading, StoreError>),
    /// A flight has moved: its address.
    Moved(usize),
    /// This job has read for this session.
    Warm(SessionId, u64),
    Purged(SessionId, u64),
}

/// The way to a worker.
struct Mail {
    outbox: Sender<News>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mail {
    fn send(&self, news: News) {
        // A worker that is gone needs no news.
        if self.outbox.send(news).is_ok() {
            (self.wake)();
        }
    }
}

impl Listener for Mail {
    fn moved(&self, flight: &Arc<Flight>) {
        self.send(News::Moved(Arc::as_ptr(flight).addr()));
    }

    fn worker(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl DirStore {
    /// A worker's view of a site, with so many answers at hand at most (each may hold a file open). `wake` ends the worker's wait.
    pub fn new(site: Arc<Site>, at_hand: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (outbox, inbox) = channel();
        DirStore {
            site,
            hot: Hot::new(HOT_BYTES, at_hand),
            mail: Arc::new(Mail { outbox, wake: Box::new(wake) }),
            inbox,
            tickets: HashMap::new(),
            asking: HashMap::new(),
            waiting: HashMap::new(),
            riders: HashMap::new(),
            key: Vec::new(),
            jobs: 0,
        }
    }

    /// What is asked for, from what is at hand.
    fn at_hand(&mut self, now: Now, coded: bool) -> Option<Opened<Body>> {
        self.hot.tend(now.mono);
        let hand = self.hot.get(&self.key)?;
        // A compressed file may have come to lie beside it.
        let old = coded && now.mono.saturating_sub(hand.loaded_at) >= BELIEVE && hand.loaded.facts.coding.is_none();
        let checked = hand.checked == now.mono || hand.loaded.guards.iter().all(|guard| guard.holds(&self.site.root));
        let cached = match &hand.loaded.kept {
            Some(kept) => hit(self.site.cache.as_deref(), kept).inspect(|_| {
                if now.mono.saturating_sub(hand.touched) >= TOUCH {
                    hand.touched = now.mono;
                    self.site.cache.as_ref().inspect(|cache| cache.touch(&kept.key));
                }
            }),
            None => Some(Cached::Not),
        };
        let (false, true, Some(cached)) = (old, checked, cached) else {
            self.hot.remove(&self.key);
            return None;
        };
        hand.checked = now.mono;
        let facts = Facts { cached, ..hand.loaded.facts };
        Some(Opened::File { file: hand.loaded.body.clone(), facts })
    }

    /// Gives the question to the pool, unless it is there and nobody has looked yet.
    fn ask_pool(&mut self, ask: &Ask<'_, '_, '_>) {
        self.tickets.insert(ask.session, Ticket::Waits);
        if let Some(asking) = self.asking.get(&self.key[..]).filter(|asking| !asking.begun.load(SeqCst)) {
            return self.waiting.entry(asking.job).or_default().push(ask.session);
        }
        self.jobs += 1;
        let (job, begun) = (self.jobs, Arc::<AtomicBool>::default());
        let key: Box<[u8]> = self.key[..].into();
        self.asking.insert(key.clone(), Asking { job, begun: begun.clone() });
        self.waiting.insert(job, vec![ask.session]);
        let want = Want {
            path: ask.path.clone(),
            index: ask.index,
            accept: ask.accept,
            json: listing::wants_json(&ask.head.fields),
        };
        let (site, mail) = (self.site.clone(), self.mail.clone());
        self.site.run(Kind::Io, move || {
            // Before anything is looked at, and seen so by everybody.
            begun.swap(true, SeqCst);
            mail.send(News::Loaded(key, job, site.load(&want)));
        });
    }

    /// What was found, if it can be begun to be sent.
    fn hand_out(&mut self, found: Result<Loading, StoreError>, session: SessionId) -> Result<Opened<Body>, StoreError> {
        let loaded = match found? {
            Loading::Directory => return Ok(Opened::Directory),
            Loading::Loaded(loaded) => loaded,
        };
        let (facts, body) = (loaded.facts, loaded.body.clone());
        let Body::Growing(flight) = &body else { return Ok(Opened::File { file: body, facts }) };
        flight.listen(self.mail.clone());
        // Looked at after that: what happens from now on is told.
        let (total, end) = flight.progress();
        let joined = matches!(facts.cached, Cached::Made { joined: true, .. });
        let facts = match end {
            End::Failed => return Err(StoreError::Failed),
            End::Whole { stored } => Facts { length: Some(total), cached: Cached::Made { stored, joined }, ..facts },
            End::Open if total >= BEGIN => facts,
            End::Open => {
                self.riders.entry(Arc::as_ptr(flight).addr()).or_default().push(session);
                self.tickets.insert(session, Ticket::Found(Ok(Loading::Loaded(loaded))));
                return Ok(Opened::Wait);
            }
        };
        Ok(Opened::File { file: body, facts })
    }

    fn loaded(&mut self, key: &[u8], job: u64, found: &Result<Loading, StoreError>, sessions: &mut Vec<SessionId>) {
        if self.asking.get(key).is_some_and(|asking| asking.job == job) {
            self.asking.remove(key);
        }
        let mut found = found.clone();
        for session in self.waiting.remove(&job).unwrap_or_default() {
            if let Some(ticket) = self.tickets.get_mut(&session) {
                *ticket = Ticket::Found(found.clone());
                sessions.push(session);
                // What is made is made for the first one; the others join.
                found = found.map(Loading::joined);
            }
        }
    }

    /// Keeps an answer at hand.
    fn keep(&mut self, found: &Result<Loading, StoreError>, key: &[u8], now: Micros) {
        if let Ok(Loading::Loaded(loaded)) = found
            && loaded.lasts
        {
            let hand = AtHand { loaded: loaded.clone(), checked: 0, loaded_at: now, touched: now };
            self.hot.insert(key, hand, now);
        }
    }

    /// Bytes of an open file, if they are in memory: the loop must not wait for a disk.
    fn window(&mut self, file: &Arc<OwnedFd>, offset: u64, most: u64, session: SessionId) -> Piece {
        if let Some(bytes) = short(file, offset, most) {
            self.tickets.remove(&session);
            return Content::new(Source::Memory(bytes), 0, most).map_or(Piece::End, Piece::Here);
        }
        let end = offset + most.min(WINDOW);
        let ticket = self.tickets.get(&session);
        let warm = matches!(ticket, Some(Ticket::Warm(at)) if *at == offset);
        let reads = matches!(ticket, Some(Ticket::Reads { at, .. }) if *at == offset);
        if warm || (is_warm(file, offset) && is_warm(file, end - 1)) {
            // Also where a job still reads: what it will tell must not be taken for news of other bytes.
            self.tickets.remove(&session);
            return Content::new(Source::File(file.clone()), offset, end).map_or(Piece::End, Piece::Here);
        }
        if !reads {
            self.jobs += 1;
            let job = self.jobs;
            self.tickets.insert(session, Ticket::Reads { job, at: offset });
            let (file, mail) = (file.clone(), self.mail.clone());
            self.site.run(Kind::Io, move || {
                warm_up(&file, offset, end);
                mail.send(News::Warm(session, job));
            });
        }
        Piece::Wait
    }

    /// Bytes of an answer that is being made.
    fn grown(&mut self, flight: &Arc<Flight>, offset: u64, most: u64, session: SessionId) -> Result<Piece, StoreError> {
        let look = match flight.look(offset) {
            Look::Wait => {
                flight.listen(self.mail.clone());
                flight.look(offset)
            }
            look => look,
        };
        match look {
            Look::Piece(bytes, skip) => {
                let content = Content::new(Source::Memory(bytes), skip, skip.saturating_add(most));
                Ok(content.map_or(Piece::End, Piece::Here))
            }
            Look::Wait => {
                self.riders.entry(Arc::as_ptr(flight).addr()).or_default().push(session);
                Ok(Piece::Wait)
            }
            Look::End => Ok(Piece::End),
            Look::Failed => Err(StoreError::Failed),
        }
    }
}

impl Store for DirStore {
    type File = Body;

    fn open(&mut self, ask: &Ask<'_, '_, '_>) -> Result<Opened<Body>, StoreError> {
        match self.tickets.remove(&ask.session) {
            Some(Ticket::Found(found)) => return self.hand_out(found, ask.session),
            Some(Ticket::Waits) => {
                self.tickets.insert(ask.session, Ticket::Waits);
                return Ok(Opened::Wait);
            }
            Some(Ticket::Reads { .. } | Ticket::Warm(_) | Ticket::Purged(_)) | None => {}
        }
        let json = ask.index && self.site.options.listing && listing::wants_json(&ask.head.fields);
        self.key.clear();
        self.key.push(ask.accept.code());
        // A folder without an index is listed; a file of that name that is not there is just not there.
        self.key.push(u8::from(json) | u8::from(ask.index) << 1);
        self.key.extend_from_slice(ask.path.as_bytes());
        let coded = ask.accept.order().next().is_some();
        if let Some(opened) = self.at_hand(ask.now, coded) {
            return Ok(opened);
        }
        let options = &self.site.options;
        let simple = !coded && ask.accept.identity();
        let found = at_once(&self.site.root, ask.path.as_bytes()).filter(|found| match found {
            Ok(Loading::Loaded(_)) => simple,
            Ok(Loading::Directory) => !ask.index,
            Err(StoreError::NotFound) => !(ask.index && options.listing) && options.not_found.is_none(),
            Err(_) => true,
        });
        if let Some(found) = found {
            let key = std::mem::take(&mut self.key);
            self.keep(&found, &key, ask.now.mono);
            self.key = key;
            return self.hand_out(found, ask.session);
        }
        self.ask_pool(ask);
        Ok(Opened::Wait)
    }

    fn piece(&mut self, file: &mut Body, offset: u64, most: u64, session: SessionId) -> Result<Piece, StoreError> {
        match file {
            Body::Memory(bytes) => {
                let end = offset.saturating_add(most);
                Ok(Content::new(Source::Memory(bytes.clone()), offset, end).map_or(Piece::End, Piece::Here))
            }
            Body::File { file, resident: true } => {
                // A client that takes it as fast as it is sent must not have the loop for itself until its end.
                let end = offset + most.min(WINDOW);
                Ok(Content::new(Source::File(file.clone()), offset, end).map_or(Piece::End, Piece::Here))
            }
            Body::File { file, resident: false } => Ok(self.window(file, offset, most, session)),
            Body::Growing(flight) => self.grown(&flight.clone(), offset, most, session),
        }
    }

    fn has_news(&self, session: SessionId) -> bool {
        !matches!(self.tickets.get(&session), Some(Ticket::Waits))
    }

    fn forget(&mut self, session: SessionId) {
        self.tickets.remove(&session);
    }

    fn woken(&mut self, sessions: &mut Vec<SessionId>) {
        while let Ok(news) = self.inbox.try_recv() {
            match news {
                News::Loaded(key, job, found) => {
                    self.loaded(&key, job, &found, sessions);
                    self.keep(&found, &key, self.hot.now());
                }
                News::Moved(flight) => sessions.extend(self.riders.remove(&flight).unwrap_or_default()),
                News::Warm(session, read_by) => {
                    if let Some(ticket) = self.tickets.get_mut(&session)
                        && let Ticket::Reads { job, at } = *ticket
                        && job == read_by
                    {
                        *ticket = Ticket::Warm(at);
                        sessions.push(session);
                    }
                }
                News::Purged(session, answers) => {
                    if let Some(ticket @ Ticket::Waits) = self.tickets.get_mut(&session) {
                        *ticket = Ticket::Purged(answers);
                        sessions.push(session);
                    }
                }
            }
        }
    }

    fn purge(&mut self, path: &RelativePath, session: SessionId) -> Purge {
        let Some(cache) = self.site.cache.clone() else { return Purge::NoCache };
        match self.tickets.remove(&session) {
            Some(Ticket::Purged(answers)) => return Purge::Dropped(answers),
            Some(Ticket::Waits) => {}
            _ => {
                let (keys, mail) = (keys_of(path), self.mail.clone());
                let all = path.as_bytes().is_empty();
                self.site.run(Kind::Io, move || {
                    let answers = if all { cache.purge() } else { cache.purge_keys(&keys) };
                    mail.send(News::Purged(session, answers));
                });
            }
        }
        self.tickets.insert(session, Ticket::Waits);
        Purge::Wait
    }
}

/// Says that an object was kept, if it may still be used.
fn hit(cache: Option<&CacheDir>, kept: &Kept) -> Option<Cached> {
    let cache = cache.filter(|cache| cache.epoch() == kept.epoch)?;
    let age = cache.now().saturating_sub(kept.made);
    cache.ttl().checked_sub(age).filter(|left| *left > 0).map(|left| Cached::Hit { age, left })
}

/// A part of a file that costs less to copy than to send from where it is, if all of it is in memory.
fn short(file: &OwnedFd, offset: u64, length: u64) -> Option<Arc<[u8]>> {
    if length > IN_MEMORY {
        return None;
    }
    let mut bytes = [0; IN_MEMORY as usize];
    let bytes = bytes.get_mut(..length as usize)?;
    let read = preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT).ok()?;
    (read == bytes.len()).then(|| Arc::from(&*bytes))
}

/// Is the byte at this offset in memory? What cannot be asked about is not.
fn is_warm(file: &OwnedFd, offset: u64) -> bool {
    let mut byte = [0];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        // Its end came earlier than expected: sending will find that out.
        Ok(_) => true,
        Err(error) => error != Errno::AGAIN && error != Errno::OPNOTSUPP,
    }
}

/// Reads a part of a file, so that the system has it in memory.
fn warm_up(file: &OwnedFd, from: u64, to: u64) {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = from;
    while at < to {
        match pread(file, &mut buffer[..], at) {
            Ok(n) if n > 0 => at += n as u64,
            Err(Errno::INTR) => {}
            // Sending will meet the same.
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
