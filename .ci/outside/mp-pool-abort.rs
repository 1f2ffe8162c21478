//! In a program that is built to abort at a panic, that is the end of a worker, which the error names, and of nothing else.

use mp_pool::{Error, Pool, TaskError};

fn main() -> Result<(), Error> {
    mp_pool::init();
    assert!(cfg!(panic = "abort"));
    let pool = Pool::with_workers(2)?;
    let unlucky = |x: u32| if x == 3 { panic!("no luck") } else { x };
    for (index, result) in (0..).zip(pool.try_map(unlucky, 0..8)?) {
        match result {
            Ok(value) => assert!(value == index && index != 3),
            Err(error @ TaskError::WorkerDied { index: 3, .. }) => {
                assert!(index == 3 && error.to_string().contains("SIGABRT"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(pool.map(|x: u32| x + 1, 0..8)?, (1..9).collect::<Vec<_>>());
    println!("mp-pool works");
    pool.close();
    pool.join()
}
