//! Frames that no parent would send, and reports that no child would: whatever arrives, nobody calls what he should not.

use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use super::*;
use crate::{
    JoinError, Refusal, codec, fds,
    reaper::{Entry, Kind},
    start::{reexec, server},
    wire::{Call, Start, Surroundings, Wire},
};

fn double(x: u32) -> u32 {
    2 * x
}

/// Starts `double(21)` after `change` has falsified the frame, and says how that went.
fn falsified(method: StartMethod, change: impl FnOnce(&mut Plan)) -> Result<u32, JoinError> {
    crate::init_test();
    let trampoline = call::trampoline::<_, (u32,)>(double).offset().unwrap();
    let mut plan = Process::new().plan(role::ready().unwrap(), trampoline, (21_u32,), method).unwrap();
    change(&mut plan);
    Child::new(start::start(plan, method).unwrap()).join()
}

const METHODS: [StartMethod; 2] = [StartMethod::ReExec, StartMethod::ForkServer];

#[test]
fn a_frame_of_another_build_is_refused() {
    for method in METHODS {
        assert_eq!(falsified(method, |_| {}).unwrap(), 42);
        let error = falsified(method, |plan| plan.image = Fingerprint::Text(1, 2)).unwrap_err();
        assert!(matches!(error, JoinError::Refused { reason: Refusal::OtherBuild, .. }), "{error}");
    }
}

#[test]
fn a_place_that_is_no_function_is_refused() {
    for method in METHODS {
        // The anchor itself, the places near the right one, and the outside of the image.
        let right = call::trampoline::<_, (u32,)>(double).offset().unwrap();
        for offset in [0, right - 1, right + 1, right + 16, i64::MAX, i64::MIN, 1 << 40] {
            let error = falsified(method, |plan| plan.trampoline = offset).unwrap_err();
            assert!(matches!(error, JoinError::Refused { reason: Refusal::OtherImage, .. }), "{error}");
        }
    }
}

#[test]
fn arguments_that_do_not_decode_are_refused() {
    for method in METHODS {
        for bytes in [vec![], vec![1, 2, 3], vec![0xff; 10]] {
            let error = falsified(method, |plan| plan.arguments = Payload::Inline(bytes)).unwrap_err();
            assert!(matches!(error, JoinError::Refused { reason: Refusal::Arguments { .. }, .. }), "{error}");
        }
    }
}

#[test]
fn a_result_that_does_not_decode_is_an_error() {
    crate::init_test();
    for method in METHODS {
        let trampoline = call::trampoline::<_, (u32,)>(double).offset().unwrap();
        let plan = Process::new().plan(role::ready().unwrap(), trampoline, (21_u32,), method).unwrap();
        let child: Child<String> = Child::new(start::start(plan, method).unwrap());
        let error = child.join().unwrap_err();
        assert!(matches!(error, JoinError::ResultUndecodable { .. }), "{error}");
    }
}

/// Random enough, and the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Does one of several kinds of harm.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0..3 => bytes[at] ^= 1 << self.below(8),
            3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            4 => bytes.truncate(at.max(1)),
            5 => bytes.insert(at, self.below(256) as u8),
            6 => drop(bytes.remove(at)),
            _ => bytes[at..].iter_mut().for_each(|byte| *byte = self.below(256) as u8),
        }
    }
}

/// A frame that asks for `double(21)`, as bytes with the mark that says that they are all of it.
fn frame(method: StartMethod) -> (Start, Vec<u8>, Plan) {
    crate::init_test();
    let trampoline = call::trampoline::<_, (u32,)>(double).offset().unwrap();
    let mut plan = Process::new().plan(role::ready().unwrap(), trampoline, (21_u32,), method).unwrap();
    let forked = method == StartMethod::ForkServer;
    let surroundings = forked.then(|| Surroundings { clear: false, environment: Vec::new() });
    let start = plan.frame(method, surroundings, []).0;
    let mut bytes = vec![0];
    codec::append(&start, &mut bytes).unwrap();
    (start, bytes, plan)
}

/// A process that got a spoiled frame may do something else, or nothing, but it neither crashes nor stays.
fn ends_in_order(entry: &Entry, wire: Wire, what: &[u8]) {
    // Should it have become a fork server: it ends with the wire.
    drop(wire);
    let status = entry.wait(Instant::now().checked_add(Duration::from_secs(60))).unwrap();
    let status = status.unwrap_or_else(|| panic!("a process stayed after {what:?}"));
    let crash = matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE));
    assert!(!crash, "{status} after {what:?}");
}

#[test]
fn spoiled_frames_end_a_new_process_in_order() {
    let mut random = Random(0x5eed);
    for _ in 0..150 {
        let (start, mut bytes, plan) = frame(StartMethod::ReExec);
        random.spoil(&mut bytes);
        let (wire, theirs) = Wire::pair().unwrap();
        let mut command = reexec::command(&start.identity, plan.test.as_deref(), theirs);
        // It says what is wrong, each time.
        command.stderr(std::process::Stdio::null());
        let entry = reexec::execute_command(command, &start.identity, start.nonce, Kind::Ordinary).unwrap();
        fds::send(&wire, &bytes, &[], SendFlags::empty()).unwrap();
        ends_in_order(&entry, wire, &bytes);
    }
}

#[test]
fn spoiled_requests_end_or_refuse_in_order_and_the_fork_server_stays() {
    if cfg!(not(target_env = "gnu")) {
        // There is no fork server on musl.
        return;
    }
    let mut random = Random(0xface);
    let (_, _, plan) = frame(StartMethod::ForkServer);
    let server = server::begin(&plan).unwrap().unwrap();
    let mut made = 0;
    for _ in 0..300 {
        let (_, mut bytes, plan) = frame(StartMethod::ForkServer);
        random.spoil(&mut bytes);
        let (wire, theirs) = Wire::pair().unwrap();
        let directory = plan.directory().unwrap();
        fds::send(&server.wire, &bytes, &[theirs.as_fd(), directory.as_fd()], SendFlags::empty()).unwrap();
        drop(theirs);
        if let Ok(pid) = server.answer().unwrap().expect("the server is alive") {
            made += 1;
            let entry = Entry::adopt(pid, "victim".to_owned(), Kind::Ordinary).unwrap();
            ends_in_order(&entry, wire, &bytes);
        }
    }
    assert!(made > 0 && made < 300, "{made}");
}

#[test]
fn random_bytes_are_no_frame() {
    let mut random = Random(0xbad);
    for len in 0..2000 {
        let bytes: Vec<u8> = (0..len % 300).map(|_| random.below(256) as u8).collect();
        assert!(codec::read::<Start>(&bytes).is_err(), "{bytes:?}");
        let _ = codec::read::<Call>(&bytes);
        let _ = codec::read::<crate::wire::Report>(&bytes);
    }
}
