//! Python's scenarios for shared memory blocks, and what a name leaves behind: nothing.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{fork_and, interruptible, until_all_are},
    os::thread::gettid,
    spawn, test_init,
};
use mp_lock::{MemoryError, Semaphore, SharedMemory, Value};
use rustix::process::{Pid, Signal, kill_process};

fn unique(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

fn is_missing(name: &str) -> bool {
    matches!(SharedMemory::attach(name), Err(MemoryError::NotFound { .. }))
}

#[test]
fn a_block_is_found_by_its_name_and_writes_are_seen() {
    let name = unique("found");
    let block = SharedMemory::create(&name, 513).unwrap();
    assert_eq!((block.name(), block.len()), (Some(&*name), 513));
    assert_eq!(format!("{block:?}"), format!("SharedMemory(513 bytes, named {name:?})"));
    let other = SharedMemory::attach(&name).unwrap();
    assert_eq!((other.name(), other.len()), (Some(&*name), 513));
    assert!(block.write(500, b"hello"));
    let mut bytes = [0; 13];
    assert!(other.read(500, &mut bytes));
    assert_eq!(&bytes, b"hello\0\0\0\0\0\0\0\0");
    // Outside of it nothing is done.
    assert!(!block.write(510, b"hello") && !block.read(usize::MAX, &mut bytes));
    assert_eq!(block.atomics::<AtomicU32>().len(), 128);
    other.atomics::<AtomicU32>()[1].store(7, Relaxed);
    assert_eq!(block.atomics::<AtomicU32>()[1].load(Relaxed), 7);
}

#[test]
fn names_and_sizes_that_cannot_be_are_refused() {
    let refused = |name: &str| matches!(SharedMemory::create(name, 1), Err(MemoryError::Name { .. }));
    assert!(refused("") && refused("a\0b") && refused(&"x".repeat(200)));
    assert!(matches!(SharedMemory::attach(""), Err(MemoryError::Name { .. })));
    assert!(matches!(SharedMemory::create("zero", 0), Err(MemoryError::Empty)));
    assert!(matches!(SharedMemory::new(0), Err(MemoryError::Empty)));
    assert!(matches!(SharedMemory::new(usize::MAX), Err(MemoryError::Memory(_))));
    assert!(is_missing("zero") && is_missing(&unique("never")));
    // Python allows these, too.
    for name in ["a:b/c", "two\nlines", " "] {
        let block = SharedMemory::create(&unique(name), 1).unwrap();
        assert!(SharedMemory::attach(block.name().unwrap()).is_ok());
    }
}

#[test]
fn a_name_exists_once_until_it_is_unlinked() {
    let name = unique("once");
    let block = SharedMemory::create(&name, 10).unwrap();
    assert!(matches!(SharedMemory::create(&name, 10), Err(MemoryError::Exists { .. })));
    let other = SharedMemory::attach(&name).unwrap();
    other.unlink().unwrap();
    assert!(matches!(other.unlink(), Err(MemoryError::NotFound { .. })));
    assert!(matches!(block.unlink(), Err(MemoryError::NotFound { .. })));
    assert!(is_missing(&name));
    // Those who have it keep it; the name is free for another one.
    let new = SharedMemory::create(&name, 20).unwrap();
    assert_eq!(SharedMemory::attach(&name).unwrap().len(), 20);
    assert!(block.write(0, b"old") && new.write(0, b"new"));
    let mut bytes = [0; 3];
    assert!(other.read(0, &mut bytes));
    assert_eq!(&bytes, b"old");
    drop(new);
    assert!(is_missing(&name));
    assert!(matches!(SharedMemory::new(1).unwrap().unlink(), Err(MemoryError::NotFound { .. })));
}

#[test]
fn of_many_that_create_the_same_name_one_succeeds() {
    test_init!();
    let (name, go) = (unique("race"), Semaphore::new(0).unwrap());
    let create = |name: String, go: Semaphore| match SharedMemory::create(&name, 8) {
        Ok(_block) => {
            go.acquire().unwrap();
            true
        }
        Err(error) => {
            assert!(matches!(error, MemoryError::Exists { .. }), "{error}");
            go.release().unwrap();
            false
        }
    };
    for _ in 0..5 {
        let children = [(); 2].map(|()| spawn(create, (name.clone(), go.clone())).unwrap());
        assert_eq!(children.map(|child| u32::from(child.join().unwrap())).iter().sum::<u32>(), 1);
        assert!(is_missing(&name));
    }
}

#[test]
fn handles_and_names_reach_children() {
    test_init!();
    let (block, unnamed) =
        (SharedMemory::create(&unique("child"), 8).unwrap(), SharedMemory::new(8).unwrap());
    let write = |name: String, block: SharedMemory, unnamed: SharedMemory| {
        assert_eq!((block.name(), unnamed.name()), (Some(&*name), None));
        let found = SharedMemory::attach(&name).unwrap();
        assert!(found.write(0, b"name") && block.write(4, b"hand") && unnamed.write(0, b"anon"));
        let mut bytes = [0; 8];
        assert!(found.read(0, &mut bytes));
        bytes
    };
    let child = spawn(write, (block.name().unwrap().to_owned(), block.clone(), unnamed.clone())).unwrap();
    assert_eq!(&child.join().unwrap(), b"namehand");
    let mut bytes = [0; 4];
    assert!(unnamed.read(0, &mut bytes));
    assert_eq!(&bytes, b"anon");
}

/// Python needs a tracker process for this, and leaves the block behind if that is killed, too.
#[test]
fn a_name_is_gone_with_its_last_user_however_it_dies() {
    test_init!();
    let name = unique("killed");
    let (created, attached) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let create = |name: String, created: Semaphore| {
        let _block = SharedMemory::create(&name, 1 << 20).unwrap();
        assert!(_block.write(0, b"still here"));
        created.release().unwrap();
        loop {
            std::thread::park();
        }
    };
    let attach = |name: String, attached: Semaphore| {
        let _block = SharedMemory::attach(&name).unwrap();
        attached.release().unwrap();
        loop {
            std::thread::park();
        }
    };
    for signal in [Signal::KILL, Signal::TERM] {
        let kill = |child: mp_core::Child<()>| {
            kill_process(Pid::from_raw(child.pid().cast_signed()).unwrap(), signal).unwrap();
            assert!(child.join().is_err());
        };
        let creator = spawn(create, (name.clone(), created.clone())).unwrap();
        created.acquire().unwrap();
        let user = spawn(attach, (name.clone(), attached.clone())).unwrap();
        attached.acquire().unwrap();
        // The one that created it is dead; the other one answers to the name.
        kill(creator);
        let mut bytes = [0; 10];
        assert!(SharedMemory::attach(&name).unwrap().read(0, &mut bytes));
        assert_eq!(&bytes, b"still here");
        kill(user);
        assert!(is_missing(&name));
        drop(SharedMemory::create(&name, 1).unwrap());
    }
}

/// One that is stopped holds nobody up as long as another user is there.
#[test]
fn a_user_that_is_stopped_is_passed_over() {
    test_init!();
    let name = unique("stopped");
    let block = SharedMemory::create(&name, 8).unwrap();
    let (attached, go) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let attach = |block: SharedMemory, attached: Semaphore, go: Semaphore| {
        attached.release().unwrap();
        go.acquire().unwrap();
        drop(block);
    };
    let user = spawn(attach, (block.clone(), attached.clone(), go.clone())).unwrap();
    attached.acquire().unwrap();
    let pid = Pid::from_raw(user.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let find = |name: String| SharedMemory::attach(&name).unwrap().len();
    for _ in 0..5 {
        assert_eq!(spawn(find, (name.clone(),)).unwrap().join().unwrap(), 8);
    }
    kill_process(pid, Signal::CONT).unwrap();
    go.release().unwrap();
    user.join().unwrap();
}

#[test]
fn a_fork_may_drop_a_named_block() {
    test_init!();
    // In a process of its own, which has no other threads than the block's.
    let fork = |name: String| {
        let mut block = Some(SharedMemory::create(&name, 8).unwrap());
        assert!(fork_and(|| drop(block.take())).unwrap());
        assert!(SharedMemory::attach(&name).is_ok());
        drop(block);
        is_missing(&name)
    };
    assert!(spawn(fork, (unique("forked"),)).unwrap().join().unwrap());
}

/// Its only user is stopped, and signals come all the time to the one that asks: it gives up all the same.
#[test]
fn signals_do_not_prolong_the_search_for_a_user_that_answers() {
    test_init!();
    let (name, created) = (unique("pestered"), Semaphore::new(0).unwrap());
    let create = |name: String, created: Semaphore| {
        let _block = SharedMemory::create(&name, 8).unwrap();
        created.release().unwrap();
        std::thread::park();
    };
    let user = spawn(create, (name.clone(), created.clone())).unwrap();
    created.acquire().unwrap();
    kill_process(Pid::from_raw(user.pid().cast_signed()).unwrap(), Signal::STOP).unwrap();
    until_all_are('T', user.pid());
    let (thread, begun, ended) =
        (Value::new(0_i32).unwrap(), Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let find = |name: String, thread: Value<i32>, begun: Semaphore, ended: Semaphore| {
        thread.set(gettid().as_raw_nonzero().get()).unwrap();
        interruptible(Signal::USR1.as_raw());
        begun.release().unwrap();
        let is_silent = matches!(SharedMemory::attach(&name), Err(MemoryError::Silent { .. }));
        ended.release().unwrap();
        is_silent
    };
    let finder = spawn(find, (name, thread.clone(), begun.clone(), ended.clone())).unwrap();
    begun.acquire().unwrap();
    // The kernel gives a signal to the thread that is named, if it can: the process's first one does something else.
    let (begin, thread) = (Instant::now(), Pid::from_raw(thread.get().unwrap()).unwrap());
    while ended.acquire_timeout(Duration::from_millis(5)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(40), "it still asks");
        let _ = kill_process(thread, Signal::USR1);
    }
    assert!(finder.join().unwrap());
    user.kill().unwrap();
}

#[test]
fn nothing_of_it_lies_in_the_file_system() {
    let name = unique("invisible");
    let _block = SharedMemory::create(&name, 8).unwrap();
    for place in ["/dev/shm", "/tmp"] {
        let here = std::fs::read_dir(place).unwrap();
        assert!(here.flatten().all(|entry| !entry.file_name().to_string_lossy().contains(&name)));
    }
}
