//! Behind the air gap: what is here, what is missing, what came in and how it is proven.

mod bundle;
mod clients;
mod offline;
mod upkeep;
mod warm;

use serde_json::Value;

use crate::command::Setup;
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::{said, succeeded};
use crate::support::{TestLarder, Upstream};

/// A Larder before an upstream with all formats, and the text of its configuration.
async fn open_side() -> (Upstream, TestLarder, String) {
    let upstream = Upstream::start().await;
    crate::support::nuget::serve(&upstream);
    let text = config(&upstream, IMPATIENT);
    let larder = TestLarder::with(&text).await;
    (upstream, larder, text)
}

/// Runs a command that has to succeed; what it says as JSON.
async fn told(setup: &Setup, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let output = setup.run(&arguments).await;
    succeeded(&output);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// Carries everything from one side to the other in a bundle.
async fn carry(open: &Setup, closed: &Setup) -> Value {
    let bundle = closed.at("all.larder");
    let head = told(open, &["export", "--out", &bundle]).await;
    let key = head["key"].as_str().unwrap();
    told(closed, &["import", &bundle, "--trust", key]).await
}

/// The closed side of what the text configures.
fn closed(text: &str) -> Setup {
    Setup::new(&format!("offline = true\n{text}"))
}
