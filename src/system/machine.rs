//! How much memory this process may use: the machine's, or less if a control group or a limit of
//! the process allows less.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Returns the bytes that `limits.memory_bytes = auto` means: a quarter of the memory of this
/// process, which will start `threads` workers, but no less than the key allows.
pub(crate) fn memory_auto(threads: usize) -> u64 {
    memory(threads).map_or(u64::MAX, |bytes| (bytes / 4).max(MEMORY_BYTES_MIN))
}

/// Returns the bytes of memory for this process; `None` if the kernel does not tell.
fn memory(threads: usize) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let mut least = read(Path::new("/proc/meminfo")).as_deref().and_then(total_memory);
    let mut heed = |limit| least = Some(least.map_or(limit, |least: u64| least.min(limit)));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    groups.lines().for_each(|line| group_limits(line, read).into_iter().for_each(&mut heed));
    let status = read(Path::new("/proc/self/status")).unwrap_or_default();
    let threads = threads as u64 + OTHER_THREADS;
    let own = [(Resource::As, "VmSize:", ARENA), (Resource::Data, "VmData:", 0)];
    for (resource, name, arena) in own {
        if let Some(limit) = getrlimit(resource).current {
            let taken = kilobytes(&status, name).unwrap_or(0);
            heed(left(limit, taken, threads, arena));
        }
    }
    least
}

/// The least that `limits.memory_bytes` may be.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Threads beside the workers. The program has those of the log, of signals, of the watchdog, and
/// one that a signal starts; another program has its own.
const OTHER_THREADS: u64 = 4;

const THREAD_STACK: u64 = 2 << 20;
/// The address space that glibc's allocator sets aside for each thread, as long as there is some.
const ARENA: u64 = if cfg!(target_env = "gnu") { 64 << 20 } else { 0 };

/// Returns what a limit of the address space leaves for data, in bytes: code and stacks have taken
/// their part already, and `threads` will take stacks and arenas.
fn left(limit: u64, taken: u64, threads: u64, arena: u64) -> u64 {
    let room = limit.saturating_sub(taken).saturating_sub(threads * THREAD_STACK);
    room - room.checked_div(arena).unwrap_or(0).min(threads) * arena
}

/// Reads `MemTotal` of /proc/meminfo, in bytes.
fn total_memory(text: &str) -> Option<u64> {
    kilobytes(text, "MemTotal:")
}

/// Returns the value of a line of a proc(5) file, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Returns the limits of the control group that a line of /proc/self/cgroup names (cgroups(7)), and
/// of all groups above it: the least counts. In a container the path may be that of the host, and
/// the group stands at the root.
fn group_limits(line: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, name) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(path.trim_start_matches('/'));
    let limit = |group: &Path| read(&Path::new(root).join(group).join(name))?.trim().parse().ok();
    group.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_some() {
        let memory = memory(2).expect("Linux tells");
        assert!((1 << 20..1 << 50).contains(&memory), "{memory}");
    }

    #[test]
    fn threads_take_their_stacks_and_as_many_arenas_as_there_is_room_for() {
        const MIB: u64 = 1 << 20;
        assert_eq!(left(150 * MIB, 8 * MIB, 6, 64 * MIB), 2 * MIB);
        assert_eq!(left(500 * MIB, 8 * MIB, 6, 64 * MIB), 96 * MIB);
        assert_eq!(left(500 * MIB, 8 * MIB, 6, 0), 480 * MIB);
        assert_eq!(left(10 * MIB, 8 * MIB, 6, 64 * MIB), 0);
        assert_eq!(left(10 * MIB, 18 * MIB, 6, 0), 0);
    }

    #[test]
    fn the_total_is_read() {
        assert_eq!(total_memory("MemTotal:       24683520 kB\nMemFree: 1 kB\n"), Some(25275924480));
        assert_eq!(total_memory("Mem: 5"), None);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "67108864\n"),
            ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(group_limits("0::/a/b", read), [67_108_864]);
        assert_eq!(group_limits("5:cpu,memory:/x", read), [4096, 9_223_372_036_854_771_712]);
        assert_eq!(group_limits("4:cpu:/x", read), [0; 0]);
        assert_eq!(group_limits("nonsense", read), [0; 0]);
    }
}
