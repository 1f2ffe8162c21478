//! A report as a section of a Markdown page, and the place of that section in the page.

use std::fmt::Write as _;

use super::{
    Bench,
    rows::{Report, Table},
};

/// The section of a benchmark: the machine, the chart, and a table for each title.
#[must_use]
pub fn section(bench: &Bench, report: &Report, machine: &str) -> String {
    let mut text = format!(
        "## {}\n\n`cargo bench -p {} --bench {}` on {machine}.\n\n![{}](docs/{}.svg)\n",
        bench.heading, bench.package, bench.name, bench.heading, bench.name,
    );
    for table in &report.tables {
        text.push('\n');
        text.push_str(&table_text(table));
    }
    text
}

fn table_text(table: &Table) -> String {
    let better = if table.more_is_better() { "more is better" } else { "less is better" };
    let ours = table.ours();
    let against = ours.map_or_else(|| "-".to_owned(), |ours| format!("x {}", ours.name));
    let mut text = format!(
        "### {} ({}, {better})\n\n| | median | low 10 % | high 10 % | {against} |\n|---|--:|--:|--:|--:|\n",
        table.title, table.unit,
    );
    // Writing to a string cannot fail.
    for row in &table.rows {
        let name = if row.is_ours() { format!("**{}**", row.name) } else { row.name.clone() };
        let times = ours.map(|ours| table.times(row, ours)).filter(|times| times.is_finite());
        let times = times.map_or_else(|| "-".to_owned(), figure);
        let (median, low, high) = (figure(row.median), figure(row.low), figure(row.high));
        let _ = writeln!(text, "| {name} | {median} | {low} | {high} | {times} |");
    }
    if !table.verdicts.is_empty() {
        text.push_str("\n| | measured | goal | |\n|---|--:|--:|---|\n");
    }
    for verdict in &table.verdicts {
        let met = match verdict.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let _ = writeln!(text, "| {} | {} | {} | {met} |", verdict.what, figure(verdict.value), verdict.goal);
    }
    text
}

/// Three digits that mean something.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// `page` with `section` between the markers of `name`, in place of what was there.
///
/// # Errors
/// The page has no such markers.
pub fn replace(page: &str, name: &str, section: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let missing = |marker: &str| format!("the page has no line {:?}", marker.trim());
    let (before, rest) = page.split_once(&begin).ok_or_else(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| missing(&end))?;
    Ok(format!("{before}{begin}{section}{end}{after}"))
}
