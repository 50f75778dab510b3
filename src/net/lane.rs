//! A lane: a flow, and the pipe that large content takes around the flow's buffer (splice(2)).
//!
//! A pipe is in a lane only while content goes through it. It is filled only when it and the buffer are empty, and while it holds
//! anything nothing else is read: so the bytes of a lane have one order, and a full pipe stops the sender as a full buffer does.
//!
//! When which way pays was measured: CPU time per request beside a relay that copies through 64 KiB without a look (= 1.00), 16
//! connections, medians of three rounds in one run. "Splice" copies up to 128 KiB first, which is what the first read brings.
//!
//! | answer  | copies, 16 KiB | copies, 128 KiB | copies, 256 KiB | splice |
//! |---------|----------------|-----------------|-----------------|--------|
//! | 16 KiB  | 1.64           | 1.09            | 1.09            | 1.09   |
//! | 32 KiB  | 2.01           | 1.09            | 1.16            | 1.09   |
//! | 64 KiB  | 2.45           | 0.86            | 0.84            | 0.86   |
//! | 128 KiB | 1.74           | 0.83            | 0.70            | 0.93   |
//! | 256 KiB | 2.04           | 0.86            | 0.67            | 0.60   |
//! | 512 KiB | 1.96           | 0.85            | 0.73            | 0.55   |
//! | 1 MiB   | 1.49           | 0.88            | 0.62            | 0.47   |
//! | 4 MiB   | 2.05           | 0.94            | 0.82            | 0.59   |
//! | 16 MiB  | 1.89           | 1.38            | 1.16            | 0.45   |
//!
//! So: buffers in which 128 KiB with their head have room, and a pipe for what is left behind them if that is 64 KiB or more (32, 64 and
//! 128 KiB as the least: 0.67, 0.64 and 0.78 at 256 KiB, the same elsewhere).

use crate::base::{BufferPool, Source};
use crate::engine::Flow;
use crate::net::io::Io;
use std::io;

/// Content that goes through a pipe has at least so many bytes left: see the module.
pub const SPLICE_LEAST: usize = 64 * 1024;
/// A head waits (MSG_MORE) for the file behind it unless that is longer: together they are fewer segments, but then no page of the file begins
/// one. Requests/s with and without waiting, 64 connections, in runs beside each other: 64 KiB 70,000 and 58,000, 128 KiB 41,000 and 31,000,
/// 256 KiB about level, 1 MiB 2,320 and 3,000.
const HEAD_WAITS: u64 = 256 * 1024;
/// Bytes moved into a pipe at once.
const PIECE: usize = 1 << 20;
/// Pipes of one worker. More content at once goes through buffers.
const MOST_PIPES: usize = 128;
/// So many sessions have one pipe among them at the most, and the two descriptors that it takes.
pub const SESSIONS_PER_PIPE: usize = 8;
/// Unused pipes that a worker keeps.
const SPARE_PIPES: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Lane<P> {
    pub flow: Flow,
    pipe: Option<Box<Filled<P>>>,
}

/// A pipe and how many bytes are in it.
#[derive(Debug)]
struct Filled<P> {
    pipe: P,
    holds: u32,
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Lane { flow: Flow::default(), pipe: None }
    }
}

/// What lanes are filled from: a worker's buffers and pipes.
#[derive(Debug)]
pub struct Stock<P> {
    pub buffers: BufferPool,
    pub pipes: Pipes<P>,
}

/// A worker's pipes, last in first out.
#[derive(Debug)]
pub struct Pipes<P> {
    free: Vec<Box<Filled<P>>>,
    lent: usize,
    limit: usize,
    /// As many as may be out now: less for a while where the system gave no more, none where it does not splice.
    most: usize,
    /// One was taken since unused ones were looked for.
    used: bool,
}

impl<P> Pipes<P> {
    /// The pipes of a worker that has so many sessions.
    pub fn among(sessions: usize) -> Self {
        let limit = (sessions / SESSIONS_PER_PIPE).clamp(1, MOST_PIPES);
        Pipes { free: Vec::new(), lent: 0, limit, most: limit, used: false }
    }

    fn take<I: Io<Pipe = P>>(&mut self, io: &mut I) -> Option<Box<Filled<P>>> {
        if self.lent >= self.most {
            return None;
        }
        let pipe = match self.free.pop() {
            Some(pipe) => pipe,
            None => {
                let pipe = io.pipe().inspect_err(|error| self.most = self.refused(error)).ok()?;
                Box::new(Filled { pipe, holds: 0 })
            }
        };
        self.lent += 1;
        self.used = true;
        Some(pipe)
    }

    /// How many pipes are out now.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// Closes unused pipes if none was needed since this was called last, and lets the system be asked for more again.
    pub(super) fn sweep(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.free.clear();
        }
        if self.most > 0 {
            self.most = self.limit;
        }
    }

    /// Is there anything to do for [`Pipes::sweep`]?
    pub(super) fn wants_sweep(&self) -> bool {
        !self.free.is_empty() || (1..self.limit).contains(&self.most)
    }

    fn refused(&self, error: &io::Error) -> usize {
        log::debug!("no more than {} pipes ({error}); other content is copied", self.lent);
        // 0 would be for ever.
        self.lent.max(1)
    }

    /// Takes a pipe back. One that holds anything is closed.
    fn give(&mut self, pipe: Box<Filled<P>>) {
        self.lent -= 1;
        if pipe.holds == 0 && self.free.len() < SPARE_PIPES {
            self.free.push(pipe);
        }
    }
}

/// What a try to fill the pipe gave.
#[derive(Debug)]
pub(super) enum Filling {
    /// There is no pipe to be had: the buffer must do.
    NoPipe,
    /// The socket's answer.
    Got(io::Result<usize>),
}

impl<P> Lane<P> {
    /// Moves received bytes, at most as many as the flow lets pass by, into a pipe.
    pub(super) fn pass_by<I: Io<Pipe = P>>(
        &mut self,
        stream: &mut I::Stream,
        io: &mut I,
        stock: &mut Stock<P>,
    ) -> Filling {
        let most = self.flow.may_pass_by().min(PIECE);
        self.give_back(&mut stock.pipes);
        let Some(pipe) = stock.pipes.take(io) else { return Filling::NoPipe };
        let Filled { pipe, holds } = &mut **self.pipe.insert(pipe);
        let moved = io.splice_in(stream, pipe, most);
        match &moved {
            Ok(n) => {
                *holds += *n as u32;
                self.flow.passed_by(*n);
            }
            Err(error) if does_not_splice(error) => {
                log::debug!("content is copied: {error}");
                stock.pipes.most = 0;
                return Filling::NoPipe;
            }
            Err(_) => {}
        }
        Filling::Got(moved)
    }

    /// Sends what is in the pipe, or if that is empty what is ready, and tells how far it got.
    pub(super) fn send<I: Io<Pipe = P>>(&mut self, stream: &mut I::Stream, io: &mut I) -> io::Result<Sent> {
        let piped = self.flow.piped();
        match self.pipe.as_deref_mut() {
            Some(Filled { pipe, holds }) if piped > 0 => {
                let n = io.splice_out(pipe, stream, piped)?;
                *holds -= n as u32;
                self.flow.sent_piped(n);
                // A short splice may have met a page's end only.
                Ok(if n == 0 { Sent::Part } else { Sent::All })
            }
            _ => self.send_ready(stream, io),
        }
    }

    /// Sends what is ready together with what follows it: memory in the same call, a file in the next one.
    fn send_ready<I: Io<Pipe = P>>(&mut self, stream: &mut I::Stream, io: &mut I) -> io::Result<Sent> {
        let (ready, content) = (self.flow.ready(), self.flow.content());
        let (asked, n) = match content.map(|content| (content, content.source())) {
            None => (ready.len(), io.send(stream, ready, &[], false)?),
            Some((content, Source::Memory(_))) => {
                let rest = content.bytes().unwrap_or_default();
                let (first, rest) = if ready.is_empty() { (rest, ready) } else { (ready, rest) };
                (first.len() + rest.len(), io.send(stream, first, rest, false)?)
            }
            Some((content, Source::File(_))) if !ready.is_empty() => {
                (ready.len(), io.send(stream, ready, &[], content.left() <= HEAD_WAITS)?)
            }
            Some((content, Source::File(file))) => {
                let asked = usize::try_from(content.left()).unwrap_or(usize::MAX);
                let (n, full) = match io.send_file(stream, file, content.at(), asked) {
                    Err(error) if is_of_the_file(&error) => {
                        log::warn!("cannot read a file that is being sent: {error}");
                        (0, false)
                    }
                    sent => sent?,
                };
                if n == 0 {
                    self.flow.cut_content();
                    return Ok(Sent::All);
                }
                (if full { asked } else { n }, n)
            }
        };
        self.flow.sent(n);
        Ok(if n == asked { Sent::All } else { Sent::Part })
    }

    /// Gives back what an empty flow does not need.
    pub fn rest(&mut self, stock: &mut Stock<P>) {
        self.flow.rest(&mut stock.buffers);
        self.give_back(&mut stock.pipes);
    }

    /// The pipe, unless the flow still counts on what is in it.
    fn give_back(&mut self, pipes: &mut Pipes<P>) {
        if self.flow.piped() == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipes.give(pipe);
        }
    }

    /// Drops every byte, and gives everything back.
    pub fn clear(&mut self, stock: &mut Stock<P>) {
        self.flow.clear();
        self.rest(stock);
    }
}

/// How far a send got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The socket is full.
    Part,
}

/// Sending a file failed because of the file, not because of the client.
fn is_of_the_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::IO | Errno::INVAL | Errno::STALE | Errno::NOSYS | Errno::OPNOTSUPP)
    )
}

/// The system (or a filter of its calls) refuses to splice these sockets at all.
fn does_not_splice(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Content;
    use crate::net::sys::{Stream, Sys};
    use std::io::{Read, Write};
    use std::time::Instant;

    /// Two connected streams, of which the second one is a peer's.
    fn pair() -> (Stream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::Unix(mio::net::UnixStream::from_std(ours)), theirs)
    }

    fn world() -> (Sys, Stock<crate::net::sys::Pipe>) {
        let sys = Sys::new(Vec::new(), Instant::now()).unwrap();
        (sys, Stock { buffers: BufferPool::new(4096, 2), pipes: Pipes::among(64) })
    }

    #[test]
    fn content_goes_through_and_the_empty_pipe_is_used_again() {
        let (mut io, mut stock) = world();
        let (mut from, mut sender) = pair();
        let (mut to, mut reader) = pair();
        let mut lane = Lane::default();
        for _ in 0..3 {
            lane.flow.grant(1000);
            sender.write_all(b"content").unwrap();
            assert!(matches!(lane.pass_by(&mut from, &mut io, &mut stock), Filling::Got(Ok(7))));
            assert!(!lane.flow.has_room() && lane.flow.unsent() == 7);
            assert_eq!(lane.send(&mut to, &mut io).unwrap(), Sent::All);
            lane.rest(&mut stock);
            let mut came = [0; 7];
            reader.read_exact(&mut came).unwrap();
            assert_eq!((&came, lane.flow.take_unseen()), (b"content", 7));
        }
        assert_eq!((stock.pipes.free.len(), stock.pipes.lent), (1, 0));
        let nothing = lane.pass_by(&mut from, &mut io, &mut stock);
        assert!(matches!(nothing, Filling::Got(Err(error)) if error.kind() == io::ErrorKind::WouldBlock));
        lane.rest(&mut stock);
        stock.pipes.sweep();
        assert!(stock.pipes.wants_sweep(), "it was needed just now");
        stock.pipes.sweep();
        assert!(!stock.pipes.wants_sweep());
    }

    #[test]
    fn a_pipe_that_holds_anything_is_never_used_again() {
        let (mut io, mut stock) = world();
        let (mut from, mut sender) = pair();
        let mut lane = Lane::default();
        lane.flow.grant(1000);
        sender.write_all(b"poison").unwrap();
        assert!(matches!(lane.pass_by(&mut from, &mut io, &mut stock), Filling::Got(Ok(6))));
        lane.clear(&mut stock);
        assert_eq!((stock.pipes.free.len(), stock.pipes.lent), (0, 0));
        // Nor within the lane, where the app has dropped what was in it.
        lane.flow.grant(1000);
        sender.write_all(b"poison").unwrap();
        assert!(matches!(lane.pass_by(&mut from, &mut io, &mut stock), Filling::Got(Ok(6))));
        lane.flow.drop_ready();
        lane.flow.grant(1000);
        sender.write_all(b"fresh").unwrap();
        assert!(matches!(lane.pass_by(&mut from, &mut io, &mut stock), Filling::Got(Ok(5))));
        let (mut to, mut reader) = pair();
        lane.send(&mut to, &mut io).unwrap();
        let mut came = [0; 9];
        assert_eq!((reader.read(&mut came).unwrap(), &came[..5]), (5, &b"fresh"[..]));
    }

    #[test]
    fn a_file_is_sent_behind_its_head_and_one_that_became_shorter_is_cut() {
        let (mut io, mut stock) = world();
        let (mut to, mut reader) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345").unwrap();
        let file = Source::File(std::sync::Arc::new(file.into()));
        let mut lane = Lane::default();
        lane.flow.push(&mut stock.buffers, b"head ");
        lane.flow.append(&mut stock.buffers, Content::new(file, 1, 10).unwrap());
        for _ in 0..3 {
            assert!(!lane.flow.drained() && !lane.flow.has_room());
            assert_eq!(lane.send(&mut to, &mut io).unwrap(), Sent::All);
        }
        assert_eq!(
            (lane.flow.drained(), lane.flow.given()),
            (true, 9),
            "five of the fourteen announced bytes are missing"
        );
        let mut came = [0; 9];
        reader.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"head 2345");
    }

    #[test]
    fn pipes_are_limited() {
        let (mut io, mut stock) = world();
        stock.pipes.most = 1;
        let (mut from, mut sender) = pair();
        sender.write_all(b"content").unwrap();
        let mut lanes = [Lane::default(), Lane::default()];
        lanes.iter_mut().for_each(|lane| lane.flow.grant(1000));
        assert!(matches!(lanes[0].pass_by(&mut from, &mut io, &mut stock), Filling::Got(Ok(7))));
        assert!(matches!(lanes[1].pass_by(&mut from, &mut io, &mut stock), Filling::NoPipe));
        stock.pipes.sweep();
        assert_eq!(stock.pipes.most, 8, "the system is asked for more again");
        assert_eq!([1, 80, 1 << 20].map(|n| Pipes::<()>::among(n).limit), [1, 10, MOST_PIPES]);
    }
}
