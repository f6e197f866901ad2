//! `/-/control`: the operator's commands, for who can read the secret in the data directory.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::reply::{self, Answer, Head};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{manage, piped, upkeep};
use crate::{Larder, access, airgap};

/// A command of any kind; no two have the same name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    Repositories(manage::Command),
    Access(access::manage::Command),
    AirGap(airgap::Command),
    Upkeep(upkeep::Command),
}

/// The head of a bundle, before the bundle.
const BUNDLE: HeaderName = HeaderName::from_static("larder-bundle");

/// A command is a few words, or the poms of a project.
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Pieces of a bundle that wait for who reads them.
const PIECES_AHEAD_MAX: usize = 8;

pub async fn answer(
    larder: &Arc<Larder>,
    head: &Head<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    admit(larder, head)?;
    let command: Command = read(body).await?;
    match command {
        Command::Repositories(command) => {
            let snapshot = larder.snapshot();
            reply::json(&larder.publisher.execute(&snapshot, command).await?)
        }
        Command::Access(command) => reply::json(&larder.access.execute(command).await?),
        Command::AirGap(command) => {
            let snapshot = larder.snapshot();
            reply::json(&airgap::execute(&larder.reader, &snapshot, command).await?)
        }
        Command::Upkeep(command) => reply::json(&larder.upkeep(command).await?),
    }
}

/// A bundle, as it is written; its head in a header.
pub async fn export(
    larder: &Arc<Larder>,
    head: &Head<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    admit(larder, head)?;
    let order: airgap::Order = read(body).await?;
    let export = airgap::export(&larder.store, &larder.snapshot(), order).await?;
    let words = serde_json::to_string(&export.head)
        .map_err(|error| Problem::internal("the head of a bundle cannot be written", error))?;
    let pieces = stream::unfold(export.pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    let mut answer = reply::pieces(pieces);
    answer.content_type("application/zstd");
    answer.header(BUNDLE, &words);
    Ok(answer)
}

/// Takes a bundle in; the query names keys that are trusted beside the configuration's.
pub async fn import(
    larder: &Arc<Larder>,
    head: &Head<'_>,
    query: Option<&str>,
    mut body: crate::repository::Body,
) -> Result<Answer, Problem> {
    admit(larder, head)?;
    let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let trusted = query
        .filter(|(name, _)| name == "trust")
        .map(|(_, key)| key.into_owned());
    let importer = larder.importer(trusted.collect());
    let (writer, reader) = piped(PIECES_AHEAD_MAX);
    let import = larder.tasks.spawn_blocking(move || importer.import(reader));
    while let Some(piece) = body.next().await {
        // Who has seen enough has said so.
        if !writer.write(piece).await {
            break;
        }
    }
    writer.end().await;
    let report = import.await;
    let report = report.map_err(|error| Problem::internal("the import stopped", error))??;
    reply::json(&report)
}

fn admit(larder: &Larder, head: &Head<'_>) -> Result<(), Problem> {
    let said = head.text(AUTHORIZATION).strip_prefix("Bearer ");
    if !head.peer.is_near() || !said.is_some_and(|said| is_secret(larder, said)) {
        return Err(Problem::new(
            Kind::Unauthenticated,
            Decider::Larder,
            "the control interface is for who can read the data directory, on this machine",
        ));
    }
    if head.method != Method::POST {
        return Err(Problem::new(
            Kind::MethodNotAllowed,
            Decider::Larder,
            "a command is sent with POST",
        ));
    }
    Ok(())
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Problem> {
    let body = Limited::new(body, COMMAND_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Problem::invalid("the command is too long, or ended early"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Problem::invalid(format!("the command cannot be read: {error}")))
}

/// Compares hashes, so that the time it takes says nothing of the secret.
fn is_secret(larder: &Larder, said: &str) -> bool {
    Sha256::digest(said) == Sha256::digest(larder.store.secret().expose())
}
