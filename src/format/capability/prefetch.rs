use crate::package::PackageId;
use crate::{FormatError, Resource, Shows, Subject, Target, Upstream};

/// What a resolver is likely to ask for next, when it has read what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefetchHint {
    /// A document, or an asset that is read as one (a pom, a wheel's metadata).
    pub target: Target,
    /// Which versions of it are wanted, in the format's own words; none where all are.
    pub range: Option<String>,
}

/// What leads are read from.
pub struct PrefetchInput<'a> {
    pub of: &'a Target,
    pub upstream: Upstream<'a>,
    /// Which versions of the package the resolver wants, as far as that is known.
    pub range: Option<&'a str>,
    /// `None` where no rule concerns the package.
    pub shows: Option<&'a Shows<'a>>,
}

impl PrefetchInput<'_> {
    pub(crate) fn shows(&self, version: &str) -> bool {
        self.shows
            .is_none_or(|shows| shows(Subject::Version(version)))
    }
}

/// What resolvers read, so that it can be brought in before they ask.
pub trait Prefetch: Sync {
    /// What they read of a package before they choose a version. With `whole`, also what has more
    /// than they need: dates, and words for people.
    fn read_beforehand(&self, package: &PackageId, whole: bool) -> Vec<Resource>;

    /// Whether a resolver that asks for the target asks for more by what stands in it.
    fn gives_hints(&self, target: &Target) -> bool;

    /// What it asks for then: guesses, of the version that it is likely to choose.
    ///
    /// # Errors
    /// Where the bytes are not what the format says.
    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError>;
}
