//! What was acknowledged is there, whatever happened: after a kill at any instant, a full cache, a
//! restart; on SQLite and on PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{TEAM, npm_document, npm_put};
use crate::command::Setup;
use crate::support::Chance;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::postgres::Postgres;
use crate::support::until;
use crate::support::{TestLarder, Upstream, integrity, pypi};

const KILLS: u64 = 100;

/// A tarball that takes its time.
fn large(name: &str, version: &str, chance: &mut Chance) -> Vec<u8> {
    let dependencies: Vec<(String, String)> = (0..200 + chance.below(2000))
        .map(|index| {
            (
                format!("d{index}"),
                format!("{}.{}.0", chance.below(1000), chance.below(1000)),
            )
        })
        .collect();
    let dependencies: Vec<(&str, &str)> = dependencies
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    tarball(name, version, &dependencies)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_a_hundred_times_nothing_acknowledged_is_lost_and_no_half_version_is_seen() {
    let upstream = Upstream::start().await;
    let setup = Setup::new(&format!("{}{TEAM}", config(&upstream, IMPATIENT)));
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut sent: BTreeMap<String, String> = BTreeMap::new();
    let (mut cut, mut half) = (0u64, 0u64);
    for round in 0..KILLS {
        let mut served = setup.serve().await;
        let mut tasks = tokio::task::JoinSet::new();
        let (done, mut acknowledgements) = tokio::sync::watch::channel(0u64);
        for client in 0..4u64 {
            let bodies: Vec<(String, Vec<u8>)> = (0..6)
                .map(|index| {
                    let version = format!("{round}.{client}.{index}");
                    let bytes = large("acme-crash", &version, &mut chance);
                    (version, bytes)
                })
                .collect();
            for (version, bytes) in &bodies {
                sent.insert(version.clone(), integrity(bytes));
            }
            let (http, url) = (http.clone(), format!("{}/npm/team/acme-crash", served.url));
            let done = done.clone();
            tasks.spawn(async move {
                let mut versions = Vec::new();
                for (version, bytes) in bodies {
                    let body = npm_document("acme-crash", &version, &bytes);
                    match http.put(&url).body(body).send().await {
                        Ok(response) if response.status() == 201 => {
                            versions.push(version);
                            done.send_modify(|done| *done += 1);
                        }
                        Ok(response) => panic!("{}", response.status()),
                        Err(_) => break,
                    }
                }
                versions
            });
        }
        // Among the publishes, however fast the machine is: behind so many of them, and then at
        // any instant of the next.
        let behind = chance.below(20);
        acknowledgements
            .wait_for(|done| *done >= behind)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_micros(chance.below(6000))).await;
        served.signal(rustix::process::Signal::KILL);
        served.child.wait().await.unwrap();
        let mut count = 0;
        while let Some(done) = tasks.join_next().await {
            for version in done.unwrap() {
                count += 1;
                let integrity = sent[&version].clone();
                acknowledged.insert(version, integrity);
            }
        }
        cut += u64::from(count < 24);
    }
    let url = setup.serve().await.unread();
    let get = async |path: String| http.get(format!("{url}{path}")).send().await.unwrap();
    let document: Value = serde_json::from_slice(
        &get("/npm/team/acme-crash".into())
            .await
            .bytes()
            .await
            .unwrap(),
    )
    .unwrap();
    let listed = document["versions"].as_object().unwrap();
    let lost: Vec<&String> = acknowledged
        .keys()
        .filter(|version| !listed.contains_key(*version))
        .collect();
    for (version, manifest) in listed {
        let response = get(format!("/npm/team/acme-crash/-/acme-crash-{version}.tgz")).await;
        let is_whole = response.status() == 200
            && integrity(&response.bytes().await.unwrap()) == sent[version]
            && manifest["dist"]["integrity"] == sent[version].as_str();
        half += u64::from(!is_whole);
    }
    println!(
        "{KILLS} kills, {cut} of them during publishes: {} sent, {} acknowledged, {} listed, {} lost, {half} half",
        sent.len(),
        acknowledged.len(),
        listed.len(),
        lost.len()
    );
    assert!(cut > KILLS / 2, "{cut} kills came during publishes");
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(half, 0);
    // What a kill left half done is gone.
    assert_eq!(
        std::fs::read_dir(setup.folder.path().join("data/partial"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_never_evicted_and_counts_for_no_bound() {
    let upstream = Upstream::start().await;
    let text = config(
        &upstream,
        &IMPATIENT.replace("[cache]\n", "[cache]\nmax_size = \"40KiB\"\n"),
    );
    let larder = TestLarder::with(&format!("{text}{TEAM}")).await;
    let own: Vec<u8> = large("acme-big", "1.0.0", &mut Chance::new(7));
    npm_put(&larder, "acme-big", npm_document("acme-big", "1.0.0", &own))
        .await
        .expect(201);
    let used = larder.larder.store.used_bytes();
    assert_eq!(used, 0, "what is published counts for no bound");
    for index in 0..12u64 {
        let name = format!("cold-{index}");
        let dependencies: Vec<(String, String)> = (0..300)
            .map(|it| (format!("d{it}-{index}"), "*".to_owned()))
            .collect();
        let dependencies: Vec<(&str, &str)> = dependencies
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        publish(&upstream, &name, &[version("1.0.0", &dependencies)]);
        larder
            .get(&format!("/npm/team/{name}/-/{name}-1.0.0.tgz"))
            .await
            .expect(200);
    }
    until("the cache is within its bound", async || {
        larder.larder.store.used_bytes() <= 40 * 1024
    })
    .await;
    let data = larder.stop().await;
    // The cache's own rows may be deleted; what is published does not depend on them.
    std::fs::remove_file(data.path().join("larder.sqlite")).unwrap();
    let larder = TestLarder::in_dir(&format!("{text}{TEAM}"), data).await;
    let tarball = larder
        .get("/npm/team/acme-big/-/acme-big-1.0.0.tgz")
        .await
        .expect(200);
    assert_eq!(tarball.bytes(), &own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_a_hundred_mebibytes_takes_little_memory() {
    let upstream = Upstream::start().await;
    let setup = Setup::new(&format!("{}{TEAM}", config(&upstream, IMPATIENT)));
    let served = setup.serve().await;
    let mut chance = Chance::new(11);
    let noise: Vec<u8> = (0..100 * 1024 * 1024 / 8)
        .flat_map(|_| chance.below(u64::from(u32::MAX)).to_le_bytes())
        .collect();
    let mut archive =
        zip::ZipWriter::new_append(std::io::Cursor::new(pypi::wheel("acme-heavy", "1.0", &[])))
            .unwrap();
    use std::io::Write as _;
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("acme_heavy_data.bin", stored).unwrap();
    archive.write_all(&noise).unwrap();
    let wheel = archive.finish().unwrap().into_inner();
    let mut body = b"--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"acme_heavy-1.0-py3-none-any.whl\"\r\n\r\n".to_vec();
    body.extend_from_slice(&wheel);
    body.extend_from_slice(b"\r\n--B--\r\n");
    let pid = served.child.id().unwrap();
    let response = reqwest::Client::new()
        .post(format!("{}/pypi/team/", served.url))
        .header("content-type", "multipart/form-data; boundary=B")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    // npm's file comes as a string within JSON, a third longer.
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut archive = tar::Builder::new(encoder);
    let manifest = br#"{"name":"acme-heavy","version":"1.0.0"}"#;
    for (file, bytes) in [
        ("package/package.json", &manifest[..]),
        ("package/data.bin", &noise),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, file, bytes).unwrap();
    }
    let tarball = archive.into_inner().unwrap().finish().unwrap();
    let response = reqwest::Client::new()
        .put(format!("{}/npm/team/acme-heavy", served.url))
        .body(npm_document("acme-heavy", "1.0.0", &tarball))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap();
    println!(
        "publishing a wheel and a tarball of 100 MiB: peak resident {} MiB",
        peak / 1024
    );
    assert!(peak < 96 * 1024, "{peak} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_catalog_works_on_postgresql() {
    let postgres = Postgres::start(&[]).await;
    let upstream = Upstream::start().await;
    let data = tempfile::TempDir::new().unwrap();
    let secret = data.path().join("database");
    std::fs::write(&secret, &postgres.url).unwrap();
    let text = format!(
        "{}{TEAM}[packages]\ndatabase = {{ file = \"{}\" }}\n",
        config(&upstream, IMPATIENT),
        secret.display()
    );
    let larder = TestLarder::in_dir(&text, data).await;
    for version in ["1.0.0", "1.1.0"] {
        let document = npm_document(
            "acme-lib",
            version,
            &tarball("acme-lib", version, &[("left-pad", "^1")]),
        );
        npm_put(&larder, "acme-lib", document.clone())
            .await
            .expect(201);
        npm_put(&larder, "acme-lib", document).await.expect(200);
    }
    let other = npm_document(
        "acme-lib",
        "1.0.0",
        &tarball("acme-lib", "1.0.0", &[("x", "*")]),
    );
    npm_put(&larder, "acme-lib", other).await.expect(409);
    super::python::upload(
        &larder,
        "acme_py-1.0-py3-none-any.whl",
        &pypi::wheel("acme-py", "1.0", &[]),
        &[],
    )
    .await
    .expect(200);
    let bodies: Vec<bytes::Bytes> = (0..8)
        .map(|index| {
            npm_document(
                "acme-race",
                "1.0.0",
                &tarball("acme-race", "1.0.0", &[("x", &format!("^{index}.0.0"))]),
            )
        })
        .collect();
    let answers = futures_util::future::join_all(
        bodies
            .iter()
            .map(|body| npm_put(&larder, "acme-race", body.clone())),
    )
    .await;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    let lost = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!(
        (won, lost),
        (1, 7),
        "{:?}",
        answers.iter().map(|it| it.status).collect::<Vec<_>>()
    );
    let unlisted = larder::package::Status::Unlisted;
    larder
        .set_status("team", "npm:acme-lib", "1.1.0", unlisted)
        .await;
    let data = larder.stop().await;
    let larder = TestLarder::in_dir(&text, data).await;
    assert_eq!(super::npm_versions(&larder, "acme-lib").await, ["1.0.0"]);
    larder
        .get("/npm/team/acme-lib/-/acme-lib-1.1.0.tgz")
        .await
        .expect(200);
    larder.get("/pypi/team/simple/acme-py/").await.expect(200);
    let found = larder
        .get("/npm/team/-/v1/search?text=acme")
        .await
        .expect(200)
        .json();
    assert_eq!(found["total"], 2);
    larder.stop().await;
}
