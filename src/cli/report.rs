//! `larder report` and `larder who PACKAGE[@VERSION]`

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::check::backup_line;
use super::closing::{self, size};
use super::control::{self, package_and_version};
use super::{Global, Output, print, settings, table, task};
use crate::clock;
use crate::config::Config;
use crate::format::counted;
use crate::repository::upkeep::{UpkeepCommand, UpkeepOutcome, UsageReport};
use crate::store;
use crate::store::catalog::ledger::{Pull, Size};
use crate::telemetry::SinceStart;
use crate::tool::client::ControlClient;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Bytes served are those sent to clients; bytes fetched those received from upstreams, documents after decompression. What was saved is the difference.\n\nExamples:\n  larder report\n  larder report --since-start      # at the end of a CI job\n  larder report --days 7 --by day\n  larder report --by connection --csv > egress.csv"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Report what the running Larder did since it began, instead of the counts of days
    #[arg(long, conflicts_with_all = ["days", "by", "top", "csv"])]
    since_start: bool,
    /// The last days, today among them
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// Group the lines by this
    #[arg(long, value_enum, default_value_t = By::Format)]
    by: By,
    /// Packages in each list
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Comma-separated values: the lines alone
    #[arg(long)]
    csv: bool,
}

/// The groups of a report's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Format,
    Repository,
    Day,
    Connection,
}

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Who is a principal's ARN where requests have to say who it is, else an address. The last of a day is noted.\n\nExamples:\n  larder who npm:left-pad@1.3.0\n  larder who maven:org.apache.logging.log4j:log4j-core --json"
)]
pub struct WhoArguments {
    #[command(flatten)]
    output: Output,
    /// A package, or one version of it
    #[arg(value_name = "PACKAGE[@VERSION]")]
    package: String,
    /// Comma-separated values
    #[arg(long)]
    csv: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    if arguments.since_start {
        return since_start(output, &config).await;
    }
    let command = UpkeepCommand::Report {
        days: arguments.days,
        top: arguments.top,
    };
    let outcome = control::execute_upkeep(config, command).await?;
    let UpkeepOutcome::Report(report) = &outcome else {
        anyhow::bail!("the running Larder answers something else; is it of this version?");
    };
    if arguments.csv {
        return csv(&rows(report, arguments.by, false));
    }
    control::show(output, report, |report| lines(report, arguments.by))?;
    Ok(ExitCode::SUCCESS)
}

async fn since_start(output: Output, config: &Config) -> anyhow::Result<ExitCode> {
    let Some(address) = store::holder(&config.data_dir).map(|holder| holder.address) else {
        anyhow::bail!(
            "no Larder serves the data directory {}, so none has counted anything; `larder report` shows what earlier ones did",
            config.data_dir.display()
        );
    };
    anyhow::ensure!(
        address.is_some(),
        "the Larder that holds the data directory serves nothing yet"
    );
    let report = ControlClient::of(&config.data_dir)?.since_start().await?;
    control::show(output, &report, since_start_lines)?;
    Ok(ExitCode::SUCCESS)
}

fn since_start_lines(report: &SinceStart) -> Vec<String> {
    let (work, counts) = (&report.work, &report.work.counts);
    let mut lines = vec![
        format!("since {:.0}", report.since),
        format!(
            "{}, {}",
            counted(counts.requests, "request"),
            counted(counts.hits, "hit")
        ),
        format!(
            "{} sent to clients, {} fetched from registries",
            size(counts.served_bytes),
            size(counts.fetched_bytes)
        ),
        format!(
            "hits saved {} from registries and {} of waiting",
            size(counts.saved_bytes),
            closing::waiting(counts.saved_ms)
        ),
    ];
    if counts.failures > 0 {
        lines.push(format!(
            "{} refused or failed, {} of them by rules",
            counts.failures, work.refused_by_rules
        ));
    }
    if let Some(first) = &work.first_failure {
        lines.push(format!("first failure: {first}"));
    }
    lines
}

pub async fn who(global: Global, arguments: WhoArguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (package, version) = package_and_version(&arguments.package)?;
    let config = settings::config(&global, None).await?;
    let command = UpkeepCommand::Who {
        package: package.to_string(),
        version,
    };
    let outcome = control::execute_upkeep(config, command).await?;
    let UpkeepOutcome::Pulls { pulls } = &outcome else {
        anyhow::bail!("the running Larder answers something else; is it of this version?");
    };
    let rows = pulls_rows(pulls);
    if arguments.csv {
        return csv(&rows);
    }
    control::show(output, &outcome, |_| {
        if pulls.is_empty() {
            vec![format!("nobody has taken {} here", arguments.package)]
        } else {
            table::lines(&rows, &[4])
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn csv(rows: &[Vec<String>]) -> anyhow::Result<ExitCode> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    let text = String::from_utf8(writer.into_inner()?)?;
    print(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn pulls_rows(pulls: &[Pull]) -> Vec<Vec<String>> {
    let head = ["last taken", "who", "version", "repository", "times"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(pulls.iter().map(|pull| {
        vec![
            pull.last_at.to_string(),
            pull.who.clone(),
            pull.version.clone(),
            pull.repository.clone(),
            pull.times.to_string(),
        ]
    }));
    rows
}

/// The counts of one line.
#[derive(Default)]
struct Sum {
    requests: u64,
    hits: u64,
    failures: u64,
    served: u64,
    fetches: u64,
    fetched: u64,
}

impl Sum {
    fn cells(&self, by: By, is_for_people: bool) -> Vec<String> {
        let bytes = |bytes: u64| {
            if is_for_people {
                size(bytes)
            } else {
                bytes.to_string()
            }
        };
        let ratio = if self.requests == 0 {
            String::new()
        } else {
            format!("{:.1}", 100.0 * share(self.hits, self.requests))
        };
        let saved = self.served.saturating_sub(self.fetched);
        let asked = [
            self.requests.to_string(),
            ratio,
            self.failures.to_string(),
            bytes(self.served),
        ];
        let fetched = [self.fetches.to_string(), bytes(self.fetched)];
        match by {
            By::Connection => fetched.to_vec(),
            // Which repository a fetch was for is not always one.
            By::Repository => asked.to_vec(),
            By::Format | By::Day => [asked.as_slice(), &fetched, &[bytes(saved)]].concat(),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share for people to read")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// A line for each of what they are of, their head first.
fn rows(report: &UsageReport, by: By, is_for_people: bool) -> Vec<Vec<String>> {
    let mut sums = BTreeMap::<String, Sum>::new();
    for one in &report.traffic {
        let of = match by {
            By::Format => one.format.clone(),
            By::Repository => one.repository.clone(),
            By::Day => one.day.to_string(),
            By::Connection => continue,
        };
        let sum = sums.entry(of).or_default();
        sum.requests += one.requests;
        sum.hits += one.hits;
        sum.failures += one.failures;
        sum.served += one.served;
    }
    for one in &report.egress {
        let of = match by {
            By::Format => one.format.clone(),
            By::Connection => one.connection.clone(),
            By::Day => one.day.to_string(),
            By::Repository => continue,
        };
        let sum = sums.entry(of).or_default();
        sum.fetches += one.fetches;
        sum.fetched += one.bytes;
    }
    let asked = ["requests", "hits %", "failures", "served"];
    let fetched = ["fetches", "fetched"];
    let (of, names): (&str, Vec<&str>) = match by {
        By::Format => ("format", [asked.as_slice(), &fetched, &["saved"]].concat()),
        By::Day => ("day", [asked.as_slice(), &fetched, &["saved"]].concat()),
        By::Repository => ("repository", asked.to_vec()),
        By::Connection => ("connection", fetched.to_vec()),
    };
    let head = std::iter::once(of)
        .chain(names)
        .map(str::to_owned)
        .collect();
    let mut rows: Vec<Vec<String>> = vec![head];
    for (of, sum) in &sums {
        let mut row = vec![of.clone()];
        row.extend(sum.cells(by, is_for_people));
        rows.push(row);
    }
    rows
}

fn lines(report: &UsageReport, by: By) -> Vec<String> {
    let mut lines = table::lines(&rows(report, by, true), &[1, 2, 3, 4, 5, 6, 7]);
    for (title, sizes) in [
        ("largest packages", &report.largest),
        ("least used packages", &report.least_used),
    ] {
        if !sizes.is_empty() {
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(table::lines(&sizes_rows(sizes), &[1, 2]));
        }
    }
    lines.push(String::new());
    lines.push(format!(
        "{} here, {}; {} of them, {}, never evicted",
        counted(report.files, "file"),
        size(report.bytes),
        report.kept.files,
        size(report.kept.bytes),
    ));
    if report.last_backup.is_some() {
        let backup = backup_line(report.last_backup.as_ref(), clock::now());
        lines.push(format!("backup: {backup}"));
    }
    let tasks = report.tasks.iter();
    lines.extend(tasks.map(|it| format!("task: {}", task::line(it, clock::now()))));
    lines
}

fn sizes_rows(sizes: &[Size]) -> Vec<Vec<String>> {
    let head = ["package", "files", "size", "last used"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(sizes.iter().map(|one| {
        vec![
            one.package.clone(),
            one.files.to_string(),
            size(one.bytes),
            one.last_used.to_string(),
        ]
    }));
    rows
}
