use mp_pool::Pool;

fn main() -> Result<(), mp_pool::Error> {
    mp_pool::init();
    let pool = Pool::with_workers(2)?;
    assert_eq!(pool.map(|x: u64| x * x, [1, 2, 3])?, [1, 4, 9]);
    println!("mp-pool works");
    pool.close();
    pool.join()
}
