//! `/-/live`, `/-/ready`, `/-/metrics`, `/-/decide` and `/-/run/{id}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode};

use super::reply::{Answer, json, pieces, text};
use crate::Larder;
use crate::access::{Pass, READ};
use crate::format::{package as package_of, query_of};
use crate::problem::Problem;
use crate::telemetry::{GRANT_HEADER, Report};

pub fn live() -> Answer {
    text(StatusCode::OK, "live\n")
}

/// Larder answers only once its store is open; it is not ready while it stops.
pub fn ready(stopping: bool) -> Answer {
    if stopping {
        text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        text(StatusCode::OK, "ready\n")
    }
}

pub fn metrics(larder: &Larder) -> Answer {
    let mut answer = text(StatusCode::OK, &larder.metrics.text());
    answer.content_type("application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer
}

pub fn front() -> Answer {
    text(
        StatusCode::OK,
        concat!(
            "Larder ",
            env!("CARGO_PKG_VERSION"),
            ". Its addresses are /npm/…, /pypi/…, /maven/… and /nuget/…; `larder env` prints them.\n"
        ),
    )
}

/// What the run got, and the upstreams that its lockfiles should name.
pub fn report(larder: &Larder, run: &str, query: Option<&str>) -> Result<Answer, Problem> {
    let snapshot = larder.snapshot();
    let repository = match query_of(query).remove("repository") {
        Some(name) => Some(snapshot.repository(&name)?),
        None => snapshot.first.as_ref(),
    };
    let mut upstreams = BTreeMap::new();
    for connection in repository
        .into_iter()
        .flat_map(|repository| repository.connections())
    {
        upstreams
            .entry(connection.format.to_string())
            .or_insert_with(|| connection.url.to_string());
    }
    let formats = repository.map_or_else(Vec::new, |repository| snapshot.formats_of(repository));
    json(&Report {
        counts: larder.runs.run(run).report(),
        upstreams,
        formats: formats.iter().map(ToString::to_string).collect(),
    })
}

/// An answer that begins and does not end: the client's leaving is the message.
pub fn lease(larder: &Larder, run: &str, headers: &HeaderMap) -> Answer {
    let grant = headers
        .get(GRANT_HEADER)
        .and_then(|value| serde_json::from_slice(value.as_bytes()).ok());
    if let Some(grant) = grant {
        let _ = larder.runs.run(run).publish.set(grant);
    }
    let lease = larder.runs.lease();
    let begin = stream::iter([Ok(Bytes::from_static(b"leased\n"))]);
    let held = stream::once(async move {
        let _lease = lease;
        std::future::pending().await
    });
    pieces(begin.chain(held))
}

/// `?repository=public&package=npm:left-pad&version=1.3.0`
pub async fn decide(
    larder: &Arc<Larder>,
    pass: &Pass<'_>,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    let mut query = query_of(query);
    let mut take = |name: &str| {
        query
            .remove(name)
            .ok_or_else(|| Problem::invalid(format!("`{name}` is missing in the query")))
    };
    let (repository, package, version) = (take("repository")?, take("package")?, take("version")?);
    let snapshot = larder.snapshot();
    let package = package_of(&package)?;
    let repository = snapshot.repository(&repository)?;
    pass.to_repository(READ, &repository.name)?;
    json(
        &larder
            .reader
            .explain(&snapshot, repository, &package, &version)
            .await?,
    )
}
