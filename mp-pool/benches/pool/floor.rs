//! The least that a round trip between two processes costs: words in shared memory, and nothing else.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, Ordering},
};

use mp_core::{Child, Process, os::thread::futex, shared::Slot};

/// How the two wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Way {
    /// They look at the word until it changes.
    Spin,
    /// They sleep on the word.
    Futex,
}

/// A process that answers each change of one word by a change of another.
pub struct Floor {
    way: Way,
    words: [Slot<AtomicU32>; 2],
    child: Child<()>,
}

const STOP: u32 = u32::MAX;

impl Floor {
    pub fn start(way: Way) -> Self {
        let words = [(); 2].map(|()| Slot::new().expect("shared memory"));
        let child = Process::new().daemon(true).spawn(echo, (way, words.clone())).expect("a process");
        let floor = Self { way, words, child };
        // Until it runs.
        floor.round_trip();
        floor
    }

    pub fn round_trip(&self) {
        let next = self.words[0].load(Ordering::Relaxed).wrapping_add(1);
        self.say(next);
        wait_for(self.way, &self.words[1], |answer| answer == next);
    }

    fn say(&self, what: u32) {
        say(self.way, &self.words[0], what);
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.say(STOP);
        let _ = self.child.join();
    }
}

fn echo(way: Way, [question, answer]: [Slot<AtomicU32>; 2]) {
    let mut last = 0;
    loop {
        last = wait_for(way, &question, |asked| asked != last);
        if last == STOP {
            return;
        }
        say(way, &answer, last);
    }
}

fn say(way: Way, word: &AtomicU32, what: u32) {
    word.store(what, Ordering::Release);
    if way == Way::Futex {
        futex::wake(word, futex::Flags::empty(), 1).expect("a wake");
    }
}

fn wait_for(way: Way, word: &AtomicU32, wanted: impl Fn(u32) -> bool) -> u32 {
    loop {
        let now = word.load(Ordering::Acquire);
        if wanted(now) {
            return now;
        }
        match way {
            Way::Spin => spin_loop(),
            // It may have changed meanwhile, or a signal came: the loop looks again.
            Way::Futex => drop(futex::wait(word, futex::Flags::empty(), now, None)),
        }
    }
}
