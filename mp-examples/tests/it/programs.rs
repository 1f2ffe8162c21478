//! What the headers of the examples do not say.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
};

use crate::{Scratch, example, output};

#[test]
fn process() {
    let (text, _) = output(&mut example("process"));
    let lines: Vec<_> = text.lines().collect();
    let number = |line: &str, before: &str, after: &str| -> u32 {
        line.strip_prefix(before).and_then(|line| line.strip_suffix(after)).unwrap().parse().unwrap()
    };
    let parent = number(lines[0], "Parent process ", ".");
    assert_eq!(lines[1], "Process will start.");
    let child = number(lines[2], "Run child process test (", ")...");
    assert_eq!(lines[3], "Process end.");
    assert_eq!(lines.len(), 4);
    assert_ne!(parent, child);
}

#[test]
fn queue() {
    let (text, _) = output(&mut example("queue"));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    let position = |line: String| lines.iter().position(|other| **other == line).unwrap();
    let mut before = 0;
    for letter in ["A", "B", "C"] {
        let put = position(format!("Put {letter} to queue..."));
        let get = position(format!("Get {letter} from queue."));
        assert!(before <= put && put < get, "{text}");
        before = put;
    }
}

#[test]
fn monitor() {
    let (text, _) = output(&mut example("monitor"));
    let line =
        |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}"));
    for worker in 1..=4 {
        line(&format!("worker-{worker} "));
    }
    assert_eq!(line("total").split_whitespace().nth(1), Some("400"), "{text}");
    // 150 ms beside a dozen at most; only a machine that stalls for longer than that can make another one slower.
    let slowest = text.split("slowest tasks:").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(slowest.contains("item 77 in worker-"), "{text}");
    assert!(!text.contains('\u{1b}'), "no table is drawn over another where there is no terminal: {text}");
}

/// The first of the two commands of the README: its stations, and no more lines than fit a screen.
#[test]
fn tour() {
    let (text, summary) = output(&mut Command::new(env!("CARGO_BIN_EXE_mp-examples")));
    for station in ["pool", "process", "queue", "pipe", "lock", "tree_hash"] {
        assert!(text.contains(&format!("== {station}: ")), "{text}");
    }
    let (_, hashes) = text.split_once("every file of this workspace\n").unwrap();
    assert_eq!(hashes.lines().count(), 11, "{text}");
    assert!(hashes.contains("  ./.ci/package\n"), "{text}");
    let files: u64 = summary.split(" files, ").next().unwrap().parse().unwrap();
    assert!(hashes.contains(&format!("... and {} more: ", files - 10)), "{text}\n{summary}");
}

fn odd_tree(root: &Path) {
    let deep = root.join("a directory").join("b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("with space"), b"1").unwrap();
    fs::write(root.join("with\nnewline"), b"2").unwrap();
    fs::write(root.join("with\\backslash"), b"3").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8")), b"4").unwrap();
    fs::write(deep.join("large"), vec![5; 3_000_000]).unwrap();
    symlink(deep.join("large"), root.join("link")).unwrap();
    symlink(&deep, root.join("link to a directory")).unwrap();
}

#[test]
fn tree_hash_prints_what_sha256sum_prints() {
    let scratch = Scratch::new("odd");
    odd_tree(&scratch.0);
    for workers in ["1", "3"] {
        let ours = example("tree_hash").arg(&scratch.0).args(["--workers", workers]).output().unwrap();
        let summary = String::from_utf8_lossy(&ours.stderr).into_owned();
        assert!(ours.status.success(), "{summary}");
        assert!(summary.starts_with("6 files, 3000004 bytes, "), "{summary}");
        assert!(summary.contains(&format!("{workers} workers")), "{summary}");
        let theirs = Command::new("sh")
            .args(["-c", "find \"$1\" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum", "sh"])
            .arg(&scratch.0)
            .output();
        if let Ok(theirs) = theirs
            && theirs.status.success()
        {
            assert_eq!(ours.stdout, theirs.stdout);
        }
        assert_eq!(ours.stdout.iter().filter(|byte| **byte == b'\n').count(), 6);
    }
}

#[test]
fn tree_hash_reports_what_it_cannot_read_and_does_the_rest() {
    let scratch = Scratch::new("unreadable");
    fs::write(scratch.0.join("fine"), b"1").unwrap();
    fs::write(scratch.0.join("secret"), b"2").unwrap();
    fs::set_permissions(scratch.0.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let readable_anyway = fs::read(scratch.0.join("secret")).is_ok();
    let output = example("tree_hash").arg(&scratch.0).output().unwrap();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if readable_anyway {
        // For root nothing is unreadable; a directory that is not there is.
        assert_eq!((output.status.code(), lines), (Some(0), 2));
        let missing = example("tree_hash").arg(scratch.0.join("missing")).output().unwrap();
        assert_eq!(missing.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&missing.stderr).contains("missing: "));
    } else {
        assert_eq!((output.status.code(), lines), (Some(1), 1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("secret: Permission denied"));
    }
}

#[test]
fn tree_hash_explains_its_arguments() {
    for arguments in [&[][..], &["--workers"], &["a", "b"], &["--what"]] {
        let output = example("tree_hash").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: "));
    }
    let output = example("tree_hash").args([".", "--workers", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at least 1"));
}
