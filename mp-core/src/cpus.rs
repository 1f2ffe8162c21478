//! How many CPUs this process may use: those of its affinity, as far as the quota of its control groups goes.
//!
//! The kernel tells the affinity (to which a container's set of CPUs belongs). The quota must be read from files: in the
//! unified hierarchy (version 2) `cpu.max`, in that of the `cpu` controller (version 1) two files, in the group of the
//! process and in all above it that can be seen from here; the smallest counts.

use std::{fs, num::NonZeroUsize, path::Path, thread};

use crate::os;

/// How many CPUs the calling process may use: those of its affinity, limited by the quota of its control groups (both
/// versions of them), a part of a CPU counted as one; at least 1. Reads a handful of files.
///
/// Python's `os.process_cpu_count()` knows the affinity, but not the quota.
///
/// ```
/// assert!(mp_core::cpu_count().get() >= 1);
/// ```
#[must_use]
pub fn cpu_count() -> NonZeroUsize {
    let cpus = affinity().or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let read = |path: &Path| fs::read_to_string(path).ok();
    quota(&read).map_or(cpus, |quota| cpus.min(quota))
}

fn affinity() -> Option<NonZeroUsize> {
    NonZeroUsize::new(os::thread::sched_getaffinity(None).ok()?.count().try_into().ok()?)
}

/// The content of a file, if it can be read; in tests, of one that only the test knows.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The smallest quota of all groups that this process is in, in whole CPUs.
fn quota(read: Read<'_>) -> Option<NonZeroUsize> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    // A line is `number:controllers:path`; the unified hierarchy's number is 0, and it names no controllers.
    let quotas = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = if number == "0" {
            Version::Two
        } else if controllers.split(',').any(|name| name == "cpu") {
            Version::One
        } else {
            return None;
        };
        version.quota(path, &mounts, read)
    });
    quotas.min()
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The smallest quota from the group `path` upwards, to the top of what is mounted.
    fn quota(self, path: &str, mounts: &str, read: Read<'_>) -> Option<NonZeroUsize> {
        let (root, top) = mounts.lines().find_map(|line| self.mount(line))?;
        let top = Path::new(top);
        // What is mounted may be a subtree; in a container the path may even lie outside of it, and then its top is meant.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let group = top.join(below);
        group
            .ancestors()
            .take_while(|group| group.starts_with(top))
            .filter_map(|group| self.of(group, read))
            .min()
    }

    /// What part of the hierarchy is mounted where, if this line of `mountinfo` is about it: `id parent device root place
    /// options... - kind source options`.
    fn mount(self, line: &str) -> Option<(&str, &str)> {
        let (mount, about) = line.split_once(" - ")?;
        let mut about = about.split(' ');
        let fits = match (about.next()?, self) {
            ("cgroup2", Self::Two) => true,
            ("cgroup", Self::One) => about.nth(1)?.split(',').any(|option| option == "cpu"),
            _ => false,
        };
        let mut fields = mount.split(' ').skip(3);
        fits.then_some((fields.next()?, fields.next()?))
    }

    /// The quota of one group.
    fn of(self, group: &Path, read: Read<'_>) -> Option<NonZeroUsize> {
        let file = |name| read(&group.join(name));
        match self {
            Self::Two => whole_cpus(file("cpu.max")?.split_once(' ')?),
            Self::One => whole_cpus((&file("cpu.cfs_quota_us")?, &file("cpu.cfs_period_us")?)),
        }
    }
}

/// A time per period, in whole CPUs; `None` if it is no number: `max` or -1, without a limit.
fn whole_cpus((quota, period): (&str, &str)) -> Option<NonZeroUsize> {
    let (quota, period) = (quota.trim().parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
    NonZeroUsize::new(usize::try_from(quota.div_ceil(period.max(1)).max(1)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota_by(files: &[(&str, &str)]) -> Option<usize> {
        let read = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, content)| (*content).to_owned())
        };
        quota(&read).map(NonZeroUsize::get)
    }

    const UNIFIED: &str = "22 1 0:21 / /proc rw - proc proc rw\n\
                           30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    /// As a container sees it: its group is the root of what is mounted.
    const OLD: &str = "33 32 0:29 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                       34 32 0:30 /docker/1 /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn p8_a_quota_is_counted_in_whole_cpus() {
        let cpus = |quota, period| whole_cpus((quota, period)).map(NonZeroUsize::get);
        assert_eq!(cpus("max", "100000\n"), None);
        assert_eq!(cpus("-1\n", "100000\n"), None);
        assert_eq!(cpus("200000", "100000\n"), Some(2));
        assert_eq!(cpus("150000", "100000\n"), Some(2));
        assert_eq!(cpus("1000", "100000\n"), Some(1));
        assert_eq!(cpus("0", "0"), Some(1));
    }

    #[test]
    fn the_smallest_quota_from_the_group_upwards_counts() {
        let quota = |inner, outer| {
            quota_by(&[
                ("/proc/self/cgroup", "0::/outer/inner\n"),
                ("/proc/self/mountinfo", UNIFIED),
                ("/sys/fs/cgroup/outer/inner/cpu.max", inner),
                ("/sys/fs/cgroup/outer/cpu.max", outer),
            ])
        };
        assert_eq!(quota("300000 100000\n", "max 100000\n"), Some(3));
        assert_eq!(quota("300000 100000\n", "200000 100000\n"), Some(2));
        assert_eq!(quota("max 100000\n", "50000 100000\n"), Some(1));
        assert_eq!(quota("max 100000\n", "max 100000\n"), None);
        assert_eq!(quota("nonsense", ""), None);
    }

    #[test]
    fn the_older_version_has_its_own_files_and_mounts() {
        let quota = |path, period| {
            quota_by(&[
                ("/proc/self/cgroup", path),
                ("/proc/self/mountinfo", OLD),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", period),
                ("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"),
            ])
        };
        assert_eq!(quota("4:memory:/x\n3:cpuacct,cpu:/docker/1\n", "100000\n"), Some(3));
        assert_eq!(quota("3:cpu,cpuacct:/docker/1/job\n", "50000\n"), Some(5));
        // Outside of what is mounted.
        assert_eq!(quota("3:cpu,cpuacct:/elsewhere\n", "100000\n"), Some(3));
        assert_eq!(quota("3:cpuset:/docker/1\n", "100000\n"), None);
        assert_eq!(quota("0::/\n", "100000\n"), None);
    }

    #[test]
    fn without_the_files_there_is_no_quota() {
        assert_eq!(quota_by(&[]), None);
        assert_eq!(quota_by(&[("/proc/self/cgroup", "0::/\n"), ("/proc/self/mountinfo", "")]), None);
        assert_eq!(quota_by(&[("/proc/self/cgroup", "0\n::\n"), ("/proc/self/mountinfo", UNIFIED)]), None);
    }
}
