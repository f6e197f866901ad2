//! Bundles: signed, whole or refused, taken in version by version.

use serde_json::Value;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

use super::{carry, closed, told};
use crate::command::Setup;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::said;
use crate::support::until;
use crate::support::{Reply, Upstream, noise, pypi};

/// A side with some packages of two formats, one of them of its own.
pub async fn full() -> (Upstream, Setup, String) {
    let upstream = Upstream::start().await;
    publish(
        &upstream,
        "left-pad",
        &["1.0.0", "1.3.0"].map(|one| version(one, &[])),
    );
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let text = format!(
        "{}[[repository]]\nname = \"team\"\npublish = \"local\"\nexternal_connections = [\"up:npm\", \"up:pypi\", \"up:maven\", \"up:nuget\"]\n",
        config(&upstream, IMPATIENT)
    );
    let setup = Setup::new(&text);
    let served = setup.serve().await;
    let http = reqwest::Client::new();
    for path in [
        "npm/team/left-pad",
        "npm/team/left-pad/-/left-pad-1.0.0.tgz",
        "npm/team/left-pad/-/left-pad-1.3.0.tgz",
        "pypi/team/simple/six/",
    ] {
        let answer = http
            .get(format!("{}/{path}", served.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.unwrap();
    }
    let own = crate::publish::npm_document("acme-own", "1.0.0", &tarball("acme-own", "1.0.0", &[]));
    let answer = http
        .put(format!("{}/npm/team/acme-own", served.url))
        .header("content-type", "application/json")
        .body(own)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    drop(served);
    wait_until_free(&setup).await;
    (upstream, setup, text)
}

pub async fn wait_until_free(setup: &Setup) {
    until("the directory's lock is free", async || {
        larder::store::holder(Path::new(&setup.at("data"))).is_none()
    })
    .await;
}

/// What lies in a data directory's store, and what its catalogs list.
async fn inside(setup: &Setup) -> (usize, String) {
    let blobs = files_below(Path::new(&setup.at("data/blobs")));
    let listed = setup.run(&["list", "--repository", "team"]).await;
    (blobs, said(&listed))
}

fn files_below(folder: &Path) -> usize {
    files(folder).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_carried_over_is_served_there_with_no_line() {
    let (upstream, open, text) = full().await;
    upstream.vanish();
    let closed = closed(&text);
    let report = carry(&open, &closed).await;
    assert_eq!(report["versions_added"], 2, "{report}");
    assert_eq!(report["releases_added"], 1, "{report}");
    assert_eq!(report["files_added"], 2, "{report}");
    let again = carry(&open, &closed).await;
    assert_eq!(
        (&again["files_added"], &again["files_present"]),
        (&0.into(), &2.into())
    );
    assert_eq!(again["releases_present"], 1);
    let served = closed.serve().await;
    let http = reqwest::Client::new();
    for path in [
        "npm/team/left-pad/-/left-pad-1.3.0.tgz",
        "npm/team/acme-own",
        "npm/team/acme-own/-/acme-own-1.0.0.tgz",
        "npm/team/left-pad",
    ] {
        let answer = http
            .get(format!("{}/{path}", served.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    // Its page came, and no file of it did.
    let page = http
        .get(format!("{}/pypi/team/simple/six/", served.url))
        .send()
        .await
        .unwrap();
    assert!(!page.text().await.unwrap().contains("six-1.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_anywhere_and_nothing_changes() {
    let (_upstream, open, text) = full().await;
    let bundle = open.at("all.larder");
    let head = told(&open, &["export", "--out", &bundle]).await;
    let key = head["key"].as_str().unwrap().to_owned();
    let whole = std::fs::read(&bundle).unwrap();
    let closed = closed(&text);
    let before = inside(&closed).await;
    let step = (whole.len() / 80).max(1);
    let mut said_of = std::collections::BTreeSet::new();
    let mut count = 0;
    for at in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let flipped = closed.at("flipped.larder");
        std::fs::write(&flipped, bytes).unwrap();
        let output = closed.run(&["import", &flipped, "--trust", &key]).await;
        assert_eq!(
            output.status.code(),
            Some(1),
            "bit at {at}: {}",
            said(&output)
        );
        assert!(!said(&output).contains("internal"), "{}", said(&output));
        said_of.insert(said(&output).chars().take(90).collect::<String>());
        count += 1;
    }
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        let cut = closed.at("cut.larder");
        std::fs::write(&cut, &whole[..length]).unwrap();
        let output = closed.run(&["import", &cut, "--trust", &key]).await;
        assert_eq!(
            output.status.code(),
            Some(1),
            "cut at {length}: {}",
            said(&output)
        );
    }
    assert_eq!(inside(&closed).await, before);
    println!(
        "{count} bundles with one flipped bit, 4 cut short: all refused, {} blobs before and after",
        before.0
    );
    for words in said_of {
        println!("  {}", words.trim());
    }
    let report = told(&closed, &["import", &bundle, "--trust", &key]).await;
    assert_eq!(report["versions_added"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_larger_than_the_cache_is_taken_in_whole() {
    let upstream = Upstream::start().await;
    let mut list = String::from("<verification-metadata><components>");
    for number in 0..30_u64 {
        let path = format!("/maven2/g/jar/{number}/jar-{number}.jar");
        upstream.put(
            &path,
            crate::support::Reply::bytes(noise(50 * 1024, number + 1)),
        );
        list.push_str(&format!("<component group=\"g\" name=\"jar\" version=\"{number}\"><artifact name=\"jar-{number}.jar\"/></component>"));
    }
    list.push_str("</components></verification-metadata>");
    let text = config(&upstream, IMPATIENT);
    let open = Setup::new(&text);
    std::fs::write(open.at("verification-metadata.xml"), list).unwrap();
    told(&open, &["warm", &open.at("verification-metadata.xml")]).await;
    // Room for four of thirty.
    let small = closed(&text.replace("[cache]", "[cache]\nmax_size = \"200KiB\""));
    let _served = small.serve().await;
    let report = carry(&open, &small).await;
    assert_eq!(report["files_added"], 30, "{report}");
    let pins = told(&small, &["pin", "npm:any"]).await;
    assert_eq!(pins["kept"]["files"], 30, "{pins}");
    let verified = told(&small, &["verify"]).await;
    assert_eq!(verified["checked"], 30, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_who_is_not_trusted_is_refused() {
    let (_upstream, open, text) = full().await;
    let bundle = open.at("all.larder");
    let head = told(&open, &["export", "--out", &bundle]).await;
    let closed_side = closed(&text);
    let output = closed_side.run(&["import", &bundle]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("not trusted here"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains(head["key"].as_str().unwrap()));
    let key = head["key"].as_str().unwrap();
    let trusting = closed(&format!(
        "[bundle]\ntrusted = [\"{key}\"]\n{}",
        text.replace("listen", "# listen")
    ));
    let report = told(&trusting, &["import", &bundle]).await;
    assert_eq!(report["key"], head["key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_on_the_other_side_is_told_with_the_way_to_give_it_one() {
    let (upstream, open, _) = full().await;
    let bundle = open.at("all.larder");
    let head = told(&open, &["export", "--out", &bundle]).await;
    let other = Setup::new(&format!(
        "offline = true\n[[connection]]\nname = \"registry\"\nformat = \"npm\"\nurl = \"{}/npm/\"\n",
        upstream.url()
    ));
    let output = other
        .run(&["import", &bundle, "--trust", head["key"].as_str().unwrap()])
        .await;
    let words = said(&output);
    assert!(
        words.contains("[[connection]] name = \"up:pypi\", format = \"pypi\""),
        "{words}"
    );
    assert!(words.contains("[[repository]] name = \"team\""), "{words}");
    // The one connection of its format takes what another name's would.
    assert!(!words.contains("up:npm"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_an_import_is_whole_or_not_seen_and_goes_on() {
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..40).map(|index| format!("package-{index}")).collect();
    for name in &names {
        publish(
            &upstream,
            name,
            &[version("1.0.0", &[]), version("2.0.0", &[])],
        );
    }
    let text = config(&upstream, IMPATIENT);
    let open = Setup::new(&text);
    let list = names
        .iter()
        .flat_map(|name| [format!("npm:{name}@1.0.0\n"), format!("npm:{name}@2.0.0\n")]);
    std::fs::write(open.at("needs.txt"), list.collect::<String>()).unwrap();
    told(&open, &["warm", &open.at("needs.txt")]).await;
    let bundle = open.at("all.larder");
    let head = told(&open, &["export", "--out", &bundle]).await;
    let key = head["key"].as_str().unwrap();
    let closed = closed(&text);
    let (mut kills, mut ends) = (0, 0);
    for round in 0..30_u64 {
        let mut child = closed
            .command(&["import", &bundle, "--trust", key])
            .spawn()
            .unwrap();
        let patience = std::time::Duration::from_millis(20 + (round * 37) % 400);
        if tokio::time::timeout(patience, child.wait()).await.is_ok() {
            ends += 1;
        } else {
            child.kill().await.unwrap();
            kills += 1;
        }
        wait_until_free(&closed).await;
        let listed = told(&closed, &["list", "--cached", "--format", "npm"]).await;
        // What is listed can be had: a version has its file.
        for one in listed["cached"].as_array().unwrap() {
            let name = one["package"].as_str().unwrap();
            let versions = told(&closed, &["list", name]).await;
            for version in versions["versions"].as_array().unwrap() {
                let sha256 = version["assets"][0]["digests"]["sha256"].as_str().unwrap();
                let blob = closed.at(&format!("data/blobs/sha256/{}/{sha256}", &sha256[..2]));
                assert!(Path::new(&blob).exists(), "{name} {version}");
            }
        }
        if round % 10 == 9 && kills > 10 {
            break;
        }
    }
    let report = told(&closed, &["import", &bundle, "--trust", key]).await;
    let (added, present) = (
        report["files_added"].as_u64().unwrap(),
        report["files_present"].as_u64().unwrap(),
    );
    assert_eq!(added + present, 80);
    println!(
        "import: {kills} kills, {ends} ends before them; then {added} added, {present} present"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_goes_on_with_a_bundle_whose_bearer_was_lost() {
    let upstream = Upstream::start().await;
    let open = Setup::new(&config(&upstream, IMPATIENT));
    let served = open.serve().await;
    for number in 0..20 {
        let path = format!("g/jar-{number}/1/jar-{number}-1.jar");
        let jar = noise(100 * 1024, number + 1);
        upstream.put(&format!("/maven2/{path}"), Reply::bytes(jar));
        let got = reqwest::get(format!("{}/maven/public/{path}", served.url)).await;
        got.unwrap().bytes().await.unwrap();
    }
    // A client may have all bytes before they are written down.
    until("all files are listed", async || {
        let listed = told(&open, &["list", "--cached", "--format", "maven"]).await;
        listed["cached"].as_array().is_some_and(|it| it.len() == 20)
    })
    .await;
    let bundle = open.at("all.larder");
    let head = told(&open, &["export", "--out", &bundle]).await;
    let key = head["key"].as_str().unwrap();

    let closed = closed(&config(&upstream, IMPATIENT));
    let _served = closed.serve().await;
    let mut half = std::fs::read(&bundle).unwrap();
    half.truncate(half.len() / 2);
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(half)])
        .chain(futures_util::stream::pending());
    let url = reqwest::Url::parse_with_params("http://larder/import", [("trust", key)]).unwrap();
    let request = closed.control().post(url);
    let bearer = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    let blobs = closed.at("data/blobs");
    until("five files are staged", async || {
        assert!(!bearer.is_finished(), "it is over before");
        files_below(Path::new(&blobs)) >= 5
    })
    .await;
    bearer.abort();
    let came = files(Path::new(&blobs));
    let listed = told(&closed, &["list", "--cached", "--format", "maven"]).await;
    assert_eq!(listed["cached"], Value::Array(Vec::new()));

    let report = told(&closed, &["import", &bundle, "--trust", key]).await;
    assert_eq!(report["files_added"], 20, "{report}");
    for (file, inode) in came {
        assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode, "{file:?}");
    }
}

/// The files below a folder, and which they are.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().ino()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_export_has_what_came_in_since_and_a_lists_export_what_it_needs() {
    let upstream = Upstream::start().await;
    for name in ["a", "b", "c"] {
        publish(&upstream, name, &[version("1.0.0", &[])]);
    }
    let open = Setup::new(&config(&upstream, IMPATIENT));
    let warm = async |needs: &str| {
        std::fs::write(open.at("needs.txt"), needs).unwrap();
        told(&open, &["warm", &open.at("needs.txt")]).await;
    };
    warm("npm:a@1.0.0\nnpm:b@1.0.0\n").await;
    let names = |bundle: &str| -> Vec<String> {
        let lines = manifest(&open.at(bundle));
        let assets = lines.iter().filter_map(|line| line.get("asset"));
        assets
            .map(|asset| asset["package"].as_str().unwrap().to_owned())
            .collect()
    };
    told(&open, &["export", "--out", &open.at("1"), "--new"]).await;
    assert_eq!(names("1"), ["npm:a", "npm:b"]);
    // Times are told apart by the second: what came within the last one's is in the next, too.
    until("nothing is new", async || {
        told(&open, &["export", "--out", &open.at("2"), "--new"]).await;
        names("2").is_empty()
    })
    .await;
    warm("npm:c@1.0.0\n").await;
    let head = told(&open, &["export", "--out", &open.at("3"), "--new"]).await;
    assert_eq!(names("3"), ["npm:c"]);
    assert!(head["since"].is_string());
    std::fs::write(open.at("only.txt"), "npm:b@1.0.0\n").unwrap();
    told(
        &open,
        &["export", "--out", &open.at("4"), &open.at("only.txt")],
    )
    .await;
    assert_eq!(names("4"), ["npm:b"]);
}

/// The manifest's lines, and a look at the bill beside it.
fn manifest(bundle: &str) -> Vec<Value> {
    let file = std::fs::File::open(bundle).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    let mut lines = Vec::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let name = member.path().unwrap().display().to_string();
        let mut text = String::new();
        if name == "manifest.jsonl" || name == "sbom.cdx.json" {
            std::io::Read::read_to_string(&mut member, &mut text).unwrap();
        }
        if name == "manifest.jsonl" {
            lines = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
        }
        if name == "sbom.cdx.json" {
            let bill: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(bill["bomFormat"], "CycloneDX");
            for component in bill["components"].as_array().unwrap() {
                assert!(component["purl"].as_str().unwrap().starts_with("pkg:"));
            }
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_export_and_import_need_little_memory() {
    let upstream = Upstream::start().await;
    let size = 40 * 1024 * 1024;
    for seed in 0..8_u64 {
        let bytes = noise(size, seed + 1);
        let file = format!("/maven2/g/big/{seed}/big-{seed}.jar");
        upstream.put(&file, crate::support::Reply::bytes(bytes));
    }
    let text = config(&upstream, IMPATIENT);
    let open = Setup::new(&text);
    let component = |seed: u64| {
        format!(
            "<component group=\"g\" name=\"big\" version=\"{seed}\"><artifact name=\"big-{seed}.jar\"/></component>"
        )
    };
    let components: Vec<String> = (0..8).map(component).collect();
    let list = format!(
        "<verification-metadata><components>{}</components></verification-metadata>",
        components.concat()
    );
    std::fs::write(open.at("verification-metadata.xml"), list).unwrap();
    told(&open, &["warm", &open.at("verification-metadata.xml")]).await;
    let closed = closed(&text);
    let bundle = closed.at("all.larder");
    let (peak_out, head) = peak(&open, &["export", "--out", &bundle, "--json"]).await;
    let head: Value = serde_json::from_slice(&head).unwrap();
    let key = head["key"].as_str().unwrap();
    let (peak_in, _) = peak(&closed, &["import", &bundle, "--trust", key]).await;
    assert!(
        peak_out < 100_000 && peak_in < 100_000,
        "{peak_out} and {peak_in} KiB"
    );
    println!(
        "320 MiB exported with a peak of {} MiB, imported with {} MiB",
        peak_out / 1024,
        peak_in / 1024
    );
}

/// The command's peak resident memory in KiB, and what it printed.
async fn peak(setup: &Setup, arguments: &[&str]) -> (u64, Vec<u8>) {
    let mut child = setup
        .command(arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    until("the command ends", async || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        child.try_wait().unwrap().is_some()
    })
    .await;
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    (peak, output.stdout)
}
