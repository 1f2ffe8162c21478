use mp_lock::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    let value = Value::new(41_u32)?;
    mp_core::spawn(|value: Value<u32>| *value.lock().unwrap() += 1, (value.clone(),))?.join()?;
    assert_eq!(value.get()?, 42);
    println!("mp-lock works");
    Ok(())
}
