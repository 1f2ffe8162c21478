//! The README speaks of things that are there, and of everything. (Its programs are documentation tests of the library.)

use std::{collections::BTreeSet, fs, process::Command};

use crate::workspace;

/// The public names of Python 3.14's `multiprocessing`, which the table must have.
const PYTHON: &[&str] = &[
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    // Submodules and members.
    "AsyncResult",
    "BaseContext",
    "BaseManager",
    "BaseProcess",
    "BaseProxy",
    "BrokenBarrierError",
    "Client",
    "Connection",
    "DupFd",
    "ForkingPickler",
    "IMapIterator",
    "Listener",
    "MaybeEncodingError",
    "Namespace",
    "RemoteError",
    "RemoteTraceback",
    "SUBDEBUG",
    "SUBWARNING",
    "SemLock",
    "ShareableList",
    "SharedMemory",
    "SharedMemoryManager",
    "SyncManager",
    "ThreadPool",
    "Token",
    "abort",
    "acquire",
    "address",
    "answer_challenge",
    "apply",
    "apply_async",
    "args",
    "authkey",
    "block",
    "broken",
    "buf",
    "callback",
    "cancel_join_thread",
    "chunksize",
    "clear",
    "close",
    "closed",
    "connect",
    "context",
    "copy",
    "create",
    "daemon",
    "deliver_challenge",
    "dict",
    "dummy",
    "dump",
    "empty",
    "error_callback",
    "exitcode",
    "fileno",
    "full",
    "get",
    "get_lock",
    "get_nowait",
    "get_obj",
    "get_server",
    "get_value",
    "group",
    "ident",
    "imap",
    "imap_unordered",
    "initargs",
    "initializer",
    "interrupt",
    "is_alive",
    "is_set",
    "join",
    "join_thread",
    "kill",
    "kwargs",
    "list",
    "locked",
    "map",
    "map_async",
    "maxtasksperchild",
    "n_waiting",
    "name",
    "next",
    "notify",
    "notify_all",
    "parties",
    "pid",
    "poll",
    "put",
    "put_nowait",
    "qsize",
    "raw",
    "readable",
    "ready",
    "recv",
    "recv_bytes",
    "recv_bytes_into",
    "recv_handle",
    "recvfds",
    "register",
    "release",
    "reset",
    "resource_tracker",
    "run",
    "send",
    "send_bytes",
    "send_handle",
    "sendfds",
    "sentinel",
    "serve_forever",
    "set",
    "shutdown",
    "size",
    "starmap",
    "starmap_async",
    "start",
    "successful",
    "synchronized",
    "task_done",
    "terminate",
    "timeout",
    "track",
    "unlink",
    "value",
    "wait",
    "wait_for",
    "writable",
];

fn readme() -> String {
    fs::read_to_string(workspace("README.md")).unwrap()
}

/// All words in code style in the first column of the tables below the heading.
fn python_names(readme: &str) -> BTreeSet<String> {
    let (_, rest) = readme.split_once("\n## Python to here\n").unwrap();
    let (tables, _) = rest.split_once("\n## ").unwrap();
    let firsts = tables.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let code = firsts.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let words = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.map(str::to_owned).collect()
}

#[test]
fn every_public_name_of_python_is_in_the_table() {
    let names = python_names(&readme());
    let missing: Vec<_> = PYTHON.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    // The Python that is here, if there is one, whatever its version.
    let program = "import importlib
for name in ' .pool .managers .shared_memory .connection .synchronize .sharedctypes .queues .process .reduction'.split(' '):
    print(*importlib.import_module('multiprocessing' + name).__all__)";
    if let Ok(python) = Command::new("python3").args(["-c", program]).output()
        && python.status.success()
    {
        let own = String::from_utf8(python.stdout).unwrap();
        let missing: Vec<_> = own.split_whitespace().filter(|name| !names.contains(*name)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
    }
}

#[test]
fn every_example_is_in_the_table_and_the_other_way_round() {
    let readme = readme();
    let (_, rest) = readme.split_once("\n## The examples\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let listed = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let files = fs::read_dir(workspace("mp-examples/examples")).unwrap().map(|entry| entry.unwrap().path());
    let programs = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let present: BTreeSet<_> =
        programs.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(listed, present);
}

/// Links to files, in all pages of the workspace.
#[test]
fn every_link_leads_somewhere() {
    let crates = ["mp-core", "mp-lock", "mp-queue", "mp-pipe", "mp-pool", "mp-examples"];
    let mut pages: Vec<_> = crates.iter().map(|name| format!("{name}/README.md")).collect();
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    let mut links = 0;
    for page in pages {
        let path = workspace(&page);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            // Charts are made by the comparison, which may not have run yet.
            let there = path.parent().unwrap().join(file).exists() || file.ends_with(".svg");
            assert!(there, "{page} links to {target}, which is not there");
            links += 1;
        }
    }
    assert!(links > 5, "the pages have lost their links");
}

/// Commands that a reader copies begin with a package and a program that exist.
#[test]
fn the_commands_name_what_exists() {
    for page in ["README.md", "COMPARE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(workspace(page)).unwrap();
        for command in text.split("cargo ").skip(1).map(|rest| rest.split(['`', '\n', '#']).next().unwrap()) {
            let words: Vec<_> = command.split_whitespace().collect();
            for pair in words.windows(2) {
                let path = match pair {
                    ["-p", name] => (*name).to_owned(),
                    ["--example", "NAME"] | ["--bench", _] => continue,
                    ["--example", name] => format!("mp-examples/examples/{name}.rs"),
                    ["--bin", name] => format!("mp-examples/src/bin/{name}.rs"),
                    _ => continue,
                };
                assert!(workspace(&path).exists(), "{page}: {command:?}: there is no {path}");
            }
        }
    }
}

/// What the README calls by a path into a crate is in the crate's list of public items.
#[test]
fn the_counterparts_exist() {
    let text = readme();
    let mut found = 0;
    for name in ["core", "lock", "queue", "pipe", "pool"] {
        let api = fs::read_to_string(workspace(&format!("mp-{name}/api.txt"))).unwrap();
        let words: BTreeSet<_> = api.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for path in text.split(&format!("mp_{name}::")).skip(1) {
            let item = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(item.is_empty() || words.contains(item), "mp_{name}::{item} is not there");
            found += 1;
        }
    }
    assert!(found > 30, "the README has lost its paths");
}
