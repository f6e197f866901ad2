//! Warming: what lists need is here afterwards, and what is not says why.

use serde_json::Value;

use super::told;
use crate::command::{LARDER, Setup};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::{said, succeeded};
use crate::support::until;
use crate::support::{Fault, Reply, Upstream, integrity, nuget, pypi, sha256};

fn lockfile(packages: &[(&str, &str)]) -> String {
    let packages: Vec<String> = packages
        .iter()
        .map(|(name, version)| {
            let integrity = integrity(&tarball(name, version, &[]));
            format!("\"node_modules/{name}\":{{\"version\":\"{version}\",\"integrity\":\"{integrity}\"}}")
        })
        .collect();
    format!(
        "{{\"lockfileVersion\":3,\"packages\":{{{}}}}}",
        packages.join(",")
    )
}

async fn side(more: &str) -> (Upstream, Setup) {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let setup = Setup::new(&format!("{}{more}", config(&upstream, IMPATIENT)));
    (upstream, setup)
}

fn write(setup: &Setup, name: &str, text: &str) -> String {
    std::fs::write(setup.at(name), text).unwrap();
    setup.at(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lockfile_needs_is_fetched_once() {
    let (upstream, setup) = side("").await;
    publish(
        &upstream,
        "left-pad",
        &[version("1.0.0", &[]), version("1.3.0", &[])],
    );
    publish(&upstream, "@acme/lib", &[version("3.0.0", &[])]);
    let list = write(
        &setup,
        "package-lock.json",
        &lockfile(&[("left-pad", "1.3.0"), ("@acme/lib", "3.0.0")]),
    );
    let first = told(&setup, &["warm", &list]).await;
    assert_eq!(
        (&first["versions"], &first["fetched"], &first["present"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert_eq!(upstream.count_ending(&[".tgz"]), 2);
    upstream.forget_seen();
    // Through the Larder that holds the directory it is the same.
    let _served = setup.serve().await;
    let again = told(&setup, &["warm", &list]).await;
    assert_eq!(
        (&again["fetched"], &again["present"]),
        (&0.into(), &2.into())
    );
    assert_eq!(upstream.count_ending(&[".tgz"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_missing_or_other_than_the_list_says_is_told() {
    let rule = "[[rule]]\nname = \"worms\"\naction = \"deny\"\npackages = [\"npm:evil\"]\nreason = \"a worm\"\n";
    let (upstream, setup) = side(rule).await;
    publish(&upstream, "evil", &[version("1.0.0", &[])]);
    for name in ["other", "there"] {
        publish(&upstream, name, &[version("1.0.0", &[("x", "*")])]);
    }
    let there = integrity(&tarball("there", "1.0.0", &[("x", "*")]));
    let mut list = lockfile(&[
        ("evil", "1.0.0"),
        ("other", "1.0.0"),
        ("absent", "1.0.0"),
        ("there", "9.0.0"),
    ]);
    list = list.replace(
        "}}}",
        &format!(
            "}},\"a/node_modules/there\":{{\"version\":\"1.0.0\",\"integrity\":\"{there}\"}}}}}}"
        ),
    );
    let list = write(&setup, "package-lock.json", &list);
    let output = setup.run(&["warm", &list, "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["fetched"], 1, "{summary}");
    assert_eq!(summary["refused"][0]["decider"], "rule `worms`");
    let what = |list: &str| -> Vec<&str> {
        let troubles = summary[list].as_array().unwrap();
        troubles
            .iter()
            .map(|it| it["what"].as_str().unwrap())
            .collect()
    };
    assert_eq!(what("missing"), ["npm:absent@1.0.0", "npm:there@9.0.0"]);
    assert_eq!(what("differing"), ["npm:other/other-1.0.0.tgz"]);
    let words = said(&setup.run(&["warm", &list]).await);
    assert!(words.contains("refused: npm:evil"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_comes_with_its_metadata_for_the_chosen_machines() {
    let (upstream, setup) = side("").await;
    pypi::publish(
        &upstream,
        &upstream,
        "six",
        &[("1.0", &[]), ("2.0", &[])],
        true,
    );
    let hash = sha256(&pypi::wheel("six", "1.0", &[]));
    let list = write(
        &setup,
        "requirements.txt",
        &format!(
            "six==1.0 --hash=sha256:{hash} --hash=sha256:{}\n",
            "0".repeat(64)
        ),
    );
    let summary = told(
        &setup,
        &["warm", &list, "--platform", "linux-x64", "--python", "3.12"],
    )
    .await;
    assert_eq!(summary["fetched"], 2, "{summary}");
    assert_eq!(upstream.count_ending(&[".whl", ".metadata"]), 2);
    let list = write(&setup, "needs.txt", "pypi:six\nnpm:absent\n");
    let output = setup.run(&["warm", &list]).await;
    assert!(
        said(&output).contains("missing: npm:absent"),
        "{}",
        said(&output)
    );
    assert_eq!(upstream.count_ending(&["six-2.0-py3-none-any.whl"]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_builds_a_source_distribution_comes_with_it() {
    let (upstream, setup) = side("").await;
    pypi::publish(
        &upstream,
        &upstream,
        "setuptools",
        &[("69.0", &["helper>=1,<2"]), ("70.0", &["helper>=1,<2"])],
        true,
    );
    pypi::publish(
        &upstream,
        &upstream,
        "wheel",
        &[("0.40", &[]), ("0.41", &[])],
        true,
    );
    pypi::publish(
        &upstream,
        &upstream,
        "helper",
        &[("1.0", &[]), ("2.0", &[])],
        true,
    );
    let sdist = pypi::sdist("old-thing", "1.0", r#"["setuptools>=61,<70", "wheel"]"#);
    let url = |version: &str| format!("{}/packages/old_thing-{version}.tar.gz", upstream.url());
    let hashes = serde_json::json!({ "sha256": sha256(&sdist) });
    let page = serde_json::json!({ "meta": { "api-version": "1.1" }, "name": "old-thing", "versions": ["1.0", "1.1", "1.2"], "files": [
        { "filename": "old_thing-1.0.tar.gz", "url": url("1.0"), "hashes": hashes },
        { "filename": "old_thing-1.1.tar.gz", "url": url("1.1"), "hashes": hashes, "requires-python": ">=3.9" },
        { "filename": "old_thing-1.2.tar.gz", "url": url("1.2"), "hashes": hashes, "yanked": "it was wrong" },
    ]});
    upstream.put(
        "/simple/old-thing/",
        Reply::typed(pypi::JSON, page.to_string()),
    );
    upstream.put("/packages/old_thing-1.0.tar.gz", Reply::bytes(sdist));
    // Of versions that the list leaves open, the newest that is not yanked and runs on the Python.
    let list = write(&setup, "requirements.txt", "old-thing>=1,<2\n");
    let summary = told(&setup, &["warm", &list, "--python", "3.8"]).await;
    assert_eq!(summary["versions"], 4, "{summary}");
    for file in [
        "old_thing-1.0.tar.gz",
        "setuptools-69.0-py3-none-any.whl",
        "wheel-0.41-py3-none-any.whl",
        "helper-1.0-py3-none-any.whl",
    ] {
        assert_eq!(upstream.count_ending(&[file]), 1, "{file}");
    }
    for file in [
        "setuptools-70.0-py3-none-any.whl",
        "helper-2.0-py3-none-any.whl",
    ] {
        assert_eq!(upstream.count_ending(&[file]), 0, "{file}");
    }
    let list = write(&setup, "requirements.txt", "old-thing>=2\n");
    let output = setup.run(&["warm", &list]).await;
    assert!(
        said(&output).contains("no source has such a version"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheel_itself_says_what_it_requires_where_no_metadata_lies_beside_it() {
    let (upstream, setup) = side("").await;
    pypi::publish(&upstream, &upstream, "helper", &[("1.0", &[])], true);
    let wheel = pypi::wheel("plain", "1.0", &["helper>=1"]);
    let page = serde_json::json!({ "meta": { "api-version": "1.0" }, "name": "plain", "files": [{
        "filename": "plain-1.0-py3-none-any.whl", "url": format!("{}/packages/plain-1.0-py3-none-any.whl", upstream.url()),
        "hashes": { "sha256": sha256(&wheel) },
    }]});
    upstream.put("/simple/plain/", Reply::typed(pypi::JSON, page.to_string()));
    upstream.put("/packages/plain-1.0-py3-none-any.whl", Reply::bytes(wheel));
    let list = write(&setup, "requirements.txt", "plain\n");
    let summary = told(&setup, &["warm", &list]).await;
    assert_eq!(summary["versions"], 2, "{summary}");
    let helper = "helper-1.0-py3-none-any.whl";
    assert_eq!(upstream.count_ending(&[helper]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_and_maven_lists_are_closed_over() {
    let (upstream, setup) = side("").await;
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "1.2.0"], true);
    let pom = |artifact: &str, more: &str| {
        format!(
            "<project><groupId>g</groupId><artifactId>{artifact}</artifactId><version>1</version>{more}</project>"
        )
    };
    let needs = "<dependencies><dependency><groupId>g</groupId><artifactId>b</artifactId><version>1</version></dependency></dependencies>";
    for (artifact, more) in [("a", needs), ("b", "")] {
        upstream.put(
            &format!("/maven2/g/{artifact}/1/{artifact}-1.pom"),
            Reply::typed("text/xml", pom(artifact, more)),
        );
        upstream.put(
            &format!("/maven2/g/{artifact}/1/{artifact}-1.jar"),
            Reply::bytes("jar"),
        );
    }
    let list = write(&setup, "needs.txt", "nuget:Acme.Lib@1.0.0\nmaven:g:a@1\n");
    let summary = told(&setup, &["warm", &list]).await;
    assert_eq!(summary["versions"], 3, "{summary}");
    assert_eq!(upstream.count_ending(&[".jar"]), 2);
    assert_eq!(upstream.count_ending(&[".nupkg"]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_its_midst_it_goes_on_where_it_was() {
    let (upstream, setup) = side("").await;
    let names: Vec<String> = (0..60).map(|index| format!("package-{index}")).collect();
    for name in &names {
        publish(&upstream, name, &[version("1.0.0", &[])]);
    }
    let packages: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1.0.0")).collect();
    let list = write(&setup, "package-lock.json", &lockfile(&packages));
    let (mut kills, mut fetched) = (0, 0);
    for stop_after in [7, 25, 40] {
        let mut child = setup
            .command(&["warm", &list, "--at-once", "4"])
            .spawn()
            .unwrap();
        until("so many files are asked for, or all", async || {
            upstream.count_ending(&[".tgz"]) >= stop_after || child.try_wait().unwrap().is_some()
        })
        .await;
        child.kill().await.unwrap();
        kills += 1;
        fetched = upstream.count_ending(&[".tgz"]);
    }
    let summary = told(&setup, &["warm", &list]).await;
    let (new, present) = (
        summary["fetched"].as_u64().unwrap(),
        summary["present"].as_u64().unwrap(),
    );
    assert_eq!(new + present, 60, "{summary}");
    assert!(present >= 30, "{summary}");
    println!(
        "warm: {kills} kills, {fetched} files fetched until the last, {present} of 60 present then, {new} fetched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_is_told_and_tried_another_time() {
    let (upstream, setup) = side("").await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let list = write(
        &setup,
        "package-lock.json",
        &lockfile(&[("left-pad", "1.3.0")]),
    );
    upstream.always(Some(Fault::Status(500, None)));
    let output = setup.run(&["warm", &list, "--json"]).await;
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failed"].as_array().unwrap().len(), 1, "{summary}");
    upstream.always(None);
    let summary = told(&setup, &["warm", &list]).await;
    assert_eq!(summary["fetched"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_read_is_a_mistake_of_usage() {
    let (_upstream, setup) = side("").await;
    let list = write(&setup, "package-lock.json", "{");
    for arguments in [
        vec!["warm", &list],
        vec!["warm", "nowhere.lock"],
        vec!["warm", &list, "--platform", "amiga"],
        vec!["warm"],
    ] {
        let output = setup.run(&arguments).await;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
    let help = tokio::process::Command::new(LARDER)
        .args(["warm", "--help"])
        .output()
        .await
        .unwrap();
    succeeded(&help);
    assert!(said(&help).contains("Examples:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_versions_are_tried_where_the_newest_are_held_back() {
    let rule = "[[rule]]\nname = \"new\"\naction = \"deny\"\npackages = [\"npm:*@>=2\"]\n";
    let (upstream, setup) = side(rule).await;
    for (name, above, fetched) in [("near", 49, 1), ("far", 50, 0)] {
        let numbers: Vec<String> = (0..above).map(|number| format!("2.0.{number}")).collect();
        let above = numbers.iter().map(|number| version(number, &[]));
        let versions: Vec<_> = above.chain([version("1.0.0", &[])]).collect();
        publish(&upstream, name, &versions);
        let list = write(&setup, "needs.txt", &format!("npm:{name}\n"));
        let output = setup.run(&["warm", &list, "--json"]).await;
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["fetched"], fetched, "{summary}");
        assert_eq!(output.status.success(), fetched == 1, "{}", said(&output));
        assert_eq!(upstream.count_ending(&[".tgz"]), 1);
    }
}
