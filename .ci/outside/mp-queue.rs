use mp_queue::Queue;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    let queue = Queue::new()?;
    let child = mp_core::spawn(|queue: Queue<String>| queue.put("mp-queue works").unwrap(), (queue.clone(),))?;
    println!("{}", queue.get()?);
    child.join()?;
    Ok(())
}
