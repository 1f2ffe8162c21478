//! Signals: those that must not disturb, and those that end a whole group.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mp_core::{JoinError, kill_points::heed, spawn, test_init};
use rustix::process::Signal;

use crate::common::{End, METHODS, by, ends_within, pipe, read_byte, sleep_long, tell, text, watch};

#[test]
fn signals_do_not_surface() {
    test_init!();
    let child = spawn(
        || {
            use rustix::process::{Signal, getpid, kill_process};
            const USR1: i32 = 10;
            mp_core::kill_points::interruptible(USR1);
            static DONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
            let pelting = std::thread::spawn(|| {
                let mut sent = 0_u32;
                while !DONE.load(std::sync::atomic::Ordering::Relaxed) {
                    kill_process(getpid(), Signal::USR1).unwrap();
                    sent += 1;
                    std::thread::sleep(Duration::from_micros(50));
                }
                sent
            });
            for i in 0..60 {
                let text = "x".repeat(i * 10_000);
                let child = by(METHODS[i % 2])
                    .spawn(
                        |text: String| {
                            std::thread::sleep(Duration::from_millis(2));
                            text
                        },
                        (text.clone(),),
                    )
                    .unwrap();
                let begin = Instant::now();
                match child.join_timeout(Duration::from_millis(1)) {
                    Err(JoinError::TimedOut { .. }) => {
                        assert!(begin.elapsed() >= Duration::from_millis(1));
                        assert!(child.join().unwrap() == text);
                    }
                    result => assert!(result.unwrap() == text),
                }
            }
            DONE.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(pelting.join().unwrap() > 100);
        },
        (),
    );
    child.unwrap().join().unwrap();
}

#[test]
fn a_stopped_child_can_be_joined_with_a_timeout_and_killed() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        let child = by(method)
            .spawn(
                |writing: End| {
                    tell(&writing, "x");
                    sleep_long();
                },
                (writing,),
            )
            .unwrap();
        assert_eq!(read_byte(&reading), b'x');
        rustix::process::pidfd_send_signal(&child, Signal::STOP).unwrap();
        assert!(child.is_alive());
        assert!(matches!(child.join_timeout(Duration::from_millis(10)), Err(JoinError::TimedOut { .. })));
        child.kill().unwrap();
        assert!(matches!(child.join(), Err(JoinError::Killed { .. })));
    }
}

/// Starts this test again as a program in a process group of its own, with `shell` around it, and sends the group SIGINT,
/// as a terminal does on Ctrl-C, when all its children run. Returns how the whole ended; `None` in the program itself.
fn interrupted(name: &str, shell: Option<&str>) -> Option<std::process::Output> {
    if std::env::var_os("MP_IT_INTERRUPTED").is_some() {
        test_init!();
        let ordinary =
            METHODS.into_iter().flat_map(|method| [by(method).daemon(true), by(method)]).collect::<Vec<_>>();
        let detached = METHODS.into_iter().map(|method| by(method).detached(true));
        // Told by the children themselves: from then on they are what they will be.
        let (running, told) = pipe();
        let children: Vec<_> = ordinary
            .into_iter()
            .chain(detached)
            .map(|process| {
                let told = mp_core::transfer::Fd(told.0.try_clone().unwrap());
                let run = |told: End| {
                    tell(&told, "x");
                    sleep_long();
                };
                let child = process.spawn(run, (told,)).unwrap();
                read_byte(&running);
                child
            })
            .collect();
        let pids: Vec<_> = children.iter().map(|child| child.pid().to_string()).collect();
        println!("pids: {}", pids.join(" "));
        children[0].join().unwrap();
        return None;
    }
    heed(Signal::INT.as_raw());
    let own = std::env::current_exe().unwrap();
    let mut command = match shell {
        Some(script) => {
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(own);
            command
        }
        None => Command::new(own),
    };
    command.args([name, "--exact", "--nocapture"]).env("MP_IT_INTERRUPTED", "1").process_group(0);
    let mut running =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(running.stdout.take().unwrap());
    let pids = out.by_ref().lines().map(Result::unwrap).find_map(|line| {
        line.split_once("pids: ")
            .map(|(_, pids)| pids.split(' ').map(|pid| pid.parse::<u32>().unwrap()).collect::<Vec<_>>())
    });
    let pids = pids.unwrap();
    let watched: Vec<_> = pids.iter().map(|pid| watch(*pid)).collect();
    rustix::process::kill_process_group(rustix::process::Pid::from_child(&running), Signal::INT).unwrap();
    let (detached, ordinary) = (&watched[watched.len() - 2..], &watched[..watched.len() - 2]);
    assert!(ordinary.iter().all(|pidfd| ends_within(pidfd, Duration::from_secs(20))));
    let sessions = &pids[pids.len() - 2..];
    for (pidfd, pid) in detached.iter().zip(sessions) {
        // Not even the end of the terminal reaches it.
        let own = rustix::process::Pid::from_raw(pid.cast_signed());
        assert_eq!(rustix::process::getsid(own).ok(), own);
        assert!(!ends_within(pidfd, Duration::ZERO), "a detached process was interrupted");
        rustix::process::pidfd_send_signal(pidfd, Signal::KILL).unwrap();
    }
    let mut output = running.wait_with_output().unwrap();
    out.read_to_end(&mut output.stdout).unwrap();
    Some(output)
}

#[test]
fn ctrl_c_ends_the_program_once_and_silently_and_leaves_the_detached_alone() {
    const NAME: &str = "signals::ctrl_c_ends_the_program_once_and_silently_and_leaves_the_detached_alone";
    let Some(output) = interrupted(NAME, None) else { return };
    assert_eq!(output.status.signal(), Some(2), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_shell_reports_an_interrupted_program_with_status_130() {
    const NAME: &str = "signals::a_shell_reports_an_interrupted_program_with_status_130";
    let script = "trap : INT; \"$0\" \"$@\"; echo status $?";
    let Some(output) = interrupted(NAME, Some(script)) else { return };
    assert!(text(&output.stdout).ends_with("status 130\n"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_signal_mask_of_the_caller_stays_and_that_of_the_child_is_empty() {
    test_init!();
    fn blocked() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk:")).unwrap().to_owned()
    }
    for method in METHODS {
        let before = blocked();
        let child = by(method).spawn(blocked, ()).unwrap();
        assert_eq!(blocked(), before);
        assert_eq!(child.join().unwrap(), "SigBlk:\t0000000000000000");
    }
}

#[test]
fn a_core_dump_is_reported_as_the_kernel_reports_it() {
    const NAME: &str = "signals::a_core_dump_is_reported_as_the_kernel_reports_it";
    use rustix::process::{Resource, getrlimit, setrlimit};
    fn crash() {
        let mut limit = getrlimit(Resource::Core);
        limit.current = limit.maximum;
        setrlimit(Resource::Core, limit).unwrap();
        std::process::abort();
    }
    if std::env::var_os("MP_IT_CRASH").is_some() {
        crash();
    }
    test_init!();
    let directory = std::env::temp_dir().join(format!("mp-core-core-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    // What happens depends on the system: a file, a program that collects it, or nothing. As std sees it, so do we.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([NAME, "--exact"]).env("MP_IT_CRASH", "1").current_dir(&directory);
    let std = command.stdin(Stdio::null()).output().unwrap().status;
    let errors = METHODS.map(|method| by(method).current_dir(&directory).spawn(crash, ()).unwrap().join());
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(std.signal(), Some(6));
    for error in errors.map(Result::unwrap_err) {
        let status = error.exit_status().unwrap();
        assert_eq!((status.signal(), status.core_dumped()), (Some(6), std.core_dumped()), "{error}");
        assert_eq!(error.to_string().contains("core dumped"), std.core_dumped(), "{error}");
    }
}

#[test]
fn a_program_that_lets_the_kernel_forget_its_children_still_gets_results() {
    test_init!();
    let middle = spawn(
        || {
            mp_core::kill_points::ignore_children();
            METHODS.map(|method| {
                let child = by(method).spawn(|x: u32| 2 * x, (21,)).unwrap();
                let result = child.join().unwrap();
                // How it ended is lost.
                (result, child.exit_status().unwrap().code(), child.is_alive())
            })
        },
        (),
    );
    assert_eq!(middle.unwrap().join().unwrap(), [(42, 255, false), (42, 255, false)]);
}
