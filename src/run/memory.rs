//! Watches how much memory the process takes, and says when new clients have to be turned away.

use crate::config::guard::MaxMemory;
use crate::proxy::limits::Room;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Between two looks; while there is little left, sooner.
const PAUSE: Duration = Duration::from_millis(100);
const SHORT_PAUSE: Duration = Duration::from_millis(5);
/// There is little left above this part of the ceiling.
const LITTLE: f64 = 0.6;
/// Clients may come in again below this much of the ceiling.
const AGAIN: f64 = 0.95;
/// The part of a control group's limit that is the ceiling. The rest is for what nobody here can turn away: connections that wait to be
/// accepted, and those that are being turned away.
const AUTO: f64 = 0.75;
/// What a client may take until the next look: its socket in the system, and buffers.
const CLIENT: i64 = 24 * 1024;
/// What a connection takes that waits to be accepted, with a request; for those there is a part of all, but room for a few in any case.
const WAITING: u64 = 8 * 1024;
const WAITING_PART: u64 = 4;
/// The part of the ceiling that buffers may take. Connections that are let in while nothing of it is in use can take it later.
const BUFFERS_PART: u64 = 4;
const LEAST_BACKLOG: usize = 16;
const CGROUPS: &str = "/sys/fs/cgroup";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gauge {
    /// What this process has in memory.
    Process,
    /// What its control group has, but for files that can be dropped. In which folder, and the name of the file.
    Group(PathBuf, &'static str),
}

/// How much memory there may be, and how it is measured.
#[derive(Clone, Debug)]
pub(super) struct Ceiling {
    gauge: Gauge,
    bytes: u64,
}

impl Ceiling {
    /// As configured; `None`: there is none.
    pub(super) fn of(max: MaxMemory) -> Option<Ceiling> {
        match max {
            MaxMemory::Off => None,
            MaxMemory::Bytes(bytes) => Some(Ceiling { gauge: Gauge::Process, bytes }),
            MaxMemory::Auto => {
                let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
                let (gauge, limit) = limit(&groups, Path::new(CGROUPS))?;
                Some(Ceiling { gauge, bytes: (limit as f64 * AUTO) as u64 })
            }
        }
    }

    /// The connections that may wait at each of so many listeners. The system counts them as ours, and they cannot be turned away.
    pub(super) fn backlog(&self, wanted: usize, listeners: usize) -> usize {
        let most = (self.bytes / WAITING_PART / WAITING) as usize / listeners.max(1);
        wanted.min(most.max(LEAST_BACKLOG))
    }

    /// Bytes for the buffers of one of so many workers.
    pub(super) fn buffers(&self, workers: usize) -> usize {
        (self.bytes / BUFFERS_PART) as usize / workers.max(1)
    }
}

/// Begins to watch, and says for how many new clients there is room below the ceiling.
pub(super) fn watch(ceiling: Ceiling, room: Arc<Room>) {
    let Ceiling { gauge, bytes: ceiling } = ceiling;
    log::info!("new clients are turned away while memory is over {} MiB", ceiling >> 20);
    let look = move || {
        let (mut pause, mut was, mut blind) = (PAUSE, false, false);
        loop {
            thread::sleep(pause);
            let Some(used) = gauge.read() else {
                // The process may have been moved to another group. Better too many clients than none.
                room.set(i64::MAX);
                if !std::mem::replace(&mut blind, true) {
                    log::warn!("memory cannot be measured any more: nobody is turned away because of it");
                }
                continue;
            };
            blind = false;
            pause = if used as f64 > ceiling as f64 * LITTLE { SHORT_PAUSE } else { PAUSE };
            let is = used as f64 >= ceiling as f64 * if was { AGAIN } else { 1.0 };
            room.set(if is { 0 } else { (ceiling as i64 - used as i64).max(0) / CLIENT });
            if is != was {
                let doing = if is { "new clients are turned away" } else { "new clients come in again" };
                log::warn!("memory is at {} of {} MiB: {doing}", used >> 20, ceiling >> 20);
            }
            was = is;
        }
    };
    if let Err(error) = thread::Builder::new().name("pilb-memory".to_owned()).spawn(look) {
        log::warn!("memory is not watched: {error}");
    }
}

impl Gauge {
    /// In bytes.
    fn read(&self) -> Option<u64> {
        match self {
            Gauge::Process => {
                let statm = fs::read_to_string("/proc/self/statm").ok()?;
                let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
                Some(pages * rustix::param::page_size() as u64)
            }
            Gauge::Group(folder, file) => {
                let used = number(&folder.join(file))?;
                let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
                Some(used.saturating_sub(droppable(&stat)))
            }
        }
    }
}

/// Of a group's memory, files that were not used lately.
fn droppable(stat: &str) -> u64 {
    let field = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok())
    };
    field("total_inactive_file").or_else(|| field("inactive_file")).unwrap_or(0)
}

/// The narrowest limit of memory of the control groups that `/proc/self/cgroup` names, and how to measure what counts for it.
fn limit(groups: &str, root: &Path) -> Option<(Gauge, u64)> {
    let mut least: Option<(Gauge, u64)> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (base, most, used) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // A limit of any group above counts as well. Inside of a container the path may name what is not there.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = base.join(above);
            // The old kind says "no limit" by a number that no machine has.
            if let Some(limit) = number(&folder.join(most)).filter(|limit| *limit < 1 << 60)
                && least.as_ref().is_none_or(|(_, known)| limit < *known)
            {
                least = Some((Gauge::Group(folder, used), limit));
            }
        }
    }
    least
}

/// The number that is all of a file; none for `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_limit_above_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "1000000\n");
        put("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        let groups = "5:cpu,memory:/x\n1:name=systemd:/y\n0::/a/b\n";
        let found = limit(groups, root);
        assert_eq!(found, Some((Gauge::Group(root.join("a"), "memory.current"), 1_000_000)));
        put("memory/memory.limit_in_bytes", "500000\n");
        let found = limit(groups, root);
        assert_eq!(found, Some((Gauge::Group(root.join("memory"), "memory.usage_in_bytes"), 500_000)));
        assert_eq!(limit("0::/elsewhere\n", &root.join("none")), None);
    }

    #[test]
    fn where_memory_is_short_fewer_may_wait() {
        let ceiling = |bytes| Ceiling { gauge: Gauge::Process, bytes };
        assert_eq!(ceiling(32 << 20).backlog(4096, 2), 512);
        assert_eq!(ceiling(8 << 30).backlog(4096, 2), 4096);
        assert_eq!(ceiling(0).backlog(4096, 2), 16);
        assert_eq!(ceiling(32 << 20).buffers(2), 4 << 20);
    }

    #[test]
    fn the_only_request_has_room_for_its_buffers() {
        use crate::base::buffer::HEADROOM;
        use crate::base::{BufferPool, Size};
        for (memory, workers, buffer) in [(32 << 20, 8, 1 << 20), (32 << 20, 64, 64 << 10), (96 << 20, 16, 1 << 20)] {
            let ceiling = Ceiling { gauge: Gauge::Process, bytes: memory };
            let mut pool = BufferPool::new(HEADROOM + buffer, 64).within(ceiling.buffers(workers));
            let _head = pool.take(Size::Small);
            assert!(!pool.is_short(), "--max-memory {memory} --workers {workers} --buffer-size {buffer}: always 503");
        }
    }

    #[test]
    fn files_that_can_be_dropped_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("memory.current"), "1000\n").unwrap();
        let gauge = Gauge::Group(folder.path().to_owned(), "memory.current");
        assert_eq!(gauge.read(), Some(1000));
        fs::write(folder.path().join("memory.stat"), "anon 5\ninactive_file 300\nactive_file 1\n").unwrap();
        assert_eq!(gauge.read(), Some(700));
        fs::write(folder.path().join("memory.stat"), "inactive_file 1\ntotal_inactive_file 400\n").unwrap();
        assert_eq!(gauge.read(), Some(600));
        assert!(Gauge::Process.read().unwrap() > 100_000);
    }
}
