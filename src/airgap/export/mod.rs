//! Writing a bundle. What is in it is known before its first byte; then it is streamed, so that
//! memory does not grow with it.

mod choice;
mod manifest;
mod stream;

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, mpsc};

use super::bundle::{BundleHead, VERSION};
use super::sbom::Sbom;
use super::signature::BundleSigningKey;
use super::want::Want;
use crate::clock;
use crate::format::counted;
use crate::problem::Problem;
use crate::repository::Snapshot;
use crate::store::Store;
use crate::store::packages::random_name;
use choice::Choice;
use manifest::{ManifestWriter, Written};

/// Pieces that may wait for who takes them.
const PIECES_AHEAD_MAX: usize = 8;

/// The selection that an export is to contain.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// Only what this repository draws on; `None`: everything.
    pub repository: Option<String>,
    /// These versions alone, with their packages' documents.
    pub wants: Option<Vec<Want>>,
    /// Only what came in since the last export that was reported complete.
    pub is_new: bool,
}

/// Under which name the end of the last export is remembered.
const LAST: &str = "export";

/// A bundle on its way.
pub struct Export {
    pub head: BundleHead,
    pub pieces: mpsc::Receiver<Result<Bytes, Problem>>,
}

/// The facts about a bundle that are known before it is written.
struct Prepared {
    head: BundleHead,
    key: BundleSigningKey,
    manifest: File,
    sbom: File,
    /// Nothing is evicted until it is written.
    _reading: OwnedRwLockReadGuard<()>,
}

/// Begins a bundle.
///
/// # Errors
/// Where what is ordered is not there, nothing signs, or the store fails.
pub async fn export(
    store: &Arc<Store>,
    snapshot: &Arc<Snapshot>,
    order: Order,
) -> Result<Export, Problem> {
    let since = if order.is_new {
        last(store).await?
    } else {
        None
    };
    let choice = Choice::of(snapshot, &order, since)?;
    let reading = store.retention().reading().await;
    let tasks = store.tasks().clone();
    let (store, snapshot) = (Arc::clone(store), Arc::clone(snapshot));
    let prepared = tasks
        .spawn_blocking({
            let store = Arc::clone(&store);
            move || prepare(&store, &snapshot, &order, &choice, reading)
        })
        .await
        .map_err(|error| Problem::internal("the export stopped", error))??;
    let head = prepared.head.clone();
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    tasks.spawn_blocking(move || {
        if let Err(problem) = stream::write(&store, prepared, &sender) {
            // The receiver may have hung up; then nobody needs this problem.
            let _ = sender.blocking_send(Err(problem));
        }
    });
    Ok(Export { head, pieces })
}

/// When the last export began that ended well; seconds since 1970.
async fn last(store: &Store) -> Result<Option<i64>, Problem> {
    let state = store.catalog().work().of(LAST).await?;
    Ok(state.and_then(|state| state.parse().ok()))
}

/// Notes that a bundle that was begun then has been written down whole.
///
/// # Errors
/// Where the store fails.
pub async fn exported(store: &Store, created: i64) -> Result<(), Problem> {
    store
        .catalog()
        .work()
        .set(LAST, Some(&created.to_string()))
        .await?;
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::internal("the export failed", error.to_string())
}

/// The key that signs: the configuration's, else the data directory's own.
fn signing_key(store: &Store, snapshot: &Snapshot) -> Result<BundleSigningKey, Problem> {
    let own = || store.directory().bundle_key(BundleSigningKey::make);
    let pem = match &snapshot.config.bundle.key {
        Some(key) => key.clone(),
        None => own().map_err(failed)?,
    };
    BundleSigningKey::read(&pem).ok_or_else(|| {
        Problem::invalid("the key that signs bundles is no Ed25519 key in PEM (PKCS #8)")
            .advice("`openssl genpkey -algorithm ed25519` makes one, for `bundle.key`")
    })
}

fn prepare(
    store: &Store,
    snapshot: &Snapshot,
    order: &Order,
    choice: &Choice,
    reading: OwnedRwLockReadGuard<()>,
) -> Result<Prepared, Problem> {
    let key = signing_key(store, snapshot)?;
    let created = clock::now();
    let scope = match (&order.wants, &order.repository) {
        (Some(wants), _) => format!("{} out of lists", counted(wants.len(), "version")),
        (None, Some(repository)) => format!("repository {repository}"),
        (None, None) => "everything".to_owned(),
    };
    let id = random_name();
    let domain = snapshot.config.domain.name.clone();
    let name = format!("{domain}: {scope}");
    let begin_bill = |out| Sbom::begin(out, &uuid(&id), created, &name);
    let writer = ManifestWriter::begin(store, choice, begin_bill).map_err(failed)?;
    let Written {
        manifest: (manifest, manifest_part),
        sbom: (sbom, sbom_part),
        blobs,
        bytes,
    } = writer.write()?;
    let head = BundleHead {
        format: "larder-bundle".to_owned(),
        version: VERSION,
        id,
        created,
        domain,
        scope,
        since: choice
            .since
            .and_then(|since| jiff::Timestamp::from_second(since).ok()),
        manifest: manifest_part,
        sbom: sbom_part,
        blobs,
        bytes,
        key: key.public(),
    };
    Ok(Prepared {
        head,
        key,
        manifest,
        sbom,
        _reading: reading,
    })
}

/// The bytes that are signed.
fn head_bytes(head: &BundleHead) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec_pretty(head).map_err(failed)
}

/// A random name of 32 hexadecimal digits in the form of a UUID (RFC 9562 §5.4).
fn uuid(name: &str) -> String {
    let part = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}
