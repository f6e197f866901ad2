//! `/-/live`, `/-/ready`, `/-/metrics` and `/-/decide`.

use std::sync::Arc;

use http::StatusCode;

use super::reply::{Answer, json, text};
use crate::Larder;
use crate::format::{package as package_of, query_of};
use crate::problem::Problem;

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

/// `?repository=public&package=npm:left-pad&version=1.3.0`; `permit` says whether who asks may read
/// the repository.
pub async fn decide(
    larder: &Arc<Larder>,
    permit: &(dyn Fn(&str) -> Result<(), Problem> + Send + Sync),
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
    permit(&repository.name)?;
    json(
        &larder
            .reader
            .explain(&snapshot, repository, &package, &version)
            .await?,
    )
}
