//! What it costs to start a function in another process and to join it.
//!
//! `cargo bench -p mp-core --bench start [rounds]`. All contenders take turns within one run, Python's included; the floors
//! are a bare execution of the same binary (which ends at once in `main`) and a bare fork of this process (whose child
//! ends at once). Then once more with 1 GiB of memory in use, which a start by `posix_spawn` or by a server must not
//! notice.

#[path = "../../mp-examples/src/measure.rs"]
mod measure;

use std::{
    cell::RefCell,
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use measure::{Contender, Figures, compare, ratio};
use mp_core::{Process, StartMethod, kill_points::fork_and_wait};

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn mp(method: StartMethod) {
    let child = Process::new().start_method(method).spawn(add, (1, 2)).expect("a start");
    assert_eq!(child.start_method(), method);
    assert_eq!(child.join().expect("a result"), 3);
}

fn bare() {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--bare").stdin(Stdio::null());
    assert!(command.status().expect("a process").success());
}

fn procspawn() {
    assert_eq!(procspawn::spawn((1, 2), |(a, b)| add(a, b)).join().expect("a result"), 3);
}

/// How long `work` takes, in microseconds.
fn timed(work: impl Fn()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e6
}

/// A Python that starts and joins a process for each line that it gets, and answers with the time that this took.
struct Python {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// `None` where there is no Python.
    fn new(method: &str) -> Option<Self> {
        let program = format!(
            "import multiprocessing as m, time, sys\n\
             if __name__ == '__main__':\n\
             \x20   c = m.get_context('{method}')\n\
             \x20   print(flush=True)\n\
             \x20   for line in sys.stdin:\n\
             \x20       b = time.perf_counter(); p = c.Process(target=divmod, args=(1, 2)); p.start(); p.join()\n\
             \x20       print((time.perf_counter() - b) * 1e6, flush=True)\n"
        );
        let mut command = Command::new("python3");
        command.args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().ok()?;
        let (requests, answers) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        let mut python = Self { process, requests, answers };
        python.line().is_some().then_some(python)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.answers.read_line(&mut line).ok()? > 0).then_some(line)
    }

    fn round(&mut self) -> f64 {
        writeln!(self.requests, "go").expect("a Python");
        self.line().and_then(|line| line.trim().parse().ok()).expect("a figure of Python")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() {
    if std::env::args().nth(1).is_some_and(|arg| arg == "--bare") {
        return;
    }
    procspawn::init();
    mp_core::init();
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(400);

    let mut contenders: Vec<Contender<'_>> = vec![
        ("bare execution of the same binary", Box::new(|| timed(bare))),
        ("mp-core, re-exec", Box::new(|| timed(|| mp(StartMethod::ReExec)))),
        ("bare fork and exit", Box::new(|| timed(|| fork_and_wait().expect("a fork")))),
        ("mp-core, fork server", Box::new(|| timed(|| mp(StartMethod::ForkServer)))),
        ("procspawn", Box::new(|| timed(procspawn))),
    ];
    let figures = compare("Start and join", "us", rounds, &mut contenders);
    if let [exec, ours, fork, served, peer] = &figures[..] {
        ratio("re-exec / bare execution", ours, exec, "<= 1.2");
        ratio("fork server / bare fork and exit", served, fork, "<= 2");
        ratio("procspawn / re-exec", peer, ours, "");
        ratio("procspawn / fork server", peer, served, "");
    }

    // The bare fork comes last and alone: it takes so long that all caches are cold for whoever comes after it.
    let memory = vec![1_u8; 1 << 30];
    black_box(&memory);
    drop(contenders.remove(2));
    let title = "Start and join, 1 GiB resident";
    let large = compare(title, "us", rounds / 2 + 1, &mut contenders);
    if let ([exec, ours, served, _], [_, small_ours, _, small_served, _]) = (&large[..], &figures[..]) {
        ratio("1 GiB: re-exec / bare execution", ours, exec, "<= 1.2");
        ratio("re-exec: 1 GiB / small", ours, small_ours, "");
        ratio("fork server: 1 GiB / small", served, small_served, "");
    }
    let mut fork: Vec<Contender<'_>> =
        vec![("bare fork and exit", Box::new(|| timed(|| fork_and_wait().expect("a fork"))))];
    compare("A fork with 1 GiB resident", "us", rounds / 40 + 1, &mut fork);
    drop(memory);

    // Fewer rounds: one of `spawn` takes as long as fifty of ours.
    let pythons: Vec<_> = ["fork", "forkserver", "spawn"]
        .into_iter()
        .filter_map(|method| Some((format!("Python, {method}"), RefCell::new(Python::new(method)?))))
        .collect();
    let mut contenders: Vec<Contender<'_>> = vec![
        ("mp-core, re-exec", Box::new(|| timed(|| mp(StartMethod::ReExec)))),
        ("mp-core, fork server", Box::new(|| timed(|| mp(StartMethod::ForkServer)))),
    ];
    for (name, python) in &pythons {
        contenders.push((name, Box::new(|| python.borrow_mut().round())));
    }
    let figures: Vec<Figures> =
        compare("Start and join, beside Python", "us", rounds / 20 + 1, &mut contenders);
    for (python, ours) in [("Python, forkserver", 1), ("Python, spawn", 0)] {
        if let Some(python) = figures.iter().find(|figure| figure.name == python) {
            ratio(&format!("{} / {}", python.name, figures[ours].name), python, &figures[ours], "");
        }
    }
}
