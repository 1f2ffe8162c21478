//! Running the items of a chunk: the typed half of a worker.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use mp_core::{
    call::{self, Function, Landing, Pointer},
    catch_panic,
    os::fd::OwnedFd,
    transfer,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Exit, Initializer, Runner, Session, Work};
use crate::{
    local::desk::Item,
    message::{Outcome, PART_HEAD, Part, write_len},
    spare, task,
};

/// Results do not wait longer than this for those behind them.
const ANSWER: Duration = Duration::from_millis(5);
/// A claim, and a look at the clock, for so much work.
const STRIDE: Duration = Duration::from_micros(50);
const LONGEST_STRIDE: u32 = 1 << 10;
/// Nor do so many of them gather.
const GATHERED: usize = 1 << 13;

/// Runs a chunk of calls of `F`.
pub(crate) fn run_call<F, Args>() -> Pointer<Runner>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
{
    let run = const {
        &Landing::new((|work| work.run(|args: Args| call::conjure::<F, Args>().call(args))) as Runner)
    };
    Pointer(run)
}

/// Runs a chunk of calls of `F` with the context in front.
pub(crate) fn run_call_with<F, C, T, R>() -> Pointer<Runner>
where
    F: for<'c> Function<(&'c C, T), Output = R>,
    C: DeserializeOwned + 'static,
    T: DeserializeOwned,
    R: Serialize,
{
    let run = const {
        &Landing::new(
            (|work| match work.session.context::<C>(work.chunk.context) {
                Ok(context) => work.run(|item: T| call::conjure::<F, (&C, T)>().call((&context, item))),
                Err(reason) => work.refuse(&format!("its context could not be used: {reason}")),
            }) as Runner,
        )
    };
    Pointer(run)
}

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
struct Pace {
    stride: u32,
    /// The last look at the clock, and what was answered by then.
    looked: Instant,
    answered: Instant,
    slowest: (u32, Duration),
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
    fn run<Args: DeserializeOwned, R: Serialize>(mut self, call: impl Fn(Args) -> R) -> Vec<u8> {
        let chunk = &self.chunk;
        let session = Rc::clone(&self.session);
        let desk = &session.desk;
        task::begin_chunk(chunk.first);
        let mut pace = Pace::new();
        let mut report = Report { ticket: chunk.ticket, from: 0, done: Vec::new() };
        let mut fds = std::mem::take(&mut self.fds);
        let mut rest = self.message.get(self.at..).unwrap_or_default();
        loop {
            let claimed = desk.claim(chunk.place, pace.stride);
            if claimed.is_empty() {
                break;
            }
            for item in claimed.clone() {
                desk.begin(Item { ticket: chunk.ticket, item }, chunk.timed);
                // An item with handles is alone in its chunk.
                let args = if fds.is_empty() {
                    catch_panic(|| transfer::decode_front::<Args>(rest)).map(|read| {
                        read.map(|(args, behind)| {
                            rest = behind;
                            args
                        })
                    })
                } else {
                    let fds = std::mem::take(&mut fds);
                    catch_panic(|| transfer::decode::<Args>(rest, fds))
                };
                let outcome = match args {
                    Ok(Ok(args)) => match catch_panic(|| call(args)) {
                        Ok(result) => Outcome::Returned(result),
                        Err(report) => Outcome::Panicked(Box::new(report)),
                    },
                    Ok(Err(error)) => Outcome::NotDecoded(error.to_string().into()),
                    Err(report) => Outcome::NotDecoded(format!("its `Deserialize` {report}").into()),
                };
                let lost = matches!(outcome, Outcome::NotDecoded(_));
                report.done.push(outcome);
                if lost {
                    // Where the next item begins is not known: the pool sends it again, without this one.
                    desk.take_back(chunk.place, |_| 0);
                    desk.rest();
                    report.send(&session, &mut pace, true);
                    return self.message;
                }
            }
            if pace.look(claimed.start, claimed.end - claimed.start) || report.done.len() >= GATHERED {
                desk.rest();
                report.send(&session, &mut pace, false);
            }
        }
        desk.rest();
        report.send(&session, &mut pace, true);
        self.message
    }

    /// Answers every item with the same failure.
    fn refuse(self, reason: &str) -> Vec<u8> {
        let claimed = self.session.desk.claim(self.chunk.place, u32::MAX);
        let done = claimed.map(|_| Outcome::<()>::NotDecoded(reason.into())).collect();
        Report { ticket: self.chunk.ticket, from: 0, done }.send(&self.session, &mut Pace::new(), true);
        self.message
    }
}

/// Outcomes on their way.
struct Report<R> {
    ticket: u32,
    from: u32,
    done: Vec<Outcome<R>>,
}

impl<R: Serialize> Report<R> {
    /// Sends what is done as one message, or as several if there are handles in it.
    fn send(&mut self, session: &Session, pace: &mut Pace, last: bool) {
        let now = Instant::now();
        let head = Part {
            ticket: self.ticket,
            retire: session.too_large(),
            nanoseconds: (now - pace.answered).as_nanos() as u64,
            slowest: pace.slowest.0,
            slowest_nanoseconds: pace.slowest.1.as_nanos() as u64,
            ..Part::default()
        };
        (pace.answered, pace.slowest) = (now, (0, Duration::ZERO));
        let returned = self.done.iter().all(|outcome| matches!(outcome, Outcome::Returned(_)));
        let mut rest = self.done.as_slice();
        let mut head = Part { returned, ..head };
        loop {
            let sent = if returned {
                let results = rest.iter().filter_map(|outcome| match outcome {
                    Outcome::Returned(result) => Some(result),
                    _ => None,
                });
                send_some(session, head, results, self.from, rest.len(), last)
            } else {
                send_some(session, head, rest.iter(), self.from, rest.len(), last)
            };
            // What one message tells of the time, the next need not.
            (head.nanoseconds, head.slowest_nanoseconds) = (0, 0);
            match sent {
                Ok(sent) => {
                    self.from += sent as u32;
                    rest = &rest[sent..];
                }
                Err(reason) => {
                    let failed = [Outcome::<()>::NotEncoded(reason.into())];
                    let head = Part { returned: false, ..head };
                    let _ = send_some(session, head, failed.iter(), self.from, rest.len(), last);
                    self.from += 1;
                    rest = &rest[1..];
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        self.done.clear();
        // The clock ran on while this was sent; that is not the next item's time.
        pace.looked = Instant::now();
        pace.answered = pace.looked;
    }
}

/// Sends the front of `results` as one message: all of them, or up to the first that has handles or cannot be encoded. Returns how
/// many were sent, or why the very first could not be. `left` is how many there are.
fn send_some<'a, T: Serialize + 'a>(
    session: &Session,
    head: Part,
    results: impl Iterator<Item = &'a T>,
    from: u32,
    left: usize,
    last: bool,
) -> Result<usize, String> {
    let mut message = spare::take();
    let mut lengths = spare::take();
    message.resize(PART_HEAD, 0);
    let (mut end, mut sent, mut carried) = (PART_HEAD, 0, Vec::new());
    let stop = Cell::new(false);
    let outcome = catch_panic(|| {
        transfer::encode_each(results.take_while(|_| !stop.get()), &mut message, |to, handles| {
            if !handles.is_empty() {
                stop.set(true);
                if sent > 0 {
                    // It is encoded again, for a message of its own.
                    return;
                }
                carried = handles;
            }
            write_len(to - end, &mut lengths);
            (end, sent) = (to, sent + 1);
        })
    });
    let failed = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(report) => Some(format!("its `Serialize` {report}")),
    };
    if let (Some(reason), 0) = (failed, sent)
        && left > 0
    {
        return Err(reason);
    }
    message.truncate(end);
    let bytes = (end - PART_HEAD) as u64;
    message.extend_from_slice(&lengths);
    let part = Part { from, len: sent as u32, last: last && sent == left, bytes, ..head };
    if let Some(place) = message.get_mut(..PART_HEAD) {
        part.write(place);
    }
    session.send(&message, carried);
    spare::give(message);
    spare::give(lengths);
    Ok(sent)
}

/// An initializer that returns the worker's state.
pub(crate) fn initializer<F, Args>() -> Pointer<Initializer>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: 'static,
{
    let call = const {
        &Landing::new((|bytes, fds| Ok(Box::new(call_with::<F, Args>(&bytes, fds)?) as _)) as Initializer)
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
                let state = call_with::<F, Args>(&bytes, fds)?.map_err(|error| error.to_string())?;
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
