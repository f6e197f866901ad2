//! A Larder before CodeArtifact gets its tokens itself, from AWS's own chain of credentials, so
//! that who asks it holds none. Another Larder is the CodeArtifact.

use bytes::Bytes;
use larder::access::manage::AccessCommand;
use serde_json::{Value, json};

use super::{DOMAIN, OWNER, guarded, key, policy};
use crate::command::{Served, Setup};
use crate::publish::npm_document;
use crate::support::npm::{publish, tarball, version};
use crate::support::{Reply, TestLarder, Upstream, pypi};

/// A connection of each format to a repository of a domain's.
fn behind(registry: &str, api: &str) -> String {
    let auth = format!(
        "auth = {{ aws_codeartifact = {{ domain = \"{DOMAIN}\", owner = \"{OWNER}\", region = \"us-east-1\", endpoint = \"{api}\" }} }}\n"
    );
    let connection = |format: &str, path: &str| {
        format!(
            "[[connection]]\nname = \"ca:{format}\"\nformat = \"{format}\"\nurl = \"{registry}{path}\"\n{auth}"
        )
    };
    format!(
        "{}{}{}{}[[repository]]\nname = \"public\"\nexternal_connections = [\"ca:npm\", \"ca:pypi\", \"ca:maven\", \"ca:nuget\"]\npublish = \"forward:ca:npm\"\n",
        connection("npm", "/npm/team/"),
        connection("pypi", "/pypi/team/simple/"),
        connection("maven", "/maven/team/"),
        connection("nuget", "/nuget/team/v3/index.json"),
    )
}

/// A sidecar whose chain has nothing but these variables.
async fn sidecar(setup: &Setup, variables: &[(&str, &str)]) -> Served {
    let mut all = vec![
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("LARDER_AHEAD_ENABLED", "false"),
    ];
    all.extend_from_slice(variables);
    setup.serve_with(&all).await
}

async fn get(served: &Served, path: &str) -> reqwest::Response {
    reqwest::get(format!("{}{path}", served.url)).await.unwrap()
}

/// What CodeArtifact has: a package of each format, for nobody without a token.
async fn office() -> (Upstream, TestLarder) {
    let (upstream, office) = guarded().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let who = format!("arn:aws:iam::{OWNER}:user/agent");
    let allow = json!({ "Statement": [{ "Effect": "Allow", "Principal": { "AWS": who }, "Action": "*", "Resource": "*" }] });
    policy(&office, None, &allow).await;
    policy(&office, Some("team"), &allow).await;
    (upstream, office)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_role_reads_and_publishes_in_every_format_and_outlives_its_token() {
    let (upstream, office) = office().await;
    assert_eq!(office.get("/npm/team/left-pad").await.status, 401);
    let (id, secret) = key(&office, "agent").await;
    let role = Upstream::start().await;
    let credentials = json!({ "AccessKeyId": id, "SecretAccessKey": secret, "Token": "session", "Expiration": "2090-01-01T00:00:00Z" });
    role.put("/role", Reply::json(credentials.to_string()));
    let setup = Setup::new(&behind(&office.url, &office.url));
    let address = format!("{}/role", role.url());
    let served = sidecar(&setup, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address)]).await;
    let packument = get(&served, "/npm/public/left-pad").await;
    let packument: Value = serde_json::from_slice(&packument.bytes().await.unwrap()).unwrap();
    let path = packument["versions"]["1.3.0"]["dist"]["tarball"]
        .as_str()
        .unwrap();
    let answer = reqwest::get(path).await.unwrap();
    assert_eq!(
        answer.bytes().await.unwrap(),
        tarball("left-pad", "1.3.0", &[])
    );
    upstream.put(
        "/maven2/org/acme/lib/1/lib-1.pom",
        Reply::bytes("<project/>"),
    );
    for path in [
        "/pypi/public/simple/six/",
        "/maven/public/org/acme/lib/1/lib-1.pom",
        "/nuget/public/v3/index.json",
    ] {
        assert_eq!(get(&served, path).await.status(), 200, "{path}");
    }
    // From here on CodeArtifact takes none of its old tokens.
    let rotate = AccessCommand::TokenRotate { at_once: true };
    office.larder.administer(rotate).await.unwrap();
    assert_eq!(get(&served, "/npm/public/once").await.status(), 404);
    let package = Bytes::from(tarball("acme-lib", "1.0.0", &[]));
    let answer = reqwest::Client::new()
        .put(format!("{}/npm/public/acme-lib", served.url))
        .header("content-type", "application/json")
        .body(npm_document("acme-lib", "1.0.0", &package))
        .send()
        .await
        .unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
    assert_eq!(get(&served, "/npm/public/acme-lib").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_a_profile_and_a_web_identity_are_asked_too() {
    let (_upstream, office) = office().await;
    let (id, secret) = key(&office, "agent").await;
    let setup = Setup::new(&behind(&office.url, &office.url));
    let variables = [
        ("AWS_ACCESS_KEY_ID", id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
    ];
    let served = sidecar(&setup, &variables).await;
    assert_eq!(get(&served, "/npm/public/left-pad").await.status(), 200);
    let setup = Setup::new(&behind(&office.url, &office.url));
    let profile = format!("[agent]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    std::fs::write(setup.at("credentials"), profile).unwrap();
    let file = setup.at("credentials");
    let variables = [
        ("AWS_SHARED_CREDENTIALS_FILE", file.as_str()),
        ("AWS_PROFILE", "agent"),
    ];
    let served = sidecar(&setup, &variables).await;
    assert_eq!(get(&served, "/npm/public/left-pad").await.status(), 200);
    let sts = Upstream::start().await;
    let answer = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>session</SessionToken><Expiration>2090-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    sts.put("/", Reply::typed("text/xml", answer));
    let setup = Setup::new(&behind(&office.url, &office.url));
    std::fs::write(setup.at("jwt"), "a token of the platform").unwrap();
    let (file, sts) = (setup.at("jwt"), sts.url());
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/build"),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
    ];
    let served = sidecar(&setup, &variables).await;
    assert_eq!(get(&served, "/npm/public/left-pad").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_the_answer_says_what_to_check() {
    let (_upstream, office) = office().await;
    let setup = Setup::new(&behind(&office.url, &office.url));
    let served = sidecar(&setup, &[]).await;
    let answer = get(&served, "/npm/public/left-pad").await;
    assert_eq!(answer.status(), 502);
    let said = answer.text().await.unwrap();
    assert!(said.contains("CodeArtifact gives no token"), "{said}");
    assert!(said.contains("check AWS's credentials"), "{said}");
    // A key that CodeArtifact does not know.
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIAOTHER"),
        ("AWS_SECRET_ACCESS_KEY", "other"),
    ];
    let setup = Setup::new(&behind(&office.url, &office.url));
    let served = sidecar(&setup, &variables).await;
    let said = get(&served, "/npm/public/left-pad")
        .await
        .text()
        .await
        .unwrap();
    assert!(said.contains("status 403"), "{said}");
}

/// CodeArtifact's answer, with a token that ends so many seconds from now.
fn gives(api: &Upstream, token: &str, seconds: i64) {
    let ends = jiff::Timestamp::now().as_second() + seconds;
    let answer = json!({ "authorizationToken": token, "expiration": ends });
    api.put("/v1/authorization-token", Reply::json(answer.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_until_it_is_about_to_end() {
    let registry = Upstream::start().await;
    let api = Upstream::start().await;
    for name in ["a", "b", "c", "d"] {
        publish(&registry, name, &[version("1.0.0", &[])]);
    }
    let mut text = behind(&registry.url(), &api.url());
    text = text.replace("/npm/team/", "/npm/");
    let setup = Setup::new(&text);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    let served = sidecar(&setup, &variables).await;
    gives(&api, "first", 0);
    let carried = || {
        let seen = registry.seen();
        let last = seen.last().unwrap();
        last.headers["authorization"].to_str().unwrap().to_owned()
    };
    assert_eq!(get(&served, "/npm/public/a").await.status(), 200);
    assert_eq!(carried(), "Bearer first");
    // It has ended by now, and so another one is asked for, which lasts.
    gives(&api, "second", 3600);
    for name in ["b", "c"] {
        assert_eq!(
            get(&served, &format!("/npm/public/{name}")).await.status(),
            200
        );
        assert_eq!(carried(), "Bearer second");
    }
    assert_eq!(api.count("/v1/authorization-token"), 2);
    let seen = api.seen();
    let authorization = seen[0].headers["authorization"].to_str().unwrap();
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIA/"),
        "{authorization}"
    );
    // Whether its giver is well is no concern while it lasts.
    api.always(Some(crate::support::Fault::Status(500, None)));
    let answer = get(&served, "/npm/public/d").await;
    assert_eq!(answer.status(), 200);
}
