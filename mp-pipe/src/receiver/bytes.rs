//! Messages of bytes, without a type.

use std::time::{Duration, Instant};

use mp_core::transfer;

use super::Receiver;
use crate::error::RecvError;

impl<T> Receiver<T> {
    /// Receives the next message as bytes, as [`Sender::send_bytes`](crate::Sender::send_bytes) sent them; blocks until
    /// there is one. Python: `recv_bytes()`.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<()>()?;
    /// sender.send_bytes(b"")?;
    /// assert_eq!(receiver.recv_bytes()?, b"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Receiver::recv`].
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let mut bytes = Vec::new();
        self.recv_encoded(&mut bytes, None)?;
        Ok(bytes)
    }

    /// Receives the next message as bytes if there is one.
    ///
    /// ```
    /// use mp_pipe::{RecvError, simplex};
    ///
    /// let (receiver, sender) = simplex::<()>()?;
    /// assert!(matches!(receiver.try_recv_bytes(), Err(RecvError::Empty)));
    /// sender.send_bytes(b"x")?;
    /// assert_eq!(receiver.try_recv_bytes()?, b"x");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Receiver::try_recv`].
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let mut bytes = Vec::new();
        self.recv_encoded(&mut bytes, Some(Instant::now()))?;
        Ok(bytes)
    }

    /// Receives the next message as bytes, waiting for it at most for `timeout`, never less.
    ///
    /// ```
    /// use mp_pipe::{RecvError, simplex};
    /// use std::time::Duration;
    ///
    /// let (receiver, _sender) = simplex::<()>()?;
    /// let outcome = receiver.recv_bytes_timeout(Duration::from_millis(5));
    /// assert!(matches!(outcome, Err(RecvError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Receiver::recv_timeout`].
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        let mut bytes = Vec::new();
        self.recv_encoded(&mut bytes, Instant::now().checked_add(timeout))?;
        Ok(bytes)
    }

    /// Receives the next message as bytes into `buffer`, which grows if it must, and whose memory is used again: the
    /// fastest way to receive many large messages. Returns the length; blocks until there is a message.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<()>()?;
    /// let mut buffer = Vec::new();
    /// for message in ["one", "two"] {
    ///     sender.send_bytes(message.as_bytes())?;
    ///     assert_eq!(receiver.recv_bytes_to(&mut buffer)?, 3);
    ///     assert_eq!(buffer, message.as_bytes());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Receiver::recv`]; the buffer is empty then.
    pub fn recv_bytes_to(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvError> {
        buffer.clear();
        self.recv_encoded(buffer, None)?;
        Ok(buffer.len())
    }

    /// Receives the next message as bytes into the front of `buffer` and returns its length; blocks until there is one.
    /// Python: `recv_bytes_into()`; for its `offset` there are slices.
    ///
    /// ```
    /// use mp_pipe::{RecvError, simplex};
    ///
    /// let (receiver, sender) = simplex::<()>()?;
    /// sender.send_bytes(b"fits")?;
    /// sender.send_bytes(b"does not")?;
    /// let mut buffer = [0; 4];
    /// assert_eq!(receiver.recv_bytes_into(&mut buffer)?, 4);
    /// match receiver.recv_bytes_into(&mut buffer) {
    ///     Err(RecvError::BufferTooShort { message, .. }) => assert_eq!(message, b"does not"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::BufferTooShort`] carries a message that is longer than the buffer; else as [`Receiver::recv`].
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        transfer::with_buffer(|message| {
            self.recv_encoded(message, None)?;
            match buffer.get_mut(..message.len()) {
                Some(place) => {
                    place.copy_from_slice(message);
                    Ok(message.len())
                }
                None => {
                    Err(RecvError::BufferTooShort { message: std::mem::take(message), buffer: buffer.len() })
                }
            }
        })
    }
}
