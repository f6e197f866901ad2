//! A problem as a status and the format's own body: the one place that knows which is which.

use http::StatusCode;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::ext::ReasonPhrase;

use super::{Answer, AnswerOutcome, whole};
use crate::connection::DECIDER;
use crate::format::ErrorBody;
use crate::package::Format;
use crate::problem::{Kind, Problem};

/// The answer; `format` is absent where the path shows none.
pub fn problem(problem: &Problem, format: Option<Format>) -> Answer {
    let ErrorBody { content_type, body } = format.map_or_else(
        || ErrorBody {
            content_type: "text/plain; charset=utf-8",
            body: format!("{}\n", problem.sentence()),
        },
        |format| format.protocol().error(problem),
    );
    let mut answer = whole(status(problem.kind), content_type, body.into());
    if let Kind::Unavailable { retry_after } | Kind::TooMany { retry_after } = problem.kind {
        answer.header(RETRY_AFTER, &retry_after.as_secs().max(1).to_string());
    }
    if problem.kind == Kind::Unauthenticated {
        // Maven and NuGet send what they have when they are asked for it, and not before.
        answer.header(
            WWW_AUTHENTICATE,
            "Basic realm=\"larder\", charset=\"UTF-8\"",
        );
    }
    if let Kind::MethodNotAllowed { allow } = problem.kind {
        answer.header(ALLOW, allow);
    }
    // pip, Maven and NuGet show the reason phrase and not the body.
    if let Ok(reason) = ReasonPhrase::try_from(one_line(&problem.sentence()).into_bytes()) {
        answer.response.extensions_mut().insert(reason);
    }
    // Another Larder in front of this one passes these headers on unchanged.
    if problem.kind == Kind::Denied {
        answer.header(DECIDER.clone(), &one_line(&problem.decider.to_string()));
    }
    answer.outcome = AnswerOutcome::Problem(problem.kind);
    answer
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Kind::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unverified | Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Loop => StatusCode::LOOP_DETECTED,
        Kind::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Printable ASCII on one line, of a length that clients print.
fn one_line(sentence: &str) -> String {
    sentence
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .take(300)
        .collect()
}
