//! What a pool tells about itself: insights, log records of its workers, events, a progress bar.

use std::{
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use log::{Level, LevelFilter, Log, Metadata, Record};
use mp_core::{Process, spawn};
use mp_lock::{Array, Event};
use mp_pool::{Pool, SlowTask, test_init};

use crate::helpers::{ends, pids, square};

#[test]
fn insights_add_up() {
    test_init!();
    let begin = Instant::now();
    let pool = Pool::with_workers(2).unwrap();
    let sleep = |milliseconds: u64| std::thread::sleep(Duration::from_millis(milliseconds));
    pool.map(sleep, (0..20).map(|i| if i == 13 { 300 } else { 2 })).unwrap();
    let text = "x".repeat(100_000);
    pool.apply(|text: String| text, (text,)).unwrap();

    let insights = pool.insights();
    let age = begin.elapsed();
    let total = insights.total();
    assert_eq!(total.tasks, 21);
    assert_eq!(insights.workers.len(), 2);
    assert!(total.sent > 100_000 && total.sent < 110_000, "{total:?}");
    assert!(total.received > 100_000 && total.received < 110_000, "{total:?}");
    assert!(total.busy >= Duration::from_millis(19 * 2 + 300), "{total:?}");
    for worker in &insights.workers {
        let work = worker.work;
        assert!(
            work.starting > Duration::ZERO && work.starting + work.busy + work.waiting <= age,
            "{insights}"
        );
    }
    assert!(insights.age <= age);
    assert_eq!(insights.slowest.len(), 5);
    // On a busy machine others may seem to be as slow.
    let slow = |task: &SlowTask| task.index == 13 && task.time >= Duration::from_millis(300);
    assert!(insights.slowest.iter().any(slow), "{insights}");
    assert!(insights.slowest.is_sorted_by(|a, b| a.time >= b.time));
    let text = insights.to_string();
    assert!(text.contains("item 13 in worker-") && text.contains("total"), "{text}");
}

#[test]
fn insights_remember_those_that_are_gone() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    pool.map(square, 0..10).unwrap();
    for _ in 0..3 {
        assert!(pool.apply(|| -> u8 { std::process::abort() }, ()).is_err());
    }
    pids(&pool);
    let insights = pool.insights();
    assert_eq!(insights.workers.len(), 2);
    assert_eq!(insights.total().restarts, 3);
    // Two for the meeting; what was lost with its worker did not end there.
    assert_eq!(insights.total().tasks, 12);
    assert!(insights.workers.iter().all(|worker| !worker.ended), "{insights}");
    let mut told: Vec<u32> = insights.workers.iter().map(|worker| worker.pid).collect();
    told.sort_unstable();
    assert_eq!(told, pids(&pool));
}

#[test]
fn workers_that_mostly_wait_are_mentioned() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    assert_eq!(pool.insights().warning(), None, "nothing was asked of it yet");
    // The worker waits while the input takes its time.
    let slow = (0..10).inspect(|_| std::thread::sleep(Duration::from_millis(20)));
    assert_eq!(pool.imap(square, slow).unwrap().count(), 10);
    let insights = pool.insights();
    assert!(insights.warning().unwrap().contains("waited"), "{insights}");
    assert!(insights.to_string().contains("warning: "));
}

#[test]
fn an_array_is_a_few_bytes_on_the_way() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let array = Array::<u64>::zeroed(1 << 20).unwrap();
    pool.apply(|array: Array<u64>| array.lock().unwrap()[0] = 1, (array.clone(),)).unwrap();
    assert_eq!(array.lock().unwrap()[0], 1);
    assert!(pool.insights().total().sent < 500, "{}", pool.insights());
}

/// A logger that keeps everything.
struct Keep(Mutex<Vec<(Level, String, String)>>);

static KEEP: Keep = Keep(Mutex::new(Vec::new()));

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.target().to_owned(), record.args().to_string());
        KEEP.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// What came out of the logger of this process, which has a pool whose workers log.
fn log_in_workers() -> Vec<(Level, String, String)> {
    log::set_logger(&KEEP).unwrap();
    log::set_max_level(LevelFilter::Info);
    let pool = Pool::builder().workers(2).name("scribe").forward_logs(true).build().unwrap();
    let work = |x: u32| {
        log::debug!(target: "chatter", "not wanted");
        log::info!(target: "count", "item {x}");
    };
    pool.map(work, 0..50).unwrap();
    let last_words = || -> u32 {
        log::error!(target: "end", "last words of {}", std::process::id());
        std::process::abort()
    };
    assert!(pool.apply(last_words, ()).is_err());
    pool.close();
    pool.join().unwrap();
    std::mem::take(&mut *KEEP.0.lock().unwrap())
}

#[test]
fn what_workers_log_comes_out_here_with_their_names() {
    test_init!();
    let lines = spawn(log_in_workers, ()).unwrap().join().unwrap();
    let mut items: Vec<&str> = lines
        .iter()
        .filter(|(level, target, _)| (*level, target.as_str()) == (Level::Info, "count"))
        .map(|(_, _, text)| text.split("] ").nth(1).unwrap())
        .collect();
    items.sort_unstable();
    let mut expected: Vec<String> = (0..50).map(|i| format!("item {i}")).collect();
    expected.sort_unstable();
    assert_eq!(items, expected);
    let (level, _, text) = lines.iter().find(|(_, target, _)| target == "end").unwrap();
    assert_eq!(*level, Level::Error);
    let (head, words) = text.split_once("] ").unwrap();
    let (name, pid) = head.split_once(' ').unwrap();
    assert!(name.starts_with("[scribe-") && words == format!("last words of {pid}"), "{text}");
    assert_eq!(lines.len(), 51, "{lines:?}");
}

/// A logger that hangs at the first record until it may go on, and tells of all.
struct Hangs {
    begin: mpsc::Sender<()>,
    go: Mutex<mpsc::Receiver<()>>,
    tell: mpsc::Sender<String>,
}

impl Log for Hangs {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.begin.send(()).unwrap();
        // Nobody sends: it is to hang until the other end is gone.
        let _ = self.go.lock().unwrap().recv();
        self.tell.send(record.args().to_string()).unwrap();
    }

    fn flush(&self) {}
}

/// A worker logs so much, the logger of this process hangs, and the pool is terminated.
fn hang_in_the_logger(records: u32) {
    let ((begin, begun), (gate, go), (tell, told)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    log::set_boxed_logger(Box::new(Hangs { begin, go: Mutex::new(go), tell })).unwrap();
    log::set_max_level(LevelFilter::Info);
    let pool = Pool::builder().workers(1).forward_logs(true).build().unwrap();
    let handle = pool.apply_async(|records: u32| (0..records).for_each(|i| log::info!("{i}")), (records,));
    begun.recv().unwrap();
    pool.terminate();
    drop((handle, pool, gate));
    // The thread goes on by itself, with what had been said.
    for i in 0..records.min(2) {
        assert!(told.recv().unwrap().ends_with(&format!("] {i}")));
    }
}

#[test]
fn a_logger_that_hangs_does_not_keep_the_pool() {
    test_init!();
    // All that is said is on its way, or more than finds room there.
    for records in [1, 1_000_000] {
        // If it hangs, the process of the tests is not to wait for it.
        let process = Process::new().daemon(true);
        ends(move || process.spawn(hang_in_the_logger, (records,)).unwrap().join().unwrap());
    }
}

/// A subscriber that writes events down: the message, then the other fields.
struct Writer(mpsc::Sender<String>);

impl tracing::Subscriber for Writer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "mp_pool"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        #[derive(Default)]
        struct Fields(String, String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                } else {
                    self.1 += &format!(" {}={value:?}", field.name());
                }
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let _ = self.0.send(fields.0 + &fields.1);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn die_once(done: Event) -> u32 {
    if done.is_set() {
        return std::process::id();
    }
    done.set().unwrap();
    std::process::abort()
}

fn be_traced() -> Vec<String> {
    let (tell, heard) = mpsc::channel();
    tracing::subscriber::set_global_default(Writer(tell)).unwrap();
    let pool = Pool::with_workers(1).unwrap();
    pool.map(square, 0..10).unwrap();
    pool.call().retries(1).apply(die_once, (Event::new().unwrap(),)).unwrap();
    assert!(pool.apply(|| -> u8 { std::process::abort() }, ()).is_err());
    pool.close();
    pool.join().unwrap();
    heard.try_iter().collect()
}

#[test]
fn events_tell_of_workers_tasks_and_retries() {
    test_init!();
    let events = spawn(be_traced, ()).unwrap().join().unwrap();
    let of = |what: &str| events.iter().filter(|event| event.starts_with(what)).count();
    assert!(of("worker started worker=worker-") >= 2 && of("worker ready") >= 2, "{events:#?}");
    assert_eq!(of("worker died"), 2, "{events:#?}");
    assert_eq!(of("task is tried again index=0 attempts=1 worker=worker-1"), 1, "{events:#?}");
    assert_eq!(of("task lost index=0 attempts=1 worker=worker-2"), 1, "{events:#?}");
    assert!(of("tasks given") >= 3 && of("tasks ended") >= 2, "{events:#?}");
    assert!(events.iter().any(|event| event.starts_with("worker died") && event.contains("SIGABRT")));
}

#[test]
fn a_progress_bar_is_for_terminals_only() {
    use std::{io::Read, os::fd::OwnedFd, process::Stdio};
    const NAME: &str = "insights::a_progress_bar_is_for_terminals_only";
    // To a pipe: nothing.
    let output = crate::common::program(NAME, |_| {});
    let Some(output) = output else {
        test_init!();
        let pool = Pool::with_workers(2).unwrap();
        pool.call().progress_bar("squares").map(square, 0..1234).unwrap();
        let count = pool.call().progress_bar("stream").imap(square, 0..50).unwrap().count();
        assert_eq!(count, 50);
        return;
    };
    assert!(output.status.success());
    assert_eq!(crate::common::text(&output.stderr), "");

    // To a terminal: the bar.
    let terminal =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&terminal).unwrap();
    rustix::pty::unlockpt(&terminal).unwrap();
    let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        // Ends with an error when the other side is closed.
        let _ = std::fs::File::from(terminal).read_to_end(&mut said);
        crate::common::text(&said)
    });
    let output = crate::common::program(NAME, |command| {
        command.env("TERM", "xterm").stderr(Stdio::from(OwnedFd::from(side)));
    });
    assert!(output.unwrap().status.success());
    let said = reader.join().unwrap();
    assert!(said.contains("squares") && said.contains("1,234/1,234") && said.contains("/s"), "{said}");
    assert!(said.contains("stream"), "{said}");
}
