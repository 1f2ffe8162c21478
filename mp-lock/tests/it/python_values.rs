//! Python's scenarios for values and arrays (V, A).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use bytemuck::{Pod, Zeroable};
use mp_core::{spawn, test_init};
use mp_lock::{Array, Lock, LockError, RawArray, RawValue, RegionError, Value};

#[test]
fn v1_what_a_child_writes_is_seen_here() {
    test_init!();
    let (int, float, long, byte) = (
        Value::new(7_i32).unwrap(),
        Value::new(3.5_f64).unwrap(),
        Value::new(1_i64 << 33).unwrap(),
        Value::new(b'x').unwrap(),
    );
    let raw = RawValue::<AtomicI64>::zeroed().unwrap();
    raw.store(1 << 33, Relaxed);
    let write =
        |int: Value<i32>, float: Value<f64>, long: Value<i64>, byte: Value<u8>, raw: RawValue<AtomicI64>| {
            assert_eq!((int.get().unwrap(), float.get().unwrap()), (7, 3.5));
            assert_eq!((long.get().unwrap(), byte.get().unwrap()), (1 << 33, b'x'));
            int.set(-1).unwrap();
            float.set(0.25).unwrap();
            *long.lock().unwrap() += 1;
            *byte.try_lock().unwrap() = b'y';
            raw.fetch_sub(1, Relaxed);
        };
    let arguments = (int.clone(), float.clone(), long.clone(), byte.clone(), raw.clone());
    spawn(write, arguments).unwrap().join().unwrap();
    assert_eq!((int.get().unwrap(), float.get().unwrap()), (-1, 0.25));
    assert_eq!((long.get().unwrap(), byte.get().unwrap()), ((1 << 33) + 1, b'y'));
    assert_eq!(
        (raw.load(Relaxed), format!("{raw:?}")),
        ((1 << 33) - 1, format!("RawValue({})", (1_i64 << 33) - 1))
    );
}

#[test]
fn v2_values_share_a_lock_of_their_own_or_none() {
    test_init!();
    let lock = Lock::new().unwrap();
    let (value, array) =
        (Value::<u64>::zeroed_with(&lock).unwrap(), Array::<u64>::zeroed_with(&lock, 2).unwrap());
    let guard = lock.lock().unwrap();
    assert!(matches!(value.lock(), Err(LockError::Deadlock)));
    assert!(value.try_lock().unwrap_err().is_busy() && array.try_lock().unwrap_err().is_busy());
    drop(guard);
    let guard = array.lock().unwrap();
    assert!(lock.locked() && value.get_lock().locked());
    assert_eq!(
        format!("{value:?} {array:?}"),
        "Value(Lock(held by this thread)) Array(2 values, Lock(held by this thread))"
    );
    drop(guard);
    // Without a lock: the additions of four processes are all kept, because they are atomic.
    let raw = RawArray::<AtomicU64>::zeroed(3).unwrap();
    let add = |raw: RawArray<AtomicU64>| {
        for _ in 0..10_000 {
            raw[2].fetch_add(1, Relaxed);
        }
    };
    for child in [(); 4].map(|()| spawn(add, (raw.clone(),)).unwrap()) {
        child.join().unwrap();
    }
    assert_eq!(format!("{raw:?}"), "RawArray([0, 0, 40000])");
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
}

#[test]
fn v3_a_child_doubles_a_struct_an_array_and_a_text() {
    test_init!();
    let point = Value::new(Point { x: 1.5, y: -2.0 }).unwrap();
    let array = Array::from_slice(&[0_i32, 1, 2, 3]).unwrap();
    let text = Array::from_slice(b"hello.....").unwrap();
    let double = |point: Value<Point>, array: Array<i32>, text: Array<u8>| {
        let mut point = point.lock().unwrap();
        *point = Point { x: point.x * 2.0, y: point.y * 2.0 };
        array.lock().unwrap().iter_mut().for_each(|value| *value *= 2);
        text.lock().unwrap().copy_within(..5, 5);
    };
    spawn(double, (point.clone(), array.clone(), text.clone())).unwrap().join().unwrap();
    assert_eq!(point.get().unwrap(), Point { x: 3.0, y: -4.0 });
    assert_eq!(*array.lock().unwrap(), [0, 2, 4, 6]);
    assert_eq!(&*text.lock().unwrap(), b"hellohello");
}

#[test]
fn v4_a_copy_is_independent() {
    let value = Value::new(Point { x: 1.0, y: 2.0 }).unwrap();
    let copy = Value::new(value.get().unwrap()).unwrap();
    value.set(Point { x: 0.0, y: 0.0 }).unwrap();
    assert_eq!(copy.get().unwrap(), Point { x: 1.0, y: 2.0 });
}

#[test]
fn a1_prefix_sums_in_a_child() {
    test_init!();
    let array = Array::from_slice(&[680_i64, 626, 934, 821, 150, 233, 548, 982, 714, 831]).unwrap();
    let sum = |array: Array<i64>| {
        let mut values = array.lock().unwrap();
        for i in 1..values.len() {
            values[i] += values[i - 1];
        }
    };
    spawn(sum, (array.clone(),)).unwrap().join().unwrap();
    let mut values = array.lock().unwrap();
    assert_eq!(values[4..], [3211, 3444, 3992, 4974, 5688, 6519]);
    values[4..8].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!((values.len(), &values[3..9]), (10, &[3061, 1, 2, 3, 4, 5688][..]));
}

#[test]
fn a2_a_new_array_is_zeroed() {
    for _ in 0..3 {
        let array = Array::<u32>::zeroed(100_000).unwrap();
        assert!(array.lock().unwrap().iter().all(|value| *value == 0));
        array.lock().unwrap().fill(7);
    }
    assert!(Array::<u32>::zeroed(0).unwrap().lock().unwrap().is_empty());
}

#[test]
fn what_is_larger_than_the_machine_is_refused() {
    let too_large = |made: Result<(), RegionError>| assert!(matches!(made, Err(RegionError::System { .. })));
    too_large(Array::<u64>::zeroed(1 << 50).map(drop));
    too_large(RawArray::<AtomicU64>::zeroed(1 << 50).map(drop));
    assert!(Array::<u64>::zeroed(usize::MAX / 4).is_err());
    assert!(RawArray::<AtomicU64>::zeroed(usize::MAX / 8).is_err());
}
