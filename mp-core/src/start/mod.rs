//! The ways to start a process: by executing the program again, or by a fork of a server that did.

pub(crate) mod reexec;
pub(crate) mod serve;
pub(crate) mod server;

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    error::StartError,
    limits::Limits,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    reaper::Entry,
    sys::image::Fingerprint,
    wire::{Call, Identity, Payload, Start, Surroundings, Wire, Work},
};

/// How a process is started.
///
/// Both give a process of its own that begins with nothing of this one's state but what it was passed: no thread, no
/// memory, no descriptor. Python: `set_start_method`; its third method, `fork`, which copies a running program with its
/// locks in whatever state they are, has no counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// The program is executed again, and its [`init`](crate::init) does the rest. Python: `spawn`.
    #[default]
    ReExec,
    /// A helper process, executed once, makes a copy of itself at each start: several times faster. Python: `forkserver`.
    ///
    /// The helper is started with the first process that asks for it, has one thread, and is started again if it dies.
    /// Environment and working directory are those of the caller at the time of the start; the file mode mask, limits and
    /// priorities are those at the time the helper was started. Where the system cannot do it (no `clone3`, a libc that
    /// does not follow), or the program starts threads before `init`, the process is started by re-exec instead;
    /// [`Child::start_method`](crate::Child::start_method) tells.
    ForkServer,
}

static DEFAULT: AtomicU8 = AtomicU8::new(0);

/// Sets how this process, and those that it starts from now on, start others unless they ask for something else.
///
/// ```
/// # mp_core::test_init!();
/// use mp_core::{StartMethod, set_start_method, spawn, start_method};
///
/// set_start_method(StartMethod::ForkServer);
/// assert_eq!(start_method(), StartMethod::ForkServer);
/// assert_eq!(spawn(|x: u32| x + 1, (1,))?.join()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_start_method(method: StartMethod) {
    DEFAULT.store(u8::from(method == StartMethod::ForkServer), Ordering::Relaxed);
}

/// How this process starts others unless they ask for something else: by re-exec, or what [`set_start_method`] said here
/// or in the process that started this one.
#[must_use]
pub fn start_method() -> StartMethod {
    if DEFAULT.load(Ordering::Relaxed) == 0 { StartMethod::ReExec } else { StartMethod::ForkServer }
}

/// All that is needed to start a process, whichever way.
pub(crate) struct Plan {
    pub(crate) identity: Identity,
    pub(crate) image: Fingerprint,
    pub(crate) trampoline: i64,
    pub(crate) arguments: Payload,
    pub(crate) argument_fds: Vec<OwnedFd>,
    pub(crate) limits: Limits,
    pub(crate) env_clear: bool,
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) streams: [Option<OwnedFd>; 3],
    pub(crate) test: Option<String>,
}

/// What a start yields.
pub(crate) struct Started {
    pub(crate) entry: Arc<Entry>,
    pub(crate) wire: Wire,
    pub(crate) method: StartMethod,
    /// Whether it still lived when it was told what to do.
    pub(crate) sent: bool,
}

/// A frame and its descriptors.
pub(crate) struct Outgoing<'a>(pub(crate) Start, Vec<BorrowedFd<'a>>);

impl Plan {
    /// The frame for the new process; `ahead` goes before all other descriptors.
    pub(crate) fn frame<'a>(
        &'a mut self,
        method: StartMethod,
        surroundings: Option<Surroundings>,
        ahead: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> Outgoing<'a> {
        self.identity.method = method;
        let call = Call {
            trampoline: self.trampoline,
            arguments: self.arguments.clone(),
            streams: self.streams.each_ref().map(Option::is_some),
            limits: self.limits.clone(),
            surroundings,
        };
        let start = Start {
            nonce: nonce(),
            image: self.image.clone(),
            identity: self.identity.clone(),
            test: self.test.clone(),
            work: Work::Call(call),
        };
        let streams = self.streams.iter().flatten().map(AsFd::as_fd);
        let fds = ahead.into_iter().chain(streams).chain(self.argument_fds.iter().map(AsFd::as_fd)).collect();
        Outgoing(start, fds)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> StartError + use<> {
        let name = self.identity.name.clone();
        move |cause| StartError::System { name, action, cause }
    }
}

/// Starts a process.
pub(crate) fn start(mut plan: Plan, method: StartMethod) -> Result<Started, StartError> {
    if method == StartMethod::ForkServer
        && let Some(started) = server::start(&mut plan)?
    {
        return Ok(started);
    }
    reexec::start(plan)
}

/// A number that no other start of this process, and most likely of no other, bears.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}
