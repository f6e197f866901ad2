//! Which versions a document shows: the same decision as about files, asked for each version while
//! the document is rendered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Snapshot;
use super::evidence::PackageFacts;
use super::notice::HeldVersions;
use super::source_chain::ShadowedVersions;
use crate::fetch::{Document, Stock};
use crate::format::Subject;
use crate::package::{Listing, Origin, PackageId};
use crate::rule::{Concern, RuleQuestion, Ruling};

/// Everything that decides which versions of a package a document shows.
pub(super) struct View {
    pub snapshot: Arc<Snapshot>,
    pub concern: Concern,
    pub directory: Option<Arc<Document>>,
    pub facts: Option<Arc<PackageFacts>>,
    /// Publish dates by version, for formats whose facts do not list the versions.
    pub dates: HashMap<String, Timestamp>,
    /// The versions that nearer sources have; they are not shown again.
    pub shadowed: ShadowedVersions,
    /// For an offline connection: the files that are stored here. Others are not shown.
    pub stock: Option<Arc<Stock>>,
    /// For our own packages: the package's versions.
    pub own: Option<Arc<Listing>>,
    /// Whether the source is the repository's only one. Only then are the source's promises about
    /// all its packages (that all are signed, say) true of the repository too.
    pub is_only_source: bool,
}

impl View {
    /// The view of a repository with one source, which hides nothing but what rules hide.
    pub fn new(snapshot: &Arc<Snapshot>, concern: Concern) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            concern,
            directory: None,
            facts: None,
            dates: HashMap::new(),
            shadowed: ShadowedVersions::default(),
            stock: None,
            own: None,
            is_only_source: true,
        }
    }

    /// Whether the document may show less than there is.
    pub fn hides(&self) -> bool {
        self.concern.versions || !self.shadowed.is_empty() || self.stock.is_some()
    }
}

/// The rules' answers while a document is rendered, and until when they hold.
pub(super) struct Verdicts<'a> {
    view: &'a View,
    package: Option<&'a PackageId>,
    now: Timestamp,
    pub changes: RefCell<Option<Timestamp>>,
    held: RefCell<HeldVersions>,
}

impl<'a> Verdicts<'a> {
    pub fn new(view: &'a View, package: Option<&'a PackageId>, now: Timestamp) -> Self {
        let changes = RefCell::new(view.snapshot.config.rules.next_expiry(now));
        Self {
            view,
            package,
            now,
            changes,
            held: RefCell::default(),
        }
    }

    /// The notice to clients about the versions that rules hid.
    pub fn notice(&self) -> Option<String> {
        self.held.borrow().notice(self.package?)
    }

    pub fn shows(&self, subject: Subject<'_>) -> bool {
        if let Subject::Version(version) | Subject::File { version, .. } = subject
            && self.view.shadowed.has(version)
        {
            return false;
        }
        if !self.is_in_stock(subject) {
            return false;
        }
        if !self.view.concern.versions {
            return true;
        }
        let facts = self.view.facts.as_deref();
        let own = self.view.own.as_deref();
        let published_of = |version: &str| {
            if let Some(listing) = own {
                return listing.release(version).map(|release| release.published);
            }
            facts
                .and_then(|facts| facts.facts.version(version)?.published)
                .or_else(|| self.view.dates.get(version).copied())
        };
        let (package, version, published) = match (subject, self.package) {
            (Subject::Version(version), Some(package)) => (package, version, published_of(version)),
            (Subject::File { file, version }, Some(package)) => {
                let published = match own {
                    Some(listing) => listing.asset(file).map(|(_, asset)| asset.published),
                    None => facts.and_then(|facts| facts.facts.file(file)?.published),
                };
                (package, version, published)
            }
            (Subject::Other { package, version }, _) => return self.shows_other(package, version),
            (Subject::Name(package), _) => {
                let rules = &self.view.snapshot.config.rules;
                return rules.permit_name(package, self.now).is_ok();
            }
            (_, None) => return false,
        };
        let origin = match (&self.view.own, subject) {
            (Some(listing), Subject::File { file, .. }) => {
                listing.asset(file).map(|(release, _)| release)
            }
            (Some(listing), _) => listing.release(version),
            (None, _) => None,
        }
        .map_or(Origin::External, |release| release.origin);
        let question = RuleQuestion {
            package,
            version,
            published,
            origin,
        };
        let decision = self.view.snapshot.config.rules.decide(&question, self.now);
        if let Ruling::Denied {
            opens: Some(opens), ..
        } = decision.ruling
        {
            let mut changes = self.changes.borrow_mut();
            *changes = Some(changes.map_or(opens, |before| before.min(opens)));
        }
        self.held.borrow_mut().add(package, version, &decision);
        decision.is_allowed()
    }

    /// Whether an offline connection has it; of other packages that is not in hand.
    fn is_in_stock(&self, subject: Subject<'_>) -> bool {
        let (Some(stock), Some(package)) = (&self.view.stock, self.package) else {
            return true;
        };
        match subject {
            Subject::Version(version) => stock.has_version(package, version),
            Subject::File { file, .. } => stock.has_file(file),
            Subject::Other { .. } | Subject::Name(_) => true,
        }
    }

    /// A search result of another package: its dates are not in hand, and fetching a document for
    /// every result of a search would cost more than the search is worth. What a rule denies
    /// whatever the date is left out; the package's own document knows the rest.
    fn shows_other(&self, package: &PackageId, version: &str) -> bool {
        let question = RuleQuestion {
            package,
            version,
            published: None,
            origin: Origin::External,
        };
        let rules = &self.view.snapshot.config.rules;
        let decision = rules.decide(&question, self.now);
        decision.is_allowed()
            || decision
                .rule
                .is_some_and(|rule| rule.action == crate::rule::Action::Allow)
    }
}
