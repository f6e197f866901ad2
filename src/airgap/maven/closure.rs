//! The walk over all that a build reads.
//! Source: Maven's introduction to the dependency mechanism; the poms of all versions that are met
//! are read, and of the artifacts those that are nearest.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use super::model::{Model, gav_of, key, manage};
use super::{Binding, Gav, KnownPoms, Lacking};
use crate::airgap::want::{Want, WantedFile};
use crate::format::Versions as _;
use crate::format::maven::Maven;
use crate::format::maven::pom::{Coordinates, Plugin, Pom};
use crate::format::maven::version::MavenRange;

/// Surefire chooses one of these by what a project tests with, while it runs.
const SUREFIRE_PROVIDERS: &[&str] = &[
    "surefire-junit3",
    "surefire-junit4",
    "surefire-junit47",
    "surefire-junit-platform",
    "surefire-testng",
];
const SUREFIRE: &str = "org.apache.maven.surefire";
const JUNIT_PLATFORM: &str = "org.junit.platform";
/// More than any build has; a bound for poms that lead on and on.
const VISITS_MAX: usize = 200_000;

/// A starting point of the walk.
pub enum Root {
    /// A project that is built.
    Project(Arc<Pom>),
    /// An artifact that something will ask for.
    Artifact(Gav),
}

/// The artifacts that are needed, and the POMs that are missing to know more.
#[derive(Default)]
pub struct Closure {
    pub lacking: Lacking,
    /// By version, its files; whether they may be absent.
    files: BTreeMap<Gav, BTreeMap<String, bool>>,
    visits: usize,
    visits_max: usize,
}

/// Where the walk stands.
struct Step {
    of: Coordinates,
    exclusions: Arc<BTreeSet<(String, String)>>,
    depth: usize,
    /// Nothing is missed where it is not there.
    is_optional: bool,
}

impl Closure {
    /// Walks as far as what is in hand leads.
    #[must_use]
    pub fn of(roots: &[Root], bindings: &[Binding], known: &KnownPoms) -> Self {
        Self::within(VISITS_MAX, roots, bindings, known)
    }

    fn within(visits_max: usize, roots: &[Root], bindings: &[Binding], known: &KnownPoms) -> Self {
        let mut closure = Self {
            visits_max,
            ..Self::default()
        };
        let projects: HashSet<Gav> = roots
            .iter()
            .filter_map(|root| match root {
                Root::Project(pom) => Some(gav_of(pom)),
                Root::Artifact(_) => None,
            })
            .collect();
        for root in roots {
            match root {
                Root::Project(pom) => closure.project(pom, &projects, bindings, known),
                Root::Artifact(gav) => {
                    closure.walk(vec![step(gav, "", false)], &[], &projects, known);
                }
            }
        }
        closure
    }

    /// Whether the walk came to its end, and not to its bound.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.visits <= self.visits_max
    }

    /// The artifacts that the walk found, each version with its files.
    #[must_use]
    pub fn wants(self) -> Vec<Want> {
        let wants = self.files.into_iter();
        wants
            .filter_map(|(gav, files)| {
                // A text that is no coordinate has no pom either, and is reported for that.
                let package = gav.package().ok()?;
                let mut want = Want::new(package, &gav.version);
                for (file, is_optional) in files {
                    want.files.push(WantedFile {
                        name: file,
                        digest: String::new(),
                        is_optional,
                    });
                }
                Some(want)
            })
            .collect()
    }

    fn project(
        &mut self,
        pom: &Arc<Pom>,
        projects: &HashSet<Gav>,
        bindings: &[Binding],
        known: &KnownPoms,
    ) {
        let Some(model) = Model::of(pom, known, &mut self.lacking) else {
            return;
        };
        self.parents(&model, projects, false);
        let roots = model.dependencies.iter().filter(|it| it.scope != "system");
        let roots = roots.map(|it| Step {
            of: it.clone(),
            exclusions: Arc::new(it.exclusions.iter().cloned().collect()),
            depth: 0,
            is_optional: false,
        });
        self.walk(roots.collect(), &model.managed, projects, known);
        for extension in &model.extensions {
            let gav = Gav {
                group: extension.group.clone(),
                artifact: extension.artifact.clone(),
                version: extension.version.clone(),
            };
            self.walk(vec![step(&gav, "", false)], &[], projects, known);
        }
        self.plugins(&model, projects, bindings, known);
    }

    /// The plugins that the project names, and those that Maven runs for its packaging.
    fn plugins(
        &mut self,
        model: &Model,
        projects: &HashSet<Gav>,
        bindings: &[Binding],
        known: &KnownPoms,
    ) {
        let packaging = match model.packaging.as_str() {
            "" => "jar",
            packaging => packaging,
        };
        let mut plugins = model.plugins.clone();
        for binding in bindings {
            if !binding.packaging.is_empty() && binding.packaging != packaging {
                continue;
            }
            let mut parts = binding.plugin.split(':');
            let (Some(group), Some(artifact), version) =
                (parts.next(), parts.next(), parts.next().unwrap_or_default())
            else {
                continue;
            };
            let is_same = |it: &Plugin| it.group() == group && it.of.artifact == artifact;
            let managed = model.managed_plugins.iter().find(|it| is_same(it));
            let managed = managed.map(|it| it.of.version.as_str()).unwrap_or_default();
            let version = if managed.is_empty() { version } else { managed };
            match plugins.iter_mut().find(|it| is_same(it)) {
                Some(named) if named.of.version.is_empty() => {
                    version.clone_into(&mut named.of.version)
                }
                Some(_) => {}
                None => plugins.push(Plugin {
                    of: Coordinates {
                        group: group.to_owned(),
                        artifact: artifact.to_owned(),
                        version: version.to_owned(),
                        ..Coordinates::default()
                    },
                    dependencies: Vec::new(),
                }),
            }
        }
        for mut plugin in plugins {
            let managed = model.managed_plugins.iter();
            let mut managed = managed
                .filter(|it| it.group() == plugin.group() && it.of.artifact == plugin.of.artifact);
            if let Some(managed) = managed.next() {
                if plugin.of.version.is_empty() {
                    plugin.of.version.clone_from(&managed.of.version);
                }
                plugin
                    .dependencies
                    .extend(managed.dependencies.iter().cloned());
            }
            self.plugin(&plugin, projects, known);
        }
    }

    fn plugin(&mut self, plugin: &Plugin, projects: &HashSet<Gav>, known: &KnownPoms) {
        let (group, artifact) = (plugin.group().to_owned(), plugin.of.artifact.clone());
        let Some(version) = self.version(&group, &artifact, &plugin.of.version, known) else {
            return;
        };
        let gav = Gav {
            group,
            artifact,
            version,
        };
        // Dependencies that the project gives to the plugin go before the plugin's own.
        let mut roots: Vec<Step> = vec![step(&gav, "", false)];
        let named = plugin.dependencies.iter();
        roots.extend(named.map(|it| Step {
            of: it.clone(),
            exclusions: Arc::new(it.exclusions.iter().cloned().collect()),
            depth: 0,
            is_optional: false,
        }));
        let runs_tests = matches!(
            gav.artifact.as_str(),
            "maven-surefire-plugin" | "maven-failsafe-plugin"
        );
        self.walk(roots, &plugin.dependencies, projects, known);
        if runs_tests {
            for provider in SUREFIRE_PROVIDERS {
                let provider = Gav {
                    group: SUREFIRE.to_owned(),
                    artifact: (*provider).to_owned(),
                    version: gav.version.clone(),
                };
                self.walk(vec![step(&provider, "", true)], &[], projects, known);
            }
            // JUnit 5 is started by a launcher of the engine's own version.
            let engines: Vec<Gav> = self
                .files
                .keys()
                .filter(|it| it.group == JUNIT_PLATFORM && it.artifact == "junit-platform-engine")
                .cloned()
                .collect();
            for engine in engines {
                let launcher = Gav {
                    artifact: "junit-platform-launcher".to_owned(),
                    ..engine
                };
                self.walk(vec![step(&launcher, "", true)], &[], projects, known);
            }
        }
    }

    /// Breadth first, so that the nearest version of an artifact is the one whose file is taken.
    fn walk(
        &mut self,
        roots: Vec<Step>,
        managed: &[Coordinates],
        projects: &HashSet<Gav>,
        known: &KnownPoms,
    ) {
        let mut waiting: VecDeque<Step> = roots.into();
        let mut visited = HashSet::new();
        let mut nearest = HashSet::new();
        while let Some(mut at) = waiting.pop_front() {
            self.visits += 1;
            if self.visits > self.visits_max {
                return;
            }
            manage(&mut at.of, managed, at.depth > 0);
            let Some(version) = self.version(&at.of.group, &at.of.artifact, &at.of.version, known)
            else {
                continue;
            };
            let gav = Gav {
                group: at.of.group.clone(),
                artifact: at.of.artifact.clone(),
                version,
            };
            if !visited.insert((gav.clone(), key(&at.of), Arc::clone(&at.exclusions))) {
                continue;
            }
            if projects.contains(&gav) {
                continue;
            }
            let pom = match known.poms.get(&gav) {
                None => {
                    self.lacking.poms.insert(gav);
                    continue;
                }
                Some(None) => {
                    // Asked for once more, so that it is told as missing.
                    self.need(&gav, "pom", "", at.is_optional);
                    continue;
                }
                Some(Some(pom)) => Arc::clone(pom),
            };
            self.need(&gav, "pom", "", at.is_optional);
            let Some(model) = Model::of(&pom, known, &mut self.lacking) else {
                continue;
            };
            self.parents(&model, projects, at.is_optional);
            if let Some(to) = model.relocation {
                waiting.push_back(Step {
                    of: Coordinates {
                        kind: at.of.kind.clone(),
                        classifier: at.of.classifier.clone(),
                        ..to
                    },
                    ..at
                });
                continue;
            }
            // A relocated artifact counts as near by its new name alone.
            if nearest.insert(key(&at.of)) && at.of.kind != "pom" {
                let (ending, classifier) = file_of(&at.of.kind, &at.of.classifier);
                // An artifact that is a pom and nothing else is often named as if it were a jar.
                let may_lack = model.packaging == "pom" && at.of.kind.is_empty();
                self.need(&gav, &ending, &classifier, at.is_optional || may_lack);
            }
            for one in model.dependencies {
                let is_needed = !one.optional
                    && matches!(one.scope.as_str(), "" | "compile" | "runtime")
                    && !is_excluded(&at.exclusions, &one);
                if !is_needed {
                    continue;
                }
                let mut exclusions = at.exclusions.as_ref().clone();
                exclusions.extend(one.exclusions.iter().cloned());
                let exclusions = if one.exclusions.is_empty() {
                    Arc::clone(&at.exclusions)
                } else {
                    Arc::new(exclusions)
                };
                waiting.push_back(Step {
                    of: one,
                    exclusions,
                    depth: at.depth + 1,
                    is_optional: at.is_optional,
                });
            }
        }
    }

    fn parents(&mut self, model: &Model, projects: &HashSet<Gav>, is_optional: bool) {
        for parent in &model.parents {
            if !projects.contains(parent) {
                self.need(parent, "pom", "", is_optional);
            }
        }
    }

    fn need(&mut self, gav: &Gav, ending: &str, classifier: &str, is_optional: bool) {
        let Gav {
            artifact, version, ..
        } = gav;
        let dash = if classifier.is_empty() { "" } else { "-" };
        let file = format!("{version}/{artifact}-{version}{dash}{classifier}.{ending}");
        let files = self.files.entry(gav.clone()).or_default();
        let held = files.entry(file).or_insert(is_optional);
        *held = *held && is_optional;
    }

    /// The version that is meant: of a range, and where none is said, the newest that there is.
    fn version(
        &mut self,
        group: &str,
        artifact: &str,
        written: &str,
        known: &KnownPoms,
    ) -> Option<String> {
        if written.contains("${") || group.contains("${") || artifact.contains("${") {
            return None;
        }
        let range = if written.starts_with(['[', '(']) {
            Some(MavenRange::parse(written).ok()?)
        } else {
            None
        };
        if let Some(exact) = range.as_ref().and_then(MavenRange::exact) {
            return Some(exact.to_owned());
        }
        if range.is_none() && !matches!(written, "" | "LATEST" | "RELEASE") {
            return Some(written.to_owned());
        }
        let of = (group.to_owned(), artifact.to_owned());
        let Some(versions) = known.versions.get(&of) else {
            self.lacking.versions.insert(of);
            return None;
        };
        let fitting = versions.iter().filter(|version| match &range {
            None => !version.ends_with("-SNAPSHOT"),
            Some(range) => range.contains(version) == Some(true),
        });
        fitting.max_by(|a, b| Maven.compare(a, b)).cloned()
    }
}

fn step(gav: &Gav, kind: &str, is_optional: bool) -> Step {
    Step {
        of: Coordinates {
            group: gav.group.clone(),
            artifact: gav.artifact.clone(),
            version: gav.version.clone(),
            kind: kind.to_owned(),
            ..Coordinates::default()
        },
        exclusions: Arc::default(),
        depth: 0,
        is_optional,
    }
}

fn is_excluded(exclusions: &BTreeSet<(String, String)>, one: &Coordinates) -> bool {
    let fits = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    exclusions
        .iter()
        .any(|(group, artifact)| fits(group, &one.group) && fits(artifact, &one.artifact))
}

/// The ending and the classifier of a dependency's file, by its type.
/// Source: Maven's default artifact handlers.
fn file_of(kind: &str, classifier: &str) -> (String, String) {
    let or = |default: &str| {
        if classifier.is_empty() {
            default.to_owned()
        } else {
            classifier.to_owned()
        }
    };
    match kind {
        "" | "jar" | "maven-plugin" | "ejb" | "bundle" | "eclipse-plugin" | "hk2-jar" => {
            ("jar".to_owned(), classifier.to_owned())
        }
        "test-jar" => ("jar".to_owned(), or("tests")),
        "ejb-client" => ("jar".to_owned(), or("client")),
        "java-source" => ("jar".to_owned(), or("sources")),
        "javadoc" => ("jar".to_owned(), or("javadoc")),
        other => (other.to_owned(), classifier.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pom(text: &str) -> Arc<Pom> {
        Arc::new(Pom::read(text.as_bytes()).unwrap())
    }

    fn gav(text: &str) -> Gav {
        let mut parts = text.split(':').map(str::to_owned);
        Gav {
            group: parts.next().unwrap(),
            artifact: parts.next().unwrap(),
            version: parts.next().unwrap(),
        }
    }

    fn dependency(gav: &str, more: &str) -> String {
        let mut parts = gav.split(':');
        let (group, artifact) = (parts.next().unwrap(), parts.next().unwrap());
        let version = parts
            .next()
            .map_or_else(String::new, |it| format!("<version>{it}</version>"));
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>{version}{more}</dependency>"
        )
    }

    fn library(of: &str, dependencies: &[String], more: &str) -> (Gav, Option<Arc<Pom>>) {
        let gav = gav(of);
        let text = format!(
            "<project><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>\
             <dependencies>{}</dependencies>{more}</project>",
            gav.group,
            gav.artifact,
            gav.version,
            dependencies.concat(),
        );
        (gav, Some(pom(&text)))
    }

    /// Walks until nothing is lacking, as one who fetches would.
    fn files(
        project: &str,
        upstream: &[(Gav, Option<Arc<Pom>>)],
        bindings: &[Binding],
    ) -> Vec<String> {
        let mut known = KnownPoms::default();
        let roots = [Root::Project(pom(project))];
        for _ in 0..50 {
            let closure = Closure::of(&roots, bindings, &known);
            if closure.lacking.is_empty() {
                let wants = closure.wants();
                return wants
                    .iter()
                    .flat_map(|want| &want.files)
                    .map(|file| crate::format::path::last_segment(&file.name).to_owned())
                    .collect();
            }
            for lacking in closure.lacking.poms {
                let found = upstream.iter().find(|(gav, _)| *gav == lacking);
                known
                    .poms
                    .insert(lacking, found.and_then(|(_, pom)| pom.clone()));
            }
            for (group, artifact) in closure.lacking.versions {
                let versions = upstream
                    .iter()
                    .filter(|(gav, _)| gav.group == group && gav.artifact == artifact)
                    .map(|(gav, _)| gav.version.clone())
                    .collect();
                known.versions.insert((group, artifact), versions);
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn the_nearest_version_is_taken_and_the_poms_of_all_are_read() {
        let upstream = [
            library(
                "g:a:1",
                &[dependency("g:c:1", ""), dependency("g:b:1", "")],
                "",
            ),
            library("g:b:1", &[dependency("g:c:2", "")], ""),
            library("g:c:1", &[], ""),
            library("g:c:2", &[dependency("g:d:1", "")], ""),
            library("g:d:1", &[], ""),
        ];
        let project = format!(
            "<project><groupId>p</groupId><artifactId>p</artifactId><version>1</version><dependencies>{}</dependencies></project>",
            dependency("g:a:1", "")
        );
        assert_eq!(
            files(&project, &upstream, &[]),
            [
                "a-1.jar", "a-1.pom", "b-1.jar", "b-1.pom", "c-1.jar", "c-1.pom", "c-2.pom",
                "d-1.jar", "d-1.pom"
            ]
        );
    }

    #[test]
    fn parents_boms_scopes_exclusions_and_relocations_count() {
        let upstream = [
            library(
                "g:parent:7",
                &[],
                "<properties><v>2</v></properties><dependencyManagement><dependencies><dependency><groupId>g</groupId><artifactId>bom</artifactId><version>1</version><type>pom</type><scope>import</scope></dependency></dependencies></dependencyManagement>",
            ),
            library(
                "g:bom:1",
                &[],
                "<dependencyManagement><dependencies><dependency><groupId>g</groupId><artifactId>managed</artifactId><version>5</version></dependency></dependencies></dependencyManagement>",
            ),
            library(
                "g:managed:5",
                &[
                    dependency("g:no:1", ""),
                    dependency("g:opt:1", "<optional>true</optional>"),
                    dependency("g:test:1", "<scope>test</scope>"),
                    dependency("g:old:1", ""),
                ],
                "",
            ),
            library(
                "g:old:1",
                &[],
                "<distributionManagement><relocation><artifactId>new</artifactId></relocation></distributionManagement>",
            ),
            library("g:new:1", &[], ""),
            library(
                "g:stub:1",
                &[],
                "<distributionManagement><relocation><version>2</version></relocation></distributionManagement>",
            ),
            library("g:stub:2", &[], ""),
            library("g:tested:2", &[], ""),
            library("g:ranged:1.5", &[], ""),
            library("g:ranged:2.0", &[], ""),
        ];
        let project = format!(
            "<project><parent><groupId>g</groupId><artifactId>parent</artifactId><version>7</version></parent><artifactId>p</artifactId><dependencies>{}{}{}</dependencies></project>",
            dependency(
                "g:managed",
                "<exclusions><exclusion><groupId>g</groupId><artifactId>no</artifactId></exclusion></exclusions>"
            ),
            dependency("g:tested:${v}", "<scope>test</scope><type>test-jar</type>"),
            dependency("g:ranged:[1,2)", "") + &dependency("g:stub:1", ""),
        );
        assert_eq!(
            files(&project, &upstream, &[]),
            [
                "bom-1.pom",
                "managed-5.jar",
                "managed-5.pom",
                "new-1.jar",
                "new-1.pom",
                "old-1.pom",
                "parent-7.pom",
                "ranged-1.5.jar",
                "ranged-1.5.pom",
                "stub-1.pom",
                "stub-2.jar",
                "stub-2.pom",
                "tested-2-tests.jar",
                "tested-2.pom"
            ]
        );
    }

    #[test]
    fn plugins_come_with_what_they_need_also_those_that_nobody_names() {
        let upstream = [
            library(
                "org.apache.maven.plugins:maven-jar-plugin:3",
                &[dependency("g:x:1", "")],
                "",
            ),
            library("org.apache.maven.plugins:maven-clean-plugin:2", &[], ""),
            library("g:own-plugin:4", &[dependency("g:x:1", "")], ""),
            library("g:x:1", &[], ""),
            library("g:x:2", &[], ""),
        ];
        let project = format!(
            "<project><groupId>p</groupId><artifactId>p</artifactId><version>1</version><build><pluginManagement><plugins><plugin><artifactId>maven-clean-plugin</artifactId><version>2</version></plugin></plugins></pluginManagement><plugins><plugin><groupId>g</groupId><artifactId>own-plugin</artifactId><version>4</version><dependencies>{}</dependencies></plugin></plugins></build></project>",
            dependency("g:x:2", ""),
        );
        let binding = |packaging: &str, plugin: &str| Binding {
            packaging: packaging.to_owned(),
            plugin: plugin.to_owned(),
        };
        let bindings = [
            binding("jar", "org.apache.maven.plugins:maven-jar-plugin:3"),
            binding("war", "org.apache.maven.plugins:maven-war-plugin:3"),
            binding("", "org.apache.maven.plugins:maven-clean-plugin:1"),
        ];
        assert_eq!(
            files(&project, &upstream, &bindings),
            [
                "own-plugin-4.jar",
                "own-plugin-4.pom",
                "x-1.jar",
                "x-1.pom",
                "x-2.jar",
                "x-2.pom",
                "maven-clean-plugin-2.jar",
                "maven-clean-plugin-2.pom",
                "maven-jar-plugin-3.jar",
                "maven-jar-plugin-3.pom"
            ]
        );
    }

    #[test]
    fn circles_end() {
        let upstream = [
            library("g:a:1", &[dependency("g:b:1", "")], ""),
            library("g:b:1", &[dependency("g:a:1", "")], ""),
        ];
        let project = format!(
            "<project><groupId>p</groupId><artifactId>p</artifactId><version>1</version><dependencies>{}</dependencies></project>",
            dependency("g:a:1", "")
        );
        assert_eq!(files(&project, &upstream, &[]).len(), 4);
    }

    #[test]
    fn a_walk_without_end_is_not_taken_for_whole() {
        let known = KnownPoms {
            poms: [
                library("g:a:1", &[dependency("g:b:1", "")], ""),
                library("g:b:1", &[], ""),
            ]
            .into(),
            ..KnownPoms::default()
        };
        let within = |visits_max: usize| {
            let closure = Closure::within(visits_max, &[Root::Artifact(gav("g:a:1"))], &[], &known);
            (closure.is_whole(), closure.wants().len())
        };
        assert_eq!(within(2), (true, 2));
        assert_eq!(within(1), (false, 1));
    }
}
