//! `maven-metadata.xml` of our own packages.
//! Source: Maven's repository metadata model (`maven-repository-metadata`).

use std::collections::BTreeMap;

use quick_xml::escape::escape;

use super::{MavenView, version};
use crate::package::{Listing, Release, Status};
use crate::{DocumentId, Own, View};

const XML: &str = "application/xml";

pub fn compose(document: &DocumentId, own: Own<'_>) -> Option<(Vec<u8>, &'static str)> {
    let (View::Maven(view), Own::Package(listing)) = (&document.view, own) else {
        return None;
    };
    let text = match view {
        MavenView::Metadata { .. } => artifact(listing),
        MavenView::VersionMetadata { version, .. } => listing
            .release(version)
            .filter(|release| release.status.is_served())
            .and_then(|release| snapshot(listing, release)),
        MavenView::Other { .. } => None,
    };
    text.map(|text| (text.into_bytes(), XML))
}

fn head(listing: &Listing) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata modelVersion=\"1.1.0\">\n  <groupId>{}</groupId>\n  <artifactId>{}</artifactId>\n",
        escape(listing.package.namespace().unwrap_or_default()),
        escape(listing.package.name())
    )
}

fn artifact(listing: &Listing) -> Option<String> {
    let versions: Vec<&str> = listing
        .versions
        .iter()
        .filter(|release| release.status == Status::Published)
        .map(|release| &*release.version)
        .collect();
    if versions.is_empty() {
        return None;
    }
    let updated = listing.changed.strftime("%Y%m%d%H%M%S").to_string();
    Some(format!(
        "{}{}</metadata>\n",
        head(listing),
        versioning(&versions, &updated)
    ))
}

/// The newest of all, the newest release, and all in their order.
pub fn versioning(versions: &[&str], updated: &str) -> String {
    let mut versions = versions.to_vec();
    versions.sort_by(|a, b| version::compare(a, b));
    let mut out = String::from("  <versioning>\n");
    if let Some(latest) = versions.last() {
        out.push_str(&format!("    <latest>{}</latest>\n", escape(*latest)));
    }
    let release = versions
        .iter()
        .rev()
        .find(|version| !version.ends_with("-SNAPSHOT"));
    if let Some(release) = release {
        out.push_str(&format!("    <release>{}</release>\n", escape(*release)));
    }
    out.push_str("    <versions>\n");
    for version in &versions {
        out.push_str(&format!("      <version>{}</version>\n", escape(*version)));
    }
    out.push_str(&format!(
        "    </versions>\n    <lastUpdated>{}</lastUpdated>\n  </versioning>\n",
        escape(updated)
    ));
    out
}

/// The builds of a snapshot; `None` where its files carry no timestamps.
fn snapshot(listing: &Listing, release: &Release) -> Option<String> {
    let base = release.version.strip_suffix("SNAPSHOT")?;
    let prefix = format!("{}/{}-{base}", release.version, listing.package.name());
    // The last build of each classifier and file ending.
    let mut newest: BTreeMap<(String, String), (&str, u64)> = BTreeMap::new();
    for asset in release.served() {
        let Some((timestamp, build, rest)) = asset.file.strip_prefix(&prefix).and_then(build_of)
        else {
            continue;
        };
        let (classifier, ending) = match rest.strip_prefix('-') {
            Some(rest) => rest.split_once('.').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix('.').unwrap_or(rest)),
        };
        let entry = newest
            .entry((classifier.to_owned(), ending.to_owned()))
            .or_insert((timestamp, build));
        if (entry.1, entry.0) < (build, timestamp) {
            *entry = (timestamp, build);
        }
    }
    let (timestamp, build) = newest
        .values()
        .max_by_key(|(time, build)| (*build, *time))?;
    let updated = |timestamp: &str| timestamp.replace('.', "");
    let mut out = head(listing);
    out.push_str(&format!(
        "  <version>{}</version>\n  <versioning>\n    <snapshot>\n      <timestamp>{timestamp}</timestamp>\n      <buildNumber>{build}</buildNumber>\n    </snapshot>\n    <lastUpdated>{}</lastUpdated>\n    <snapshotVersions>\n",
        escape(&*release.version),
        updated(timestamp)
    ));
    for ((classifier, ending), (timestamp, build)) in &newest {
        out.push_str("      <snapshotVersion>\n");
        if !classifier.is_empty() {
            out.push_str(&format!(
                "        <classifier>{}</classifier>\n",
                escape(classifier.as_str())
            ));
        }
        out.push_str(&format!(
            "        <extension>{}</extension>\n        <value>{}{timestamp}-{build}</value>\n        <updated>{}</updated>\n      </snapshotVersion>\n",
            escape(ending.as_str()),
            escape(base),
            updated(timestamp)
        ));
    }
    out.push_str("    </snapshotVersions>\n  </versioning>\n</metadata>\n");
    Some(out)
}

/// `20260101.120000-3-sources.jar` → timestamp, build number, the rest.
fn build_of(text: &str) -> Option<(&str, u64, &str)> {
    let (timestamp, rest) = text.split_once('-')?;
    let (day, time) = timestamp.split_once('.')?;
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(day, 8) || !digits(time, 6) {
        return None;
    }
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (build, rest) = rest.split_at_checked(end)?;
    Some((timestamp, build.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_read_out_of_file_names() {
        assert_eq!(
            build_of("20260101.120000-3-sources.jar"),
            Some(("20260101.120000", 3, "-sources.jar"))
        );
        assert_eq!(
            build_of("20260101.120000-12.tar.gz"),
            Some(("20260101.120000", 12, ".tar.gz"))
        );
        for text in ["SNAPSHOT.jar", "2026.12-1.jar", "20260101.120000-x.jar"] {
            assert_eq!(build_of(text), None, "{text}");
        }
    }

    #[test]
    fn latest_may_be_a_snapshot_and_release_is_none() {
        let text = versioning(&["1.10", "1.9", "2.0-SNAPSHOT"], "20260101000000");
        assert!(text.contains("<latest>2.0-SNAPSHOT</latest>"));
        assert!(text.contains("<release>1.10</release>"));
        assert!(text.find("1.9<").unwrap() < text.find("1.10</version>").unwrap());
    }
}
