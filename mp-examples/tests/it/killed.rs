//! Programs that are killed in the middle.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use crate::example;

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
    let mut running = example("queue").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(running.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
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
    lines.read_to_string(&mut line).unwrap();
}
