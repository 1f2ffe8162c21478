//! Channels among strangers, forks, crowds, and with peers that lie.

use std::{
    fs::File,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mp_core::{
    Child, Process, StartMethod, fds,
    kill_points::fork_and,
    spawn, test_init,
    transfer::{Fd, decode, encode},
};
use mp_pipe::{ChannelSender, RecvError, SendError, channel};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, bind, sendmsg, socket_with,
    },
    process::{Signal, set_parent_process_death_signal},
};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_bytes::ByteBuf;

/// Sends what says that its bytes are in a file, which is `file`.
fn send_outside(sender: &ChannelSender<u32>, file: BorrowedFd<'_>) {
    let parcel = encode(sender).unwrap();
    let handles = parcel.handles.into_iter().map(|handle| handle.into_fd().unwrap()).collect();
    let socket: Fd<OwnedFd> = decode(&parcel.bytes, handles).unwrap();
    let (bag, mouth) = fds::pair().unwrap();
    fds::send(&mouth, &[], &[file], SendFlags::DONTWAIT).unwrap();
    // ipc-channel's header (the packet's length, the message's), and a packet of channels: no bytes, outside, a bag.
    let message = [0, 1, 1, 0];
    let packet = [&20_u64.to_ne_bytes()[..], &4_u64.to_ne_bytes(), &message].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [bag.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    sendmsg(&socket.0, &[IoSlice::new(&packet)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn what_is_no_memory_of_a_message_is_an_error_and_the_next_one_arrives() {
    test_init!();
    /// Where a gigabyte is the end.
    fn receive(from: mp_pipe::ChannelReceiver<u32>) -> Vec<String> {
        let error = |_| match from.recv() {
            Err(error @ RecvError::Handles(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let errors = (0..4).map(error).collect();
        assert_eq!(from.recv().unwrap(), 7);
        errors
    }
    let (sender, from) = channel::<u32>().unwrap();
    let child = Process::new().address_space(1 << 30).spawn(receive, (from,)).unwrap();
    send_outside(&sender, File::open("/dev/zero").unwrap().as_fd());
    // A file that can be read, but is on a disk, and could be a million times as large.
    send_outside(&sender, File::open("/proc/self/exe").unwrap().as_fd());
    let (empty_pipe, _open) = std::io::pipe().unwrap();
    send_outside(&sender, empty_pipe.as_fd());
    let holes = memfd_create("holes", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&holes, 1 << 40).unwrap();
    send_outside(&sender, holes.as_fd());
    sender.send(&7).unwrap();
    for error in child.join().unwrap() {
        assert!(error.contains("is not the memory of a message"), "{error}");
    }
}

/// Says when it is encoded, if it is large.
#[derive(Deserialize)]
struct Announced(ByteBuf);

static ENCODED: AtomicBool = AtomicBool::new(false);

impl Serialize for Announced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let done = self.0.serialize(serializer);
        ENCODED.store(self.0.len() > 1000, Ordering::SeqCst);
        done
    }
}

/// What looks for room before it puts a large message aside may find none afterwards.
#[test]
fn no_try_and_no_time_out_waits_for_room_that_others_have_taken() {
    let small = Announced(ByteBuf::from(vec![1; 100]));
    let large = Announced(ByteBuf::from(vec![1; 32 << 20]));
    for timeout in [None, Some(Duration::from_millis(1))] {
        let (sender, receiver) = channel::<Announced>().unwrap();
        ENCODED.store(false, Ordering::SeqCst);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                while !ENCODED.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                while !stop.load(Ordering::SeqCst) {
                    sender.send(&small).unwrap();
                }
            });
            let one = scope.spawn(|| match timeout {
                None => sender.try_send(&large),
                Some(timeout) => sender.send_timeout(&large, timeout),
            });
            // Nobody receives meanwhile.
            let begin = Instant::now();
            while !one.is_finished() && begin.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
            let in_time = one.is_finished();
            stop.store(true, Ordering::SeqCst);
            while !(one.is_finished() && others.is_finished()) {
                let _ = receiver.recv_timeout(Duration::from_millis(1));
            }
            assert!(in_time, "{timeout:?}");
            assert!(matches!(one.join().unwrap(), Ok(()) | Err(SendError::Full)));
        });
    }
}

fn end<T: DeserializeOwned>(child: &Child<T>) -> T {
    match child.join_timeout(Duration::from_secs(60)) {
        Ok(result) => result,
        Err(error) => {
            let _ = child.kill();
            panic!("{error}");
        }
    }
}

/// Makes channels, each of which must bring what was sent into it.
fn make_channels(who: u32, count: u32) {
    for i in 0..count {
        let (sender, receiver) = channel::<(u32, u32)>().unwrap();
        sender.try_send(&(who, i)).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)).unwrap(), (who, i));
    }
}

fn make_channels_in_a_fork(who: u32) {
    // Should it hang, it ends with the one that is watched.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    make_channels(who, 20);
}

#[test]
fn a_fork_has_channels_of_its_own() {
    test_init!();
    fn fork_and_make() -> bool {
        make_channels(0, 1);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    make_channels(1, 1);
                }
            });
            // Fork after fork, so that some begin while the other thread is at the exchange; and a fork of a fork.
            let all = (0..100).all(|_| {
                fork_and(|| {
                    make_channels_in_a_fork(2);
                    assert!(fork_and(|| make_channels_in_a_fork(3)).unwrap());
                    make_channels(2, 20);
                })
                .unwrap()
            });
            done.store(true, Ordering::SeqCst);
            all
        })
    }
    assert!(end(&spawn(fork_and_make, ()).unwrap()));
}

fn hello() -> Result<(), String> {
    let (sender, receiver) = channel::<u32>().map_err(|error| error.to_string())?;
    sender.send(&1).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
    Ok(())
}

#[test]
fn a_channel_needs_no_file_unless_the_name_without_one_is_taken() {
    test_init!();
    let directory = std::env::temp_dir().join(format!("mp-channel-test-{}", std::process::id()));
    let say_hello = || {
        let process = Process::new().start_method(StartMethod::ReExec).env("TMPDIR", &directory);
        end(&process.spawn(hello, ()).unwrap())
    };
    // There is no directory. Another test, or program, may have the name at this moment.
    assert!((0..200).any(|_| say_hello().is_ok()));

    let taken = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let zeros = SocketAddrUnix::new_abstract_name(&[0; 107]).unwrap();
    while bind(&taken, &zeros).is_err() {
        thread::yield_now();
    }
    let error = say_hello().unwrap_err();
    assert!(error.starts_with("a channel cannot be made: ipc-channel could not be handed"), "{error}");
    std::fs::create_dir(&directory).unwrap();
    say_hello().unwrap();
    // Nothing is left in it.
    std::fs::remove_dir(&directory).unwrap();
}
