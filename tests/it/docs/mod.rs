//! The README and the pages of the book: their commands do what the pages show, their links lead
//! somewhere, and what they list is what the code has.
//!
//! All blocks of a page marked `sh` are one script, run by bash in an empty folder with a registry
//! behind it. A `text` block shows what the `sh` block before it prints: its words have to come,
//! less short ones and those with digits. `sh,no-run WHY` is not run, `text,no-check WHY` not held
//! against anything, `LANGUAGE,file=NAME` becomes a file, and `LANGUAGE,append=NAME` goes to its end.

mod facts;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};

use crate::command::LARDER;
use crate::support::tool::{Tool, said};
use crate::support::{Upstream, npm, nuget, pypi};

/// A page may take this many seconds; its processes end with it.
const SECONDS_MAX: &str = "150";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files below a folder of the book, in their order.
fn pages(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("docs/src").join(folder)).unwrap();
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|it| it == "md"));
    pages.sort();
    pages
}

/// The fenced blocks: what stands behind the fence, and the lines within.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let within = lines.by_ref().take_while(|line| *line != "```");
            let text: String = within.flat_map(|line| [line, "\n"]).collect();
            blocks.push((info, text));
        }
    }
    blocks
}

/// A registry that has what the pages ask for.
async fn registry() -> Upstream {
    let upstream = Upstream::start().await;
    let today = jiff::Timestamp::now().to_string();
    let young = npm::Version {
        published: &today,
        ..npm::version("5.1.0", &[("left-pad", "^1.3.0")])
    };
    npm::publish(&upstream, "express", &[npm::version("4.21.0", &[]), young]);
    for (name, versions) in [
        ("left-pad", ["1.2.0", "1.3.0"]),
        ("@acme/lib", ["1.0.0", "1.1.0"]),
    ] {
        npm::publish(&upstream, name, &versions.map(|it| npm::version(it, &[])));
    }
    pypi::publish(&upstream, &upstream, "six", &[("1.17.0", &[])], false);
    pypi::publish(&upstream, &upstream, "acme-lib", &[("1.0.0", &[])], false);
    nuget::serve(&upstream);
    upstream
}

/// Sets this machine's clients to the registry.
fn set_clients(tool: &Tool, registry: &str) {
    let npm = format!("registry={registry}/npm/\nupdate-notifier=false\nfund=false\n");
    let pip = format!("[global]\nindex-url={registry}/simple/\n");
    let mirror = "<settings><mirrors><mirror><id>up</id><mirrorOf>central</mirrorOf>";
    let maven = format!("{mirror}<url>{registry}/maven2/</url></mirror></mirrors></settings>");
    let source = format!("<clear/><add key=\"up\" value=\"{registry}/v3/index.json\"/>");
    let nuget = format!("<configuration><packageSources>{source}</packageSources></configuration>");
    for (file, text) in [
        (".npmrc", npm),
        (".config/pip/pip.conf", pip),
        (".m2/settings.xml", maven),
        (".nuget/NuGet/NuGet.Config", nuget),
    ] {
        let file = tool.home.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

/// The page's script, which says before each block which one it is, and what each has to print.
fn script(page: &str) -> (String, Vec<(usize, String)>) {
    let mut script = "exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n".to_owned();
    script.push_str("set -eu\n");
    let (mut count, mut shown) = (0, Vec::new());
    for (info, text) in blocks(page) {
        let into = |key: &str| info.split_once(key).map(|(_, name)| name);
        if let Some(name) = into("file=") {
            script.push_str(&format!("cat > {name} <<'@@@'\n{text}@@@\n"));
        } else if let Some(name) = into("append=") {
            script.push_str(&format!("cat >> {name} <<'@@@'\n{text}@@@\n"));
        } else if info == "sh" {
            count += 1;
            script.push_str(&format!("echo '@@@ {count}'\n{text}"));
        } else if info == "text" && count > 0 {
            shown.push((count, text));
        }
    }
    (script, shown)
}

/// Words that are the same in every run.
fn stable_words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .filter(|token| !token.contains(|c: char| c.is_ascii_digit()))
        .flat_map(|token| token.split(|c: char| !c.is_ascii_alphabetic()))
        .filter(|word| word.len() > 3)
        // One thing is counted in the singular.
        .map(|word| word.strip_suffix('s').unwrap_or(word))
}

/// The ports that the pages name.
const PORTS: [&str; 2] = ["5273", "5274"];

/// A port that is free, and is not taken for one of [`PORTS`] when they are replaced.
fn free_port() -> String {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        if !PORTS.iter().any(|it| port.contains(it)) {
            return port;
        }
    }
}

/// Runs a page; what is wrong with it.
async fn fault_of(page: &Path) -> Option<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let (script, shown) = script(&text);
    let (upstream, tool) = (registry().await, Tool::new());
    set_clients(&tool, &upstream.url());
    let port = free_port();
    let npm = format!("{}/npm/", upstream.url());
    let script = script
        .replace(PORTS[0], &port)
        .replace(PORTS[1], &free_port())
        .replace("https://npm.registry.example/", &npm)
        .replace("https://pypi.registry.example", &upstream.url());
    let path = format!(
        "{}:{}",
        Path::new(LARDER).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let listen = format!("127.0.0.1:{port}");
    let variables = [("PATH", path.as_str()), ("LARDER_LISTEN", &listen)];
    let arguments = [SECONDS_MAX, "bash", "-c", &script];
    let output = tool.run("timeout", &arguments, &variables).await;
    let printed = said(&output);
    let of_block = |block: usize| {
        let begin = format!("@@@ {block}\n");
        let (_, rest) = printed.split_once(&begin).unwrap_or_default();
        rest.split("@@@ ").next().unwrap_or_default()
    };
    let missing: Vec<&str> = shown
        .iter()
        .flat_map(|(block, text)| {
            stable_words(text).filter(|word| !of_block(*block).contains(word))
        })
        .collect();
    let (name, status) = (page.display(), output.status);
    (!status.success() || !missing.is_empty())
        .then(|| format!("{name}: {status}, it did not print {missing:?}\n{printed}"))
}

async fn run(pages: Vec<PathBuf>) {
    larder::use_ring();
    let faults: Vec<String> = stream::iter(&pages)
        .map(|page| fault_of(page))
        .buffer_unordered(3)
        .filter_map(async |fault| fault)
        .collect()
        .await;
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[tokio::test]
async fn the_commands_of_the_readme_run() {
    run(vec![root().join("README.md")]).await;
}

#[tokio::test]
async fn the_commands_of_the_guides_run() {
    run([pages(""), pages("guides")].concat()).await;
}

#[tokio::test]
async fn the_commands_of_the_concepts_and_the_reference_run() {
    run([pages("concepts"), pages("reference")].concat()).await;
}
