//! Python's own scenarios for processes (`_TestProcess`, `_TestSubclassingProcess` and the small classes around them), by
//! their ids.
//!
//! Those that belong to a larger subject stand there: P1, P3 to P5, P9, P13, P16 in `family.rs`; P2, P6, P7, P10, P11, P13
//! in `life.rs`; P14, P15 (and `TestCloseFds`), P17, S2 in `surroundings.rs`; P18 in `server.rs`; S3 in `errors.rs`;
//! `TestNoForkBomb` in `programs.rs`; `TestIgnoreEINTR` and the signal mask of `TestResourceTracker` in `signals.rs`. P19
//! (a client of the fork server without the key) has no counterpart: the server has no address, only its parent has the
//! other end.

use std::io::{BufRead, BufReader, Read, Write};

use mp_core::{JoinError, Process, cpu_count, current_process, spawn, start_method, test_init, transfer::Fd};

use crate::common::{
    End, MACHINERY, METHODS, by, open_fds, pipe, read_all, read_line, settles, sleep_long, tell,
};

#[test]
fn p8_there_is_a_cpu_and_not_more_than_this_process_may_use() {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap().count();
    assert!((1..=allowed as usize).contains(&cpu_count().get()));
}

#[test]
fn p12_after_the_end_a_handle_is_harmless_and_dropping_it_frees_all() {
    test_init!();
    spawn(
        || {
            let once = |method| {
                let child = by(method).spawn(sleep_long, ()).unwrap();
                assert!(child.is_alive());
                child.kill().unwrap();
                assert!(child.join().is_err());
                for _ in 0..2 {
                    assert!(matches!(child.join(), Err(JoinError::AlreadyJoined { .. })));
                    assert!(matches!(child.try_join(), Err(JoinError::AlreadyJoined { .. })));
                    assert!(!child.is_alive());
                    assert_eq!(child.exit_status().unwrap().signal(), Some(9));
                    child.terminate().unwrap();
                    child.interrupt().unwrap();
                    child.kill().unwrap();
                }
            };
            METHODS.into_iter().for_each(once);
            let machinery = || open_fds().into_iter().filter(|(number, _)| *number > 2).count();
            settles(&MACHINERY, machinery);
            METHODS.into_iter().for_each(once);
            settles(&MACHINERY, machinery);
        },
        (),
    )
    .unwrap()
    .join()
    .unwrap();
}

#[test]
fn s1_a_child_answers_in_upper_case_until_it_is_told_to_stop() {
    test_init!();
    fn upper(requests: End, answers: End) -> u32 {
        let mut count = 0;
        for line in BufReader::new(requests.0).lines().map(Result::unwrap) {
            if line == "stop" {
                break;
            }
            tell(&answers, &format!("{}\n", line.to_uppercase()));
            count += 1;
        }
        count
    }
    for method in METHODS {
        let (theirs, requests) = pipe();
        let (answers, their_answers) = pipe();
        let child = by(method).name("uppercaser").spawn(upper, (theirs, their_answers)).unwrap();
        for (text, expected) in [("hello", "HELLO"), ("world", "WORLD")] {
            tell(&requests, &format!("{text}\n"));
            assert_eq!(read_line(&answers), expected);
        }
        tell(&requests, "stop\n");
        assert_eq!(child.join().unwrap(), 2);
        assert_eq!(read_all(&answers), "");
    }
}

#[test]
fn at_exit_the_hooks_of_a_child_run_when_its_function_has_returned() {
    test_init!();
    extern "C" fn hook() {
        let _ = std::io::stdout().write_all(b"hook\n");
    }
    for method in METHODS {
        let (out, theirs) = pipe();
        let run = || {
            mp_core::kill_points::at_exit(hook);
            print!("function, ");
        };
        let child = by(method).stdout(std::os::fd::OwnedFd::from(theirs.0)).spawn(run, ()).unwrap();
        child.join().unwrap();
        assert_eq!(read_all(&out), "function, hook\n");
    }
}

#[test]
fn start_method_a_child_passes_on_what_it_was_passed() {
    test_init!();
    fn generation(depth: u32, out: End) {
        tell(&out, &format!("{depth}:{:?} ", current_process().start_method.unwrap()));
        if depth > 0 {
            let theirs = Fd(out.0.try_clone().unwrap());
            by(METHODS[depth as usize % 2]).spawn(generation, (depth - 1, theirs)).unwrap().join().unwrap();
        }
    }
    let (said, saying) = pipe();
    by(METHODS[1]).spawn(generation, (2, saying)).unwrap().join().unwrap();
    let [even, odd] = [METHODS[1], METHODS[0]];
    assert_eq!(read_all(&said), format!("2:{even:?} 1:{odd:?} 0:{even:?} "));
    assert_eq!(start_method(), METHODS[0]);
}

#[test]
fn stdin_a_child_whose_own_input_is_closed_uses_processes() {
    test_init!();
    for method in METHODS {
        let middle = by(method).spawn(
            |method| {
                mp_core::kill_points::close_streams();
                let (reading, writing) = pipe();
                let child = by(method).spawn(
                    |writing: End| {
                        let mut nothing = String::new();
                        std::io::stdin().read_to_string(&mut nothing).unwrap();
                        tell(&writing, "input ends");
                        nothing
                    },
                    (writing,),
                );
                let nothing = child.unwrap().join().unwrap();
                (nothing, read_all(&reading))
            },
            (method,),
        );
        assert_eq!(middle.unwrap().join().unwrap(), (String::new(), "input ends".to_owned()));
    }
}

#[test]
fn fork_aware_five_generations_hold_nothing_of_their_ancestors() {
    test_init!();
    /// How many descriptors each generation has when it begins, the last first.
    fn generation(left: u32) -> Vec<usize> {
        let own = open_fds().len();
        let mut counts = match left {
            0 => Vec::new(),
            _ => Process::new()
                .start_method(start_method())
                .spawn(generation, (left - 1,))
                .unwrap()
                .join()
                .unwrap(),
        };
        counts.push(own);
        counts
    }
    for method in METHODS {
        let first = by(method).spawn(
            |method| {
                mp_core::set_start_method(method);
                spawn(generation, (4,)).unwrap().join().unwrap()
            },
            (method,),
        );
        let counts = first.unwrap().join().unwrap();
        assert_eq!(counts.len(), 5);
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    }
}
