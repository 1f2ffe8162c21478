//! What must not break it: deaths at bad moments, nothing left to take, and peers that send nonsense.

use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    JoinError, Process, StartError, StartMethod, active_children, fork_server_pid,
    kill_points::{Point, arm, until_all_are},
    spawn, test_init,
    transfer::Fd,
};
use rustix::{
    net::SendFlags,
    process::{Pid, Signal, kill_process},
};

use crate::common::{
    End, FORKS, METHODS, all_children, by, open_fds, pipe, program, read_all, sleep_long, tell, text,
};

/// Runs `body` in a process of its own, whose descriptors and children nobody else changes.
fn alone<R>(body: impl mp_core::call::Function<(), Output = R>) -> R
where
    R: serde::Serialize + serde::de::DeserializeOwned,
{
    spawn(body, ()).unwrap().join().unwrap()
}

#[test]
fn a_parent_that_dies_between_two_steps_of_a_start_leaves_nobody_behind() {
    const NAME: &str = "siege::a_parent_that_dies_between_two_steps_of_a_start_leaves_nobody_behind";
    if let Ok(case) = std::env::var("MP_IT_CASE") {
        test_init!();
        let (method, point, nth) = match case.as_str() {
            "executed" => (METHODS[0], Point::Executed, 1),
            "adopted" => (METHODS[0], Point::Adopted, 1),
            "told" => (METHODS[0], Point::Told, 1),
            "server executed" => (METHODS[1], Point::Executed, 1),
            "asked" => (METHODS[1], Point::Asked, 1),
            "answered" => (METHODS[1], Point::Answered, 1),
            "asked again" => (METHODS[1], Point::Asked, 2),
            other => panic!("{other}"),
        };
        arm(point, nth);
        for _ in 0..nth {
            by(method).spawn(sleep_long, ()).unwrap();
        }
        unreachable!("{case} was not reached");
    }
    test_init!();
    // Whether the child or the death of its parent is first is a matter of luck: several times.
    let cases = [
        "executed",
        "adopted",
        "told",
        "told",
        "told",
        "server executed",
        "asked",
        "answered",
        "asked again",
    ];
    // The last four are about the fork server.
    for case in &cases[..if FORKS { 9 } else { 5 }] {
        // All descendants inherit standard error: `output` returns when the last of them is gone.
        let begin = Instant::now();
        let output = program(NAME, |command| {
            command.env("MP_IT_CASE", case);
        });
        let output = output.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{case}");
        assert_eq!(text(&output.stderr), "", "{case}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{case}");
    }
}

#[test]
fn a_stopped_fork_server_is_replaced() {
    test_init!();
    if !FORKS {
        return;
    }
    alone(|| {
        let answer = || by(StartMethod::ForkServer).spawn(|x: u32| x + 1, (1,)).unwrap().join().unwrap();
        answer();
        let sleeper = by(StartMethod::ForkServer).spawn(sleep_long, ()).unwrap();
        let first = fork_server_pid().unwrap();
        kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::STOP).unwrap();
        until_all_are('T', first);
        assert_eq!(answer(), 2);
        assert_ne!(fork_server_pid().unwrap(), first);
        assert!(sleeper.is_alive());
        sleeper.kill().unwrap();
        assert!(sleeper.join().is_err());
        assert_eq!(all_children(), [fork_server_pid().unwrap()]);
    });
}

#[test]
fn a_fork_server_that_is_killed_and_stopped_all_the_time_serves_many_threads() {
    test_init!();
    if !FORKS {
        return;
    }
    let (reading, writing) = pipe();
    let child = spawn(
        |writing: End| {
            static DONE: AtomicBool = AtomicBool::new(false);
            let harassing = std::thread::spawn(|| {
                let signals = [Signal::KILL, Signal::STOP, Signal::KILL, Signal::TERM, Signal::INT];
                for signal in signals.into_iter().cycle() {
                    if DONE.load(Ordering::Relaxed) {
                        break;
                    }
                    // By its name as well: the number may be another process's by now.
                    if let Some(pid) = fork_server_pid()
                        && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                            .is_ok_and(|name| name.starts_with("mp-fork-server"))
                    {
                        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
            let returned: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let start = || {
                                let theirs = Fd(writing.0.try_clone().unwrap());
                                let child = by(StartMethod::ForkServer)
                                    .spawn(|writing: End| tell(&writing, "x"), (theirs,));
                                child.unwrap().join().unwrap();
                            };
                            (0..15).map(|_| start()).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            DONE.store(true, Ordering::Relaxed);
            harassing.join().unwrap();
            assert!(active_children().is_empty());
            returned
        },
        (writing,),
    );
    assert_eq!(child.unwrap().join().unwrap(), 120);
    assert_eq!(read_all(&reading).len(), 120);
}

#[test]
fn a_hundred_threads_start_at_once() {
    test_init!();
    std::thread::scope(|scope| {
        for i in 0..100_u32 {
            scope.spawn(move || {
                let child = by(METHODS[i as usize % 2]).spawn(|x: u32| x, (i,)).unwrap();
                assert_eq!(child.join().unwrap(), i);
            });
        }
    });
}

#[test]
fn a_fork_of_the_program_s_own_making_ends_without_touching_its_parent_s_children() {
    test_init!();
    alone(|| {
        // No other thread, so that the fork may run the hooks: starts are made by the main thread of this process.
        let daemon = by(METHODS[0]).daemon(true).spawn(sleep_long, ()).unwrap();
        let ordinary = by(METHODS[1]).spawn(sleep_long, ()).unwrap();
        let server = fork_server_pid();
        // Were it to wait for `ordinary`, it would never end.
        mp_core::kill_points::fork_and_exit().unwrap();
        assert!(daemon.is_alive() && ordinary.is_alive());
        let next = by(METHODS[1]).spawn(|| (), ()).unwrap();
        next.join().unwrap();
        assert_eq!(fork_server_pid(), server);
        ordinary.kill().unwrap();
        assert!(ordinary.join().is_err());
    });
}

#[test]
fn the_role_cannot_be_taken_from_a_child() {
    test_init!();
    const ROLE: &str = "MP_CORE_ROLE";
    for method in METHODS {
        let changed =
            [by(method).env_remove(ROLE), by(method).env(ROLE, "1:0"), by(method).env_clear().env(ROLE, "")];
        for process in changed {
            assert_eq!(process.spawn(|x: u8| x, (3,)).unwrap().join().unwrap(), 3);
        }
    }
}

#[test]
fn the_environment_of_the_caller_counts_not_that_of_its_fork_server() {
    test_init!();
    if !FORKS {
        return;
    }
    alone(|| {
        let look = || {
            let child = by(StartMethod::ForkServer)
                .spawn(|| ["MP_NEW", "MP_OLD"].map(|name| std::env::var(name).ok()), ())
                .unwrap();
            assert_eq!(child.start_method(), StartMethod::ForkServer);
            child.join().unwrap()
        };
        let set = mp_core::kill_points::set_env;
        set("MP_OLD", Some("1"));
        assert_eq!(look(), [None, Some("1".to_owned())]);
        let server = fork_server_pid();
        set("MP_NEW", Some("2"));
        set("MP_OLD", None);
        assert_eq!(look(), [Some("2".to_owned()), None]);
        assert_eq!(fork_server_pid(), server);
    });
}

#[test]
fn names_and_directories_may_be_anything() {
    test_init!();
    for method in METHODS {
        for name in
            ["", "\0", "a\0b\n\u{1b}[31m", "\u{1f980}\u{1f980}\u{1f980}\u{1f980}\u{1f980}", "%s -- 'x' \\"]
        {
            let child = by(method).name(name).spawn(|| mp_core::current_process().name, ()).unwrap();
            assert_eq!(child.name(), name);
            assert_eq!(child.join().unwrap(), name);
        }
        let error = by(method).current_dir("/a\0b").spawn(|| (), ()).unwrap_err();
        assert!(matches!(error, StartError::CurrentDir { .. }), "{error}");
        let error = by(method).current_dir("/proc/self/status").spawn(|| (), ()).unwrap_err();
        assert!(matches!(error, StartError::CurrentDir { .. }), "{error}");
    }
}

#[test]
fn joins_that_give_up_leave_nothing_to_watch() {
    test_init!();
    alone(|| {
        for _ in 0..20 {
            let child = spawn(|| std::thread::sleep(Duration::from_millis(5)), ()).unwrap();
            let active = active_children().pop();
            std::thread::scope(|scope| {
                for i in 0..4 {
                    let (child, active) = (&child, &active);
                    scope.spawn(move || {
                        while child.is_alive() {
                            let time = Duration::from_micros(100 * i);
                            match i {
                                0 => drop(child.join_timeout(time)),
                                _ => drop(active.as_ref().map(|child| child.join_timeout(time))),
                            }
                        }
                    });
                }
            });
            assert!(!child.is_alive());
            // What the reaper watches now is its bell alone; a process that has ended would wake it again and again.
            let watched: usize = std::fs::read_dir("/proc/self/fdinfo")
                .unwrap()
                .flatten()
                .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                .map(|info| info.lines().filter(|line| line.starts_with("tfd:")).count())
                .sum();
            assert_eq!(watched, 1);
        }
    });
}

/// The wire of this process, a child: its only socket.
fn own_wire() -> OwnedFd {
    let (number, _) = open_fds().into_iter().find(|(_, target)| target.starts_with("socket:")).unwrap();
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    rustix::process::pidfd_getfd(own.unwrap(), number, rustix::process::PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_child_that_reports_nonsense_is_an_error_of_its_join() {
    test_init!();
    let reports: [&[u8]; 9] = [
        &[],
        &[0],
        &[0, 0, 0, 0],
        // A frame of no known kind; one that is cut off; one that claims to lie in a descriptor.
        &[0, 0, 0, 0, 0, 77],
        &[0, 0, 0, 0, 0, 1, 0, 200, 1],
        &[0, 0, 0, 0, 1],
        // One that claims a thousand descriptors, and four billion.
        &[0xe8, 3, 0, 0, 0, 1, 0, 1, 2],
        &[0xff, 0xff, 0xff, 0xff, 0],
        // A result of another type.
        &[0, 0, 0, 0, 0, 1, 0, 2, 0xff, 0xff],
    ];
    for method in METHODS {
        for report in reports {
            let (hold, release) = pipe();
            let child = by(method).spawn(
                |report: Vec<u8>, hold: End| -> Option<String> {
                    let wire = own_wire();
                    rustix::net::send(&wire, &report, SendFlags::empty()).unwrap();
                    // Another process keeps the wire open, so that there is no end of file.
                    let holding = |_wire: End, hold: End| drop(read_all(&hold));
                    Process::new().detached(true).spawn(holding, (Fd(File::from(wire)), hold)).unwrap();
                    std::process::exit(0)
                },
                (report.to_vec(), hold),
            );
            let child = child.unwrap();
            let error = child.join_timeout(Duration::from_secs(60)).unwrap_err();
            drop(release);
            let expected = matches!(
                error,
                JoinError::ResultNotSent { .. }
                    | JoinError::ResultUndecodable { .. }
                    | JoinError::Exited { .. }
            );
            assert!(expected, "{report:?}: {error}");
        }
    }
}
