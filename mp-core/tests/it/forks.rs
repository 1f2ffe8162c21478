//! Forks that the program makes by itself, and what they may do with this crate.

use std::time::Duration;

use mp_core::{
    ActiveChild, Process, active_children, fork_server_pid,
    kill_points::{fork_and, fork_here},
    test_init,
};

use crate::common::{METHODS, all_children, by, settles};

/// Generous, because the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

/// Starts a process by each method, from this thread and another one, and drops one handle.
fn start_some() {
    for method in METHODS {
        let here = by(method).spawn(|x: u32| x + 1, (1,)).unwrap();
        let there =
            std::thread::spawn(move || by(method).spawn(|x: u32| x + 1, (2,)).unwrap().join().unwrap());
        assert_eq!((here.join().unwrap(), there.join().unwrap()), (2, 3));
        drop(by(method).spawn(|| (), ()).unwrap());
    }
    // Those that were dropped are reaped.
    settles(&true, || all_children().into_iter().all(|pid| Some(pid) == fork_server_pid()));
}

#[test]
fn a_fork_of_the_program_s_own_making_starts_processes_and_leaves_its_parent_s_alone() {
    test_init!();
    let child = Process::new().daemon(true).spawn(
        || {
            // Once without and once with a reaper and a fork server that the fork could take for its own.
            for _ in 0..2 {
                let before = fork_server_pid();
                let inside = || {
                    assert!(active_children().is_empty() && fork_server_pid().is_none());
                    start_some();
                };
                assert!(fork_and(inside).unwrap());
                assert_eq!(fork_server_pid(), before);
                start_some();
                if before.is_some() {
                    assert_eq!(fork_server_pid(), before);
                }
            }
        },
        (),
    );
    child.unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn a_fork_cannot_disturb_the_watch_over_its_parent_s_children() {
    test_init!();
    let child = Process::new().daemon(true).spawn(
        || {
            for method in METHODS {
                // Long enough that the fork waits for it before it ends; it must be reaped in any case.
                drop(by(method).spawn(|| std::thread::sleep(Duration::from_millis(300)), ()).unwrap());
            }
            let children = active_children();
            let inside = || {
                let ended = |child: &ActiveChild| child.join_timeout(SOON);
                assert!(children.iter().all(ended));
            };
            assert!(fork_and(inside).unwrap());
            // Nobody joins them: the reaper must see the end.
            settles(&true, || all_children().into_iter().all(|pid| Some(pid) == fork_server_pid()));
        },
        (),
    );
    child.unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn a_fork_knows_who_it_is_and_its_parent_does_still() {
    test_init!();
    let child = Process::new().spawn(
        || {
            let knows = || assert_eq!(mp_core::os::own_pid(), std::process::id());
            knows();
            assert!(fork_and(|| assert!(fork_and(knows).unwrap())).unwrap());
            assert!(fork_and(knows).unwrap());
            knows();
        },
        (),
    );
    child.unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn a_fork_that_comes_back_from_the_function_of_a_child_ends_and_answers_nothing() {
    test_init!();
    for method in METHODS {
        let child = by(method).spawn(
            |name: String| {
                // The fork has ended when this one goes on.
                assert!(fork_here().unwrap().is_none_or(|code| code == 1));
                (name, std::process::id())
            },
            ("child".to_owned(),),
        );
        let child = child.unwrap();
        assert_eq!(child.join().unwrap(), ("child".to_owned(), child.pid()));
    }
}
