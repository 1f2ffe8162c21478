use mp_pipe::{Connection, pipe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    let (ours, theirs) = pipe::<String, String>()?;
    let answer = |it: Connection<String, String>| it.send(&format!("{} works", it.recv().unwrap())).unwrap();
    let child = mp_core::spawn(answer, (theirs,))?;
    ours.send("mp-pipe")?;
    println!("{}", ours.recv()?);
    child.join()?;
    Ok(())
}
