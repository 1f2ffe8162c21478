//! What it costs to start a function in another process and to join it.
//!
//! `cargo bench -p mp-core --bench start [rounds]`. All contenders take turns within one run, so that whatever else the
//! machine does hits them alike; the medians are printed, and what they are compared with: a bare execution of the same
//! binary (which ends at once in `main`) and a bare fork of this process (whose child ends at once). Then once more with
//! 1 GiB of memory in use, which a start by `posix_spawn` or by a server must not notice.

use std::{
    hint::black_box,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

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

type Contender<'a> = (&'a str, Box<dyn FnMut() + 'a>);

fn measure(title: &str, rounds: usize, contenders: &mut [Contender<'_>]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..rounds + rounds / 10 + 3 {
        for ((_, contender), times) in contenders.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            contender();
            let time = begin.elapsed();
            // The first rounds warm up: servers are started, pages are mapped.
            if round >= rounds / 10 + 3 {
                times.push(time);
            }
        }
    }
    println!("\n{title}, {rounds} rounds, in microseconds");
    println!("{:38} {:>9} {:>9} {:>9}", "", "median", "best 10%", "worst 10%");
    let mut medians = Vec::new();
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        times.sort();
        let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
        println!("{name:38} {:9.1} {:9.1} {:9.1}", at(50), at(10), at(90));
        medians.push(times[times.len() / 2]);
    }
    medians
}

fn ratio(what: &str, ours: Duration, other: Duration) {
    println!("{what:60} {:6.2}", ours.as_secs_f64() / other.as_secs_f64());
}

/// Python's own start and join, measured by itself.
fn python(method: &str, rounds: usize) {
    let program = format!(
        "import multiprocessing as m, time, statistics\n\
         if __name__ == '__main__':\n\
         \x20   c = m.get_context('{method}'); t = []\n\
         \x20   for i in range({rounds}):\n\
         \x20       b = time.perf_counter(); p = c.Process(target=divmod, args=(1, 2)); p.start(); p.join()\n\
         \x20       t.append(time.perf_counter() - b)\n\
         \x20   print(statistics.median(t) * 1e6)\n"
    );
    let output = Command::new("python3").args(["-c", &program]).output();
    match output {
        Ok(output) if output.status.success() => {
            let median = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN);
            println!("{:38} {median:9.1}", format!("Python, {method}"));
        }
        _ => println!("{:38} {:>9}", format!("Python, {method}"), "absent"),
    }
}

fn main() {
    if std::env::args().nth(1).is_some_and(|arg| arg == "--bare") {
        return;
    }
    procspawn::init();
    mp_core::init();
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(500);

    for resident in [0_usize, 1 << 30] {
        let memory = vec![1_u8; resident];
        black_box(&memory);
        let title = if resident == 0 { "Start and join" } else { "With 1 GiB resident" };
        let rounds = if resident == 0 { rounds } else { rounds / 5 + 1 };
        let medians = measure(
            title,
            rounds,
            &mut [
                ("bare execution of the same binary", Box::new(bare)),
                ("mp-core, re-exec", Box::new(|| mp(StartMethod::ReExec))),
                ("bare fork and exit", Box::new(|| fork_and_wait().expect("a fork"))),
                ("mp-core, fork server", Box::new(|| mp(StartMethod::ForkServer))),
                (
                    "procspawn",
                    Box::new(|| {
                        assert_eq!(procspawn::spawn((1, 2), |(a, b)| add(a, b)).join().expect("a result"), 3)
                    }),
                ),
            ],
        );
        if let [exec, ours, fork, served, peer] = medians[..] {
            println!();
            ratio("re-exec / bare execution", ours, exec);
            ratio("fork server / bare fork and exit", served, fork);
            ratio("procspawn / re-exec", peer, ours);
            ratio("procspawn / fork server", peer, served);
        }
        black_box(&memory);
    }
    println!("\nPython's start and join, medians of 30, in microseconds");
    for method in ["fork", "spawn", "forkserver"] {
        python(method, 30);
    }
}
