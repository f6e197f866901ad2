//! A CI's identity token is exchanged for one of Larder's, and nothing else is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{guarded_and, policy};
use crate::support::npm::{publish, version};
use crate::support::{Reply, TestLarder, Upstream};

/// A key of an issuer's.
struct Key {
    kid: String,
    pair: rcgen::KeyPair,
}

impl Key {
    fn new(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    fn jwk(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let raw = self.pair.public_key_raw();
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
                "x": URL_SAFE_NO_PAD.encode(&raw[1..33]), "y": URL_SAFE_NO_PAD.encode(&raw[33..65]) })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

fn issue(upstream: &Upstream, keys: &[&Key]) -> String {
    let issuer = format!("{}/issuer", upstream.url());
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
    upstream.put(
        "/issuer/.well-known/openid-configuration",
        Reply::json(discovery.to_string()),
    );
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    upstream.put(
        "/issuer/keys",
        Reply::json(json!({ "keys": keys }).to_string()),
    );
    issuer
}

fn claims(issuer: &str) -> Value {
    let now = jiff::Timestamp::now().as_second();
    json!({ "iss": issuer, "aud": "larder", "sub": "repo:acme/ui:ref:refs/heads/main",
            "repository": "acme/ui", "iat": now, "exp": now + 300 })
}

async fn exchange(larder: &TestLarder, token: &str) -> crate::support::larder::Answer {
    let body = Bytes::from(json!({ "token": token }).to_string());
    larder
        .send(reqwest::Method::POST, "/-/oidc/token", &[], Some(body))
        .await
}

async fn with_issuer(key: &Key) -> ([Upstream; 2], TestLarder, String) {
    // The issuer is there before the Larder that trusts it.
    let issuing = Upstream::start().await;
    let issuer = issue(&issuing, &[key]);
    let setting = format!(
        "failures_max = 1000\n[[oidc]]\nissuer = \"{issuer}\"\naudience = \"larder\"\nrole = \"build\"\nclaims = {{ repository = \"acme/*\" }}\n"
    );
    let (upstream, larder) = guarded_and(&setting).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    ([issuing, upstream], larder, issuer)
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_its_role_and_reads_what_that_may() {
    let key = Key::new("one");
    let ([issuing, _upstream], larder, issuer) = with_issuer(&key).await;
    let given = exchange(&larder, &key.sign(&claims(&issuer))).await;
    let given = given.expect(200).json();
    assert_eq!(
        given["principal"],
        "arn:aws:sts::123456789012:assumed-role/build/repo-acme-ui-ref-refs-heads-main"
    );
    let bearer = format!("Bearer {}", given["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let path = "/npm/team/left-pad";
    larder.get_with(path, &headers).await.expect(403);
    let reads = json!({ "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::123456789012:role/build" },
                        "Action": "codeartifact:ReadFromRepository" });
    policy(&larder, Some("team"), &reads).await;
    larder.get_with(path, &headers).await.expect(200);
    // The keys are asked for once, and again when there is one that is not known, once in a minute.
    exchange(&larder, &key.sign(&claims(&issuer)))
        .await
        .expect(200);
    assert_eq!(issuing.count("/issuer/keys"), 1);
    let next = Key::new("two");
    issue(&issuing, &[&next, &key]);
    exchange(&larder, &next.sign(&claims(&issuer)))
        .await
        .expect(200);
    assert_eq!(issuing.count("/issuer/keys"), 2);
    let made_up = async |kid: usize| {
        let token = Key::new(&kid.to_string()).sign(&claims(&issuer));
        exchange(&larder, &token).await.expect(401);
    };
    futures_util::future::join_all((0..16).map(made_up)).await;
    assert_eq!(issuing.count("/issuer/keys"), 2);
}

#[tokio::test]
async fn what_is_no_token_of_the_issuer_for_us_is_refused() {
    let key = Key::new("one");
    let (_upstreams, larder, issuer) = with_issuer(&key).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(&issuer);
        claims[name] = value;
        claims
    };
    let past = jiff::Timestamp::now().as_second() - 3600;
    let mut without = claims(&issuer);
    without.as_object_mut().unwrap().remove("repository");
    let other = Key {
        kid: "one".to_owned(),
        ..Key::new("x")
    };
    let good = key.sign(&claims(&issuer));
    let body = good.split('.').nth(1).unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let none = format!("{}.{body}.", encode(r#"{"alg":"none","kid":"one"}"#));
    // Signed with what everybody knows: the public key.
    let header = Header {
        kid: Some("one".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let public = EncodingKey::from_secret(key.pair.public_key_raw());
    let shared = jsonwebtoken::encode(&header, &claims(&issuer), &public).unwrap();
    for (what, token) in [
        ("another audience", key.sign(&with("aud", json!("other")))),
        (
            "another repository",
            key.sign(&with("repository", json!("evil/ui"))),
        ),
        ("no repository", key.sign(&without)),
        (
            "another issuer",
            key.sign(&with("iss", json!("https://issuer.example"))),
        ),
        ("an expired one", key.sign(&with("exp", json!(past)))),
        (
            "one from the future",
            key.sign(&with("nbf", json!(past + 7200))),
        ),
        ("another key", other.sign(&claims(&issuer))),
        ("no signature", none),
        ("a shared secret", shared),
        (
            "an altered body",
            good.replace(body, &encode(&with("sub", json!("root")).to_string())),
        ),
        ("no token", "x".to_owned()),
    ] {
        let refused = exchange(&larder, &token).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.text());
    }
    exchange(&larder, &good).await.expect(200);
}
