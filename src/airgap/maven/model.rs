//! A pom with all that it inherits.
//! Source: Maven's model builder reference, "Inheritance Assembly" and "Dependency Management Import".

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Gav, KnownPoms, Lacking};
use crate::format::maven::pom::{Coordinates, Plugin, Pom};

/// Longer lines of parents, and BOMs within BOMs, are none.
const DEPTH_MAX: usize = 32;

/// A POM with its parents' and BOMs' values applied.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub gav: Option<Gav>,
    pub packaging: String,
    pub dependencies: Vec<Coordinates>,
    pub managed: Vec<Coordinates>,
    pub plugins: Vec<Plugin>,
    pub managed_plugins: Vec<Plugin>,
    pub extensions: Vec<Coordinates>,
    pub relocation: Option<Coordinates>,
    /// Poms that it was put together from, itself first.
    pub parents: Vec<Gav>,
}

/// The key by which two mentions of one artifact are the same dependency.
pub fn key(of: &Coordinates) -> (String, String, String, String) {
    let kind = if of.kind.is_empty() { "jar" } else { &of.kind };
    (
        of.group.clone(),
        of.artifact.clone(),
        kind.to_owned(),
        of.classifier.clone(),
    )
}

impl Model {
    /// The pom's meaning; `None` where a parent or a BOM is not in hand.
    pub fn of(pom: &Arc<Pom>, known: &KnownPoms, lacking: &mut Lacking) -> Option<Self> {
        Self::at(pom, known, lacking, 0, &mut HashSet::new())
    }

    fn at(
        pom: &Arc<Pom>,
        known: &KnownPoms,
        lacking: &mut Lacking,
        depth: usize,
        imported: &mut HashSet<Gav>,
    ) -> Option<Self> {
        let line = line(pom, known, lacking)?;
        let scope = Scope::of(&line);
        let mut model = Self {
            packaging: scope.filled(&pom.packaging),
            relocation: pom.relocation.as_ref().map(|it| scope.coordinates(it)),
            ..Self::default()
        };
        let own = scope.own();
        model.relocation = model.relocation.map(|to| Coordinates {
            group: or(to.group, &own.group),
            artifact: or(to.artifact, &own.artifact),
            version: or(to.version, &own.version),
            ..to
        });
        for pom in line.iter().skip(1) {
            model.parents.push(gav_of(pom));
        }
        model.gav = Some(own);
        let mut is_whole = true;
        let mut imports = Vec::new();
        for pom in &line {
            for one in &pom.dependencies {
                add(&mut model.dependencies, scope.coordinates(one));
            }
            for one in &pom.managed {
                let one = scope.coordinates(one);
                if one.scope == "import" && one.kind == "pom" {
                    imports.push(one);
                } else {
                    add(&mut model.managed, one);
                }
            }
            for plugin in &pom.plugins {
                add_plugin(&mut model.plugins, scope.plugin(plugin));
            }
            for plugin in &pom.managed_plugins {
                add_plugin(&mut model.managed_plugins, scope.plugin(plugin));
            }
            let extensions = pom.extensions.iter();
            model
                .extensions
                .extend(extensions.map(|it| scope.coordinates(it)));
        }
        // Values of the POM and its parents win over imported ones.
        for import in imports {
            let gav = Gav {
                group: import.group,
                artifact: import.artifact,
                version: import.version,
            };
            model.parents.push(gav.clone());
            match known.poms.get(&gav) {
                None => {
                    lacking.poms.insert(gav);
                    is_whole = false;
                }
                Some(None) => {}
                Some(Some(_)) if depth >= DEPTH_MAX => {}
                // Its values are here already, from its first import.
                Some(Some(_)) if !imported.insert(gav.clone()) => {}
                Some(Some(bom)) => match Self::at(bom, known, lacking, depth + 1, imported) {
                    None => is_whole = false,
                    Some(bom) => {
                        model.parents.extend(bom.parents);
                        for one in bom.managed {
                            add(&mut model.managed, one);
                        }
                    }
                },
            }
        }
        if !is_whole {
            return None;
        }
        for one in &mut model.dependencies {
            manage(one, &model.managed, false);
        }
        Some(model)
    }
}

fn or(own: String, other: &str) -> String {
    if own.is_empty() {
        other.to_owned()
    } else {
        own
    }
}

/// Fills in what the management says of an artifact; where it `wins`, also over what is written.
pub fn manage(one: &mut Coordinates, managed: &[Coordinates], wins: bool) {
    let key_of = key(one);
    let Some(managed) = managed.iter().find(|it| key(it) == key_of) else {
        return;
    };
    if (one.version.is_empty() || wins) && !managed.version.is_empty() {
        one.version.clone_from(&managed.version);
    }
    if (one.scope.is_empty() || wins) && !managed.scope.is_empty() {
        one.scope.clone_from(&managed.scope);
    }
    one.exclusions.extend(managed.exclusions.iter().cloned());
}

/// The first mention stands.
fn add(all: &mut Vec<Coordinates>, one: Coordinates) {
    let key_of = key(&one);
    if !all.iter().any(|it| key(it) == key_of) {
        all.push(one);
    }
}

/// The first mention stands; what it leaves open, the next one says.
fn add_plugin(all: &mut Vec<Plugin>, one: Plugin) {
    let held = all
        .iter_mut()
        .find(|it| it.group() == one.group() && it.of.artifact == one.of.artifact);
    match held {
        None => all.push(one),
        Some(held) => {
            if held.of.version.is_empty() {
                held.of.version = one.of.version;
            }
            for dependency in one.dependencies {
                add(&mut held.dependencies, dependency);
            }
        }
    }
}

/// The pom, its parent, that one's parent.
fn line(pom: &Arc<Pom>, known: &KnownPoms, lacking: &mut Lacking) -> Option<Vec<Arc<Pom>>> {
    let mut line = vec![Arc::clone(pom)];
    while let Some(parent) = line.last().and_then(|pom| pom.parent.clone()) {
        if line.len() > DEPTH_MAX {
            break;
        }
        let gav = Gav {
            group: parent.group,
            artifact: parent.artifact,
            version: parent.version,
        };
        match known.poms.get(&gav) {
            None => {
                lacking.poms.insert(gav);
                return None;
            }
            Some(None) => break,
            Some(Some(pom)) => line.push(Arc::clone(pom)),
        }
    }
    Some(line)
}

pub fn gav_of(pom: &Pom) -> Gav {
    let parent = pom.parent.as_ref();
    let inherited = |own: &str, of: fn(&Coordinates) -> &String| {
        if own.is_empty() {
            parent.map(of).cloned().unwrap_or_default()
        } else {
            own.to_owned()
        }
    };
    Gav {
        group: inherited(&pom.own.group, |it| &it.group),
        artifact: pom.own.artifact.clone(),
        version: inherited(&pom.own.version, |it| &it.version),
    }
}

/// The properties that a pom's words are filled in with.
struct Scope(Pom);

impl Scope {
    fn of(line: &[Arc<Pom>]) -> Self {
        let mut properties = HashMap::new();
        for pom in line.iter().rev() {
            for (name, value) in &pom.properties {
                properties.insert(name.clone(), value.clone());
            }
        }
        let first = line.first().map(|pom| pom.as_ref().clone());
        Self(Pom {
            properties,
            ..first.unwrap_or_default()
        })
    }

    fn own(&self) -> Gav {
        let own = gav_of(&self.0);
        Gav {
            group: self.filled(&own.group),
            artifact: self.filled(&own.artifact),
            version: self.filled(&own.version),
        }
    }

    fn filled(&self, text: &str) -> String {
        self.0.filled(text).unwrap_or_else(|| text.to_owned())
    }

    fn coordinates(&self, of: &Coordinates) -> Coordinates {
        Coordinates {
            group: self.filled(&of.group),
            artifact: self.filled(&of.artifact),
            version: self.filled(&of.version),
            scope: self.filled(&of.scope),
            kind: self.filled(&of.kind),
            classifier: self.filled(&of.classifier),
            optional: of.optional,
            exclusions: of.exclusions.clone(),
        }
    }

    fn plugin(&self, plugin: &Plugin) -> Plugin {
        let dependencies = plugin.dependencies.iter();
        Plugin {
            of: self.coordinates(&plugin.of),
            dependencies: dependencies.map(|it| self.coordinates(it)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Poms in a row; each leads to the next, and the last says which version `g:m` has.
    fn row(length: usize, to_next: impl Fn(&str) -> String) -> (Arc<Pom>, KnownPoms) {
        let mut known = KnownPoms::default();
        let of = |number: usize| {
            format!("<groupId>g</groupId><artifactId>a{number}</artifactId><version>1</version>")
        };
        let managed = "<dependencyManagement><dependencies><dependency><groupId>g</groupId>\
            <artifactId>m</artifactId><version>5</version></dependency></dependencies></dependencyManagement>";
        let poms: Vec<_> = (0..=length)
            .map(|number| {
                let more = if number < length {
                    to_next(&of(number + 1))
                } else {
                    managed.to_owned()
                };
                let text = format!("<project>{}{more}</project>", of(number));
                Arc::new(Pom::read(text.as_bytes()).unwrap())
            })
            .collect();
        for pom in &poms {
            known.add_project(pom);
        }
        (Arc::clone(&poms[0]), known)
    }

    fn import(of: &str) -> String {
        format!("<dependency>{of}<type>pom</type><scope>import</scope></dependency>")
    }

    fn management(inside: &str) -> String {
        format!(
            "<dependencyManagement><dependencies>{inside}</dependencies></dependencyManagement>"
        )
    }

    #[test]
    fn parents_and_boms_are_followed_so_far_and_no_further() {
        let is_managed = |(pom, known): (Arc<Pom>, KnownPoms)| {
            let model = Model::of(&pom, &known, &mut Lacking::default()).unwrap();
            model.managed.iter().any(|it| it.artifact == "m")
        };
        let parent = |of: &str| format!("<parent>{of}</parent>");
        let bom = |of: &str| management(&import(of));
        assert!(is_managed(row(DEPTH_MAX, parent)));
        assert!(!is_managed(row(DEPTH_MAX + 1, parent)));
        assert!(is_managed(row(DEPTH_MAX, bom)));
        assert!(!is_managed(row(DEPTH_MAX + 1, bom)));
    }

    #[test]
    fn a_bom_that_many_import_is_read_once() {
        // Two imports in each of thirty poms: a thousand million ways.
        let twice = |of: &str| {
            let other = of.replace(
                "<version>1</version>",
                "<version>${project.version}</version>",
            );
            management(&(import(of) + &import(&other)))
        };
        let (pom, known) = row(30, twice);
        let model = Model::of(&pom, &known, &mut Lacking::default()).unwrap();
        assert_eq!(model.managed.len(), 1);
    }
}
