//! Package groups say how versions come into repositories, whatever client brings or asks for them.

use super::{Aws, DOMAIN, guarded, token};
use crate::publish::npm_document;
use crate::support::TestLarder;
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::succeeded;

struct Group<'a> {
    aws: Aws,
    larder: &'a TestLarder,
    bearer: String,
}

impl Group<'_> {
    async fn run(&self, operation: &str, pattern: &str, more: &[&str]) {
        let mut arguments = vec![operation, "--domain", DOMAIN, "--package-group", pattern];
        arguments.extend_from_slice(more);
        succeeded(&self.aws.codeartifact(&arguments).await);
    }

    async fn set(&self, pattern: &str, restrictions: &str, more: &[&str]) {
        let mut arguments = vec!["--restrictions", restrictions];
        arguments.extend_from_slice(more);
        let operation = "update-package-group-origin-configuration";
        self.run(operation, pattern, &arguments).await;
    }

    async fn get(&self, path: &str) -> u16 {
        let headers = [("authorization", self.bearer.as_str())];
        self.larder.get_with(path, &headers).await.status
    }

    async fn put(&self, name: &str, version: &str) -> (u16, String) {
        let headers = [("authorization", self.bearer.as_str())];
        let document = npm_document(name, version, &tarball(name, version, &[]));
        let path = format!("/npm/team/{}", name.replace('/', "%2f"));
        let put = reqwest::Method::PUT;
        let answer = self.larder.send(put, &path, &headers, Some(document)).await;
        (answer.status, answer.text())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_decides_from_where_its_packages_come_and_variations_come_from_nowhere() {
    let (upstream, larder) = guarded().await;
    for name in ["left-pad", "right-pad", "right.pad"] {
        publish(&upstream, name, &[version("1.0.0", &[])]);
    }
    let (_, root) = token(&larder, "root").await;
    let group = Group {
        aws: Aws::new(&larder, "root").await,
        larder: &larder,
        bearer: format!("Bearer {root}"),
    };
    // What was already answered is answered anew.
    assert_eq!(group.get("/npm/team/left-pad").await, 200);
    group.set("/*", "EXTERNAL_UPSTREAM=BLOCK", &[]).await;
    assert_eq!(group.get("/npm/team/left-pad").await, 404);
    assert_eq!(
        group.get("/npm/team/left-pad/-/left-pad-1.0.0.tgz").await,
        404
    );
    let pattern = "/npm//right-pad$";
    group.run("create-package-group", pattern, &[]).await;
    let public = [
        "--add-allowed-repositories",
        "repositoryName=public,originRestrictionType=EXTERNAL_UPSTREAM",
    ];
    group
        .set(
            pattern,
            "EXTERNAL_UPSTREAM=ALLOW_SPECIFIC_REPOSITORIES",
            &public,
        )
        .await;
    assert_eq!(group.get("/npm/team/right-pad").await, 200);
    assert_eq!(group.get("/npm/team/right.pad").await, 404, "a variation");
    // `team` has it from `public` alone.
    group.set(pattern, "INTERNAL_UPSTREAM=BLOCK", &[]).await;
    assert_eq!(group.get("/npm/team/right-pad").await, 404);
    assert_eq!(group.get("/npm/public/right-pad").await, 200);
    // Publishing.
    let pattern = "/npm/acme/*";
    group.run("create-package-group", pattern, &[]).await;
    assert_eq!(group.put("@acme/ui", "1.0.0").await.0, 201);
    group.set(pattern, "PUBLISH=BLOCK", &[]).await;
    let (status, said) = group.put("@acme/ui", "1.0.1").await;
    assert_eq!(status, 403, "{said}");
    assert!(
        said.contains("its package group `/npm/acme/*` says so"),
        "{said}"
    );
    assert_eq!(
        group.get("/npm/team/@acme%2fui").await,
        200,
        "what is there stays"
    );
}
