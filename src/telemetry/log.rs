//! Human lines on a terminal, JSON otherwise, always to standard error, and never at the cost of an
//! answer: [`Lines`] holds them until one thread has written them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::lines::Lines;
use super::terminal;
use crate::clock;
use crate::config::{self, LogFormat};

/// How long the end of a process waits for a reader of its log.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process.
struct Log {
    lines: Lines,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Human { is_coloured: bool },
}

static LOG: OnceLock<Log> = OnceLock::new();
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts the lines that were not written.
#[must_use]
pub fn dropped() -> Counter {
    DROPPED.clone()
}

/// Standard error without the lock that `eprintln!` takes: a write that stalls holds up nobody else.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct ToLines(Lines);

struct Line<'a>(&'a Lines);

impl<'a> MakeWriter<'a> for ToLines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    /// One event is one write.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The cache of renderings tells of a full disk with a backtrace for each document, none of which is
/// lost: it is rendered again. The pool tells of each connection that an outage took, and of the outage
/// itself the store does.
const QUIET: &str = "foyer=off,sqlx_core::pool=error";

/// The filter that a level stands for. A bare level is Larder's own: libraries tell of their insides at
/// `info`, which an operator does not want to read on a quiet day.
fn directives(level: &str) -> Cow<'_, str> {
    match level.trim().parse::<LevelFilter>() {
        Ok(LevelFilter::INFO) => format!("warn,{QUIET},larder=info").into(),
        Ok(LevelFilter::WARN) => format!("warn,{QUIET}").into(),
        Ok(own @ (LevelFilter::DEBUG | LevelFilter::TRACE)) => format!("info,larder={own}").into(),
        _ => level.into(),
    }
}

/// Sends log lines where the configuration says. A second call changes nothing.
///
/// # Errors
/// Where the level is no filter.
pub fn start(config: &config::Log) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(directives(&config.level))?;
    let human = Form::Human {
        is_coloured: terminal::shows_colours(&io::stderr()),
    };
    let form = match config.format {
        LogFormat::Auto if io::stderr().is_terminal() => human,
        LogFormat::Auto | LogFormat::Json => Form::Json,
        LogFormat::Human => human,
    };
    let bytes_max = usize::try_from(config.buffer).unwrap_or(usize::MAX);
    // Without a thread there is no log, which is no reason to serve nobody.
    let Ok(lines) = Lines::start(bytes_max, &DROPPED, Stderr) else {
        return Ok(());
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(ToLines(lines.clone()))
        .with_target(false);
    let started = match form {
        Form::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        Form::Human { is_coloured } => builder.with_ansi(is_coloured).try_init(),
    };
    // In tests one process starts many.
    if started.is_ok() && LOG.set(Log { lines, form }).is_ok() {
        std::panic::set_hook(Box::new(tell_of_panic));
    }
    Ok(())
}

/// Whether lines are read by people.
#[must_use]
pub fn is_for_people() -> bool {
    LOG.get()
        .is_none_or(|log| matches!(log.form, Form::Human { .. }))
}

/// A panic's line goes the way of all lines: the usual hook writes to standard error itself.
fn tell_of_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic
        .payload_as_str()
        .unwrap_or("something that is no text");
    let place = panic.location().map(ToString::to_string);
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    error!(place, backtrace, "A thread panicked: {message}");
}

/// Writes what waits to be written, for a second at most, when it is dropped.
pub struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(log) = LOG.get() {
            log.lines.flush(PATIENCE);
        }
    }
}

/// An answer, as it stands in the log.
pub struct AccessLine<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub format: &'a str,
    pub repository: &'a str,
    pub package: &'a str,
    pub asset: &'a str,
    pub status: u16,
    pub cache: &'a str,
    pub bytes: u64,
    pub elapsed: Duration,
}

/// A thread's own place to put a line together.
#[derive(Default)]
struct Draft {
    text: String,
    /// The second of the last line, `2026-11-30T05:00:39`: most lines are of the same.
    second: (i64, String),
}

thread_local! {
    static DRAFT: RefCell<Draft> = RefCell::default();
}

/// Writes the line of an answer. There is one for each, on the thread that serves: it is put together
/// by hand, in the shape of all others, and costs a fraction of a microsecond.
pub fn access(access: &AccessLine<'_>) {
    let Some(log) = LOG.get() else { return };
    DRAFT.with_borrow_mut(|draft| {
        draft.write(log.form, clock::now(), access);
        log.lines.push(draft.text.as_bytes());
    });
}

impl Draft {
    fn write(&mut self, form: Form, now: Timestamp, access: &AccessLine<'_>) {
        self.text.clear();
        match form {
            Form::Json => {
                self.text.push_str("{\"timestamp\":\"");
                self.time(now);
                access.json(&mut self.text);
            }
            Form::Human { is_coloured } => {
                let (dim, green, plain) = if is_coloured {
                    ("\x1b[2m", "\x1b[32m", "\x1b[0m")
                } else {
                    ("", "", "")
                };
                self.text.push_str(dim);
                self.time(now);
                // Writing to a string cannot fail.
                let _ = write!(self.text, "{plain} {green} INFO{plain} ");
                access.human(&mut self.text, dim, plain);
            }
        }
    }

    /// In UTC, with microseconds.
    fn time(&mut self, now: Timestamp) {
        let second = now.as_second();
        if self.second.0 != second || self.second.1.is_empty() {
            let text = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.second = (second, text);
        }
        self.text.push_str(&self.second.1);
        self.text.push('.');
        let us = now.subsec_microsecond().unsigned_abs();
        digits(&mut self.text, u64::from(us), 6);
        self.text.push('Z');
    }
}

impl AccessLine<'_> {
    fn json(&self, text: &mut String) {
        text.push_str("\",\"level\":\"INFO\",\"message\":\"");
        text.push_str(self.method);
        text.push(' ');
        escape(text, self.path);
        text.push_str("\",\"method\":\"");
        text.push_str(self.method);
        text.push_str("\",\"format\":\"");
        text.push_str(self.format);
        text.push_str("\",\"repository\":\"");
        escape(text, self.repository);
        text.push_str("\",\"package\":\"");
        escape(text, self.package);
        text.push_str("\",\"asset\":\"");
        escape(text, self.asset);
        text.push_str("\",\"status\":");
        digits(text, u64::from(self.status), 1);
        text.push_str(",\"cache\":\"");
        text.push_str(self.cache);
        text.push_str("\",\"bytes\":");
        digits(text, self.bytes, 1);
        text.push_str(",\"ms\":");
        self.ms(text);
        text.push_str("}\n");
    }

    fn human(&self, text: &mut String, dim: &str, plain: &str) {
        let Self {
            method,
            path,
            format,
            repository,
            package,
            asset,
            status,
            cache,
            bytes,
            elapsed: _,
        } = self;
        let _ = write!(
            text,
            "{method} {path} {dim}method={method} format={format} repository={repository:?} package={package:?} asset={asset:?} status={status} cache={cache:?} bytes={bytes} ms="
        );
        self.ms(text);
        text.push_str(plain);
        text.push('\n');
    }

    fn ms(&self, text: &mut String) {
        let us = u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX);
        digits(text, us / 1000, 1);
        text.push('.');
        digits(text, us % 1000, 3);
    }
}

/// Appends a number with so many digits at least.
fn digits(text: &mut String, number: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut start) = (number, digits.len());
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        start = index;
    }
    let start = start.min(digits.len().saturating_sub(least));
    let digits = digits.get(start..).unwrap_or_default();
    text.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// Appends what stands between the quotes of a string in JSON.
fn escape(text: &mut String, value: &str) {
    // Without an end in between, which the processor does sixteen at a time.
    let special = value
        .bytes()
        .map(|byte| u8::from(byte < b' ' || byte == b'"' || byte == b'\\'))
        .fold(0, |all, one| all | one);
    if special == 0 {
        text.push_str(value);
        return;
    }
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            '\0'..' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            _ => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(form: Form) -> String {
        let mut draft = Draft::default();
        let access = AccessLine {
            method: "GET",
            path: "/npm/public/a\"\\",
            format: "npm",
            repository: "public",
            package: "npm:a\n\u{1b}",
            asset: "",
            status: 200,
            cache: "hit",
            bytes: 12,
            elapsed: Duration::from_micros(12_034),
        };
        let now = "2026-11-30T05:00:39.123456789Z".parse().unwrap();
        draft.write(form, now, &access);
        draft.text
    }

    #[test]
    fn an_answers_line_is_json_whatever_it_names() {
        let line = line(Form::Json);
        assert!(line.ends_with("}\n"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "timestamp": "2026-11-30T05:00:39.123456Z",
                "level": "INFO",
                "message": "GET /npm/public/a\"\\",
                "method": "GET",
                "format": "npm",
                "repository": "public",
                "package": "npm:a\n\u{1b}",
                "asset": "",
                "status": 200,
                "cache": "hit",
                "bytes": 12,
                "ms": 12.034,
            })
        );
    }

    #[test]
    fn numbers_have_their_digits() {
        for (number, least, expected) in [
            (0, 1, "0"),
            (7, 3, "007"),
            (1234, 3, "1234"),
            (u64::MAX, 6, "18446744073709551615"),
        ] {
            let mut text = String::new();
            digits(&mut text, number, least);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_bare_level_is_larders_own() {
        for (level, expected) in [
            ("info", "warn,foyer=off,sqlx_core::pool=error,larder=info"),
            ("DEBUG", "info,larder=debug"),
            ("warn", "warn,foyer=off,sqlx_core::pool=error"),
            ("off", "off"),
            ("info,larder=trace", "info,larder=trace"),
        ] {
            assert_eq!(directives(level), expected);
        }
    }

    #[test]
    fn a_human_line_is_one_line_and_moves_no_cursor() {
        let line = line(Form::Human { is_coloured: false });
        assert!(line.ends_with("bytes=12 ms=12.034\n"), "{line}");
        assert_eq!(line.matches(['\n', '\u{1b}']).count(), 1);
    }
}
