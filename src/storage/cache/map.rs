//! The index's file as memory, for as long as the process lives, and what happens when somebody truncates that file.
//!
//! A load from a mapped page that the file no longer has raises SIGBUS. For the ranges that were mapped here, the
//! handler puts zeroed memory in place of the whole index and lets the load happen again: zero words are misses.
//! Somebody else then finds [`Watch::lost`] and makes a new index.

use memmap2::MmapOptions;
use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A mapped range. They are never taken back, so a list of them that only grows is all the handler needs to read.
#[derive(Debug)]
struct Range {
    start: usize,
    length: usize,
    lost: AtomicBool,
    next: OnceLock<&'static Range>,
}

static FIRST: OnceLock<&'static Range> = OnceLock::new();

/// Tells whether a mapped file went away under its mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch(&'static Range);

impl Watch {
    /// The memory is no longer the file's: it was zeroed, and what is written to it is kept nowhere.
    pub fn lost(self) -> bool {
        self.0.lost.load(Relaxed)
    }
}

/// Maps a whole file; what is written to the memory is written to the file.
pub(super) fn shared(file: &File) -> io::Result<(&'static mut [u8], Watch)> {
    // SAFETY: the bytes may change at any time by other processes. They are given to `Index` only, which reads and
    // writes them as atomic words and trusts none of them; a file that shrinks is caught by `on_sigbus`.
    #[expect(unsafe_code, reason = "a mapped file is shared with whoever can open it")]
    let map = unsafe { MmapOptions::new().map_mut(file)? };
    leak(map)
}

/// Maps a whole file for looking only: changes by others are seen, own ones (none are meant) stay in this process.
pub(super) fn private(file: &File) -> io::Result<(&'static mut [u8], Watch)> {
    // SAFETY: as in `shared`.
    #[expect(unsafe_code, reason = "a mapped file is shared with whoever can open it")]
    let map = unsafe { MmapOptions::new().map_copy(file)? };
    leak(map)
}

fn leak(map: memmap2::MmapMut) -> io::Result<(&'static mut [u8], Watch)> {
    static HANDLER: OnceLock<Option<i32>> = OnceLock::new();
    if let Some(error) = HANDLER.get_or_init(install) {
        return Err(io::Error::from_raw_os_error(*error));
    }
    let memory: &'static mut [u8] = &mut Box::leak(Box::new(map))[..];
    let (start, length) = (memory.as_ptr() as usize, memory.len());
    let range: &'static Range =
        Box::leak(Box::new(Range { start, length, lost: AtomicBool::new(false), next: OnceLock::new() }));
    let mut place = &FIRST;
    while place.set(range).is_err() {
        let Some(taken) = place.get() else { continue };
        place = &taken.next;
    }
    Ok((memory, Watch(range)))
}

/// Sets the handler; gives the error's number if that failed.
fn install() -> Option<i32> {
    // SAFETY: an all-zero sigaction is a valid one, and every field that matters is set before it is used. The
    // handler only does what is allowed in one (see there).
    #[expect(unsafe_code, reason = "signal-hook refuses to handle SIGBUS")]
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    (result != 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
}

/// Puts zeros where an index lost its file. Any other SIGBUS ends the process, as it would without this handler.
///
/// Only loads of atomics and mmap, signal, raise, which are system calls and no more, happen in here.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a valid siginfo; si_addr is set for faults, whose code is positive.
    #[expect(unsafe_code, reason = "the kernel gives a pointer")]
    let (fault, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    if fault && zeros_at(address) {
        return;
    }
    // SAFETY: both calls are async-signal-safe. The signal is blocked in here and strikes on return.
    #[expect(unsafe_code, reason = "ends the process the way the system would")]
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Is the address in a mapped index, and are there zeros now?
fn zeros_at(address: usize) -> bool {
    let mut next = FIRST.get();
    while let Some(range) = next {
        if address.wrapping_sub(range.start) < range.length {
            range.lost.store(true, Relaxed);
            // SAFETY: the range was mapped by `leak` and belongs to this process until its end, so that nothing else
            // is overwritten; its memory is only read and written as atomic words, for which a zero is a valid value.
            #[expect(unsafe_code, reason = "no crate maps over a mapping")]
            let at = unsafe {
                libc::mmap(
                    range.start as *mut libc::c_void,
                    range.length,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            return at as usize == range.start;
        }
        next = range.next.get();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};
    use std::fs::OpenOptions;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use tempfile::TempDir;

    fn file(folder: &TempDir) -> (std::path::PathBuf, File) {
        let path = folder.path().join("index");
        std::fs::write(&path, vec![7; 20_000]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (path, file)
    }

    #[test]
    fn a_truncated_file_reads_as_zeros_and_is_noticed() {
        for map in [shared, private] {
            let folder = TempDir::new().unwrap();
            let (path, file) = file(&folder);
            let (memory, watch) = map(&file).unwrap();
            assert!(memory.len() == 20_000 && memory[19_999] == 7 && !watch.lost());
            OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
            assert_eq!(std::hint::black_box(&*memory)[10_000], 0);
            assert!(memory.iter().all(|byte| *byte == 0));
            memory[3] = 1;
            assert!(watch.lost() && memory[3] == 1);
            assert_eq!(file.metadata().unwrap().len(), 0);
        }
    }

    #[test]
    fn what_is_written_reaches_the_file_only_if_it_is_shared() {
        let folder = TempDir::new().unwrap();
        let (path, file) = file(&folder);
        private(&file).unwrap().0[0] = 1;
        shared(&file).unwrap().0[1] = 2;
        assert_eq!(std::fs::read(path).unwrap()[..3], [7, 2, 7]);
    }

    #[test]
    fn another_sigbus_ends_the_process() {
        const CHILD: &str = "PILB_TEST_SIGBUS";
        if std::env::var_os(CHILD).is_some() {
            let folder = TempDir::new().unwrap();
            shared(&file(&folder).1).unwrap();
            drop(folder);
            kill_process(getpid(), Signal::BUS).unwrap();
            std::thread::park();
        }
        let name = concat!(module_path!(), "::another_sigbus_ends_the_process");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name.split_once("::").unwrap().1])
            .env(CHILD, "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGBUS));
    }
}
