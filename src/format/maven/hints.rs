//! The poms that Maven asks for when it has read one: its parent, the BOMs that it imports, and its
//! dependencies as far as their versions stand in it.
//! Source: Maven's POM reference.

use super::name;
use super::pom::{Coordinates, Pom};
use crate::package::{AssetId, Format, PackageId};
use crate::{FormatError, PrefetchHint, PrefetchInput, Target};

pub fn gives_hints(target: &Target) -> bool {
    matches!(target, Target::Asset(asset) if asset.file.ends_with(".pom"))
}

pub fn prefetch_hints(input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
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
        .filter_map(|one| hint(&pom, one))
        .collect())
}

/// The pom of the coordinates; `None` where something in them stands elsewhere.
fn hint(pom: &Pom, of: &Coordinates) -> Option<PrefetchHint> {
    let version = pom.filled(&of.version)?;
    let group = pom.filled(&of.group)?;
    let artifact = pom.filled(&of.artifact)?;
    let is_exact = !version.is_empty() && !version.contains(['[', '(', ',', '/']);
    if !is_exact || !name::is_id(&group) || !name::is_id(&artifact) {
        return None;
    }
    Some(PrefetchHint {
        target: Target::Asset(AssetId {
            file: format!("{version}/{artifact}-{version}.pom").into(),
            package: PackageId::new(Format::Maven, Some(&group), &artifact),
        }),
        range: None,
    })
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::Upstream;

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
        let hints = prefetch_hints(&PrefetchInput {
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
        Ok(hints
            .into_iter()
            .map(|hint| match hint.target {
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
