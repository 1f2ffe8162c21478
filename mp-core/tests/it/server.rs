//! The fork server: the same processes, started by a fork.

use std::time::Duration;

use mp_core::{JoinError, Process, StartMethod, fork_server_pid, set_start_method, test_init};
use rustix::process::{Pid, Signal, kill_process};

fn by_server() -> Process {
    Process::new().start_method(StartMethod::ForkServer)
}

fn sleep_long() {
    std::thread::sleep(Duration::from_secs(600));
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
