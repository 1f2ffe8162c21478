fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    let child = mp_core::spawn(|name: String| format!("{name} works"), ("mp-core".to_owned(),))?;
    println!("{}", child.join()?);
    Ok(())
}
