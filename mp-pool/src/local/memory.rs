//! Whether the kernel has killed somebody for lack of memory: it counts such deaths for each control group.
//!
//! A process that was killed for lack of memory has got SIGKILL like any other that was killed. Only the count tells, and only of
//! the group, which the workers share with the pool.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The count of the group in which this process is.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// `None` where nobody counts.
    file: Option<PathBuf>,
    seen: u64,
}

impl Shortage {
    pub(crate) fn new() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(files(&groups))
    }

    fn of(files: Vec<PathBuf>) -> Self {
        let found = files.into_iter().find_map(|file| count(&file).map(|seen| (seen, file)));
        let (seen, file) = found.unzip();
        Self { file, seen: seen.unwrap_or_default() }
    }

    /// Whether the count has moved since the last look. The kernel counts before it kills.
    pub(crate) fn has_killed(&mut self) -> bool {
        let now = self.file.as_deref().and_then(count).unwrap_or(self.seen);
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// Where the count may stand, from what `/proc/self/cgroup` says.
fn files(groups: &str) -> Vec<PathBuf> {
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let (base, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => return None,
        };
        let base = Path::new(base);
        // In a container the group may be mounted as the root.
        Some([base.join(group.trim_start_matches('/')).join(name), base.join(name)])
    });
    files.flatten().collect()
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_kinds_of_groups() {
        let both = "9:name=systemd:/\n4:cpu,memory:/a:b\n0::/c\n";
        let expected = [
            "/sys/fs/cgroup/memory/a:b/memory.oom_control",
            "/sys/fs/cgroup/memory/memory.oom_control",
            "/sys/fs/cgroup/c/memory.events",
            "/sys/fs/cgroup/memory.events",
        ];
        assert_eq!(files(both), expected.map(PathBuf::from));
        assert!(files("5:cpu:/\nnonsense\n").is_empty());
    }

    #[test]
    fn it_tells_when_the_count_has_moved() {
        let path = std::env::temp_dir().join(format!("mp-pool-{}", std::process::id()));
        fs::write(&path, "oom 7\noom_kill 2\noom_group_kill 0\n").unwrap();
        let mut shortage = Shortage::of(vec![PathBuf::from("/not/there"), path.clone()]);
        let before = shortage.has_killed();
        fs::write(&path, "oom 8\noom_kill 3\noom_group_kill 0\n").unwrap();
        let after = [shortage.has_killed(), shortage.has_killed()];
        fs::remove_file(&path).unwrap();
        assert!(!before);
        assert_eq!(after, [true, false]);
        assert!(!shortage.has_killed());
    }
}
