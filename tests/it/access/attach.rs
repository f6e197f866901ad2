//! Who makes one thing a source of another: a repository an upstream of a repository, a connection a
//! source of one.

use serde_json::{Value, json};

use super::{GUARDED, policy, token};
use crate::publish::npm_document;
use crate::support::larder::{Answer, IMPATIENT, config};
use crate::support::npm::tarball;
use crate::support::{TestLarder, Upstream};

const EVE: &str = "arn:aws:iam::123456789012:user/eve";

/// `open` and `secret`, and connections with and without credentials; `eve` may do what she likes to
/// repositories whose names begin with `sandbox-`, and nothing else.
struct Sandbox {
    larder: TestLarder,
    eve: String,
    root: String,
    _upstream: Upstream,
}

impl Sandbox {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let url = upstream.url();
        let connection = |name: &str, query: &str, more: &str| {
            format!(
                "[[connection]]\nname = \"{name}:npm\"\nformat = \"npm\"\nurl = \"{url}/npm/{query}\"\n{more}\n"
            )
        };
        let auth = "auth = { bearer = { env = \"PATH\" } }";
        let text = [
            config(&upstream, IMPATIENT),
            "[[repository]]\nname = \"open\"\npublish = \"local\"\n".to_owned(),
            "[[repository]]\nname = \"secret\"\npublish = \"local\"\n".to_owned(),
            GUARDED.to_owned(),
            connection("private", "", auth),
            connection("signed", "?signature=t", ""),
            connection("lent", "", &format!("{auth}\nattach = \"api\"")),
            connection("kept", "", "attach = \"configuration\""),
        ];
        let larder = TestLarder::with(&text.concat()).await;
        let sandbox = json!({ "Effect": "Allow", "Principal": { "AWS": EVE }, "Action": "codeartifact:*",
            "Resource": "arn:aws:codeartifact:*:*:repository/my-domain/sandbox-*" });
        policy(&larder, None, &sandbox).await;
        Self {
            eve: format!("Bearer {}", token(&larder, EVE).await.1),
            root: format!("Bearer {}", token(&larder, "root").await.1),
            larder,
            _upstream: upstream,
        }
    }

    async fn call(&self, who: &str, method: &str, path: &str, body: Value) -> Answer {
        let method = method.parse().unwrap();
        let headers = [("authorization", who)];
        let body = body.to_string().into();
        self.larder.send(method, path, &headers, Some(body)).await
    }

    /// `POST` creates a repository with these upstreams, `PUT` changes one.
    async fn draw(&self, method: &str, repository: &str, upstreams: &[&str]) -> u16 {
        let path = format!("/v1/repository?domain=my-domain&repository={repository}");
        let named = upstreams
            .iter()
            .map(|name| json!({ "repositoryName": name }));
        let body = json!({ "upstreams": named.collect::<Vec<_>>() });
        self.call(&self.eve, method, &path, body).await.status
    }

    async fn attach(&self, who: &str, method: &str, connection: &str) -> Answer {
        let path = format!(
            "/v1/repository/external-connection?domain=my-domain&repository=sandbox-a&external-connection={connection}"
        );
        self.call(who, method, &path, json!({})).await
    }

    async fn reads(&self, repository: &str) -> bool {
        let path = format!("/npm/{repository}/own/-/own-1.0.0.tgz");
        let headers = [("authorization", self.eve.as_str())];
        self.larder.get_with(&path, &headers).await.status == 200
    }

    async fn grant(&self, repository: &str, action: &str) {
        let grant = json!({ "Effect": "Allow", "Principal": { "AWS": EVE }, "Action": format!("codeartifact:{action}") });
        policy(&self.larder, Some(repository), &grant).await;
    }
}

#[tokio::test]
async fn a_repository_becomes_an_upstream_for_who_may_do_that_to_both() {
    let sandbox = Sandbox::new().await;
    let headers = [("authorization", sandbox.root.as_str())];
    let document = npm_document("own", "1.0.0", &tarball("own", "1.0.0", &[]));
    let put = reqwest::Method::PUT;
    let published = sandbox
        .larder
        .send(put, "/npm/secret/own", &headers, Some(document));
    published.await.expect(201);
    assert!(!sandbox.reads("secret").await);
    // Neither a right on the new repository alone,
    assert_eq!(sandbox.draw("POST", "sandbox-a", &["secret"]).await, 403);
    assert_eq!(sandbox.draw("POST", "sandbox-a", &[]).await, 200);
    assert_eq!(sandbox.draw("PUT", "sandbox-a", &["secret"]).await, 403);
    let both = ["sandbox-a", "secret"];
    assert_eq!(sandbox.draw("POST", "sandbox-b", &both).await, 403);
    // nor reading,
    sandbox.grant("open", "ReadFromRepository").await;
    assert_eq!(sandbox.draw("PUT", "sandbox-a", &["open"]).await, 403);
    // nor the right on the upstream alone,
    let right = "AssociateWithDownstreamRepository";
    sandbox.grant("secret", right).await;
    assert_eq!(sandbox.draw("POST", "mine", &["secret"]).await, 403);
    assert_eq!(sandbox.draw("PUT", "open", &["secret"]).await, 403);
    assert!(!sandbox.reads("sandbox-a").await);
    // but both. Who reads needs the right on the repository that is asked, and on no other.
    assert_eq!(sandbox.draw("PUT", "sandbox-a", &["secret"]).await, 200);
    assert_eq!(sandbox.draw("POST", "sandbox-b", &["secret"]).await, 200);
    assert!(sandbox.reads("sandbox-a").await && sandbox.reads("sandbox-b").await);
    assert!(!sandbox.reads("secret").await);
}

#[tokio::test]
async fn a_connection_with_credentials_is_attached_by_the_configuration_unless_it_says_otherwise() {
    let sandbox = Sandbox::new().await;
    assert_eq!(sandbox.draw("POST", "sandbox-a", &[]).await, 200);
    for (connection, status) in [
        ("up:npm", 200),
        ("private:npm", 403),
        ("signed:npm", 403),
        ("lent:npm", 200),
        ("kept:npm", 403),
    ] {
        let said = sandbox.attach(&sandbox.eve, "POST", connection).await;
        let text = said.expect(status).text();
        assert_eq!(text.contains("attach = "), status == 403, "{text}");
        // The owner of the domain changes the configuration like anybody else.
        let by_owner = sandbox.attach(&sandbox.root, "POST", connection).await;
        let again = if status == 403 { 403 } else { 409 };
        by_owner.expect(again);
    }
    // What was attached is taken away again by who may do that.
    let gone = sandbox.attach(&sandbox.eve, "DELETE", "lent:npm").await;
    gone.expect(200);
}
