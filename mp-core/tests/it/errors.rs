//! Every way not to return a result is an error of its own.

use mp_core::{JoinError, spawn, test_init};

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
    assert!(matches!(error, mp_core::StartError::Arguments(_)), "{error}");
}

#[test]
fn an_abort_names_its_signal() {
    test_init!();
    let error = spawn(|| -> () { std::process::abort() }, ()).unwrap().join().unwrap_err();
    assert!(error.to_string().contains("SIGABRT"), "{error}");
}
