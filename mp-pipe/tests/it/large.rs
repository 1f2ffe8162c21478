//! Messages that are larger than the ring, much larger, and of every size around its edges.

use mp_core::{spawn, test_init};
use mp_pipe::{Connection, Receiver, pipe, simplex};

use crate::pattern;

const MIB: usize = 1 << 20;

fn echo(connection: Connection<()>) {
    let mut message = Vec::new();
    while connection.recv_bytes_to(&mut message).is_ok() {
        connection.send_bytes(&message).unwrap();
    }
}

#[test]
fn messages_around_the_size_of_the_ring_come_back() {
    test_init!();
    let (ours, theirs) = pipe::<(), ()>().unwrap();
    let child = spawn(echo, (theirs,)).unwrap();
    let ring = 64 * 1024;
    let sizes =
        (ring - 20..ring + 20).step_by(3).chain([0, 1, 7, 8, 9, 3 * ring, MIB, 5, 8 * MIB, 16 * MIB, 0]);
    for (i, size) in sizes.enumerate() {
        let message = pattern(i as u64, size);
        ours.send_bytes(&message).unwrap();
        assert!(ours.recv_bytes().unwrap() == message, "{size} bytes");
    }
    drop(ours);
    child.join().unwrap();
}

#[test]
fn a_gibibyte_arrives_whole_and_small_ones_around_it() {
    test_init!();
    fn check(receiver: Receiver<()>) -> (usize, bool) {
        assert_eq!(receiver.recv_bytes().unwrap(), b"before");
        let message = receiver.recv_bytes().unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), b"after");
        let block = pattern(7, MIB);
        (message.len(), message.chunks(MIB).all(|chunk| chunk == block))
    }
    let (receiver, sender) = simplex::<()>().unwrap();
    let child = spawn(check, (receiver,)).unwrap();
    let message = pattern(7, MIB).repeat(1024);
    sender.send_bytes(b"before").unwrap();
    sender.send_bytes(&message).unwrap();
    drop(message);
    sender.send_bytes(b"after").unwrap();
    assert_eq!(child.join().unwrap(), (1 << 30, true));
}
