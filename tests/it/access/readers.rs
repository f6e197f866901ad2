//! The policy to copy, "readers read, one publishes", as the pages show it.

use serde_json::Value;

use super::{GUARDED, OWNER};
use crate::command::Setup;
use crate::publish::{TEAM, npm_document};
use crate::support::Upstream;
use crate::support::larder::config;
use crate::support::npm::tarball;
use crate::support::tool::{said, succeeded};

/// The policy of a page, for the domain of the tests.
fn policy_in(page: &str, owner: &str) -> String {
    let (_, block) = page.split_once(",file=team.json\n").unwrap();
    let (policy, _) = block.split_once("```").unwrap();
    policy.replace(owner, OWNER)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_read_and_one_publishes_by_the_policy_of_the_pages() {
    let access = include_str!("../../../docs/src/concepts/access.md");
    let office = include_str!("../../../docs/src/guides/office.md");
    let policy = policy_in(access, OWNER);
    let of_the_office = policy_in(office, "111122223333");
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(read(&policy), read(&of_the_office));

    let upstream = Upstream::start().await;
    let setup = Setup::new(&config(&upstream, &format!("{TEAM}{GUARDED}")));
    let served = setup.serve().await;
    std::fs::write(setup.at("team.json"), &policy).unwrap();
    let put = [
        "policy",
        "put",
        "--repository",
        "team",
        &setup.at("team.json"),
    ];
    let output = setup.run(&put).await;
    succeeded(&output);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "The policy of repository `team` is in force now: 2 statements.\n"
    );
    let shown = setup.run(&["policy", "show", "--repository", "team"]).await;
    assert_eq!(read(&String::from_utf8_lossy(&shown.stdout)), read(&policy));

    let token = async |principal: &str| {
        let create = ["token", "create", "--principal", principal];
        let output = setup.run(&create).await;
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    let (ada, ci) = (token("ada").await, token("ci").await);
    let http = reqwest::Client::new();
    let url = format!("{}/npm/team/acme", served.url);
    let publish = async |token: &str| {
        let document = npm_document("acme", "1.0.0", &tarball("acme", "1.0.0", &[]));
        let request = http.put(&url).bearer_auth(token).body(document);
        let request = request.header("content-type", "application/json");
        request.send().await.unwrap().status().as_u16()
    };
    let fetch = async |token: &str| {
        let answer = http.get(&url).bearer_auth(token).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(publish(&ada).await, 403);
    assert_eq!(publish(&ci).await, 201);
    assert_eq!(fetch(&ada).await, 200);
    assert_eq!(fetch("lrd_of-nobody").await, 401);

    let output = setup
        .run(&["policy", "delete", "--repository", "team"])
        .await;
    assert!(said(&output).contains("The policy of repository `team` is deleted."));
    assert_eq!(fetch(&ada).await, 403);
}
