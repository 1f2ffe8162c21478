//! Every way not to return a result is an error of its own.

use std::{
    panic::catch_unwind,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use mp_core::{
    Child, JoinError, Process, StartError,
    shared::GateError,
    spawn, test_init,
    transfer::{decode, encode},
};

use crate::common::{METHODS, by, program, text};

#[test]
fn a_panic_arrives_with_message_and_place() {
    test_init!();
    let child = spawn(|x: u32| -> u32 { panic!("no luck with {x}") }, (7,)).unwrap();
    let error = child.join().unwrap_err();
    let JoinError::Panicked { report, .. } = &error else { panic!("{error}") };
    assert_eq!(report.message, "no luck with 7");
    assert!(report.location.contains("errors.rs:"), "{}", report.location);
    assert_eq!(child.exit_status().unwrap().code(), 1);
}

#[test]
fn a_panic_is_printed_with_the_name_of_its_process() {
    const NAME: &str = "errors::a_panic_is_printed_with_the_name_of_its_process";
    let Some(output) = program(NAME, |_| {}) else {
        test_init!();
        for method in METHODS {
            let child = by(method).name("ada").spawn(|| -> () { panic!("no luck") }, ()).unwrap();
            let pid = child.pid();
            assert!(child.join().is_err());
            println!("[ada {pid}] ");
        }
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let (said, printed) = (text(&output.stdout), text(&output.stderr));
    let expected: Vec<&str> = said.lines().filter(|line| line.starts_with("[ada ")).collect();
    assert!(expected.len() == 2 && expected.iter().all(|name| printed.contains(name)), "{printed}");
}

#[test]
fn s3_exit_codes() {
    test_init!();
    for code in [0, 1, 8] {
        let child = spawn(|code: i32| -> u32 { std::process::exit(code) }, (code,)).unwrap();
        let error = child.join().unwrap_err();
        assert!(matches!(error, JoinError::Exited { code: theirs, .. } if theirs == code), "{error}");
        assert_eq!(child.exit_status().unwrap().code(), code);
    }
}

#[derive(serde::Serialize, serde::Deserialize, Debug)]
struct OnlyOneWay(#[serde(serialize_with = "refuse")] u32);

fn refuse<S: serde::Serializer>(_: &u32, _: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("not this way"))
}

#[test]
fn a_result_that_cannot_be_sent_is_an_error() {
    test_init!();
    let error = spawn(|| OnlyOneWay(1), ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::ResultNotSent { .. }), "{error}");
}

#[test]
fn arguments_that_cannot_be_sent_are_an_error_of_the_start() {
    test_init!();
    let error = spawn(|_: OnlyOneWay| (), (OnlyOneWay(1),)).unwrap_err();
    assert!(matches!(error, StartError::Arguments(_)), "{error}");
}

#[test]
fn an_abort_names_its_signal() {
    test_init!();
    let error = spawn(|| -> () { std::process::abort() }, ()).unwrap().join().unwrap_err();
    assert!(error.to_string().contains("SIGABRT"), "{error}");
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_of_the_start() {
    test_init!();
    let error = Process::new().env("TOO_LONG", "x".repeat(3 << 20)).spawn(|| (), ()).unwrap_err();
    assert!(matches!(error, StartError::Exec { .. }), "{error}");
}

#[test]
#[cfg(target_env = "gnu")]
fn a_death_before_the_call_arrived_is_an_error_of_its_own() {
    test_init!();
    // With this variable the loader lists libraries and ends the process before the program begins.
    let start = || Process::new().env("LD_TRACE_LOADED_OBJECTS", "1").spawn(|| (), ()).unwrap();
    let ends = |child: Child<()>| {
        let error = child.join().unwrap_err();
        assert!(matches!(error, JoinError::DiedEarly { status, .. } if status.success()), "{error}");
    };
    ends(start());
    // Forks of this program have the new process's end of the wire, too, until they execute something.
    let done = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
        }
        let ended = catch_unwind(|| (0..100).for_each(|_| ends(start())));
        done.store(true, Relaxed);
        ended
    });
    ended.unwrap();
}

#[test]
fn all_ends_are_told_apart_by_both_methods() {
    test_init!();
    for method in METHODS {
        let exited = by(method).spawn(|| -> u32 { std::process::exit(8) }, ()).unwrap().join();
        assert!(matches!(exited, Err(JoinError::Exited { code: 8, .. })), "{exited:?}");
        let aborted = by(method).spawn(|| -> u32 { std::process::abort() }, ()).unwrap().join().unwrap_err();
        assert_eq!(aborted.exit_status().unwrap().signal(), Some(6));
        let panicked = by(method).spawn(|| -> u32 { panic!("here") }, ()).unwrap();
        assert!(matches!(panicked.join(), Err(JoinError::Panicked { .. })));
        assert_eq!(panicked.exit_status().unwrap().code(), 1);
        let unsent = by(method).spawn(|| OnlyOneWay(1), ()).unwrap().join();
        assert!(matches!(unsent, Err(JoinError::ResultNotSent { .. })), "{unsent:?}");
        let returned = by(method).spawn(|| 5, ()).unwrap();
        assert_eq!(returned.join().unwrap(), 5);
        assert!(matches!(returned.join(), Err(JoinError::AlreadyJoined { .. })));
    }
}

#[test]
fn a_backtrace_comes_along_if_it_was_asked_for() {
    test_init!();
    for method in METHODS {
        for (wanted, value) in [(true, "1"), (false, "0")] {
            let child =
                by(method).env("RUST_BACKTRACE", value).spawn(|| -> () { panic!("here") }, ()).unwrap();
            let Err(JoinError::Panicked { report, .. }) = child.join() else {
                panic!("a panic was expected")
            };
            assert_eq!(report.backtrace.contains("errors"), wanted, "{}", report.backtrace);
        }
    }
}

#[test]
fn errors_are_printed_as_their_message() {
    // `unwrap`, and `?` in `main`, print the `Debug`.
    let error = decode::<bool>(&[7], Vec::new()).unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    assert_eq!(format!("{:?}", GateError::Busy), GateError::Busy.to_string());
    assert_eq!(format!("{:?}", StartError::NotInitialised), StartError::NotInitialised.to_string());
}

#[test]
fn a_child_is_printed_as_name_pid_and_state() {
    test_init!();
    let child = Process::new().name("ada").spawn(|| -> () { std::process::exit(3) }, ()).unwrap();
    assert!(child.join().is_err());
    assert_eq!(format!("{child:?}"), format!("Child(ada, pid {}, ended with exit code 3)", child.pid()));
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Untagged {
    One(u32),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Flattened {
    #[serde(flatten)]
    inner: std::collections::BTreeMap<String, u32>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u32>,
    last: u32,
}

#[test]
fn serde_attributes_that_do_not_travel_are_named() {
    let untagged = encode(&Untagged::One(3)).unwrap().bytes;
    let skipping = encode(&Skipping { first: None, last: 9 }).unwrap().bytes;
    let texts = [
        decode::<Untagged>(&untagged, Vec::new()).map(drop).unwrap_err().to_string(),
        decode::<Skipping>(&skipping, Vec::new()).map(drop).unwrap_err().to_string(),
        encode(&Flattened { inner: [("a".to_owned(), 1)].into() }).unwrap_err().to_string(),
    ];
    for text in texts {
        for name in ["`untagged`", "`tag`", "`flatten`", "`skip_serializing_if`"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.to_lowercase().contains("postcard"), "{text}");
    }
}
