//! The socket by which a running Larder takes commands and holds the leases of runs.

use super::{Setup, registry};
use crate::support::TestLarder;
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::said;

#[tokio::test(flavor = "multi_thread")]
async fn leases_take_no_place_of_the_sockets_that_serve_and_end_with_their_connections() {
    let upstream = registry().await;
    let larder = TestLarder::start_and(&upstream, "[server]\nconnections_max = 1\n").await;
    let socket = larder.data.path().join("control/larder.sock");
    let lease = async |run: &str| {
        let client = reqwest::Client::builder().unix_socket(socket.clone());
        let address = format!("http://larder/run/{run}/lease");
        let sent = client.build().unwrap().get(address).send().await;
        let mut response = sent.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "leased\n");
        response
    };
    let leases = [lease("a").await, lease("b").await, lease("c").await];
    assert_eq!(larder.larder.runs.leases(), leases.len());
    larder.get("/npm/public/left-pad").await.expect(200);
    drop(leases);
    larder.larder.runs.unused().await;
}

#[tokio::test]
async fn a_command_beyond_the_bound_is_refused() {
    let upstream = registry().await;
    let larder = TestLarder::start(&upstream).await;
    let socket = larder.data.path().join("control/larder.sock");
    let client = reqwest::Client::builder().unix_socket(socket);
    let command = client.build().unwrap().post("http://larder/command");
    let sent = command.body(vec![b' '; 17 * 1024 * 1024]).send().await;
    // The rest of the body is not read, which may be heard before the answer.
    assert!(sent.map_or(true, |answer| answer.status() == 413));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_with_a_longer_name_than_a_sockets_takes_commands() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    // Linux takes 107 bytes for the name of a socket.
    let data = setup.at(&["a-long-name-of-a-folder"; 8].join("/"));
    let place = [("LARDER_DATA_DIR", data.as_str())];
    let _served = setup.serve_with(&place).await;
    for arguments in [
        ["who-decides", "npm:left-pad@1.3.0"].as_slice(),
        &["token", "create", "--principal", "ci"],
        &["run", "--", "true"],
    ] {
        let done = setup.command(arguments).envs(place).output().await.unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
    }
}
