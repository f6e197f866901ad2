//! A backup in one file: made while packages are published, restored, unpacked, and refused where it is
//! not what it was.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::backup::{answers, back_up, furnish, publish_one, restored, rows, text, try_restore};
use super::npm_versions;
use crate::command::Setup;
use crate::support::npm::tarball;
use crate::support::tool::said;
use crate::support::{TestLarder, Upstream};

const NAMES: [&str; 2] = ["backup.tar", "backup.tar.zst"];

/// The archive's bytes, without compression.
fn unpacked(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    match file.extension().unwrap().to_str().unwrap() {
        "zst" => zstd::decode_all(&*bytes).unwrap(),
        _ => bytes,
    }
}

/// Writes the archive again.
fn pack(file: &Path, archive: &[u8]) {
    let bytes = match file.extension().unwrap().to_str().unwrap() {
        "zst" => zstd::encode_all(archive, 1).unwrap(),
        _ => archive.to_vec(),
    };
    std::fs::write(file, bytes).unwrap();
}

/// The names and contents of an archive.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let members = archive.entries().unwrap().map(|member| {
        let mut member = member.unwrap();
        let name = member.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    members.collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_one_file_brings_back_everything() {
    let upstream = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let text = text(&upstream, "");
    let larder = TestLarder::with(&text).await;
    furnish(&upstream, &larder).await;
    for name in NAMES {
        let file = folder.path().join(name);
        let package = name.replace(['.'], "-");
        let publishing = async {
            for number in 0..10 {
                let version = format!("1.{number}.0");
                assert_eq!(publish_one(&larder, &package, &version).await, 201);
            }
        };
        let (first, ()) = tokio::join!(back_up(&larder, &file), publishing);
        assert!(first.lost.is_empty(), "{first:?}");
        assert_eq!(first.files, first.copied_files);
        let meanwhile = restored(&file, &text).await;
        for version in npm_versions(&meanwhile, &package).await {
            let path = format!("/npm/team/{package}/-/{package}-{version}.tgz");
            let file = meanwhile.get(&path).await.expect(200);
            assert_eq!(file.bytes(), &tarball(&package, &version, &[]));
        }
        drop(meanwhile);

        // Another one takes its place, and nothing is left beside it.
        let second = back_up(&larder, &file).await;
        let length = file.metadata().unwrap().len();
        assert_eq!(second.archive_bytes, Some(length));
        let before = answers(&larder).await;
        let again = restored(&file, &text).await;
        assert_eq!(answers(&again).await, before);
        assert_eq!(npm_versions(&again, &package).await.len(), 10);

        // Unpacked, it is a folder with the same backup, which the next one brings up to date.
        let there = folder.path().join(format!("{name}.d"));
        tar::Archive::new(&*unpacked(&file)).unpack(&there).unwrap();
        let rows_of_file = rows(&there);
        let again = restored(&there, &text).await;
        assert_eq!(answers(&again).await, before);
        let third = back_up(&larder, &there).await;
        assert_eq!((third.files, third.copied_files), (second.files, 0));
        assert_eq!(rows(&there), rows_of_file);
    }
    let expected = [
        "backup.tar",
        "backup.tar.d",
        "backup.tar.zst",
        "backup.tar.zst.d",
    ];
    assert_eq!(names_in(folder.path()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_lie_sealed_stay_sealed_in_one_file() {
    let upstream = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "B4Zk0yO8bXl0Wm0zqvC7bqZ2u9b6m3m3Q1xw1p0V9sE=").unwrap();
    let text = text(
        &upstream,
        &format!("[encryption]\nkey = {{ file = {key:?} }}\n"),
    );
    let larder = TestLarder::with(&text).await;
    furnish(&upstream, &larder).await;
    let before = answers(&larder).await;
    let file = folder.path().join("backup.tar");
    let made = back_up(&larder, &file).await;
    assert_eq!((made.sealed, made.lost.len()), (made.files, 0));
    let members = members(&unpacked(&file));
    let files = members.iter().filter(|(name, _)| name.ends_with(".sealed"));
    assert_eq!(files.count() as u64, made.files);
    let again = restored(&file, &text).await;
    assert_eq!(answers(&again).await, before);
    // A byte of one that is another is noticed.
    let mut archive = unpacked(&file);
    let (_, sealed) = members.last().unwrap();
    let at = archive
        .windows(sealed.len())
        .position(|it| it == sealed)
        .unwrap();
    archive[at + sealed.len() - 1] ^= 1;
    pack(&file, &archive);
    let into = TempDir::new().unwrap();
    let refused = try_restore(&file, &text, into.path()).await.unwrap_err();
    assert!(refused.contains("not what their names say"), "{refused}");
}

/// A small backup in one file, and what it was made of.
async fn small(name: &str) -> (TempDir, PathBuf, String, TestLarder) {
    let upstream = Upstream::start().await;
    let text = text(&upstream, "");
    let larder = TestLarder::with(&text).await;
    for version in ["1.0.0", "1.1.0"] {
        assert_eq!(publish_one(&larder, "acme-lib", version).await, 201);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    back_up(&larder, &file).await;
    (folder, file, text, larder)
}

/// A restore that has to be refused, and leaves nothing on which a Larder starts.
async fn refusal(file: &Path, text: &str) -> String {
    let into = TempDir::new().unwrap();
    let refused = try_restore(file, text, into.path()).await.unwrap_err();
    let left = names_in(into.path());
    let is_begun = left.iter().any(|it| it == "larder.restoring");
    assert!(left.is_empty() || is_begun, "{left:?}");
    assert!(refused.contains(&file.display().to_string()), "{refused}");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_is_refused_wherever_that_is() {
    for name in NAMES {
        let (_folder, file, text, _larder) = small(name).await;
        let whole = std::fs::read(&file).unwrap();
        let lengths = (0..12).map(|part| whole.len() * part / 12);
        for length in lengths.chain([whole.len() - 1024, whole.len() - 1]) {
            std::fs::write(&file, &whole[..length]).unwrap();
            let refused = refusal(&file, &text).await;
            let is_said = ["cut off", "cannot be read", "damaged"];
            assert!(
                is_said.iter().any(|it| refused.contains(it)),
                "{length} bytes of {}: {refused}",
                whole.len()
            );
        }
        std::fs::write(&file, &whole).unwrap();
        restored(&file, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_byte_is_refused_and_says_where() {
    for name in NAMES {
        let (_folder, file, text, _larder) = small(name).await;
        let archive = unpacked(&file);
        for (member, bytes) in members(&archive) {
            let at = archive.windows(bytes.len()).position(|it| it == bytes);
            let mut changed = archive.clone();
            changed[at.unwrap() + bytes.len() / 2] ^= 1;
            pack(&file, &changed);
            let refused = refusal(&file, &text).await;
            assert!(refused.contains(&member), "{member}: {refused}");
        }
        // A file that was damaged in the middle of its compression.
        if name.ends_with(".zst") {
            pack(&file, &archive);
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(&file, bytes).unwrap();
            refusal(&file, &text).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_a_file_are_never_those_of_files_here() {
    let (folder, file, text, larder) = small("backup.tar").await;
    let genuine = members(&unpacked(&file));
    let evil = folder.path().join("evil");
    let hostile = [
        "../evil".to_owned(),
        "blobs/../../../evil".to_owned(),
        evil.display().to_string(),
        "blobs/ab/abcd".to_owned(),
        "larder.sqlite".to_owned(),
        "x".repeat(300),
    ];
    let with = |at: usize, name: &str, kind: tar::EntryType| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8], kind: tar::EntryType| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(kind);
            header.set_mode(0o644);
            if kind == tar::EntryType::Symlink {
                header.set_link_name(&evil).unwrap();
            }
            // `tar` refuses to write such names.
            let head = header.as_old_mut();
            if name.len() < head.name.len() {
                head.name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                archive.append(&header, bytes).unwrap();
            } else {
                archive.append_data(&mut header, name, bytes).unwrap();
            }
        };
        for (index, (own, bytes)) in genuine.iter().enumerate() {
            if index == at {
                add(name, b"evil", kind);
            }
            add(own, bytes, tar::EntryType::Regular);
        }
        if at == genuine.len() {
            add(name, b"evil", kind);
        }
        archive.into_inner().unwrap()
    };
    for at in 0..=genuine.len() {
        for name in &hostile {
            pack(&file, &with(at, name, tar::EntryType::Regular));
            let refused = refusal(&file, &text).await;
            assert!(
                refused.contains("none that Larder made"),
                "{name}: {refused}"
            );
        }
        let own = genuine.get(at).map_or("blobs", |(name, _)| name);
        pack(&file, &with(at, own, tar::EntryType::Symlink));
        refusal(&file, &text).await;
    }
    assert!(!evil.exists());
    assert_eq!(names_in(folder.path()), ["backup.tar"]);

    // It is nothing that another backup takes the place of.
    pack(&file, &with(0, "evil", tar::EntryType::Regular));
    let refused = super::backup::try_back_up(&larder, &file)
        .await
        .unwrap_err();
    assert!(refused.contains("none that Larder made"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_write_and_read_a_file_and_say_what_is_the_matter() {
    let upstream = Upstream::start().await;
    let setup = Setup::new(&text(&upstream, ""));
    let run = async |arguments: &[&str]| setup.run(arguments).await;
    let refused = async |out: &str, word: &str| {
        let output = run(&["backup", "--out", out]).await;
        assert_eq!(output.status.code(), Some(1), "{out}");
        let said = said(&output);
        assert!(said.contains(word), "{out}: {said}");
    };
    let out = setup.at("backup.tar.zst");
    let served = setup.serve().await;
    let tarball = tarball("acme-lib", "1.0.0", &[]);
    let http = reqwest::Client::new();
    let put = http.put(format!("{}/npm/team/acme-lib", served.url));
    let document = super::npm_document("acme-lib", "1.0.0", &tarball);
    let sent = put.body(document).send().await.unwrap();
    assert_eq!(sent.status(), 201);
    let made = run(&["backup", "--out", &out]).await;
    let told = said(&made);
    assert!(made.status.success(), "{told}");
    assert!(told.contains("the file has "), "{told}");
    assert!(said(&run(&["check"]).await).contains(&out));

    // Another's file is not taken the place of, and neither is one that is no backup.
    let other = ["--data-dir", &setup.at("other"), "--out", &out];
    let said_of_other = said(&run(&[&["backup"], &other[..]].concat()).await);
    assert!(
        said_of_other.contains("is of other packages"),
        "{said_of_other}"
    );
    let precious = setup.at("precious.tar");
    std::fs::write(&precious, "precious").unwrap();
    refused(&precious, "is none, or its beginning is damaged").await;
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    refused(&setup.at("larder.toml"), "whose name ends in .tar").await;
    refused(&setup.at("backup.tar.gz"), "whose name ends in .tar").await;
    refused(&setup.at("data/backup.tar"), "within the data directory").await;
    refused(&setup.at("nowhere/backup.tar"), "cannot be made").await;
    let verified = run(&["backup", "--out", &out, "--verify"]).await;
    assert!(said(&verified).contains("folder alone"));
    let folder = format!("{}/", setup.at("folder.tar"));
    assert!(run(&["backup", "--out", &folder]).await.status.success());
    assert!(Path::new(&folder).join("backup.json").is_file());

    // One that is written by another command is left to it.
    let mut partial = std::fs::File::create(format!("{out}.partial")).unwrap();
    partial.write_all(b"half").unwrap();
    partial.lock().unwrap();
    refused(&out, "is being written by another command").await;
    drop(partial);
    assert!(run(&["backup", "--out", &out]).await.status.success());
    assert!(!Path::new(&format!("{out}.partial")).exists());
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has secrets");
    std::os::unix::fs::symlink(setup.at("larder.toml"), format!("{out}.partial")).unwrap();
    refused(&out, "cannot be made").await;

    drop(served);
    for from in [&out, &folder] {
        let into = TempDir::new().unwrap();
        let into = into.path().join("restored").display().to_string();
        let done = run(&["restore", "--from", from, "--data-dir", &into]).await;
        assert!(done.status.success(), "{}", said(&done));
        let list = run(&["list", "--repository", "team", "--data-dir", &into]).await;
        assert!(said(&list).contains("acme-lib"), "{}", said(&list));
    }
    let missing = run(&["restore", "--from", &setup.at("missing.tar")]).await;
    assert!(
        said(&missing).contains("is not there"),
        "{}",
        said(&missing)
    );
}
