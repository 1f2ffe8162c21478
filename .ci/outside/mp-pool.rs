use mp_pool::Pool;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Point(u64, u64);

fn main() -> Result<(), mp_pool::Error> {
    // What the error says is what is to be done.
    let missing = Pool::with_workers(2).unwrap_err().to_string();
    assert!(missing.contains("`mp_pool::init();`") && missing.contains("first line of `main`"), "{missing}");
    assert!(missing.contains("`mp_pool::test_init!();`"), "{missing}");

    mp_pool::init();
    let pool = Pool::with_workers(2)?;
    assert_eq!(pool.map(|point: Point| point.0 * point.1, [Point(1, 2), Point(3, 4)])?, [2, 12]);
    println!("mp-pool works");
    pool.close();
    pool.join()
}

#[test]
fn works_in_a_test() {
    mp_pool::test_init!();
    assert_eq!(Pool::with_workers(2).unwrap().map(|x: u64| x * x, [1, 2, 3]).unwrap(), [1, 4, 9]);
}
