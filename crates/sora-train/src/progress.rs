//! A line that tells how far, how fast, how long still.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` steps, already at `done`.
pub(crate) fn bar(total: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(done);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} left {eta}")
        .expect("the template is constant and valid");
    bar.set_style(style);
    bar.reset_eta();
    bar
}
