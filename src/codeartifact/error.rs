//! How an operation fails, in the model's shapes.

use serde_json::{Value, json};

use super::Operation;
use crate::problem::{Kind, Problem};

/// A failure, and what it is about.
#[derive(Debug)]
pub struct ApiFailure {
    pub problem: Problem,
    resource: Option<(&'static str, String)>,
    reason: &'static str,
}

impl ApiFailure {
    pub(super) fn of(problem: Problem) -> Self {
        Self {
            problem,
            resource: None,
            reason: "OTHER",
        }
    }

    /// Says what it is about: a resource's type and name.
    #[must_use]
    pub(super) fn about(mut self, kind: &'static str, id: &str) -> Self {
        self.resource = Some((kind, id.to_owned()));
        self
    }

    /// The named resource does not exist.
    pub(super) fn absent(kind: &'static str, id: &str, message: impl Into<String>) -> Self {
        use crate::problem::Decider;
        Self::of(Problem::not_found(Decider::Larder, message)).about(kind, id)
    }

    /// A value that the model, or Larder, does not take.
    pub(super) fn field(message: impl Into<String>) -> Self {
        Self {
            reason: "FIELD_VALIDATION_FAILED",
            ..Self::of(Problem::invalid(message))
        }
    }

    /// The body is not JSON.
    pub(super) fn unparsed(message: impl Into<String>) -> Self {
        Self {
            reason: "CANNOT_PARSE",
            ..Self::of(Problem::invalid(message))
        }
    }

    /// An operation that there is, and that this Larder does not answer.
    pub(super) fn not_answered(operation: Operation) -> Self {
        Self {
            reason: "UNKNOWN_OPERATION",
            ..Self::of(Problem::invalid(format!(
                "{} is not answered here: there is one domain, which [domain] in the configuration names",
                operation.name()
            )))
        }
    }

    /// A path or method of which the model has nothing.
    #[must_use]
    pub fn no_operation() -> Self {
        Self {
            reason: "UNKNOWN_OPERATION",
            ..Self::of(Problem::invalid(
                "there is no such operation in the CodeArtifact API",
            ))
        }
    }
}

impl From<Problem> for ApiFailure {
    fn from(problem: Problem) -> Self {
        Self::of(problem)
    }
}

/// A failure as the protocol has it: the status, the error's type, the body.
#[must_use]
pub fn shape(failure: &ApiFailure) -> (u16, &'static str, Value) {
    let (status, name) = match failure.problem.kind {
        Kind::NotFound => (404, "ResourceNotFoundException"),
        Kind::Denied | Kind::Unauthenticated => (403, "AccessDeniedException"),
        Kind::Misdirected => (421, "AccessDeniedException"),
        Kind::Conflict => (409, "ConflictException"),
        Kind::TooMany { .. } | Kind::Unavailable { .. } => (429, "ThrottlingException"),
        Kind::Invalid | Kind::MethodNotAllowed { .. } | Kind::TooLarge => {
            (400, "ValidationException")
        }
        Kind::Unverified | Kind::Upstream | Kind::UpstreamTimeout | Kind::Loop | Kind::Internal => {
            (500, "InternalServerException")
        }
    };
    let mut body = json!({ "__type": name, "message": failure.problem.sentence() });
    if let Some(body) = body.as_object_mut() {
        if name == "ValidationException" {
            body.insert("reason".to_owned(), failure.reason.into());
        }
        if let (404 | 409, Some((kind, id))) = (status, &failure.resource) {
            body.insert("resourceType".to_owned(), (*kind).into());
            body.insert("resourceId".to_owned(), id.as_str().into());
        }
    }
    (status, name, body)
}
