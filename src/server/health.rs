//! `/-/live`, `/-/ready`, `/-/metrics` and `/-/decide`.

use http::StatusCode;

use super::reply::{Answer, json, text};
use crate::Larder;
use crate::format::{package as package_of, query_of};
use crate::package::PackageId;
use crate::problem::Problem;
use crate::repository::Explainer;
use crate::store::packages::Absence;

pub fn live() -> Answer {
    text(StatusCode::OK, "live\n")
}

/// Larder answers only once its store is open; it is not ready while it stops.
pub fn ready(larder: &Larder) -> Answer {
    if larder.tasks.is_stopping() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    // It serves what is here all the same, so that nothing is gained by asking another.
    let mut said = Vec::new();
    if let Some(why) = larder.store.shortage() {
        said.push(format!(
            "ready, but nothing new is kept: {}\n",
            why.reason()
        ));
    }
    if let Some(why) = larder.store.packages().absence() {
        let also = match why {
            Absence::Unchanging => "",
            Absence::Away | Absence::Taken => {
                ", and only what was read before is served of our own"
            }
        };
        said.push(format!(
            "ready, but nothing can be published{also}: {}\n",
            why.reason()
        ));
    }
    if said.is_empty() {
        said.push("ready\n".to_owned());
    }
    text(StatusCode::OK, &said.concat())
}

pub fn metrics(larder: &Larder) -> Answer {
    let is_short = larder.store.shortage().is_some();
    larder.metrics.not_keeping.set(i64::from(is_short));
    let is_away = larder.store.packages().absence().is_some();
    larder.metrics.database_away.set(i64::from(is_away));
    let last = larder.store.last_backup().map(|last| last.at.as_second());
    larder.metrics.last_backup.set(last.unwrap_or_default());
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

/// The question that `/-/decide` is asked: `?repository=public&package=npm:left-pad&version=1.3.0`;
/// without a version, of the newest ones.
pub struct DecideQuery {
    pub repository: String,
    pub package: PackageId,
    pub version: Option<String>,
}

impl DecideQuery {
    /// Reads the query.
    pub fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut query = query_of(query);
        let version = query.remove("version");
        let mut take = |name: &str| {
            query
                .remove(name)
                .ok_or_else(|| Problem::invalid(format!("`{name}` is missing in the query")))
        };
        Ok(Self {
            repository: take("repository")?,
            package: package_of(&take("package")?)?,
            version,
        })
    }
}

/// Why a version is served or not; a list of the newest ones where none was named.
pub async fn decision(explainer: Explainer<'_>, version: Option<&str>) -> Result<Answer, Problem> {
    match version {
        Some(version) => json(&explainer.version(version).await?),
        None => json(&explainer.newest().await?),
    }
}
