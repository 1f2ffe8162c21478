//! Start by executing the program again.
//!
//! Through [`std::process::Command`] with nothing that would keep it from `posix_spawn`: any code between fork and exec
//! costs a copy of this process's page tables. The wire is the child's standard input for the same reason. All that the
//! child should be (streams, limits, death with its parent) it makes of itself.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use super::{Outgoing, Plan, StartMethod, Started, nonce};
use crate::{
    error::StartError,
    kill_points::kill_point,
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
    },
    reaper::{self, Entry, Kind},
    role,
    sys::{self, image::Fingerprint},
    wire::{Identity, Start, Wire, Work},
};

/// The running program, also if its file was replaced or deleted meanwhile.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Without `/proc`: the path by which the program was started, made absolute while its working directory was the one
/// that the path is relative to.
static STARTED_PATH: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Remembers what the program was started as; called by `init`, and by the fork server for all its copies.
pub(crate) fn remember_path() {
    STARTED_PATH.get_or_init(|| match Path::new(OWN_IMAGE).exists() {
        true => None,
        false => std::path::absolute(sys::process::started_path()?).ok(),
    });
}

fn own_image() -> &'static Path {
    STARTED_PATH.get().and_then(Option::as_deref).unwrap_or(Path::new(OWN_IMAGE))
}

/// A command that runs the program again, under its own name with the new process's in brackets.
pub(crate) fn command(identity: &Identity, test: Option<&str>, wire: OwnedFd) -> Command {
    let mut command = Command::new(own_image());
    let mut shown = std::env::args_os().next().unwrap_or_default();
    // The kernel limits the length of an argument; nobody reads more than that anyway.
    let name: String = identity.name.chars().map(|c| if c == '\0' { '?' } else { c }).take(100).collect();
    shown.push(format!(" [{name}]"));
    command.stdin(wire);
    sys::process::show_as(&mut command, &shown);
    if let Some(test) = test {
        command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
        // The harness announces its one test; the child puts its real standard output there when it begins.
        command.stdout(Stdio::null());
    }
    command
}

pub(crate) fn start(mut plan: Plan) -> Result<Started, StartError> {
    let failed = plan.failed("making the starting thread");
    reaper::on_lasting_thread(move || execute(&mut plan)).map_err(failed)?
}

fn execute(plan: &mut Plan) -> Result<Started, StartError> {
    let (wire, theirs) = Wire::pair().map_err(plan.failed("making the wire"))?;
    let env_clear = plan.env_clear;
    let env = std::mem::take(&mut plan.env);
    let current_dir = plan.current_dir.take();
    let cannot_send = plan.failed("sending what to run");
    let Outgoing(start, fds) = plan.frame(StartMethod::ReExec, None, []);
    let mut command = command(&start.identity, start.test.as_deref(), theirs);
    if env_clear {
        clear(&mut command);
    }
    for (name, value) in env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = &current_dir {
        command.current_dir(dir);
    }
    let kind = Kind::of(&start.identity);
    let entry =
        execute_command(command, &start.identity, start.nonce, kind).map_err(|error| match error {
            StartError::Exec { name, cause } => match current_dir {
                Some(path) if !path.is_dir() => StartError::CurrentDir { name, path, cause },
                _ => StartError::Exec { name, cause },
            },
            error => error,
        })?;
    kill_point!(Adopted);
    let sent = send(&wire, &start, &fds);
    kill_point!(Told);
    match sent {
        Ok(sent) => Ok(Started { entry, wire, method: StartMethod::ReExec, sent }),
        Err(cause) => {
            abandon(&entry);
            Err(cannot_send(cause))
        }
    }
}

/// Empties the environment, but for what a documentation test's runner needs to find the test again.
fn clear(command: &mut Command) {
    const DOCTEST: &str = "RUSTDOC_DOCTEST_RUN_NB_TEST";
    command.env_clear();
    if let Some(value) = std::env::var_os(DOCTEST) {
        command.env(DOCTEST, value);
    }
}

pub(crate) fn execute_command(
    mut command: Command,
    identity: &Identity,
    nonce: u64,
    kind: Kind,
) -> Result<Arc<Entry>, StartError> {
    let name = identity.name.clone();
    // Last: without it the new process would not be a child, but the program once more.
    let (variable, value) = role::variable(nonce);
    command.env(variable, value);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => return Err(StartError::Exec { name, cause }),
    };
    // Only the child holds the other end of the wire from here on: its death is the end of file.
    drop(command);
    kill_point!(Executed);
    Entry::adopt(child.id(), name.clone(), kind).map_err(|cause| StartError::System {
        name,
        action: "watching it",
        cause,
    })
}

/// Sends the frame; `false` if the process has died already, of which joining it tells more.
fn send(wire: &Wire, start: &Start, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
    match wire.send(start, fds) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        sent => sent.map(|()| true),
    }
}

/// Undoes the start of a process that cannot be told what to run.
fn abandon(entry: &Entry) {
    let _ = entry.signal(os::process::Signal::KILL);
    let _ = entry.wait(None);
}

/// Starts the fork server; on the lasting thread.
pub(crate) fn start_server(
    identity: Identity,
    test: Option<String>,
    work: (Work, Vec<OwnedFd>),
) -> Result<(Arc<Entry>, Wire), StartError> {
    let failed = {
        let name = identity.name.clone();
        move |action, cause| StartError::System { name, action, cause }
    };
    let (wire, theirs) = Wire::pair().map_err(|cause| failed.clone()("making the wire", cause))?;
    let (work, fds) = work;
    let start = Start { nonce: nonce(), image: Fingerprint::own().clone(), identity, test, work };
    let command = command(&start.identity, start.test.as_deref(), theirs);
    let entry = execute_command(command, &start.identity, start.nonce, Kind::Server)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if let Err(cause) = send(&wire, &start, &fds) {
        abandon(&entry);
        return Err(failed("telling the fork server what to do", cause));
    }
    Ok((entry, wire))
}

/// Whether an environment variable can have this name and value.
pub(crate) fn valid_variable(name: &OsString, value: Option<&OsString>) -> bool {
    let name = name.as_encoded_bytes();
    !name.is_empty()
        && !name.iter().any(|byte| matches!(byte, 0 | b'='))
        && !value.is_some_and(|value| value.as_encoded_bytes().contains(&0))
}
