//! Chunks: items of one input as bytes on the way out, their results on the way back.
//!
//! What runs a chunk in a worker is one function per task type, named by its place in the image; the worker itself knows
//! no types. Each item's outcome is its own: a panic concerns nobody else.

use std::sync::atomic::{AtomicU64, Ordering};

use mp_core::{
    PanicReport,
    call::{self, Function, Pointer},
    catch_panic,
    os::fd::OwnedFd,
    shared::Slot,
    transfer::{self, EncodeError, Handle, Parcel},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The item at work, as `chunk << 32 | item`: what the parent must know if the worker dies.
pub(crate) type Progress = Slot<AtomicU64>;

/// Bytes of a message before the chunk's own: the chunk's number.
pub(crate) const HEAD: usize = 4;

/// What a worker gets to run.
pub(crate) struct Work {
    pub(crate) number: u32,
    /// The message; the items begin at `at`.
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) progress: Progress,
}

/// Runs a chunk: one such function for each task type.
pub(crate) type Runner = fn(Work) -> Parcel;

/// What became of one item in the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome<R> {
    Done(R),
    Panicked(PanicReport),
    NotEncoded(String),
}

/// What became of a chunk in the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer<R> {
    Items(Vec<Outcome<R>>),
    /// The arguments could not be decoded.
    NotDecoded(String),
}

/// A chunk on its way out: the message after its head, and the handles in it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<Handle>,
}

/// Makes a chunk of each item of a chunk.
pub(crate) type Splitter = fn(&Encoded) -> Result<Vec<Encoded>, String>;

/// See [`Splitter`].
pub(crate) fn split<F, Args>(chunk: &Encoded) -> Result<Vec<Encoded>, String>
where
    F: Function<Args>,
    Args: Serialize + DeserializeOwned,
    F::Output: Serialize,
{
    let (_, _, at) = runner(&chunk.bytes).ok_or("the chunk has no function")?;
    let fds =
        chunk.handles.iter().map(|handle| handle.try_clone()?.into_fd()).collect::<std::io::Result<_>>();
    let items: Vec<Args> = transfer::decode(&chunk.bytes[at..], fds.map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())?;
    let function = call::conjure::<F>();
    items
        .iter()
        .map(|item| encode(function, std::slice::from_ref(item)).map_err(|error| error.to_string()))
        .collect()
}

/// Encodes `items` for `function`, which takes each as the tuple of its arguments `Args`.
pub(crate) fn encode<F, Args, T>(function: F, items: &[T]) -> Result<Encoded, EncodeError>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
    T: Serialize,
{
    // The value is not needed in the worker, only its type; but it must have existed.
    let _ = function;
    let runner: Runner = run::<F, Args>;
    let mut bytes = vec![0; HEAD];
    let handles = transfer::encode_into(&(Pointer(runner), items), &mut bytes)?;
    Ok(Encoded { bytes, handles })
}

/// Splits a message into the function that runs it and where its items begin.
pub(crate) fn runner(bytes: &[u8]) -> Option<(u32, Runner, usize)> {
    let (number, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (Pointer(runner), rest) = transfer::decode_front::<Pointer<Runner>>(rest).ok()?;
    Some((u32::from_le_bytes(*number), runner, bytes.len() - rest.len()))
}

fn run<F, Args>(work: Work) -> Parcel
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
{
    let answer = match transfer::decode::<Vec<Args>>(work.bytes.get(work.at..).unwrap_or_default(), work.fds)
    {
        Err(error) => Answer::NotDecoded(error.to_string()),
        Ok(items) => Answer::Items(
            (0_u64..)
                .zip(items)
                .map(|(item, args)| {
                    work.progress.store(u64::from(work.number) << 32 | item, Ordering::Relaxed);
                    match catch_panic(|| call::conjure::<F>().call(args)) {
                        Ok(result) => Outcome::Done(result),
                        Err(report) => Outcome::Panicked(report),
                    }
                })
                .collect(),
        ),
    };
    transfer::encode(&answer).unwrap_or_else(|_| encode_one_by_one(answer))
}

/// Finds the results that cannot be encoded, and says so in their places.
fn encode_one_by_one<R: Serialize>(answer: Answer<R>) -> Parcel {
    let Answer::Items(items) = answer else { return Parcel::default() };
    let checked = items
        .into_iter()
        .map(|item| match transfer::encode(&item) {
            Ok(_) => item,
            Err(error) => Outcome::NotEncoded(error.to_string()),
        })
        .collect();
    transfer::encode(&Answer::Items(checked)).unwrap_or_default()
}
