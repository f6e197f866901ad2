//! Every format's channel asks who it is, takes what its clients send, and lets in whom policies
//! allow.

use base64::Engine as _;
use larder::access::manage::{AccessCommand, AccessOutcome};
use larder::access::{Caller, Proof};
use serde_json::json;

use super::{OWNER, guarded, guarded_and, key, policy, token};
use crate::publish::npm_document;
use crate::support::npm::{publish, tarball, version};
use crate::support::{TestLarder, Upstream, pypi};

const OTHER: &str = "arn:aws:iam::222233334444:user/ada";

fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

fn fill(upstream: &Upstream) {
    publish(upstream, "left-pad", &[version("1.3.0", &[])]);
    pypi::publish(upstream, upstream, "six", &[("1.0", &[])], true);
}

async fn status(larder: &TestLarder, path: &str, headers: &[(&str, &str)]) -> u16 {
    larder.get_with(path, headers).await.status
}

#[tokio::test]
async fn without_credentials_nobody_gets_anything_and_every_clients_way_is_taken() {
    let (upstream, larder) = guarded().await;
    fill(&upstream);
    let (_, token) = token(&larder, "root").await;
    let paths = [
        "/npm/team/left-pad",
        "/npm/team/left-pad/-/left-pad-1.3.0.tgz",
        "/pypi/team/simple/six/",
        "/nuget/team/v3/index.json",
    ];
    let ways = [
        ("authorization", format!("Bearer {token}")),
        ("authorization", basic("aws", &token)),
        ("authorization", basic("anybody", &token)),
        ("authorization", basic(&token, "")),
        ("x-nuget-apikey", token.clone()),
    ];
    for path in paths {
        let refused = larder.get(path).await.expect(401);
        assert!(refused.header("www-authenticate").starts_with("Basic "));
        for (name, value) in &ways {
            assert_eq!(status(&larder, path, &[(name, value)]).await, 200, "{path}");
            // The answer that is at hand now is at nobody else's.
            larder.get(path).await.expect(401);
        }
        for wrong in ["Bearer lrd_wrong", "Bearer ", "Negotiate x"] {
            let wrong = [("authorization", wrong)];
            assert_eq!(status(&larder, path, &wrong).await, 401, "{path}");
        }
    }
    // What says whether Larder lives is for everybody.
    larder.get("/-/ready").await.expect(200);
    larder
        .get("/-/decide?repository=team&package=npm:left-pad&version=1.3.0")
        .await
        .expect(401);
}

#[tokio::test]
async fn a_token_that_was_revoked_or_has_expired_holds_no_more_even_for_what_is_at_hand() {
    let (upstream, larder) = guarded().await;
    fill(&upstream);
    let access = &larder.larder.access;
    let (id, machine) = token(&larder, "root").await;
    let (owner_id, _) = key(&larder, "root").await;
    let owner = Caller {
        principal: larder::access::Principal::root(OWNER),
        proof: Proof::Key(owner_id.as_str().into()),
    };
    let signed = access.token_for(&owner, 900).unwrap().token;
    let past = access.token_for(&owner, -1).unwrap().token;
    let get = async |token: &str| {
        let bearer = format!("Bearer {token}");
        status(&larder, "/npm/team/left-pad", &[("authorization", &bearer)]).await
    };
    assert_eq!(
        (get(&machine).await, get(&signed).await, get(&past).await),
        (200, 200, 401)
    );
    for token in [id, signed.clone()] {
        let revoke = AccessCommand::TokenRevoke { token };
        larder.larder.administer(revoke).await.unwrap();
    }
    assert_eq!((get(&machine).await, get(&signed).await), (401, 401));
    // Another key signs; what the old one signed holds on, unless it is to end at once.
    let second = access.token_for(&owner, 900).unwrap().token;
    let rotate = |at_once| AccessCommand::TokenRotate { at_once };
    larder.larder.administer(rotate(false)).await.unwrap();
    let third = access.token_for(&owner, 900).unwrap().token;
    assert_eq!((get(&second).await, get(&third).await), (200, 200));
    larder.larder.administer(rotate(true)).await.unwrap();
    assert_eq!((get(&second).await, get(&third).await), (401, 401));
}

#[tokio::test]
async fn another_accounts_users_read_once_a_policy_says_so_and_publish_only_what_it_names() {
    let (upstream, larder) = guarded().await;
    fill(&upstream);
    let (_, ada) = token(&larder, OTHER).await;
    let ada = format!("Bearer {ada}");
    let headers = [("authorization", ada.as_str())];
    let denied = larder.get_with("/npm/team/left-pad", &headers).await;
    let text = denied.expect(403).text();
    assert!(text.contains("no statement of any policy"), "{text}");
    // The cross-account read policy of CodeArtifact's guide.
    let guide = json!({ "Version": "2012-10-17", "Statement": [{
        "Action": ["codeartifact:ReadFromRepository"],
        "Effect": "Allow",
        "Principal": { "AWS": "arn:aws:iam::222233334444:root" },
        "Resource": "*" }] });
    policy(&larder, Some("team"), &guide).await;
    assert_eq!(status(&larder, "/npm/team/left-pad", &headers).await, 200);
    assert_eq!(status(&larder, "/npm/public/left-pad", &headers).await, 403);
    let put = async |name: &str| {
        let tar = tarball(name, "1.0.0", &[]);
        let body = npm_document(name, "1.0.0", &tar);
        let path = format!("/npm/team/{}", name.replace('/', "%2f"));
        let answer = larder
            .send(reqwest::Method::PUT, &path, &headers, Some(body))
            .await;
        answer.status
    };
    assert_eq!(put("@acme/ui").await, 403);
    let writes = json!({ "Statement": [
        { "Sid": "Read", "Effect": "Allow", "Principal": { "AWS": "222233334444" }, "Action": "codeartifact:Read*", "Resource": "*" },
        { "Sid": "Acme", "Effect": "Allow", "Principal": { "AWS": OTHER },
          "Action": ["codeartifact:PublishPackageVersion"],
          "Resource": "arn:aws:codeartifact:us-east-1:123456789012:package/my-domain/team/npm/acme/*" },
        { "Sid": "NotThis", "Effect": "Deny", "Principal": "*", "Action": "codeartifact:Publish*",
          "Resource": "arn:aws:codeartifact:*:*:package/my-domain/*/npm/acme/secret" } ] });
    policy(&larder, Some("team"), &writes).await;
    assert_eq!(put("@acme/ui").await, 201);
    assert_eq!(put("@acme/secret").await, 403);
    assert_eq!(put("other").await, 403);
    // Where the body alone names the package, that is looked at.
    let upload = async |name: &str| {
        let file = format!("{}-1.0-py3-none-any.whl", name.replace('-', "_"));
        let mut body = format!(
            "--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(&pypi::wheel(name, "1.0", &[]));
        body.extend_from_slice(b"\r\n--B--\r\n");
        let headers = [
            headers[0],
            ("content-type", "multipart/form-data; boundary=B"),
        ];
        let answer = larder
            .send(
                reqwest::Method::POST,
                "/pypi/team/",
                &headers,
                Some(body.into()),
            )
            .await;
        answer.status
    };
    assert_eq!(upload("acme-lib").await, 403);
    let all = json!({ "Effect": "Allow", "Principal": { "AWS": OTHER }, "Action": "*",
        "Resource": "arn:aws:codeartifact:us-east-1:123456789012:package/my-domain/team/pypi//acme-*" });
    policy(&larder, Some("team"), &all).await;
    assert_eq!(upload("acme-lib").await, 200);
    assert_eq!(upload("other-lib").await, 403);
    // The owner cannot lock itself out.
    policy(
        &larder,
        None,
        &json!({ "Effect": "Deny", "Principal": "*", "Action": "*" }),
    )
    .await;
    let (_, root) = token(&larder, "root").await;
    let root = format!("Bearer {root}");
    assert_eq!(
        status(&larder, "/npm/team/left-pad", &[("authorization", &root)]).await,
        403
    );
    let test = AccessCommand::PolicyTest {
        principal: "root".into(),
        action: "DeleteDomainPermissionsPolicy".into(),
        repository: None,
        package: None,
        address: None,
    };
    let decided = larder.larder.administer(test).await.unwrap();
    assert!(matches!(
        decided,
        AccessOutcome::Decided { allowed: true, .. }
    ));
}

#[tokio::test]
async fn anonymous_is_let_in_where_the_configuration_and_a_policy_say_so() {
    let (upstream, larder) = guarded_and("anonymous = true\n").await;
    fill(&upstream);
    larder.get("/npm/team/left-pad").await.expect(401);
    let reads = json!({ "Effect": "Allow", "Principal": { "AWS": "anonymous" }, "Action": "codeartifact:Read*" });
    policy(&larder, Some("team"), &reads).await;
    larder.get("/npm/team/left-pad").await.expect(200);
    larder.get("/npm/public/left-pad").await.expect(401);
    let tar = tarball("acme", "1.0.0", &[]);
    crate::publish::npm_put(&larder, "acme", npm_document("acme", "1.0.0", &tar))
        .await
        .expect(401);
}

#[tokio::test]
async fn a_policy_with_a_condition_is_asked_every_time() {
    let (upstream, larder) = guarded().await;
    fill(&upstream);
    let (_, ada) = token(&larder, OTHER).await;
    let ada = format!("Bearer {ada}");
    let npm = [("authorization", ada.as_str()), ("user-agent", "npm/11")];
    let other = [("authorization", ada.as_str()), ("user-agent", "curl/8")];
    let only_npm = json!({ "Effect": "Allow", "Principal": "*", "Action": "codeartifact:Read*",
        "Condition": { "StringLike": { "aws:UserAgent": "npm/*" }, "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } } });
    policy(&larder, Some("team"), &only_npm).await;
    for _ in 0..2 {
        assert_eq!(status(&larder, "/npm/team/left-pad", &npm).await, 200);
        assert_eq!(status(&larder, "/npm/team/left-pad", &other).await, 403);
    }
}

#[tokio::test]
async fn a_clients_address_is_what_a_trusted_proxy_says_and_nobody_else() {
    let home = json!({ "Effect": "Allow", "Principal": "*", "Action": "codeartifact:Read*",
        "Condition": { "IpAddress": { "aws:SourceIp": "192.0.2.0/24" }, "Bool": { "aws:SecureTransport": "true" } } });
    for (trusted, expected) in [
        ("[\"127.0.0.1\"]", 200),
        ("[]", 403),
        ("[\"10.0.0.0/8\"]", 403),
    ] {
        let server = format!("[server]\ntrusted_proxies = {trusted}\n");
        let (upstream, larder) = guarded_and(&server).await;
        fill(&upstream);
        let (_, ada) = token(&larder, OTHER).await;
        let ada = format!("Bearer {ada}");
        policy(&larder, Some("team"), &home).await;
        let ask = async |client: &str, proto: &str| {
            let headers = [
                ("authorization", ada.as_str()),
                ("x-forwarded-for", client),
                ("x-forwarded-proto", proto),
            ];
            status(&larder, "/npm/team/left-pad", &headers).await
        };
        for _ in 0..2 {
            assert_eq!(ask("192.0.2.1", "https").await, expected, "{trusted}");
            assert_eq!(ask("192.0.2.1", "http").await, 403);
            assert_eq!(ask("192.0.2.1, 198.51.100.1", "https").await, 403);
        }
    }
}

#[tokio::test]
async fn guesses_are_limited() {
    let (_upstream, larder) = guarded_and("failures_max = 5\n").await;
    let (_, token) = token(&larder, "root").await;
    let path = "/nuget/team/v3/index.json";
    let right = format!("Bearer {token}");
    let right = [("authorization", right.as_str())];
    let say = async |said: &str| {
        let answer = larder.get_with(path, &[("authorization", said)]).await;
        assert_eq!(larder.get_with(path, &right).await.status, 200, "{said}");
        answer
    };
    // One that is sent often, none at all, and those of another kind are no guesses.
    for _ in 0..20 {
        assert_eq!(say("Bearer lrd_guess").await.status, 401);
        assert_eq!(say("Basic Og==").await.status, 401);
    }
    for other in 0..20 {
        assert_eq!(say(&format!("Bearer npm_{other}")).await.status, 401);
    }
    for guess in 0..4 {
        assert_eq!(say(&format!("Bearer lrd_{guess}")).await.status, 401);
    }
    let limited = say("Bearer lrd_more").await;
    assert_eq!(limited.expect(429).header("retry-after"), "60");
}

#[tokio::test]
async fn an_authorization_token_opens_repositories_alone_and_ends_with_its_maker() {
    let (upstream, larder) = guarded().await;
    fill(&upstream);
    let (id, machine) = token(&larder, "root").await;
    let post = reqwest::Method::POST;
    let get = "/v1/authorization-token?domain=my-domain";
    let machine = format!("Bearer {machine}");
    let machine = [("authorization", machine.as_str())];
    let given = larder.send(post.clone(), get, &machine, None).await;
    let given = given.expect(200).json();
    let bearer = format!("Bearer {}", given["authorizationToken"].as_str().unwrap());
    let bearer = [("authorization", bearer.as_str())];
    let path = "/npm/team/left-pad";
    assert_eq!(status(&larder, path, &bearer).await, 200);
    for (method, path) in [
        (post.clone(), get),
        (reqwest::Method::GET, "/v1/domain?domain=my-domain"),
        (post.clone(), "/v1/domains"),
        (
            post,
            "/v1/package/versions?domain=my-domain&repository=team&format=npm&package=left-pad",
        ),
        (reqwest::Method::GET, "/v1/nothing"),
    ] {
        larder.send(method, path, &bearer, None).await.expect(403);
    }
    let revoke = AccessCommand::TokenRevoke { token: id };
    larder.larder.administer(revoke).await.unwrap();
    assert_eq!(status(&larder, path, &bearer).await, 401);
}

#[tokio::test]
async fn what_a_token_is_made_by_ends_it_too() {
    let (_upstream, larder) = guarded().await;
    let caller = |proof| Caller {
        principal: larder::access::Principal::root(OWNER),
        proof,
    };
    let (id, _) = key(&larder, "root").await;
    let by_key = caller(Proof::Key(id.as_str().into()));
    let token = larder.larder.access.token_for(&by_key, 900).unwrap().token;
    let bearer = format!("Bearer {token}");
    let bearer = [("authorization", bearer.as_str())];
    let path = "/nuget/team/v3/index.json";
    assert_eq!(status(&larder, path, &bearer).await, 200);
    let delete = AccessCommand::KeyDelete { id };
    larder.larder.administer(delete).await.unwrap();
    assert_eq!(status(&larder, path, &bearer).await, 401);
    // Nor does it hold for longer.
    let soon = jiff::Timestamp::now().as_millisecond() + 60_000;
    let short = caller(Proof::MachineToken {
        id: "x".into(),
        expires_at: Some(soon),
    });
    let issued = larder.larder.access.token_for(&short, 900).unwrap();
    assert!(issued.expires.as_millisecond() <= soon);
    let none = caller(Proof::AuthorizationToken);
    assert!(larder.larder.access.token_for(&none, 900).is_err());
}
