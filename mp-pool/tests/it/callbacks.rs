//! Callbacks run once, with the result, whoever takes it and whatever becomes of the pool.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use mp_pool::{Error, Handle, Pool, test_init};

use crate::helpers::ends;

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// The pool's thread is at a callback of another call until the sender is used or dropped.
fn pool_at_a_callback() -> (Pool, Handle<()>, mpsc::Sender<()>) {
    let pool = Pool::with_workers(1).unwrap();
    let ((begin, begun), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let handle = pool.apply_async(|| (), ()).unwrap().on_success(move |()| {
        begin.send(()).unwrap();
        let _ = wait.recv();
    });
    begun.recv_timeout(PATIENCE).unwrap();
    (pool, handle, go)
}

/// A call whose callback says so.
fn telling(pool: &Pool) -> (Handle<u32>, mpsc::Receiver<u32>) {
    let (tell, told) = mpsc::channel();
    let handle = pool.apply_async(|x: u32| x + 1, (1,)).unwrap();
    (handle.on_success(move |value| tell.send(*value).unwrap()), told)
}

#[test]
fn a_callback_has_run_when_its_result_is_taken() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    for i in 0..400 {
        let (first, second) = (Arc::clone(&count), Arc::clone(&count));
        let call = pool.apply_async(|x: usize| if x % 40 < 2 { panic!("no luck") } else { x }, (i,)).unwrap();
        let call = call
            .on_success(move |_| _ = first.fetch_add(1, Ordering::SeqCst))
            .on_error(move |_| _ = second.fetch_add(1, Ordering::SeqCst));
        let result = if i % 2 == 0 { call.get() } else { call.get_timeout(PATIENCE) };
        assert_eq!(count.load(Ordering::SeqCst), i + 1);
        assert_eq!(result.is_err(), i % 40 < 2);
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 400);
}

#[test]
fn callbacks_have_run_after_join() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let handles: Vec<_> = (0..100).map(|_| telling(&pool)).collect();
    handles.iter().for_each(|(handle, _)| handle.wait());
    pool.close();
    pool.join().unwrap();
    assert!(handles.iter().all(|(_, told)| told.try_recv() == Ok(2)));
}

#[test]
fn a_callback_that_hangs_holds_up_only_its_own_result() {
    test_init!();
    let (pool, hangs, go) = pool_at_a_callback();
    let (handle, told) = telling(&pool);
    // Whoever has only so much time runs nothing that may take longer.
    assert!(matches!(handle.get_timeout(SHORT), Err(Error::TimedOut)));
    assert!(told.try_recv().is_err());
    assert_eq!(pool.apply_async(|| 3, ()).unwrap().get_timeout(PATIENCE).unwrap(), 3);
    assert!(handle.wait_timeout(PATIENCE));
    assert_eq!(ends(move || handle.get()).unwrap(), 2);
    assert_eq!(told.recv(), Ok(2));
    assert!(told.recv().is_err());
    assert!(matches!(hangs.get_timeout(SHORT), Err(Error::TimedOut)));
    go.send(()).unwrap();
    hangs.get().unwrap();
}

#[test]
fn a_callback_that_waits_behind_another_runs_at_the_end_of_the_pool_as_well() {
    test_init!();
    let (pool, _hangs, go) = pool_at_a_callback();
    let ((one, told_one), (two, told_two)) = (telling(&pool), telling(&pool));
    one.wait();
    two.wait();
    ends(move || drop(pool));
    assert_eq!(ends(move || one.get()).unwrap(), 2);
    assert_eq!(told_one.try_recv(), Ok(2));
    assert!(told_two.try_recv().is_err());
    go.send(()).unwrap();
    assert_eq!(two.get_timeout(PATIENCE).unwrap(), 2);
    assert_eq!(told_two.try_recv(), Ok(2));
}

struct Tells(mpsc::Sender<()>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_poll_is_told_when_callbacks_that_had_not_begun_have_run() {
    test_init!();
    let (pool, _hangs, go) = pool_at_a_callback();
    let (mut handle, ran) = telling(&pool);
    handle.wait();
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Tells(tell)));
    let mut poll = || Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    go.send(()).unwrap();
    let result = loop {
        told.recv_timeout(PATIENCE).unwrap();
        if let Poll::Ready(result) = poll() {
            break result;
        }
    };
    assert_eq!((result.unwrap(), ran.try_recv()), (2, Ok(2)));
}

#[test]
fn a_callback_may_take_another_result_that_has_one() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    for timed in [false, true] {
        let ((begin, begun), (tell, taken)) = (mpsc::channel(), mpsc::channel());
        let (give, given) = mpsc::channel::<Handle<u32>>();
        let _handle = pool.apply_async(|| (), ()).unwrap().on_success(move |()| {
            begin.send(()).unwrap();
            let other = given.recv_timeout(PATIENCE).unwrap();
            tell.send(if timed { other.get_timeout(PATIENCE) } else { other.get() }).unwrap();
        });
        begun.recv_timeout(PATIENCE).unwrap();
        // So this one's callback has to wait behind that.
        let (other, told) = telling(&pool);
        give.send(other).unwrap();
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap().unwrap(), 2);
        assert_eq!(told.try_recv(), Ok(2));
    }
}

#[test]
fn a_callback_cannot_take_its_own_result_from_whoever_takes_it() {
    test_init!();
    let (pool, _hangs, go) = pool_at_a_callback();
    let own = Arc::new(OnceLock::<Handle<u32>>::new());
    let (tell, told) = mpsc::channel();
    let same = Arc::clone(&own);
    let handle = pool.apply_async(|x: u32| x, (7,)).unwrap().on_success(move |_| {
        let own = same.get().unwrap();
        tell.send((thread::current().id(), own.ready(), own.successful(), own.get())).unwrap();
    });
    own.set(handle).unwrap();
    assert_eq!(own.get().unwrap().get().unwrap(), 7);
    let told = told.try_recv().unwrap();
    let here = thread::current().id();
    assert!(matches!(told, (id, true, Some(true), Err(Error::AlreadyTaken)) if id == here), "{told:?}");
    assert!(matches!(own.get().unwrap().get(), Err(Error::AlreadyTaken)));
    go.send(()).unwrap();
}
