use crate::package::PackageId;
use crate::{FormatError, Resource, Shows, Subject, Target, Upstream};

/// A guess at what a resolver will ask for next, after reading its last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefetchHint {
    /// A document, or an asset that is read as one (a pom, a wheel's metadata).
    pub target: Target,
    /// Which versions of it are wanted, in the format's own words; none where all are.
    pub range: Option<String>,
}

/// The answer that hints are read from.
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

/// Predicts what resolvers will ask for, so that it can be fetched before they do.
pub trait Prefetch: Sync {
    /// The resources that resolvers read before they choose a version. With `whole`, also the fuller
    /// ones, with dates and texts for people.
    fn read_beforehand(&self, package: &PackageId, whole: bool) -> Vec<Resource>;

    /// Whether the target's content makes a resolver ask for more.
    fn gives_hints(&self, target: &Target) -> bool;

    /// Guesses what a resolver asks for next, for the version that it will probably choose.
    ///
    /// # Errors
    /// Where the bytes are not what the format says.
    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError>;
}
