//! A progress bar for a call: what was done, how fast, and how long it will take.
//!
//! The bar is indicatif's, on standard error, and silent where that is not a terminal. It follows the call's own progress and
//! costs a call without one nothing.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::job::Progress;

/// Where the number of tasks is known.
const KNOWN: &str = "{prefix} [{bar:32}] {human_pos}/{human_len}, {per_sec}, {eta} left";
/// Where it is not.
const UNKNOWN: &str = "{prefix} {spinner} {human_pos}, {per_sec}, for {elapsed}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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
