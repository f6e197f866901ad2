//! Colours and progress are for a person at a terminal, and for nobody else.

use super::{LARDER, Setup};
use crate::support::until;

/// Runs Larder with a terminal for its outputs, and gives what the terminal got.
const TERMINAL: &str = "import pty, sys; pty.spawn(sys.argv[1:])";

const ESCAPE: char = '\u{1b}';

async fn at_a_terminal(setup: &Setup, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let larder = setup.command(arguments);
    let mut command = tokio::process::Command::new("python3");
    command.args(["-c", TERMINAL, LARDER]).args(arguments);
    command.env_clear().stdin(std::process::Stdio::null());
    for (name, value) in larder.as_std().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.envs(variables.iter().copied()).output().await;
    String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
}

/// Nobody is learned, so that nothing outside is asked.
const OFFLINE: &str = "offline = true\nlisten = \"0.0.0.0:0\"\nanyone_may_read = true\nanyone_may_publish = true\n[log]\nformat = \"human\"\n[[connection]]\nname = \"n\"\nformat = \"npm\"\nurl = \"https://n.example/\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_a_terminal_whose_user_wants_them() {
    let setup = Setup::new(OFFLINE);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = address.local_addr().unwrap().to_string();
    let commands = [
        &["--help"][..],
        &["serv"],
        // It logs its connections, and fails for the address.
        &["serve", "--listen", &taken],
    ];
    for command in commands {
        for (variables, is_coloured) in [
            (&[("TERM", "xterm-256color")][..], true),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], false),
            (&[("TERM", "dumb")], false),
        ] {
            let shown = at_a_terminal(&setup, command, variables).await;
            assert!(!shown.is_empty(), "{command:?}");
            let has_colours = shown.contains(ESCAPE);
            assert_eq!(
                has_colours, is_coloured,
                "{command:?} {variables:?}: {shown}"
            );
        }
        let mut piped = setup.command(command);
        piped
            .env("TERM", "xterm-256color")
            .env("CLICOLOR_FORCE", "1");
        let piped = crate::support::tool::said(&piped.output().await.unwrap());
        assert!(!piped.contains(ESCAPE), "{command:?}: {piped}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_at_a_terminal_and_never_with_json() {
    let setup = Setup::new(OFFLINE);
    let terminal = [("TERM", "xterm")];
    let waiting = ["wait", "--timeout", "2s"];
    let shown = at_a_terminal(&setup, &waiting, &terminal).await;
    assert!(shown.contains("Waiting for `larder serve`"), "{shown}");
    let shown = at_a_terminal(&setup, &waiting, &[("TERM", "dumb")]).await;
    assert!(!shown.contains("Waiting for"), "{shown}");
    let piped = setup.run(&waiting).await;
    let piped = crate::support::tool::said(&piped);
    assert!(!piped.contains("Waiting for"), "{piped}");
    let bundle = setup.at("all.larder");
    let shown = at_a_terminal(&setup, &["export", "--out", &bundle], &terminal).await;
    assert!(shown.contains("before compression"), "{shown}");
    let exporting = ["export", "--json", "--out", &bundle];
    let shown = at_a_terminal(&setup, &exporting, &terminal).await;
    assert!(!shown.contains(ESCAPE), "{shown}");
    until("the directory is free", async || {
        larder::store::holder(std::path::Path::new(&setup.at("data"))).is_none()
    })
    .await;
}
