//! `larder warm FILE…`

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bytesize::ByteSize;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::control::{self, Backend};
use super::settings::UsageError;
use super::{Global, Output, progress, tell};
use crate::airgap::lockfile::{self, Needs};
use crate::airgap::platform::{Platform, Platforms};
use crate::airgap::{
    AirgapCommand, AirgapOutcome, Failure, FailureKind, Want, WarmOptions, Warmed,
};
use crate::format::counted;
use crate::format::maven::pom::Pom;
use crate::tool::maven;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Lists are package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock (both kinds), bun.lock, requirements.txt, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml, pom.xml, gradle.lockfile, verification-metadata.xml, packages.lock.json, project.assets.json, packages.config, and text with a package a line: npm:left-pad@1.3.0, pypi:requests (the newest), maven:org.acme:lib@1.0 (with all that it needs). Of a folder, those in it. What is here already is not fetched again: it may be stopped and begun again.\n\nExamples:\n  larder warm package-lock.json\n  larder warm . --platform linux-x64 --platform linux-arm64 --python 3.12\n  larder warm --wishes wishes.json       # what `larder wishes --json` printed behind the air gap\n  larder warm pom.xml requirements.txt --json"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Lockfiles, lists, or folders with some in them
    #[arg(value_name = "FILE", required_unless_present = "wishes")]
    files: Vec<PathBuf>,
    /// A list of wishes, as `larder wishes --json` prints it
    #[arg(long, value_name = "FILE")]
    wishes: Vec<PathBuf>,
    /// The repository; without it, the first of the configuration
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Files for this kind of machine alone (linux-x64, linux-arm64-musl, darwin-arm64, win32-x64)
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Wheels for this version of Python alone
    #[arg(long, value_name = "VERSION")]
    python: Vec<String>,
    /// Whole documents: with the dates and descriptions that resolvers do not need
    #[arg(long)]
    whole: bool,
    /// Versions that are fetched at once
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    at_once: usize,
}

/// The result of fetching all wants.
#[derive(Debug, Default, Serialize)]
struct Summary {
    versions: u64,
    documents: u64,
    fetched: u64,
    fetched_bytes: u64,
    present: u64,
    refused: Vec<Failure>,
    missing: Vec<Failure>,
    differing: Vec<Failure>,
    failed: Vec<Failure>,
    /// Entries of the lists that do not come from a registry.
    elsewhere: Vec<String>,
}

impl Summary {
    fn add(&mut self, warmed: Warmed) {
        self.versions += 1;
        self.documents += warmed.documents;
        self.fetched += warmed.fetched;
        self.fetched_bytes += warmed.fetched_bytes;
        self.present += warmed.present;
        for trouble in warmed.troubles {
            match trouble.kind {
                FailureKind::Refused => self.refused.push(trouble),
                FailureKind::Missing => self.missing.push(trouble),
                FailureKind::Differs => self.differing.push(trouble),
                FailureKind::Failed => self.failed.push(trouble),
            }
        }
    }

    fn is_whole(&self) -> bool {
        [&self.refused, &self.missing, &self.differing, &self.failed]
            .iter()
            .all(|troubles| troubles.is_empty())
    }
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (config, repository) = control::repository(&global, arguments.repository).await?;
    let platforms = Platforms {
        platforms: arguments.platform,
        pythons: arguments.python,
    };
    let needs = read_all(arguments.files.iter().chain(&arguments.wishes), &platforms)?;
    let backend = Backend::connect(config).await?;
    let manner = WarmOptions {
        platforms,
        whole: arguments.whole,
    };
    let at_once = arguments.at_once;
    let warmed = warm(&backend, &repository, needs, &manner, at_once, output).await;
    backend.stop().await;
    let summary = warmed?;
    control::show(output, &summary, lines)?;
    Ok(if summary.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn warm(
    backend: &Backend,
    repository: &str,
    needs: Needs,
    manner: &WarmOptions,
    at_once: usize,
    output: Output,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    let needs = resolved(backend, repository, needs, output).await?.merged();
    summary.elsewhere = needs.elsewhere;
    let counts = "{pos}/{len} versions, {msg} {elapsed}";
    let bar = progress::bar(output, needs.wants.len() as u64, counts)?;
    let mut known = needs.wants.clone();
    let mut wants = needs.wants;
    while !wants.is_empty() {
        let asked = stream::iter(std::mem::take(&mut wants)).map(|want| {
            backend.air_gap(AirgapCommand::Warm {
                repository: repository.to_owned(),
                want,
                manner: manner.clone(),
            })
        });
        let mut answers = asked.buffer_unordered(at_once.max(1));
        while let Some(outcome) = answers.next().await {
            let AirgapOutcome::Warmed { mut warmed } = outcome? else {
                anyhow::bail!("the running Larder answers something else; is it of this version?");
            };
            for need in std::mem::take(&mut warmed.needs) {
                if !known.iter().any(|want| want.serves(&need)) {
                    known.push(need.clone());
                    wants.push(need);
                }
            }
            summary.add(warmed);
            bar.inc(1);
            bar.set_message(ByteSize(summary.fetched_bytes).display().iec().to_string());
        }
        bar.inc_length(wants.len() as u64);
    }
    bar.finish_and_clear();
    let troubles = [
        &mut summary.refused,
        &mut summary.missing,
        &mut summary.differing,
        &mut summary.failed,
    ];
    for troubles in troubles {
        troubles.sort_by(|a, b| a.what.cmp(&b.what));
    }
    Ok(summary)
}

/// The needs with Maven's projects and artifacts closed over.
#[allow(
    clippy::disallowed_methods,
    reason = "a command waits for it, and has no tasks"
)]
pub(super) async fn resolved(
    backend: &Backend,
    repository: &str,
    mut needs: Needs,
    output: Output,
) -> anyhow::Result<Needs> {
    let is_artifact = |want: &Want| want.package.starts_with("maven:") && want.files.is_empty();
    let (artifacts, others): (Vec<Want>, Vec<Want>) = std::mem::take(&mut needs.wants)
        .into_iter()
        .partition(is_artifact);
    needs.wants = others;
    if artifacts.is_empty() && needs.poms.is_empty() {
        return Ok(needs);
    }
    let artifacts = artifacts.iter().map(|want| {
        let name = want.package.trim_start_matches("maven:");
        format!("{name}:{}", want.version.as_deref().unwrap_or_default())
    });
    let command = AirgapCommand::Resolve {
        repository: repository.to_owned(),
        poms: std::mem::take(&mut needs.poms),
        artifacts: artifacts.collect(),
        bindings: tokio::task::spawn_blocking(maven::bindings).await?,
    };
    let work = backend.air_gap(command);
    let outcome = progress::beside(output, "Resolving Maven's projects", work).await?;
    let AirgapOutcome::Resolved { wants } = outcome else {
        anyhow::bail!("the running Larder answers something else; is it of this version?");
    };
    needs.wants.extend(wants);
    Ok(needs)
}

/// Lists by the names that clients give them.
const NAMES: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "requirements.txt",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pylock.toml",
    "pom.xml",
    "gradle.lockfile",
    "gradle/verification-metadata.xml",
    "packages.lock.json",
    "obj/project.assets.json",
    "packages.config",
];

#[allow(
    clippy::disallowed_methods,
    reason = "the command line names these files"
)]
pub(super) fn read_all<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
    platforms: &Platforms,
) -> anyhow::Result<Needs> {
    let mut needs = Needs::default();
    for file in files {
        if file.is_dir() {
            let found: Vec<PathBuf> = NAMES
                .iter()
                .map(|name| file.join(name))
                .filter(|file| file.is_file())
                .collect();
            if found.is_empty() {
                return Err(UsageError(format!("{} has no list in it", file.display())).into());
            }
            needs.add(read_all(found.iter(), platforms)?);
            continue;
        }
        let text = std::fs::read_to_string(file).map_err(|error| UsageError::file(file, &error))?;
        let name = file.to_string_lossy();
        let mut read = lockfile::read(&name, &text, platforms)
            .map_err(|error| UsageError(error.to_string()))?;
        if !read.poms.is_empty() {
            read.poms = project(file)?;
        }
        needs.add(read);
    }
    Ok(needs)
}

/// The poms of the build that this one is of: its modules, and parents that lie beside it.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line names these files"
)]
fn project(file: &Path) -> anyhow::Result<Vec<String>> {
    let (mut poms, mut seen) = (Vec::new(), HashSet::new());
    let mut waiting = vec![file.to_owned()];
    while let Some(file) = waiting.pop() {
        let real = std::fs::canonicalize(&file)
            .with_context(|| format!("{} is named and not there", file.display()))?;
        if !seen.insert(real) {
            continue;
        }
        let text =
            std::fs::read_to_string(&file).map_err(|error| UsageError::file(&file, &error))?;
        let pom = Pom::read(text.as_bytes())
            .map_err(|error| UsageError(format!("{}: {error}", file.display())))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        for module in &pom.modules {
            let module = folder.join(module);
            waiting.push(if module.is_dir() {
                module.join("pom.xml")
            } else {
                module
            });
        }
        // The parent's usual place; whether it is the parent shows when it is read.
        let above = folder.join("../pom.xml");
        if pom.parent.is_some() && above.is_file() {
            waiting.push(above);
        }
        poms.push(text);
    }
    Ok(poms)
}

fn lines(summary: &Summary) -> Vec<String> {
    let size = ByteSize(summary.fetched_bytes).display().iec();
    let mut lines = vec![format!(
        "{}: {} fetched ({size}), {} present, {} refused, {} missing, {} with other bytes, {} failed",
        counted(summary.versions, "version"),
        counted(summary.fetched, "file"),
        summary.present,
        summary.refused.len(),
        summary.missing.len(),
        summary.differing.len(),
        summary.failed.len(),
    )];
    for (word, troubles) in [
        ("refused", &summary.refused),
        ("missing", &summary.missing),
        ("other bytes", &summary.differing),
        ("failed", &summary.failed),
    ] {
        let told: BTreeSet<String> = troubles
            .iter()
            .map(|it| format!("  {word}: {}: {} ({})", it.what, it.message, it.decider))
            .collect();
        lines.extend(told);
    }
    if !summary.elsewhere.is_empty() {
        tell("larder: what lists take from elsewhere than a registry is not fetched:");
        for what in &summary.elsewhere {
            tell(&format!("  {what}"));
        }
    }
    lines
}
