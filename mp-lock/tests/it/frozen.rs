//! Values that are written once and read by all.

use std::io::Write;

use mp_core::{
    spawn, test_init,
    transfer::{decode, encode},
};
use mp_lock::{Barrier, Frozen};
use mp_queue::Queue;
use rustix::process::{Resource, Rlimit, setrlimit};

#[test]
fn all_read_at_once_what_nobody_copies() {
    const LEN: usize = 1 << 20;
    test_init!();
    let values: Vec<u64> = (0..LEN as u64).collect();
    let frozen = Frozen::new(&values).unwrap();
    let together = Barrier::new(3).unwrap();
    let read = |frozen: Frozen<u64>, together: Barrier| {
        // All have the slice at this moment.
        let slice: &[u64] = &frozen;
        together.wait().unwrap();
        let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line =
            mapped.lines().find(|line| line.contains(&format!("{:x}-", slice.as_ptr().addr()))).unwrap();
        // Not a copy, and not to be changed.
        let is_shared_file = line.contains(" r--p ") && line.contains("memfd:");
        (slice.iter().sum::<u64>(), is_shared_file)
    };
    let children = [(); 3].map(|()| spawn(read, (frozen.clone(), together.clone())).unwrap());
    for child in children {
        assert_eq!(child.join().unwrap(), (values.iter().sum(), true));
    }
    assert_eq!(frozen[LEN - 1], LEN as u64 - 1);
}

#[test]
fn it_comes_back_through_processes_and_outlives_who_made_it() {
    test_init!();
    let made = spawn(|| Frozen::new(&[1_u16, 2, 3]).unwrap(), ()).unwrap().join().unwrap();
    assert_eq!(*made, [1, 2, 3]);
    let twice = spawn(|made: Frozen<u16>| (made.clone(), made), (made,)).unwrap().join().unwrap();
    assert_eq!((&*twice.0, &*twice.1), (&[1_u16, 2, 3][..], &[1_u16, 2, 3][..]));
    assert_eq!(format!("{:?}", twice.0), "[1, 2, 3]");
}

#[test]
fn nothing_is_a_slice_of_nothing() {
    test_init!();
    let nothing = Frozen::<[u64; 4]>::new(&[]).unwrap();
    assert!(spawn(|nothing: Frozen<[u64; 4]>| nothing.is_empty(), (nothing,)).unwrap().join().unwrap());
}

#[test]
fn values_of_another_size_are_an_error() {
    let sent = encode(&Frozen::new(&[1_u8; 9]).unwrap()).unwrap();
    let fds = sent.handles.into_iter().map(|handle| handle.into_fd().unwrap()).collect();
    let error = decode::<Frozen<u64>>(&sent.bytes, fds).unwrap_err();
    assert!(error.to_string().contains("another size"), "{error}");
}

#[test]
fn whoever_has_the_descriptor_cannot_write() {
    let sent = encode(&Frozen::new(&[1_u8; 9]).unwrap()).unwrap();
    let fd = sent.handles.into_iter().next().unwrap().into_fd().unwrap();
    assert!(std::fs::File::from(fd).write_all(b"x").is_err());
}

#[test]
fn one_free_descriptor_is_enough_to_get_one() {
    test_init!();
    let queue = Queue::new().unwrap();
    queue.put(&Frozen::new(&[7_u32]).unwrap()).unwrap();
    let get_scarcely = |queue: Queue<Frozen<u32>>| {
        let limit = Rlimit { current: Some(64), maximum: Some(64) };
        setrlimit(Resource::Nofile, limit).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        drop(all.pop());
        let got = queue.get().unwrap();
        drop(all);
        got[0]
    };
    assert_eq!(spawn(get_scarcely, (queue,)).unwrap().join().unwrap(), 7);
}
