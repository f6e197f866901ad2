//! Whether what a policy names is there to be named. A policy is held against this when it is put in
//! force, and not later: that a repository of its is deleted afterwards is normal life.

use super::document::{MalformedPolicy, Policy, Statement, Words, malformed};
use super::pattern::PolicyPattern;
use crate::access::action::{Action, NoAction, READ};
use crate::config::Domain;
use crate::package::Format;

/// The names that exist, to find misspelled ones in policies.
pub struct KnownNames<'a> {
    pub domain: &'a Domain,
    /// The repositories' names.
    pub repositories: &'a [String],
}

impl Policy {
    /// Whether every action and every resource that it names can be asked about.
    ///
    /// # Errors
    /// The first that cannot: a statement about it would do nothing, a denial too.
    pub fn check(&self, known: &KnownNames<'_>) -> Result<(), MalformedPolicy> {
        for statement in &self.statements {
            for word in statement.actions.all() {
                if !Action::ALL.iter().any(|action| action.is_meant_by(word)) {
                    return Err(malformed(NoAction::new(word).to_string()));
                }
            }
            for word in statement.resources.all() {
                if !known.has(word, statement) {
                    return Err(malformed(format!(
                        "the resource `{word}` is nothing that there is: {}",
                        known.said()
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Words {
    fn all(&self) -> &[String] {
        match self {
            Self::These(words) | Self::Not(words) => words,
        }
    }
}

impl Statement {
    /// Whether it speaks of making a repository, by that action's name and not as one of all.
    fn makes_repositories(&self) -> bool {
        self.actions
            .all()
            .iter()
            .any(|word| Action::CreateRepository.is_meant_by(word) && !READ.is_meant_by(word))
    }
}

impl KnownNames<'_> {
    /// Whether a resource of a policy can be one that is asked about. What is left open by a wildcard
    /// or a variable may stand for a repository that is made later; a name that is written out has to
    /// be there, or be made by the statement.
    fn has(&self, word: &str, statement: &Statement) -> bool {
        // A variable's value is not known here, so it is taken for any text.
        let Some(pattern) = PolicyPattern::filled(word, |pattern, _| {
            pattern.push_any();
            Some(())
        }) else {
            return false;
        };
        if pattern.is_everything() {
            return true;
        }
        let Domain {
            name,
            owner,
            region,
        } = self.domain;
        let Some(what) = pattern.within(["arn", "aws", "codeartifact", region, owner]) else {
            return false;
        };
        what.matches(&format!("domain/{name}"))
            || what.can_begin(&format!("package-group/{name}/"))
            || self
                .repositories
                .iter()
                .any(|it| is_within(&what, name, it))
            || self.may_be_made(&what, statement)
    }

    /// Whether it is a repository that is not there yet, or packages of it.
    fn may_be_made(&self, what: &PolicyPattern, statement: &Statement) -> bool {
        let segments = what.segments();
        let [kind, domain, repository, rest @ ..] = segments.as_slice() else {
            return false;
        };
        let is_one = match rest {
            [] => kind.matches("repository") || (kind.matches("package") && ends_open(repository)),
            [format, ..] => kind.matches("package") && formats().any(|it| format.matches(it)),
        };
        is_one
            && domain.matches(&self.domain.name)
            && (repository.has_wildcards() || statement.makes_repositories())
    }

    fn said(&self) -> String {
        let Domain {
            name,
            owner,
            region,
        } = self.domain;
        format!(
            "the domain is arn:aws:codeartifact:{region}:{owner}:domain/{name}, its repositories are {}",
            self.repositories.join(", ")
        )
    }
}

fn formats() -> impl Iterator<Item = &'static str> {
    Format::SERVED
        .into_iter()
        .chain([Format::Generic])
        .map(Format::as_str)
}

/// Whether it can be the repository, or a package of it.
fn is_within(what: &PolicyPattern, domain: &str, repository: &str) -> bool {
    what.matches(&format!("repository/{domain}/{repository}"))
        || formats()
            .any(|format| what.can_begin(&format!("package/{domain}/{repository}/{format}/")))
}

fn ends_open(segment: &PolicyPattern) -> bool {
    segment.text().ends_with('*')
}
