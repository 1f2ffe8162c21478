//! Programs that do it wrong.

use crate::example;

#[test]
fn without_init_nothing_starts_and_the_error_says_what_to_write() {
    let output = example("no_init").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("`mp_core::init();` the first line of `main`"), "{text}");
}

#[test]
fn the_role_variable_alone_makes_no_child() {
    for value in ["1:0123456789abcdef", "nonsense", "", "9:1"] {
        let output = example("pool").env("MP_CORE_ROLE", value).output().unwrap();
        assert_eq!(output.status.code(), Some(126), "{value:?}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("MP_CORE_ROLE") && text.contains("it ends here"), "{text}");
    }
}
