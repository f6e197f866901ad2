//! Package groups.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::package::named;
use super::page::Page;
use super::{Answered, Api, ApiFailure, Call, Operation, object, time, words};
use crate::access::PolicyResource;
use crate::clock;
use crate::format::package as package_of;
use crate::problem::{Kind, Problem};
use crate::repository::group_of;
use crate::repository::manage::{ManageCommand, ManageOutcome, Which};
use crate::rule::{Association, Group, GroupPattern, Groups, Mode, Settings, WayIn};

const CONTACT_CHARS_MAX: usize = 1000;
/// Packages that are looked through at once.
const LOOKED_THROUGH: usize = 1000;

/// Repositories of the lists of those that versions may come into.
type Lists = BTreeMap<&'static str, BTreeSet<String>>;

/// Operations about package groups.
pub(super) struct GroupCalls<'a> {
    pub api: &'a Api<'a>,
}

impl GroupCalls<'_> {
    /// The pattern that the call names, once the caller may do this to its group.
    fn may_to_group(&self, operation: Operation, call: &Call) -> Result<GroupPattern, ApiFailure> {
        let text = call
            .optional("package-group")
            .map_or_else(|| call.required("packageGroup"), Ok)?;
        let pattern: GroupPattern = text
            .parse()
            .map_err(|why: crate::rule::NoPattern| ApiFailure::field(why.to_string()))?;
        let resource = PolicyResource::package_group(self.api.domain(), text);
        self.api.pass.to(operation.action(), &resource)?;
        Ok(pattern)
    }

    fn reference(&self, pattern: &str) -> Value {
        let arn = PolicyResource::package_group(self.api.domain(), pattern).arn;
        object([("arn", arn.into()), ("pattern", pattern.into())])
    }

    fn described(&self, groups: &Groups, group: &Group) -> Value {
        let domain = self.api.domain();
        let pattern = group.pattern.as_str();
        let parent = groups.parent(&group.pattern);
        let restrictions: Map<String, Value> = WayIn::ALL
            .into_iter()
            .map(|entry| {
                let said = group.settings.of(entry);
                let (effective, from) = groups.effective(group, entry);
                let inherited =
                    (from.pattern != group.pattern).then(|| self.reference(from.pattern.as_str()));
                let count = (said.mode == Mode::AllowSpecificRepositories)
                    .then_some(said.repositories.len());
                let restriction = object([
                    ("mode", said.mode.as_str().into()),
                    ("effectiveMode", effective.mode.as_str().into()),
                    ("inheritedFrom", inherited.into()),
                    ("repositoriesCount", count.into()),
                ]);
                (entry.as_str().to_owned(), restriction)
            })
            .collect();
        object([
            (
                "arn",
                PolicyResource::package_group(domain, pattern).arn.into(),
            ),
            ("pattern", pattern.into()),
            ("domainName", domain.name.as_str().into()),
            ("domainOwner", domain.owner.as_str().into()),
            ("createdTime", time(group.created_at)),
            ("contactInfo", group.contact.as_str().into()),
            ("description", group.description.as_str().into()),
            (
                "originConfiguration",
                object([("restrictions", restrictions.into())]),
            ),
            (
                "parent",
                parent.map(|it| self.reference(it.pattern.as_str())).into(),
            ),
        ])
    }

    /// The group as it is now, whatever it was when the call began.
    fn described_now(&self, pattern: &GroupPattern) -> Answered {
        let groups = &self.api.registry.snapshot().groups;
        let group = group_in(groups, pattern)?;
        Ok(words([("packageGroup", self.described(groups, group))]))
    }

    pub(super) async fn create(&self, call: &Call) -> Answered {
        let pattern = self.may_to_group(Operation::CreatePackageGroup, call)?;
        let tags = if call.has("tags") {
            call.tags()?
        } else {
            Vec::new()
        };
        let group = Group {
            pattern: pattern.clone(),
            contact: contact(call)?.unwrap_or_default(),
            description: call.description()?.unwrap_or_default(),
            created_at: clock::unix_ms_now(),
            settings: Settings::default(),
        };
        let created = self.api.registry.create_group(group, &tags).await;
        created.map_err(|problem| about(problem, &pattern))?;
        self.described_now(&pattern)
    }

    pub(super) fn describe(&self, call: &Call) -> Answered {
        let pattern = self.may_to_group(Operation::DescribePackageGroup, call)?;
        self.described_now(&pattern)
    }

    pub(super) async fn update(&self, call: &Call) -> Answered {
        let pattern = self.may_to_group(Operation::UpdatePackageGroup, call)?;
        let (contact, description) = (contact(call)?, call.description()?);
        let changed = self.api.registry.change_group(pattern.as_str(), |group| {
            if let Some(contact) = contact {
                group.contact = contact;
            }
            if let Some(description) = description {
                group.description = description;
            }
            Ok(())
        });
        changed.await.map_err(|problem| about(problem, &pattern))?;
        self.described_now(&pattern)
    }

    pub(super) async fn delete(&self, call: &Call) -> Answered {
        let pattern = self.may_to_group(Operation::DeletePackageGroup, call)?;
        let described = self.described_now(&pattern)?;
        let deleted = self.api.registry.delete_group(pattern.as_str()).await;
        deleted.map_err(|problem| about(problem, &pattern))?;
        Ok(described)
    }

    pub(super) fn list(&self, operation: Operation, call: &Call) -> Answered {
        let page = Page::of(call)?;
        let groups = &self.api.snapshot.groups;
        let found: Vec<&Group> = if operation == Operation::ListSubPackageGroups {
            let above = self.may_to_group(operation, call)?;
            group_in(groups, &above)?;
            let parent = |group: &Group| groups.parent(&group.pattern).map(|it| &it.pattern);
            groups
                .iter()
                .filter(|group| parent(group) == Some(&above))
                .collect()
        } else {
            let domain = PolicyResource::domain(self.api.domain());
            self.api.pass.to(operation.action(), &domain)?;
            let prefix = call.optional("prefix").unwrap_or_default();
            groups
                .iter()
                .filter(|group| group.pattern.as_str().starts_with(prefix))
                .collect()
        };
        let (found, next) = page.cut(found, |group| group.pattern.as_str())?;
        let found: Vec<Value> = found
            .into_iter()
            .map(|group| self.described(groups, group))
            .collect();
        Ok(words([
            ("packageGroups", found.into()),
            ("nextToken", next),
        ]))
    }

    pub(super) fn of_package(&self, call: &Call) -> Answered {
        let operation = Operation::GetAssociatedPackageGroup;
        let domain = PolicyResource::domain(self.api.domain());
        self.api.pass.to(operation.action(), &domain)?;
        let package = call.package()?;
        let groups = &self.api.snapshot.groups;
        let Some((group, association)) = groups.of(&package) else {
            return Err(ApiFailure::field(format!(
                "{package} is in no package group"
            )));
        };
        Ok(words([
            ("packageGroup", self.described(groups, group)),
            ("associationType", association.as_str().into()),
        ]))
    }

    pub(super) fn list_allowed_repositories(&self, call: &Call) -> Answered {
        let operation = Operation::ListAllowedRepositoriesForGroup;
        let pattern = self.may_to_group(operation, call)?;
        let page = Page::of(call)?;
        let word = call.required("originRestrictionType")?;
        let group = group_in(&self.api.snapshot.groups, &pattern)?;
        let setting = group.settings.of(entry(word)?);
        let all: Vec<&String> = setting.repositories.iter().collect();
        let (all, next) = page.cut(all, |name| name.as_str())?;
        let all: Vec<Value> = all.into_iter().map(|name| name.as_str().into()).collect();
        Ok(words([
            ("allowedRepositories", all.into()),
            ("nextToken", next),
        ]))
    }

    /// The packages of all repositories that are in the group; as if there were one, for a preview.
    pub(super) async fn list_packages(&self, call: &Call) -> Answered {
        let pattern = self.may_to_group(Operation::ListAssociatedPackages, call)?;
        let page = Page::of(call)?;
        let mut groups = Groups::clone(&self.api.snapshot.groups);
        if call.optional("preview") == Some("true") && groups.get(pattern.as_str()).is_none() {
            let mut all: Vec<Group> = groups.iter().cloned().collect();
            all.push(Group {
                pattern: pattern.clone(),
                contact: String::new(),
                description: String::new(),
                created_at: 0,
                settings: Settings::default(),
            });
            groups = Groups::new(all);
        }
        group_in(&groups, &pattern)?;
        // At most one page and one more element are kept in memory.
        let mut found: BTreeMap<String, Association> = BTreeMap::new();
        for repository in self.api.snapshot.repositories() {
            let mut after = page.after.clone().unwrap_or_default();
            loop {
                let command = ManageCommand::List {
                    repository: repository.name.clone(),
                    format: None,
                    after: after.clone(),
                    limit: LOOKED_THROUGH,
                    which: Which::All,
                };
                let ManageOutcome::Packages { packages, .. } =
                    self.api.manager.execute(self.api.snapshot, command).await?
                else {
                    break;
                };
                let is_last = packages.len() < LOOKED_THROUGH;
                for one in packages {
                    after.clone_from(&one.package);
                    if let Some((group, association)) = groups.of(&package_of(&one.package)?)
                        && group.pattern == pattern
                    {
                        found.insert(one.package, association);
                    }
                }
                while found.len() > page.size + 1 {
                    found.pop_last();
                }
                let is_full = found.len() > page.size;
                let is_beyond = found
                    .last_key_value()
                    .is_some_and(|(last, _)| *last < after);
                if is_last || (is_full && is_beyond) {
                    break;
                }
            }
        }
        let has_more = found.len() > page.size;
        if has_more {
            found.pop_last();
        }
        let next = match found.last_key_value() {
            Some((last, _)) if has_more => Page::token(last),
            _ => Value::Null,
        };
        let packages: Result<Vec<Value>, ApiFailure> = found
            .into_iter()
            .map(|(package, association)| {
                let [format, namespace, name] = named(&package_of(&package)?);
                let association = ("associationType", association.as_str().into());
                Ok(object([format, namespace, name, association]))
            })
            .collect();
        Ok(words([("packages", packages?.into()), ("nextToken", next)]))
    }

    pub(super) async fn update_origin(&self, call: &Call) -> Answered {
        let operation = Operation::UpdatePackageGroupOriginConfiguration;
        let pattern = self.may_to_group(operation, call)?;
        let modes = modes(call)?;
        let adds = self.allowed(call, "addAllowedRepositories")?;
        let removes = self.allowed(call, "removeAllowedRepositories")?;
        let changed = self.api.registry.change_group(pattern.as_str(), |group| {
            update(group, &modes, &adds, &removes)
        });
        let updates = changed.await.map_err(|problem| about(problem, &pattern))?;
        let groups = &self.api.registry.snapshot().groups;
        let group = group_in(groups, &pattern)?;
        Ok(words([
            ("packageGroup", self.described(groups, group)),
            ("allowedRepositoryUpdates", updates),
        ]))
    }

    /// The repositories of a list of the body, by the way in that they are named for.
    fn allowed(&self, call: &Call, list: &str) -> Result<Lists, ApiFailure> {
        let mut lists = Lists::new();
        for one in call.objects(list)? {
            let text = |name: &str| one.get(name).and_then(Value::as_str);
            let (Some(name), Some(word)) = (text("repositoryName"), text("originRestrictionType"))
            else {
                return Err(ApiFailure::field(format!(
                    "`{list}` has a `repositoryName` and an `originRestrictionType` in each"
                )));
            };
            self.api.repository(name)?;
            let of = lists.entry(entry(word)?.as_str()).or_default();
            of.insert(name.to_owned());
        }
        Ok(lists)
    }
}

fn group_in<'a>(groups: &'a Groups, pattern: &GroupPattern) -> Result<&'a Group, ApiFailure> {
    group_of(groups, pattern.as_str()).map_err(|problem| about(problem, pattern))
}

fn about(problem: Problem, pattern: &GroupPattern) -> ApiFailure {
    let is_about_it = matches!(problem.kind, Kind::NotFound | Kind::Conflict);
    let failure = ApiFailure::of(problem);
    if is_about_it {
        failure.about("package-group", pattern.as_str())
    } else {
        failure
    }
}

fn contact(call: &Call) -> Result<Option<String>, ApiFailure> {
    match call.word("contactInfo") {
        Some(text) if text.chars().count() > CONTACT_CHARS_MAX => Err(ApiFailure::field(format!(
            "`contactInfo` has at most {CONTACT_CHARS_MAX} characters"
        ))),
        text => Ok(text.map(str::to_owned)),
    }
}

fn entry(word: &str) -> Result<WayIn, ApiFailure> {
    WayIn::parse(word).ok_or_else(|| {
        ApiFailure::field(format!(
            "`{word}` is none of EXTERNAL_UPSTREAM, INTERNAL_UPSTREAM and PUBLISH"
        ))
    })
}

/// The modes that the body sets.
fn modes(call: &Call) -> Result<Vec<(WayIn, Mode)>, ApiFailure> {
    call.pairs("restrictions")?
        .into_iter()
        .map(|(word, mode)| {
            let mode = Mode::parse(mode).ok_or_else(|| {
                ApiFailure::field(format!(
                    "`{mode}` is none of ALLOW, ALLOW_SPECIFIC_REPOSITORIES, BLOCK and INHERIT"
                ))
            })?;
            Ok((entry(word)?, mode))
        })
        .collect()
}

/// Puts modes and lists in force; gives what became of the lists.
fn update(
    group: &mut Group,
    modes: &[(WayIn, Mode)],
    adds: &Lists,
    removes: &Lists,
) -> Result<Value, Problem> {
    for (entry, mode) in modes {
        if *mode == Mode::Inherit && group.is_root() {
            return Err(Problem::invalid(
                "the package group `/*` has none above it to inherit from",
            ));
        }
        let setting = group.settings.of_mut(*entry);
        setting.mode = *mode;
        if *mode != Mode::AllowSpecificRepositories {
            setting.repositories.clear();
        }
    }
    let mut updates = Map::new();
    for entry in WayIn::ALL {
        let word = entry.as_str();
        let setting = group.settings.of_mut(entry);
        let (added, removed) = (adds.get(word), removes.get(word));
        if added.or(removed).is_none() {
            continue;
        }
        if setting.mode != Mode::AllowSpecificRepositories {
            return Err(Problem::invalid(format!(
                "{word} names no repositories: its mode is {}, not ALLOW_SPECIFIC_REPOSITORIES",
                setting.mode.as_str()
            )));
        }
        let removed: Vec<&String> = removed
            .into_iter()
            .flatten()
            .filter(|name| setting.repositories.remove(*name))
            .collect();
        let added: Vec<&String> = added
            .into_iter()
            .flatten()
            .filter(|name| setting.repositories.insert((*name).clone()))
            .collect();
        let update = object([("ADDED", json!(added)), ("REMOVED", json!(removed))]);
        updates.insert(word.to_owned(), update);
    }
    Ok(updates.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_has_no_more_characters_than_may_be() {
        let read = |chars: usize| {
            let body = serde_json::json!({ "contactInfo": "é".repeat(chars) }).to_string();
            Call::read(None, body.as_bytes()).and_then(|call| contact(&call))
        };
        let kept = read(CONTACT_CHARS_MAX).unwrap().unwrap();
        assert_eq!(kept.chars().count(), CONTACT_CHARS_MAX);
        let failure = format!("{:?}", read(CONTACT_CHARS_MAX + 1).unwrap_err());
        assert!(failure.contains("at most 1000 characters"), "{failure}");
    }
}
