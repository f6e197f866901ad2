//! Answers to publishes, in the form that each format's clients expect.

use futures_util::StreamExt as _;
use http::StatusCode;

use super::{Answer, AnswerOutcome, Body, text, whole};
use crate::package::Format;
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{Changed, Forwarded};

/// A change that was made here.
pub fn changed(changed: Changed, format: Format) -> Answer {
    let status = match (format, changed) {
        // Upload tools of Python look for 200.
        (Format::Pypi, _) | (_, Changed::Done) => StatusCode::OK,
        (_, Changed::Created) => StatusCode::CREATED,
    };
    let mut answer = match format {
        Format::Npm => whole(
            status,
            "application/json",
            "{\"ok\":true,\"success\":true}".into(),
        ),
        _ => text(status, ""),
    };
    answer.outcome = AnswerOutcome::Published;
    answer
}

/// Upstream's answer as it is, or that the publish waits for one.
pub fn forwarded(forwarded: Forwarded, format: Format) -> Answer {
    match forwarded {
        Forwarded::Spooled => {
            let said = "accepted, and waits for its upstream; `larder spool` shows it";
            let mut answer = match format {
                Format::Npm => whole(
                    StatusCode::ACCEPTED,
                    "application/json",
                    serde_json::json!({ "ok": true, "success": true, "notice": said })
                        .to_string()
                        .into(),
                ),
                // Python's tools take 202 for a failure.
                Format::Pypi => text(StatusCode::OK, &format!("{said}\n")),
                _ => text(StatusCode::ACCEPTED, &format!("{said}\n")),
            };
            answer.outcome = AnswerOutcome::Spooled;
            answer
        }
        Forwarded::Passed(passed) => {
            let pieces = passed.body.map(|piece| {
                piece.map_err(|error| {
                    Problem::new(
                        Kind::Upstream,
                        Decider::Larder,
                        "upstream's answer broke off",
                    )
                    .caused_by(error)
                })
            });
            let length = passed
                .headers
                .get(http::header::CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok());
            let mut answer = Answer::new(passed.status, Body::pieces(pieces, length));
            *answer.response.headers_mut() = passed.headers;
            if let Some(reason) = passed.reason {
                answer.response.extensions_mut().insert(reason);
            }
            answer.outcome = AnswerOutcome::Forwarded;
            answer
        }
    }
}
