//! A library with a copy of this crate in it, as a plug-in has, or an extension of another language: built and loaded by a test.

/// Says what becomes of a start from here.
#[unsafe(no_mangle)]
pub extern "C" fn start_from_a_library() {
    let start = || {
        mp_core::test_init!();
        match mp_core::spawn(|| (), ()) {
            Err(error @ mp_core::StartError::OtherImage) => println!("from a library: {error}"),
            other => println!("it should be another error: {other:?}"),
        }
    };
    // A test has a name, which this copy of the standard library knows of its own threads only.
    std::thread::Builder::new().name("plugin".to_owned()).spawn(start).unwrap().join().unwrap();
}
