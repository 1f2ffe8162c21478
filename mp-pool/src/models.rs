//! Loom models of the words that the pool and its workers share: the cut of a chunk, what a worker is at, the bell; and of the one
//! by which its callers wait.
//!
//! `RUSTFLAGS="--cfg mp_loom" cargo test -p mp-pool --release --lib models`. The code is that of the pool; the kernel below it is a
//! model (`mp-core/src/sync/model.rs`), which knows no time: whatever ends here ends without any timer.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use mp_core::{
    kill_points::{Point, reach},
    model::{
        Processes,
        atomic::{AtomicU64, Ordering},
        exit, explore, fails_when_mutated, wait_for_exits,
    },
};

use crate::{
    engine::waiters::Waiters,
    local::{
        desk::{Desk, Item, Step, now},
        link::{Bell, answer, ring_for_a_step},
    },
};

/// How many items the chunk has that is cut.
const ITEMS: u32 = 3;
const TICKET: u32 = 1;

/// Items to which something happened. Not a word of the model: it only keeps account.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    fn add(&self, items: Range<u32>) {
        self.0.lock().unwrap().extend(items);
    }

    fn all(&self) -> Vec<u32> {
        let mut items = self.0.lock().unwrap().clone();
        items.sort_unstable();
        items
    }
}

/// What a worker does with its chunk, as `Work::run` does.
struct Worker {
    desk: Desk,
    bell: Bell,
    /// How many items it claims at once.
    stride: u32,
    begun: Log,
    finished: Log,
    /// How many items were answered.
    answered: Arc<AtomicU64>,
}

impl Worker {
    fn new(stride: u32) -> Self {
        let (desk, bell) = (Desk::new().unwrap(), Bell::new().unwrap());
        desk.lay(0, ITEMS);
        Self { desk, bell, stride, begun: Log::default(), finished: Log::default(), answered: Arc::default() }
    }

    fn share(&self) -> Self {
        Self {
            desk: self.desk.clone(),
            bell: self.bell.clone(),
            stride: self.stride,
            begun: self.begun.clone(),
            finished: self.finished.clone(),
            answered: Arc::clone(&self.answered),
        }
    }

    fn work(&self) {
        let mut left = 0..ITEMS;
        loop {
            let claimed = self.desk.claim(0, self.stride, left.clone());
            left.start = claimed.end;
            if claimed.is_empty() {
                return;
            }
            for item in claimed.clone() {
                self.desk.begin(Item { ticket: TICKET, item, step: Step::Runs }, false);
                self.begun.add(item..item + 1);
                self.finished.add(item..item + 1);
                reach(Point::Ran);
            }
            self.desk.rest();
            self.desk.begin(Item { ticket: TICKET, item: claimed.start, step: Step::Encodes }, false);
            self.desk.rest();
            answer(&self.bell, || self.answered.store(claimed.end.into(), Ordering::Release));
        }
    }
}

fn begun_xor_taken_back() {
    for stride in [1, 2] {
        explore(3, move || {
            let worker = Worker::new(stride);
            let mut processes = Processes::default();
            let (theirs, taken) = (worker.share(), worker.begun.clone());
            processes.start(move || theirs.work());
            taken.add(worker.desk.take_back(0, |unclaimed| unclaimed / 2));
            taken.add(worker.desk.take_back(0, |_| 0));
            processes.end(|| {
                assert_eq!(taken.all(), [0, 1, 2], "an item was begun twice, or by nobody");
            });
        });
    }
}

#[test]
fn each_item_is_begun_or_taken_back_and_never_both() {
    begun_xor_taken_back();
}

/// The worker dies at any step, the pool takes something back at any time, then judges what the dead one was at.
#[test]
fn the_dead_are_judged_for_what_they_were_at() {
    let at_work = [Point::Claimed, Point::Begun, Point::Ran, Point::AtRest, Point::Encoding];
    for point in at_work.into_iter().chain([Point::Sent, Point::BellRung]) {
        for (nth, stride) in [(1, 1), (1, 2), (2, 2)] {
            explore(2, move || {
                let worker = Worker::new(stride);
                let mut processes = Processes::default();
                let theirs = worker.share();
                processes.start_to_die(point, nth, move || {
                    theirs.work();
                    exit();
                });
                let desk = &worker.desk;
                let taken = desk.take_back(0, |unclaimed| unclaimed / 2);
                wait_for_exits(1);
                // As `Member::bury` and `Table::lost` do.
                let len = if taken.is_empty() { ITEMS } else { taken.start };
                let answered = worker.answered.load(Ordering::Acquire) as u32;
                let at = desk.at().filter(|at| at.step == Step::Runs).map(|at| at.item);
                let at = at.filter(|at| (answered..len).contains(at));
                let (unclaimed, _) = desk.unclaimed(0);
                let (begun, finished) = (worker.begun.all(), worker.finished.all());
                assert!(begun.iter().all(|item| *item < len), "what was taken back was begun");
                assert!(answered <= len && finished.len() >= answered as usize);
                assert!(begun.len() as u32 + unclaimed <= len);
                // Whatever was begun and is not finished is what it was at: nothing else was cut short.
                assert!(begun.iter().all(|item| finished.contains(item) || at == Some(*item)));
                // And it is not blamed for something that it had not claimed.
                assert!(at.is_none_or(|at| at < len - unclaimed));
                processes.end(|| {});
            });
        }
    }
}

#[test]
fn no_item_is_seen_with_the_time_of_another() {
    explore(3, || {
        let desk = Desk::new().unwrap();
        let items = [0, 1].map(|item| Item { ticket: TICKET, item, step: Step::Runs });
        desk.begin(items[0], true);
        let between = now();
        let mut processes = Processes::default();
        let theirs = desk.clone();
        processes.start(move || theirs.begin(items[1], true));
        match desk.at_since() {
            None => {}
            Some((item, began)) if item == items[0] => assert!(began <= between),
            Some((_, began)) => assert!(began >= between),
        }
        processes.end(|| assert_eq!(desk.at(), Some(items[1])));
    });
}

/// Workers that answer and ring, and the one that collects.
fn answers(ringers: usize) -> (Bell, Arc<Vec<AtomicU64>>) {
    (Bell::new().unwrap(), Arc::new((0..ringers).map(|_| AtomicU64::new(0)).collect()))
}

fn ring(bell: &Bell, answers: &[AtomicU64], who: usize) {
    answer(bell, || answers[who].store(1, Ordering::Release));
}

fn has(answers: &[AtomicU64], who: usize) -> bool {
    answers[who].load(Ordering::Acquire) == 1
}

fn all_are_heard(ringers: usize, preemptions: usize, ring: fn(&Bell, &[AtomicU64], usize)) {
    explore(preemptions, move || {
        let (bell, answers) = answers(ringers);
        let mut processes = Processes::default();
        for who in 0..ringers {
            let (bell, answers) = (bell.clone(), Arc::clone(&answers));
            processes.start(move || ring(&bell, &answers, who));
        }
        let heard = bell.wait_shared(None, || (0..ringers).all(|who| has(&answers, who)).then_some(()));
        assert!(heard.is_ok());
        processes.end(|| {});
    });
}

/// Also when both see the same sleeper, and the second leaves a sleeper's mark where nobody sleeps.
#[test]
fn all_who_ring_at_once_are_heard() {
    all_are_heard(2, 3, ring);
}

#[test]
fn three_who_ring_at_once_are_heard() {
    all_are_heard(3, 1, ring);
}

/// What is said to those who are awake takes no wake from one that sleeps.
#[test]
fn steps_without_a_wake_swallow_no_bell() {
    all_are_heard(2, 2, |bell, answers, who| {
        ring_for_a_step(bell, false);
        ring(bell, answers, who);
    });
}

/// Where the one that rings may die, and somebody else rings as well.
fn a_ringer_dies(other: fn(&Bell, &[AtomicU64]), done: fn(&[AtomicU64]) -> bool) {
    for point in [Point::BeforeWake, Point::Sent, Point::BellRung] {
        explore(2, move || {
            let (bell, answers) = answers(2);
            let mut processes = Processes::default();
            let (theirs, answered) = (bell.clone(), Arc::clone(&answers));
            processes.start_to_die(point, 1, move || {
                ring(&theirs, &answered, 0);
                exit();
            });
            let (theirs, answered) = (bell.clone(), Arc::clone(&answers));
            processes.start(move || other(&theirs, &answered));
            assert!(bell.wait_shared(None, || done(&answers).then_some(())).is_ok());
            processes.end(|| {});
        });
    }
}

/// The keeper learns of the death, and rings: the answer counts if it was sent, else the death does.
#[test]
fn the_death_of_one_that_rings_is_heard() {
    a_ringer_dies(
        |bell, answers| {
            wait_for_exits(1);
            ring(bell, answers, 1);
        },
        |answers| has(answers, 0) || has(answers, 1),
    );
}

/// Whoever dies with the wake in its hand takes nobody else's along.
#[test]
fn one_that_rings_beside_a_dying_one_is_heard() {
    a_ringer_dies(|bell, answers| ring(bell, answers, 1), |answers| has(answers, 1));
}

/// A claim that reads and writes in two steps begins what was taken back.
#[test]
fn a_claim_in_two_steps_is_found_out() {
    fails_when_mutated(
        "models::a_claim_in_two_steps_is_found_out",
        "begun twice, or by nobody",
        begun_xor_taken_back,
    );
}

/// A bell that rings before the answer is there is heard for nothing, and the answer never.
#[test]
fn a_bell_before_its_answer_is_found_out() {
    fails_when_mutated("models::a_bell_before_its_answer_is_found_out", "deadlock; threads", || {
        all_are_heard(1, 3, ring);
    });
}

/// One who waits finds what was done, or who has done it finds him.
fn nobody_is_missed() {
    explore(3, || {
        let (waiters, done) = (Arc::new(Waiters::default()), Arc::new(AtomicU64::new(0)));
        let found = Arc::new(AtomicU64::new(0));
        let mut processes = Processes::default();
        let (theirs, work, look) = (Arc::clone(&waiters), Arc::clone(&done), Arc::clone(&found));
        processes.start(move || {
            work.store(1, Ordering::Release);
            look.fetch_add(u64::from(theirs.any()), Ordering::Relaxed);
        });
        waiters.enter();
        let seen = done.load(Ordering::Acquire) == 1;
        processes.end(|| assert!(seen || found.load(Ordering::Relaxed) == 1, "both have missed each other"));
    });
}

#[test]
fn one_who_waits_is_not_missed() {
    nobody_is_missed();
}

#[test]
fn waiting_without_a_fence_is_found_out() {
    fails_when_mutated(
        "models::waiting_without_a_fence_is_found_out",
        "both have missed each other",
        nobody_is_missed,
    );
}
