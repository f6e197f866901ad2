//! Stored files that are not what they were.

use std::path::Path;

use larder::repository::upkeep::{UpkeepCommand, UpkeepOutcome, VerifyProgress};
use reqwest::Method;

use crate::publish::{TEAM, npm_document, npm_put};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::publish;
use crate::support::npm::{tarball, version};
use crate::support::{TestLarder, Upstream, noise, sha256};

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 5] = [
    ("a byte is another", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(file, bytes).unwrap();
    }),
    ("it is shorter", |file| {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 3]).unwrap();
    }),
    ("it is empty", |file| std::fs::write(file, "").unwrap()),
    ("it is longer", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes.extend_from_slice(b"more");
        std::fs::write(file, bytes).unwrap();
    }),
    ("it is gone", |file| std::fs::remove_file(file).unwrap()),
];

const OWN: &str = "/npm/team/acme/-/acme-1.0.0.tgz";
const WARM: &str = "/npm/team/warm/-/warm-1.0.0.tgz";

/// Dependencies that make a tarball of about so many bytes.
fn dependencies(bytes: usize) -> Vec<(String, String)> {
    let words = noise(bytes, 5);
    let words = words.chunks(30).map(hex::encode);
    words.map(|word| (word, "*".to_owned())).collect()
}

struct Bad {
    larder: TestLarder,
    upstream: Upstream,
    own: Vec<u8>,
    warm: Vec<u8>,
}

impl Bad {
    /// A published and a cached file of that size, both used, and then damaged while nobody serves.
    async fn day(bytes: usize, damage: Damage) -> Self {
        let upstream = Upstream::start().await;
        let dependencies = dependencies(bytes);
        let dependencies: Vec<(&str, &str)> = dependencies
            .iter()
            .map(|(name, range)| (name.as_str(), range.as_str()))
            .collect();
        publish(&upstream, "warm", &[version("1.0.0", &dependencies)]);
        let warm = tarball("warm", "1.0.0", &dependencies);
        let own = tarball("acme", "1.0.0", &dependencies);
        let text = format!("{}{TEAM}", config(&upstream, IMPATIENT));
        let larder = TestLarder::with(&text).await;
        let document = npm_document("acme", "1.0.0", &own);
        npm_put(&larder, "acme", document).await.expect(201);
        larder.get(WARM).await.expect(200);
        larder.wait_for_blob(&warm, true).await;
        let data = larder.stop().await;
        for bytes in [&own, &warm] {
            let name = sha256(bytes);
            damage(&data.path().join("blobs/sha256").join(&name[..2]).join(name));
        }
        Self {
            larder: TestLarder::in_dir(&text, data).await,
            upstream,
            own,
            warm,
        }
    }

    async fn verify(&self, repair: bool) -> VerifyProgress {
        let command = UpkeepCommand::Verify { anew: true, repair };
        match self.larder.larder.upkeep(command).await.unwrap() {
            UpkeepOutcome::Verified(step) => step,
            other => panic!("{other:?}"),
        }
    }

    async fn has_warm(&self, what: &str) {
        // Twice: the second answer may be one that is given again.
        for _ in 0..2 {
            let answer = self.larder.get(WARM).await.expect(200);
            assert!(answer.bytes() == &self.warm, "{what}");
        }
        // Its end was sent when it was verified, and its file gets its name behind that.
        self.larder.wait_for_blob(&self.warm, true).await;
    }

    /// The published file is refused, however it is asked for.
    async fn refuses_own(&self, what: &str) {
        let etag = format!("\"{}\"", &sha256(&self.own)[..32]);
        let conditions: [&[(&str, &str)]; 3] =
            [&[], &[("if-none-match", &etag)], &[("range", "bytes=0-9")]];
        for method in [Method::GET, Method::HEAD] {
            for headers in conditions {
                let answer = self.larder.send(method.clone(), OWN, headers, None).await;
                assert_eq!(answer.status, 500, "{what}: {method} {headers:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn is_served_as_whole_to_nobody_once_verify_has_seen_it() {
    for (what, damage) in DAMAGES {
        for (size, repair) in [(500, false), (500, true), (100_000, false), (100_000, true)] {
            let bad = Bad::day(size, damage).await;
            // Asked for before anybody has looked, and answered from memory from then on.
            for path in [OWN, WARM, OWN, WARM] {
                bad.larder.get(path).await;
            }
            let step = bad.verify(repair).await;
            let mut assets: Vec<_> = step.damaged.iter().flat_map(|it| &it.assets).collect();
            assets.retain(|it| it.starts_with("npm:acme/"));
            assert_eq!(assets.len(), 1, "{what} of {size}: {step:?}");
            bad.has_warm(what).await;
            bad.refuses_own(what).await;
            // It is named until it is whole.
            let again = bad.verify(repair).await;
            assert_eq!(again.damaged.len(), 1, "{what} of {size}: {again:?}");
            let name = sha256(&bad.own);
            let file = bad.larder.data.path().join("blobs/sha256").join(&name[..2]);
            std::fs::write(file.join(&name), &bad.own).unwrap();
            assert!(bad.verify(repair).await.damaged.is_empty(), "{what}");
            let answer = bad.larder.get(OWN).await.expect(200);
            assert!(answer.bytes() == &bad.own, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_another_length_is_a_miss_or_an_error_at_once() {
    for (what, damage) in &DAMAGES[1..] {
        for size in [500, 100_000] {
            let bad = Bad::day(size, *damage).await;
            bad.has_warm(what).await;
            bad.refuses_own(what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_is_small_is_held_against_its_name_before_it_is_served() {
    let (what, damage) = DAMAGES[0];
    let bad = Bad::day(500, damage).await;
    bad.has_warm(what).await;
    bad.refuses_own(what).await;
    let fetched = bad.upstream.count("/npm/warm/-/warm-1.0.0.tgz");
    assert_eq!(fetched, 2, "once before, and once again");
}

#[tokio::test(flavor = "multi_thread")]
async fn is_found_in_the_background_and_told_of() {
    let (_, damage) = DAMAGES[0];
    let bad = Bad::day(100_000, damage).await;
    let larder = &bad.larder.larder;
    let events = bad.larder.data.path().join("events");
    let text = format!(
        "{}{TEAM}[[target]]\nname = \"log\"\nfile = {events:?}\n",
        config(&bad.upstream, IMPATIENT)
    );
    bad.larder.reload(&text).await;
    let reader = larder.repositories.reader();
    larder::repository::scrub::step(reader, &larder.snapshot(), 1 << 20)
        .await
        .unwrap();
    bad.refuses_own("scrubbed").await;
    bad.has_warm("scrubbed").await;
    let told = crate::support::eventually("both are told of", async || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        (text.matches("Larder Stored File Damaged").count() == 2).then_some(text)
    })
    .await;
    assert!(told.contains("npm:acme/acme-1.0.0.tgz"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn becomes_shorter_while_it_is_served() {
    for bytes in [100_000, 300_000] {
        let bad = Bad::day(bytes, |_| {}).await;
        for path in [OWN, WARM] {
            bad.larder.get(path).await.expect(200);
        }
        for whole in [&bad.own, &bad.warm] {
            let name = sha256(whole);
            let blobs = bad.larder.data.path().join("blobs/sha256");
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(blobs.join(&name[..2]).join(&name));
            file.unwrap().set_len(whole.len() as u64 / 2).unwrap();
        }
        for _ in 0..2 {
            let warm = bad.larder.get(WARM).await.expect(200);
            assert!(warm.bytes() == &bad.warm, "other bytes");
            bad.larder.get(OWN).await.expect(500);
            let head = bad.larder.send(Method::HEAD, OWN, &[], None).await;
            assert_eq!(head.status, 500);
        }
    }
}
