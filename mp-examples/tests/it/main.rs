//! The examples, and what a program sees that does it wrong.

use std::{fs, process::Command};

mod misuse;
mod programs;

/// The examples are built with the tests, beside the directory of this program.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    Command::new(own.ancestors().nth(2).unwrap().join("examples").join(name))
}

fn children_of(parent: u32) -> Vec<u32> {
    let of_parent = format!("\nPPid:\t{parent}\n");
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&of_parent))
    })
    .collect()
}

/// A program that is killed in the middle takes its children along, which run the same image.
#[test]
fn a_killed_example_leaves_no_process() {
    // It sleeps between its letters: there is time.
    let mut running = example("queue").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(running.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    let children = children_of(running.id());
    assert!(!children.is_empty());
    let image = fs::read_link(format!("/proc/{}/exe", running.id())).unwrap();
    for child in &children {
        assert_eq!(
            fs::read_link(format!("/proc/{child}/exe")).unwrap(),
            image,
            "a child runs another program"
        );
    }
    running.kill().unwrap();
    running.wait().unwrap();
    // The end of the stream: every process that had it is gone.
    std::io::Read::read_to_string(&mut lines, &mut line).unwrap();
}
