//! Where a child process begins: `init`, the role variable, and what a child does instead of `main`.
//!
//! A child runs the same program from the start, so something at the start must turn it into a child. That is
//! [`init`](crate::init): if the environment says that this process has a role, it never returns. The variable alone is
//! not enough (it could leak into some other program): descriptor 0 must be a socket that belongs to the same user, and
//! the frame on it must bear the same number. A program that starts processes without having called `init` gets an error
//! at once; that is also the guard against programs that start themselves without end.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    ffi::OsStr,
    io::Write,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    thread,
};

use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags},
    net::RecvFlags,
    process::Signal,
};

use crate::{
    call::{CallError, Trampoline},
    error::PanicReport,
    reaper,
    sys::{self, image::Fingerprint},
    wire::{Identity, Payload, Report, Start, Wire},
};

const VARIABLE: &str = "MP_CORE_ROLE";
/// Of the variable and of the frames.
const VERSION: &str = "1";
/// The exit code of a child that could not become one, as a shell uses for a command that cannot be run.
const CANNOT_RUN: i32 = 126;

/// Whether `init` was called.
static READY: OnceLock<()> = OnceLock::new();
/// A test of this program that begins with `test_init!`.
static TEST: Mutex<Option<String>> = Mutex::new(None);
/// Who this process is, if it is a child.
static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// Turns a child process into what it was started for; the first line of `main`.
///
/// In a process that was started by this crate it runs the function, sends the result and ends the process: it never
/// returns. In any other it returns at once. Whatever stands before it in `main` runs in every child, too.
///
/// In tests, write [`test_init!`](crate::test_init) instead. Python's counterpart is the guard
/// `if __name__ == "__main__":` together with `multiprocessing.freeze_support()`.
///
/// ```
/// # #[allow(clippy::needless_doctest_main)]
/// fn main() {
///     mp_core::init();
///     // ... and here the program begins.
/// }
/// ```
pub fn init() {
    enter(None);
}

#[doc(hidden)]
pub fn init_test() {
    enter(thread::current().name().filter(|name| *name != "main").map(str::to_owned));
}

/// Turns a child process into what it was started for; the first line of each test that starts processes.
///
/// A child of a test is the test program again, told to run just one test, which must begin with this line. Works in unit
/// tests, integration tests and doctests, under `cargo test` and `cargo nextest run`, in `#[should_panic]` tests, and any
/// number of times.
///
/// ```
/// mp_core::test_init!();
/// let child = mp_core::spawn(|x: u32| x + 1, (41,)).unwrap();
/// assert_eq!(child.join().unwrap(), 42);
/// ```
#[macro_export]
macro_rules! test_init {
    () => {
        $crate::init_test()
    };
}

fn enter(test: Option<String>) {
    if let Some(role) = std::env::var_os(VARIABLE) {
        become_child(&role);
    }
    if let Some(test) = test {
        *TEST.lock() = Some(test);
    }
    READY.get_or_init(|| sys::process::at_exit(reaper::end_children));
}

/// What the start of a child needs to know about this process; `None` before `init`.
pub(crate) fn ready() -> Option<Origin> {
    READY.get()?;
    Some(Origin { identity: IDENTITY.get(), test: TEST.lock().clone() })
}

pub(crate) struct Origin {
    /// Set in a child.
    pub(crate) identity: Option<&'static Identity>,
    /// Set under a test harness.
    pub(crate) test: Option<String>,
}

pub(crate) fn identity() -> Option<&'static Identity> {
    IDENTITY.get()
}

/// The variable that makes a process a child.
pub(crate) fn variable(nonce: u64) -> (&'static str, String) {
    (VARIABLE, format!("{VERSION}:{nonce:016x}"))
}

fn refuse(why: &str) -> ! {
    // Standard error may be closed; that is no reason to fail differently.
    let _ = writeln!(
        std::io::stderr(),
        "this process was told by the environment variable {VARIABLE} to be a child process, but {why}; it ends here"
    );
    sys::process::exit_now(CANNOT_RUN)
}

fn become_child(role: &OsStr) -> ! {
    let nonce = role
        .to_str()
        .and_then(|role| role.strip_prefix(VERSION)?.strip_prefix(':'))
        .and_then(|nonce| u64::from_str_radix(nonce, 16).ok())
        .unwrap_or_else(|| refuse("its value is of another version"));
    let wire = rustix::io::fcntl_dupfd_cloexec(sys::process::stdin(), 3)
        .ok()
        .and_then(Wire::genuine)
        .unwrap_or_else(|| refuse("standard input is not the socket of a parent process"));
    sys::process::close_all_except(wire.as_fd().as_raw_fd());
    sys::process::remove_env(VARIABLE);
    let (start, mut fds) = match wire.recv::<Start>(RecvFlags::empty()) {
        Ok(Some((start, fds))) if start.nonce == nonce => (start, fds),
        Ok(Some(_)) => refuse("what came from the parent process is not meant for it"),
        // The parent died between the start and the frame.
        Ok(None) => sys::process::exit_now(CANNOT_RUN),
        Err(error) => {
            let _ = wire.send(&Report::Refused(format!("what to run did not arrive: {error}")), &[]);
            sys::process::exit_now(CANNOT_RUN)
        }
    };
    follow_parent(&start.identity);
    let arguments_follow = start.streams.iter().filter(|given| **given).count();
    let arguments_fds =
        if arguments_follow <= fds.len() { fds.split_off(arguments_follow) } else { Vec::new() };
    install_streams(start.streams, fds);
    sys::process::set_process_name(&start.identity.name);
    let _ = IDENTITY.set(start.identity);
    *TEST.lock() = start.test;
    READY.get_or_init(|| sys::process::at_exit(reaper::end_children));
    let code = match prepare(&start.image, start.trampoline, start.arguments, arguments_fds) {
        Ok((trampoline, bytes, fds)) => run(&wire, trampoline, bytes, fds),
        Err(reason) => {
            let _ = wire.send(&Report::Refused(reason), &[]);
            CANNOT_RUN
        }
    };
    std::process::exit(code)
}

/// Arranges for the parent's death to be this process's death, unless it is to live on.
fn follow_parent(identity: &Identity) {
    if identity.detached {
        return;
    }
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != identity.parent_pid {
        // It died before the line above.
        sys::process::exit_now(CANNOT_RUN);
    }
}

fn install_streams(given: [bool; 3], fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter();
    for (number, given) in (0..).zip(given) {
        let fd = if given {
            fds.next()
        } else if number == 0 {
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
        } else {
            None
        };
        if let Some(fd) = fd {
            let _ = sys::process::install(&fd, number);
        }
    }
}

type Prepared = (Trampoline, Vec<u8>, Vec<OwnedFd>);

fn prepare(
    image: &Fingerprint,
    trampoline: i64,
    arguments: Payload,
    fds: Vec<OwnedFd>,
) -> Result<Prepared, String> {
    if image != Fingerprint::own() {
        return Err("it runs another build of the program than its parent".to_owned());
    }
    let trampoline = sys::image::pointer_at::<Trampoline>(trampoline)
        .ok_or_else(|| "the function does not lie in the program's code".to_owned())?;
    let (bytes, fds) =
        arguments.unpack(fds).map_err(|error| format!("its arguments did not arrive: {error}"))?;
    Ok((trampoline, bytes, fds))
}

/// Runs the call, reports, and returns the exit code.
fn run(wire: &Wire, trampoline: Trampoline, bytes: Vec<u8>, fds: Vec<OwnedFd>) -> i32 {
    // From here on a failure to report means that nobody listens any more: the handle was dropped. That is no error.
    let _ = wire.send(&Report::Running, &[]);
    let (report, fds, code) = match catch_panic(|| trampoline(bytes, fds)) {
        Ok(Ok(result)) => match Payload::pack(result) {
            Ok((payload, fds)) => (Report::Returned(payload), fds, 0),
            Err(error) => (Report::ResultNotSent(error.to_string()), Vec::new(), 1),
        },
        Ok(Err(CallError::Arguments(error))) => (Report::Refused(error.to_string()), Vec::new(), CANNOT_RUN),
        Ok(Err(CallError::Result(error))) => (Report::ResultNotSent(error.to_string()), Vec::new(), 1),
        Err(panic) => (Report::Panicked(panic), Vec::new(), 1),
    };
    match wire.send(&report, &fds) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = wire.send(&Report::ResultNotSent(error.to_string()), &[]);
            1
        }
        _ => code,
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Runs `body` and turns a panic into a report; the panic message also goes to standard error, as always.
pub fn catch_panic<R>(body: impl FnOnce() -> R) -> Result<R, PanicReport> {
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let backtrace = Backtrace::capture();
            let text = if backtrace.status() == BacktraceStatus::Captured {
                backtrace.to_string()
            } else {
                String::new()
            };
            LAST_PANIC.with_borrow_mut(|last| *last = Some((location, text)));
            print(info);
        }));
    });
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let (location, backtrace) = LAST_PANIC.take().unwrap_or_default();
        PanicReport { message: message_of(&*payload), location, backtrace }
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(a panic without a message)".to_owned()
    }
}
