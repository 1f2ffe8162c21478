//! What a child process does instead of `main`: set itself up, make the call, report, end.

use crate::{
    call::{CallError, Landing, Trampoline},
    error::Refusal,
    os::{
        self,
        fd::{AsFd, OwnedFd},
        fs::{Mode, OFlags},
        process::Signal,
    },
    own::Own,
    panics::catch_panic,
    reaper, role,
    sys::{self, image::Fingerprint},
    wire::{Bytes, Call, Identity, Payload, Report, Start, Wire, Work},
};

/// The exit code of a child that could not become one, as a shell uses for a command that cannot be run.
pub(crate) const CANNOT_RUN: i32 = 126;

/// Lives the whole life of a child; `fds` are those of its streams and its arguments.
pub(crate) fn live(wire: &Wire, start: Start, mut fds: Vec<OwnedFd>) -> ! {
    let Start { image, identity, test, work, .. } = start;
    let Work::Call(call) = work else { sys::process::exit_now(CANNOT_RUN) };
    follow_parent(&identity);
    if identity.detached {
        // What comes from a terminal (Ctrl-C, its end) goes to a whole session, and it is to live on. It leads no group
        // yet, so nothing can forbid it.
        let _ = os::process::setsid();
    }
    // The fork server has read standard input from nowhere already.
    install_streams(call.streams, &mut fds, call.surroundings.is_none());
    sys::process::set_process_name(&identity.name);
    role::take_up(identity, test);
    let code = match prepare(&image, call, fds) {
        Ok((trampoline, bytes, fds)) => run(wire, trampoline, bytes, fds),
        Err(reason) => {
            let _ = wire.send(&Report::Refused(reason), &[]);
            CANNOT_RUN
        }
    };
    // Here already, not only in the hook that `exit` runs: std parks a second thread that calls `exit` for ever, and the
    // threads that are waited for may do so.
    reaper::end_children();
    std::process::exit(code)
}

/// Arranges for the parent's death to be this process's death, unless it is to live on.
pub(crate) fn follow_parent(identity: &Identity) {
    if identity.detached {
        return;
    }
    let _ = os::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = os::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != identity.parent_pid {
        // It died before the line above.
        sys::process::exit_now(CANNOT_RUN);
    }
}

/// Puts the descriptors that were given for the standard streams, the first of `fds`, where they belong.
///
/// Without one of its own, standard input leads nowhere; `blank` says that it does not do so yet.
pub(crate) fn install_streams(given: [bool; 3], fds: &mut Vec<OwnedFd>, blank: bool) {
    let count = given.iter().filter(|given| **given).count().min(fds.len());
    let mut streams = fds.drain(..count);
    for (number, given) in (0..).zip(given) {
        let fd = if given {
            streams.next()
        } else if number == 0 && blank {
            os::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
        } else {
            None
        };
        if let Some(fd) = fd {
            let _ = sys::process::install(&fd, number);
        }
    }
}

type Prepared = (Trampoline, Bytes, Vec<OwnedFd>);

fn prepare(image: &Fingerprint, call: Call, fds: Vec<OwnedFd>) -> Result<Prepared, Refusal> {
    if image != Fingerprint::own() {
        return Err(Refusal::OtherBuild);
    }
    let landing = Landing::<Trampoline>::at(call.trampoline).ok_or(Refusal::OtherImage)?;
    let (bytes, fds) =
        call.arguments.unpack(fds).map_err(|error| Refusal::Arguments { cause: error.to_string() })?;
    call.limits.apply()?;
    Ok((landing.target(), bytes, fds))
}

/// Runs the call, reports, and returns the exit code.
fn run(wire: &Wire, trampoline: Trampoline, bytes: Bytes, fds: Vec<OwnedFd>) -> i32 {
    let wire = Own::new(wire);
    let (report, fds, code) = match catch_panic(|| trampoline(bytes, fds)) {
        Ok(Ok(result)) => match Payload::pack(result) {
            Ok((payload, fds)) => (Report::Returned(payload), fds, 0),
            Err(error) => (Report::ResultNotSent(error.to_string()), Vec::new(), 1),
        },
        Ok(Err(CallError::Arguments(error))) => {
            (Report::Refused(Refusal::Arguments { cause: error.to_string() }), Vec::new(), CANNOT_RUN)
        }
        Ok(Err(CallError::Result(error))) => (Report::ResultNotSent(error.to_string()), Vec::new(), 1),
        Err(panic) => (Report::Panicked(panic), Vec::new(), 1),
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match wire.send(&report, &fds) {
        // Nobody listens any more, because the handle was dropped: that is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            let _ = wire.send(&Report::ResultNotSent(error.to_string()), &[]);
            1
        }
        Ok(()) => code,
    }
}
