//! What can go wrong with processes: at the start, and until the end.

use std::{ffi::OsString, fmt, io, path::PathBuf};

use crate::{
    os::io::Errno,
    sys,
    transfer::{DecodeError, EncodeError},
};

/// How a process ended, in Python's convention: the exit code, or the negative number of the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitStatus {
    code: i32,
    core_dumped: bool,
}

impl ExitStatus {
    pub(crate) fn exited(code: i32) -> Self {
        Self { code, core_dumped: false }
    }

    pub(crate) fn killed(signal: i32, core_dumped: bool) -> Self {
        Self { code: -signal, core_dumped }
    }

    /// The exit code, or the negative number of the signal that ended the process.
    #[must_use]
    pub fn code(self) -> i32 {
        self.code
    }

    /// The signal that ended the process, if one did.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        (self.code < 0).then_some(-self.code)
    }

    /// Whether the process exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.code == 0
    }

    /// Whether a signal ended it and the kernel wrote a core file.
    #[must_use]
    pub fn core_dumped(self) -> bool {
        self.core_dumped
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            None => write!(f, "exit code {}", self.code),
            Some(signal) => {
                match sys::process::signal_name(signal) {
                    Some(name) => write!(f, "signal {signal} ({name})"),
                    None => write!(f, "signal {signal}"),
                }?;
                f.write_str(if self.core_dumped { ", core dumped" } else { "" })
            }
        }
    }
}

/// What to do about an error of the kernel, where that is known: ends a message.
#[doc(hidden)]
#[must_use]
pub fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(error) if error == Errno::MFILE.raw_os_error() => ": raise the limit on open files, `ulimit -n`",
        Some(error) if error == Errno::FBIG.raw_os_error() => {
            ": raise the limit on the size of files, `ulimit -f`, which counts for shared memory, too"
        }
        _ => "",
    }
}

/// Makes the `Debug` of errors their message, because that is what `unwrap`, and a `main` that returns one, print.
#[doc(hidden)]
#[macro_export]
macro_rules! message_as_debug {
    ($($error:ident $(<$parameter:ident>)?),+) => {$(
        impl $(<$parameter>)? ::std::fmt::Debug for $error $(<$parameter>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )+};
}

/// A process could not be started; nothing of it is left.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// This crate cannot start processes on this operating system yet.
    #[error(
        "a process cannot be started: only Linux is supported so far, and this is {}",
        std::env::consts::OS
    )]
    Unsupported,
    /// This program never said where its child processes begin, or elsewhere than on its main thread.
    #[error(
        "a process cannot be started before `init` was called on the main thread: make `mp_core::init();` the first line of `main` \
         (in a test: `mp_core::test_init!();` the first line of the test), because a child process begins at the same `main`"
    )]
    NotInitialised,
    /// Children of children of children: most likely code that starts itself.
    #[error(
        "a process cannot be started: it would be the descendant number {depth} in a row, the limit is {limit}"
    )]
    TooDeep {
        /// How deep the new process would be.
        depth: u32,
        /// How deep it may be.
        limit: u32,
    },
    /// The function is not part of the main program, but of a library (a plug-in, a `cdylib`) that was loaded into it.
    #[error(
        "a process cannot be started: its function lies in a library that was loaded, but a child runs the main program only: start \
         it from the main program, with this crate built into that"
    )]
    OtherImage,
    /// The arguments could not be sent.
    #[error("a process cannot be started with these arguments: {0}")]
    Arguments(#[from] EncodeError),
    /// The program could not be executed again.
    #[error("process {name} could not be started: {cause}{}", advice(.cause))]
    Exec {
        /// The name of the process.
        name: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The working directory that was asked for cannot be used.
    #[error("process {name} could not be started: its working directory {path:?} cannot be used: {cause}")]
    CurrentDir {
        /// The name of the process.
        name: String,
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// An environment variable that was asked for cannot exist: an empty name, `=` in the name, or a zero byte.
    #[error("process {name} could not be started: {variable:?} cannot be an environment variable")]
    Environment {
        /// The name of the process.
        name: String,
        /// The name of the variable.
        variable: OsString,
    },
    /// Something else that the start needs was refused.
    #[error("process {name} could not be started: {action} failed: {cause}{}", advice(.cause))]
    System {
        /// The name of the process.
        name: String,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// Where and why a function panicked in another process.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// The message of the panic.
    pub message: String,
    /// Its source location, as `file:line:column`; empty if a panic that had been caught was resumed.
    pub location: String,
    /// The backtrace there, as text; empty unless `RUST_BACKTRACE` asks for one.
    pub backtrace: String,
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location.as_str() {
            "" => write!(f, "panicked: {}", self.message),
            location => write!(f, "panicked at {location}: {}", self.message),
        }
    }
}

/// Without the backtrace, which the process that panicked has printed.
impl fmt::Debug for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PanicReport")
            .field("message", &self.message)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// Why a process did not make the call that it was started for.
#[derive(Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// It runs another build of the program than the process that started it: the file was replaced meanwhile.
    #[error("it runs another build of the program")]
    OtherBuild,
    /// What it was told to call is not in the program's code.
    #[error("its function does not lie in the program's code")]
    OtherImage,
    /// A resource limit could not be set.
    #[error("its limit on {limit} could not be set: {cause}")]
    Limit {
        /// Which one.
        limit: String,
        /// What the kernel said.
        cause: String,
    },
    /// The frame that says what to do, or the arguments, could not be read.
    #[error("what it was to do did not arrive: {cause}")]
    Arguments {
        /// Why not.
        cause: String,
    },
}

/// A process did not return a result.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It ended before it had learned what to do.
    #[error("process {name} (pid {pid}) died before it began: {status}")]
    DiedEarly {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// It began but did not call the function.
    #[error("process {name} (pid {pid}) did not call its function: {reason}")]
    Refused {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// Why not.
        reason: Refusal,
    },
    /// The function panicked.
    #[error("process {name} (pid {pid}) {report}")]
    Panicked {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The panic.
        report: PanicReport,
    },
    /// It ended by `std::process::exit` before the function had returned.
    #[error("process {name} (pid {pid}) ended before its function returned: exit code {code}")]
    Exited {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The exit code.
        code: i32,
    },
    /// A signal ended it before the function had returned.
    #[error("process {name} (pid {pid}) was killed: {status}")]
    Killed {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// The signal, and whether it dumped core.
        status: ExitStatus,
    },
    /// The function returned something that could not be sent.
    #[error("process {name} (pid {pid}) could not send its result: {reason}")]
    ResultNotSent {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// What it said.
        reason: String,
    },
    /// The result arrived but is not what it should be.
    #[error("the result of process {name} (pid {pid}) cannot be used: {cause}")]
    ResultUndecodable {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// Why not.
        cause: DecodeError,
    },
    /// The result was fetched before.
    #[error("process {name} (pid {pid}) was joined already")]
    AlreadyJoined {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// It still runs.
    #[error("process {name} (pid {pid}) still runs after the time-out")]
    TimedOut {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// The kernel refused to tell.
    #[error("process {name} (pid {pid}) could not be waited for: {cause}")]
    System {
        /// The name of the process.
        name: String,
        /// Its process id.
        pid: u32,
        /// What the kernel said.
        cause: io::Error,
    },
}

crate::message_as_debug!(StartError, Refusal, JoinError);

impl JoinError {
    /// How the process ended, where its end is the error.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match self {
            Self::DiedEarly { status, .. } | Self::Killed { status, .. } => Some(*status),
            Self::Exited { code, .. } => Some(ExitStatus::exited(*code)),
            Self::Panicked { .. } => Some(ExitStatus::exited(1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitStatus;

    #[test]
    fn a_status_names_its_signal() {
        assert_eq!(ExitStatus::exited(8).to_string(), "exit code 8");
        assert_eq!(ExitStatus::killed(15, false).to_string(), "signal 15 (SIGTERM)");
        assert_eq!(ExitStatus::killed(11, true).to_string(), "signal 11 (SIGSEGV), core dumped");
        assert_eq!(ExitStatus::killed(11, true).code(), -11);
        assert_eq!(ExitStatus::killed(40, false).to_string(), "signal 40");
    }
}
