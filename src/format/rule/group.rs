//! Package groups: patterns of names, the narrower below the wider, that say how versions of the
//! packages in them may come in (CodeArtifact user guide, "Working with package groups").

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_security::skeleton;

use crate::package::PackageId;

/// The formats that patterns may name.
const FORMATS: &[&str] = &[
    "npm", "pypi", "maven", "nuget", "generic", "ruby", "swift", "cargo",
];
const PATTERN_CHARS_MAX: usize = 520;

/// Which values a part of a package's path may have; the later, the narrower.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Any,
    /// Values that begin with these words.
    Words(String),
    Exact(String),
}

impl Part {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Words(words), Self::Words(of) | Self::Exact(of)) => begins_with(of, words),
            (Self::Exact(one), Self::Exact(other)) => one == other,
            _ => false,
        }
    }

    /// The part in the form that all variations of a name have in common.
    fn folded(&self) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Words(words) => Self::Words(folded(words)),
            Self::Exact(value) => Self::Exact(folded(value)),
        }
    }

    /// The longer, the narrower.
    fn weight(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Words(words) => (1, words.len()),
            Self::Exact(value) => (2, value.len()),
        }
    }
}

/// Whether the words stand at the beginning, and a word ends there.
fn begins_with(text: &str, words: &str) -> bool {
    text.strip_prefix(words)
        .is_some_and(|rest| !rest.starts_with(is_of_a_word))
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric()
}

/// Without case, with one dot for each run of separators, and with one look for all characters
/// that look alike (UTS 39, "Confusable detection").
fn folded(text: &str) -> String {
    let mut separated = String::with_capacity(text.len());
    for character in text.to_lowercase().chars() {
        if !matches!(character, '-' | '.' | '_') {
            separated.push(character);
        } else if !separated.ends_with('.') {
            separated.push('.');
        }
    }
    skeleton(&separated).collect()
}

/// Which packages a group has: `/*`, `/npm/*`, `/npm/space~`, `/npm/space/*`, `/npm/space/ui~`,
/// `/npm/space/ui$`. A package without a namespace has an empty one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupPattern {
    text: Box<str>,
    path: Path,
    /// The path that the variations of the group's names have in common.
    folded: Path,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Path {
    format: Part,
    namespace: Part,
    name: Part,
}

impl Path {
    fn of(package: &PackageId) -> Self {
        Self {
            format: Part::Exact(package.format().as_str().to_owned()),
            namespace: Part::Exact(package.namespace().unwrap_or_default().to_owned()),
            name: Part::Exact(package.name().to_owned()),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        self.format.covers(&other.format)
            && self.namespace.covers(&other.namespace)
            && self.name.covers(&other.name)
    }

    fn folded(&self) -> Self {
        Self {
            format: self.format.clone(),
            namespace: self.namespace.folded(),
            name: self.name.folded(),
        }
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern of a package group: {1}")]
pub struct NoPattern(String, &'static str);

impl GroupPattern {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The narrower of two patterns that a package is in has the greater one.
    fn weight(&self) -> [(u8, usize); 3] {
        let Path {
            format,
            namespace,
            name,
        } = &self.path;
        [format.weight(), namespace.weight(), name.weight()]
    }
}

impl FromStr for GroupPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let wrong = |why| NoPattern(text.chars().take(PATTERN_CHARS_MAX).collect(), why);
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(wrong("it is too long"));
        }
        if text.contains(|it: char| it.is_control() || it.is_whitespace()) {
            return Err(wrong("it has spaces"));
        }
        let parts: Vec<&str> = text
            .strip_prefix('/')
            .ok_or_else(|| wrong("it begins with a slash"))?
            .split('/')
            .collect();
        let words = |text: &str| match text.strip_suffix('~') {
            Some(words) if words.ends_with(is_of_a_word) => Ok(Part::Words(words.to_owned())),
            _ => Err(wrong("`~` follows a letter or a digit")),
        };
        let exact = |text: &str| Part::Exact(text.to_owned());
        let (format, namespace, name) = match parts.as_slice() {
            ["*"] => (None, Part::Any, Part::Any),
            [format, "*"] => (Some(*format), Part::Any, Part::Any),
            [format, namespace] => (Some(*format), words(namespace)?, Part::Any),
            [format, namespace, "*"] => (Some(*format), exact(namespace), Part::Any),
            [format, namespace, name] => match name.strip_suffix('$') {
                Some("") => return Err(wrong("`$` follows a name")),
                Some(name) => (Some(*format), exact(namespace), exact(name)),
                None => (Some(*format), exact(namespace), words(name)?),
            },
            _ => {
                return Err(wrong(
                    "it is /FORMAT/NAMESPACE/NAME with `$`, `~` or `/*` at its end",
                ));
            }
        };
        let literals = [&namespace, &name].into_iter().any(|part| match part {
            Part::Any => false,
            Part::Words(text) | Part::Exact(text) => text.contains(['*', '$', '~']),
        });
        if literals {
            return Err(wrong("`$`, `~` and `*` stand at its end alone"));
        }
        if format.is_some_and(|format| !FORMATS.contains(&format)) {
            return Err(wrong("there is no such format"));
        }
        let has_none = matches!(format, Some("pypi" | "nuget" | "ruby" | "cargo"));
        if has_none && !matches!(&namespace, Part::Any) && namespace != exact("") {
            return Err(wrong("packages of that format have no namespace"));
        }
        let path = Path {
            format: format.map_or(Part::Any, exact),
            namespace,
            name,
        };
        Ok(Self {
            text: text.into(),
            folded: path.folded(),
            path,
        })
    }
}

impl fmt::Display for GroupPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a version comes into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    Publish,
    /// From a connection.
    ExternalUpstream,
    /// From a repository of the same domain.
    InternalUpstream,
}

impl WayIn {
    pub const ALL: [Self; 3] = [
        Self::ExternalUpstream,
        Self::InternalUpstream,
        Self::Publish,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "PUBLISH",
            Self::ExternalUpstream => "EXTERNAL_UPSTREAM",
            Self::InternalUpstream => "INTERNAL_UPSTREAM",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Whether versions may come that way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    Allow,
    AllowSpecificRepositories,
    Block,
    /// The setting of the group above.
    #[default]
    Inherit,
}

impl Mode {
    const ALL: [Self; 4] = [
        Self::Allow,
        Self::AllowSpecificRepositories,
        Self::Block,
        Self::Inherit,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::AllowSpecificRepositories => "ALLOW_SPECIFIC_REPOSITORIES",
            Self::Block => "BLOCK",
            Self::Inherit => "INHERIT",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// A group's setting for one way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub mode: Mode,
    /// Into which ones, where the mode says that.
    pub repositories: BTreeSet<String>,
}

/// A group's settings for all ways in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    publish: Setting,
    external_upstream: Setting,
    internal_upstream: Setting,
}

impl Settings {
    /// All open: what holds where nobody said anything.
    fn open() -> Self {
        let allow = Setting {
            mode: Mode::Allow,
            repositories: BTreeSet::new(),
        };
        Self {
            publish: allow.clone(),
            external_upstream: allow.clone(),
            internal_upstream: allow,
        }
    }

    #[must_use]
    pub fn of(&self, entry: WayIn) -> &Setting {
        match entry {
            WayIn::Publish => &self.publish,
            WayIn::ExternalUpstream => &self.external_upstream,
            WayIn::InternalUpstream => &self.internal_upstream,
        }
    }

    pub fn of_mut(&mut self, entry: WayIn) -> &mut Setting {
        match entry {
            WayIn::Publish => &mut self.publish,
            WayIn::ExternalUpstream => &mut self.external_upstream,
            WayIn::InternalUpstream => &mut self.internal_upstream,
        }
    }
}

/// A package group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub pattern: GroupPattern,
    pub contact: String,
    pub description: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    pub settings: Settings,
}

impl Group {
    /// The pattern of the group that is always there, above all others.
    pub const ROOT: &str = "/*";

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.pattern.as_str() == Self::ROOT
    }
}

/// How a package is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Association {
    /// By its own name.
    Strong,
    /// By a variation of a name: nothing of it comes in, as it may be meant to be taken for
    /// another one.
    Weak,
}

impl Association {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strong => "STRONG",
            Self::Weak => "WEAK",
        }
    }
}

/// Which repositories versions of a package may come into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance<'a> {
    /// The group that says so.
    pub group: &'a Group,
    association: Association,
    groups: &'a Groups,
}

impl Entrance<'_> {
    /// Whether versions may come into the repository that way.
    #[must_use]
    pub fn admits(&self, entry: WayIn, repository: &str) -> bool {
        if self.association == Association::Weak {
            return false;
        }
        let (setting, _) = self.groups.effective(self.group, entry);
        match setting.mode {
            Mode::Allow | Mode::Inherit => true,
            Mode::Block => false,
            Mode::AllowSpecificRepositories => setting.repositories.contains(repository),
        }
    }
}

/// All groups of the domain, in the order of their patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

impl Default for Groups {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Groups {
    /// These groups, and the one above all where nothing was said of it.
    #[must_use]
    pub fn new(mut groups: Vec<Group>) -> Self {
        if !groups.iter().any(Group::is_root) {
            let any = || Path {
                format: Part::Any,
                namespace: Part::Any,
                name: Part::Any,
            };
            groups.push(Group {
                pattern: GroupPattern {
                    text: Group::ROOT.into(),
                    path: any(),
                    folded: any(),
                },
                contact: String::new(),
                description: String::new(),
                created_at: 0,
                settings: Settings::open(),
            });
        }
        groups.sort_by(|a, b| a.pattern.text.cmp(&b.pattern.text));
        Self(groups)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    #[must_use]
    pub fn get(&self, pattern: &str) -> Option<&Group> {
        self.0.iter().find(|it| it.pattern.as_str() == pattern)
    }

    /// The narrowest group that has all that the pattern has; none above the root.
    #[must_use]
    pub fn parent(&self, pattern: &GroupPattern) -> Option<&Group> {
        let above = self
            .0
            .iter()
            .filter(|it| it.pattern.text != pattern.text && it.pattern.path.covers(&pattern.path));
        above.max_by_key(|it| it.pattern.weight())
    }

    /// The setting in force for a way into the group's packages, and the group that has it.
    #[must_use]
    pub fn effective<'a>(&'a self, group: &'a Group, entry: WayIn) -> (&'a Setting, &'a Group) {
        let mut group = group;
        while group.settings.of(entry).mode == Mode::Inherit
            && let Some(above) = self.parent(&group.pattern)
        {
            group = above;
        }
        (group.settings.of(entry), group)
    }

    /// The group that the package is in: the narrowest that has it, or a variation of its name.
    #[must_use]
    pub fn of(&self, package: &PackageId) -> Option<(&Group, Association)> {
        let path = Path::of(package);
        let folded = path.folded();
        self.0
            .iter()
            .filter(|group| group.pattern.folded.covers(&folded))
            .map(|group| {
                let association = if group.pattern.path.covers(&path) {
                    Association::Strong
                } else {
                    Association::Weak
                };
                (group, association)
            })
            .max_by_key(|(group, association)| {
                (group.pattern.weight(), *association == Association::Strong)
            })
    }

    /// How versions of the package may come in; none where no group says anything.
    #[must_use]
    pub fn entrance(&self, package: &PackageId) -> Option<Entrance<'_>> {
        if let [root] = self.0.as_slice()
            && root.settings == Settings::open()
        {
            return None;
        }
        let (group, association) = self.of(package)?;
        Some(Entrance {
            group,
            association,
            groups: self,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pattern: &str) -> Group {
        Group {
            pattern: pattern.parse().unwrap(),
            contact: String::new(),
            description: String::new(),
            created_at: 0,
            settings: Settings::default(),
        }
    }

    fn groups(patterns: &[&str]) -> Groups {
        Groups::new(patterns.iter().map(|it| group(it)).collect())
    }

    fn package(text: &str) -> PackageId {
        crate::package(text).unwrap()
    }

    #[test]
    fn patterns_are_those_of_the_guide() {
        for pattern in [
            "/*",
            "/npm/*",
            "/maven/com.anycompany~",
            "/npm/space/*",
            "/npm//*",
            "/npm/space/anycompany-ui~",
            "/maven/org.apache.logging.log4j/log4j-core$",
            "/pypi//requests$",
        ] {
            assert_eq!(pattern.parse::<GroupPattern>().unwrap().as_str(), pattern);
        }
        for pattern in [
            "",
            "*",
            "/",
            "/npm",
            "/npm/",
            "/gems/*",
            "/npm/space",
            "/npm/space/ui",
            "/npm/space-~",
            "/npm/space/$",
            "/npm/sp*ce/ui$",
            "/npm/a/b/c$",
            "/pypi/space/requests$",
            "/npm/a b/*",
            "/npm/~",
        ] {
            assert!(pattern.parse::<GroupPattern>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_package_is_in_the_narrowest_group_that_has_it() {
        let groups = groups(&[
            "/npm/*",
            "/npm/space/*",
            "/npm/space/foo~",
            "/npm/space/foo-bar$",
            "/maven/com.any~",
            "/npm//AsyncStorage$",
            "/npm//my-package$",
        ]);
        for (name, pattern, association) in [
            ("npm:react", "/npm/*", Association::Strong),
            (
                "npm:@space/aui.components",
                "/npm/space/*",
                Association::Strong,
            ),
            ("npm:@space/foo", "/npm/space/foo~", Association::Strong),
            ("npm:@space/foo-baz", "/npm/space/foo~", Association::Strong),
            ("npm:@space/food", "/npm/space/*", Association::Strong),
            (
                "npm:@space/foo-bar",
                "/npm/space/foo-bar$",
                Association::Strong,
            ),
            (
                "npm:@space/foo_bar",
                "/npm/space/foo-bar$",
                Association::Weak,
            ),
            (
                "npm:@space/foo..bar",
                "/npm/space/foo-bar$",
                Association::Weak,
            ),
            ("npm:@space/foobar", "/npm/space/*", Association::Strong),
            (
                "maven:com.any.thing:lib",
                "/maven/com.any~",
                Association::Strong,
            ),
            ("maven:com.anything:lib", "/*", Association::Strong),
            (
                "npm:AsyncStorage",
                "/npm//AsyncStorage$",
                Association::Strong,
            ),
            ("npm:asyncstorage", "/npm//AsyncStorage$", Association::Weak),
            ("npm:my-package", "/npm//my-package$", Association::Strong),
            ("npm:my.package", "/npm//my-package$", Association::Weak),
            ("npm:rny-package", "/npm//my-package$", Association::Weak),
            ("npm:mypackage", "/npm/*", Association::Strong),
            ("pypi:requests", "/*", Association::Strong),
        ] {
            let (group, found) = groups.of(&package(name)).unwrap();
            assert_eq!(
                (group.pattern.as_str(), found),
                (pattern, association),
                "{name}"
            );
        }
    }

    #[test]
    fn a_variation_that_has_a_group_of_its_own_is_in_that_one() {
        let groups = groups(&["/npm//AsyncStorage$", "/npm//asyncstorage$"]);
        let (group, association) = groups.of(&package("npm:asyncstorage")).unwrap();
        assert_eq!(group.pattern.as_str(), "/npm//asyncstorage$");
        assert_eq!(association, Association::Strong);
        let (_, association) = groups.of(&package("npm:asyncStorage")).unwrap();
        assert_eq!(association, Association::Weak);
    }

    #[test]
    fn groups_are_below_the_narrowest_wider_one() {
        let groups = groups(&[
            "/npm/*",
            "/npm/space~",
            "/npm/space/*",
            "/npm/space-x~",
            "/npm/space/ui$",
        ]);
        for (pattern, parent) in [
            ("/*", None),
            ("/npm/*", Some("/*")),
            ("/npm/space~", Some("/npm/*")),
            ("/npm/space-x~", Some("/npm/space~")),
            ("/npm/space/*", Some("/npm/space~")),
            ("/npm/space/ui$", Some("/npm/space/*")),
        ] {
            let pattern: GroupPattern = pattern.parse().unwrap();
            let found = groups.parent(&pattern).map(|it| it.pattern.as_str());
            assert_eq!(found, parent, "{pattern}");
        }
    }

    #[test]
    fn what_a_group_does_not_say_the_one_above_says() {
        assert!(Groups::default().entrance(&package("npm:a")).is_none());
        let mut wide = group("/npm/*");
        wide.settings.external_upstream.mode = Mode::Block;
        let mut narrow = group("/npm/space/*");
        narrow.settings.publish = Setting {
            mode: Mode::AllowSpecificRepositories,
            repositories: BTreeSet::from(["team".to_owned()]),
        };
        let groups = Groups::new(vec![wide, narrow]);
        let package = package("npm:@space/ui");
        let entrance = groups.entrance(&package).unwrap();
        assert!(entrance.admits(WayIn::Publish, "team"));
        assert!(!entrance.admits(WayIn::Publish, "other"));
        assert!(!entrance.admits(WayIn::ExternalUpstream, "team"));
        assert!(entrance.admits(WayIn::InternalUpstream, "team"));
        let narrow = groups.get("/npm/space/*").unwrap();
        let (setting, from) = groups.effective(narrow, WayIn::ExternalUpstream);
        assert_eq!(
            (setting.mode, from.pattern.as_str()),
            (Mode::Block, "/npm/*")
        );
        let variation = crate::package("npm:@Space/ui").unwrap();
        let entrance = groups.entrance(&variation).unwrap();
        assert!(
            !entrance.admits(WayIn::Publish, "team"),
            "a variation comes in nowhere"
        );
    }

    #[test]
    fn a_pattern_has_no_more_characters_than_may_be() {
        let parse = |chars: usize| {
            let namespace = "/maven/org.x/";
            let name = "a".repeat(chars - namespace.len() - 1);
            format!("{namespace}{name}$").parse::<GroupPattern>()
        };
        assert!(parse(PATTERN_CHARS_MAX).is_ok());
        let NoPattern(_, why) = parse(PATTERN_CHARS_MAX + 1).unwrap_err();
        assert_eq!(why, "it is too long");
    }
}
