//! The fork server itself: one thread, and a loop that makes a copy of the process for each request.

use std::{io::Write, time::Duration};

use super::server::Answer;
use crate::{
    body,
    error::Refusal,
    os::{self, fd::OwnedFd, net::RecvFlags},
    panics::catch_panic,
    role,
    sys::{
        fork::{self, Cached, Note, Side},
        image::{self, Fingerprint},
        process,
    },
    transfer,
    wire::{Call, Heard, Report, Start, Surroundings, Wire, Work},
};

/// Serves until the other end of the wire is gone; in each copy, becomes what was asked for.
pub(crate) fn serve(wire: Wire, test: bool, fds: Vec<OwnedFd>) -> ! {
    // What was printed before `init` would otherwise come out once per process.
    let _ = std::io::stdout().flush();
    // Ctrl-C goes to the whole group, and this process must be there as long as its parent lets children be started.
    // Held back, not ignored: the copies get theirs.
    process::hold_interrupt(true);
    let noted = match set_up(test, fds) {
        Ok(noted) => noted,
        Err(reason) => {
            let _ = wire.send(&Answer::Err(reason), &[]);
            process::exit_now(0)
        }
    };
    let cached = match Cached::read() {
        Ok(cached) => cached,
        Err(_) => process::exit_now(0),
    };
    answer(&wire, &Answer::Ok(0));
    loop {
        let (start, fds) = match wire.recv::<Start>(RecvFlags::empty()) {
            Ok(Heard::Frame(start, fds)) => (start, fds),
            Ok(Heard::End | Heard::Unread) => process::exit_now(0),
            Err(error) => {
                answer(&wire, &Answer::Err(format!("the request did not arrive: {error}")));
                continue;
            }
        };
        match fork::fork_sibling(&cached, &noted) {
            Ok(Side::New) => {
                drop(wire);
                noted.forget();
                process::hold_interrupt(false);
                become_child(start, fds)
            }
            // At once: the other side waits.
            Ok(Side::Old(pid)) => answer(&wire, &Answer::Ok(pid)),
            Err(error) => answer(&wire, &Answer::Err(format!("fork: {error}"))),
        }
    }
}

fn answer(wire: &Wire, answer: &Answer) {
    if wire.send(answer, &[]).is_err() {
        process::exit_now(0);
    }
}

fn set_up(test: bool, fds: Vec<OwnedFd>) -> Result<Note, String> {
    let memory = fds.into_iter().next().ok_or("the request came without its memory")?;
    let noted = Note::of(&memory).map_err(|error| error.to_string())?;
    drop(memory);
    be_alone(test)?;
    fork::can_fork()?;
    // What each copy would otherwise do for itself: every page that it touches first is a fault of its own.
    let _ = (Fingerprint::own(), image::is_main_program());
    role::make_ready(false);
    let parcel = transfer::encode(&()).map_err(|error| error.to_string())?;
    let _ = catch_panic(|| transfer::decode::<()>(&parcel.bytes, Vec::new()));
    Ok(noted)
}

/// A copy has one thread only, so no other may hold a lock of libc at the moment of the copy: there must be none, or,
/// under a test harness, none that is awake. (The harness's own thread waits for the test, and has nothing else to do.)
fn be_alone(test: bool) -> Result<(), String> {
    for _ in 0..10_000 {
        // Without /proc nothing can be known; programs that start threads before `init` are rare.
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Ok(()) };
        let own = os::thread::gettid().as_raw_nonzero().get().to_string();
        let mut others = tasks
            .flatten()
            .filter(|task| task.file_name() != own.as_str())
            .map(|task| task.path())
            .peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        if !test {
            break;
        }
        let asleep = others.all(|task| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            // The state follows the name, which stands in parentheses.
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('S'))
        });
        if asleep {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err("the program has threads before `init`".to_owned())
}

fn become_child(start: Start, fds: Vec<OwnedFd>) -> ! {
    let mut fds = fds.into_iter();
    let (Some(wire), Some(directory)) = (fds.next(), fds.next()) else {
        // Nobody can be told: the wire itself is missing.
        process::exit_now(body::CANNOT_RUN)
    };
    let wire = Wire::given(wire);
    let taken = match &start.work {
        Work::Call(Call { surroundings: Some(surroundings), .. }) => take_over(surroundings, &directory),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    };
    drop(directory);
    match taken {
        Ok(()) => body::live(&wire, start, fds.collect()),
        Err(error) => {
            let cause = format!("its surroundings: {error}");
            let _ = wire.send(&Report::Refused(Refusal::Arguments { cause }), &[]);
            process::exit_now(body::CANNOT_RUN)
        }
    }
}

fn take_over(surroundings: &Surroundings, directory: &OwnedFd) -> std::io::Result<()> {
    os::process::fchdir(directory)?;
    if surroundings.clear {
        for (name, _) in std::env::vars_os() {
            process::set_env(&name, None);
        }
    }
    for (name, value) in &surroundings.environment {
        process::set_env(name, value.as_deref());
    }
    Ok(())
}
