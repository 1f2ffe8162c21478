//! The fork server, as the process sees it that has one.
//!
//! A request is the frame of the new process with everything that it must take over. Only one is under way at a time.
//! The server answers with the process id, and the kernel writes the same id into memory shared with the server *before
//! the new process runs*: when the server dies, that word says whether its last request was carried out, so that no start
//! is ever made twice and no child is forgotten.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Outgoing, Plan, StartMethod, Started, reexec};
use crate::{
    error::StartError,
    kill_points::kill_point,
    os::{
        self,
        fd::{AsFd, OwnedFd},
        fs::{Mode, OFlags},
        io::Errno,
        net::RecvFlags,
        process::Signal,
    },
    reaper::{self, Entry, Kind, wait_readable},
    role,
    sys::fork::Note,
    wire::{Heard, Identity, Surroundings, Wire, Work},
};

/// What the server says to a request, and once by itself when it is ready: the process id, or what is wrong.
pub(crate) type Answer = Result<u32, String>;

pub(crate) struct Server {
    /// The process that made it; a fork of that one has a copy of this value, but no server.
    owner: u32,
    entry: Arc<Entry>,
    pub(crate) wire: Wire,
    /// The id of the process that it made last.
    noted: Note,
    /// The environment that it was started with.
    environment: Vec<(OsString, OsString)>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);
/// A server was tried and said that it cannot work on this system.
static UNAVAILABLE: AtomicBool = AtomicBool::new(false);

/// After this time without an answer, it is looked at whether the server is stopped.
const LOOK: Duration = Duration::from_millis(100);

/// How often a start is tried anew when the server dies over it.
const ATTEMPTS: usize = 8;

/// Starts a process by the server; `None` if there can be no server.
pub(crate) fn start(plan: &mut Plan) -> Result<Option<Started>, StartError> {
    let mut server = SERVER.lock();
    for _ in 0..ATTEMPTS {
        if UNAVAILABLE.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (wire, theirs) = Wire::pair().map_err(plan.failed("making the wire"))?;
        let directory = plan.directory()?;
        let running = match server.take().filter(Server::is_own) {
            Some(running) => running,
            None => match begin(plan)? {
                Some(running) => running,
                None => continue,
            },
        };
        let surroundings = running.surroundings(plan);
        let failed = plan.failed("asking the fork server");
        let Outgoing(request, fds) =
            plan.frame(StartMethod::ForkServer, Some(surroundings), [theirs.as_fd(), directory.as_fd()]);
        running.noted.store(0, Ordering::Relaxed);
        let asked = running.wire.send(&request, &fds);
        kill_point!(Asked);
        let answer = asked.and_then(|()| running.answer());
        kill_point!(Answered);
        let name = request.identity.name.clone();
        let kind = Kind::of(&request.identity);
        drop(fds);
        drop(theirs);
        let pid = match answer {
            Ok(Some(Ok(pid))) => {
                *server = Some(running);
                pid
            }
            // It stays out of use: after a failure nobody knows what it has read.
            Ok(Some(Err(cause))) => return Err(failed(io::Error::other(cause))),
            Ok(None) => match running.noted.load(Ordering::Relaxed) {
                // It died before it made the process.
                0 => continue,
                pid => pid,
            },
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
            Err(error) => return Err(failed(error)),
        };
        let entry = Entry::adopt(pid, name, kind).map_err(plan.failed("watching it"))?;
        return Ok(Some(Started { entry, wire, method: StartMethod::ForkServer, sent: true }));
    }
    // Something kills it again and again; there is another way to start a process.
    Ok(None)
}

pub(crate) fn begin(plan: &Plan) -> Result<Option<Server>, StartError> {
    let (noted, memory) = Note::new().map_err(plan.failed("sharing memory with the fork server"))?;
    let identity = Identity {
        name: "mp-fork-server".to_owned(),
        daemon: true,
        detached: false,
        method: StartMethod::ReExec,
        ..plan.identity.clone()
    };
    let environment = std::env::vars_os().collect();
    let test = plan.test.clone();
    let started =
        reaper::on_lasting_thread(move || reexec::start_server(identity, test, (Work::Serve, vec![memory])));
    let (entry, wire) = started.map_err(plan.failed("making the starting thread"))??;
    let server = Server { owner: std::process::id(), entry, wire, noted, environment };
    match server.answer() {
        Ok(Some(Ok(_))) => Ok(Some(server)),
        Ok(Some(Err(_))) => {
            UNAVAILABLE.store(true, Ordering::Relaxed);
            Ok(None)
        }
        Ok(None) | Err(_) => Ok(None),
    }
}

impl Server {
    fn is_own(&self) -> bool {
        self.owner == std::process::id()
    }

    /// What it says next; `None` if it is dead.
    pub(crate) fn answer(&self) -> io::Result<Option<Answer>> {
        loop {
            // Not by the wire alone: a process that it made an instant ago may still hold a copy of its end.
            let fds = [self.entry.pidfd.as_fd(), self.wire.as_fd()];
            let ready = wait_readable(&fds, Instant::now().checked_add(LOOK))?;
            if !ready.contains(&true) && self.entry.is_stopped() {
                // By a signal, and who knows for how long: another one will do the work.
                let _ = self.entry.signal(Signal::KILL);
            }
            let dead = ready[0];
            return match self.wire.recv::<Answer>(RecvFlags::DONTWAIT) {
                Ok(Heard::Frame(answer, _)) => Ok(Some(answer)),
                Ok(Heard::End | Heard::Unread) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && dead => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// What the new process has to change in its copy of the server's surroundings.
    fn surroundings(&self, plan: &Plan) -> Surroundings {
        let mut environment = Vec::new();
        if !plan.env_clear {
            let now: Vec<(OsString, OsString)> = std::env::vars_os().collect();
            if now != self.environment {
                let old: HashMap<_, _> = self.environment.iter().map(|(name, value)| (name, value)).collect();
                let new: HashMap<_, _> = now.iter().map(|(name, value)| (name, value)).collect();
                let removed = old.keys().filter(|name| !new.contains_key(*name));
                environment.extend(removed.map(|name| ((*name).clone(), None)));
                let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
                environment.extend(changed.map(|(name, value)| ((*name).clone(), Some((*value).clone()))));
            }
        }
        environment.extend(plan.env.iter().cloned());
        // A variable that this process itself got by other means than `set_var` may have any name.
        environment.retain(|(name, _)| reexec::valid_variable(name, None));
        Surroundings { clear: plan.env_clear, environment }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends by itself at the end of the wire, unless it is stopped or in an unknown state; the reaper sees to it.
        if self.is_own() {
            let _ = self.entry.signal(Signal::KILL);
        }
    }
}

impl Plan {
    /// The working directory of the new process.
    pub(crate) fn directory(&self) -> Result<OwnedFd, StartError> {
        let path = self.current_dir.as_deref().unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        os::io::retry_on_intr(|| os::fs::open(path, flags, Mode::empty())).map_err(|error| {
            let name = self.identity.name.clone();
            match &self.current_dir {
                Some(path) if !matches!(error, Errno::MFILE | Errno::NFILE) => {
                    StartError::CurrentDir { name, path: path.clone(), cause: error.into() }
                }
                _ => self.failed("opening its working directory")(error.into()),
            }
        })
    }
}

/// Ends the server, at the normal end of this process.
pub(crate) fn end() {
    // Held only by a start that is under way in another thread; then the end of this process ends the server.
    if let Some(mut server) = SERVER.try_lock()
        && let Some(server) = server.take().filter(Server::is_own)
    {
        let entry = Arc::clone(&server.entry);
        drop(server);
        let _ = entry.wait(None);
    }
}

/// The process id of the fork server, if there is one; for tests and diagnostics.
#[must_use]
pub fn fork_server_pid() -> Option<u32> {
    role::ready()?;
    SERVER.lock().as_ref().filter(|server| server.is_own()).map(|server| server.entry.pid)
}
