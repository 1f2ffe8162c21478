//! A function over a list, in as many processes as there are CPUs.

use mp_pool::Pool;

use crate::Failure;

fn square(x: u64) -> u64 {
    x * x
}

/// Maps five times, then closes and joins.
///
/// # Errors
/// The pool's.
pub fn run() -> Result<(), Failure> {
    let pool = Pool::new()?;
    for _ in 0..5 {
        println!("{:?}", pool.map(square, [1, 2, 3])?);
    }
    pool.close();
    pool.join()?;
    Ok(())
}
