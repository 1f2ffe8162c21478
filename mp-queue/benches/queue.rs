//! How many messages a second go through a queue, beside ipc-channel and Python.
//!
//! `cargo bench -p mp-queue --bench queue [rounds]`. Producers and consumers are processes; each round puts a number of messages
//! and waits until the consumers have said that they have got them all. ipc-channel has one consumer only. At the end: how
//! many context switches a message costs when sixteen readers wait for it.

use std::{
    hint::black_box,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use ipc_channel::ipc::{self, IpcOneShotServer, IpcSender};
use mp_core::{Child, shared::Slot, spawn};
use mp_queue::{GetError, Queue};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[path = "../../mp-examples/src/measure.rs"]
mod measure;
use measure::{Contender, compare, goal, print, ratio};

const SMALL: u64 = 200_000;
const LARGE: u64 = 200;
const MIB: usize = 1 << 20;

/// 64 bytes in memory, and about as many on their way.
#[derive(Clone, Serialize, Deserialize)]
struct Sample {
    id: u64,
    time: f64,
    values: [f64; 6],
}

fn sample(id: u64) -> Sample {
    Sample { id, time: id as f64, values: [0.5; 6] }
}

/// Gets `count` messages and replies, again and again.
fn consume<T: DeserializeOwned>(queue: Queue<T>, reply: Queue<()>, count: u64) {
    loop {
        for _ in 0..count {
            match queue.get() {
                Ok(message) => drop(black_box(message)),
                Err(GetError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
        reply.put(&()).expect("a reply");
    }
}

/// As [`consume`], as one of two: whoever sees that both have got all of a round replies.
fn consume_shared(queue: Queue<u64>, reply: Queue<()>, got: Slot<[AtomicU64; 1]>) {
    loop {
        let mut own = 0;
        let ended = loop {
            match queue.try_get() {
                Ok(message) => own += u64::from(black_box(message) < u64::MAX),
                Err(GetError::Empty) => break false,
                Err(_) => break true,
            }
            if own == 500 {
                break false;
            }
        };
        // Not for each message: that would measure this counter.
        let before = got[0].fetch_add(own, Ordering::Relaxed);
        if (before + own) / SMALL > before / SMALL {
            reply.put(&()).expect("a reply");
        }
        if ended {
            return;
        }
        if own < 500 {
            match queue.get() {
                Ok(message) => {
                    black_box(message);
                    let before = got[0].fetch_add(1, Ordering::Relaxed);
                    if (before + 1) / SMALL > before / SMALL {
                        reply.put(&()).expect("a reply");
                    }
                }
                Err(_) => return,
            }
        }
    }
}

fn consume_many(queue: Queue<u64>, reply: Queue<()>, count: u64) {
    loop {
        let mut got = 0;
        while got < count {
            match queue.get_many((count - got).min(1000) as usize) {
                Ok(messages) => {
                    got += messages
                        .map(Result::unwrap)
                        .inspect(|message| {
                            black_box(message);
                        })
                        .count() as u64
                }
                Err(GetError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
        reply.put(&()).expect("a reply");
    }
}

fn consume_bytes(queue: Queue<()>, reply: Queue<()>, count: u64) {
    let mut buffer = Vec::new();
    loop {
        for _ in 0..count {
            match queue.get_bytes(&mut buffer) {
                Ok(()) => drop(black_box(&buffer)),
                Err(GetError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
        reply.put(&()).expect("a reply");
    }
}

/// Puts so many whenever it is told to.
fn produce(queue: Queue<u64>, orders: Queue<u64>) {
    for order in &orders {
        (0..order.expect("an order")).for_each(|i| queue.put(&i).expect("room"));
    }
}

/// The other side of ipc-channel: makes a channel and sends its sender to the parent.
fn consume_ipc<T: DeserializeOwned + Serialize>(name: String, reply: Queue<()>, count: u64) {
    let (sender, receiver) = ipc::channel::<T>().expect("a channel");
    IpcSender::connect(name).expect("the parent").send(sender).expect("the parent");
    loop {
        for _ in 0..count {
            match receiver.recv() {
                Ok(message) => drop(black_box(message)),
                Err(_) => return,
            }
        }
        reply.put(&()).expect("a reply");
    }
}

fn ipc_sender<T: DeserializeOwned + Serialize + 'static>(
    reply: &Queue<()>,
    count: u64,
) -> (IpcSender<T>, Child<()>) {
    let (server, name) = IpcOneShotServer::<IpcSender<T>>::new().expect("a server");
    let child = spawn(consume_ipc::<T>, (name, reply.clone(), count)).expect("a process");
    (server.accept().expect("the child").1, child)
}

/// Millions of messages a second.
fn rate(count: u64, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    count as f64 / begin.elapsed().as_secs_f64() / 1e6
}

/// Gigabytes a second.
fn bandwidth(work: impl FnOnce()) -> f64 {
    rate(LARGE, work) * MIB as f64 / 1e3
}

fn queue<T>() -> Queue<T> {
    Queue::new().expect("a queue")
}

fn small(rounds: usize) {
    let reply = queue::<()>();
    let (one, two, many, structs) = (queue::<u64>(), queue::<u64>(), queue::<u64>(), queue::<Sample>());
    let orders = queue::<u64>();
    let got = Slot::<[AtomicU64; 1]>::new().expect("memory");
    let mut children = vec![
        spawn(consume::<u64>, (one.clone(), reply.clone(), SMALL)),
        spawn(consume_shared, (two.clone(), reply.clone(), got.clone())),
        spawn(consume_shared, (two.clone(), reply.clone(), got.clone())),
        spawn(produce, (two.clone(), orders.clone())),
        spawn(consume_many, (many.clone(), reply.clone(), SMALL)),
        spawn(consume::<Sample>, (structs.clone(), reply.clone(), SMALL)),
    ]
    .into_iter()
    .collect::<Result<Vec<_>, _>>()
    .expect("processes");
    let numbers: Vec<u64> = (0..SMALL).collect();
    let (ipc_small, child) = ipc_sender::<u64>(&reply, SMALL / 4);
    children.push(child);
    let (ipc_structs, child) = ipc_sender::<Sample>(&reply, SMALL / 4);
    children.push(child);
    let replied = || reply.get().expect("a reply");

    let mut contenders: Vec<Contender<'_>> = vec![
        (
            "mp-queue, u64",
            Box::new(|| {
                rate(SMALL, || {
                    (0..SMALL).for_each(|i| one.put(&i).expect("room"));
                    replied();
                })
            }),
        ),
        (
            "mp-queue, u64, two producers, two consumers",
            Box::new(|| {
                rate(SMALL, || {
                    orders.put(&(SMALL / 2)).expect("room");
                    (0..SMALL / 2).for_each(|i| two.put(&i).expect("room"));
                    replied();
                })
            }),
        ),
        (
            "mp-queue, u64, put_many and get_many",
            Box::new(|| {
                rate(SMALL, || {
                    many.put_many(&numbers).expect("room");
                    replied();
                })
            }),
        ),
        (
            "mp-queue, structs of 64 bytes",
            Box::new(|| {
                rate(SMALL, || {
                    (0..SMALL).for_each(|i| structs.put(&sample(i)).expect("room"));
                    replied();
                })
            }),
        ),
        (
            "ipc-channel, u64",
            Box::new(|| {
                rate(SMALL / 4, || {
                    (0..SMALL / 4).for_each(|i| ipc_small.send(i).expect("the child"));
                    replied();
                })
            }),
        ),
        (
            "ipc-channel, structs of 64 bytes",
            Box::new(|| {
                rate(SMALL / 4, || {
                    (0..SMALL / 4).for_each(|i| ipc_structs.send(sample(i)).expect("the child"));
                    replied();
                })
            }),
        ),
    ];
    let figures = compare("Small messages", "M/s", rounds, &mut contenders);
    python("Small messages", "M/s", "Python, int", "1", 20_000, "n / t / 1e6");
    goal(&figures[0], ">= 10 M/s");
    ratio("two by two / one by one", &figures[1], &figures[0], ">= 0.7");
    goal(&figures[3], ">= 5 M/s");
    ratio("mp-queue / ipc-channel, u64", &figures[0], &figures[4], "");
    drop(contenders);
    drop((ipc_small, ipc_structs));
    for ended in [one, two, many] {
        ended.close().expect("an end");
    }
    structs.close().expect("an end");
    orders.close().expect("an end");
    children.into_iter().for_each(|child| child.join().expect("an end"));
}

fn large(rounds: usize) {
    let reply = queue::<()>();
    // Without a limit a producer that is faster for a while measures the growth of the queue, page by page.
    let bytes = Queue::<()>::bounded(4).expect("a queue");
    let child = spawn(consume_bytes, (bytes.clone(), reply.clone(), LARGE)).expect("a process");
    let (ipc_bytes, ipc_child) = ipc_sender::<Vec<u8>>(&reply, LARGE / 4);
    let message = vec![1_u8; MIB];
    let mut copy = vec![0_u8; MIB];
    let replied = || reply.get().expect("a reply");
    let mut contenders: Vec<Contender<'_>> = vec![
        (
            "mp-queue, bytes, at most four in the queue",
            Box::new(|| {
                bandwidth(|| {
                    (0..LARGE).for_each(|_| bytes.put_bytes(&message).expect("room"));
                    replied();
                })
            }),
        ),
        (
            "memcpy in one process",
            Box::new(|| {
                bandwidth(|| {
                    for _ in 0..LARGE {
                        copy.copy_from_slice(black_box(&message));
                        black_box(&mut copy);
                    }
                })
            }),
        ),
        (
            "ipc-channel, bytes",
            Box::new(|| {
                bandwidth(|| {
                    (0..LARGE / 4).for_each(|_| ipc_bytes.send(message.clone()).expect("the child"));
                    replied();
                }) / 4.0
            }),
        ),
    ];
    let figures = compare("Messages of 1 MiB", "GB/s", rounds, &mut contenders);
    python("Messages of 1 MiB", "GB/s", "Python, bytes", "b'x' * (1 << 20)", 100, "n * (1 << 20) / t / 1e9");
    ratio("1 MiB / memcpy", &figures[0], &figures[1], ">= 0.6");
    ratio("mp-queue / ipc-channel, 1 MiB", &figures[0], &figures[2], "");
    drop(contenders);
    drop(ipc_bytes);
    bytes.close().expect("an end");
    child.join().expect("an end");
    ipc_child.join().expect("an end");
}

/// Python's own queue, measured by itself.
fn python(title: &str, unit: &str, name: &str, message: &str, count: u32, figure: &str) {
    let program = format!(
        "import multiprocessing as m, time\n\
         def work(q, r, n):\n\
         \x20   while True:\n\
         \x20       for i in range(n):\n\
         \x20           if q.get() is None: return\n\
         \x20       r.put(1)\n\
         if __name__ == '__main__':\n\
         \x20   m.set_start_method('fork'); q, r, n = m.Queue(), m.Queue(), {count}; message = {message}\n\
         \x20   p = m.Process(target=work, args=(q, r, n)); p.start()\n\
         \x20   for _ in range(7):\n\
         \x20       b = time.perf_counter()\n\
         \x20       for i in range(n): q.put(message)\n\
         \x20       r.get(); t = time.perf_counter() - b\n\
         \x20       print({figure})\n\
         \x20   q.put(None); p.join()\n"
    );
    match Command::new("python3").args(["-c", &program]).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            print(title, unit, name, text.lines().filter_map(|line| line.parse().ok()).collect());
        }
        _ => println!("{name:44} {:>11}", "absent"),
    }
}

/// Of all threads of a process.
fn switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    statuses.map(count).sum()
}

/// Context switches of sixteen readers for each message, one message at a time.
fn crowd() {
    const MESSAGES: u64 = 2000;
    let queue = queue::<u64>();
    let read = |queue: Queue<u64>| queue.iter().map_while(Result::ok).count();
    let readers: Vec<_> = (0..16).map(|_| spawn(read, (queue.clone(),)).expect("a process")).collect();
    std::thread::sleep(Duration::from_millis(300));
    let count = || readers.iter().map(|reader| switches(reader.pid())).sum::<u64>();
    let before = count();
    for i in 0..MESSAGES {
        queue.put(&i).expect("room");
        while !queue.is_empty() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let each = (count() - before) as f64 / MESSAGES as f64;
    println!("\nSixteen readers wait for single messages");
    print("Sixteen readers", "context switches per message", "mp-queue, 16 blocked readers", vec![each]);
    queue.close().expect("an end");
    let got: usize = readers.into_iter().map(|reader| reader.join().expect("an end")).sum();
    assert_eq!(got as u64, MESSAGES);
}

fn main() {
    mp_core::init();
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40);
    small(rounds);
    large(rounds);
    crowd();
}
