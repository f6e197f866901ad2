//! The poms that Maven asks for when it has read one: its parent, the BOMs that it imports, and its
//! dependencies as far as their versions stand in it.
//! Source: Maven's POM reference.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::name;
use crate::format::{FormatError, Lead, LeadInput, Target};
use crate::package::{AssetId, Format, PackageId};

const DEPTH_MAX: usize = 64;

#[derive(Default)]
struct Coordinates {
    group: String,
    artifact: String,
    version: String,
    scope: String,
    kind: String,
    optional: bool,
}

pub fn leads_on(target: &Target) -> bool {
    matches!(target, Target::Asset(asset) if asset.file.ends_with(".pom"))
}

pub fn leads(input: &LeadInput<'_>) -> Result<Vec<Lead>, FormatError> {
    let pom = Pom::read(input.upstream.bytes)?;
    let parent = pom.parent.iter();
    let imports = pom
        .managed
        .iter()
        .filter(|one| one.scope == "import" && one.kind == "pom");
    let needed = pom
        .dependencies
        .iter()
        .filter(|one| !one.optional && matches!(one.scope.as_str(), "" | "compile" | "runtime"));
    Ok(parent
        .chain(imports)
        .chain(needed)
        .filter_map(|one| pom.lead(one))
        .collect())
}

/// What of a pom leads on.
#[derive(Default)]
struct Pom {
    own: Coordinates,
    parent: Option<Coordinates>,
    properties: HashMap<String, String>,
    managed: Vec<Coordinates>,
    dependencies: Vec<Coordinates>,
}

impl Pom {
    fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes)?;
        let mut reader = Reader::from_str(text);
        let mut pom = Self::default();
        let (mut path, mut content) = (Vec::<String>::new(), String::new());
        loop {
            let event = reader
                .read_event()
                .map_err(|error| FormatError::Xml(error.to_string()))?;
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
        match path {
            "project/parent" => self.parent = Some(Coordinates::default()),
            "project/dependencies/dependency" => self.dependencies.push(Coordinates::default()),
            "project/dependencyManagement/dependencies/dependency" => {
                self.managed.push(Coordinates::default());
            }
            _ => {}
        }
    }

    fn take(&mut self, path: &str, text: &str) {
        let below = |folder: &str| path.strip_prefix(folder)?.strip_prefix('/');
        if let Some(property) = below("project/properties") {
            self.properties.insert(property.to_owned(), text.to_owned());
            return;
        }
        let (of, field) = if let Some(field) = below("project/dependencies/dependency") {
            (self.dependencies.last_mut(), field)
        } else if let Some(field) = below("project/dependencyManagement/dependencies/dependency") {
            (self.managed.last_mut(), field)
        } else if let Some(field) = below("project/parent") {
            (self.parent.as_mut(), field)
        } else if let Some(field) = below("project") {
            (Some(&mut self.own), field)
        } else {
            return;
        };
        let Some(of) = of else { return };
        match field {
            "groupId" => of.group = text.to_owned(),
            "artifactId" => of.artifact = text.to_owned(),
            "version" => of.version = text.to_owned(),
            "scope" => of.scope = text.to_owned(),
            "type" => of.kind = text.to_owned(),
            "optional" => of.optional = text == "true",
            _ => {}
        }
    }

    /// The pom of the coordinates; `None` where something in them stands elsewhere.
    fn lead(&self, of: &Coordinates) -> Option<Lead> {
        let version = self.filled(&of.version)?;
        let group = self.filled(&of.group)?;
        let artifact = self.filled(&of.artifact)?;
        let is_exact = !version.is_empty() && !version.contains(['[', '(', ',', '/']);
        if !is_exact || !name::is_id(&group) || !name::is_id(&artifact) {
            return None;
        }
        Some(Lead {
            target: Target::Asset(AssetId {
                file: format!("{version}/{artifact}-{version}.pom").into(),
                package: PackageId::new(Format::Maven, Some(&group), &artifact),
            }),
            range: None,
        })
    }

    /// The text with its properties filled in; what a parent defines is not known here.
    fn filled(&self, text: &str) -> Option<String> {
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
        let own = |value: &'_ str| (!value.is_empty()).then_some(());
        match name {
            "project.version" | "pom.version" | "version" => own(&self.own.version).map_or_else(
                || parent.map(|one| &*one.version),
                |()| Some(&*self.own.version),
            ),
            "project.groupId" | "pom.groupId" | "groupId" => own(&self.own.group).map_or_else(
                || parent.map(|one| &*one.group),
                |()| Some(&*self.own.group),
            ),
            "project.parent.version" => parent.map(|one| &*one.version),
            "project.parent.groupId" => parent.map(|one| &*one.group),
            _ => self.properties.get(name).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::format::Upstream;

    const POM: &str = r"<project>
      <parent><groupId>org.acme</groupId><artifactId>parent</artifactId><version>7</version></parent>
      <artifactId>app</artifactId>
      <properties><x.version>${y.version}</x.version><y.version>1.2</y.version><loop>${loop}</loop></properties>
      <dependencyManagement><dependencies>
        <dependency><groupId>org.bom</groupId><artifactId>bom</artifactId><version>3</version><type>pom</type><scope>import</scope></dependency>
        <dependency><groupId>org.managed</groupId><artifactId>m</artifactId><version>4</version></dependency>
      </dependencies></dependencyManagement>
      <dependencies>
        <dependency><groupId>org.x</groupId><artifactId>x</artifactId><version>${x.version}</version></dependency>
        <dependency><groupId>${project.groupId}</groupId><artifactId>sibling</artifactId><version>${project.version}</version>
          <exclusions><exclusion><groupId>no</groupId><artifactId>no</artifactId></exclusion></exclusions></dependency>
        <dependency><groupId>org.t</groupId><artifactId>t</artifactId><version>1</version><scope>test</scope></dependency>
        <dependency><groupId>org.o</groupId><artifactId>o</artifactId><version>1</version><optional>true</optional></dependency>
        <dependency><groupId>org.managed</groupId><artifactId>m</artifactId></dependency>
        <dependency><groupId>org.l</groupId><artifactId>l</artifactId><version>${loop}</version></dependency>
        <dependency><groupId>org.r</groupId><artifactId>r</artifactId><version>[1,2)</version></dependency>
      </dependencies></project>";

    fn leads_of(pom: &str) -> Result<Vec<String>, FormatError> {
        let base = Url::parse("https://maven.example/").unwrap();
        let of = Target::Asset(AssetId {
            package: name::parse("org.acme:app").unwrap(),
            file: "7/app-7.pom".into(),
        });
        let leads = leads(&LeadInput {
            of: &of,
            upstream: Upstream {
                bytes: pom.as_bytes(),
                media_type: "",
                url: &base,
                base: &base,
                directory: None,
            },
            range: None,
            shows: None,
        })?;
        Ok(leads
            .into_iter()
            .map(|lead| match lead.target {
                Target::Asset(asset) => asset.to_string(),
                other => panic!("{other:?}"),
            })
            .collect())
    }

    #[test]
    fn a_pom_leads_to_its_parent_its_boms_and_what_it_depends_on() {
        assert_eq!(
            leads_of(POM).unwrap(),
            [
                "maven:org.acme:parent/7/parent-7.pom",
                "maven:org.bom:bom/3/bom-3.pom",
                "maven:org.x:x/1.2/x-1.2.pom",
                "maven:org.acme:sibling/7/sibling-7.pom",
            ]
        );
    }

    #[test]
    fn what_is_no_pom_leads_nowhere() {
        assert!(leads_of("<project><a></b></project>").is_err());
        assert!(leads_of(&"<a>".repeat(1000)).is_err());
        assert!(leads_of("").unwrap().is_empty());
    }
}
