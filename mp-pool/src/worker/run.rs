//! Running the items of a chunk: the typed half of a worker.

use std::{
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use mp_core::{
    call::{self, Function, Landing, Pointer},
    catch_panic,
    kill_points::{Point, reach},
    os::fd::OwnedFd,
    transfer,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Exit, Initializer, Session, Work, report::Report};
use crate::{
    local::desk::{Item, Step},
    message::{Beside, Chunk, Failure, Values},
    task,
};

/// Results do not wait longer than this for those behind them.
const ANSWER: Duration = Duration::from_millis(5);
/// Nor do so many of them gather.
const GATHERED: usize = 1 << 13;
/// A claim, and a look at the clock, for so much work.
const STRIDE: Duration = Duration::from_micros(50);
const LONGEST_STRIDE: u32 = 1 << 10;

impl Session {
    fn context<C: DeserializeOwned + 'static>(&self, id: u32) -> Result<Rc<C>, String> {
        let context = self.contexts.borrow().iter().find(|context| context.id == id).cloned();
        let context = context.ok_or("it did not arrive")?;
        let mut value = context.value.borrow_mut();
        let value = value.get_or_insert_with(|| {
            let (bytes, fds) = context.packed.take();
            match catch_panic(|| transfer::decode::<C>(&bytes, fds)) {
                Ok(Ok(value)) => Ok(Rc::new(value)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(report) => Err(format!("its `Deserialize` {report}")),
            }
        });
        let value = value.clone()?;
        value.downcast().map_err(|_| "it is of another type".to_owned())
    }
}

/// How many items to claim at once, and when to answer.
pub(super) struct Pace {
    stride: u32,
    pub(super) looked: Instant,
    pub(super) answered: Instant,
    pub(super) slowest: (u32, Duration),
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { stride: 1, looked: now, answered: now, slowest: (0, Duration::ZERO) }
    }

    /// Notes that the `done` items from `first` on took the time since the last look; whether an answer is due.
    fn look(&mut self, first: u32, done: u32) -> bool {
        let now = Instant::now();
        let took = now - self.looked;
        self.looked = now;
        if done == 1 && took > self.slowest.1 {
            self.slowest = (first, took);
        }
        if took < STRIDE / 2 {
            self.stride = (2 * self.stride).min(LONGEST_STRIDE);
        } else if took > 2 * STRIDE {
            let fit = u128::from(done) * STRIDE.as_nanos() / took.as_nanos().max(1);
            self.stride = u32::try_from(fit).unwrap_or(LONGEST_STRIDE).clamp(1, LONGEST_STRIDE);
        }
        now - self.answered >= ANSWER
    }
}

impl Work {
    /// Runs the chunk: calls of `call`.
    pub(crate) fn run<Args: DeserializeOwned, R: Serialize>(self, call: impl Fn(Args) -> R) -> Vec<u8> {
        self.run_in(|_| Ok(()), |(), args| call(args))
    }

    /// Runs the chunk: calls of `call` with the context in front.
    pub(crate) fn run_with<C, Args, R>(self, call: impl Fn(&C, Args) -> R) -> Vec<u8>
    where
        C: DeserializeOwned + 'static,
        Args: DeserializeOwned,
        R: Serialize,
    {
        let id = self.chunk.context;
        self.run_in(|session| session.context::<C>(id), |context, args| call(context, args))
    }

    fn run_in<C, Args: DeserializeOwned, R: Serialize>(
        mut self,
        context: impl FnOnce(&Session) -> Result<C, String>,
        call: impl Fn(&C, Args) -> R,
    ) -> Vec<u8> {
        let beside = match std::mem::replace(&mut self.beside, Ok(Beside::default())) {
            Ok(beside) => beside,
            Err(error) => return self.refuse(0..0, &format!("its handles could not be received: {error}")),
        };
        let chunk = &self.chunk;
        let (ticket, place, timed) = (chunk.ticket, chunk.place, chunk.timed);
        let session = Rc::clone(&self.session);
        let shared = &session.shared;
        task::begin_chunk(chunk.first);
        let mut pace = Pace::new();
        let mut report = Report { session: &session, ticket, timed, singly: false, from: 0 };
        let mut done = Vec::new();
        let mut claimed = shared.desk.claim(place, pace.stride, 0..chunk.len);
        if !claimed.is_empty() {
            // To decode the context is part of being at the first item.
            shared.desk.begin(Item { ticket, item: claimed.start, step: Step::Runs }, timed);
        }
        let context = match context(&session) {
            Ok(context) => context,
            Err(reason) => {
                shared.desk.rest();
                return self.refuse(claimed, &format!("its context could not be used: {reason}"));
            }
        };
        let body = self.message.get(self.at..).unwrap_or_default();
        let mut items = Values::new(body, chunk.bytes, beside);
        while !claimed.is_empty() {
            let mut next = claimed.start;
            while next < claimed.end {
                let mut decoded = false;
                // One guard for as many items as do not fail.
                let stop = catch_panic(|| {
                    while next < claimed.end {
                        shared.desk.begin(Item { ticket, item: next, step: Step::Runs }, timed);
                        next += 1;
                        decoded = false;
                        let args = items.next()?;
                        decoded = true;
                        shared.stay();
                        done.push(call(&context, args));
                        reach(Point::Ran);
                    }
                    Ok(())
                });
                let failure = match stop {
                    Ok(Ok(())) => continue,
                    Ok(Err(reason)) => Failure::NotDecoded(reason),
                    Err(report) if decoded => Failure::Panicked(report),
                    Err(report) => Failure::NotDecoded(format!("its `Deserialize` {report}")),
                };
                shared.desk.rest();
                report.send(&mut done, &mut pace, false);
                report.fail(&failure, false);
            }
            let due = pace.look(claimed.start, claimed.end - claimed.start);
            if claimed.end == chunk.len {
                break;
            }
            if due || done.len() >= GATHERED {
                shared.desk.rest();
                report.send(&mut done, &mut pace, false);
            }
            claimed = shared.desk.claim(place, pace.stride, claimed.end..chunk.len);
        }
        shared.desk.rest();
        report.send(&mut done, &mut pace, true);
        self.message
    }

    /// Answers every item with the same failure, those that were claimed and all others.
    fn refuse(self, claimed: Range<u32>, reason: &str) -> Vec<u8> {
        let Chunk { ticket, place, len, timed, .. } = self.chunk;
        let failure = Failure::NotDecoded(reason.to_owned());
        let mut report = Report { session: &self.session, ticket, timed, singly: false, from: 0 };
        let left = self.session.shared.desk.claim(place, u32::MAX, claimed.end..len);
        for _ in claimed.chain(left) {
            report.fail(&failure, false);
        }
        report.send(&mut Vec::<()>::new(), &mut Pace::new(), true);
        self.message
    }
}

/// An initializer that returns the worker's state.
pub(crate) fn initializer<F, Args>() -> Pointer<Initializer>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: 'static,
{
    let call = const {
        &Landing::new((|bytes, fds| Ok(Box::new(call_with::<F, Args>(bytes, fds)?) as _)) as Initializer)
    };
    Pointer(call)
}

/// An initializer that may fail.
pub(crate) fn try_initializer<F, Args, S, E>() -> Pointer<Initializer>
where
    F: Function<Args, Output = Result<S, E>>,
    Args: DeserializeOwned,
    S: 'static,
    E: std::fmt::Display,
{
    let call = const {
        &Landing::new(
            (|bytes, fds| {
                let state = call_with::<F, Args>(bytes, fds)?.map_err(|error| error.to_string())?;
                Ok(Box::new(state) as _)
            }) as Initializer,
        )
    };
    Pointer(call)
}

fn call_with<F, Args>(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<F::Output, String>
where
    F: Function<Args>,
    Args: DeserializeOwned,
{
    let args = transfer::decode::<Args>(bytes, fds).map_err(|error| error.to_string())?;
    Ok(call::conjure::<F, Args>().call(args))
}

/// An exit hook.
pub(crate) fn exit<F>() -> Pointer<Exit>
where
    F: Function<()>,
    F::Output: Serialize,
{
    let call = const {
        &Landing::new(
            (|| {
                let result = call::conjure::<F, ()>().call(());
                transfer::encode(&result).map(|parcel| parcel.bytes).map_err(|error| error.to_string())
            }) as Exit,
        )
    };
    Pointer(call)
}
