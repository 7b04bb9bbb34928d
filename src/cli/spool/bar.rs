//! A progress bar for a person who watches; nothing for anybody else.

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;
use crate::spool::portable::Progress;

pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar that counts bytes, with what was done to them in front.
    pub(super) fn new(done: &'static str) -> Self {
        if !output::interactive() {
            return Self(ProgressBar::hidden());
        }
        let template = "{prefix:>10} {wide_bar} {binary_bytes:>10} of {binary_total_bytes}  {eta}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style).with_prefix(done))
    }

    pub(super) fn show(&self, progress: Progress) {
        self.0.set_length(progress.of_bytes);
        self.0.set_position(progress.bytes);
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
