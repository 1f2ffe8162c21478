//! Connections in an async runtime: tokio waits for the descriptor, a try receives.
//!
//! `cargo run -p mp-pipe --example tokio` prints:
//!
//! ```text
//! both are awaited while time goes on
//! 6 * 7 = 42
//! 7 * 6 = 42
//! the other end is gone
//! ```
#![cfg_attr(not(unix), no_main)]
#![cfg(unix)]

use std::{error::Error, os::fd::BorrowedFd, time::Duration};

use mp_pipe::{Connection, RecvError, pipe};
use tokio::io::{Interest, unix::AsyncFd};

/// A connection, known to the runtime.
struct Async<'a, S, R> {
    connection: &'a Connection<S, R>,
    ready: AsyncFd<BorrowedFd<'a>>,
}

impl<'a, S, R: serde::de::DeserializeOwned> Async<'a, S, R> {
    fn new(connection: &'a Connection<S, R>) -> std::io::Result<Self> {
        use std::os::fd::AsFd;
        // What newer versions of tokio ask for instead is a promise in an `unsafe` block: that the descriptor stays open
        // for as long as it is registered. The lifetime of the borrowed one sees to that.
        #[allow(deprecated, reason = "the promise is kept by the type")]
        let ready = AsyncFd::with_interest(connection.as_fd(), Interest::READABLE)?;
        Ok(Self { connection, ready })
    }

    async fn recv(&self) -> Result<R, RecvError> {
        loop {
            // The descriptor becomes readable for what comes after a try that found nothing: so first the try.
            match self.connection.try_recv() {
                Err(RecvError::Empty) => {}
                outcome => return outcome,
            }
            let mut ready = self.ready.readable().await.map_err(RecvError::System)?;
            match self.connection.try_recv() {
                Err(RecvError::Empty) => ready.clear_ready(),
                outcome => return outcome,
            }
        }
    }
}

fn multiply(connection: Connection<u32, (u32, u32)>) {
    while let Ok((a, b)) = connection.recv() {
        if connection.send(&(a * b)).is_err() {
            return;
        }
    }
}

/// What the example prints.
pub fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let (one, theirs) = pipe()?;
    let first = mp_core::spawn(multiply, (theirs,))?;
    let (other, theirs) = pipe()?;
    mp_core::spawn(multiply, (theirs,))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut lines = Vec::new();
        let (one, other) = (Async::new(&one)?, Async::new(&other)?);
        tokio::select! {
            answer = one.recv() => panic!("nobody has asked: {answer:?}"),
            answer = other.recv() => panic!("nobody has asked: {answer:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        lines.push("both are awaited while time goes on".to_owned());
        // A send waits while the connection is full; `try_send` does not.
        one.connection.send(&(6, 7))?;
        other.connection.send(&(7, 6))?;
        let (left, right) = tokio::try_join!(one.recv(), other.recv())?;
        lines.push(format!("6 * 7 = {left}"));
        lines.push(format!("7 * 6 = {right}"));
        // Many more, so that some of them meet a sleeping end and some do not.
        for number in 0..2000 {
            one.connection.send(&(number, 1))?;
            assert_eq!(one.recv().await?, number);
        }
        first.kill()?;
        assert!(matches!(one.recv().await, Err(RecvError::Disconnected)));
        lines.push("the other end is gone".to_owned());
        Ok(lines)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    mp_core::init();
    for line in run()? {
        println!("{line}");
    }
    Ok(())
}
