//! What is stored belongs to the place that was asked and to whose credentials were sent there, not to the
//! name of a connection.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use larder::repository::upkeep::{UpkeepCommand, UpkeepOutcome};
use sqlx::Connection as _;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::{Reply, TestLarder, Upstream, nuget, pypi, sha1};

/// A registry of every format with packages of this version, and a file whose name says nothing of it.
async fn registry(of: &str) -> Upstream {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    nuget::publish(&upstream, "Acme.Lib", &[of], false);
    publish(&upstream, "left-pad", &[version(of, &[])]);
    pypi::publish(&upstream, &upstream, "six", &[(of, &[])], true);
    let metadata = format!(
        "<metadata><groupId>x</groupId><artifactId>a</artifactId><versioning><versions><version>{of}</version></versions></versioning></metadata>"
    );
    upstream.put(
        "/maven2/x/a/maven-metadata.xml",
        Reply::typed("text/xml", metadata).header("etag", "\"old or new\""),
    );
    for path in [
        format!("/maven2/x/a/{of}/a-{of}.jar"),
        "/maven2/x/a/1/a-1.jar".to_owned(),
    ] {
        let bytes = format!("made by {of}");
        let digest = sha1(bytes.as_bytes());
        upstream.put(&path, Reply::bytes(bytes));
        let digest = Reply::typed("text/plain", digest);
        upstream.put(&format!("{path}.sha1"), digest);
    }
    upstream
}

const DOCUMENTS: [&str; 4] = [
    "/npm/public/left-pad",
    "/pypi/public/simple/six/",
    "/maven/public/x/a/maven-metadata.xml",
    "/nuget/public/v3/flat/acme.lib/index.json",
];

/// Files of that version.
fn files(version: &str) -> [String; 3] {
    [
        format!("/npm/public/left-pad/-/left-pad-{version}.tgz"),
        format!("/maven/public/x/a/{version}/a-{version}.jar"),
        format!("/nuget/public/v3/flat/acme.lib/{version}/acme.lib.{version}.nupkg"),
    ]
}

/// Asks for everything that a registry of `here` has, and for what one of `elsewhere` has.
async fn serves(larder: &TestLarder, here: &str, elsewhere: &str) {
    for path in DOCUMENTS {
        let text = larder.get(path).await.expect(200).text();
        assert!(text.contains(here), "{path}: {text}");
        assert!(!text.contains(elsewhere), "{path}: {text}");
    }
    for path in files(here) {
        larder.get(&path).await.expect(200);
    }
    for path in files(elsewhere) {
        larder.get(&path).await.expect(404);
    }
    let text = larder.get("/maven/public/x/a/1/a-1.jar").await.text();
    assert_eq!(text, format!("made by {here}"));
}

fn assert_never_asked_by_validators(upstream: &Upstream) {
    for seen in upstream.seen() {
        let has = |name| seen.headers.contains_key(name);
        assert!(!has(IF_NONE_MATCH) && !has(IF_MODIFIED_SINCE), "{seen:?}");
    }
}

#[tokio::test]
async fn a_changed_address_is_another_registry_after_a_reload() {
    let (old, new) = (registry("1.1.1").await, registry("2.2.2").await);
    let larder = TestLarder::start(&old).await;
    serves(&larder, "1.1.1", "2.2.2").await;
    larder.reload(&config(&new, IMPATIENT)).await;
    serves(&larder, "2.2.2", "1.1.1").await;
    assert_never_asked_by_validators(&new);
    // The old address has what it had.
    old.forget_seen();
    larder.reload(&config(&old, IMPATIENT)).await;
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.get(&files("1.1.1")[0]).await.expect(200);
    assert!(old.seen().is_empty(), "{:?}", old.seen());
}

#[tokio::test]
async fn a_changed_address_is_another_registry_after_a_start() {
    let (old, new) = (registry("1.1.1").await, registry("2.2.2").await);
    let larder = TestLarder::start(&old).await;
    serves(&larder, "1.1.1", "2.2.2").await;
    let data = larder.stop().await;
    let larder = TestLarder::in_dir(&config(&new, IMPATIENT), data).await;
    serves(&larder, "2.2.2", "1.1.1").await;
    assert_never_asked_by_validators(&new);
}

/// The addresses of the four registries, and their formats.
const PLACES: [(&str, &str); 4] = [
    ("npm", "/npm/"),
    ("pypi", "/simple/"),
    ("maven", "/maven2/"),
    ("nuget", "/v3/index.json"),
];

/// Says that the registries at one host are those at another.
async fn say_moved(larder: &TestLarder, old: &Upstream, new: &Upstream) {
    for (format, path) in PLACES {
        let command = UpkeepCommand::MoveRegistry {
            from: format!("{}{path}", old.url()),
            to: format!("{}{path}", new.url()),
            format: Some(format.to_owned()),
        };
        let outcome = larder.larder.upkeep(command).await.unwrap();
        let UpkeepOutcome::Moved { files, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(files > 0 || format == "pypi", "{format}");
    }
}

/// Files come from here, and documents are asked for anew, in full.
async fn kept_its_files(larder: &TestLarder, new: &Upstream) {
    new.forget_seen();
    for path in files("1.1.1") {
        larder.get(&path).await.expect(200);
    }
    let endings = [".tgz", ".jar", ".nupkg"];
    assert_eq!(new.count_ending(&endings), 0, "{:?}", new.seen());
    for path in DOCUMENTS {
        larder.get(path).await.expect(200);
    }
    assert_never_asked_by_validators(new);
}

#[tokio::test]
async fn a_registry_that_moved_keeps_what_is_stored_when_the_move_is_said_before() {
    let (old, new) = (registry("1.1.1").await, registry("1.1.1").await);
    let larder = TestLarder::start(&old).await;
    serves(&larder, "1.1.1", "2.2.2").await;
    say_moved(&larder, &old, &new).await;
    larder.reload(&config(&new, IMPATIENT)).await;
    kept_its_files(&larder, &new).await;
    // What the new address does not answer is served from here.
    new.vanish();
    for path in DOCUMENTS {
        larder.get(path).await.expect(200);
    }
}

#[tokio::test]
async fn a_registry_that_moved_keeps_what_is_stored_when_the_move_is_said_afterwards() {
    let (old, new) = (registry("1.1.1").await, registry("1.1.1").await);
    let larder = TestLarder::start(&old).await;
    serves(&larder, "1.1.1", "2.2.2").await;
    larder.reload(&config(&new, IMPATIENT)).await;
    larder.get(DOCUMENTS[0]).await.expect(200);
    say_moved(&larder, &old, &new).await;
    kept_its_files(&larder, &new).await;
}

#[tokio::test]
async fn a_move_that_means_nothing_is_refused_with_a_word() {
    let upstream = registry("1.1.1").await;
    let larder = TestLarder::start(&upstream).await;
    larder.get(DOCUMENTS[0]).await.expect(200);
    let own = format!("{}/npm/", upstream.url());
    for (from, to, format, says) in [
        (
            "https://unknown.example/",
            own.as_str(),
            None,
            "nothing is stored",
        ),
        (&own, &own, None, "the same"),
        (&own, "unknown.example", None, "no address of a registry"),
        (
            &own,
            "https://new.example/",
            Some("maven"),
            "nothing is stored",
        ),
        (&own, "https://new.example/", Some("mavn"), "mavn"),
    ] {
        let command = UpkeepCommand::MoveRegistry {
            from: from.to_owned(),
            to: to.to_owned(),
            format: format.map(str::to_owned),
        };
        let problem = larder.larder.upkeep(command).await.unwrap_err();
        assert!(problem.to_string().contains(says), "{problem}");
    }
    // Nothing was changed by it.
    upstream.forget_seen();
    larder.get(DOCUMENTS[0]).await.expect(200);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn what_a_credential_was_given_is_not_given_without_it_and_stays_when_it_is_renewed() {
    let upstream = registry("1.1.1").await;
    let text = |token: &str| {
        let url = upstream.url();
        let url = url.replace("http://", &format!("http://ci:{token}@"));
        format!(
            "{}[[connection]]\nname = \"secret\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n\
             [[repository]]\nname = \"closed\"\nexternal_connections = [\"secret\"]\n\
             [[repository]]\nname = \"open\"\nexternal_connections = [\"up:npm\"]\n",
            config(&upstream, IMPATIENT)
        )
    };
    let larder = TestLarder::with(&text("first")).await;
    let file = "left-pad/-/left-pad-1.1.1.tgz";
    let ask = async |larder: &TestLarder, repository: &str| {
        upstream.forget_seen();
        for path in ["left-pad", file] {
            let path = format!("/npm/{repository}/{path}");
            larder.get(&path).await.expect(200);
        }
        upstream.seen().len()
    };
    assert!(ask(&larder, "closed").await > 0);
    assert!(ask(&larder, "open").await > 0, "it was the credential's");
    larder.reload(&text("second")).await;
    assert_eq!(ask(&larder, "closed").await, 0);
    let data = larder.stop().await;
    let larder = TestLarder::in_dir(&text("third"), data).await;
    assert_eq!(ask(&larder, "closed").await, 0);
    assert_eq!(ask(&larder, "open").await, 0);
}

#[tokio::test]
async fn a_connection_that_is_renamed_keeps_what_is_there() {
    let upstream = registry("1.1.1").await;
    let larder = TestLarder::start(&upstream).await;
    let path = &files("1.1.1")[0];
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.get(path).await.expect(200);
    let data = larder.stop().await;
    upstream.forget_seen();
    let text = config(&upstream, IMPATIENT).replace("\"up:", "\"other:");
    let larder = TestLarder::in_dir(&text, data).await;
    let status = larder.get("/npm/public/left-pad").await.expect(200);
    assert!(status.header("cache-status").contains("other:npm"));
    larder.get(path).await.expect(200);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn rows_of_an_earlier_version_are_those_of_the_connection_of_their_name() {
    let (old, new) = (registry("1.1.1").await, registry("2.2.2").await);
    let larder = TestLarder::start(&old).await;
    let path = &files("1.1.1")[0];
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.get(path).await.expect(200);
    let data = larder.stop().await;
    // What such a version leaves: rows by the names of connections, and no registries.
    let url = format!("sqlite://{}", data.path().join("larder.sqlite").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for sql in [
        "UPDATE document SET connection = 'up:npm'",
        "UPDATE asset SET connection = 'up:npm'",
        "DROP TABLE registry",
        "DELETE FROM _sqlx_migrations WHERE description = 'registries'",
    ] {
        sqlx::query(sql).execute(&mut database).await.unwrap();
    }
    database.close().await.unwrap();
    old.forget_seen();
    let larder = TestLarder::in_dir(&config(&old, IMPATIENT), data).await;
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.get(path).await.expect(200);
    assert!(old.seen().is_empty(), "{:?}", old.seen());
    larder.reload(&config(&new, IMPATIENT)).await;
    serves(&larder, "2.2.2", "1.1.1").await;
    assert_never_asked_by_validators(&new);
}
