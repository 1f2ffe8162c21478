//! The comparison, on rows as the benchmarks note them.

use std::process::Command;

use mp_examples::compare::{BENCHES, chart::chart, machine, page, rows::Report};

use crate::workspace;

const ROWS: &str = "\
row\tRound trip\tus\tmp-pipe, bytes\t0.4\t0.3\t0.9
row\tRound trip\tus\tsome <peer>\t4\t3\t9
ratio\tsome peer / mp-pipe\t>= 5\t10
goal\tmp-pipe, bytes\t<= 0.3 us\t0.4
row\tOne way\tGB/s\tmp-pipe, 1 MiB\t2\t1\t3
row\tOne way\tGB/s\tmemcpy\t40\t30\t44
ratio\tmp-pipe / memcpy\t>= 0.6\t0.05
row\tRound trip\tus\tPython, Pipe\t40\t30\t90
";

#[test]
fn rows_become_tables_in_which_the_peers_win_when_they_do() {
    let report = Report::parse(ROWS).unwrap();
    let titles: Vec<_> = report.tables.iter().map(|table| table.title.as_str()).collect();
    assert_eq!(titles, ["Round trip", "One way"]);
    let text = page::section(&BENCHES[2], &report, "a machine");
    for line in [
        "## Pipes",
        "`cargo bench -p mp-pipe --bench pipe` on a machine.",
        "![Pipes](docs/pipe.svg)",
        "### Round trip (us, less is better)",
        "| | median | low 10 % | high 10 % | x mp-pipe, bytes |",
        "| **mp-pipe, bytes** | 0.400 | 0.300 | 0.900 | 1.00 |",
        "| some <peer> | 4.00 | 3.00 | 9.00 | 10.0 |",
        "| Python, Pipe | 40.0 | 30.0 | 90.0 | 100 |",
        "| some peer / mp-pipe | 10.0 | >= 5 | met |",
        "| mp-pipe, bytes | 0.400 | <= 0.3 us | **missed** |",
        "### One way (GB/s, more is better)",
        "| memcpy | 40.0 | 30.0 | 44.0 | 0.050 |",
        "| mp-pipe / memcpy | 0.050 | >= 0.6 | **missed** |",
    ] {
        assert!(text.lines().any(|it| it == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_chart_has_a_bar_for_each_row_on_one_scale() {
    let picture = chart(&BENCHES[2], &Report::parse(ROWS).unwrap());
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    assert_eq!(picture.matches("<rect").count(), 5);
    assert_eq!(picture.matches("class=\"ours\"").count(), 2);
    assert!(picture.contains("some &lt;peer&gt;") && !picture.contains("<peer>"));
    let length = |of: &str| -> f64 {
        let (_, rest) = picture.split_once(of).unwrap();
        rest.split_once("width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap()
    };
    assert!((length("Python, Pipe") / length("mp-pipe, bytes") - 100.0).abs() < 5.0);
    assert!((length("memcpy") / length("mp-pipe, 1 MiB") - 20.0).abs() < 1.0);
}

#[test]
fn what_is_no_row_is_refused() {
    for line in ["row\ta\tus\tb\t1\t2", "row\ta\tus\tb\tone\t2\t3", "ratio\tbefore any row\t\t1", "nonsense"]
    {
        let error = Report::parse(line).unwrap_err();
        assert!(error.contains("not a line of a benchmark"), "{error}");
    }
}

#[test]
fn a_section_is_replaced_between_its_markers_and_nothing_else() {
    let old = "top\n<!-- begin a -->\nold\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\n";
    let new = page::replace(old, "a", "new\n").unwrap();
    assert_eq!(new, old.replace("old\n", "new\n"));
    assert_eq!(page::replace(&new, "a", "new\n").unwrap(), new);
    assert!(page::replace(old, "c", "").unwrap_err().contains("begin c"));
    // The page of this workspace has a place for every benchmark.
    let page = std::fs::read_to_string(workspace("COMPARE.md")).unwrap();
    for bench in BENCHES {
        page::replace(&page, bench.name, "").unwrap();
        assert!(workspace(bench.package).is_dir());
    }
}

#[test]
fn the_machine_is_described_without_its_name() {
    let text = machine::describe();
    assert!(text.contains(" cores; "), "{text}");
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    assert!(name.trim().is_empty() || !text.contains(name.trim()), "{text}");
    assert!(!text.contains('/'), "{text}");
}

#[test]
fn wrong_arguments_are_explained() {
    for arguments in [&["--what"][..], &["--only"], &["--only", "nothing"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_compare")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text, "usage: compare [--quick] [--only start | lock | pipe | queue | pool]...\n");
    }
}
