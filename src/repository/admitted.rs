//! Repositories as requests use them: a request's admission opens the one that it asked for, to read
//! or to change.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    AssetReply, BodySender, BodyStream, Cached, ChangeRecord, Changed, DocumentReply, Encodings,
    Explainer, Forwarded, Forwarder, Publisher, QuestionReply, Reader, Repository, Sent, Snapshot,
    Submission,
};
use crate::access::{Admitted, ToChange, ToRead};
use crate::config::CredentialScope;
use crate::connection::Connection;
use crate::format::{Address, Change, DocumentId, Target};
use crate::package::{Algorithm, AssetId, Format, Location, PackageId};
use crate::problem::Problem;

/// Reads and changes all repositories. A client's request reaches one of them only with its
/// [`Admitted`].
pub struct Repositories {
    reader: Arc<Reader>,
    publisher: Arc<Publisher>,
    forwarder: Arc<Forwarder>,
}

impl Repositories {
    #[must_use]
    pub fn new(reader: Arc<Reader>, publisher: Arc<Publisher>, forwarder: Arc<Forwarder>) -> Self {
        Self {
            reader,
            publisher,
            forwarder,
        }
    }

    /// Reads for Larder itself, for its operator, and for the API, whose operations ask for their own
    /// permissions. Never for a request of a client of a format.
    #[must_use]
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Changes packages for the same as [`Repositories::reader`].
    #[must_use]
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// The repository that the request may read.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn readable<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        admitted: &Admitted<'_, ToRead>,
    ) -> Result<ReadableRepository<'a>, Problem> {
        Ok(ReadableRepository {
            reader: &self.reader,
            snapshot,
            repository: snapshot.repository(admitted.repository())?,
        })
    }

    /// The repository that the request may change.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn changeable<'a>(
        &'a self,
        snapshot: &'a Arc<Snapshot>,
        admitted: Admitted<'a, ToChange>,
    ) -> Result<ChangeableRepository<'a>, Problem> {
        Ok(ChangeableRepository {
            publisher: &self.publisher,
            forwarder: &self.forwarder,
            snapshot,
            repository: snapshot.repository(admitted.repository())?,
            admitted,
        })
    }
}

/// A repository that a request was admitted to read.
pub struct ReadableRepository<'a> {
    reader: &'a Arc<Reader>,
    snapshot: &'a Arc<Snapshot>,
    repository: &'a Repository,
}

impl ReadableRepository<'_> {
    /// # Errors
    /// See [`Reader::document`].
    pub async fn document(
        &self,
        id: &DocumentId,
        address: &Address,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        self.reader
            .document(self.snapshot, self.repository, id, address, encodings)
            .await
    }

    /// # Errors
    /// See [`Reader::asset`].
    pub async fn asset(&self, asset: &AssetId) -> Result<AssetReply, Problem> {
        self.reader
            .asset(self.snapshot, self.repository, asset)
            .await
    }

    /// # Errors
    /// See [`Reader::checksum`].
    pub async fn checksum(
        &self,
        asset: &AssetId,
        algorithm: Algorithm,
    ) -> Result<(String, Cached), Problem> {
        self.reader
            .checksum(self.snapshot, self.repository, asset, algorithm)
            .await
    }

    /// # Errors
    /// See [`Reader::alias`].
    pub async fn alias(&self, format: Format, path: &str) -> Result<Target, Problem> {
        self.reader.alias(self.repository, format, path).await
    }

    /// # Errors
    /// See [`Reader::question`].
    pub async fn question(
        &self,
        format: Format,
        location: &Location,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<QuestionReply, Problem> {
        let (snapshot, repository) = (self.snapshot, self.repository);
        self.reader
            .question(snapshot, repository, format, location, content_type, body)
            .await
    }

    /// One who says why versions of the package are served or not.
    #[must_use]
    pub fn explain<'e>(&'e self, package: &'e PackageId) -> Explainer<'e> {
        self.reader.explain(self.snapshot, self.repository, package)
    }
}

/// A repository that a request was admitted to change.
pub struct ChangeableRepository<'a> {
    publisher: &'a Arc<Publisher>,
    forwarder: &'a Arc<Forwarder>,
    snapshot: &'a Arc<Snapshot>,
    repository: &'a Repository,
    admitted: Admitted<'a, ToChange>,
}

impl ChangeableRepository<'_> {
    #[must_use]
    pub fn repository(&self) -> &Repository {
        self.repository
    }

    /// The client, of which `left` says when it has hung up.
    #[must_use]
    pub fn sender(&self, left: Option<&CancellationToken>) -> BodySender {
        BodySender {
            who: self.admitted.who(),
            left: left.cloned().unwrap_or_default(),
        }
    }

    /// Makes the change to the repository's own packages. Where the body names the package, the caller
    /// is asked for its permission once that is read.
    ///
    /// # Errors
    /// See [`Publisher::change`].
    pub async fn change(
        &self,
        format: Format,
        change: Change,
        body: BodyStream,
        content_type: &str,
        sender: BodySender,
        record: &mut ChangeRecord,
    ) -> Result<Changed, Problem> {
        let permit = |package: &PackageId| self.admitted.permit(package);
        let submission = Submission {
            format,
            change,
            body,
            content_type,
            sender,
            permit: &permit,
            record,
        };
        self.publisher
            .change(self.snapshot, self.repository, submission)
            .await
    }

    /// # Errors
    /// See [`Forwarder::forward`].
    pub async fn forward(
        &self,
        to: &Arc<Connection>,
        change: &Change,
        sent: Sent,
        within: Option<&CredentialScope>,
        spool: bool,
    ) -> Result<Forwarded, Problem> {
        self.forwarder
            .forward(self.repository, to, change, sent, within, spool)
            .await
    }
}
