//! Fetching what lists need, by the same doors and the same decision as what clients ask for.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::platform::Platforms;
use super::want::{Match, Want, WantedFile};
use crate::format::path::last_segment;
use crate::format::{self, Requirements};
use crate::package::{AssetFacts, AssetId, Format, PackageId};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{GatheredFacts, Reader, Repository, Snapshot};

/// Files of one version that are fetched at once.
const FILES_AT_ONCE: usize = 8;
/// Versions that are tried where the newest is held back.
const NEWEST_TRIED_MAX: usize = 50;

/// How to go about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmOptions {
    pub platforms: Platforms,
    /// Documents with all that a registry has: dates, words for people.
    pub whole: bool,
}

/// The result of fetching one want.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmed {
    pub package: String,
    pub version: String,
    pub documents: u64,
    /// Files that came in, and their bytes.
    pub fetched: u64,
    pub fetched_bytes: u64,
    /// Files that were here.
    pub present: u64,
    /// Packages that the files need, and that no list names for them: what a source distribution is
    /// built with, what the newest version requires.
    #[serde(default)]
    pub needs: Vec<Want>,
    pub troubles: Vec<Failure>,
}

/// Why something is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// `npm:left-pad/left-pad-1.3.0.tgz`
    pub what: String,
    /// The rule, repository or upstream that decided.
    pub decider: String,
    pub message: String,
}

/// Why something of a want was not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Held back by a rule, or because its name belongs to the other side.
    Refused,
    /// No source has it.
    Missing,
    /// Its bytes are not what the list or the registry promises.
    Differs,
    /// An upstream fails, or there is no room; it may come another time.
    Failed,
}

impl Failure {
    fn of(what: impl ToString, problem: &Problem) -> Self {
        Self {
            kind: match problem.kind {
                Kind::Denied | Kind::Unauthenticated => FailureKind::Refused,
                Kind::NotFound => FailureKind::Missing,
                Kind::Unverified => FailureKind::Differs,
                _ => FailureKind::Failed,
            },
            what: what.to_string(),
            decider: problem.decider.to_string(),
            message: problem.message.clone(),
        }
    }
}

/// Brings in what is wanted from one repository.
pub struct Warmer<'a> {
    pub reader: &'a Arc<Reader>,
    pub snapshot: &'a Arc<Snapshot>,
    pub repository: &'a Repository,
    pub manner: WarmOptions,
}

impl Warmer<'_> {
    /// Fetches what is not here yet; what goes wrong stands in the answer.
    pub async fn warm(&self, want: &Want) -> Warmed {
        let mut warmed = Warmed {
            package: want.package.clone(),
            version: want.version.clone().unwrap_or_default(),
            ..Warmed::default()
        };
        if let Err(problem) = self.try_to(want, &mut warmed).await {
            let of = match &want.version {
                Some(version) => format!("{}@{version}", want.package),
                None => want.package.clone(),
            };
            warmed.troubles.push(Failure::of(of, &problem));
        }
        warmed
    }

    async fn try_to(&self, want: &Want, warmed: &mut Warmed) -> Result<(), Problem> {
        let package = format::package(&want.package)?;
        if package.format() == Format::Maven && !want.files.is_empty() {
            let files = want
                .files
                .iter()
                .map(|file| (file.name.clone(), file.is_optional));
            self.fetch(&package, files.collect(), warmed).await;
            return Ok(());
        }
        let known = self
            .reader
            .gather(self.snapshot, self.repository, &package, self.manner.whole)
            .await?;
        warmed.documents = known.documents as u64;
        match &want.version {
            Some(version) => self.version(&package, version, want, &known, warmed).await,
            None => self.newest(&package, want, &known, warmed).await,
        }
        Ok(())
    }

    /// The newest version of those that will do that is not held back.
    async fn newest(
        &self,
        package: &PackageId,
        want: &Want,
        known: &GatheredFacts,
        warmed: &mut Warmed,
    ) {
        let mut versions: Vec<&str> = known
            .facts
            .iter()
            .flat_map(|facts| facts.facts.iter())
            .filter(|facts| !facts.is_withdrawn && self.manner.platforms.run(facts.runs_on))
            .map(|facts| facts.version)
            .chain(known.own.iter().map(String::as_str))
            .collect();
        let protocol = package.format().protocol();
        // A range that cannot be read excludes no version.
        versions.retain(|version| {
            want.range.is_empty() || protocol.version_in(version, &want.range) != Some(false)
        });
        if versions.is_empty() {
            let what = format!("{package} {}", want.range).trim_end().to_owned();
            let trouble = self.missing(what, "no source has such a version for these machines");
            warmed.troubles.push(trouble);
        }
        versions.sort_by(|a, b| protocol.compare_choice(b, a));
        versions.dedup();
        for (index, version) in versions.into_iter().take(NEWEST_TRIED_MAX).enumerate() {
            let mut tried = Warmed {
                package: warmed.package.clone(),
                version: version.to_owned(),
                documents: warmed.documents,
                ..Warmed::default()
            };
            self.version(package, version, want, known, &mut tried)
                .await;
            let is_held_back = tried.fetched + tried.present == 0
                && tried
                    .troubles
                    .iter()
                    .any(|it| it.kind == FailureKind::Refused);
            // Where rules hold several versions back, only the newest is reported.
            if !is_held_back || index == 0 {
                *warmed = tried;
            }
            if !is_held_back {
                return;
            }
        }
    }

    async fn version(
        &self,
        package: &PackageId,
        version: &str,
        want: &Want,
        known: &GatheredFacts,
        warmed: &mut Warmed,
    ) {
        let protocol = package.format().protocol();
        let wanted = protocol.known_version(version);
        let is_it = |other: &str| protocol.known_version(other) == wanted;
        if known.own.iter().any(|own| is_it(own)) {
            warmed.present += 1;
            return;
        }
        let of_it = known
            .facts
            .iter()
            .map(|facts| {
                let all = facts.facts.iter();
                all.filter(|facts| is_it(facts.version))
                    .filter_map(|facts| facts.facts())
                    .collect::<Vec<_>>()
            })
            .find(|found| !found.is_empty());
        let Some(of_it) = of_it else {
            let what = format!("{package}@{version}");
            let trouble = self.missing(what, "no source has this version");
            warmed.troubles.push(trouble);
            return;
        };
        let chosen = self.chosen(package, version, want, &of_it, warmed);
        // A locked version's requirements are in the lockfile. The tools that build a source
        // distribution are not, and have to be resolved.
        let is_built = !chosen.iter().any(|(file, _)| file.ends_with(".whl"));
        let files: Vec<String> = chosen.iter().map(|(file, _)| file.clone()).collect();
        self.fetch(package, chosen, warmed).await;
        if let Some(requirements) = package.format().protocol().requirements()
            && (want.version.is_none() || is_built)
        {
            for file in files {
                self.add_needs(requirements, package, &file, warmed).await;
            }
        }
    }

    /// Looks into a file that is here for what it needs.
    async fn add_needs(
        &self,
        requirements: &'static dyn Requirements,
        package: &PackageId,
        file: &str,
        warmed: &mut Warmed,
    ) {
        let asset = AssetId {
            package: package.clone(),
            file: file.into(),
        };
        let gathered = self
            .reader
            .gather_asset(self.snapshot, self.repository, &asset)
            .await;
        // Files that could not be fetched are among the failures already.
        let Ok(gathered) = gathered else { return };
        let name = file.to_owned();
        let looked = self.reader.fetcher().tasks().spawn_blocking(move || {
            let mut content = gathered.blob.reader();
            requirements.needs(&name, &mut *content)
        });
        match looked.await {
            Ok(Ok(needs)) => {
                let wants = needs.iter().map(|it| Want::newest(&it.package, &it.range));
                warmed.needs.extend(wants);
            }
            Ok(Err(problem)) => warmed.troubles.push(Failure::of(asset, &problem)),
            Err(error) => {
                let problem = Problem::internal("looking into a file failed", error);
                warmed.troubles.push(Failure::of(asset, &problem));
            }
        }
    }

    /// The files of a version that are wanted; whether they may be absent.
    fn chosen(
        &self,
        package: &PackageId,
        version: &str,
        want: &Want,
        of_it: &[AssetFacts],
        warmed: &mut Warmed,
    ) -> Vec<(String, bool)> {
        let fits = |file: &str| {
            package.format() != Format::Pypi || self.manner.platforms.python(last_segment(file))
        };
        // Files that clients read before a package's own files (metadata, checksums) come with
        // them.
        let protocol = package.format().protocol();
        let carriers = of_it.iter().filter(|it| protocol.is_package_file(&it.file));
        let mut chosen: Vec<&AssetFacts> = Vec::new();
        let mut found = vec![false; want.files.len()];
        for facts in carriers {
            let mut is_wanted = want.files.is_empty();
            for (file, found) in want.files.iter().zip(&mut found) {
                match file.matches(facts) {
                    Match::No => {}
                    Match::Yes => (is_wanted, *found) = (true, true),
                    Match::Differs => {
                        *found = true;
                        warmed.troubles.push(differs(package, facts, file));
                    }
                }
            }
            if is_wanted && fits(&facts.file) {
                chosen.push(facts);
            }
        }
        let is_one = of_it
            .iter()
            .filter(|it| protocol.is_package_file(&it.file))
            .count()
            == 1;
        for (file, found) in want.files.iter().zip(found) {
            if found || file.is_optional {
                continue;
            }
            match (file.name.is_empty(), of_it.first()) {
                // One digest of several that a list takes.
                (true, _) if !chosen.is_empty() => {}
                // A list that says nothing of its one file.
                (true, Some(facts)) if is_one && file.digest.is_empty() => chosen.push(facts),
                (true, Some(facts)) if is_one => match file.expected() {
                    // The registry promises by another algorithm.
                    Some(_) if !says_same_algorithm(file, facts) => chosen.push(facts),
                    _ => warmed.troubles.push(differs(package, facts, file)),
                },
                _ if !fits(&file.name) => {}
                _ => {
                    let what = format!("{package}@{version} {}{}", file.name, file.digest);
                    let why = "the registry's document does not name this file";
                    warmed.troubles.push(self.missing(what, why));
                }
            }
        }
        let mut files: Vec<(String, bool)> = Vec::new();
        for facts in chosen {
            files.push((facts.file.to_string(), false));
            let beside = of_it
                .iter()
                .filter(|it| !protocol.is_package_file(&it.file) && !it.file.ends_with(".asc"))
                .filter(|it| it.file.starts_with(&*facts.file));
            files.extend(beside.map(|it| (it.file.to_string(), false)));
        }
        files
    }

    fn missing(&self, what: String, why: &str) -> Failure {
        Failure {
            kind: FailureKind::Missing,
            what,
            decider: self.repository.name.clone(),
            message: why.to_owned(),
        }
    }

    async fn fetch(&self, package: &PackageId, files: Vec<(String, bool)>, warmed: &mut Warmed) {
        let fetched = stream::iter(files).map(|(file, is_optional)| {
            let asset = AssetId {
                package: package.clone(),
                file: file.into(),
            };
            async move {
                let gathered = self
                    .reader
                    .gather_asset(self.snapshot, self.repository, &asset)
                    .await;
                (asset, is_optional, gathered)
            }
        });
        let mut fetched = fetched.buffer_unordered(FILES_AT_ONCE);
        while let Some((asset, is_optional, gathered)) = fetched.next().await {
            match gathered {
                Ok(gathered) if gathered.is_new => {
                    warmed.fetched += 1;
                    warmed.fetched_bytes += gathered.blob.size();
                }
                Ok(_) => warmed.present += 1,
                Err(problem) if is_optional && problem.kind == Kind::NotFound => {}
                Err(problem) => warmed.troubles.push(Failure::of(asset, &problem)),
            }
        }
    }
}

fn says_same_algorithm(file: &WantedFile, facts: &AssetFacts) -> bool {
    use crate::package::Expectation;
    match (&facts.expectation, file.expected()) {
        (Expectation::Known(promised), Some(expected)) => promised
            .iter()
            .any(|it| it.algorithm() == expected.algorithm()),
        _ => false,
    }
}

fn differs(package: &PackageId, facts: &AssetFacts, file: &WantedFile) -> Failure {
    Failure {
        kind: FailureKind::Differs,
        what: format!("{package}/{}", facts.file),
        decider: Decider::Larder.to_string(),
        message: format!(
            "the list says {}, and the registry promises other bytes: it is not fetched",
            file.digest
        ),
    }
}
