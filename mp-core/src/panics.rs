//! A panic as a report that travels: message, place, backtrace.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use crate::{current::current_process, error::PanicReport};

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Runs `body` and turns a panic into a report; the panic message also goes to standard error, as always, and in a
/// process that was started by this crate its name and its process id in front of that.
///
/// # Errors
/// The panic.
pub fn catch_panic<R>(body: impl FnOnce() -> R) -> Result<R, PanicReport> {
    note_panics();
    catch_unwind(AssertUnwindSafe(body)).map_err(report)
}

/// Has what a panic says of itself noted, from the first call on.
fn note_panics() {
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
            let this = current_process();
            if this.start_method.is_some() {
                // A line of its own, since std's first line begins with an end of line.
                let name = format!("\n[{} {}] ", this.name, this.pid);
                // At once, and whether or not there is a standard error: this is no place to panic.
                let _ = std::io::stderr().write_all(name.as_bytes());
            }
            print(info);
        }));
    });
}

#[cold]
fn report(payload: Box<dyn Any + Send>) -> PanicReport {
    let (location, backtrace) = LAST_PANIC.take().unwrap_or_default();
    let report = PanicReport { message: message_of(&*payload), location, backtrace };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // What panics while it is dropped would do so again.
        std::mem::forget(again);
    }
    report
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
