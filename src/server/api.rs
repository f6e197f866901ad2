//! `/v1/…`: the CodeArtifact API, for who signs its requests.

use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::answer::Asked;
use super::reply::{self, Answer};
use super::shared_body::SharedBody;
use crate::access::{Caller, Endpoints, Permissions, body_sha256, sigv4};
use crate::clock;
use crate::codeartifact::{self, Api, ApiFailure, Call, Operation, shape};
use crate::problem::{Kind, Problem};
use crate::repository::BodySender;
use crate::telemetry::Record;

/// The largest body of a call; the largest policy is far smaller.
const CALL_BYTES_MAX: u64 = 1024 * 1024;

/// The error's type, which clients read before the body.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The digest of a call's body, which is signed.
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Answers a call. Failures are answered in the shapes of the API's model.
pub async fn answer(
    asked: Asked<'_>,
    operation: Option<Operation>,
    body: &SharedBody,
    root: &str,
) -> Answer {
    let head = asked.head();
    let mut record = Record {
        time: clock::now().to_string(),
        address: head.peer.address.to_string(),
        method: head.method.to_string(),
        path: asked.parts.uri.path().to_owned(),
        ..Record::default()
    };
    let answered = call(asked, operation, body, root, &mut record).await;
    let answer = match answered {
        Ok(answer) => {
            record.allowed = true;
            answer
        }
        Err(failure) => {
            let problem = &failure.problem;
            record.allowed = !matches!(
                problem.kind,
                Kind::Denied | Kind::Unauthenticated | Kind::TooMany { .. }
            );
            record.by = problem.decider.to_string();
            record.message.clone_from(&problem.message);
            failed(&failure)
        }
    };
    record.status = answer.response.status().as_u16();
    asked.larder.audit.note(record).await;
    answer
}

#[allow(
    clippy::disallowed_methods,
    reason = "the API's operations ask for their own permissions"
)]
async fn call(
    asked: Asked<'_>,
    operation: Option<Operation>,
    body: &SharedBody,
    root: &str,
    record: &mut Record,
) -> Result<Answer, ApiFailure> {
    let (larder, snapshot, head) = (asked.larder, asked.snapshot, asked.head());
    let patience = snapshot.config.upload.stall_timeout;
    // An asset is read once who sends it is known; its digest is among what is signed.
    let (words, asset) = if operation.is_some_and(Operation::takes_bytes) {
        (None, Some(body.pieces()))
    } else {
        // The signature covers the digest in the head, or where there is none, the body.
        let digest = head.text(CONTENT_SHA256);
        match digest.len() {
            64 => signer(asked, digest).map(|_| ())?,
            _ => expect_signer(asked)?,
        }
        let words = asked
            .bodies
            .read(body.pieces(), CALL_BYTES_MAX, patience)
            .await?;
        (Some(words), None)
    };
    let words = words.as_ref().map_or(&[][..], |words| &words.bytes);
    let body_sha256 = match asset {
        Some(_) => head.text(CONTENT_SHA256).to_owned(),
        None => body_sha256(words),
    };
    let caller = signer(asked, &body_sha256)?;
    let operation = operation.ok_or_else(ApiFailure::no_operation)?;
    operation.action().as_str().clone_into(&mut record.action);
    record.principal = caller.principal.to_string();
    let call = Call::read(asked.parts.uri.query(), words)?;
    record.repository = call.repository();
    (record.package, record.version) = call.about();
    let api = Api {
        snapshot,
        reader: larder.repositories.reader(),
        publisher: larder.repositories.publisher(),
        manager: &larder.manager,
        registry: &larder.registry,
        pass: Permissions::new(
            &larder.access,
            &snapshot.config,
            &caller,
            asked.client(),
            Endpoints::Api,
        ),
        root,
    };
    let answered = match asset {
        Some(asset) => {
            let sha256 = body_sha256.to_lowercase();
            let sender = BodySender {
                who: api.pass.who(),
                left: asked.left.cloned().unwrap_or_default(),
            };
            api.publish(&call, asset, sender, &sha256).await
        }
        None => api.answer(operation, &call).await,
    };
    record.by = api.pass.last_reason();
    match answered? {
        codeartifact::ApiAnswer::Words(value) => {
            let mut answer = json(StatusCode::OK, &value);
            answer.outcome = reply::AnswerOutcome::Answered;
            Ok(answer)
        }
        codeartifact::ApiAnswer::Asset { reply, headers } => {
            let mut answer = reply::asset(&head, *reply, &larder.tasks);
            answer.replay = None;
            for (name, value) in headers {
                answer.header(HeaderName::from_static(name), &value);
            }
            Ok(answer)
        }
    }
}

/// Whether somebody is known who may have signed the call.
fn expect_signer(asked: Asked<'_>) -> Result<(), Problem> {
    let (access, head) = (&asked.larder.access, asked.head());
    let authorization = head.presented.authorization();
    if sigv4::Claim::is_one(authorization) {
        access.expect_signed(authorization, head.headers, head.peer.address)
    } else {
        signer(asked, "").map(|_| ())
    }
}

/// Finds out who signed the call.
fn signer(asked: Asked<'_>, body_sha256: &str) -> Result<Caller, Problem> {
    let (access, parts, head) = (&asked.larder.access, asked.parts, asked.head());
    let authorization = head.presented.authorization();
    if !sigv4::Claim::is_one(authorization) {
        // A machine's token stands for its holder here as well, for who has no access key.
        let (config, presented) = (&asked.snapshot.config, head.presented.credential());
        return access.identify(config, &presented, head.peer.address, Endpoints::Api);
    }
    let request = sigv4::Request {
        method: head.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: head.headers,
        authority: parts.uri.authority().map(http::uri::Authority::as_str),
        body_sha256,
    };
    let address = head.peer.address;
    access.identify_signed(authorization, &request, address)
}

/// The answer to a call that is not looked into.
pub fn refused(problem: Problem) -> Answer {
    failed(&problem.into())
}

fn json(status: StatusCode, value: &Value) -> Answer {
    reply::whole(status, "application/json", value.to_string().into())
}

fn failed(failure: &ApiFailure) -> Answer {
    if failure.problem.kind == Kind::Internal {
        let cause = failure.problem.cause.as_ref().map(ToString::to_string);
        tracing::error!(
            cause = cause.unwrap_or_default(),
            "{}",
            failure.problem.message
        );
    }
    let (status, name, body) = shape(failure);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &body);
    answer.header(ERROR_TYPE, name);
    if let Kind::TooMany { retry_after } | Kind::Unavailable { retry_after } = failure.problem.kind
    {
        answer.header(RETRY_AFTER, &retry_after.as_secs().max(1).to_string());
    }
    answer.outcome = reply::AnswerOutcome::Problem(failure.problem.kind);
    answer
}
