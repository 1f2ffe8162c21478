//! What a program sees on a system that is not supported yet: an error that says so, wherever it begins.
#![cfg(any(mp_unsupported, not(target_os = "linux")))]

use std::{fs::File, io, sync::atomic::AtomicU64};

use mp_core::{
    Process, StartError, StartMethod, Stream,
    shared::{Region, RegionError},
    spawn,
    transfer::{self, Fd},
};
use mp_lock::{
    Array, Barrier, Condition, Event, Lock, MemoryError, NewBarrierError, RLock, RawValue, RwLock, Semaphore,
    SharedMemory, Value,
};
use mp_pipe::{ChannelError, channel, pipe, simplex, unbounded};
use mp_pool::Pool;
use mp_queue::Queue;

/// The whole message must say what is the matter, and where.
fn assert_says_so(error: &dyn std::error::Error) {
    let reason = format!("only Linux is supported so far, and this is {}", std::env::consts::OS);
    assert!(error.to_string().ends_with(&reason), "{error}");
}

#[track_caller]
fn assert_unsupported<T>(made: Result<T, RegionError>) {
    match made {
        Err(error @ RegionError::Unsupported) => assert_says_so(&error),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was made"),
    }
}

#[test]
fn no_process_is_started() {
    // Whether or not the program called `init`.
    let error = spawn(|x: u32| x + 1, (1,)).unwrap_err();
    assert!(matches!(error, StartError::Unsupported), "{error}");
    mp_core::test_init!();
    for method in [StartMethod::ReExec, StartMethod::ForkServer] {
        let process = Process::new().start_method(method).daemon(true).address_space(1 << 30);
        let error = process.stdout(Stream::Null).spawn(|x: u32| x + 1, (1,)).unwrap_err();
        assert!(matches!(error, StartError::Unsupported), "{error}");
        assert_says_so(&error);
    }
    assert!(mp_core::active_children().is_empty());
    assert!(mp_core::parent_process().is_none());
    assert_eq!(mp_core::fork_server_pid(), None);
}

#[test]
fn no_memory_is_shared() {
    assert_unsupported(Region::create(1));
    assert_unsupported(Lock::new());
    assert_unsupported(RLock::new());
    assert_unsupported(RwLock::new());
    assert_unsupported(Semaphore::new(1));
    assert_unsupported(Condition::new());
    assert_unsupported(Event::new());
    for made in [SharedMemory::new(1), SharedMemory::create("a", 1), SharedMemory::attach("a")] {
        match made {
            Err(MemoryError::Memory(error)) => assert_unsupported(Err::<(), _>(error)),
            made => panic!("{made:?}"),
        }
    }
    match Barrier::new(2) {
        Err(NewBarrierError::Memory(error)) => assert_unsupported(Err::<(), _>(error)),
        made => panic!("{made:?}"),
    }
    assert_unsupported(Value::new(1_u64));
    assert_unsupported(RawValue::<AtomicU64>::zeroed());
    assert_unsupported(Array::from_slice(&[1_u64, 2]));
    assert_unsupported(Queue::<u32>::new());
    assert_unsupported(Queue::<u32>::bounded(1));
    assert_unsupported(pipe::<u32, u32>());
    assert_unsupported(unbounded::<u32, u32>());
    assert_unsupported(simplex::<u32>());
}

#[test]
fn no_channel_is_made() {
    let Err(ChannelError::Sockets(cause)) = channel::<u32>() else { panic!("it was made") };
    assert_eq!(cause.kind(), io::ErrorKind::Unsupported);
    assert_says_so(&cause);
}

#[test]
fn no_pool_begins() {
    mp_core::test_init!();
    let error = Pool::new().unwrap_err();
    assert_says_so(&error);
    let mp_pool::Error::Start(cause) = error else { panic!("{error}") };
    assert!(matches!(*cause, StartError::Unsupported), "{cause}");
    assert!(matches!(Pool::with_workers(0), Err(mp_pool::Error::NoWorkers)));
}

#[test]
fn what_needs_no_system_works() {
    mp_core::init();
    assert!(mp_core::cpu_count().get() >= 1);
    assert_eq!(mp_core::current_process().pid, std::process::id());
    assert_eq!(mp_core::catch_panic(|| 42).unwrap(), 42);
    assert_eq!(mp_core::spawn_thread(|| 42).unwrap().join().unwrap(), 42);
    let parcel = transfer::encode(&(1_u8, "two")).unwrap();
    assert_eq!(transfer::decode::<(u8, String)>(&parcel.bytes, Vec::new()).unwrap(), (1, "two".to_owned()));
    // A file may be part of a value; there is nobody to send it to.
    let own = File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(transfer::encode(&Fd(own)).unwrap().handles.len(), 1);
}
