//! Values and arrays.

use mp_core::{spawn, test_init};
use mp_lock::{Array, Value};

#[test]
fn v1_what_a_child_writes_is_seen_here() {
    test_init!();
    let (int, float, long) =
        (Value::new(7_i32).unwrap(), Value::new(3.5_f64).unwrap(), Value::new(1_i64 << 33).unwrap());
    let write = |int: Value<i32>, float: Value<f64>, long: Value<i64>| {
        assert_eq!((int.get().unwrap(), float.get().unwrap(), long.get().unwrap()), (7, 3.5, 1 << 33));
        int.set(-1).unwrap();
        float.set(0.25).unwrap();
        *long.lock().unwrap() += 1;
    };
    spawn(write, (int.clone(), float.clone(), long.clone())).unwrap().join().unwrap();
    assert_eq!((int.get().unwrap(), float.get().unwrap(), long.get().unwrap()), (-1, 0.25, (1 << 33) + 1));
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
    assert_eq!(array.lock().unwrap()[4..], [3211, 3444, 3992, 4974, 5688, 6519]);
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
fn an_array_cannot_be_larger_than_memory_can_say() {
    assert!(Array::<u64>::zeroed(usize::MAX / 4).is_err());
}
