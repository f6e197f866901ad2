//! `/-/control`: the operator's commands, for who can read the secret in the data directory.

use std::sync::Arc;

use http::Method;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::reply::{self, Answer, Head};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::manage;
use crate::{Larder, access, airgap};

/// A command of any kind; no two have the same name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    Repositories(manage::Command),
    Access(access::manage::Command),
    AirGap(airgap::Command),
}

/// A command is a few words, or the poms of a project.
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

pub async fn answer(
    larder: &Arc<Larder>,
    head: &Head<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
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
    let body = Limited::new(body, COMMAND_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Problem::invalid("the command is too long, or ended early"))?;
    let command: Command = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Problem::invalid(format!("the command cannot be read: {error}")))?;
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
    }
}

/// Compares hashes, so that the time it takes says nothing of the secret.
fn is_secret(larder: &Larder, said: &str) -> bool {
    Sha256::digest(said) == Sha256::digest(larder.store.secret().expose())
}
