//! Every example does what its header says.
//!
//! A header contains the command, and in a `text` block what it prints: exactly, "in any order", or "with other" numbers.

use std::{fs, process::Command};

use crate::{Scratch, example, output, workspace};

/// The names of all examples, and the headers that their files begin with.
fn headers() -> Vec<(String, String)> {
    let files = fs::read_dir(workspace("mp-examples/examples")).unwrap().map(|entry| entry.unwrap().path());
    let programs = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let mut headers: Vec<_> = programs
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
            let header = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), header.join("\n"))
        })
        .collect();
    headers.sort();
    headers
}

/// The text before the last block, and the block.
fn promise(header: &str) -> (&str, &str) {
    let (before, rest) = header.rsplit_once("```text\n").expect("a block of text");
    let (block, _) = rest.split_once("```").expect("its end");
    (before.trim_end(), block)
}

/// Numbers, and the room that they take, made equal.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let character = if character.is_ascii_digit() || character == '.' { '#' } else { character };
        if !(matches!(character, '#' | ' ') && out.ends_with(character)) {
            out.push(character);
        }
    }
    out.replace(" #", "#")
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// The words after the `--` of the command in the header.
fn arguments(header: &str) -> Vec<&str> {
    let command = header.lines().find(|line| line.contains("cargo run")).expect("a command");
    let command = command.trim_matches('`').split('`').next().expect("text");
    let words = command.split_once(" -- ").map_or("", |(_, words)| words);
    words.split_whitespace().filter(|word| !word.starts_with('[')).collect()
}

/// A process that has this in its environment is one that a run has left behind.
fn processes_with(variable: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let left = all.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes())
    });
    left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_example_prints_what_its_header_says_and_leaves_nothing() {
    let scratch = Scratch::new("headers");
    let headers = headers();
    assert!(headers.len() >= 7, "the examples are gone");
    for (name, header) in headers {
        let command = format!("cargo run --release -p mp-examples --example {name}");
        assert!(header.contains(&command), "{name}: its header does not say {command:?}");
        // What they print depends on the directory that is given, and on the clock; `programs` has their tests.
        if ["tree_hash", "monitor"].contains(&name.as_str()) {
            continue;
        }
        let (before, expected) = promise(&header);
        let marker = format!("{name}-{}", std::process::id());
        let mut run: Command = example(&name);
        run.args(arguments(&header)).current_dir(&scratch.0).env("MP_EXAMPLES_RUN", &marker);
        let (printed, _) = output(&mut run);
        assert_eq!(processes_with(&format!("MP_EXAMPLES_RUN={marker}")), [""; 0], "{name} left processes");
        let how = before.rsplit("\n\n").next().expect("text");
        if how.contains("in any order") || how.contains("in this order") {
            assert_eq!(sorted(&printed), sorted(expected), "{name}");
        } else if how.contains("with other") {
            assert_eq!(without_numbers(&printed), without_numbers(expected), "{name}:\n{printed}");
        } else {
            assert_eq!(printed, expected, "{name}");
        }
    }
}

#[test]
fn the_python_program_prints_the_same() {
    let port = output(&mut example("python_port")).0;
    let python = Command::new("python3").arg(workspace("mp-examples/examples/python_port.py")).output();
    match python {
        Ok(python) => {
            let errors = String::from_utf8_lossy(&python.stderr);
            assert!(python.status.success(), "{errors}");
            assert_eq!(String::from_utf8(python.stdout).unwrap(), port);
        }
        Err(error) => eprintln!("not compared: there is no python3 here ({error})"),
    }
}

/// What the example measures is true: thousands of blocks later the process is no larger.
#[test]
fn an_endless_stream_costs_constant_memory() {
    let (text, _) = output(&mut example("imap_stream"));
    let sizes: Vec<f64> = text
        .lines()
        .filter_map(|line| line.rsplit_once("resident ")?.1.strip_suffix(" MiB")?.parse().ok())
        .collect();
    assert_eq!(sizes.len(), 5, "{text}");
    assert!(sizes[4] - sizes[0] < 2.0, "{text}");
}
