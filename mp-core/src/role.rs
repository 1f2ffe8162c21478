//! Where a child process begins: `init`, the role variable, and what a child does instead of `main`.
//!
//! A child runs the same program from the start, so something at the start must turn it into a child. That is
//! [`init`](crate::init): if the environment says that this process has a role, it never returns. The variable alone is
//! not enough (it could leak into some other program): descriptor 0 must be a socket that belongs to the same user, and
//! the frame on it must bear the same number. A program that starts processes without having called `init` gets an error
//! at once; that is also the guard against programs that start themselves without end.

use std::{ffi::OsStr, io::Write, sync::OnceLock, thread};

use parking_lot::Mutex;

use crate::{
    body,
    error::Refusal,
    os::net::RecvFlags,
    reaper,
    start::{reexec, serve::serve, set_start_method},
    sys,
    wire::{Heard, Identity, Report, Start, Wire, Work},
};

const VARIABLE: &str = "MP_CORE_ROLE";
/// Of the variable and of the frames.
const VERSION: &str = "1";
/// Set when `init` was called: whether this is a program of tests.
static READY: OnceLock<bool> = OnceLock::new();
/// A test of this program that begins with `test_init!`.
static TEST: Mutex<Option<String>> = Mutex::new(None);
/// Who this process is, if it is a child.
static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// Turns a child process into what it was started for; the first line of `main`.
///
/// In a process that was started by this crate it runs the function, sends the result and ends the process: it never
/// returns. In any other it returns at once. Whatever stands before it in `main` runs in every child, too.
///
/// An asynchronous program has a plain `main`, too: `init()` first, then build the runtime. `#[tokio::main]` would begin `main`, and
/// every child, inside of the runtime.
///
/// In a child `std::env::args()` holds one word, the program's name with a process's in brackets (`prog [worker-1]`), and standard input is
/// empty, if it was [given](crate::Process::stdin) none: the command line is the parent's, so pass what a child needs as arguments.
///
/// In a test, write [`test_init!`](crate::test_init) instead: with this a child would run the program's other tests until it comes by.
/// For that reason it does nothing elsewhere than on the main thread, so that a start is an error. Python's counterpart is the
/// guard `if __name__ == "__main__":` together with `multiprocessing.freeze_support()`.
///
/// ```
/// # #[allow(clippy::needless_doctest_main)]
/// fn main() {
///     mp_core::init();
///     // ... and here the program begins.
/// }
/// ```
pub fn init() {
    enter(None, false);
}

#[doc(hidden)]
pub fn init_test() {
    enter(thread::current().name().filter(|name| *name != "main").map(str::to_owned), true);
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

fn enter(test: Option<String>, is_test: bool) {
    if let Some(role) = std::env::var_os(VARIABLE) {
        become_child(&role);
    }
    match test {
        Some(test) => *TEST.lock() = Some(test),
        // Where a child that begins at `main` would come by is not known, nor what it would do before.
        None if !reaper::on_main_thread() => return,
        None => {}
    }
    make_ready(is_test);
}

/// Has this process able to start others, and end as it should.
pub(crate) fn make_ready(is_test: bool) {
    READY.get_or_init(|| {
        reexec::remember_path();
        sys::process::at_exit(reaper::end_children);
        is_test
    });
    sys::process::own_hooks();
}

/// Makes this process a child that may have children of its own.
pub(crate) fn take_up(identity: Identity, test: Option<String>) {
    set_start_method(identity.children);
    let _ = IDENTITY.set(identity);
    *TEST.lock() = test;
    make_ready(false);
}

/// Whether this process runs tests, and is none of their children.
pub(crate) fn is_test_program() -> bool {
    READY.get() == Some(&true)
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
    sys::process::exit_now(body::CANNOT_RUN)
}

fn become_child(role: &OsStr) -> ! {
    let nonce = role
        .to_str()
        .and_then(|role| role.strip_prefix(VERSION)?.strip_prefix(':'))
        .and_then(|nonce| u64::from_str_radix(nonce, 16).ok())
        .unwrap_or_else(|| refuse("its value is of another version"));
    let wire = sys::process::take_stdin()
        .ok()
        .and_then(Wire::genuine)
        .unwrap_or_else(|| refuse("standard input is not the socket of a parent process"));
    sys::process::close_all_except(&wire);
    sys::process::remove_env(VARIABLE);
    let (start, fds) = match wire.recv::<Start>(RecvFlags::empty()) {
        Ok(Heard::Frame(start, fds)) if start.nonce == nonce => (start, fds),
        Ok(Heard::Frame(..)) => refuse("what came from the parent process is not meant for it"),
        // The parent died between the start and the frame.
        Ok(Heard::End | Heard::Unread) => sys::process::exit_now(body::CANNOT_RUN),
        Err(error) => {
            let cause = error.to_string();
            let _ = wire.send(&Report::Refused(Refusal::Arguments { cause }), &[]);
            sys::process::exit_now(body::CANNOT_RUN)
        }
    };
    match start.work {
        Work::Call(_) => body::live(&wire, start, fds),
        Work::Serve => {
            body::follow_parent(&start.identity);
            body::install_streams([false; 3], &mut Vec::new(), true);
            sys::process::set_process_name(&start.identity.name);
            serve(wire, start.test.is_some(), fds)
        }
    }
}
