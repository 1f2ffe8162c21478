//! What several modules need.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use mp_core::{Process, StartMethod, transfer::Fd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Whether there is a fork server here; not on musl, see ARCHITECTURE.md.
pub const FORKS: bool = cfg!(target_env = "gnu");

/// How many descriptors there are beside the streams when nothing goes on: the wire, the reaper's two, and where there is one
/// the fork server and its wire.
pub const MACHINERY: usize = if FORKS { 5 } else { 3 };

/// What starts a process here.
pub const METHODS: [StartMethod; 2] =
    [StartMethod::ReExec, if FORKS { StartMethod::ForkServer } else { StartMethod::ReExec }];

pub fn by(method: StartMethod) -> Process {
    Process::new().start_method(method)
}

pub fn sleep_long() {
    std::thread::sleep(Duration::from_secs(600));
}

/// The end of a pipe that travels.
pub type End = Fd<std::fs::File>;

pub fn pipe() -> (End, End) {
    let (reading, writing) = std::io::pipe().unwrap();
    (Fd(OwnedFd::from(reading).into()), Fd(OwnedFd::from(writing).into()))
}

pub fn tell(end: &End, text: &str) {
    (&end.0).write_all(text.as_bytes()).unwrap();
}

/// Reads until all copies of the other end are gone.
pub fn read_all(end: &End) -> String {
    let mut text = String::new();
    (&end.0).read_to_string(&mut text).unwrap();
    text
}

pub fn read_byte(end: &End) -> u8 {
    let mut byte = [0];
    (&end.0).read_exact(&mut byte).unwrap();
    byte[0]
}

/// Reads a line, without waiting for the end.
pub fn read_line(end: &End) -> String {
    let mut text = Vec::new();
    loop {
        match read_byte(end) {
            b'\n' => return String::from_utf8(text).unwrap(),
            byte => text.push(byte),
        }
    }
}

/// Watches a process that need not be a child of this one.
pub fn watch(pid: u32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Whether a watched process ends within the time.
pub fn ends_within(pidfd: &OwnedFd, time: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).try_into().unwrap();
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs this test again in a program of its own; `None` in that program, its output otherwise.
pub fn program(test: &str, set_up: impl FnOnce(&mut std::process::Command)) -> Option<std::process::Output> {
    const VARIABLE: &str = "MP_IT_PROGRAM";
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(VARIABLE, "1").stdin(std::process::Stdio::null());
    set_up(&mut command);
    Some(command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The descriptors of this process, but for the one that lists them.
pub fn open_fds() -> Vec<(i32, String)> {
    let mut fds: Vec<(i32, String)> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = std::fs::read_link(entry.path()).ok()?.display().to_string();
            (!target.ends_with("/fd")).then(|| (entry.file_name().to_str().unwrap().parse().unwrap(), target))
        })
        .collect();
    fds.sort_unstable();
    fds
}

/// Waits until `look` returns `expected`: the reaper may hold the last ended child for a moment after it was joined.
pub fn settles<T: PartialEq + std::fmt::Debug>(expected: &T, look: impl Fn() -> T) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look();
        if seen == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?} does not become {expected:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes whose parent this one is, the fork server and zombies among them.
pub fn all_children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children
        .flat_map(|all| all.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}
