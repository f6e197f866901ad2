//! Counts what happened, tells at once what must not happen, and says at the end whether enough happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::stock::Format;
use super::upstream::Fault;

/// What Larder may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Other bytes than upstream has or were published, in an answer that came to its end.
    Bytes,
    /// No answer, no start or no end within the time.
    Hang,
    /// An acknowledged publish that is not there; or a deletion that did not last.
    Lost,
    /// 500.
    Internal,
    /// 404 for what exists.
    Denied,
    /// Some other answer than there may be, or a process that ended by itself.
    Odd,
    /// Not served after the faults had ended.
    NotServed,
}

impl Wrong {
    const ALL: [Self; 7] = [
        Self::Bytes,
        Self::Hang,
        Self::Lost,
        Self::Internal,
        Self::Denied,
        Self::Odd,
        Self::NotServed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "wrong bytes",
            Self::Hang => "hangs",
            Self::Lost => "lost publishes",
            Self::Internal => "500s",
            Self::Denied => "404s for what exists",
            Self::Odd => "odd answers",
            Self::NotServed => "not served at the end",
        }
    }
}

/// What is done to Larder itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Kill,
    Stop,
    Reload,
    FullDisk,
    Clock,
    CatalogLoss,
    DamagedFile,
}

impl Blow {
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::Stop,
        Self::Reload,
        Self::FullDisk,
        Self::Clock,
        Self::CatalogLoss,
        Self::DamagedFile,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGTERM",
            Self::Reload => "reload",
            Self::FullDisk => "full disk",
            Self::Clock => "clock",
            Self::CatalogLoss => "catalog lost",
            Self::DamagedFile => "file damaged",
        }
    }
}

#[derive(Debug, Default)]
struct Format4 {
    /// Answers that came to their end, whatever they were.
    requests: u64,
    /// Answers whose bytes were compared.
    verified: u64,
    /// 5xx other than 500, and 429.
    refused: u64,
    acknowledged: u64,
}

#[derive(Default)]
struct Tally {
    formats: BTreeMap<&'static str, Format4>,
    upstream: BTreeMap<&'static str, u64>,
    blows: BTreeMap<&'static str, u64>,
    missing: BTreeMap<&'static str, String>,
    wrong: BTreeMap<Wrong, u64>,
    /// Sockets that were refused or broke, as they do where a process is killed.
    broken: u64,
    deleted: u64,
}

pub struct Account {
    pub seed: u64,
    begun: Instant,
    log: PathBuf,
    tally: Mutex<Tally>,
}

/// Longer stories than this do not help.
const TOLD_MAX: u64 = 12;
const LOG_LINES: usize = 12;

/// What a run has to come to in each minute, so that an idle one fails.
const REQUESTS: f64 = 1000.0;
const PUBLISHES: f64 = 25.0;
const KILLS: f64 = 1.5;
/// And in any run.
const KILLS_MIN: f64 = 3.0;
const FAULTS_MIN: u64 = 3;

impl Account {
    pub fn new(seed: u64, log: PathBuf) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            log,
            tally: Mutex::default(),
        }
    }

    fn of(&self, format: Format, change: impl FnOnce(&mut Format4)) {
        let mut tally = self.tally.lock().unwrap();
        change(tally.formats.entry(format.name()).or_default());
    }

    pub fn answered(&self, format: Format) {
        self.of(format, |it| it.requests += 1);
    }

    pub fn verified(&self, format: Format) {
        self.of(format, |it| it.verified += 1);
    }

    pub fn refused(&self, format: Format) {
        self.of(format, |it| it.refused += 1);
    }

    pub fn acknowledged(&self, format: Format) {
        self.of(format, |it| it.acknowledged += 1);
    }

    pub fn broken(&self) {
        self.tally.lock().unwrap().broken += 1;
    }

    pub fn deleted(&self) {
        self.tally.lock().unwrap().deleted += 1;
    }

    pub fn upstream_fault(&self, fault: Fault) {
        let mut tally = self.tally.lock().unwrap();
        *tally.upstream.entry(fault.name()).or_default() += 1;
    }

    pub fn blow(&self, blow: Blow) {
        let mut tally = self.tally.lock().unwrap();
        *tally.blows.entry(blow.name()).or_default() += 1;
    }

    /// A kind of fault that this machine cannot have.
    pub fn cannot(&self, blow: Blow, why: &str) {
        let mut tally = self.tally.lock().unwrap();
        tally.missing.insert(blow.name(), why.to_owned());
    }

    /// Tells what must not have been, with what Larder last said.
    pub fn wrong(&self, wrong: Wrong, story: &str) {
        let told = {
            let mut tally = self.tally.lock().unwrap();
            *tally.wrong.entry(wrong).or_default() += 1;
            tally.wrong.values().sum::<u64>()
        };
        if told <= TOLD_MAX {
            let at = self.begun.elapsed().as_secs_f64();
            eprintln!(
                "chaos: {} (seed {}, {at:.1} s): {story}\n{}",
                wrong.name(),
                self.seed,
                self.last_words()
            );
        }
    }

    /// The last lines of Larder's log that are not of a request.
    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // One line a request would be all that there is.
        let is_telling = |line: &&str| !line.contains("\"method\":");
        let lines: Vec<&str> = log.lines().filter(is_telling).collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        let cut = |line: &&str| format!("    {}\n", line.chars().take(400).collect::<String>());
        last.iter().map(cut).collect()
    }

    /// The closing lines, and whether the run may count.
    pub fn close(&self, spent: Duration) -> (String, bool) {
        let tally = self.tally.lock().unwrap();
        let minutes = spent.as_secs_f64() / 60.0;
        let mut missed = Vec::new();
        let mut line = format!("chaos: seed {}, {minutes:.1} minutes; requests", self.seed);
        let mut acknowledged = 0;
        for format in Format::ALL {
            let none = Format4::default();
            let of = tally.formats.get(format.name()).unwrap_or(&none);
            let _ = write!(
                line,
                " {} {} ({} verified, {} refused),",
                format.name(),
                of.requests,
                of.verified,
                of.refused
            );
            let least = minutes * REQUESTS;
            if (of.verified as f64) < least {
                let name = format.name();
                missed.push(format!("{} of {least:.0} verified for {name}", of.verified));
            }
            acknowledged += of.acknowledged;
        }
        let _ = write!(line, " {} broken; upstream's faults", tally.broken);
        for fault in Fault::ALL {
            let count = tally.upstream.get(fault.name()).copied().unwrap_or(0);
            let _ = write!(line, " {} {count},", fault.name());
            if count < FAULTS_MIN {
                missed.push(format!("{count} of {FAULTS_MIN} times {}", fault.name()));
            }
        }
        line.push_str(" faults");
        for blow in Blow::ALL {
            let count = tally.blows.get(blow.name()).copied().unwrap_or(0);
            let _ = write!(line, " {} {count}", blow.name());
            match tally.missing.get(blow.name()) {
                Some(why) => {
                    let _ = write!(line, " (skipped: {why})");
                }
                None if count == 0 => missed.push(format!("no {}", blow.name())),
                None => {}
            }
            line.push(',');
        }
        let kills = tally.blows.get(Blow::Kill.name()).copied().unwrap_or(0) as f64;
        let least = (minutes * KILLS).max(KILLS_MIN);
        if kills < least {
            missed.push(format!("{kills} of {least:.0} kills"));
        }
        let least = minutes * PUBLISHES;
        if (acknowledged as f64) < least {
            missed.push(format!("{acknowledged} of {least:.0} publishes"));
        }
        let _ = write!(
            line,
            " {acknowledged} publishes acknowledged, {} deleted;",
            tally.deleted
        );
        let mut is_right = missed.is_empty();
        for wrong in Wrong::ALL {
            let count = tally.wrong.get(&wrong).copied().unwrap_or(0);
            is_right &= count == 0;
            let _ = write!(line, " {} {count},", wrong.name());
        }
        let line = line.trim_end_matches(',').to_owned();
        let missed: Vec<String> = missed
            .iter()
            .map(|it| format!("chaos: too little: {it}\n"))
            .collect();
        (format!("{}{line}", missed.concat()), is_right)
    }
}
