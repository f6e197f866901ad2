//! The audit: a line of JSON for each call of the API, each change, and each request that was
//! refused.
//!
//! An answer waits until its record is in the file, but not for ever. The record is made when the
//! deed is done: an answer that was held back for a full disk or a pipe that nobody reads would undo
//! nothing, and would let whoever fills the disk stop the server. So what the file does not take in
//! time is counted, said as an error, and goes to the log whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;
use rustix::fs::OFlags;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::{error, info};

/// How long an answer waits for its record.
const PATIENCE: Duration = Duration::from_secs(1);
/// Records that wait for the file.
const WAITING_MAX: usize = 1024;

/// An audit record: who did what, where, and why it was allowed or refused.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// RFC 3339.
    pub time: String,
    /// An ARN, `anonymous`, or empty where nobody was made out.
    pub principal: String,
    pub address: String,
    /// The action's name in policies; empty where the request failed before its action was known.
    pub action: String,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub repository: String,
    pub package: String,
    /// Empty where the request is about several versions, or none.
    pub version: String,
    pub allowed: bool,
    pub status: u16,
    /// The statement, rule, repository or other that decided.
    pub by: String,
    /// Why it was refused.
    pub message: String,
}

/// Where the records go.
pub struct Audit {
    file: ArcSwapOption<Writer>,
    missed: Counter,
}

/// The one thread that writes the file.
struct Writer {
    orders: mpsc::SyncSender<Order>,
    /// The file took nothing for so long that nobody waits for it any more.
    is_stuck: Arc<AtomicBool>,
}

struct Order {
    line: String,
    written: oneshot::Sender<io::Result<()>>,
}

impl Writer {
    fn start(file: File) -> io::Result<Self> {
        let (orders, taken) = mpsc::sync_channel(WAITING_MAX);
        let is_stuck = Arc::<AtomicBool>::default();
        let stuck = Arc::clone(&is_stuck);
        thread::Builder::new()
            .name("larder-audit".to_owned())
            .spawn(move || write(file, taken, &stuck))?;
        Ok(Self { orders, is_stuck })
    }

    /// Resolves when the line is in the file.
    async fn write(&self, line: String) -> io::Result<()> {
        let (written, done) = oneshot::channel();
        let late = |()| io::Error::from(io::ErrorKind::TimedOut);
        // A record that is not waited for may still be written, if the file works again.
        self.orders
            .try_send(Order { line, written })
            .map_err(|_| late(()))?;
        if self.is_stuck.load(Ordering::Acquire) {
            return Err(late(()));
        }
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(written) => written.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())),
            Err(_) => {
                self.is_stuck.store(true, Ordering::Release);
                Err(late(()))
            }
        }
    }
}

fn write(mut file: File, orders: mpsc::Receiver<Order>, is_stuck: &AtomicBool) {
    for Order { line, written } in orders {
        // In one write, so that lines do not mix.
        let result = file.write_all(line.as_bytes());
        is_stuck.store(false, Ordering::Release);
        let _ = written.send(result);
    }
}

/// Opens the file for its owner's eyes alone, where it has to be made. A pipe that nobody reads is
/// an error, and not a start that never ends.
#[allow(
    clippy::disallowed_methods,
    reason = "the file is the operator's, and none of the store's"
)]
fn open(path: &Path) -> io::Result<File> {
    let not_now = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(not_now)
        .open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

fn writer(file: Option<&Path>) -> io::Result<Option<Arc<Writer>>> {
    let writer = file.map(|path| Writer::start(open(path)?)).transpose()?;
    Ok(writer.map(Arc::new))
}

impl Audit {
    /// Into the file, where one is named; else into the log.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn open(file: Option<&Path>, missed: &Counter) -> io::Result<Self> {
        Ok(Self {
            file: ArcSwapOption::new(writer(file)?),
            missed: missed.clone(),
        })
    }

    /// Goes on in the file of that name, which may be another by now: what turns logs over has moved
    /// the old one away. Records under way go to the old one.
    ///
    /// # Errors
    /// Where the file cannot be written; the old one stays.
    pub fn reopen(&self, file: Option<&Path>) -> io::Result<()> {
        self.file.store(writer(file)?);
        Ok(())
    }

    /// Writes a record; when it returns, the record is in the file, or it was told that it is not.
    pub async fn note(&self, record: Record) {
        let file = self.file.load_full();
        if let Some(file) = file {
            let line = serde_json::to_string(&record).unwrap_or_default();
            match file.write(format!("{line}\n")).await {
                Ok(()) => return,
                Err(error) => {
                    self.missed.inc();
                    error!(%error, "Writing an audit record to its file failed or took too long; the record follows here");
                }
            }
        }
        info!(
            target: "larder::audit",
            principal = record.principal,
            address = record.address,
            action = record.action,
            method = record.method,
            path = record.path,
            repository = record.repository,
            package = record.package,
            allowed = record.allowed,
            status = record.status,
            by = record.by,
            message = record.message,
            "audit"
        );
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    fn record(path: &str) -> Record {
        Record {
            path: path.to_owned(),
            ..Record::default()
        }
    }

    #[tokio::test]
    async fn a_record_is_in_the_file_when_the_answer_goes() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit");
        let missed = Counter::default();
        let audit = Audit::open(Some(&file), &missed).unwrap();
        for number in 0..20 {
            audit.note(record(&format!("/{number}"))).await;
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(&format!("\"path\":\"/{number}\"")), "{text}");
        }
        assert_eq!(missed.get(), 0);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn records_go_on_in_a_new_file_when_the_old_one_was_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let (file, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let audit = Audit::open(Some(&file), &Counter::default()).unwrap();
        audit.note(record("/before")).await;
        std::fs::rename(&file, &moved).unwrap();
        audit.note(record("/between")).await;
        audit.reopen(Some(&file)).unwrap();
        audit.note(record("/after")).await;
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(lines(&moved).lines().count(), 2);
        assert!(lines(&file).contains("/after"));
        // One that cannot be written leaves the old one in its place.
        let nowhere = folder.path().join("no/such/folder");
        assert!(audit.reopen(Some(&nowhere)).is_err());
        audit.note(record("/last")).await;
        assert_eq!(lines(&file).lines().count(), 2);
    }

    #[tokio::test]
    async fn a_file_that_takes_nothing_holds_up_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let missed = Counter::default();
        assert!(Audit::open(Some(&pipe), &missed).is_err());
        let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
        let audit = Audit::open(Some(&pipe), &missed).unwrap();
        let began = Instant::now();
        let path = "x".repeat(1000);
        for _ in 0..3000 {
            audit.note(record(&path)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(missed.get() > 1000);
        // The pipe is read again: what waited comes, and the next record is waited for.
        let read = thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), vec![0; 1 << 16]);
            while !all.ends_with(b"}\n") || !all.windows(4).any(|four| four == b"last") {
                let count = reader.read(&mut piece).unwrap();
                all.drain(..all.len().saturating_sub(1000));
                all.extend_from_slice(&piece[..count]);
            }
        });
        // While what waited is still being written, there may be no place for another.
        loop {
            let before = missed.get();
            audit.note(record("last")).await;
            if missed.get() == before {
                break;
            }
            tokio::task::yield_now().await;
        }
        read.join().unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_counted_and_answers_go_on() {
        let missed = Counter::default();
        let audit = Audit::open(Some(Path::new("/dev/full")), &missed).unwrap();
        audit.note(record("/a")).await;
        assert_eq!(missed.get(), 1);
    }
}
