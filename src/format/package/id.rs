use std::fmt;

use super::Format;

/// One package of one format. Made by a format's `name` module alone, which normalises the
/// name once; two spellings of a package are therefore equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageId {
    format: Format,
    /// npm's scope without `@`, Maven's groupId with dots; none in PyPI and NuGet.
    namespace: Option<Box<str>>,
    name: Box<str>,
}

impl PackageId {
    /// The caller, a format's `name` module, has normalised and checked both parts.
    pub(crate) fn new(format: Format, namespace: Option<&str>, name: &str) -> Self {
        Self {
            format,
            namespace: namespace.map(Into::into),
            name: name.into(),
        }
    }

    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as the format's users write it: `@scope/name`, `group:artifact`, `space/name`, `name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match (self.format, &self.namespace) {
            (Format::Npm, Some(scope)) => format!("@{scope}/{}", self.name),
            (Format::Generic, Some(space)) => format!("{space}/{}", self.name),
            (_, Some(group)) => format!("{group}:{}", self.name),
            (_, None) => self.name.to_string(),
        }
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format, self.full_name())
    }
}
