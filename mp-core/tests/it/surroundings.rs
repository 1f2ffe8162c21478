//! What a process has around it: streams, descriptors, limits; by both start methods.

use std::{
    io::{Read, Write},
    os::fd::AsRawFd,
    time::Duration,
};

use mp_core::{JoinError, Process, Refusal, StartError, StartMethod, Stream, spawn, test_init, transfer::Fd};

use crate::common::{End, METHODS, by, open_fds, pipe, read_all, sleep_long, tell};

/// 0, 1, 2 and the wire: `given` more, nothing else.
fn check_fds(fds: &[(i32, String)], given: usize) {
    let beyond: Vec<_> = fds.iter().filter(|(number, _)| *number > 2).collect();
    let sockets = beyond.iter().filter(|(_, target)| target.starts_with("socket:")).count();
    assert!(beyond.len() <= given + 1 && sockets <= 1, "{fds:?}");
}

#[test]
fn p15_a_child_has_its_streams_and_what_it_was_given_whatever_else_is_open() {
    test_init!();
    // Open in this process, and not even closed on exec; one of them has a high number.
    let file = std::fs::File::open("/dev/zero").unwrap();
    let leaky: Vec<_> = (0..60).map(|_| rustix::io::dup(&file).unwrap()).collect();
    assert!(leaky.iter().any(|fd| fd.as_raw_fd() >= 50));
    for method in METHODS {
        let siblings: Vec<_> = (0..5).map(|_| by(method).spawn(sleep_long, ()).unwrap()).collect();
        let first = by(method).spawn(open_fds, ()).unwrap().join().unwrap();
        check_fds(&first, 0);
        assert!(!first.iter().any(|(_, target)| target == "/dev/zero"), "{first:?}");
        let given = by(method).spawn(|_file: End| open_fds(), (Fd(file.try_clone().unwrap()),));
        let given = given.unwrap().join().unwrap();
        check_fds(&given, 1);
        assert_eq!(given.iter().filter(|(_, target)| target == "/dev/zero").count(), 1, "{given:?}");
        for sibling in siblings {
            sibling.kill().unwrap();
            assert!(sibling.join().is_err());
        }
    }
}

#[test]
fn starts_from_many_threads_leak_nothing_between_the_children() {
    test_init!();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                for i in 0..10 {
                    let method = METHODS[(thread + i) % 2];
                    let (reading, writing) = pipe();
                    let tell_fds = |writing: End| {
                        tell(&writing, "x");
                        open_fds()
                    };
                    let child = by(method).spawn(tell_fds, (writing,)).unwrap();
                    // The end of file comes only if no other child got a copy.
                    assert_eq!(read_all(&reading), "x");
                    check_fds(&child.join().unwrap(), 1);
                }
            });
        }
    });
}

#[test]
fn thousands_of_handles_travel_in_one_call_and_back() {
    test_init!();
    // As many as most systems let a process have, by default, but for some that it needs itself.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000);
    let count = (limit / 4).min(4000) as usize;
    for method in METHODS {
        let files: Vec<End> =
            (0..count).map(|_| Fd(std::fs::File::open("/proc/self/status").unwrap())).collect();
        let child = by(method).spawn(
            |files: Vec<End>| {
                assert!(files.iter().all(|file| {
                    let mut byte = [0];
                    (&file.0).read(&mut byte).is_ok()
                }));
                files
            },
            (files,),
        );
        assert_eq!(child.unwrap().join().unwrap().len(), count);
    }
}

#[test]
fn standard_input_leads_nowhere_or_where_it_was_told_to() {
    test_init!();
    fn read_stdin() -> (String, String) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        (text, std::fs::read_link("/proc/self/fd/0").unwrap().display().to_string())
    }
    for method in METHODS {
        assert_eq!(
            by(method).spawn(read_stdin, ()).unwrap().join().unwrap(),
            (String::new(), "/dev/null".to_owned())
        );
        let (reading, writing) = pipe();
        let child = by(method).stdin(std::os::fd::OwnedFd::from(reading.0)).spawn(read_stdin, ()).unwrap();
        tell(&writing, "hello");
        drop(writing);
        assert_eq!(child.join().unwrap().0, "hello");
    }
}

#[test]
fn output_goes_where_it_was_told_to() {
    test_init!();
    for method in METHODS {
        let (out, their_out) = pipe();
        let (err, their_err) = pipe();
        let child = by(method)
            .stdout(std::os::fd::OwnedFd::from(their_out.0))
            .stderr(std::os::fd::OwnedFd::from(their_err.0))
            .spawn(
                || {
                    print!("to out");
                    eprint!("to err");
                },
                (),
            )
            .unwrap();
        child.join().unwrap();
        assert_eq!(read_all(&out), "to out");
        assert_eq!(read_all(&err), "to err");
        let where_to = by(method)
            .stdout(Stream::Null)
            .spawn(|| std::fs::read_link("/proc/self/fd/1").unwrap().display().to_string(), ());
        assert_eq!(where_to.unwrap().join().unwrap(), "/dev/null");
    }
}

#[test]
fn s2_the_text_of_a_panic_is_whole_on_standard_error() {
    test_init!();
    for method in METHODS {
        let (err, their_err) = pipe();
        let child = by(method)
            .stderr(std::os::fd::OwnedFd::from(their_err.0))
            .spawn(|| -> () { panic!("first line\n{}\nlast line", "x".repeat(10_000)) }, ())
            .unwrap();
        let text = read_all(&err);
        assert!(text.contains("panicked at"), "{text}");
        assert!(text.contains("first line\nxxx") && text.contains("xxx\nlast line"), "{text}");
        assert!(matches!(child.join(), Err(JoinError::Panicked { .. })));
    }
}

#[test]
fn p17_closed_and_broken_output_disturbs_nothing() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        drop(reading);
        let broken = || writing.0.try_clone().map(std::os::fd::OwnedFd::from).unwrap();
        let child = by(method)
            .stdout(broken())
            .stderr(broken())
            .spawn(
                || {
                    let _ = writeln!(std::io::stdout(), "nobody reads this");
                    let _ = write!(std::io::stderr(), "nor this");
                    7
                },
                (),
            )
            .unwrap();
        assert_eq!(child.join().unwrap(), 7);
        assert!(child.exit_status().unwrap().success());
        // A parent without output, whose wires must not take the place of its output.
        let middle = by(method).spawn(
            |method| {
                mp_core::kill_points::close_streams();
                let child = by(method).spawn(
                    || {
                        let _ = writeln!(std::io::stdout(), "where does this go?");
                        8
                    },
                    (),
                );
                let child = child.map_err(|error| error.to_string())?;
                let _ = writeln!(std::io::stdout(), "and this?");
                child.join().map_err(|error| error.to_string())
            },
            (method,),
        );
        assert_eq!(middle.unwrap().join().unwrap(), Ok(8));
    }
}

#[test]
fn limits_hold() {
    test_init!();
    for method in METHODS {
        let files = by(method).open_files(20).spawn(
            || {
                let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null")).collect();
                files.iter().filter(|file| file.is_ok()).count()
            },
            (),
        );
        let opened = files.unwrap().join().unwrap();
        assert!(opened < 20, "{opened}");

        let memory = by(method).address_space(1 << 30).spawn(
            || {
                let reserve = |bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok();
                (reserve(1 << 20), reserve(2 << 30))
            },
            (),
        );
        assert_eq!(memory.unwrap().join().unwrap(), (true, false));

        let spin = || -> () {
            loop {
                std::hint::spin_loop();
            }
        };
        let error =
            by(method).cpu_time(Duration::from_millis(500)).spawn(spin, ()).unwrap().join().unwrap_err();
        assert!(error.to_string().contains("SIGXCPU"), "{error}");

        let nice = by(method).nice(7).spawn(|| rustix::process::getpriority_process(None).unwrap(), ());
        assert_eq!(nice.unwrap().join().unwrap(), 7);

        let first = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..1024).find(|cpu| first.is_set(*cpu)).unwrap();
        let cpus = by(method).cpus([first as u32]).spawn(|| mp_core::cpu_count().get(), ());
        assert_eq!(cpus.unwrap().join().unwrap(), 1);
    }
}

#[test]
fn a_limit_that_cannot_be_set_is_an_error() {
    test_init!();
    for method in METHODS {
        let error = by(method).cpus([1023]).spawn(|| (), ()).unwrap().join().unwrap_err();
        assert!(matches!(error, JoinError::Refused { reason: Refusal::Limit { .. }, .. }), "{error}");
    }
}

#[test]
fn a_directory_or_a_variable_that_cannot_be_is_an_error_of_the_start() {
    test_init!();
    for method in METHODS {
        let error = by(method).current_dir("/no/such/directory").spawn(|| (), ()).unwrap_err();
        assert!(matches!(error, StartError::CurrentDir { .. }), "{error}");
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "x\0")] {
            let error = by(method).env(name, value).spawn(|| (), ()).unwrap_err();
            assert!(matches!(error, StartError::Environment { .. }), "{error}");
        }
    }
}

#[test]
fn the_environment_is_the_one_that_was_asked_for() {
    test_init!();
    for method in METHODS {
        let child = by(method).env_clear().env("A", "1").env("A", "2").env("B", "").env_remove("B").spawn(
            || {
                let mut all: Vec<_> =
                    std::env::vars().filter(|(name, _)| !name.starts_with("RUSTDOC_")).collect();
                all.sort();
                all
            },
            (),
        );
        assert_eq!(child.unwrap().join().unwrap(), [("A".to_owned(), "2".to_owned())]);
        let child = by(method).spawn(|| std::env::var("MP_CORE_ROLE").is_ok(), ()).unwrap();
        assert!(!child.join().unwrap());
    }
}

#[test]
fn p14_what_was_passed_is_kept_by_the_child_only() {
    test_init!();
    for method in METHODS {
        let (reading, writing) = pipe();
        let (hold, release) = pipe();
        let child = by(method)
            .spawn(
                |writing: End, hold: End| {
                    read_all(&hold);
                    drop(writing);
                    sleep_long();
                },
                (writing, hold),
            )
            .unwrap();
        drop(release);
        // The end of file: this process has no copy left, and neither has the fork server.
        assert_eq!(read_all(&reading), "");
        child.kill().unwrap();
        assert!(child.join().is_err());
    }
}

#[test]
fn the_start_method_is_known_and_inherited() {
    test_init!();
    for method in METHODS {
        let child = by(method).spawn(|| mp_core::current_process().start_method, ()).unwrap();
        assert_eq!(child.start_method(), method);
        assert_eq!(child.join().unwrap(), Some(method));
    }
    let inherited = spawn(
        || {
            mp_core::set_start_method(StartMethod::ForkServer);
            spawn(|| spawn(|| (), ()).unwrap().start_method(), ()).unwrap().join().unwrap()
        },
        (),
    );
    assert_eq!(inherited.unwrap().join().unwrap(), METHODS[1]);
}

#[test]
#[cfg(not(target_env = "gnu"))]
fn without_a_fork_server_a_process_is_started_by_re_exec_and_says_so() {
    test_init!();
    for i in 0..3_u32 {
        let child = by(StartMethod::ForkServer).spawn(|x: u32| x + 1, (i,)).unwrap();
        assert_eq!(child.start_method(), StartMethod::ReExec);
        assert_eq!(child.join().unwrap(), i + 1);
    }
}

#[test]
fn large_arguments_travel_by_both_methods() {
    test_init!();
    for method in METHODS {
        let text = "0123456789abcdef".repeat(4 << 20);
        let child = by(method).spawn(|text: String| (text.len(), text), (text.clone(),)).unwrap();
        let (len, back) = child.join().unwrap();
        assert_eq!(len, 64 << 20);
        assert!(back == text);
    }
}

#[test]
fn a_large_name_and_a_large_panic_arrive_whole() {
    test_init!();
    let name = "n".repeat(300_000);
    for method in METHODS {
        let child = by(method).name(name.clone()).spawn(|| mp_core::current_process().name, ()).unwrap();
        assert!(child.join().unwrap() == name);
    }
    let (_err, quiet) = pipe();
    let child = Process::new()
        .stderr(std::os::fd::OwnedFd::from(quiet.0))
        .spawn(|| -> () { std::panic::resume_unwind(Box::new("m".repeat(1 << 20))) }, ())
        .unwrap();
    let Err(JoinError::Panicked { report, .. }) = child.join() else { panic!("a panic was expected") };
    assert_eq!(report.message.len(), 1 << 20);
}
