//! Who asks, and what they may do: tokens, signatures and policies, by the formats' own clients and
//! by the tools of AWS.

mod api;
mod attach;
mod aws;
mod event;
mod expiry;
mod formats;
mod group;
mod oidc;
mod readers;
mod routes;
mod sidecar;
mod wire;

use larder::access::manage::{AccessCommand, AccessOutcome};
use serde_json::Value;

use crate::publish::TEAM;
use crate::support::tool::{Tool, clients};
use crate::support::{TestLarder, Upstream};

const OWNER: &str = "123456789012";
const DOMAIN: &str = "my-domain";

/// A domain whose owner is known, and where everybody has to say who they are.
const GUARDED: &str =
    "[domain]\nname = \"my-domain\"\nowner = \"123456789012\"\n[access]\nrequired = true\n";

async fn guarded() -> (Upstream, TestLarder) {
    guarded_and("").await
}

pub async fn guarded_and(access: &str) -> (Upstream, TestLarder) {
    let upstream = Upstream::start().await;
    crate::support::nuget::serve(&upstream);
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{GUARDED}{access}")).await;
    (upstream, larder)
}

/// A machine's token: its id, and itself.
pub async fn token(larder: &TestLarder, principal: &str) -> (String, String) {
    let command = AccessCommand::TokenCreate {
        principal: principal.to_owned(),
        note: String::new(),
        expires_in: None,
    };
    match larder.larder.administer(command).await.unwrap() {
        AccessOutcome::Token { id, token, .. } => (id, token),
        other => panic!("{other:?}"),
    }
}

/// An access key: its id, and its secret.
async fn key(larder: &TestLarder, principal: &str) -> (String, String) {
    let command = AccessCommand::KeyCreate {
        principal: principal.to_owned(),
    };
    match larder.larder.administer(command).await.unwrap() {
        AccessOutcome::Key {
            access_key_id,
            secret_access_key,
            ..
        } => (access_key_id, secret_access_key),
        other => panic!("{other:?}"),
    }
}

/// Attaches a policy to a repository, or to the domain.
async fn policy(larder: &TestLarder, repository: Option<&str>, document: &Value) {
    let command = AccessCommand::PolicyPut {
        repository: repository.map(str::to_owned),
        document: document.to_string(),
    };
    larder.larder.administer(command).await.unwrap();
}

/// The tools of AWS, with an access key of ours.
struct Aws {
    tool: Tool,
    url: String,
    key: (String, String),
}

impl Aws {
    async fn new(larder: &TestLarder, principal: &str) -> Self {
        Self {
            tool: Tool::new(),
            url: larder.url.clone(),
            key: key(larder, principal).await,
        }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        let bin = clients().join("aws/bin");
        let nodes = clients().join("node/node_modules/.bin");
        let python = clients().join("python/bin");
        let path = format!(
            "{}:{}:{}:{}:{}",
            self.tool.folder.path().join("bin").display(),
            bin.display(),
            python.display(),
            nodes.display(),
            std::env::var("PATH").unwrap()
        );
        let variables = [
            ("AWS_ACCESS_KEY_ID", self.key.0.as_str()),
            ("AWS_SECRET_ACCESS_KEY", self.key.1.as_str()),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_MAX_ATTEMPTS", "1"),
            ("PATH", path.as_str()),
        ];
        let program = bin.join(program);
        self.tool.run(program, arguments, &variables).await
    }

    /// `aws codeartifact …`.
    async fn codeartifact(&self, arguments: &[&str]) -> std::process::Output {
        let mut all = vec!["codeartifact"];
        all.extend_from_slice(arguments);
        all.extend_from_slice(&["--endpoint-url", &self.url]);
        self.run("aws", &all).await
    }
}
