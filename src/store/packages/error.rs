//! How the package catalog refuses and fails, and what clients are told of it.

use crate::package::Status;
use crate::problem::{Decider, Kind, Problem};
use crate::store::sql;

/// How reading or changing the catalog can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the catalog of packages: {0}")]
    Database(#[from] sql::Error),
    #[error("{package} in `{repository}`: {refusal}")]
    Refused {
        repository: String,
        package: String,
        refusal: Refusal,
    },
    #[error("there is no {0}")]
    Absent(String),
    #[error("{0} is in another revision than the one that was named")]
    Revision(String),
}

/// Why a repository does not take a change to one of its packages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{file} is published already, with other bytes")]
    Exists { file: String },
    #[error("{version} is published already")]
    Taken { version: String },
    #[error("{version} was disposed of")]
    Disposed { version: String },
    #[error("{version} is {status}")]
    Status { version: String, status: Status },
    #[error("there is no version {version}")]
    Absent { version: String },
    #[error("it has changed meanwhile")]
    Revision,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::Absent(what) => {
                Problem::not_found(Decider::Larder, format!("there is no {what}"))
            }
            Error::Revision(_) => Problem::new(Kind::Conflict, Decider::Larder, error.to_string())
                .advice("read it again, and try again"),
            Error::Refused {
                repository,
                package,
                refusal,
            } => refused(&repository, &package, &refusal),
        }
    }
}

fn refused(repository: &str, package: &str, refusal: &Refusal) -> Problem {
    let decider = Decider::Repository(repository.to_owned());
    let (message, advice) = match refusal {
        Refusal::Exists { file } => (
            format!(
                "{package}: {file} already exists, with other bytes; what is published stays as it is"
            ),
            "publish another version",
        ),
        Refusal::Taken { version } => (
            format!("{package} {version} already exists; what is published stays as it is"),
            "publish another version",
        ),
        Refusal::Disposed { version } => (
            format!("{package} {version} was disposed of, and its number is not given again"),
            "publish another version",
        ),
        Refusal::Status { version, status } => (
            format!("{package} {version} is {status} in `{repository}`, and stays so"),
            "`larder status` gives it another status",
        ),
        Refusal::Absent { version } => {
            let message = format!("there is no {package} {version} in `{repository}`");
            return Problem::not_found(decider, message);
        }
        Refusal::Revision => (
            format!("{package} has changed meanwhile"),
            "read it again, and try again",
        ),
    };
    Problem::new(Kind::Conflict, decider, message).advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_who_refused_what_and_why() {
        let told = |refusal| {
            Problem::from(Error::Refused {
                repository: "team".to_owned(),
                package: "npm:acme".to_owned(),
                refusal,
            })
        };
        let version = || "1.0.0".to_owned();
        let table = [
            (
                Refusal::Exists {
                    file: "a.tgz".to_owned(),
                },
                Kind::Conflict,
                "npm:acme: a.tgz already exists",
            ),
            (
                Refusal::Taken { version: version() },
                Kind::Conflict,
                "npm:acme 1.0.0 already exists",
            ),
            (
                Refusal::Disposed { version: version() },
                Kind::Conflict,
                "npm:acme 1.0.0 was disposed of",
            ),
            (
                Refusal::Status {
                    version: version(),
                    status: Status::Archived,
                },
                Kind::Conflict,
                "npm:acme 1.0.0 is Archived in `team`",
            ),
            (
                Refusal::Absent { version: version() },
                Kind::NotFound,
                "there is no npm:acme 1.0.0 in `team`",
            ),
            (
                Refusal::Revision,
                Kind::Conflict,
                "npm:acme has changed meanwhile",
            ),
        ];
        for (refusal, kind, message) in table {
            let problem = told(refusal);
            assert_eq!(problem.kind, kind);
            assert_eq!(problem.decider, Decider::Repository("team".to_owned()));
            assert!(problem.message.starts_with(message), "{}", problem.message);
        }
    }
}
