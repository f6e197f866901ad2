//! Nothing leaks: credentials go to their own authority alone.

use crate::support::larder::IMPATIENT;
use crate::support::npm::{publish_at, version};
use crate::support::{Reply, TestLarder, Upstream};

const SECRET: &str = "canary-7f3a";

/// One npm connection with a password in its address.
fn config(upstream: &Upstream) -> String {
    let url = upstream
        .url()
        .replace("http://", &format!("http://user:{SECRET}@"));
    format!(
        "listen = \"127.0.0.1:0\"\n{IMPATIENT}[[connection]]\nname = \"up\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n"
    )
}

fn authorized(upstream: &Upstream) -> usize {
    upstream
        .seen()
        .iter()
        .filter(|seen| seen.headers.contains_key("authorization"))
        .count()
}

#[tokio::test]
async fn a_host_that_a_document_names_gets_no_credentials() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::with(&config(&upstream)).await;
    let place = |file: &str| (format!("{}/x/{file}", other.url()), format!("/x/{file}"));
    publish_at(&upstream, "a", &[version("1.0.0", &[])], place, &other);
    larder.get("/npm/public/a/-/a-1.0.0.tgz").await.expect(200);
    assert_eq!(authorized(&upstream), upstream.seen().len());
    assert_eq!((other.seen().len(), authorized(&other)), (1, 0));
}

#[tokio::test]
async fn a_redirect_elsewhere_carries_no_credentials() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::with(&config(&upstream)).await;
    let packument = serde_json::json!({ "name": "a", "versions": {} });
    upstream.put("/npm/a", Reply::redirect(&format!("{}/moved", other.url())));
    other.put("/moved", Reply::json(packument.to_string()));
    larder.get("/npm/public/a").await.expect(200);
    assert_eq!(authorized(&upstream), 1);
    assert_eq!((other.seen().len(), authorized(&other)), (1, 0));
}

#[tokio::test]
async fn a_secret_in_a_connections_query_goes_to_the_registry_and_is_shown_nowhere() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::with(&format!(
        "listen = \"127.0.0.1:0\"\n{IMPATIENT}[[connection]]\nname = \"up\"\nformat = \"npm\"\nurl = \"{}/npm/?sig={SECRET}\"\n",
        upstream.url()
    ))
    .await;
    let place = |file: &str| (format!("{}/x/{file}", other.url()), format!("/x/{file}"));
    publish_at(&upstream, "a", &[version("1.0.0", &[])], place, &other);
    let document = larder.get("/npm/public/a").await.expect(200).text();
    larder.get("/npm/public/a/-/a-1.0.0.tgz").await.expect(200);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.query == format!("sig={SECRET}"))
    );
    assert!(other.seen().iter().all(|seen| seen.query.is_empty()));
    upstream.vanish();
    let away = larder.get("/npm/public/b").await.text();
    let metrics = larder.get("/-/metrics").await.expect(200).text();
    for text in [document, away, metrics] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn a_clients_credentials_go_nowhere() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    upstream.put("/npm/-/npm/v1/security/advisories/bulk", Reply::json("{}"));
    let mine = [("authorization", "Bearer of-the-client"), ("cookie", "c=1")];
    larder.get_with("/npm/public/a", &mine).await.expect(200);
    let path = "/npm/public/-/npm/v1/security/advisories/bulk";
    larder
        .send(
            reqwest::Method::POST,
            path,
            &mine,
            Some("{\"a\":[\"1.0.0\"]}".into()),
        )
        .await
        .expect(200);
    assert_eq!(upstream.seen().len(), 2);
    let question = &upstream.seen()[1];
    assert_eq!(question.method, http::Method::POST);
    assert_eq!(question.body, "{\"a\":[\"1.0.0\"]}");
    for seen in upstream.seen() {
        assert!(
            !seen.headers.contains_key("authorization") && !seen.headers.contains_key("cookie")
        );
    }
}

#[tokio::test]
async fn errors_and_metrics_show_no_secret() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::with(&config(&upstream)).await;
    upstream.vanish();
    let answer = larder.get("/npm/public/a").await;
    let report = larder.larder.report("7a", "public").unwrap();
    let report = serde_json::to_string(&report).unwrap();
    let metrics = larder.get("/-/metrics").await.expect(200).text();
    for text in [
        answer.text(),
        report,
        metrics,
        format!("{:?}", larder.larder.snapshot().config),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
}
