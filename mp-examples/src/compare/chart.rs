//! A report as a picture: for each table one bar per contender, on a linear scale from zero.

use std::fmt::Write as _;

use super::{
    Bench,
    page::figure,
    rows::{Report, Table},
};

/// Where the bars begin, how long the longest is, and how much room its figure gets.
const LEFT: f64 = 290.0;
const LONGEST: f64 = 360.0;
const WIDTH: f64 = LEFT + LONGEST + 90.0;
/// The height of a line.
const LINE: f64 = 20.0;

/// Colours that can be seen on a light page and on a dark one.
const STYLE: &str = "text { font: 12px sans-serif; fill: #57606a } .title { font-weight: bold } \
    .ours { fill: #d2691e } .other { fill: #8a94a0 } \
    @media (prefers-color-scheme: dark) { text { fill: #adbac7 } }";

/// The picture of a benchmark as SVG.
#[must_use]
pub fn chart(bench: &Bench, report: &Report) -> String {
    let mut body = String::new();
    let mut y = 0.0;
    for table in &report.tables {
        y = draw(&mut body, table, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n{body}</svg>\n",
        escape(bench.heading),
    )
}

/// Draws a table below `y`; returns where it ends.
fn draw(body: &mut String, table: &Table, mut y: f64) -> f64 {
    let better = if table.more_is_better() { "longer is better" } else { "shorter is better" };
    let title = escape(&format!("{}, {} ({better})", table.title, table.unit));
    // Writing to a string cannot fail.
    let _ = writeln!(body, "<text class=\"title\" x=\"8\" y=\"{}\">{title}</text>", y + 15.0);
    y += LINE + 4.0;
    let largest = table.rows.iter().map(|row| row.median).fold(f64::MIN_POSITIVE, f64::max);
    for row in table.rows.iter().filter(|row| row.median.is_finite()) {
        let class = if row.is_ours() { "ours" } else { "other" };
        let length = (row.median / largest * LONGEST).max(1.0);
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"14\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8.0,
            y + 12.0,
            escape(&row.name),
            y + 1.0,
            LEFT + length + 6.0,
            y + 12.0,
            figure(row.median),
        );
        y += LINE;
    }
    y + 12.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
