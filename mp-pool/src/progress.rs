//! A progress bar for a call: what was done, how fast, and how long it will take.
//!
//! The bar is indicatif's, on standard error, and silent where that is not a terminal. It follows the call's own progress and
//! costs a call without one nothing.

use std::fmt::Write;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressFinish, ProgressState, ProgressStyle};

use crate::job::Progress;

/// Where the number of tasks is known.
const KNOWN: &str = "{prefix} [{bar:32}] {human_pos}/{human_len}, {rate}, {left} left";
/// Where it is not.
const UNKNOWN: &str = "{prefix} {spinner} {human_pos}, {rate}, for {elapsed}";

fn style(template: &str) -> ProgressStyle {
    // As long as nothing is done, neither is known.
    let rate = |state: &ProgressState, text: &mut dyn Write| {
        let _ = match state.per_sec() {
            rate if state.pos() > 0 && rate < 10.0 => write!(text, "{rate:.1}/s"),
            rate if state.pos() > 0 => write!(text, "{}/s", HumanCount(rate as u64)),
            _ => write!(text, "?/s"),
        };
    };
    let left = |state: &ProgressState, text: &mut dyn Write| {
        let _ = if state.pos() > 0 {
            write!(text, "{:#}", HumanDuration(state.eta()))
        } else {
            write!(text, "?")
        };
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", rate).with_key("left", left)
}

/// What shows the progress of one call.
pub(crate) fn bar(label: String) -> impl Fn(Progress) + Send + Sync + 'static {
    let bar = ProgressBar::no_length().with_finish(ProgressFinish::AndLeave).with_style(style(UNKNOWN));
    bar.set_prefix(label);
    move |Progress { done, total }| {
        if let (Some(total), None) = (total, bar.length()) {
            bar.set_style(style(KNOWN));
            bar.set_length(total as u64);
        }
        bar.set_position(done as u64);
        if total == Some(done) {
            bar.finish();
        }
    }
}
