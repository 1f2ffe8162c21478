//! The fork server: the same processes, started by a fork.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mp_core::{JoinError, Process, StartMethod, fork_server_pid, set_start_method, test_init, transfer::Fd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::common::{End, by, pipe, read_all, sleep_long, tell};

fn by_server() -> Process {
    by(StartMethod::ForkServer)
}

#[test]
fn a_function_runs_in_a_fork_of_the_server() {
    test_init!();
    for i in 0..20 {
        let child = by_server()
            .spawn(|x: u32| (x + 1, std::process::id(), std::os::unix::process::parent_id()), (i,))
            .unwrap();
        assert_eq!(child.start_method(), StartMethod::ForkServer);
        let pid = child.pid();
        assert_eq!(child.join().unwrap(), (i + 1, pid, std::process::id()));
        assert!(child.exit_status().unwrap().success());
    }
}

#[test]
fn the_environment_and_directory_are_those_of_the_caller_at_the_start() {
    test_init!();
    // In a process of its own, because both belong to the whole process.
    mp_core::spawn(
        || {
            set_start_method(StartMethod::ForkServer);
            let look = || {
                let child = mp_core::spawn(
                    || {
                        let env = |name| std::env::var(name).ok();
                        (env("MP_A"), env("MP_B"), env("HOME"), std::env::current_dir().unwrap())
                    },
                    (),
                )
                .unwrap();
                assert_eq!(child.start_method(), StartMethod::ForkServer);
                child.join().unwrap()
            };
            let before = look();
            assert_eq!(before.0, None);
            assert_eq!(before.3, std::env::current_dir().unwrap());
            std::env::set_current_dir("/").unwrap();
            assert_eq!(look().3.to_str(), Some("/"));
        },
        (),
    )
    .unwrap()
    .join()
    .unwrap();
    let child = by_server()
        .env("MP_A", "1")
        .env_remove("HOME")
        .current_dir("/usr")
        .spawn(
            || (std::env::var("MP_A").ok(), std::env::var("HOME").ok(), std::env::current_dir().unwrap()),
            (),
        )
        .unwrap();
    assert_eq!(child.join().unwrap(), (Some("1".to_owned()), None, "/usr".into()));
    let child =
        by_server().env_clear().env("X", "y").spawn(|| std::env::vars().collect::<Vec<_>>(), ()).unwrap();
    assert_eq!(child.join().unwrap(), [("X".to_owned(), "y".to_owned())]);
}

#[test]
fn p18_a_killed_server_is_replaced_and_running_children_are_reported_truthfully() {
    test_init!();
    // In a process of its own: its server is nobody else's.
    mp_core::spawn(
        || {
            for signal in [Signal::INT, Signal::KILL, Signal::TERM] {
                let sleeper = by_server().spawn(sleep_long, ()).unwrap();
                let server = fork_server_pid().unwrap();
                kill_process(Pid::from_raw(server.cast_signed()).unwrap(), signal).unwrap();
                for i in 0..3_u32 {
                    let child = by_server().spawn(|x: u32| x, (i,)).unwrap();
                    assert_eq!(child.start_method(), StartMethod::ForkServer);
                    assert_eq!(child.join().unwrap(), i);
                }
                assert!(sleeper.is_alive());
                sleeper.terminate().unwrap();
                let error = sleeper.join().unwrap_err();
                assert!(matches!(error, JoinError::Killed { .. }), "{error}");
                assert_eq!(sleeper.exit_status().unwrap().code(), -15);
            }
        },
        (),
    )
    .unwrap()
    .join()
    .unwrap();
}

/// The processes that bear the server's name: the server, and copies that have not taken their own name yet.
fn servers() -> Vec<u32> {
    let mut all = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all.retain(|pid| named_like_a_server(*pid));
    all
}

fn named_like_a_server(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("mp-fork-server"))
}

#[test]
fn a_start_is_made_once_also_when_the_server_is_killed_over_it() {
    test_init!();
    // In a process of its own, all whose children are known.
    let child = mp_core::spawn(
        || {
            static DONE: AtomicBool = AtomicBool::new(false);
            let killing = std::thread::spawn(|| {
                let mut killed = 0;
                while !DONE.load(Ordering::Relaxed) {
                    for pid in servers() {
                        let watched =
                            pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty());
                        if let Ok(watched) = watched
                            && named_like_a_server(pid)
                        {
                            killed += u32::from(pidfd_send_signal(watched, Signal::KILL).is_ok());
                        }
                    }
                    std::thread::sleep(Duration::from_micros(700));
                }
                killed
            });
            let (reading, writing) = pipe();
            let mut returned = 0;
            for _ in 0..300 {
                let theirs = Fd(writing.0.try_clone().unwrap());
                let child = by_server().spawn(|writing: End| tell(&writing, "x"), (theirs,)).unwrap();
                match child.join() {
                    Ok(()) => returned += 1,
                    // Killed as a copy of the server that had not begun.
                    Err(error) => assert_eq!(error.exit_status().unwrap().signal(), Some(9), "{error}"),
                }
            }
            DONE.store(true, Ordering::Relaxed);
            let killed = killing.join().unwrap();
            drop(writing);
            assert_eq!(read_all(&reading).len(), returned);
            assert!(killed > 0 && returned > 0, "{killed} {returned}");
            let deadline = Instant::now() + Duration::from_secs(20);
            while mp_core::active_children().len() + servers().len() > 1 {
                assert!(Instant::now() < deadline, "processes are left");
                std::thread::sleep(Duration::from_millis(1));
            }
            (killed, returned)
        },
        (),
    );
    let (killed, returned) = child.unwrap().join().unwrap();
    println!("{killed} kills, {returned} of 300 returned");
}

#[test]
fn robust_locks_work_in_forks_of_the_server() {
    test_init!();
    let gate = mp_core::shared::Slot::<mp_core::shared::Gate>::new().unwrap();
    for _ in 0..20 {
        let child = by_server()
            .spawn(
                |gate: mp_core::shared::Slot<mp_core::shared::Gate>| -> () {
                    let guard = gate.lock(None).unwrap();
                    std::mem::forget(guard);
                    std::process::abort();
                },
                (gate.clone(),),
            )
            .unwrap();
        assert_eq!(child.start_method(), StartMethod::ForkServer);
        assert!(child.join().is_err());
        assert!(gate.lock(Some(Instant::now() + Duration::from_secs(20))).unwrap().owner_died());
    }
}
