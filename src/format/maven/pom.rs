//! Reads a POM as it is written, without filling in parents and properties.
//! Source: Maven's POM reference.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::{FormatError, plain, text, xml};

const DEPTH_MAX: usize = 64;

/// The group of plugins that name none.
const PLUGINS: &str = "org.apache.maven.plugins";

/// Names an artifact, and says what it is needed for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coordinates {
    pub group: String,
    pub artifact: String,
    pub version: String,
    pub scope: String,
    /// `jar` where it is empty.
    pub kind: String,
    pub classifier: String,
    pub optional: bool,
    /// Groups and artifacts; `*` is any.
    pub exclusions: Vec<(String, String)>,
}

/// A plugin, with what is put on its class path beside its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugin {
    pub of: Coordinates,
    pub dependencies: Vec<Coordinates>,
}

/// A pom.
#[derive(Clone, Debug, Default)]
pub struct Pom {
    pub own: Coordinates,
    /// Empty: `jar`.
    pub packaging: String,
    pub parent: Option<Coordinates>,
    pub properties: HashMap<String, String>,
    pub managed: Vec<Coordinates>,
    pub dependencies: Vec<Coordinates>,
    pub plugins: Vec<Plugin>,
    pub managed_plugins: Vec<Plugin>,
    pub extensions: Vec<Coordinates>,
    pub modules: Vec<String>,
    /// Under which name it lives on.
    pub relocation: Option<Coordinates>,
}

impl Pom {
    /// # Errors
    /// Where it is no XML, or nested too deep.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = text::xml(bytes)?;
        let mut reader = Reader::from_str(&text);
        let mut pom = Self::default();
        let (mut path, mut content) = (Vec::<String>::new(), String::new());
        loop {
            let event = reader
                .read_event()
                .map_err(|_| FormatError::Xml(plain::XML.to_owned()))?;
            match event {
                Event::Start(tag) => {
                    if path.len() >= DEPTH_MAX {
                        return Err(FormatError::Xml("it is nested too deep".to_owned()));
                    }
                    let name = tag.name();
                    path.push(name.as_ref().to_owned());
                    content.clear();
                    pom.begin(&path.join("/"));
                }
                Event::Text(text) => content.push_str(text.as_ref()),
                Event::CData(text) => content.push_str(text.as_ref()),
                // An entity that the pom itself declares is not followed.
                Event::GeneralRef(reference) => _ = xml::resolve(&reference, &mut content),
                Event::End(_) => {
                    pom.take(&path.join("/"), content.trim());
                    path.pop();
                    content.clear();
                }
                Event::Eof => return Ok(pom),
                _ => {}
            }
        }
    }

    fn begin(&mut self, path: &str) {
        const DEPENDENCY: &str = "/dependencies/dependency";
        const EXCLUSION: &str = "/exclusions/exclusion";
        if let Some(owner) = path.strip_suffix(EXCLUSION) {
            if let Some(owner) = self.dependency(owner) {
                owner.exclusions.push(Default::default());
            }
            return;
        }
        match path {
            "project/parent" => self.parent = Some(Coordinates::default()),
            "project/distributionManagement/relocation" => {
                self.relocation = Some(Coordinates::default());
            }
            "project/dependencies/dependency" => self.dependencies.push(Coordinates::default()),
            "project/dependencyManagement/dependencies/dependency" => {
                self.managed.push(Coordinates::default());
            }
            "project/build/plugins/plugin" => self.plugins.push(Plugin::default()),
            "project/build/pluginManagement/plugins/plugin" => {
                self.managed_plugins.push(Plugin::default());
            }
            "project/build/extensions/extension" => self.extensions.push(Coordinates::default()),
            _ => {
                if let Some(owner) = path.strip_suffix(DEPENDENCY)
                    && let Some(plugin) = self.plugin(owner)
                {
                    plugin.dependencies.push(Coordinates::default());
                }
            }
        }
    }

    /// The plugin that is being read below this path.
    fn plugin(&mut self, path: &str) -> Option<&mut Plugin> {
        match path {
            "project/build/plugins/plugin" => self.plugins.last_mut(),
            "project/build/pluginManagement/plugins/plugin" => self.managed_plugins.last_mut(),
            _ => None,
        }
    }

    /// The dependency that is being read below this path.
    fn dependency(&mut self, path: &str) -> Option<&mut Coordinates> {
        match path {
            "project/dependencies/dependency" => self.dependencies.last_mut(),
            "project/dependencyManagement/dependencies/dependency" => self.managed.last_mut(),
            _ => {
                let owner = path.strip_suffix("/dependencies/dependency")?;
                self.plugin(owner)?.dependencies.last_mut()
            }
        }
    }

    fn take(&mut self, path: &str, text: &str) {
        if let Some(name) = path.strip_prefix("project/properties/") {
            self.properties.insert(name.to_owned(), text.to_owned());
            return;
        }
        let Some((owner, field)) = path.rsplit_once('/') else {
            return;
        };
        if let Some(owner) = owner.strip_suffix("/exclusions/exclusion") {
            let exclusion = self
                .dependency(owner)
                .and_then(|it| it.exclusions.last_mut());
            match (exclusion, field) {
                (Some((group, _)), "groupId") => *group = text.to_owned(),
                (Some((_, artifact)), "artifactId") => *artifact = text.to_owned(),
                _ => {}
            }
            return;
        }
        match path {
            "project/packaging" => self.packaging = text.to_owned(),
            "project/modules/module" => self.modules.push(text.to_owned()),
            _ => {}
        }
        let of = match owner {
            "project" => Some(&mut self.own),
            "project/parent" => self.parent.as_mut(),
            "project/distributionManagement/relocation" => self.relocation.as_mut(),
            "project/build/extensions/extension" => self.extensions.last_mut(),
            "project/build/plugins/plugin" | "project/build/pluginManagement/plugins/plugin" => {
                self.plugin(owner).map(|plugin| &mut plugin.of)
            }
            _ => self.dependency(owner),
        };
        let Some(of) = of else { return };
        match field {
            "groupId" => of.group = text.to_owned(),
            "artifactId" => of.artifact = text.to_owned(),
            "version" => of.version = text.to_owned(),
            "scope" => of.scope = text.to_owned(),
            "type" => of.kind = text.to_owned(),
            "classifier" => of.classifier = text.to_owned(),
            "optional" => of.optional = text == "true",
            _ => {}
        }
    }

    /// The text with its properties filled in; none where a parent alone can say what they are.
    #[must_use]
    pub fn filled(&self, text: &str) -> Option<String> {
        let mut text = text.to_owned();
        // A property may name another; in a circle they end here.
        for _ in 0..8 {
            let Some(start) = text.find("${") else {
                return Some(text);
            };
            let end = start + text.get(start..)?.find('}')?;
            let value = self.property(text.get(start + 2..end)?)?.to_owned();
            text.replace_range(start..=end, &value);
        }
        None
    }

    fn property(&self, name: &str) -> Option<&str> {
        let parent = self.parent.as_ref();
        let inherited = |own: &'_ str, of: fn(&Coordinates) -> &str| {
            if own.is_empty() { parent.map(of) } else { None }
        };
        match name {
            "project.version" | "pom.version" | "version" => {
                inherited(&self.own.version, |one| &one.version).or(Some(&self.own.version))
            }
            "project.groupId" | "pom.groupId" | "groupId" => {
                inherited(&self.own.group, |one| &one.group).or(Some(&self.own.group))
            }
            "project.artifactId" | "pom.artifactId" | "artifactId" => Some(&self.own.artifact),
            "project.parent.version" => parent.map(|one| &*one.version),
            "project.parent.groupId" => parent.map(|one| &*one.group),
            _ => self.properties.get(name).map(String::as_str),
        }
    }
}

impl Plugin {
    /// The group that it is of, named or not.
    #[must_use]
    pub fn group(&self) -> &str {
        if self.of.group.is_empty() {
            PLUGINS
        } else {
            &self.of.group
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pom_is_nested_no_deeper_than_may_be() {
        let nested = |depth: usize| {
            let text = format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
            Pom::read(text.as_bytes())
        };
        assert!(nested(DEPTH_MAX).is_ok());
        assert!(nested(DEPTH_MAX + 1).is_err());
    }
}
