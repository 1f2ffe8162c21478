//! Log records of workers, on their way to the logger of the pool's own process.
//!
//! A worker has no logger of its own, so what its tasks log would be lost. Forwarded, each record travels over one channel
//! to a thread of the pool's process, which hands it to that process's logger under the target that it had, with the
//! worker's name and process id in front. A record is sent before the call that logs it returns, so that the last words
//! of a worker that dies are read, too.

use std::{cell::Cell, time::Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use mp_core::run_foreign;
use mp_pipe::{ChannelError, ChannelReceiver, ChannelSender, RecvError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::own_thread::OwnThread;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Record(Line),
    /// The pool is over; every worker has ended, so nothing can come after this.
    End,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    worker: String,
    pid: u32,
    level: Level,
    target: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    text: String,
}

/// What a worker gets: where to send, and up to which level.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forward {
    sender: ChannelSender<Message>,
    level: LevelFilter,
}

impl Forward {
    /// Becomes the logger of this process, unless it has one already.
    pub(crate) fn install(self) {
        let level = self.level;
        if log::set_boxed_logger(Box::new(Forwarder { sender: self.sender })).is_ok() {
            log::set_max_level(level);
        }
    }
}

struct Forwarder {
    sender: ChannelSender<Message>,
}

thread_local! {
    /// What a record itself logs on its way (its `Display`, the channel) would never end.
    static FORWARDING: Cell<bool> = const { Cell::new(false) };
}

/// Also when a `Display` panics.
struct Done;

impl Drop for Done {
    fn drop(&mut self) {
        FORWARDING.set(false);
    }
}

impl Log for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || FORWARDING.replace(true) {
            return;
        }
        let _done = Done;
        let this = mp_core::current_process();
        let line = Line {
            worker: this.name,
            pid: this.pid,
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path().map(str::to_owned),
            file: record.file().map(str::to_owned),
            line: record.line(),
            text: record.args().to_string(),
        };
        // It fails when the pool's process is gone, and then so is this one.
        let _ = self.sender.send(&Message::Record(line));
    }

    fn flush(&self) {}
}

/// The pool's side: the thread that hands records to this process's logger.
#[derive(Debug)]
pub(crate) struct Collector {
    sender: ChannelSender<Message>,
    thread: Mutex<Option<OwnThread>>,
}

impl Collector {
    pub(crate) fn start() -> Result<Self, ChannelError> {
        let (sender, receiver) = mp_pipe::channel()?;
        let thread = OwnThread::start("logs", move || hand_on(&receiver)).map_err(ChannelError::Exchange)?;
        Ok(Self { sender, thread: Mutex::new(Some(thread)) })
    }

    /// Once all workers are gone: returns when everything that they logged has been handed on, or at the deadline. The thread goes
    /// on then, for as long as there are records.
    pub(crate) fn finish(&self, deadline: Option<Instant>) {
        let Some(thread) = self.thread.lock().take() else { return };
        // A logger may end the pool, and cannot wait for itself.
        let deadline = if thread.is_current() { Some(Instant::now()) } else { deadline };
        let sent = match deadline {
            None => self.sender.send(&Message::End),
            Some(at) => self.sender.send_timeout(&Message::End, at.saturating_duration_since(Instant::now())),
        };
        // Where there is no room for it, the thread ends with the last sender.
        if sent.is_ok() && !thread.is_current() {
            thread.join(deadline);
        }
    }

    /// For a worker that is about to be started.
    pub(crate) fn forward(&self) -> Forward {
        Forward { sender: self.sender.clone(), level: log::max_level() }
    }
}

fn hand_on(receiver: &ChannelReceiver<Message>) {
    loop {
        match receiver.recv() {
            Ok(Message::Record(line)) => drop(run_foreign(|| line.hand_on())),
            // One record is lost; the next one can be received.
            Err(RecvError::Decode(_) | RecvError::Handles(_)) => {}
            Ok(Message::End) | Err(_) => return,
        }
    }
}

impl Line {
    fn hand_on(&self) {
        let Self { worker, pid, text, .. } = self;
        let record = |args: std::fmt::Arguments<'_>| {
            log::logger().log(
                &Record::builder()
                    .level(self.level)
                    .target(&self.target)
                    .module_path(self.module.as_deref())
                    .file(self.file.as_deref())
                    .line(self.line)
                    .args(args)
                    .build(),
            );
        };
        record(format_args!("[{worker} {pid}] {text}"));
    }
}
