//! What Larder keeps is its user's alone, whatever the umask.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{LARDER, Setup, registry, signal};
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::said;

/// All that is open to others in a folder.
fn open_in(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            open_in(&entry.path(), into);
        }
        if metadata.mode() & 0o077 != 0 {
            into.push(entry.path());
        }
    }
}

/// A command under an umask that lets everybody write.
fn generous(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = setup.command(&[]);
    let script = format!("umask 000; exec {LARDER} \"$@\"");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script, "sh"])
        .args(arguments)
        .env_clear()
        .envs(
            command
                .as_std_mut()
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .kill_on_drop(true);
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_a_bundle_and_a_login_are_closed_to_others() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, "[cache]\nmin_free = 0\n"));
    let data = setup.folder.path().join("data");
    // An earlier Larder made it open.
    std::fs::create_dir_all(data.join("blobs/sha256/00")).unwrap();
    let others = data.join("of-others");
    std::fs::write(&others, "x").unwrap();
    for path in [&data, &data.join("blobs"), &others] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut child = generous(&setup, &["serve", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = setup.address().await;
    for path in ["left-pad", "left-pad/-/left-pad-1.3.0.tgz"] {
        let answer = reqwest::get(format!("{url}/npm/public/{path}")).await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    let bundle = setup.at("bundle");
    for arguments in [
        ["export", "--out", &bundle].as_slice(),
        &["verify", "--repair"],
        &["login", "--tool", "npm"],
        &["login", "--tool", "maven"],
    ] {
        let done = generous(&setup, arguments).output().await.unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
    }
    signal(&child, rustix::process::Signal::TERM);
    child.wait().await.unwrap();
    let mut open = Vec::new();
    open_in(setup.folder.path(), &mut open);
    open.retain(|path| !path.ends_with("larder.toml"));
    assert_eq!(open, [others]);
    assert_eq!(data.metadata().unwrap().mode() & 0o777, 0o700);
    for name in ["bundle", ".npmrc", ".m2/settings.xml"] {
        assert!(setup.folder.path().join(name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_run_has_its_users_umask() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let run = ["run", "--", "sh", "-c", "umask"];
    let done = generous(&setup, &run).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "0000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_that_was_deleted_lets_no_second_larder_in() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    std::fs::remove_file(setup.at("data/larder.lock")).unwrap();
    for _ in 0..2 {
        let second = setup.run(&["serve", "--listen", "127.0.0.1:0"]).await;
        assert_eq!(second.status.code(), Some(1));
        assert!(said(&second).contains("is held by"), "{}", said(&second));
    }
    let answer = reqwest::get(format!("{}/npm/public/left-pad", served.url)).await;
    assert_eq!(answer.unwrap().status(), 200);
}
