//! What a message costs, beside Python's `Pipe`, ipc-channel, a bare socket pair, and what the machine itself takes.
//!
//! `cargo bench -p mp-pipe --bench pipe [rounds]`. Three tables: a question and its answer while both ends are at work; the
//! same when both have had time to fall asleep; and a stream of messages of one MiB. The floors are a cache line that goes
//! to and fro between two threads, and a copy of one MiB from memory to memory. All ends but ours live in a child process.
#[path = "../../mp-examples/src/measure.rs"]
mod measure;

use std::{
    fs::File,
    hint::{black_box, spin_loop},
    io::{Read, Write},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender};
use measure::{Contender, compare, goal, ratio};
use mp_core::{
    fds,
    os::{
        fd::OwnedFd,
        net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair},
    },
    spawn,
    transfer::Fd,
};
use mp_pipe::{Connection, pipe};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

const MIB: usize = 1 << 20;
/// How many large messages a round has.
const STREAM: usize = 64;
/// Longer than anybody spins.
const PAUSE: Duration = Duration::from_micros(400);

/// A message as programs send it: numbers and something optional.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    number: u64,
    weight: f64,
    note: Option<u32>,
}

fn message() -> Message {
    Message { number: 1 << 40, weight: 0.5, note: Some(7) }
}

/// Microseconds for one of `count` questions.
fn each(count: usize, mut question: impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..count).for_each(|_| question());
    begin.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// Microseconds for a question when everybody sleeps, the mean of `count`.
fn each_asleep(count: usize, mut question: impl FnMut()) -> f64 {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        question();
        total += begin.elapsed();
    }
    total.as_secs_f64() * 1e6 / count as f64
}

fn echo_bytes(connection: Connection<()>) {
    let mut bytes = Vec::new();
    while connection.recv_bytes_to(&mut bytes).is_ok() {
        if connection.send_bytes(&bytes).is_err() {
            return;
        }
    }
}

fn echo_values(connection: Connection<Message>) {
    while let Ok(message) = connection.recv() {
        if connection.send(&message).is_err() {
            return;
        }
    }
}

/// Takes `STREAM` messages, then says so.
fn sink<T: serde::de::DeserializeOwned>(connection: Connection<T>) {
    let mut bytes = Vec::new();
    loop {
        for _ in 0..STREAM {
            // Without a type there is nothing to decode.
            let received = if size_of::<T>() == 0 {
                connection.recv_bytes_to(&mut bytes).map(drop)
            } else {
                connection.recv().map(|value| drop(black_box(value)))
            };
            if received.is_err() {
                return;
            }
        }
        if connection.send_bytes(b"").is_err() {
            return;
        }
    }
}

/// What a child that `start` starts with a name, and that answers on ipc-channel, gives us as our ends.
fn ipc_ends<Ends>(start: impl FnOnce(String)) -> Ends
where
    Ends: Serialize + for<'a> Deserialize<'a>,
{
    let (server, name) = IpcOneShotServer::<Ends>::new().expect("a server");
    start(name);
    server.accept().expect("its ends").1
}

fn ipc_values(name: String) {
    let (to_us, from_them) = ipc::channel::<Message>().expect("a channel");
    let (to_them, from_us) = ipc::channel::<Message>().expect("a channel");
    let door = IpcSender::<(IpcSender<Message>, IpcReceiver<Message>)>::connect(name).expect("the server");
    door.send((to_us, from_us)).expect("the server");
    while let Ok(message) = from_them.recv() {
        to_them.send(message).expect("somebody");
    }
}

fn ipc_bytes(name: String) {
    let (to_us, from_them) = ipc::bytes_channel().expect("a channel");
    let (to_them, from_us) = ipc::bytes_channel().expect("a channel");
    let door = IpcSender::<(IpcBytesSender, IpcBytesReceiver)>::connect(name).expect("the server");
    door.send((to_us, from_us)).expect("the server");
    loop {
        for _ in 0..STREAM {
            match from_them.recv() {
                Ok(bytes) => drop(black_box(bytes)),
                Err(_) => return,
            }
        }
        to_them.send(b"").expect("somebody");
    }
}

fn echo_packets(socket: Fd<OwnedFd>) {
    let mut bytes = Vec::new();
    while let Ok(Some(_)) = fds::recv_up_to(64, &socket.0, &mut bytes, RecvFlags::empty()) {
        if fds::send(&socket.0, &bytes, &[], SendFlags::empty()).is_err() {
            return;
        }
    }
}

fn sink_stream(socket: Fd<File>) {
    let mut socket = socket.0;
    let mut bytes = vec![0; MIB];
    loop {
        for _ in 0..STREAM {
            if socket.read_exact(&mut bytes).is_err() {
                return;
            }
        }
        if socket.write_all(b".").is_err() {
            return;
        }
    }
}

/// What Python measures of its own `Pipe`: the same three figures.
fn python(what: &str) -> Option<f64> {
    let program = format!(
        "import multiprocessing as m, time\n\
         def far(c, stream):\n\
         \x20   try:\n\
         \x20       while True:\n\
         \x20           if stream:\n\
         \x20               for _ in range({STREAM}): c.recv_bytes()\n\
         \x20               c.send_bytes(b'')\n\
         \x20           else: c.send(c.recv())\n\
         \x20   except EOFError: pass\n\
         c, d = m.Pipe(); what = '{what}'\n\
         p = m.get_context('fork').Process(target=far, args=(d, what == 'stream'), daemon=True); p.start()\n\
         clock = time.perf_counter; total = 0; n = 500\n\
         if what == 'stream':\n\
         \x20   b = bytes({MIB}); begin = clock()\n\
         \x20   for _ in range({STREAM}): c.send_bytes(b)\n\
         \x20   c.recv_bytes(); print({STREAM} * {MIB} / (clock() - begin) / 1e9)\n\
         else:\n\
         \x20   for _ in range(n):\n\
         \x20       if what == 'asleep': time.sleep({pause})\n\
         \x20       begin = clock(); c.send((1 << 40, 0.5, 7)); c.recv(); total += clock() - begin\n\
         \x20   print(total / n * 1e6)\n\
         p.terminate()\n",
        pause = PAUSE.as_secs_f64(),
    );
    let output = Command::new("python3").args(["-c", &program]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// Python's figures in a row of their own; nothing where there is no Python.
fn python_row(title: &str, unit: &str, what: &str) {
    let row: Vec<f64> = (0..5).map_while(|_| python(what)).collect();
    if row.is_empty() {
        println!("{:44} {:>11}", "Python, Pipe", "absent");
    } else {
        measure::print(title, unit, "Python, Pipe", row);
    }
}

/// A cache line to another thread and back.
struct PingPong<'a>(&'a AtomicU32);

impl PingPong<'_> {
    fn question(&self) {
        let next = self.0.load(Ordering::Relaxed) + 2;
        self.0.store(next - 1, Ordering::Release);
        while self.0.load(Ordering::Acquire) != next {
            spin_loop();
        }
    }

    fn answer(&self, stop: u32) {
        loop {
            match self.0.load(Ordering::Acquire) {
                word if word == stop => return,
                word if word % 2 == 1 => self.0.store(word + 1, Ordering::Release),
                _ => spin_loop(),
            }
        }
    }

    fn measure(count: u32) -> f64 {
        let line = AtomicU32::new(0);
        let line = PingPong(&line);
        std::thread::scope(|scope| {
            scope.spawn(|| line.answer(2 * count));
            each(count as usize, || line.question())
        })
    }
}

fn round_trips(rounds: usize) {
    let (bytes, theirs) = pipe::<(), ()>().expect("a pipe");
    spawn(echo_bytes, (theirs,)).expect("a child");
    let (values, theirs) = pipe::<Message, Message>().expect("a pipe");
    spawn(echo_values, (theirs,)).expect("a child");
    let (to_ipc, from_ipc) = ipc_ends::<(IpcSender<Message>, IpcReceiver<Message>)>(|name| {
        drop(spawn(ipc_values, (name,)).expect("a child"))
    });
    let (socket, theirs) = fds::pair().expect("a socket pair");
    spawn(echo_packets, (Fd(theirs),)).expect("a child");

    let mut buffer = Vec::new();
    let mut ask_bytes = || {
        bytes.send_bytes(&[1; 24]).expect("a send");
        assert_eq!(bytes.recv_bytes_to(&mut buffer).expect("an answer"), 24);
    };
    let ask_value = || {
        values.send(&message()).expect("a send");
        assert_eq!(values.recv().expect("an answer").note, Some(7));
    };
    let ask_ipc = || {
        to_ipc.send(message()).expect("a send");
        assert_eq!(from_ipc.recv().expect("an answer").note, Some(7));
    };
    let mut packet = Vec::new();
    let mut ask_socket = || {
        fds::send(&socket, &[1; 24], &[], SendFlags::empty()).expect("a send");
        fds::recv_up_to(64, &socket, &mut packet, RecvFlags::empty()).expect("an answer");
    };

    let title = "A question and its answer, both ends at work";
    let figures = compare(
        title,
        "us",
        rounds,
        &mut [
            ("floor: a cache line to and fro", Box::new(|| PingPong::measure(2000))),
            ("mp-pipe, bytes", Box::new(|| each(2000, &mut ask_bytes))),
            ("mp-pipe, values", Box::new(|| each(2000, ask_value))),
            ("ipc-channel, values", Box::new(|| each(200, ask_ipc))),
            ("bare SEQPACKET socket pair, bytes", Box::new(|| each(200, &mut ask_socket))),
        ],
    );
    python_row(title, "us", "hot");
    if let [line, bytes, values, ipc, _] = &figures[..] {
        goal(bytes, "<= 0.5 us");
        goal(values, "<= 0.7 us");
        ratio("mp-pipe, bytes / a cache line to and fro", bytes, line, "");
        ratio("ipc-channel / mp-pipe, values", ipc, values, "");
    }

    let title = "A question and its answer, both ends asleep before";
    let figures = compare(
        title,
        "us",
        rounds,
        &mut [
            ("mp-pipe, bytes", Box::new(|| each_asleep(50, &mut ask_bytes))),
            ("mp-pipe, values", Box::new(|| each_asleep(50, ask_value))),
            ("ipc-channel, values", Box::new(|| each_asleep(50, ask_ipc))),
            ("bare SEQPACKET socket pair, bytes", Box::new(|| each_asleep(50, &mut ask_socket))),
        ],
    );
    python_row(title, "us", "asleep");
    if let [_, values, ipc, socket] = &figures[..] {
        ratio("mp-pipe, values / ipc-channel, asleep", values, ipc, "<= 1");
        ratio("mp-pipe, values / bare socket pair, asleep", values, socket, "");
    }
}

/// Gigabytes per second of a stream of `STREAM` messages of one MiB.
fn stream(mut send: impl FnMut(), mut received: impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..STREAM).for_each(|_| send());
    received();
    (STREAM * MIB) as f64 / begin.elapsed().as_secs_f64() / 1e9
}

fn streams(rounds: usize) {
    let (bytes, theirs) = pipe::<(), ()>().expect("a pipe");
    spawn(sink::<()>, (theirs,)).expect("a child");
    let (values, theirs) = pipe::<ByteBuf, ByteBuf>().expect("a pipe");
    spawn(sink::<ByteBuf>, (theirs,)).expect("a child");
    let (to_ipc, from_ipc) = ipc_ends::<(IpcBytesSender, IpcBytesReceiver)>(|name| {
        drop(spawn(ipc_bytes, (name,)).expect("a child"))
    });
    let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket pair");
    spawn(sink_stream, (Fd(File::from(theirs)),)).expect("a child");
    let mut socket = File::from(socket);

    let block = vec![7_u8; MIB];
    let value = ByteBuf::from(block.clone());
    let mut copy = vec![0_u8; MIB];
    let mut reading = socket.try_clone().expect("a socket");
    let title = "Messages of 1 MiB";
    let contenders: &mut [Contender<'_>] = &mut [
        (
            "floor: memcpy of 1 MiB",
            Box::new(|| stream(|| black_box(&mut copy).copy_from_slice(black_box(&block)), || ())),
        ),
        (
            "mp-pipe, bytes into one buffer",
            Box::new(|| {
                stream(
                    || bytes.send_bytes(&block).expect("a send"),
                    || drop(bytes.recv_bytes().expect("its end")),
                )
            }),
        ),
        (
            "mp-pipe, values of serde_bytes",
            Box::new(|| {
                stream(
                    || values.send(&value).expect("a send"),
                    || drop(values.recv_bytes().expect("its end")),
                )
            }),
        ),
        (
            "ipc-channel, bytes",
            Box::new(|| {
                stream(|| to_ipc.send(&block).expect("a send"), || drop(from_ipc.recv().expect("its end")))
            }),
        ),
        (
            "bare stream socket pair",
            Box::new(|| {
                stream(
                    || socket.write_all(&block).expect("a send"),
                    || reading.read_exact(&mut [0]).expect("its end"),
                )
            }),
        ),
    ];
    let figures = compare(title, "GB/s", rounds, contenders);
    python_row(title, "GB/s", "stream");
    if let [copy, bytes, values, ipc, _] = &figures[..] {
        ratio("mp-pipe, bytes into one buffer / memcpy", bytes, copy, ">= 0.6");
        ratio("mp-pipe, values of serde_bytes / memcpy", values, copy, ">= 0.6");
        ratio("mp-pipe, bytes / ipc-channel, bytes", bytes, ipc, "");
    }
}

fn main() {
    mp_core::init();
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(50);
    round_trips(rounds);
    streams(rounds);
}
