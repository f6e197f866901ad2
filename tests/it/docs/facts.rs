//! What the pages say of each other and of the code: links, and lists that have to be whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use larder::codeartifact::Operation;
use larder::telemetry::Metrics;

use super::{blocks, pages, root};

#[allow(clippy::cast_precision_loss, reason = "a chart has a few bars")]
#[path = "../../../benches/versus/chart.rs"]
mod chart;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&root().join("docs/src").join(name))
}

/// The pages of the book, and the texts beside it.
fn all() -> Vec<PathBuf> {
    let mut all = ["", "guides", "concepts", "reference"].map(pages).concat();
    all.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|it| root().join(it)));
    all
}

/// The page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut is_fenced = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let page = prose(page);
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let kept: String = heading.chars().filter(is_kept).collect();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The targets of a page's links and pictures.
fn links(page: &str) -> Vec<String> {
    let page = prose(page);
    let rest = page.split("](").skip(1);
    rest.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for path in all() {
        let text = read(&path);
        for link in links(&text).iter().filter(|it| !it.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let is_there =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !is_there {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_page_stands_in_the_summary() {
    let root = root().join("docs/src");
    let listed: BTreeSet<PathBuf> = links(&page("SUMMARY.md"))
        .iter()
        .map(|it| root.join(it))
        .collect();
    let pages = ["", "guides", "concepts", "reference"].map(pages).concat();
    let pages = pages.into_iter().filter(|it| !it.ends_with("SUMMARY.md"));
    assert_eq!(listed, pages.collect());
}

#[test]
fn the_readme_is_short() {
    let words = read(&root().join("README.md")).split_whitespace().count();
    assert!(words <= 1200, "{words} words");
}

#[test]
fn the_chart_shows_the_numbers_of_its_page() {
    let (docs, folder) = (root().join("docs/src"), tempfile::tempdir().unwrap());
    let (drawn, committed) = (folder.path().join("chart.svg"), docs.join("benchmarks.svg"));
    let groups = chart::read(&docs.join("reference/benchmarks.md"));
    chart::write(&groups, chart::OF_THE_PAGE, &drawn);
    let how = "cargo bench --bench versus -- --from docs/src/reference/benchmarks.md --svg docs/src/benchmarks.svg";
    assert_eq!(read(&drawn), read(&committed), "`{how}` draws it again");
}

#[test]
fn the_page_of_metrics_has_each() {
    let (page, metrics) = (page("reference/metrics.md"), Metrics::default().text());
    for line in metrics.lines().filter_map(|it| it.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let shown = match kind {
            "counter" => format!("| `{name}_total"),
            _ => format!("| `{name}"),
        };
        assert!(page.contains(&shown), "{name} is not in the table");
    }
}

#[test]
fn the_page_of_the_api_has_each_operation() {
    let page = page("reference/api.md");
    for operation in Operation::ALL {
        let (method, path) = operation.place();
        let row = format!("| `{}` | `{method} {path}` |", operation.name());
        assert_eq!(page.matches(&row).count(), 1, "{row}");
    }
}

#[test]
fn the_page_of_events_has_each_kind() {
    let page = page("reference/events.md");
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = read(&path);
            for kind in text.split('"').filter(|it| {
                let is_ours = it.starts_with("Larder ") || it.starts_with("CodeArtifact Package ");
                is_ours
                    && (it.ends_with(" Change")
                        || it.ends_with(" Refused")
                        || it.ends_with(" Damaged"))
            }) {
                assert!(page.contains(&format!("| `{kind}` |")), "{kind}");
            }
        }
    }
}

#[test]
fn a_command_that_is_not_run_says_why() {
    for page in all() {
        let text = read(&page);
        for (info, text) in blocks(&text) {
            let name = page.display();
            if let Some(why) = info.strip_prefix("sh,") {
                let why = why.strip_prefix("no-run ").unwrap_or_default();
                assert!(!why.trim().is_empty(), "{name}: `{info}` has no reason");
                println!("{name}: not run, {why}:\n{text}");
            }
            assert!(!matches!(info, "" | "bash" | "console"), "{name}: `{info}`");
        }
    }
}
