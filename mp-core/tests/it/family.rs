//! Parents, children, and what the end of one means for the others; by both start methods.

use std::time::{Duration, Instant};

use mp_core::{
    JoinError, Process, StartError, active_children, current_process, parent_process, spawn, spawn_thread,
    test_init, transfer::Fd,
};

use crate::common::{End, METHODS, by, ends_within, pipe, read_all, read_line, sleep_long, tell, watch};

/// Generous, because the machine may be busy; the promise is a second on an idle one.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn p1_the_current_process_knows_itself() {
    test_init!();
    let own = current_process();
    assert_eq!((own.name.as_str(), own.pid, own.daemon), ("Main", std::process::id(), false));
    assert!(parent_process().is_none());
    for method in METHODS {
        let child =
            by(method).name("someone").spawn(|| (current_process().name, current_process().pid), ()).unwrap();
        let pid = child.pid();
        assert_eq!(child.join().unwrap(), ("someone".to_owned(), pid));
    }
}

#[test]
fn p3_the_daemon_flag_is_the_parents_unless_said_otherwise() {
    test_init!();
    fn flags() -> [bool; 3] {
        [None, Some(true), Some(false)].map(|flag| {
            let mut process = Process::new();
            if let Some(flag) = flag {
                process = process.daemon(flag);
            }
            let child = process.spawn(|| current_process().daemon, ()).unwrap();
            let seen = child.daemon();
            assert_eq!(child.join().unwrap(), seen);
            seen
        })
    }
    for method in METHODS {
        for daemon in [false, true] {
            let child = by(method).daemon(daemon).spawn(flags, ()).unwrap();
            assert_eq!(child.join().unwrap(), [daemon, true, false]);
        }
    }
}

#[test]
fn p4_a_child_knows_its_parent() {
    test_init!();
    for method in METHODS {
        let child = by(method)
            .spawn(
                || {
                    let parent = parent_process().unwrap();
                    (parent.pid(), parent.name().to_owned(), parent.is_alive())
                },
                (),
            )
            .unwrap();
        assert_eq!(child.join().unwrap(), (std::process::id(), "Main".to_owned(), true));
    }
}

#[test]
fn p5_a_grandchild_sees_its_parent_die() {
    test_init!();
    for method in METHODS {
        let (reports, reporting) = pipe();
        let middle = by(method)
            .spawn(
                |method, reporting: End| {
                    let grandchild = |reporting: End| {
                        let parent = parent_process().unwrap();
                        assert!(parent.is_alive());
                        assert!(!parent.join_timeout(Duration::ZERO));
                        tell(&reporting, "alive\n");
                        assert!(parent.join_timeout(Duration::from_secs(600)));
                        assert!(!parent.is_alive());
                        assert!(!parent_process().unwrap().is_alive());
                        tell(&reporting, "dead\n");
                    };
                    // Only a detached process can see it: any other dies, too.
                    by(method).detached(true).spawn(grandchild, (reporting,)).unwrap();
                    sleep_long();
                },
                (method, reporting),
            )
            .unwrap();
        assert_eq!(read_line(&reports), "alive");
        middle.kill().unwrap();
        assert_eq!(read_line(&reports), "dead");
        assert!(middle.join().is_err());
        assert_eq!(read_all(&reports), "");
    }
}

#[test]
fn p9_active_children_are_those_that_run() {
    test_init!();
    let listed = spawn(
        || {
            assert!(active_children().is_empty());
            for method in METHODS {
                let child = by(method).name("active").spawn(sleep_long, ()).unwrap();
                let active = active_children();
                assert_eq!(active.len(), 1);
                assert_eq!((active[0].name(), active[0].pid()), ("active", child.pid()));
                assert!(active[0].is_alive() && !active[0].join_timeout(Duration::ZERO));
                active[0].kill().unwrap();
                assert!(active[0].join_timeout(Duration::from_secs(600)));
                assert!(active_children().is_empty());
                assert!(child.join().is_err());
            }
        },
        (),
    );
    listed.unwrap().join().unwrap();
}

#[test]
fn p13_sleepers_are_ended_by_their_signal_also_right_after_the_start() {
    test_init!();
    for method in METHODS {
        let children: Vec<_> = (0..50).map(|_| by(method).spawn(sleep_long, ()).unwrap()).collect();
        for child in &children {
            child.terminate().unwrap();
        }
        for child in &children {
            let error = child.join().unwrap_err();
            assert!(matches!(error, JoinError::Killed { .. } | JoinError::DiedEarly { .. }), "{error}");
            assert_eq!(child.exit_status().unwrap().signal(), Some(15));
        }
    }
}

#[test]
fn p16_a_child_waits_for_its_own_threads_and_children() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        let child = by(method).spawn(
            |method, writing: End| {
                let theirs = Fd(writing.0.try_clone().unwrap());
                by(method)
                    .spawn(
                        |writing: End| {
                            std::thread::sleep(Duration::from_millis(100));
                            tell(&writing, "c");
                        },
                        (theirs,),
                    )
                    .unwrap();
                spawn_thread(move || {
                    std::thread::sleep(Duration::from_millis(100));
                    tell(&writing, "t");
                })
                .map(drop)
                .unwrap();
            },
            (method, writing),
        );
        child.unwrap().join().unwrap();
        let mut told: Vec<_> = read_all(&reading).into_bytes();
        told.sort_unstable();
        assert_eq!(told, b"ct");
    }
}

#[test]
fn a_thread_that_is_waited_for_may_end_its_process() {
    test_init!();
    for method in METHODS {
        let child = by(method).daemon(true).spawn(
            || {
                let main = format!("/proc/self/task/{}/stat", std::process::id());
                spawn_thread(move || {
                    // Until the main thread sleeps, most likely in its wait for this one; any other order must end, too.
                    let deadline = Instant::now() + SOON;
                    while !std::fs::read_to_string(&main).unwrap().contains(") S ")
                        && Instant::now() < deadline
                    {
                        std::thread::yield_now();
                    }
                    std::process::exit(7)
                })
                .map(drop)
                .unwrap();
            },
            (),
        );
        let child = child.unwrap();
        let result = child.join_timeout(SOON);
        assert!(!matches!(result, Err(JoinError::TimedOut { .. })), "it hangs");
        assert_eq!(child.exit_status().unwrap().code(), 7, "{result:?}");
    }
}

#[test]
fn a_normal_end_waits_for_children_terminates_daemons_and_leaves_the_detached_alone() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        let parent = by(method).spawn(
            |method, writing: End| {
                let daemon = by(method).daemon(true).spawn(sleep_long, ()).unwrap();
                let detached = by(method).detached(true).spawn(sleep_long, ()).unwrap();
                let ordinary = by(method)
                    .spawn(
                        |writing: End| {
                            std::thread::sleep(Duration::from_millis(200));
                            tell(&writing, "done");
                        },
                        (writing,),
                    )
                    .unwrap();
                [daemon.pid(), detached.pid(), ordinary.pid()]
            },
            (method, writing),
        );
        let [daemon, detached, ordinary] = parent.unwrap().join().unwrap();
        assert_eq!(read_all(&reading), "done");
        let gone = |pid: u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(gone(daemon) && gone(ordinary));
        assert!(!gone(detached));
        let watched = watch(detached);
        rustix::process::pidfd_send_signal(&watched, rustix::process::Signal::KILL).unwrap();
        assert!(ends_within(&watched, SOON));
    }
}

#[test]
fn a_killed_parent_takes_its_whole_tree_with_it() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        let parent = by(method)
            .spawn(
                |writing: End| {
                    fn grow(depth: u32, writing: End) {
                        if depth > 0 {
                            // From threads that end at once: the parent-death signal must not follow them.
                            for method in METHODS {
                                let theirs = Fd(writing.0.try_clone().unwrap());
                                std::thread::spawn(move || {
                                    by(method).spawn(grow, (depth - 1, theirs)).unwrap()
                                })
                                .join()
                                .unwrap();
                            }
                        }
                        tell(&writing, &format!("{}\n", std::process::id()));
                        sleep_long();
                    }
                    grow(2, writing);
                },
                (writing,),
            )
            .unwrap();
        let tree: Vec<_> = (0..7).map(|_| read_line(&reading).parse::<u32>().unwrap()).collect();
        let watched: Vec<_> = tree.iter().map(|pid| watch(*pid)).collect();
        // All starting threads are gone, and all processes are still there.
        assert!(watched.iter().all(|pidfd| !ends_within(pidfd, Duration::ZERO)));
        let begin = Instant::now();
        parent.kill().unwrap();
        assert!(watched.iter().all(|pidfd| ends_within(pidfd, SOON)));
        println!("{method:?}: the tree was gone after {:?}", begin.elapsed());
        assert!(parent.join().is_err());
    }
}

#[test]
fn a_dropped_handle_neither_kills_nor_leaves_a_zombie() {
    test_init!();
    let child = spawn(
        || {
            let children = || {
                let mut all = Vec::new();
                for task in std::fs::read_dir("/proc/self/task").unwrap() {
                    let text = std::fs::read_to_string(task.unwrap().path().join("children"));
                    all.extend(text.unwrap_or_default().split_whitespace().map(str::to_owned));
                }
                all.len()
            };
            let (reading, writing) = pipe();
            for method in METHODS {
                for _ in 0..10 {
                    let theirs = Fd(writing.0.try_clone().unwrap());
                    let child = by(method)
                        .spawn(
                            |writing: End| {
                                std::thread::sleep(Duration::from_millis(50));
                                tell(&writing, "x");
                            },
                            (theirs,),
                        )
                        .unwrap();
                    drop(child);
                }
            }
            drop(writing);
            assert_eq!(read_all(&reading).len(), 20);
            let deadline = Instant::now() + SOON;
            // All that is left is the fork server.
            while children() > 1 {
                assert!(Instant::now() < deadline, "{} children are left", children());
                std::thread::sleep(Duration::from_millis(1));
            }
        },
        (),
    );
    child.unwrap().join().unwrap();
}

#[test]
fn a_thousand_starts_leave_everything_as_it_was() {
    test_init!();
    let directory = std::env::temp_dir().join(format!("mp-core-thousand-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let shm = || {
        let own = |name: &std::ffi::OsString| name.to_string_lossy().contains("mp-");
        std::fs::read_dir("/dev/shm")
            .map(|all| all.flatten().map(|entry| entry.file_name()).filter(own).count())
            .unwrap_or(0)
    };
    let before = shm();
    let child = Process::new()
        .env("TMPDIR", &directory)
        .spawn(
            || {
                let count = |path: &str| std::fs::read_dir(path).unwrap().count();
                let once = |method| {
                    let child = by(method).spawn(|x: u64| x, (1,)).unwrap();
                    assert_eq!(child.join().unwrap(), 1);
                };
                METHODS.into_iter().for_each(once);
                let now = || (count("/proc/self/fd"), count("/proc/self/task"));
                // The reaper may be about to let go of the last one, here and at the end.
                let before = now();
                for i in 0..1000 {
                    once(METHODS[i % 2]);
                }
                assert!(active_children().is_empty());
                let deadline = Instant::now() + SOON;
                while now().0 > before.0 || now().1 > before.1 {
                    assert!(
                        Instant::now() < deadline,
                        "{:?} descriptors and threads, {before:?} before",
                        now()
                    );
                    std::thread::sleep(Duration::from_millis(1));
                }
            },
            (),
        )
        .unwrap();
    let result = child.join();
    let left = std::fs::read_dir(&directory).unwrap().count();
    std::fs::remove_dir_all(&directory).unwrap();
    result.unwrap();
    assert_eq!((left, shm()), (0, before));
}

#[test]
fn generations_without_end_are_an_error() {
    test_init!();
    fn deeper(depth: u32) -> Result<u32, String> {
        match spawn(deeper, (depth + 1,)) {
            Ok(child) => child.join().map_err(|error| error.to_string())?,
            Err(StartError::TooDeep { limit, .. }) => Ok(limit - depth),
            Err(error) => Err(error.to_string()),
        }
    }
    assert_eq!(deeper(0), Ok(0));
}
