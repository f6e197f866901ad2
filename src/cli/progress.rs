//! How far a command is, for a person at a terminal. Nothing is shown with `--json`, and nothing
//! into a file or a pipe.

use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::store::CopyProgress;
use crate::telemetry::terminal;

/// Work that is shorter than this needs no spinner.
const PATIENCE: Duration = Duration::from_secs(1);

const REDRAWN_EVERY: Duration = Duration::from_millis(200);

/// A bar of bytes, with what is said behind it.
pub const BYTES: &str = "{bytes}/{total_bytes} {bytes_per_sec}";

/// A bar whose end is known, with `counts` (a template of indicatif's) behind it.
pub fn bar(output: Output, length: u64, counts: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {counts}"))?;
    Ok(started(
        ProgressBar::with_draw_target(Some(length), target(output)).with_style(style),
    ))
}

/// Shows a bar of bytes beside work that says how far it is.
pub fn copying<'a, T: 'a>(
    output: Output,
    progress: &'a CopyProgress,
    work: impl Future<Output = T> + 'a,
) -> LocalBoxFuture<'a, anyhow::Result<T>> {
    counting(output, BYTES, progress, work)
}

/// Shows a bar with `counts` behind it, beside work that says how far it is.
pub fn counting<'a, T: 'a>(
    output: Output,
    counts: &'a str,
    progress: &'a CopyProgress,
    work: impl Future<Output = T> + 'a,
) -> LocalBoxFuture<'a, anyhow::Result<T>> {
    Box::pin(async move {
        let bar = bar(output, 0, counts)?;
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(REDRAWN_EVERY) => {
                    bar.set_length(progress.all.load(Ordering::Relaxed));
                    bar.set_position(progress.done.load(Ordering::Relaxed));
                }
            }
        };
        bar.finish_and_clear();
        Ok(done)
    })
}

/// Shows a spinner with `doing` beside work whose end is not known, from its second second on.
pub fn beside<'a, T: 'a>(
    output: Output,
    doing: &'static str,
    work: impl Future<Output = T> + 'a,
) -> LocalBoxFuture<'a, T> {
    // In a box: a command's work is large, and would be moved with this.
    Box::pin(async move {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let spinner = ProgressBar::with_draw_target(None, target(output));
        let spinner = spinner.with_style(ProgressStyle::default_spinner());
        let spinner = started(spinner.with_message(doing));
        let done = work.await;
        spinner.finish_and_clear();
        done
    })
}

fn target(output: Output) -> ProgressDrawTarget {
    if !output.json && terminal::redraws_lines(&io::stderr()) {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

fn started(bar: ProgressBar) -> ProgressBar {
    if !bar.is_hidden() {
        bar.enable_steady_tick(REDRAWN_EVERY);
    }
    bar
}
