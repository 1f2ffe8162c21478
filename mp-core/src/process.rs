//! What to start: a function, its arguments, and the surroundings of the new process.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    call::{self, Captures, Function},
    child::Child,
    error::StartError,
    limits::Limits,
    os::{
        self,
        fd::{AsFd, OwnedFd},
        fs::{Mode, OFlags},
    },
    role::{self, Origin},
    start::{self, Plan, StartMethod, reexec::valid_variable},
    sys::image::Fingerprint,
    transfer,
    wire::{Identity, Payload},
};

/// How many generations of processes may start each other.
const DEPTH_LIMIT: u32 = 64;

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
    // Here, too, so that the error of a build shows the line that calls this.
    let () = Captures::<F>::NOTHING;
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
/// It has no command line: its `std::env::args()` holds one word, the program's name with a process's in brackets, as `prog [Process-1]`. What it
/// needs, pass as arguments.
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
    method: Option<StartMethod>,
    env_clear: bool,
    env: Vec<(OsString, Option<OsString>)>,
    current_dir: Option<PathBuf>,
    streams: [Option<Stream>; 3],
    limits: Limits,
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

    /// Whether the new process lives on when this one ends, however it ends. It gets a session of its own, so that
    /// neither Ctrl-C nor the end of the terminal reaches it.
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

    /// How the process is started; by default as [`start_method`](crate::start_method) says.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// The most memory that it may map, in bytes (`RLIMIT_AS`); an allocation beyond that fails, which ends most programs.
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.limits.address_space = Some(bytes);
        self
    }

    /// The most CPU time that it may use, rounded up to seconds (`RLIMIT_CPU`); then SIGXCPU ends it.
    pub fn cpu_time(mut self, time: Duration) -> Self {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        self.limits.cpu_time = Some(seconds.max(1));
        self
    }

    /// The number below which all its descriptors must be (`RLIMIT_NOFILE`).
    pub fn open_files(mut self, number: u64) -> Self {
        self.limits.open_files = Some(number);
        self
    }

    /// The CPUs on which it may run, counted from 0.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.limits.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// How nice it is to others, from -20 (privileged) to 19 (only when nobody else wants the CPU).
    pub fn nice(mut self, nice: i32) -> Self {
        self.limits.nice = Some(nice);
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
        let () = Captures::<F>::NOTHING;
        if !os::SUPPORTED {
            return Err(StartError::Unsupported);
        }
        let origin = role::ready().ok_or(StartError::NotInitialised)?;
        let trampoline = call::trampoline::<F, Args>(function).offset().ok_or(StartError::OtherImage)?;
        let method = self.method.unwrap_or_else(start::start_method);
        let plan = self.plan(origin, trampoline, args, method)?;
        Ok(Child::new(start::start(plan, method)?))
    }

    fn plan<Args: Serialize>(
        self,
        origin: Origin,
        trampoline: i64,
        args: Args,
        method: StartMethod,
    ) -> Result<Plan, StartError> {
        let identity = self.identity(&origin, method)?;
        let name = || identity.name.clone();
        if let Some((variable, _)) =
            self.env.iter().find(|(variable, value)| !valid_variable(variable, value.as_ref()))
        {
            return Err(StartError::Environment { name: name(), variable: variable.clone() });
        }
        let system = |action| move |cause| StartError::System { name: name(), action, cause };
        let parcel = transfer::encode(&args).map_err(|error| match error.refused {
            // No fault of the arguments, whose type, within a crate built on this one, says nothing to a user.
            Some(number) => system("duplicating its handles")(io::Error::from_raw_os_error(number)),
            None => StartError::Arguments(error),
        })?;
        drop(args);
        let (arguments, argument_fds) = Payload::pack(parcel).map_err(system("packing the arguments"))?;
        // Where the new process would not get this one's streams by itself, it is given them.
        let output = method == StartMethod::ForkServer || origin.test.is_some();
        let error = method == StartMethod::ForkServer;
        let [stdin, stdout, stderr] = self.streams;
        let streams = [resolve(stdin, 0, false), resolve(stdout, 1, output), resolve(stderr, 2, error)];
        let [stdin, stdout, stderr] = streams.map(|stream| stream.map_err(system("preparing its streams")));
        Ok(Plan {
            image: Fingerprint::own().clone(),
            trampoline,
            arguments,
            argument_fds,
            limits: self.limits,
            env_clear: self.env_clear,
            env: self.env,
            current_dir: self.current_dir,
            streams: [stdin?, stdout?, stderr?],
            test: origin.test,
            identity,
        })
    }

    fn identity(&self, origin: &Origin, method: StartMethod) -> Result<Identity, StartError> {
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
            method,
            children: start::start_method(),
        })
    }
}

/// The descriptor to give to the new process as stream `number`; `None` if it gets the right one by itself.
fn resolve(stream: Option<Stream>, number: u32, always: bool) -> io::Result<Option<OwnedFd>> {
    let inherited = || {
        let copy = match number {
            0 => io::stdin().as_fd().try_clone_to_owned(),
            1 => io::stdout().as_fd().try_clone_to_owned(),
            _ => io::stderr().as_fd().try_clone_to_owned(),
        };
        match copy {
            // This process has closed the stream; so it is closed, or leads nowhere, in the other, too.
            Err(error) if error.raw_os_error() == Some(os::io::Errno::BADF.raw_os_error()) => Ok(None),
            copy => copy.map(Some),
        }
    };
    match (stream, number) {
        (None | Some(Stream::Null), 0) => Ok(None),
        (Some(Stream::Inherit), 0) => inherited(),
        (Some(Stream::Null), _) => {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            Ok(Some(os::fs::open("/dev/null", flags, Mode::empty())?))
        }
        (None | Some(Stream::Inherit), _) if always => inherited(),
        (None | Some(Stream::Inherit), _) => Ok(None),
        (Some(Stream::To(fd)), _) => Ok(Some(fd)),
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported)))]
mod tests;
