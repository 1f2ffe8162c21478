//! What the kernel does, as a model for loom: robust mutexes, futexes, and death.
//!
//! A model thread stands for a process. It dies at an armed kill point: the kernel's part (every lock that it holds is
//! marked and handed on) happens at once, and the thread itself stays where it is until the model has ended, so that
//! none of its later steps can be seen. Nothing here knows time: a lock with a deadline waits for ever, so what the
//! models prove holds without any timer.

use std::{
    cell::RefCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Instant,
};

use loom::{
    sync::{Condvar, Mutex},
    thread::{self, JoinHandle, ThreadId},
};

use crate::{
    kill_points::Point,
    sys::outcome::{Acquired, Held, Refused},
};

mod mutated;
mod slot;

pub use loom::sync::atomic;
pub use mutated::fails_when_mutated;
pub use slot::Slot;

/// Runs `model` in every order of steps with up to `preemptions` preemptions.
pub fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// The one lock under which the modelled kernel does each of its steps.
struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Sleepers by the address of their word, and whether they were woken.
    sleepers: Vec<(usize, ThreadId, bool)>,
    mutexes: HashMap<usize, MutexState>,
    socket: SocketState,
    /// How many processes have died or called [`exit`].
    exits: usize,
    ended: bool,
}

#[derive(Default)]
struct MutexState {
    owner: Option<ThreadId>,
    owner_died: bool,
    word: Arc<atomic::AtomicU32>,
}

/// The one socket of a model: the bells in it, and who can still ring.
#[derive(Default)]
struct SocketState {
    bells: u32,
    /// How often it became readable: what an edge-triggered poll sees.
    edges: u32,
    holders: usize,
    /// Those of the holders that may die.
    ringers: Vec<ThreadId>,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel { state: Mutex::new(State::default()), changed: Condvar::new() };
}

thread_local! {
    // All threads of a model run on one thread of the machine, so this needs no lock of loom's.
    static DEATHS: RefCell<HashMap<ThreadId, (Point, u32)>> = RefCell::new(HashMap::new());
}

fn kernel<R>(step: impl FnOnce(&mut State) -> R) -> R {
    let mut state = KERNEL.state.lock().unwrap();
    let result = step(&mut state);
    KERNEL.changed.notify_all();
    result
}

fn wait_in_kernel<R>(mut ready: impl FnMut(&mut State) -> Option<R>) -> R {
    let mut state = KERNEL.state.lock().unwrap();
    loop {
        if let Some(result) = ready(&mut state) {
            return result;
        }
        state = KERNEL.changed.wait(state).unwrap();
    }
}

/// A robust mutex; its identity is its address.
///
/// Who has it is the kernel's to say, in one step with all others. Beside that it has a word, as the real one, for those who only
/// look: taking it is an acquire, setting it free a release, and whoever looks may see what is too old.
#[derive(Debug, Default)]
pub(crate) struct RobustMutex(Arc<atomic::AtomicU32>);

const FREE: u32 = 0;
const HELD: u32 = 1;
const DIED: u32 = 2;

impl RobustMutex {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn init_zeroed(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn take(&self, state: &mut State) -> Result<Acquired, Refused> {
        let me = thread::current().id();
        let mutex = state.mutexes.entry(self.id()).or_default();
        match mutex.owner {
            Some(owner) if owner == me => Err(Refused::Deadlock),
            Some(_) => Err(Refused::Busy),
            None => {
                mutex.owner = Some(me);
                mutex.word = Arc::clone(&self.0);
                self.0.swap(HELD, atomic::Ordering::Acquire);
                Ok(if std::mem::take(&mut mutex.owner_died) { Acquired::OwnerDied } else { Acquired::Clean })
            }
        }
    }

    pub(crate) fn lock(&self, _deadline: Option<Instant>) -> Result<Acquired, Refused> {
        wait_in_kernel(|state| match self.take(state) {
            Err(Refused::Busy) => None,
            outcome => Some(outcome),
        })
    }

    pub(crate) fn try_lock(&self) -> Result<Acquired, Refused> {
        kernel(|state| self.take(state))
    }

    pub(crate) fn unlock(&self) {
        // A thread that unwinds is dead, or belongs to a model that has failed: the kernel has its locks already.
        if std::thread::panicking() {
            return;
        }
        self.0.store(FREE, atomic::Ordering::Release);
        kernel(|state| {
            if let Some(mutex) = state.mutexes.get_mut(&self.id())
                && mutex.owner == Some(thread::current().id())
            {
                mutex.owner = None;
            }
        });
    }
}

impl RobustMutex {
    /// Nothing that is modelled asks by whom.
    pub(crate) fn held(&self) -> Held {
        // As in `unlock`: a thread that unwinds is dead, and holds nothing.
        if std::thread::panicking() {
            return Held::No;
        }
        match self.0.load(atomic::Ordering::Relaxed) {
            FREE => Held::No,
            DIED => Held::ByDead,
            _ => Held::By(1),
        }
    }

    pub(crate) fn is_held_here(&self) -> bool {
        false
    }

    pub(crate) fn is_own(&self) -> bool {
        // As in `held`.
        if std::thread::panicking() {
            return false;
        }
        let me = thread::current().id();
        kernel(|state| state.mutexes.get(&self.id()).is_some_and(|mutex| mutex.owner == Some(me)))
    }
}

pub(crate) mod futex {
    //! Sleeping on words.

    use super::*;
    use crate::sync::{AtomicU32, Ordering};

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _deadline: Option<Instant>) {
        let address = std::ptr::from_ref(word).addr();
        let me = thread::current().id();
        // Comparing and going to sleep are one step of the kernel.
        let asleep = kernel(|state| {
            let asleep = word.load(Ordering::SeqCst) == expected;
            if asleep {
                state.sleepers.push((address, me, false));
            }
            asleep
        });
        if asleep {
            wait_in_kernel(|state| {
                let woken = state.sleepers.iter().position(|(_, who, woken)| *who == me && *woken)?;
                state.sleepers.swap_remove(woken);
                Some(())
            });
        }
    }

    fn wake_in(state: &mut State, address: usize, count: i32) {
        let asleep = state.sleepers.iter_mut().filter(|(at, _, woken)| *at == address && !woken);
        for sleeper in asleep.take(usize::try_from(count).unwrap_or(0)) {
            sleeper.2 = true;
        }
    }

    pub(crate) fn wake(word: &AtomicU32, count: i32) {
        kernel(|state| wake_in(state, std::ptr::from_ref(word).addr(), count));
    }

    pub(crate) fn add_and_wake(word: &AtomicU32, count: i32) {
        kernel(|state| {
            word.fetch_add(1, Ordering::SeqCst);
            wake_in(state, std::ptr::from_ref(word).addr(), count);
        });
    }

    pub(crate) fn atomic_wake() -> bool {
        true
    }

    pub(crate) fn current_cpu() -> u32 {
        0
    }
}

pub(crate) mod socket {
    //! A socket that carries bells, and tells of the end of those that ring.

    use super::*;

    /// What a receive found.
    #[derive(Debug, PartialEq)]
    pub(crate) enum Packet {
        Bell,
        End,
    }

    /// Says how many processes hold the far end; each of them calls [`hold`] at its beginning and [`close`] at its end.
    pub(crate) fn open(holders: usize) {
        kernel(|state| state.socket.holders = holders);
    }

    /// Says that the death of this process closes its end.
    pub(crate) fn hold() {
        kernel(|state| state.socket.ringers.push(thread::current().id()));
    }

    pub(crate) fn ring() {
        kernel(|state| {
            state.socket.bells += 1;
            state.socket.edges += 1;
        });
    }

    pub(crate) fn close() {
        let me = thread::current().id();
        kernel(|state| {
            state.socket.ringers.retain(|ringer| *ringer != me);
            state.socket.end();
        });
    }

    /// Takes a bell, if there is one, else the end, if it has come.
    pub(crate) fn try_receive() -> Option<Packet> {
        kernel(|state| state.socket.take())
    }

    /// As [`try_receive`], and sleeps until there is one of them.
    pub(crate) fn receive() -> Packet {
        wait_in_kernel(|state| state.socket.take())
    }

    pub(crate) fn edges() -> u32 {
        kernel(|state| state.socket.edges)
    }

    /// Sleeps until it became readable once more than `seen`.
    pub(crate) fn wait_for_edge(seen: u32) {
        wait_in_kernel(|state| (state.socket.edges != seen).then_some(()));
    }

    impl SocketState {
        pub(super) fn end(&mut self) {
            self.holders -= 1;
            if self.holders == 0 {
                self.edges += 1;
            }
        }

        fn take(&mut self) -> Option<Packet> {
            if self.bells > 0 {
                self.bells -= 1;
                Some(Packet::Bell)
            } else {
                (self.holders == 0).then_some(Packet::End)
            }
        }
    }
}

/// Dies here, if this thread was started to die here.
pub fn reach(point: Point) {
    let me = thread::current().id();
    let due = DEATHS.with_borrow_mut(|deaths| match deaths.get_mut(&me) {
        Some((at, left)) if *at == point => {
            *left -= 1;
            *left == 0
        }
        _ => false,
    });
    if due {
        DEATHS.with_borrow_mut(|deaths| deaths.remove(&me));
        kernel(|state| {
            for mutex in state.mutexes.values_mut().filter(|mutex| mutex.owner == Some(me)) {
                (mutex.owner, mutex.owner_died) = (None, true);
                mutex.word.store(DIED, atomic::Ordering::Release);
            }
        });
        // The kernel closes the descriptors of a process after it has freed its locks: another step.
        kernel(|state| {
            if let Some(holder) = state.socket.ringers.iter().position(|ringer| *ringer == me) {
                state.socket.ringers.swap_remove(holder);
                state.socket.end();
            }
            state.exits += 1;
        });
        wait_in_kernel(|state| state.ended.then_some(()));
        resume_unwind(Box::new(Died));
    }
}

/// Ends a process that has not died, for those that wait for its end; its last step.
pub fn exit() {
    kernel(|state| state.exits += 1);
}

/// Waits until so many processes have died or called [`exit`], as one does with a pidfd.
pub fn wait_for_exits(exits: usize) {
    wait_in_kernel(|state| (state.exits >= exits).then_some(()));
}

struct Died;

/// The threads of one model, each of which stands for a process.
#[derive(Default)]
pub struct Processes {
    living: Vec<JoinHandle<()>>,
    dying: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts one that must end by itself.
    pub fn start(&mut self, body: impl FnOnce() + 'static) {
        self.living.push(thread::spawn(body));
    }

    /// Starts one that dies when it reaches `point` for the `nth` time, if it does.
    pub fn start_to_die(&mut self, point: Point, nth: u32, body: impl FnOnce() + 'static) {
        self.dying.push(thread::spawn(move || {
            DEATHS.with_borrow_mut(|deaths| deaths.insert(thread::current().id(), (point, nth)));
            let outcome = catch_unwind(AssertUnwindSafe(body));
            DEATHS.with_borrow_mut(|deaths| deaths.remove(&thread::current().id()));
            if let Err(cause) = outcome
                && !cause.is::<Died>()
            {
                resume_unwind(cause);
            }
        }));
    }

    /// Waits for those that must end, checks what they left, then lets the dead go.
    pub fn end(self, check: impl FnOnce()) {
        for process in self.living {
            process.join().unwrap();
        }
        check();
        kernel(|state| state.ended = true);
        for process in self.dying {
            process.join().unwrap();
        }
    }
}
