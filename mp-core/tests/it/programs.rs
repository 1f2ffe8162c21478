//! Whole programs, run from the outside: how they begin, and how they end.

#[cfg(target_env = "gnu")]
use std::{ffi::CString, path::PathBuf};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
};

#[cfg(target_env = "gnu")]
use mp_core::kill_points::call_library;
use mp_core::{StartError, spawn, test_init};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{METHODS, by, program, text};

#[test]
fn a_program_without_init_gets_an_error_that_says_what_to_add() {
    let Some(output) =
        program("programs::a_program_without_init_gets_an_error_that_says_what_to_add", |_| {})
    else {
        let error = spawn(|| (), ()).unwrap_err();
        assert!(matches!(error, StartError::NotInitialised), "{error}");
        eprintln!("{error}");
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("mp_core::init();") && said.contains("first line of `main`"), "{said}");
}

#[test]
fn init_elsewhere_than_on_the_main_thread_is_an_error_that_says_what_to_write() {
    let Some(output) = program(
        "programs::init_elsewhere_than_on_the_main_thread_is_an_error_that_says_what_to_write",
        |_| {},
    ) else {
        // As in a test; and, without the name of one, in a thread that a test has started.
        for init in [mp_core::init, mp_core::init_test] {
            thread::spawn(init).join().unwrap();
            let error = spawn(|| (), ()).unwrap_err();
            assert!(matches!(error, StartError::NotInitialised), "{error}");
            assert!(
                error.to_string().contains("in a test: `mp_core::test_init!();` the first line"),
                "{error}"
            );
        }
        // The test's own thread is known to its children.
        test_init!();
        spawn(|| (), ()).unwrap().join().unwrap();
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_role_variable_without_a_parent_is_an_error_and_not_a_call() {
    const NAME: &str = "programs::the_role_variable_without_a_parent_is_an_error_and_not_a_call";
    for (role, stdin) in
        [("1:0", "null"), ("1:0", "socket"), ("nonsense", "null"), ("2:0", "null"), ("", "null")]
    {
        let output = program(NAME, |command| {
            command.env("MP_CORE_ROLE", role);
            if stdin == "socket" {
                // A stream socket of the same user, but not a wire.
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                command.stdin(std::os::fd::OwnedFd::from(theirs));
                drop(ours);
            }
        });
        let Some(output) = output else {
            test_init!();
            // Never reached.
            println!("called");
            return;
        };
        assert_eq!(output.status.code(), Some(126), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("MP_CORE_ROLE"), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains("called"));
    }
}

#[test]
#[should_panic(expected = "the panic of a child")]
fn a_child_s_panic_can_be_expected() {
    test_init!();
    let child = spawn(|| -> () { panic!("the panic of a child") }, ()).unwrap();
    if let Err(error) = child.join() {
        panic!("{error}");
    }
}

#[test]
fn test_init_may_stand_in_a_test_several_times() {
    for _ in 0..2 {
        test_init!();
        for method in METHODS {
            assert_eq!(by(method).spawn(|x: u8| x, (1,)).unwrap().join().unwrap(), 1);
        }
    }
    // Also where the starting thread has another name than the test.
    let thread = thread::Builder::new().name("other".into());
    let started = thread.spawn(|| spawn(|| 5, ()).unwrap().join().unwrap()).unwrap();
    assert_eq!(started.join().unwrap(), 5);
}

#[test]
fn tests_run_as_all_runners_run_them() {
    // One at a time in the main thread's place, many at a time, and one per process as nextest does.
    for args in [
        &["errors::", "--test-threads=1"][..],
        &["errors::", "--test-threads=4"],
        &["errors::s3_exit_codes", "--exact", "--nocapture"],
        &["programs::a_child_s_panic_can_be_expected", "--exact"],
        &["programs::test_init_may_stand_in_a_test_several_times", "--exact", "--test-threads=1"],
    ] {
        let output =
            Command::new(std::env::current_exe().unwrap()).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        assert!(text(&output.stdout).contains(" passed"), "{}", text(&output.stdout));
        assert!(!text(&output.stdout).contains(" 0 passed"), "{}", text(&output.stdout));
    }
}

/// Builds the library of `tests/plugin` with the copy of this crate that lies beside this program.
#[cfg(target_env = "gnu")]
fn plugin() -> PathBuf {
    let built = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let copies = std::fs::read_dir(&built).unwrap().flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libmp_core-") && name.ends_with(".rlib")
    });
    // The last one is this build's; others may be without what they were built with.
    let mut copies: Vec<_> =
        copies.map(|path| (path.metadata().unwrap().modified().unwrap(), path)).collect();
    copies.sort_unstable();
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugin-{}.so", std::process::id()));
    let mut said = String::new();
    for (_, copy) in copies.iter().rev() {
        let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        compiler.args(["--edition", "2024", "--crate-type", "cdylib", "-C", "debuginfo=0", "--extern"]);
        compiler.arg(format!("mp_core={}", copy.display())).arg("-L").arg(&built).arg("-o").arg(&library);
        let output =
            compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugin/plugin.rs")).output().unwrap();
        if output.status.success() {
            return library;
        }
        said = text(&output.stderr);
    }
    panic!("the library cannot be built: {said}");
}

#[test]
#[cfg(target_env = "gnu")]
fn a_function_of_a_library_is_an_error_that_says_what_to_do() {
    const NAME: &str = "programs::a_function_of_a_library_is_an_error_that_says_what_to_do";
    const PLUGIN: &str = "MP_IT_PLUGIN";
    if let Some(library) = std::env::var_os(PLUGIN) {
        test_init!();
        let library = CString::new(library.into_encoded_bytes()).unwrap();
        call_library(&library, c"start_from_a_library").unwrap();
        // The main program goes on as ever.
        assert_eq!(spawn(|x: u32| x + 1, (1,)).unwrap().join().unwrap(), 2);
        return;
    }
    let library = plugin();
    let output = program(NAME, |command| {
        command.env(PLUGIN, &library);
    })
    .unwrap();
    std::fs::remove_file(&library).unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("from a library: a process cannot be started"), "{said}");
    assert!(said.contains("start it from the main program"), "{said}");
}

#[test]
fn the_output_of_a_test_is_not_repeated_by_its_children() {
    const NAME: &str = "programs::the_output_of_a_test_is_not_repeated_by_its_children";
    let Some(output) = program(NAME, |_| {}) else {
        test_init!();
        for method in METHODS {
            by(method).spawn(|| println!("from a child"), ()).unwrap().join().unwrap();
        }
        return;
    };
    let said = text(&output.stdout);
    assert_eq!(said.matches("running 1 test").count(), 1, "{said}");
    assert_eq!(said.matches("from a child").count(), 2, "{said}");
}

/// Runs the test `name` in a copy of this program, so that its file stays as the build left it. Then removes the copy, if that is
/// still there.
fn run_copy(own: &Path, name: &str) -> std::io::Result<()> {
    let copy =
        std::env::temp_dir().join(format!("mp-core-{}-{}", name.replace("::", "-"), std::process::id()));
    std::fs::copy(own, &copy).unwrap();
    let output = Command::new(&copy)
        .args([name, "--exact", "--nocapture"])
        .env("MP_IT_COPY", "1")
        .stdin(Stdio::null())
        .output();
    let removed = std::fs::remove_file(&copy);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    removed
}

#[test]
fn a_program_whose_file_was_deleted_starts_children_all_the_same() {
    const NAME: &str = "programs::a_program_whose_file_was_deleted_starts_children_all_the_same";
    let own = std::env::current_exe().unwrap();
    if std::env::var_os("MP_IT_COPY").is_some() {
        test_init!();
        std::fs::remove_file(&own).unwrap();
        for method in METHODS {
            let child = by(method).spawn(|| "alive".to_owned(), ()).unwrap();
            assert_eq!(child.start_method(), method);
            assert_eq!(child.join().unwrap(), "alive");
        }
        return;
    }
    test_init!();
    assert!(run_copy(&own, NAME).is_err(), "the program was to delete its own file");
}

#[test]
fn processes_start_without_proc() {
    const NAME: &str = "programs::processes_start_without_proc";
    let output = program(NAME, |command| {
        let mut inside = Command::new("unshare");
        let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        inside.args(["-rm", "sh", "-c", hide]).arg(command.get_program()).args(command.get_args());
        inside.env("MP_IT_PROGRAM", "1").stdin(Stdio::null());
        *command = inside;
    });
    let Some(output) = output else {
        assert!(!Path::new("/proc/self").exists());
        test_init!();
        for method in METHODS {
            assert_eq!(by(method).spawn(|x: u8| x, (1,)).unwrap().join().unwrap(), 1);
        }
        println!("done without /proc");
        return;
    };
    let said = text(&output.stderr);
    if said.starts_with("unshare:") || said.starts_with("mount:") {
        // A system that lets nobody have a namespace of their own cannot show it.
        return;
    }
    assert!(output.status.success() && text(&output.stdout).contains("done without /proc"), "{said}");
}

#[test]
fn a_program_whose_file_is_touched_starts_children_all_the_same() {
    const NAME: &str = "programs::a_program_whose_file_is_touched_starts_children_all_the_same";
    let own = std::env::current_exe().unwrap();
    if std::env::var_os("MP_IT_COPY").is_some() {
        test_init!();
        for round in 1..4 {
            for method in METHODS {
                assert_eq!(by(method).spawn(|x: u8| x, (round,)).unwrap().join().unwrap(), round);
            }
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(round.into());
            std::fs::File::open(&own).unwrap().set_modified(time).unwrap();
        }
        return;
    }
    test_init!();
    run_copy(&own, NAME).unwrap();
}

#[test]
fn an_end_that_waits_for_a_child_says_for_which() {
    let mut watcher = None;
    let output = program("programs::an_end_that_waits_for_a_child_says_for_which", |command| {
        let (said, saying) = std::io::pipe().unwrap();
        command.stderr(saying);
        // The child's child ends when it was named.
        watcher = Some(thread::spawn(move || {
            let line =
                BufReader::new(said).lines().map_while(Result::ok).find(|line| line.contains("waits for"))?;
            let (_, pid) = line.split_once("waits for Process-1:1 (pid ")?;
            let (pid, _) = pid.split_once(')')?;
            kill_process(Pid::from_raw(pid.parse().ok()?)?, Signal::KILL).ok()
        }));
    });
    let Some(output) = output else {
        test_init!();
        return spawn(|| drop(spawn(thread::park, ()).unwrap()), ()).unwrap().join().unwrap();
    };
    assert!(output.status.success());
    assert_eq!(watcher.unwrap().join().unwrap(), Some(()));
}

#[test]
fn a_test_that_fails_leaves_no_child_that_its_program_waits_for() {
    let output = program("programs::a_test_that_fails_leaves_no_child_that_its_program_waits_for", |_| ());
    let Some(output) = output else {
        test_init!();
        let child = spawn(thread::park, ()).unwrap();
        panic!("before {child:?} was joined");
    };
    assert_eq!(output.status.code(), Some(101));
    let said = text(&output.stderr);
    assert!(said.contains("is at its end and terminates Process-1 (pid "), "{said}");
}

#[test]
fn a_test_that_fails_leaves_no_thread_that_its_program_waits_for() {
    let output = program("programs::a_test_that_fails_leaves_no_thread_that_its_program_waits_for", |_| ());
    let Some(output) = output else {
        test_init!();
        let thread = mp_core::spawn_thread(|| {
            loop {
                thread::park()
            }
        })
        .unwrap();
        panic!("before {thread:?} was joined");
    };
    assert_eq!(output.status.code(), Some(101));
    let said = text(&output.stderr);
    assert!(said.contains("is at its end and leaves threads of `spawn_thread` behind"), "{said}");
}
