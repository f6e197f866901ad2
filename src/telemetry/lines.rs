//! Lines on their way to a file that may take them slowly, or not at all. They wait in memory within
//! a bound, and one thread writes them; whoever has a line to write never waits for the file.
//!
//! `tracing-appender` does the like, a system call and a wake-up of its thread for every line; here a
//! line is a copy into memory, and the thread writes all that came in one call.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;

/// How long the writer waits for further lines before it writes again.
const NAP: Duration = Duration::from_millis(10);
/// A buffer that grew larger is given back when nothing comes any more.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// How often it is said that lines were dropped.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Where lines are put; clones share it.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// The writer sleeps until there is something to write.
    came: Condvar,
    /// Somebody waits until all is written.
    written: Condvar,
    bytes_max: usize,
    dropped: Counter,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    /// The writer sleeps and has to be woken.
    is_asleep: bool,
    is_writing: bool,
    /// The process ends: no naps any more.
    is_ending: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts the thread that writes to `out`. Up to `bytes_max` wait for it; what has no place is
    /// dropped and counted.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub fn start(
        bytes_max: usize,
        dropped: &Counter,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            came: Condvar::new(),
            written: Condvar::new(),
            bytes_max,
            dropped: dropped.clone(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            out,
            is_torn: false,
            untold: 0,
            told: None,
        };
        thread::Builder::new()
            .name("larder-log".to_owned())
            .spawn(move || writer.work())?;
        Ok(Self(shared))
    }

    /// Takes a line with its end, or drops it.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.text.len() + line.len() > self.0.bytes_max {
            drop(waiting);
            self.0.dropped.inc();
            return;
        }
        waiting.text.extend_from_slice(line);
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.0.came.notify_one();
        }
    }

    /// Waits until all lines are written, but no longer than `patience`; says whether they are.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut waiting = self.0.waiting();
        waiting.is_ending = true;
        self.0.came.notify_one();
        let under_way = |waiting: &mut Waiting| waiting.is_writing || !waiting.text.is_empty();
        let waited = self
            .0
            .written
            .wait_timeout_while(waiting, patience, under_way)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

struct Writer<W> {
    shared: Arc<Shared>,
    out: W,
    /// The last thing written is the beginning of a line.
    is_torn: bool,
    /// Lines that were dropped and not spoken of yet.
    untold: u64,
    told: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn work(mut self) {
        let mut text = Vec::new();
        loop {
            self.take(&mut text);
            if self.is_torn {
                text.insert(0, b'\n');
            }
            self.pour(&text);
            text.clear();
            let mut waiting = self.shared.waiting();
            waiting.is_writing = false;
            if waiting.text.is_empty() {
                self.shared.written.notify_all();
            }
            let come = &self.shared.came;
            drop(come.wait_timeout_while(waiting, NAP, |waiting| !waiting.is_ending));
        }
    }

    /// Waits for lines.
    fn take(&self, text: &mut Vec<u8>) {
        let mut waiting = self.shared.waiting();
        while waiting.text.is_empty() {
            for buffer in [&mut waiting.text, &mut *text] {
                if buffer.capacity() > SPARE_BYTES_MAX {
                    *buffer = Vec::new();
                }
            }
            waiting.is_asleep = true;
            waiting = self
                .shared
                .came
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_asleep = false;
        waiting.is_writing = true;
        std::mem::swap(text, &mut waiting.text);
    }

    /// Writes all of it. Where that fails, the lines that are not whole are dropped: those that come
    /// later may fare better.
    fn pour(&mut self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pipe that somebody else has made one that never waits: it is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NAP),
                Err(_) => break,
            }
        }
        let written = text.len() - rest.len();
        self.is_torn = match written.checked_sub(1).and_then(|last| text.get(last)) {
            Some(last) => *last != b'\n',
            None => self.is_torn,
        };
        let lost = memchr::memchr_iter(b'\n', rest).count() as u64;
        self.shared.dropped.inc_by(lost);
        if rest.is_empty() {
            self.tell();
        }
    }

    /// Says in the log itself that something is missing from it.
    fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < TOLD_AFTER) {
            return;
        }
        let dropped = self.shared.dropped.get();
        if dropped > self.untold {
            let lines = dropped - self.untold;
            self.untold = dropped;
            self.told = Some(Instant::now());
            warn!(
                lines,
                "Log lines were dropped: they could not be written, or not soon enough"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A file that does with each write what the test says.
    struct Scripted {
        steps: mpsc::Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.steps.recv().unwrap_or(Ok(usize::MAX))?;
            let count = count.min(bytes.len());
            self.written
                .lock()
                .unwrap()
                .extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        lines: Lines,
        dropped: Counter,
        steps: mpsc::Sender<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    fn start(bytes_max: usize) -> Test {
        let (steps, taken) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let dropped = Counter::default();
        let out = Scripted {
            steps: taken,
            written: Arc::clone(&written),
        };
        Test {
            lines: Lines::start(bytes_max, &dropped, out).unwrap(),
            dropped,
            steps,
            written,
        }
    }

    #[test]
    fn a_file_that_takes_nothing_keeps_nobody_waiting_and_no_more_than_its_bound() {
        let test = start(1000);
        for _ in 0..1000 {
            test.lines.push(b"123456789\n");
        }
        // At most the bound in what is being written, and once more in what waits.
        let dropped = test.dropped.get();
        assert!((800..=900).contains(&dropped), "{dropped}");
        assert!(!test.lines.flush(Duration::from_millis(20)));
        drop(test.steps);
        assert!(test.lines.flush(Duration::from_secs(10)));
        let written = test.written.lock().unwrap().len() as u64;
        assert_eq!(written, (1000 - dropped) * 10);
    }

    #[test]
    fn a_line_that_was_torn_does_not_spoil_the_next() {
        let test = start(1000);
        test.lines.push(b"first\n");
        test.steps.send(Ok(3)).unwrap();
        test.steps
            .send(Err(io::ErrorKind::StorageFull.into()))
            .unwrap();
        while test.dropped.get() == 0 {
            thread::yield_now();
        }
        test.lines.push(b"second\n");
        drop(test.steps);
        assert!(test.lines.flush(Duration::from_secs(10)));
        assert_eq!(*test.written.lock().unwrap(), b"fir\nsecond\n");
        assert_eq!(test.dropped.get(), 1);
    }
}
