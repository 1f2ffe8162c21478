//! What a worker process does: take chunks, run them, answer, until its ring is closed.
//!
//! The worker itself knows no types. What runs a chunk is one function for each type of task, named in the chunk by its place in
//! the image.

mod report;
mod run;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt::Display,
    io::{self, Write as _},
    rc::Rc,
};

use mp_core::{
    Own,
    call::Pointer,
    catch_panic,
    kill_points::{Point, reach},
    os::fd::OwnedFd,
    shared::{GetError, PutError, RegionError, Wake},
    transfer::{self, Constant, Fd, Handle, Parcel},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::run::{exit, initializer, try_initializer};
use crate::{
    help,
    local::{
        desk::{self, Desk},
        link::{self, Begin, Bell, Link},
        member::Ended,
    },
    message::{Answer, Apart, Beside, Chunk, NotReady, Order, Runs, read_order},
    spare,
    store::{self, Store},
    task,
};

/// How many contexts a worker keeps; the pool keeps count of them, too.
pub(crate) const CONTEXTS: usize = 4;

/// Runs a chunk and gives the memory of its message back: one such function for each type of task.
pub(crate) type Runner = fn(Work) -> Vec<u8>;
/// Runs an initializer.
pub(crate) type Initializer = fn(&[u8], Vec<OwnedFd>) -> Result<Box<dyn Any>, String>;
/// Runs an exit hook and encodes what it returns.
pub(crate) type Exit = fn() -> Result<Vec<u8>, String>;

/// Something encoded, with its handles, that can be sent any number of times.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<Handle>,
}

/// An initializer with its arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prelude {
    function: Pointer<Initializer>,
    /// Written once, however many workers are started: to start one must not take longer for what it is given.
    args: Constant,
    handles: Vec<Fd<OwnedFd>>,
}

impl Prelude {
    pub(crate) fn new(function: Pointer<Initializer>, args: Parcel) -> io::Result<Self> {
        let handles = args.handles.into_iter().map(|handle| handle.into_fd().map(Fd));
        Ok(Self { function, handles: handles.collect::<Result<_, _>>()?, args: Constant::new(&args.bytes)? })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let handles = self.handles.iter().map(|fd| fd.0.try_clone().map(Fd)).collect::<Result<_, _>>()?;
        Ok(Self { function: self.function, args: self.args.try_clone()?, handles })
    }

    /// Makes the state of a worker.
    fn call(self) -> Result<Box<dyn Any>, String> {
        let args = self.args.read().map_err(|error| error.to_string())?;
        self.function.target()(&args, self.handles.into_iter().map(|fd| fd.0).collect())
    }
}

/// What a worker is told at its start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) initializer: Option<Prelude>,
    pub(crate) exit: Option<Pointer<Exit>>,
    /// Threads of rayon's global pool.
    pub(crate) threads: Option<usize>,
    /// Resident bytes above which the worker asks to be replaced.
    pub(crate) resident: Option<u64>,
    /// Where to send what is logged.
    #[cfg(feature = "log")]
    pub(crate) forward: Option<crate::logs::Forward>,
}

/// What runs a chunk has at hand.
pub(crate) struct Session {
    shared: Own<Shared>,
    resident: Option<u64>,
    contexts: RefCell<VecDeque<Rc<Context>>>,
    store: Store,
    /// Nobody listens any more, or cannot be told what is to be said: the end of this process will tell.
    over: Cell<bool>,
    /// Memory for the lengths of results.
    lengths: Cell<Vec<u8>>,
}

/// By what the pool knows this worker.
struct Shared {
    link: Link,
    desk: Desk,
    bell: Bell,
}

/// A context as it came, and as what it is once a task has asked for it.
struct Context {
    id: u32,
    packed: RefCell<(Vec<u8>, Vec<OwnedFd>)>,
    value: RefCell<Option<Result<Rc<dyn Any>, String>>>,
}

/// A chunk to run.
pub(crate) struct Work {
    chunk: Chunk,
    /// The message; the items begin at `at`.
    message: Vec<u8>,
    at: usize,
    /// Or why its handles cannot be had.
    beside: io::Result<Beside>,
    session: Rc<Session>,
}

/// The main function of a worker process; returns what the exit hook returned, encoded.
pub(crate) fn main(link: Link, desk: Desk, bell: Bell, store: Store, setup: Setup) -> Ended {
    // Ctrl-C reaches the whole group; what it means is for the pool's own process to say.
    mp_core::ignore_interrupt();
    task::enter(&desk);
    #[cfg(feature = "log")]
    if let Some(forward) = setup.forward {
        forward.install();
    }
    if let Some(threads) = setup.threads {
        // Fails if the initializer of some library was faster; then the threads are those that it wanted.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        help::limit(threads);
    }
    if setup.resident.is_some() {
        store::keep_nothing();
    }
    let session = Rc::new(Session {
        shared: Own::new(Shared { link, desk, bell }),
        resident: setup.resident,
        contexts: RefCell::default(),
        store,
        over: Cell::new(false),
        lengths: Cell::default(),
    });
    if let Some(prelude) = setup.initializer {
        match catch_panic(|| prelude.call()) {
            Ok(Ok(state)) => task::set_state(state),
            Ok(Err(failed)) => {
                session.answer(&Answer::NotReady(NotReady::Failed(failed)));
                return None;
            }
            Err(report) => {
                session.answer(&Answer::NotReady(NotReady::Panicked(report)));
                return None;
            }
        }
    }
    session.answer(&Answer::Ready(desk::now()));
    while !session.over.get() && session.step().is_some() {}
    let exit = setup.exit?.target();
    Some(exit())
}

/// Ends the process before it has begun what it should take: the pool tells of the death, and gives up on a task that always costs one.
fn cannot_take(error: &dyn Display) -> ! {
    cannot_go_on("take its next task", error)
}

fn cannot_go_on(what: &str, error: &dyn Display) -> ! {
    let name = mp_core::current_process().name;
    let _ = writeln!(io::stderr(), "{name} ends: it could not {what}: {error}");
    std::process::exit(1);
}

impl Session {
    /// Does what the next message says; `None` at the end.
    fn step(self: &Rc<Self>) -> Option<()> {
        let mut message = spare::take();
        let came = match self.shared.link.receive(&mut message) {
            Ok(came) => came,
            Err(GetError::Closed) => return None,
            Err(error) => cannot_take(&error),
        };
        let (order, at) = read_order(&message).ok()?;
        match order {
            Order::Run(chunk) => {
                reach(Point::ChunkTaken);
                let open = |apart: &Apart| Ok((apart.at, self.store.open(apart.place)?));
                let runs = chunk.apart.iter().map(open).collect::<Result<_, RegionError>>();
                let runs = Runs::Stored(runs.unwrap_or_else(|error| cannot_take(&error)));
                let beside = came.fds.map(|fds| Beside { fds, runs });
                if let Err(error) = &beside
                    && !self.shared.link.is_whole()
                {
                    cannot_take(error);
                }
                let runner = chunk.runner.target();
                spare::give(runner(Work { chunk, message, at, beside, session: Rc::clone(self) }));
            }
            Order::Context(id) => {
                message.drain(..at);
                let mut contexts = self.contexts.borrow_mut();
                if contexts.len() == CONTEXTS {
                    contexts.pop_front();
                }
                // Without its handles it does not decode, which each task will say.
                let packed = RefCell::new((message, came.fds.unwrap_or_default()));
                contexts.push_back(Rc::new(Context { id, packed, value: RefCell::default() }));
            }
        }
        Some(())
    }

    fn answer(&self, answer: &Answer) {
        if let Ok(parcel) = transfer::encode(answer) {
            self.over.set(self.send(&parcel.bytes, Vec::new()).is_err());
        }
    }

    fn send(&self, message: &[u8], handles: Vec<Handle>) -> Result<(), PutError> {
        let mut sent = Ok(());
        let Shared { link, bell, .. } = &*self.shared;
        link::answer(bell, || sent = link.send(&[message], handles, Wake::Word));
        // What is left to do here can wait.
        link.make_way();
        sent
    }

    /// Ends this process if it is not this result that could not be sent, but none could: a task has closed what it did not open. The
    /// others shall not lose theirs for that.
    fn check_connection(&self, error: &PutError) {
        if !self.shared.link.is_whole() {
            cannot_go_on("send a result", error);
        }
    }

    /// Sends a long run of bytes ahead of the answer that it belongs to, straight from where it is; false if that cannot be.
    fn send_ahead(&self, begin: Begin, bytes: &[u8]) -> bool {
        let Shared { link, bell, .. } = &*self.shared;
        link.send_ahead(begin, bytes, |loud| link::ring_for_a_step(bell, loud)).is_ok()
    }

    /// Whether this process has grown beyond its limit.
    fn too_large(&self) -> bool {
        self.resident.is_some_and(|limit| {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let kilobytes = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            };
            // What is shared with others stays when this process is replaced.
            let own = kilobytes("VmRSS").map(|all| all.saturating_sub(kilobytes("RssShmem").unwrap_or(0)));
            own.is_some_and(|own| own * 1024 > limit)
        })
    }
}
