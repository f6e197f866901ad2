//! A package with ten thousand versions and a repository with a hundred thousand packages: how long
//! listing, publishing and serving take. `cargo bench --bench scale`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so by panicking"
)]

mod own;

use std::time::{Duration, Instant};

use larder::Larder;
use larder::package::{Digester, Format, Origin, ReleaseAsset, Status};
use larder::repository::manage::{ManageCommand, Which};
use larder::store::packages::{NewRelease, Step};
use own::start;
use serde_json::json;

const VERSIONS: usize = 10_000;
const PACKAGES: usize = 100_000;
const CHUNK: usize = 1_000;

fn release(name: &str, version: &str) -> NewRelease {
    let mut digester = Digester::new(&larder::package::Algorithm::ALL);
    digester.update(format!("{name}@{version}").as_bytes());
    let package = Format::Npm.protocol().package(name).unwrap();
    let file = format!("{}-{version}.tgz", package.name());
    let now = jiff::Timestamp::from_second(1_790_000_000).unwrap();
    let asset = ReleaseAsset::new(
        &file,
        &digester.finish(),
        20_000,
        "application/octet-stream",
        now,
    );
    NewRelease {
        package,
        version: version.to_owned(),
        origin: Origin::Internal,
        status: Status::Published,
        published: now,
        manifest: json!({
            "name": name, "version": version, "description": "a package of our own", "main": "index.js",
            "license": "MIT", "dependencies": { "left-pad": "^1.3.0", "once": "^1.4.0", "debug": "^4.3.0" },
            "devDependencies": { "mocha": "^10.0.0" }, "engines": { "node": ">=18" },
        })
        .to_string(),
        readme: None,
        description: "a package of our own".to_owned(),
        keywords: String::new(),
        dependencies: Vec::new(),
        assets: vec![asset],
        tags: vec!["latest".to_owned()],
        is_whole: true,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn told(what: &str, time: Duration) {
    println!("{what:<58} {:>9.2} ms", time.as_secs_f64() * 1000.0);
}

async fn fill(larder: &Larder, releases: impl Iterator<Item = NewRelease>) -> Duration {
    let started = Instant::now();
    let releases: Vec<NewRelease> = releases.collect();
    for of_package in releases.chunk_by(|a, b| a.package == b.package) {
        for chunk in of_package.chunks(CHUNK) {
            let record = |new: &NewRelease| Step::Record(Box::new(new.clone()));
            let steps: Vec<Step> = chunk.iter().map(record).collect();
            let packages = larder.store.packages();
            let package = &chunk[0].package;
            packages.apply("team", package, None, &steps).await.unwrap();
        }
    }
    started.elapsed()
}

async fn get(http: &reqwest::Client, url: &str, accept: &str) -> (Duration, usize) {
    let started = Instant::now();
    let response = http.get(url).header("accept", accept).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    let size = response.bytes().await.unwrap().len();
    (started.elapsed(), size)
}

async fn publish(http: &reqwest::Client, url: &str, name: &str, version: &str) -> Duration {
    own::publish(http, url, name, own::document(name, version, &[])).await
}

#[tokio::main]
async fn main() {
    larder::use_ring();
    let folder =
        tempfile::TempDir::new_in(std::env::current_dir().unwrap().join("target")).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (larder, url, stop) = start(folder.path()).await;
    let empty: Vec<Duration> = {
        let mut times = Vec::new();
        for index in 0..20 {
            times.push(publish(&http, &url, "acme-first", &format!("1.0.{index}")).await);
        }
        times
    };
    told("publish into an empty repository", median(empty));
    let versions = (0..VERSIONS).map(|index| {
        release(
            "acme-many",
            &format!("{}.{}.{}", index / 1000, index / 10 % 100, index % 10),
        )
    });
    told(
        "10,000 versions of one package recorded",
        fill(&larder, versions).await,
    );
    let packages = (0..PACKAGES).map(|index| release(&format!("acme-{index:06}"), "1.0.0"));
    told("100,000 packages recorded", fill(&larder, packages).await);
    stop.cancel();
    larder.stop().await;
    drop((larder, http));
    while larder::store::holder(folder.path()).is_some() {
        tokio::task::yield_now().await;
    }

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let started = Instant::now();
    let (larder, url, _stop) = start(folder.path()).await;
    told("start with that catalog", started.elapsed());
    let packument = format!("{url}/npm/team/acme-many");
    let short = "application/vnd.npm.install-v1+json";
    let (mut full_times, mut short_times, mut warm_times, mut publishes) =
        (vec![], vec![], vec![], vec![]);
    let mut size = 0;
    for index in 0..9 {
        publishes.push(publish(&http, &url, "acme-many", &format!("99.0.{index}")).await);
        let full = get(&http, &packument, "application/json").await;
        full_times.push(full.0);
        size = full.1;
        short_times.push(get(&http, &packument, short).await.0);
        for _ in 0..5 {
            warm_times.push(get(&http, &packument, short).await.0);
        }
    }
    told("publish the 10,001st version", median(publishes));
    println!("its packument has {:.1} MB", size as f64 / 1e6);
    told("packument after a publish, full", median(full_times));
    told("the same, short form beside it", median(short_times));
    told("packument again", median(warm_times));
    let mut manifests = Vec::new();
    for index in 0..9 {
        manifests.push(
            get(
                &http,
                &format!("{packument}/{index}.1.1"),
                "application/json",
            )
            .await
            .0,
        );
    }
    told("one version's manifest", median(manifests));
    let snapshot = larder.snapshot();
    let list = async |after: &str, limit: usize| {
        let command = ManageCommand::List {
            repository: "team".to_owned(),
            format: None,
            after: after.to_owned(),
            limit,
            which: Which::All,
        };
        let started = Instant::now();
        larder.manager.execute(&snapshot, command).await.unwrap();
        started.elapsed()
    };
    told(
        "list 100 of 100,000 packages, the first",
        list("", 100).await,
    );
    told(
        "list 100 of 100,000 packages, from the middle",
        list("npm:acme-050000", 100).await,
    );
    told("list 100,000 packages", list("", 200_000).await);
    let show = ManageCommand::Show {
        repository: "team".to_owned(),
        package: "npm:acme-many".to_owned(),
    };
    let started = Instant::now();
    larder.manager.execute(&snapshot, show).await.unwrap();
    told("list 10,000 versions with their files", started.elapsed());
    told(
        "search in 100,000 packages",
        get(
            &http,
            &format!("{url}/npm/team/-/v1/search?text=acme-0500"),
            "*/*",
        )
        .await
        .0,
    );
    let (mut publishes, mut documents) = (vec![], vec![]);
    for index in 0..20 {
        let name = format!("acme-new-{index}");
        publishes.push(publish(&http, &url, &name, "1.0.0").await);
        documents.push(get(&http, &format!("{url}/npm/team/{name}"), short).await.0);
    }
    told("publish the 100,001st package", median(publishes));
    told("its packument", median(documents));
    let mut documents = Vec::new();
    for index in (0..PACKAGES).step_by(PACKAGES / 50) {
        documents.push(
            get(&http, &format!("{url}/npm/team/acme-{index:06}"), short)
                .await
                .0,
        );
    }
    told(
        "packument of one of 100,000, not in memory",
        median(documents),
    );
    larder.stop().await;
}
