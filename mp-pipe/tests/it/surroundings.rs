//! Connections in programs that fork, that run out of descriptors, and with peers that send too many.

use std::{fs::File, os::fd::AsFd, time::Duration};

use mp_core::{Process, fds, kill_points::fork_and, os::net::SendFlags, test_init, transfer::Fd};
use mp_pipe::{RecvError, pipe, simplex};

/// Generous, because the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_fork_that_drops_its_copy_ends_nothing() {
    test_init!();
    fn drop_in_a_fork() {
        let (ours, theirs) = pipe::<u32, u32>().unwrap();
        let (receiver, sender) = simplex::<u32>().unwrap();
        let (mut inside, mut outside) = (Some((ours, theirs)), Some((receiver, sender)));
        assert!(fork_and(|| drop((inside.take(), outside.take()))).unwrap());
        // What the fork has taken it has taken from its own memory.
        let ((ours, theirs), (receiver, sender)) = (inside.unwrap(), outside.unwrap());
        ours.send(&1).unwrap();
        theirs.send(&2).unwrap();
        sender.send(&3).unwrap();
        assert_eq!((theirs.recv().unwrap(), ours.recv().unwrap(), receiver.recv().unwrap()), (1, 2, 3));
        drop((theirs, sender));
        assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    }
    Process::new().daemon(true).spawn(drop_in_a_fork, ()).unwrap().join_timeout(SOON).unwrap();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_moment_without_descriptors_costs_one_message_its_handles() {
    test_init!();
    fn run_out() {
        let (receiver, sender) = simplex::<Fd<File>>().unwrap();
        let null = Fd(File::open("/dev/null").unwrap());
        (0..3).for_each(|_| sender.send(&null).unwrap());
        let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!(!all.is_empty() && matches!(receiver.try_recv(), Err(RecvError::Handles(_))));
        drop(all);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok());
        assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    }
    let child = Process::new().daemon(true).open_files(60).spawn(run_out, ()).unwrap();
    child.join_timeout(SOON).unwrap();
}

#[test]
fn handles_of_messages_that_never_come_are_not_collected() {
    test_init!();
    fn be_flooded() {
        let (receiver, sender) = simplex::<Fd<File>>().unwrap();
        let null = Fd(File::open("/dev/null").unwrap());
        let before = descriptors();
        for round in 0_u64..50 {
            // What a sender sends before its message, and what is left of one that dies then.
            for tag in 0_u64..5 {
                let tag = 6 + 100 * (5 * round + tag);
                let packet = tag.to_le_bytes();
                fds::send(&sender, &packet, &[null.0.as_fd(); 2], SendFlags::empty()).unwrap();
            }
            assert!(matches!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvError::Empty)));
            sender.send(&null).unwrap();
            receiver.recv().unwrap();
        }
        assert!(descriptors() <= before + 2, "{} descriptors, {before} before", descriptors());
    }
    Process::new().daemon(true).spawn(be_flooded, ()).unwrap().join_timeout(SOON).unwrap();
}
