//! The examples, what a program sees that does it wrong, and the comparison with the peers.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

mod api;
mod compare;
mod headers;
mod image;
mod killed;
mod misuse;
mod programs;
mod readme;

/// The examples are built with the tests, beside the directory of this program.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    Command::new(own.ancestors().nth(2).unwrap().join("examples").join(name))
}

/// Runs it; what it wrote to standard output and standard error.
fn output(command: &mut Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{stderr}");
    (String::from_utf8(stdout).unwrap(), stderr)
}

/// A path in the workspace.
fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A directory that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mp-examples-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
