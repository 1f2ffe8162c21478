//! Nothing left to take: descriptors, also those that one had, processes, memory; and as much as one can send.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    JoinError, Process, StartError, active_children, fork_server_pid,
    kill_points::{close_descriptors, fork_and},
    shared::{PutError, Region, Ring, RingOptions, Wake},
    spawn, test_init,
    transfer::{Fd, encode},
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{End, FORKS, MACHINERY, METHODS, all_children, by, open_fds, program, settles, text};

#[test]
fn without_descriptors_a_start_is_an_error_and_nothing_is_lost() {
    test_init!();
    for warm in [false, true] {
        let child = Process::new().open_files(64).spawn(
            |warm: bool| {
                let start = |method| by(method).spawn(|x: u32| x, (5,));
                let both = || {
                    METHODS.iter().for_each(|method| assert_eq!(start(*method).unwrap().join().unwrap(), 5))
                };
                if warm {
                    both();
                }
                let mut refused = 0;
                // From none to more than enough.
                for left in 0..20 {
                    let mut taken: Vec<File> = Vec::new();
                    while let Ok(file) = File::open("/dev/null") {
                        taken.push(file);
                    }
                    taken.truncate(taken.len() - left);
                    for method in METHODS {
                        match start(method) {
                            Ok(child) => match child.join() {
                                Ok(result) => assert_eq!(result, 5),
                                Err(error) => panic!("{left} left: {error}"),
                            },
                            Err(StartError::System { .. } | StartError::Exec { .. }) => refused += 1,
                            Err(error) => panic!("{left} left: {error}"),
                        }
                    }
                    assert!(active_children().is_empty());
                }
                assert!(refused >= 8, "{refused}");
                both();
                let machinery = || open_fds().into_iter().filter(|(number, _)| *number > 2).count();
                settles(&MACHINERY, machinery);
                both();
                settles(&MACHINERY, machinery);
                assert_eq!(all_children(), Vec::from_iter(fork_server_pid()));
                assert_eq!(fork_server_pid().is_some(), FORKS);
            },
            (warm,),
        );
        child.unwrap().join().unwrap();
    }
}

#[test]
fn descriptors_that_others_take_at_any_moment_cost_an_error_at_most() {
    test_init!();
    let child = Process::new().open_files(40).spawn(
        || {
            static DONE: AtomicBool = AtomicBool::new(false);
            let taking = std::thread::spawn(|| {
                while !DONE.load(Ordering::Relaxed) {
                    let taken: Vec<_> =
                        std::iter::repeat_with(|| File::open("/dev/null")).map_while(Result::ok).collect();
                    drop(taken);
                }
            });
            let (mut started, mut refused) = (0, 0);
            let deadline = Instant::now() + Duration::from_secs(30);
            while (started < 20 || refused < 20) && Instant::now() < deadline {
                for method in METHODS {
                    match by(method).spawn(|x: u32| x, (5,)) {
                        // The result needs none; what keeps the child from being heard is an error, too.
                        Ok(child) => started += u32::from(child.join().is_ok()),
                        Err(StartError::System { .. } | StartError::Exec { .. }) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            DONE.store(true, Ordering::Relaxed);
            taking.join().unwrap();
            assert!(active_children().is_empty());
            let server = fork_server_pid();
            assert!(all_children().into_iter().all(|pid| Some(pid) == server));
            (started, refused)
        },
        (),
    );
    let (started, refused) = child.unwrap().join().unwrap();
    assert!(started > 0 && refused > 0, "{started} {refused}");
}

#[test]
fn handles_that_do_not_fit_the_child_are_an_error() {
    test_init!();
    for method in METHODS {
        let child = by(method).open_files(10).spawn(
            |method| {
                let files: Vec<End> = (0..4).map(|_| Fd(File::open("/dev/null").unwrap())).collect();
                // Each file once here, once on its way: more than there may be.
                by(method)
                    .spawn(|files: Vec<End>| files.len(), (files,))
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            },
            (method,),
        );
        let error = child.unwrap().join().unwrap().unwrap_err();
        assert!(error.contains("(os error 24)") && error.contains("`ulimit -n`"), "{error}");
        assert!(error.contains("process Process-") && !error.contains("type "), "{error}");
        // More than the child may have come back.
        let back = by(method).open_files(16).spawn(
            |_files: Vec<End>| {
                (0..9).map_while(|_| File::open("/dev/null").ok().map(Fd)).collect::<Vec<End>>()
            },
            ((0..40).map(|_| Fd(File::open("/dev/null").unwrap())).collect::<Vec<End>>(),),
        );
        assert!(back.unwrap().join().unwrap().len() < 9);
    }
}

#[test]
fn without_processes_a_start_is_an_error_and_works_again_later() {
    const NAME: &str = "scarcity::without_processes_a_start_is_an_error_and_works_again_later";
    let output = program(NAME, |command| {
        // The superuser may have as many as he likes.
        if rustix::process::geteuid().is_root() {
            command.uid(65534);
        }
    });
    let Some(output) = output else {
        test_init!();
        let limit = getrlimit(Resource::Nproc);
        setrlimit(Resource::Nproc, Rlimit { current: Some(1), ..limit }).unwrap();
        for method in METHODS {
            let error = by(method).spawn(|| (), ()).unwrap_err();
            assert!(matches!(error, StartError::Exec { .. } | StartError::System { .. }), "{error}");
        }
        setrlimit(Resource::Nproc, limit).unwrap();
        for method in METHODS {
            let child = by(method).spawn(|| 1, ()).unwrap();
            assert_eq!(child.join().unwrap(), 1);
        }
        println!("refused, then started");
        return;
    };
    assert!(text(&output.stdout).contains("refused, then started"), "{}", text(&output.stderr));
}

#[test]
fn what_exceeds_the_limit_on_files_is_an_error_and_no_signal() {
    test_init!();
    const LIMIT: usize = 1 << 20;
    fn limit() {
        let limit = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(LIMIT as u64), ..limit }).unwrap();
    }
    let child = spawn(
        || {
            limit();
            let region = Region::create(LIMIT / 2).unwrap();
            for error in [Region::create(LIMIT).unwrap_err(), region.extend(LIMIT as u64).unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains("File too large") && error.contains("`ulimit -f`"), "{error}");
            }
            // A ring takes what it uses.
            let ring = Ring::create(RingOptions::default()).unwrap();
            let put = |len| ring.put(&vec![1; len], 0, None, Wake::Word, || Ok(()));
            put(1000).unwrap();
            put(LIMIT / 8).unwrap();
            let error = put(2 * LIMIT).unwrap_err();
            assert!(matches!(error, PutError::Memory(_)), "{error}");
            assert!(error.to_string().contains("`ulimit -f`"), "{error}");
            put(1000).unwrap();
            for len in [1000, LIMIT / 8, 1000] {
                let mut message = Vec::new();
                ring.get(&mut message, None, &mut |_| Ok(())).unwrap();
                assert_eq!(message, vec![1; len]);
            }
            for method in METHODS {
                let send = |len| by(method).spawn(|text: String| text.len(), ("x".repeat(len),));
                assert_eq!(send(LIMIT / 2).unwrap().join().unwrap(), LIMIT / 2);
                let error = send(2 * LIMIT).unwrap_err();
                assert!(error.to_string().contains("File too large"), "{error}");
            }
        },
        (),
    );
    child.unwrap().join().unwrap();
    let back = || {
        limit();
        "x".repeat(2 * LIMIT)
    };
    let error = spawn(back, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::ResultNotSent { .. }), "{error:?}");
}

#[test]
fn a_value_for_which_there_is_no_memory_is_an_error() {
    test_init!();
    /// More than there may be.
    struct Large;

    impl serde::Serialize for Large {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let part = "x".repeat(1 << 20);
            serializer.collect_seq((0..4096).map(|_| &part))
        }
    }

    impl<'de> serde::Deserialize<'de> for Large {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            unreachable!("it never arrives")
        }
    }

    let child = Process::new().address_space(1 << 30).spawn(
        || {
            assert!(encode(&Large).is_err());
            let error = spawn(|_: Large| (), (Large,)).unwrap_err();
            assert!(matches!(error, StartError::Arguments(_)), "{error}");
        },
        (),
    );
    child.unwrap().join().unwrap();
    let error = Process::new().address_space(1 << 30).spawn(|| Large, ()).unwrap().join().err().unwrap();
    assert!(matches!(error, JoinError::ResultNotSent { .. }), "{error:?}");
}

#[test]
fn an_argument_of_one_gibibyte_arrives() {
    test_init!();
    let size = 1 << 30;
    let check = |text: String| (text.len(), text.bytes().step_by(4096).all(|byte| byte == b'x'));
    let child = spawn(check, ("x".repeat(size),)).unwrap();
    assert_eq!(child.join().unwrap(), (size, true));
}

/// Whether a ring leaves the files of others alone whose descriptors have got the number of its own.
fn closed_behind_its_back() -> bool {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let put = |ring: &Ring, len| ring.put(&vec![1; len], 0, None, Wake::Word, || Ok(()));
    for len in [1000, 300_000] {
        put(&ring, len).unwrap();
    }
    close_descriptors();
    let text = vec![b'x'; 1 << 20];
    let files: Vec<File> = (0..64)
        .map(|_| {
            let mut file = File::from(memfd_create("other", MemfdFlags::CLOEXEC).unwrap());
            file.write_all(&text).unwrap();
            file
        })
        .collect();
    // What would need a larger segment, and gives one back.
    assert!(matches!(put(&ring, 3_000_000), Err(PutError::Memory(_))));
    let mut got = Vec::new();
    while ring.get(&mut got, Some(Instant::now()), |_| Ok(())).is_ok() {}
    assert_eq!(got, vec![1; 301_000]);
    // Its number is a file's now, which std would find out when both are closed.
    std::mem::forget(ring);
    files.iter().all(|file| {
        let mut now = Vec::new();
        (&*file).seek(SeekFrom::Start(0)).unwrap();
        (&*file).read_to_end(&mut now).unwrap();
        now == text
    })
}

#[test]
fn a_ring_whose_descriptor_was_closed_changes_no_other_file() {
    test_init!();
    // The fork has descriptors of its own.
    let child = spawn(|| fork_and(|| assert!(closed_behind_its_back())).unwrap(), ());
    assert!(child.unwrap().join().unwrap());
}
