//! Knows what npm, PyPI, Maven and NuGet say on the wire. Bytes in, bytes out: it does no IO and
//! never waits.

pub mod archive;
mod arriving;
pub mod bounded;
mod capability;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod counted;
pub mod edit;
pub mod generic;
pub mod json;
pub mod maven;
pub mod npm;
pub mod nuget;
pub mod package;
pub mod path;
pub mod plain;
pub mod problem;
mod protocol;
pub mod pypi;
mod range;
pub mod rule;
mod target;
pub mod text;
pub mod upload;
pub mod xml;

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use url::Url;

pub use crate::arriving::{ArrivingDocument, Recognised, is_of_disk, is_page};
pub use crate::capability::*;
pub use crate::counted::counted;
use crate::package::{Format, Listing, Location, PackageId, Summary};
use crate::problem::Problem;
pub use crate::protocol::{Assets, Composition, Documents, Protocol, TokenScheme, Versions};
pub use target::{Change, ClientRequest, DocumentId, Target, View};

/// Where our own packages' documents say that they come from: a host that there is not.
pub const OWN: &str = "https://-/";

/// Reads `npm:@scope/name`.
///
/// # Errors
/// Where the text names no package.
pub fn package(text: &str) -> Result<PackageId, Problem> {
    let (format, name) = text
        .split_once(':')
        .ok_or_else(|| Problem::invalid("a package is named as in npm:left-pad"))?;
    let format: Format = format
        .parse()
        .map_err(|error| Problem::invalid(format!("{error}")))?;
    format.protocol().package(name)
}

/// A mutable resource of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Names the resource within its connection, variants apart.
    pub key: String,
    pub location: Location,
    pub accept: &'static str,
}

/// A document as its connection gave it.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    pub bytes: &'a [u8],
    /// The media type without its parameters, lower case; empty where upstream said none.
    pub media_type: &'a str,
    /// Where the bytes came from, after redirects: what relative URLs are relative to.
    pub url: &'a Url,
    /// The connection's URL.
    pub base: &'a Url,
    /// The connection's directory document, where the format has one.
    pub directory: Option<&'a [u8]>,
}

/// The part of a document that a rule is asked about while the document is rendered.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Version(&'a str),
    File {
        file: &'a str,
        version: &'a str,
    },
    /// A version of a package other than the document's (search results).
    Other {
        package: &'a PackageId,
        version: &'a str,
    },
    /// A package by its name alone.
    Name(&'a PackageId),
}

/// Answers whether a rendered document shows the subject.
pub type Shows<'a> = dyn Fn(Subject<'_>) -> bool + 'a;

/// How addresses stand in a rendered document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The repository's own address, `scheme://host/npm/team/`, with its slash.
    pub base: String,
    /// The client itself puts our host in the place of upstream's (npm's `replace-registry-host`):
    /// asset addresses stay as upstream wrote them, and so does what the client's lockfile says.
    pub kept: bool,
}

/// All that rendering a document depends on.
pub struct RenderInput<'a> {
    pub document: &'a DocumentId,
    pub upstream: Upstream<'a>,
    pub address: &'a Address,
    /// `None` where no rule concerns the document.
    pub shows: Option<&'a Shows<'a>>,
    /// Whether the repository has nothing but what this source has: only then is what the source
    /// promises of all its packages true of the repository.
    pub is_only_source: bool,
}

/// A rendered document; `body` is absent where upstream's bytes are right as they are.
#[derive(Debug)]
pub struct Rendering {
    pub body: Option<Vec<u8>>,
    pub content_type: Cow<'static, str>,
    /// Addresses in it that a path alone does not lead back to upstream.
    pub aliases: Vec<Alias>,
}

/// A row of the stored table from an address to what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub path: String,
    pub target: String,
}

/// The own packages of a repository that a document is composed from.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    Package(&'a Listing),
    /// The hits of a search, and how many there are in all.
    Found(&'a [Summary], u64),
}

/// A search in our own packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    pub words: String,
    pub skip: usize,
    pub limit: usize,
}

/// A document that is not what its format says it is.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{}", plain::json(.0))]
    Json(#[from] serde_json::Error),
    #[error("it is not text in UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("{0}")]
    Xml(String),
    #[error("{}", plain::io(.0))]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Shape(String),
    /// The document is right and does not have what was asked for.
    #[error("{0}")]
    Absent(String),
}

impl FormatError {
    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::Shape(message.into())
    }
}

/// An error's body in the format's own shape.
#[derive(Debug)]
pub struct ErrorBody {
    pub content_type: &'static str,
    pub body: String,
}

/// Parses a registry's date: RFC 3339, with or without fraction; a missing zone means UTC.
#[must_use]
pub fn date(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| format!("{text}Z").parse().ok())
}

/// The query's parameters, decoded; the first of two of one name stands.
#[must_use]
pub fn query_of(query: Option<&str>) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        found
            .entry(name.into_owned())
            .or_insert_with(|| value.into_owned());
    }
    found
}

/// Problem text for formats whose clients print plain bodies.
fn plain_error(problem: &Problem) -> ErrorBody {
    ErrorBody {
        content_type: "text/plain; charset=utf-8",
        body: format!("{}\n", problem.sentence()),
    }
}
