//! What to start: a function, its arguments, and the surroundings of the new process.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    call::{self, Function},
    child::Child,
    error::StartError,
    reaper::{self, Entry},
    role::{self, Origin},
    sys::image::{self, Fingerprint},
    transfer,
    wire::{Identity, Payload, Start, Wire},
};

/// How many generations of processes may start each other.
const DEPTH_LIMIT: u32 = 64;
/// The running program, also if its file was replaced or deleted meanwhile.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Starts `function` with `args` (a tuple) in a new process, with default surroundings.
///
/// Blocks until the process exists, not until it runs. Python: `Process(target=f, args=(…)).start()`.
///
/// ```
/// # mp_core::test_init!();
/// fn greet(name: String) -> String {
///     format!("hello {name}")
/// }
///
/// let child = mp_core::spawn(greet, ("test".to_owned(),))?;
/// assert_eq!(child.join()?, "hello test");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`StartError`]; nothing of the process is left then.
pub fn spawn<F, Args>(function: F, args: Args) -> Result<Child<F::Output>, StartError>
where
    F: Function<Args>,
    Args: Serialize + DeserializeOwned,
    F::Output: Serialize + DeserializeOwned,
{
    Process::new().spawn(function, args)
}

/// Where a standard stream of a new process leads.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Where this process's own leads.
    Inherit,
    /// Nowhere.
    Null,
    /// To this file, pipe or socket.
    To(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stream {
    fn from(target: T) -> Self {
        Self::To(target.into())
    }
}

/// The surroundings of a process to be started.
///
/// ```
/// # mp_core::test_init!();
/// use mp_core::Process;
///
/// let child = Process::new().name("counter").daemon(true).env("LIMIT", "3").spawn(
///     || std::env::var("LIMIT").unwrap(),
///     (),
/// )?;
/// assert_eq!(child.name(), "counter");
/// assert_eq!(child.join()?, "3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing is started before `spawn`"]
pub struct Process {
    name: Option<String>,
    daemon: Option<bool>,
    detached: bool,
    env_clear: bool,
    env: Vec<(OsString, Option<OsString>)>,
    current_dir: Option<PathBuf>,
    streams: [Option<Stream>; 3],
}

impl Process {
    /// Default surroundings: those of this process, but standard input from `/dev/null`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in messages, in `ps`, and as [`Child::name`]; by default `Process-1`, `Process-2`, in a child `Process-1:1`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether a normal end of this process terminates the new one instead of waiting for it; by default as this process
    /// itself was started.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Whether the new process lives on when this one ends, however it ends.
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }

    /// Sets an environment variable of the new process.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// Leaves an environment variable out.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), None));
        self
    }

    /// Begins with an empty environment instead of this process's.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// The working directory of the new process; by default this process's.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Standard input; by default `/dev/null`, as in Python.
    pub fn stdin(mut self, stream: impl Into<Stream>) -> Self {
        self.streams[0] = Some(stream.into());
        self
    }

    /// Standard output; by default inherited.
    pub fn stdout(mut self, stream: impl Into<Stream>) -> Self {
        self.streams[1] = Some(stream.into());
        self
    }

    /// Standard error; by default inherited.
    pub fn stderr(mut self, stream: impl Into<Stream>) -> Self {
        self.streams[2] = Some(stream.into());
        self
    }

    /// Starts `function` with `args`, a tuple; see [`spawn`].
    ///
    /// The arguments are sent, not shared: this process may drop its own afterwards.
    ///
    /// # Errors
    /// [`StartError`]; nothing of the process is left then.
    pub fn spawn<F, Args>(self, function: F, args: Args) -> Result<Child<F::Output>, StartError>
    where
        F: Function<Args>,
        Args: Serialize + DeserializeOwned,
        F::Output: Serialize + DeserializeOwned,
    {
        let origin = role::ready().ok_or(StartError::NotInitialised)?;
        let identity = self.identity(&origin)?;
        let trampoline =
            image::offset_of(call::trampoline::<F, Args>(function)).ok_or(StartError::OtherImage)?;
        let parcel = transfer::encode(&args)?;
        drop(args);
        let failed = {
            let name = identity.name.clone();
            move |action, cause| StartError::System { name, action, cause }
        };
        let (arguments, argument_fds) =
            Payload::pack(parcel).map_err(|cause| failed.clone()("packing the arguments", cause))?;
        let (wire, theirs) = Wire::pair().map_err(|cause| failed.clone()("making the wire", cause))?;
        let nonce = nonce();
        let (command, streams, mut fds) = self
            .command(&origin, &identity, nonce, theirs)
            .map_err(|cause| failed.clone()("duplicating the standard streams", cause))?;
        fds.extend(argument_fds);
        let start = Start {
            nonce,
            image: Fingerprint::own().clone(),
            identity,
            trampoline,
            test: origin.test,
            streams,
            arguments,
        };
        let started = reaper::on_lasting_thread(move || execute(command, wire, &start, &fds))
            .map_err(|cause| failed("making the starting thread", cause))?;
        let (entry, wire) = started?;
        Ok(Child::new(entry, wire))
    }

    fn identity(&self, origin: &Origin) -> Result<Identity, StartError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let depth = origin.identity.map_or(0, |own| own.depth) + 1;
        if depth > DEPTH_LIMIT {
            return Err(StartError::TooDeep { depth, limit: DEPTH_LIMIT });
        }
        let own_name = origin.identity.map_or("Main", |own| &own.name);
        let name = self.name.clone().unwrap_or_else(|| {
            let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
            if own_name.starts_with("Process-") {
                format!("{own_name}:{number}")
            } else {
                format!("Process-{number}")
            }
        });
        Ok(Identity {
            name,
            parent_name: own_name.to_owned(),
            parent_pid: std::process::id(),
            depth,
            daemon: self.daemon.unwrap_or_else(|| origin.identity.is_some_and(|own| own.daemon)),
            detached: self.detached,
        })
    }

    fn command(
        self,
        origin: &Origin,
        identity: &Identity,
        nonce: u64,
        wire: OwnedFd,
    ) -> std::io::Result<(Command, [bool; 3], Vec<OwnedFd>)> {
        let mut command = Command::new(OWN_IMAGE);
        let program = std::env::args_os().next().unwrap_or_default();
        let mut shown = program.clone();
        shown.push(format!(" [{}]", identity.name.replace('\0', "?")));
        command.arg0(shown).stdin(wire);
        if let Some(test) = &origin.test {
            command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        }
        if self.env_clear {
            command.env_clear();
        }
        for (name, value) in self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (variable, value) = role::variable(nonce);
        command.env(variable, value);
        if let Some(dir) = self.current_dir {
            command.current_dir(dir);
        }
        let mut given = [false; 3];
        let mut fds = Vec::new();
        let [stdin, stdout, stderr] = self.streams;
        // Under a test harness the child's standard output is the harness's until `init` has put the right one there.
        let stdout = if origin.test.is_some() { Some(stdout.unwrap_or(Stream::Inherit)) } else { stdout };
        if origin.test.is_some() {
            command.stdout(Stdio::null());
        }
        for (number, stream) in [stdin, stdout, stderr].into_iter().enumerate() {
            match (stream, number) {
                (None, _) | (Some(Stream::Null), 0) => continue,
                (Some(Stream::Null), 1) => {
                    command.stdout(Stdio::null());
                    continue;
                }
                (Some(Stream::Null), _) => {
                    command.stderr(Stdio::null());
                    continue;
                }
                (Some(Stream::Inherit), 0) => fds.push(std::io::stdin().as_fd().try_clone_to_owned()?),
                (Some(Stream::Inherit), 1) => fds.push(std::io::stdout().as_fd().try_clone_to_owned()?),
                (Some(Stream::Inherit), _) => continue,
                (Some(Stream::To(fd)), _) => fds.push(fd),
            }
            given[number] = true;
        }
        Ok((command, given, fds))
    }
}

/// A number that no other start of this process, and most likely of no other, bears.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Makes the process and sends it what to run; on the lasting thread.
fn execute(
    mut command: Command,
    wire: Wire,
    start: &Start,
    fds: &[OwnedFd],
) -> Result<(Arc<Entry>, Wire), StartError> {
    let identity = &start.identity;
    let child = command.spawn().map_err(|cause| StartError::Exec { name: identity.name.clone(), cause })?;
    // Only the child holds the other end of the wire from here on: its death is the end of file.
    drop(command);
    let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => return Err(abandon(child, &identity.name, "watching it", error.into())),
    };
    match wire.send(start, fds) {
        // It has died already; joining it tells how.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(abandon(child, &identity.name, "sending what to run", error)),
        Ok(()) => {}
    }
    let entry = Entry::new(child.id(), identity.name.clone(), identity.daemon, identity.detached, pidfd);
    let entry = Arc::new(entry);
    reaper::watch(Arc::clone(&entry));
    Ok((entry, wire))
}

/// Undoes the start of a process that cannot be told what to run.
fn abandon(
    mut child: std::process::Child,
    name: &str,
    action: &'static str,
    cause: std::io::Error,
) -> StartError {
    // It is this thread's own child and not reaped yet, so neither call can fail.
    let _ = child.kill();
    let _ = child.wait();
    StartError::System { name: name.to_owned(), action, cause }
}
