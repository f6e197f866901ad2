//! Answers requests to read: documents, assets, checksums, and questions.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{Method, StatusCode};

use super::answer::Asked;
use super::audit::Line;
use super::reply::{self, Answer};
use super::route::READS;
use crate::format::{Address, DocumentId, Protocol, Target};
use crate::package::{AssetId, Location};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{
    BodyStream, DocumentBody, DocumentReply, Encodings, QuestionReply, ReadableRepository,
};

/// A request to read that was admitted.
pub struct AdmittedRead<'a> {
    pub asked: Asked<'a>,
    pub protocol: &'static dyn Protocol,
    pub repository: ReadableRepository<'a>,
    pub address: Address,
}

impl AdmittedRead<'_> {
    /// Answers the request.
    pub async fn answer(
        &self,
        target: Target,
        body: BodyStream,
        line: &mut Line,
    ) -> Result<Answer, Problem> {
        let target = match target {
            Target::Alias(path) => {
                let format = self.protocol.format();
                self.repository.alias(format, &path).await?
            }
            target => target,
        };
        let method = &self.asked.parts.method;
        if !matches!(target, Target::Question { .. })
            && !matches!(*method, Method::GET | Method::HEAD)
        {
            return Err(Problem::new(
                Kind::MethodNotAllowed { allow: READS },
                Decider::Larder,
                format!("this path takes no {method}"),
            ));
        }
        match target {
            Target::Document(id) => self.document(&id, line).await,
            Target::Asset(asset) => self.asset(&asset, line).await,
            Target::Checksum(asset, algorithm) => {
                line.subject.package = asset.package.to_string();
                line.subject.asset = asset.file.to_string();
                let (digest, cached) = self.repository.checksum(&asset, algorithm).await?;
                Ok(reply::checksum(&digest, cached))
            }
            Target::DocumentChecksum(id, algorithm) => {
                let reply = self.reply_of(&id, &Encodings::default()).await?;
                reply::document_checksum(&reply, algorithm)
            }
            Target::Answer { content_type, body } => {
                Ok(reply::whole(StatusCode::OK, content_type, body.into()))
            }
            Target::Question {
                location,
                content_type,
            } => self.question(&location, content_type, body).await,
            Target::Redirect(path) => Ok(reply::redirect(&format!("{}{path}", self.address.base))),
            Target::Alias(path) => Err(Problem::not_found(
                Decider::Larder,
                format!("`{path}` leads in a circle"),
            )),
            Target::Change(_) => Err(Problem::internal(
                "this request failed inside Larder",
                "a change was admitted as a reading",
            )),
        }
    }

    async fn reply_of(
        &self,
        id: &DocumentId,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        self.repository.document(id, &self.address, encodings).await
    }

    async fn document(&self, id: &DocumentId, line: &mut Line) -> Result<Answer, Problem> {
        line.subject.package = id
            .package
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let head = self.asked.head();
        let encodings = Encodings::parse(head.text(ACCEPT_ENCODING), head.peer.is_near());
        let reply = self.reply_of(id, &encodings).await?;
        if let DocumentBody::Rendered(rendered) = &reply.body
            && let Some(notice) = &rendered.notice
        {
            let run = line.run.as_ref().map(|run| &run.failures);
            for failures in run.into_iter().chain([&self.asked.larder.metrics.failures]) {
                failures.note_held(notice);
            }
        }
        Ok(reply::document(
            &head,
            reply,
            id,
            self.asked.snapshot,
            &self.asked.larder.tasks,
        ))
    }

    async fn asset(&self, asset: &AssetId, line: &mut Line) -> Result<Answer, Problem> {
        line.subject.package = asset.package.to_string();
        line.subject.asset = asset.file.to_string();
        if self.protocol.is_package_file(&asset.file) {
            line.subject.version = self.protocol.version_of(asset).unwrap_or_default();
        }
        let reply = self.repository.asset(asset).await?;
        let tasks = &self.asked.larder.tasks;
        Ok(reply::asset(&self.asked.head(), reply, tasks))
    }

    /// Passes a question about many packages on (npm's audit).
    async fn question(
        &self,
        location: &Location,
        content_type: &'static str,
        body: BodyStream,
    ) -> Result<Answer, Problem> {
        let (config, bodies) = (&self.asked.snapshot.config, self.asked.bodies);
        let bytes_max = config.server.question_bytes_max;
        let encoding = self.asked.head().text(CONTENT_ENCODING).to_owned();
        let patience = config.upload.stall_timeout;
        let question = bodies.read(body, bytes_max, patience).await;
        let question = question.and_then(|body| bodies.decoded(body, &encoding, bytes_max));
        let question = question.map_err(|problem| match problem.kind {
            Kind::TooLarge => problem.advice("raise `server.question_bytes_max`"),
            _ => problem,
        })?;
        let format = self.protocol.format();
        let repository = &self.repository;
        let question = question.bytes.clone();
        let reply = repository.question(format, location, content_type, question);
        Ok(match reply.await? {
            QuestionReply::Answer(body) => reply::whole(StatusCode::OK, content_type, body),
            QuestionReply::Refusal {
                status,
                is_json,
                body,
            } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                // A page of the registry's is no page of ours.
                let media_type = if is_json {
                    "application/json"
                } else {
                    "text/plain"
                };
                reply::whole(status, media_type, body)
            }
        })
    }
}
