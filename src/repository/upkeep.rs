//! The operator's commands about the store: pin, verify, collect garbage, report its use. The
//! command line and the running server share them.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Reader, Snapshot};
use crate::config::ConnectionSettings;
use crate::format::package;
use crate::package::{BlobId, Format};
use crate::problem::Problem;
use crate::rule::Pattern;
use crate::store::backup::{BackupReport, EarlierFiles};
use crate::store::catalog::ledger::{EgressOfDay, Pull, Size, TrafficOfDay};
use crate::store::catalog::{AssetKey, StoredRegistry};
use crate::store::packages::Pin;
use crate::store::{Health, LastBackup, Store, Waste};

/// Blobs that are looked at in one step of verifying.
const BLOBS_AT_ONCE: usize = 256;
/// Bytes after which a step ends.
const BYTES_AT_ONCE: u64 = 64 * 1024 * 1024;
/// Under which name it is remembered how far verifying has come.
const VERIFY: &str = "verify";
/// The message about a damaged file that exists nowhere else.
const ONLY_HERE: &str = "it was published here, and is nowhere to be fetched from: bring its file back from a backup or a copy of the data directory, or delete the version and publish it again";

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum UpkeepCommand {
    Pins,
    /// Never evicts what these patterns take.
    Pin {
        patterns: Vec<String>,
    },
    Unpin {
        patterns: Vec<String>,
    },
    /// Reads a few files more through.
    Verify {
        /// From the first one, whatever was read before.
        anew: bool,
        /// Fetches damaged ones again.
        repair: bool,
    },
    Gc {
        dry_run: bool,
    },
    /// Writes a backup into this folder, or brings the one that is there up to date.
    Backup {
        folder: PathBuf,
        earlier: EarlierFiles,
    },
    /// Lists the registries of which something is stored.
    Registries,
    /// Takes the registry at another address for the same one.
    MoveRegistry {
        from: String,
        to: String,
        /// Needed where registries of several formats are at the address.
        format: Option<String>,
    },
    Report {
        /// The last ones, today among them.
        days: u32,
        /// The most packages in each list.
        top: usize,
    },
    /// Lists who took a version, or any version of a package.
    Who {
        package: String,
        version: Option<String>,
    },
}

/// The result of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum UpkeepOutcome {
    Pins {
        pins: Vec<Pin>,
        kept: KeptTotals,
    },
    Verified(VerifyProgress),
    Waste {
        waste: Waste,
        dry_run: bool,
    },
    BackedUp(Box<BackupReport>),
    Registries {
        registries: Vec<StoredRegistry>,
    },
    Moved {
        format: String,
        from: String,
        to: String,
        documents: u64,
        files: u64,
    },
    Report(Box<UsageReport>),
    Pulls {
        pulls: Vec<Pull>,
    },
}

/// The number and size of the files that are never evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTotals {
    pub files: u64,
    pub bytes: u64,
}

/// A step of verifying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyProgress {
    pub checked: u64,
    pub bytes: u64,
    pub damaged: Vec<Damage>,
    /// All files have been read.
    pub is_done: bool,
    /// The bytes of the whole store, to show the progress.
    pub bytes_in_all: u64,
}

/// A stored file that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The blob's name.
    pub sha256: String,
    /// Assets that it was, `npm:left-pad/left-pad-1.3.0.tgz`; none of a document.
    pub assets: Vec<String>,
    /// `damaged` or `gone`.
    pub found: String,
    pub is_repaired: bool,
    /// How the file was repaired, or why it could not be.
    pub message: String,
}

/// How the store is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    pub days: u32,
    pub traffic: Vec<TrafficOfDay>,
    pub egress: Vec<EgressOfDay>,
    pub largest: Vec<Size>,
    pub least_used: Vec<Size>,
    pub files: u64,
    pub bytes: u64,
    pub kept: KeptTotals,
    /// None where there never was one.
    pub last_backup: Option<LastBackup>,
}

fn pattern(text: &str) -> Result<Pattern, Problem> {
    Pattern::parse(text).map_err(|error| Problem::invalid(error.to_string()))
}

/// The address of a registry, written as a connection's `url`.
fn address(format: Format, text: &str) -> Result<Url, Problem> {
    let read = ConnectionSettings::new("", format, text);
    read.map(|it| it.url)
        .map_err(|why| Problem::invalid(format!("`{text}` is no address of a registry: {why}")))
}

fn nothing_stored(from: &str) -> Problem {
    Problem::invalid(format!("nothing is stored of a registry at {from}"))
        .advice("`larder connection` lists the registries of which something is")
}

/// An operator's work on the store, under one configuration.
pub struct Upkeep<'a> {
    reader: &'a Arc<Reader>,
    snapshot: &'a Arc<Snapshot>,
}

impl<'a> Upkeep<'a> {
    #[must_use]
    pub fn new(reader: &'a Arc<Reader>, snapshot: &'a Arc<Snapshot>) -> Self {
        Self { reader, snapshot }
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// Where what it names cannot be read, or the store fails.
    pub async fn execute(&self, command: UpkeepCommand) -> Result<UpkeepOutcome, Problem> {
        let store = self.store();
        let catalog = store.catalog();
        match command {
            UpkeepCommand::Pins => self.pins().await,
            UpkeepCommand::Pin { patterns } => {
                let patterns: Result<Vec<_>, _> = patterns.iter().map(|it| pattern(it)).collect();
                store
                    .retention()
                    .pin(&patterns?, &[], &self.snapshot.formats())
                    .await?;
                self.pins().await
            }
            UpkeepCommand::Unpin { patterns } => {
                let removed = store
                    .retention()
                    .pin(&[], &patterns, &self.snapshot.formats())
                    .await?;
                match patterns.iter().find(|it| !removed.contains(it)) {
                    None => self.pins().await,
                    Some(unknown) => Err(Problem::invalid(format!("`{unknown}` is not pinned"))
                        .advice("`larder pin` without a pattern lists what is")),
                }
            }
            UpkeepCommand::Verify { anew, repair } => self.verify(anew, repair).await,
            UpkeepCommand::Gc { dry_run } => {
                let waste = store
                    .collect_garbage(&self.snapshot.config.report, dry_run)
                    .await?;
                Ok(UpkeepOutcome::Waste { waste, dry_run })
            }
            UpkeepCommand::Backup { folder, earlier } => {
                let report = store.back_up(&folder, earlier, &Arc::default()).await?;
                Ok(UpkeepOutcome::BackedUp(Box::new(report)))
            }
            UpkeepCommand::Registries => {
                let registries = catalog.registries().stored().await?;
                Ok(UpkeepOutcome::Registries { registries })
            }
            UpkeepCommand::MoveRegistry { from, to, format } => {
                self.move_registry(&from, &to, format.as_deref()).await
            }
            UpkeepCommand::Report { days, top } => {
                let (files, bytes) = catalog.blobs().total().await?;
                store.flush().await;
                Ok(UpkeepOutcome::Report(Box::new(UsageReport {
                    days,
                    traffic: catalog.reports().traffic(days).await?,
                    egress: catalog.reports().egress(days).await?,
                    largest: catalog.reports().package_sizes(false, top).await?,
                    least_used: catalog.reports().package_sizes(true, top).await?,
                    files,
                    bytes,
                    kept: self.kept().await?,
                    last_backup: store.last_backup().as_deref().cloned(),
                })))
            }
            UpkeepCommand::Who {
                package: name,
                version,
            } => {
                let package = package(&name)?;
                let protocol = package.format().protocol();
                let wanted = version.map(|text| protocol.version(&text)).transpose()?;
                let mut pulls = catalog.reports().pulls(&package.to_string()).await?;
                let is_wanted = |version| wanted.as_ref().is_none_or(|wanted| *wanted == version);
                pulls.retain(|pull| is_wanted(protocol.known_version(&pull.version)));
                Ok(UpkeepOutcome::Pulls { pulls })
            }
        }
    }

    async fn kept(&self) -> Result<KeptTotals, Problem> {
        let (files, bytes) = self.store().catalog().blobs().kept_total().await?;
        Ok(KeptTotals { files, bytes })
    }

    async fn pins(&self) -> Result<UpkeepOutcome, Problem> {
        let pins = self.store().packages().pins().all().await;
        Ok(UpkeepOutcome::Pins {
            pins: pins?,
            kept: self.kept().await?,
        })
    }

    async fn move_registry(
        &self,
        from: &str,
        to: &str,
        format: Option<&str>,
    ) -> Result<UpkeepOutcome, Problem> {
        let registries = self.store().catalog().registries();
        let stored = registries.stored().await?;
        let lies_at = |format: Format| {
            let from = address(format, from).ok();
            let mut stored = stored.iter();
            let is_it = |url: &Url, it: &StoredRegistry| {
                let there = address(format, &it.url).ok();
                it.format == format.as_str() && there.as_ref() == Some(url)
            };
            from.is_some_and(|url| stored.any(|it| is_it(&url, it)))
        };
        let format = match format {
            Some(word) => word
                .parse::<Format>()
                .map_err(|error| Problem::invalid(error.to_string()))?,
            None => {
                let found: Vec<Format> = Format::SERVED
                    .into_iter()
                    .filter(|it| lies_at(*it))
                    .collect();
                match found.as_slice() {
                    [only] => *only,
                    [] => return Err(nothing_stored(from)),
                    _ => {
                        return Err(Problem::invalid(format!(
                            "registries of several formats are at {from}"
                        ))
                        .advice("say which one is meant, such as `--format npm`"));
                    }
                }
            }
        };
        let (old, new) = (address(format, from)?, address(format, to)?);
        if !lies_at(format) {
            return Err(nothing_stored(from));
        }
        if old == new {
            return Err(Problem::invalid("both addresses are the same one"));
        }
        let moved = registries.move_to(format, &old, &new).await?;
        for registry in &moved.changed {
            self.reader.fetcher.renew(registry);
        }
        Ok(UpkeepOutcome::Moved {
            format: format.as_str().to_owned(),
            from: old.into(),
            to: new.into(),
            documents: moved.documents,
            files: moved.files,
        })
    }

    /// One step, from where the last one ended.
    async fn verify(&self, anew: bool, repair: bool) -> Result<UpkeepOutcome, Problem> {
        if anew {
            self.store().catalog().work().set(VERIFY, None).await?;
        }
        let step = self.check_files(VERIFY, BYTES_AT_ONCE, repair).await?;
        Ok(UpkeepOutcome::Verified(step))
    }

    fn store(&self) -> &Arc<Store> {
        self.reader.fetcher.store()
    }

    /// Reads the next files through, about so many bytes of them, from where the work of that name
    /// ended last.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn check_files(
        &self,
        work: &str,
        bytes_at_once: u64,
        repair: bool,
    ) -> Result<VerifyProgress, Problem> {
        let store = self.store();
        let catalog = store.catalog();
        let mut after = catalog
            .work()
            .of(work)
            .await?
            .and_then(|name| hex::decode(name).ok())
            .and_then(|bytes| BlobId::from_slice(&bytes));
        let page = catalog.blobs().after(after, BLOBS_AT_ONCE).await?;
        let (_, bytes_in_all) = catalog.blobs().total().await?;
        let mut step = VerifyProgress {
            is_done: page.len() < BLOBS_AT_ONCE,
            bytes_in_all,
            ..VerifyProgress::default()
        };
        for (id, size) in page {
            if step.bytes > bytes_at_once {
                step.is_done = false;
                break;
            }
            step.checked += 1;
            step.bytes += size;
            match store.examine(id).await? {
                None | Some(Health::Whole) => {}
                Some(health) => {
                    let damage = self.damage(id, health, repair).await?;
                    step.damaged.push(damage);
                }
            }
            after = Some(id);
        }
        let state = after.filter(|_| !step.is_done).map(BlobId::to_hex);
        catalog.work().set(work, state.as_deref()).await?;
        Ok(step)
    }

    async fn damage(&self, id: BlobId, health: Health, repair: bool) -> Result<Damage, Problem> {
        let store = self.store();
        let assets = store.catalog().assets().of_blob(id).await?;
        let mut names = store.packages().releases().assets_of(id).await?;
        let is_only_here = assets.is_empty() && !names.is_empty();
        names.extend(assets.iter().map(|key| key.asset.to_string()));
        names.sort_unstable();
        names.dedup();
        let mut damage = Damage {
            sha256: id.to_hex(),
            assets: names,
            found: match health {
                Health::Gone => "gone",
                _ => "damaged",
            }
            .to_owned(),
            is_repaired: false,
            message: if is_only_here {
                ONLY_HERE
            } else {
                "it is fetched again when somebody asks for it, and by `larder verify --repair`"
            }
            .to_owned(),
        };
        if !repair {
            // Known to be damaged, it is served to nobody.
            store.files().lay_aside(id).await?;
            return Ok(damage);
        }
        let is_published = store.retention().lay_aside(id).await?;
        let mut connections: Vec<&str> = assets.iter().map(|key| &*key.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        for connection in connections {
            self.reader.fetcher.renew(connection);
        }
        damage.message = if assets.is_empty() && !is_published {
            damage.is_repaired = true;
            "it was a registry's document, and is asked for when somebody wants it".to_owned()
        } else {
            let mut said = ONLY_HERE.to_owned();
            for key in &assets {
                match self.fetch_again(key, id).await {
                    Ok(()) => {
                        damage.is_repaired = true;
                        said = format!(
                            "fetched again from {}",
                            self.snapshot.connection_of(&key.connection)
                        );
                        break;
                    }
                    Err(problem) => said = problem.message,
                }
            }
            said
        };
        if damage.is_repaired && is_published {
            store.retention().settle().await?;
        }
        Ok(damage)
    }

    /// Fetches an asset through any repository that draws on its connection.
    async fn fetch_again(&self, key: &AssetKey, id: BlobId) -> Result<(), Problem> {
        let mut said = Problem::invalid(format!(
            "no repository draws on {}, from which it came",
            self.snapshot.connection_of(&key.connection)
        ));
        for repository in self.snapshot.repositories() {
            if !repository
                .connections()
                .any(|it| *it.registry == *key.connection)
            {
                continue;
            }
            match self
                .reader
                .gather_asset(self.snapshot, repository, &key.asset)
                .await
            {
                Ok(gathered) if gathered.blob.id() == id => return Ok(()),
                Ok(_) => said = Problem::invalid("the registry has other bytes now"),
                Err(problem) => said = problem,
            }
        }
        Err(said)
    }
}
