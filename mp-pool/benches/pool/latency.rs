//! One task there and its result back.

use std::{thread::sleep, time::Duration};

use mp_pool::Pool;

use crate::{
    floor::{Floor, Way},
    measure::{compare, goal, ratio},
    micros, python, square,
};

const ROUNDS: usize = 50;
/// Longer than anybody spins: afterwards all sleep.
const PAUSE: Duration = Duration::from_micros(500);

/// One round of many round trips in a row, the first of which do not count.
fn hot(mut once: impl FnMut()) -> f64 {
    const TRIPS: u32 = 500;
    (0..TRIPS / 5).for_each(|_| once());
    micros(|| (0..TRIPS).for_each(|_| once())) / f64::from(TRIPS)
}

/// The median of a few round trips with a pause before each.
fn asleep(mut once: impl FnMut()) -> f64 {
    let mut trips = [(); 11].map(|()| {
        sleep(PAUSE);
        micros(&mut once)
    });
    trips.sort_by(f64::total_cmp);
    trips[trips.len() / 2]
}

pub fn run() {
    let pool = Pool::new().expect("a pool");
    let peer = procspawn::Pool::new(pool.workers()).expect("procspawn's pool");
    let sleeping = Floor::start(Way::Futex);
    let ours = || assert_eq!(pool.apply(square, (3,)).expect("a result"), 9);
    let theirs = || assert_eq!(peer.spawn(3, square).join().expect("a result"), 9);

    let title = "apply, one after another";
    let figures = compare(
        title,
        "us",
        ROUNDS,
        &mut [
            (
                "two words in shared memory, spinning",
                Box::new(|| {
                    // Its echo would take a CPU away from the others.
                    let spinning = Floor::start(Way::Spin);
                    hot(|| spinning.round_trip())
                }),
            ),
            ("mp-pool, apply hot", Box::new(|| hot(ours))),
            ("procspawn", Box::new(|| hot(theirs))),
        ],
    );
    let pythons = python::rows(
        title,
        "us",
        "
def hot(once):
    row = []
    for _ in range(30):
        b = now()
        for _ in range(50): once()
        row.append((now() - b) / 50 * 1e6)
    return row
with m.Pool() as p: show('Python, Pool.apply', hot(lambda: p.apply(square, (3,))))
with ProcessPoolExecutor() as p: show('Python, ProcessPoolExecutor', hot(lambda: p.submit(square, 3).result()))
",
    );
    println!();
    goal(&figures[1], "<= 2 us");
    for other in figures[2..].iter().chain(&pythons) {
        ratio(&format!("{} / mp-pool", other.name), other, &figures[1], "");
    }

    let title = "apply, when everybody sleeps before each";
    let figures = compare(
        title,
        "us",
        ROUNDS,
        &mut [
            ("bare futex, two processes", Box::new(|| asleep(|| sleeping.round_trip()))),
            ("mp-pool, apply asleep", Box::new(|| asleep(ours))),
            ("procspawn", Box::new(|| asleep(theirs))),
        ],
    );
    python::rows(
        title,
        "us",
        "
def asleep(once):
    row = []
    for _ in range(200):
        time.sleep(0.0005); b = now(); once(); row.append((now() - b) * 1e6)
    return row
with m.Pool() as p: show('Python, Pool.apply', asleep(lambda: p.apply(square, (3,))))
with ProcessPoolExecutor() as p: show('Python, ProcessPoolExecutor', asleep(lambda: p.submit(square, 3).result()))
",
    );
    println!();
    ratio("mp-pool / bare futex", &figures[1], &figures[0], "<= 1.3");
}
