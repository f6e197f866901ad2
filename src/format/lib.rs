//! Knows what npm, PyPI, Maven and NuGet say on the wire. Bytes in, bytes out: it does no IO and
//! never waits.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod edit;
pub mod generic;
pub mod json;
pub mod maven;
pub mod npm;
pub mod nuget;
pub mod package;
pub mod path;
pub mod problem;
pub mod pypi;
mod range;
pub mod rule;
mod target;
pub mod text;
pub mod upload;
pub mod xml;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};

use jiff::Timestamp;
use url::Url;

use crate::package::{
    AssetFacts, AssetId, Expected, Format, Listing, Location, PackageId, Promise, Summary,
    UpstreamPath, UpstreamUrl, VersionId, is_risky_segment,
};
use crate::problem::Problem;
pub use target::{Ask, Change, DocumentId, Target, View};
use upload::{Inspected, Parted, Readable, Upload};

/// Where our own packages' documents say that they come from: a host that there is not.
pub const OWN: &str = "https://-/";

/// Longer texts than this are no versions.
const VERSION_BYTES_MAX: usize = 1024;

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

/// Where a package's facts stand.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// In any one of these documents, the cheapest first.
    Documents(Vec<Resource>),
    /// In the path itself, and in the resources that [`Protocol::path_facts`] names.
    Path,
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

/// What a rule is asked about while a document is rendered.
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

/// A large document on its way.
pub struct StreamInput<'a> {
    pub document: &'a DocumentId,
    pub media_type: &'a str,
    pub reader: &'a mut dyn BufRead,
    /// Whether the index names the package.
    pub shows: &'a (dyn Fn(&PackageId) -> bool + 'a),
    /// Our own packages, which upstream's index does not name.
    pub own: &'a [String],
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

/// What a repository has of its own that a document may be composed of.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    Package(&'a Listing),
    /// What a search finds, and how many there are in all.
    Found(&'a [Summary], u64),
}

/// A search in our own packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    pub words: String,
    pub skip: usize,
    pub limit: usize,
}

/// Facts of one document, and the documents that hold the rest.
#[derive(Debug, Default)]
pub struct FactsPart {
    pub assets: Vec<AssetFacts>,
    pub more: Vec<Resource>,
}

/// What a resolver is likely to ask for next, when it has read what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// A document, or an asset that is read as one (a pom, a wheel's metadata).
    pub target: Target,
    /// Which versions of it are wanted, in the format's own words; none where all are.
    pub range: Option<String>,
}

/// What leads are read from.
pub struct LeadInput<'a> {
    pub of: &'a Target,
    pub upstream: Upstream<'a>,
    /// Which versions of the package the resolver wants, as far as that is known.
    pub range: Option<&'a str>,
    /// `None` where no rule concerns the package.
    pub shows: Option<&'a Shows<'a>>,
}

impl LeadInput<'_> {
    fn shows(&self, version: &str) -> bool {
        self.shows
            .is_none_or(|shows| shows(Subject::Version(version)))
    }
}

/// A document that is not what its format says it is.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not valid UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("not valid XML: {0}")]
    Xml(String),
    #[error("reading or writing failed: {0}")]
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

/// A package that a file needs, in some version of a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    pub package: PackageId,
    /// In the format's own scheme; empty: any version.
    pub range: String,
}

/// What a format says on the wire.
pub trait Protocol: Send + Sync {
    fn format(&self) -> Format;

    /// Reads a package's name as people write it in patterns and on the command line.
    ///
    /// # Errors
    /// Where the text is no name of the format.
    fn package(&self, text: &str) -> Result<PackageId, Problem>;

    /// # Errors
    /// Where the path is none of the format's.
    fn parse(&self, ask: &Ask<'_>) -> Result<Target, Problem>;

    /// The upstream resource that the document is rendered from. With `dates`, the one that has
    /// publish dates.
    fn resource(&self, document: &DocumentId, dates: bool) -> Resource;

    /// The resources that the document may be rendered from, the best first, for where not all
    /// of them are to be had.
    fn resources(&self, document: &DocumentId) -> Vec<Resource> {
        vec![self.resource(document, false)]
    }

    /// What resolvers read of a package before they choose a version. With `whole`, also what has
    /// more than they need: dates, and words for people.
    fn read_beforehand(&self, _package: &PackageId, _whole: bool) -> Vec<Resource> {
        Vec::new()
    }

    /// Packages that a file needs beside those that a list of it names, to be installed or built.
    ///
    /// # Errors
    /// Where it is not what its name says.
    fn needs(&self, _file: &str, _content: &mut dyn Readable) -> Result<Vec<Need>, Problem> {
        Ok(Vec::new())
    }

    /// The package whose document a resource of this key is; none where it is no package's.
    fn package_of(&self, _key: &str) -> Option<PackageId> {
        None
    }

    /// Where the package's facts stand. With `dates`, publish dates among them.
    fn evidence(&self, package: &PackageId, dates: bool) -> Evidence;

    /// # Errors
    /// Where the document is not what the format says.
    fn facts(&self, package: &PackageId, upstream: &Upstream<'_>)
    -> Result<FactsPart, FormatError>;

    /// Facts of one asset, dates apart, where they can be had for less than those of all; what is
    /// not found so may still be there.
    fn fact(&self, _asset: &AssetId, _upstream: &Upstream<'_>) -> Option<AssetFacts> {
        None
    }

    /// What an asset's path alone says, in formats whose evidence is the path.
    fn path_facts(&self, _asset: &AssetId) -> Option<AssetFacts> {
        None
    }

    /// The version that an asset is of, as far as its name shows it.
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        let facts = self.path_facts(asset).or_else(|| self.guess(asset))?;
        Some(facts.version.into())
    }

    /// Whether the file is what a version is for, and not what is read before it is chosen.
    fn carries(&self, _file: &str) -> bool {
        true
    }

    /// Where a registry of the usual form keeps an asset that no document names.
    fn usual_place(&self, _asset: &AssetId) -> Option<Location> {
        None
    }

    /// What a registry of the usual form says of an asset in a resource that is much smaller than
    /// the package's document; to be required, since not every registry has it.
    fn guess(&self, _asset: &AssetId) -> Option<AssetFacts> {
        None
    }

    /// The file whose `Last-Modified` is the version's publish date, where no document has dates.
    fn dated_by(&self, _package: &PackageId, _version: &str) -> Option<Location> {
        None
    }

    /// The versions that the document names, where facts do not enumerate them.
    ///
    /// # Errors
    /// Where the document is not what the format says.
    fn versions(
        &self,
        _document: &DocumentId,
        _upstream: &Upstream<'_>,
    ) -> Result<Vec<String>, FormatError> {
        Ok(Vec::new())
    }

    /// The one version that the document is about, where its name shows it. It is given where that
    /// version's files are.
    fn version_of_document<'a>(&self, _document: &'a DocumentId) -> Option<&'a str> {
        None
    }

    /// Whether the document is a promise about all packages of its source (that all are signed, for
    /// instance), which holds for a repository only if it holds for each of its sources.
    fn is_promise(&self, _document: &DocumentId) -> bool {
        false
    }

    /// The documents of a package that [`Protocol::versions`] reads.
    fn listings(&self, _package: &PackageId) -> Vec<DocumentId> {
        Vec::new()
    }

    /// The part of the address that the rendered bytes depend on.
    fn address_key<'a>(&self, _document: &DocumentId, _address: &'a Address) -> &'a str {
        ""
    }

    /// Whether the document is too large to be held whole: it goes through [`Protocol::stream`].
    fn streams(&self, _document: &DocumentId) -> bool {
        false
    }

    /// Renders a streamed document in memory that does not grow with it.
    ///
    /// # Errors
    /// Where the document is not what the format says, or reading or writing fails.
    fn stream(
        &self,
        _input: &mut StreamInput<'_>,
        _out: &mut dyn Write,
    ) -> Result<(), FormatError> {
        Err(FormatError::shape("the format streams no documents"))
    }

    /// The media type of a streamed document.
    fn stream_type(&self, _document: &DocumentId) -> &'static str {
        "application/octet-stream"
    }

    /// # Errors
    /// Where the document is not what the format says, or lacks what was asked for.
    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError>;

    /// Whether a resolver that asks for the target asks for more by what stands in it.
    fn leads_on(&self, _target: &Target) -> bool {
        false
    }

    /// What it asks for then: guesses, of the version that it is likely to choose.
    ///
    /// # Errors
    /// Where the bytes are not what the format says.
    fn leads(&self, _input: &LeadInput<'_>) -> Result<Vec<Lead>, FormatError> {
        Ok(Vec::new())
    }

    /// Reads the digests that a [`Promise`]'s resource holds.
    fn promised(&self, _promise: &Promise, _bytes: &[u8]) -> Expected {
        Expected::none()
    }

    /// What a stored alias leads to.
    fn alias(&self, _target: &str) -> Option<Target> {
        None
    }

    /// Whether clients take the document compressed although they did not ask for it.
    fn always_gzip(&self, _document: &DocumentId) -> bool {
        false
    }

    /// The document that says where the connection keeps its resources.
    fn directory(&self) -> Option<Resource> {
        None
    }

    /// The addresses that such a document has for what Larder asks for.
    fn services(&self, _directory: &[u8]) -> Vec<Url> {
        Vec::new()
    }

    /// The address of a [`Location::Service`] by that document.
    fn locate(
        &self,
        _directory: &[u8],
        _types: &[&str],
        _path: &UpstreamPath,
    ) -> Option<UpstreamUrl> {
        None
    }

    /// A document of our own packages, as a registry would have sent it from [`OWN`], with its
    /// media type; `None` where they say nothing to it.
    ///
    /// # Errors
    /// Where what was stored of a package cannot be read.
    fn compose(
        &self,
        document: &DocumentId,
        own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError>;

    /// The one version that the document is about, where it is about one alone: no other's manifest
    /// is needed to compose it.
    fn only_version<'a>(
        &self,
        _document: &'a DocumentId,
        _listing: &'a Listing,
    ) -> Option<&'a str> {
        None
    }

    /// The directory document of our own packages, where the format has one.
    fn own_directory(&self) -> Option<Vec<u8>> {
        None
    }

    /// What the document asks our own packages for, where it is about no single one.
    fn search(&self, _document: &DocumentId) -> Option<Search> {
        None
    }

    /// Whether what several sources have is one document; else the nearest's is.
    fn merges(&self, document: &DocumentId) -> bool;

    /// One rendered document of several, the nearest first. No two of them show one version.
    ///
    /// # Errors
    /// Where one of them is not what the format says.
    fn merge(&self, document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError>;

    /// One spelling for all that mean the same version; what is no version stays as it is.
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(version)
    }

    /// The order of versions: total, equal where two spell the same version, and with a place for
    /// what cannot be read. A prerelease stands before its release.
    fn compare(&self, a: &str, b: &str) -> Ordering;

    /// Whether clients take it only where they are told to: a prerelease, or no version at all.
    fn is_prerelease(&self, version: &str) -> bool;

    /// The order in which clients choose where nobody tells them: any release is after all
    /// prereleases.
    fn compare_choice(&self, a: &str, b: &str) -> Ordering {
        let is_release = |version| !self.is_prerelease(version);
        is_release(a)
            .cmp(&is_release(b))
            .then_with(|| self.compare(a, b))
    }

    /// Reads a version as people write it.
    ///
    /// # Errors
    /// Where no version is written so in any format.
    fn version(&self, text: &str) -> Result<VersionId, Problem> {
        let text = text.trim();
        let is_one = !text.is_empty()
            && text.len() <= VERSION_BYTES_MAX
            && !text.contains(char::is_whitespace)
            // It stands in paths, trimmed.
            && !is_risky_segment(text);
        if is_one {
            Ok(self.known_version(text))
        } else {
            Err(Problem::invalid(format!(
                "`{}` is no version of {}",
                text.escape_debug(),
                self.format()
            )))
        }
    }

    /// The version that a document or a catalog names, whatever it is called there.
    fn known_version(&self, text: &str) -> VersionId {
        VersionId::new(self.format(), &self.normal_version(text))
    }

    /// Where a registry of the format takes what is sent to this path below a repository, and the
    /// same below an address that is for publishes alone.
    fn published_at(&self, rest: &str) -> (Location, UpstreamPath) {
        let path = UpstreamPath::from_request(rest);
        (Location::Path(path.clone()), path)
    }

    /// The packages, by name, that a [`Target::Question`]'s body is about.
    fn asked_about(&self, _body: &[u8]) -> Vec<String> {
        Vec::new()
    }

    /// The question without these packages.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn ask_without(&self, body: &[u8], _names: &HashSet<String>) -> Result<Vec<u8>, FormatError> {
        Ok(body.to_vec())
    }

    /// Takes a body apart that has both words and a file in it. The file's bytes go to `file`.
    ///
    /// # Errors
    /// Where it is not what the format says, or its words are longer than `words_max`.
    fn part(
        &self,
        _body: &mut dyn std::io::Read,
        _file: &mut dyn Write,
        _words_max: u64,
    ) -> Result<Parted, Problem> {
        Err(Problem::invalid("the format's bodies are not taken apart"))
    }

    /// The document that has the words of a version that came from outside, where its file has
    /// fewer than documents need.
    fn words_in(&self, _asset: &AssetId) -> Option<DocumentId> {
        None
    }

    /// The words out of that document, as a publish of the version would have them.
    ///
    /// # Errors
    /// Where it is not what the format says, or has no such version.
    fn words(&self, _document: &[u8], _version: &str) -> Result<Vec<u8>, FormatError> {
        Ok(Vec::new())
    }

    /// Looks into a file that is to be published: what it is, and whether it agrees with what was
    /// said of it.
    ///
    /// # Errors
    /// Where it does not.
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem>;

    /// Whether `version` is one that `range` takes in the format's own version scheme; `None`
    /// where the range cannot be read.
    fn version_in(&self, version: &str, range: &str) -> Option<bool>;

    /// Whether the whole of `range` is one in the format's own version scheme, and may take a
    /// version.
    ///
    /// # Errors
    /// Why not.
    fn check_range(&self, range: &str) -> Result<(), String>;

    /// An error in the format's own shape.
    fn error(&self, problem: &Problem) -> ErrorBody;
}

impl Format {
    /// The format's protocol.
    #[must_use]
    pub fn protocol(self) -> &'static dyn Protocol {
        match self {
            Self::Npm => &npm::Npm,
            Self::Pypi => &pypi::Pypi,
            Self::Maven => &maven::Maven,
            Self::Nuget => &nuget::Nuget,
            Self::Generic => &generic::Generic,
        }
    }
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
