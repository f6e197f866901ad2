//! The audit: a line of JSON for each call of the API, each change, and each request that was
//! refused.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::{error, info};

use crate::task::Tasks;

/// Who did what, where, and why it was allowed or refused.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// RFC 3339.
    pub time: String,
    /// An ARN, `anonymous`, or empty where nobody was made out.
    pub principal: String,
    pub address: String,
    /// As policies name it; empty where the request came to none.
    pub action: String,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub repository: String,
    pub package: String,
    pub allowed: bool,
    pub status: u16,
    /// The statement, rule, repository or other that decided.
    pub by: String,
    /// Why it was refused.
    pub message: String,
}

/// Where the records go.
pub struct Audit {
    file: Option<Arc<Mutex<File>>>,
    tasks: Tasks,
}

impl Audit {
    /// Into the file, where one is named; else into the log.
    ///
    /// # Errors
    /// Where the file cannot be written.
    #[allow(
        clippy::disallowed_methods,
        reason = "the file is the operator's, and none of the store's"
    )]
    pub fn open(file: Option<&Path>, tasks: &Tasks) -> std::io::Result<Self> {
        let file = file.map(|path| File::options().create(true).append(true).open(path));
        Ok(Self {
            file: file.transpose()?.map(|file| Arc::new(Mutex::new(file))),
            tasks: tasks.clone(),
        })
    }

    /// Writes a record; when it returns, the record is in the file.
    pub async fn note(&self, record: Record) {
        match &self.file {
            Some(file) => {
                let (file, record) = (Arc::clone(file), record);
                let written = self.tasks.spawn_blocking(move || {
                    let line = serde_json::to_string(&record).unwrap_or_default();
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    // In one write, so that lines do not mix.
                    file.write_all(format!("{line}\n").as_bytes())
                });
                match written.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => error!(%error, "A record of the audit was not written"),
                    Err(error) => error!(%error, "A record of the audit was not written"),
                }
            }
            None => info!(
                target: "larder::audit",
                principal = record.principal,
                address = record.address,
                action = record.action,
                method = record.method,
                path = record.path,
                repository = record.repository,
                package = record.package,
                allowed = record.allowed,
                status = record.status,
                by = record.by,
                message = record.message,
                "audit"
            ),
        }
    }
}
