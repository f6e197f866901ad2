//! Archives as tools make them, and as those make them who mean harm.

use std::io::{Cursor, Write as _};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use flate2::write::GzEncoder;

use super::*;
use crate::problem::Kind;

const METADATA: &str = "a-1.dist-info/METADATA";

fn zipped(entries: &[(&str, &str)], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        if name.ends_with('/') {
            archive.add_directory(*name, options).unwrap();
            continue;
        }
        archive.start_file(*name, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn read_zip(bytes: Vec<u8>) -> Result<Contents, Problem> {
    zip(&mut Cursor::new(bytes), "a.whl", |path| {
        path.ends_with("/METADATA")
    })
}

fn header(name: &str, kind: tar_crate::EntryType, size: u64) -> tar_crate::Header {
    let mut header = tar_crate::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

use ::tar as tar_crate;

/// An archive without its end.
fn tarred(entries: &[(&str, tar_crate::EntryType, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, text) in entries {
        bytes.extend_from_slice(header(name, *kind, text.len() as u64).as_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

const FILE: tar_crate::EntryType = tar_crate::EntryType::Regular;

fn files(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, text)| (*name, FILE, *text))
        .collect();
    tarred(&entries)
}

fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_tar(bytes: Vec<u8>) -> Result<Contents, Problem> {
    gzipped_tar(&mut Cursor::new(bytes), "a.tgz", |path| {
        path.split_once('/')
            .is_some_and(|(_, file)| file == "package.json")
    })
}

#[test]
fn an_archive_as_tools_make_it_is_read() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let archive = zipped(
            &[("a/", ""), ("a/b.py", "code"), (METADATA, "text")],
            method,
        );
        let contents = read_zip(archive).unwrap();
        let (path, text) = contents.found.unwrap();
        assert_eq!((path.as_str(), text.as_str()), (METADATA, "text"));
        assert_eq!(contents.files, ["a/b.py", METADATA]);
    }
    let archive = files(&[("package/package.json", "{}"), ("package/x.js", "code")]);
    // With an end, padded as tar pads its last record, and without.
    for archive in [
        archive.clone(),
        ended(archive.clone()),
        ended(ended(archive)),
    ] {
        let contents = read_tar(gzipped(&archive)).unwrap();
        let (path, text) = contents.found.unwrap();
        assert_eq!(
            (path.as_str(), text.as_str()),
            ("package/package.json", "{}")
        );
        assert_eq!(contents.files, ["package/package.json", "package/x.js"]);
    }
}

#[test]
fn a_zip_archive_as_streams_make_it_is_read_and_its_descriptor_believed_where_it_is_right() {
    // Stored `text` as METADATA, its sums behind it alone.
    let plain = zipped(&[(METADATA, "text")], CompressionMethod::Stored);
    let data = 30 + METADATA.len();
    let crc = plain[14..18].to_vec();
    for (signature, wide) in [(true, false), (false, false), (true, true)] {
        let mut descriptor = Vec::new();
        if signature {
            descriptor.extend_from_slice(b"PK\x07\x08");
        }
        descriptor.extend_from_slice(&crc);
        for _ in 0..2 {
            descriptor.extend_from_slice(&4u32.to_le_bytes());
            if wide {
                descriptor.extend_from_slice(&[0; 4]);
            }
        }
        let mut archive = plain.clone();
        archive[6] |= 8;
        archive[14..26].fill(0);
        archive.splice(data + 4..data + 4, descriptor.iter().copied());
        let directory = data + 4 + descriptor.len();
        archive[directory + 8] |= 8;
        let end = archive.len() - 22;
        archive[end + 16..end + 20]
            .copy_from_slice(&u32::try_from(directory).unwrap().to_le_bytes());
        assert_eq!(read_zip(archive.clone()).unwrap().found.unwrap().1, "text");
        archive[data + 4 + descriptor.len() - 1] ^= 1;
        assert!(read_zip(archive).is_err(), "a descriptor that lies");
    }
}

#[test]
fn a_zip_archive_that_reads_in_two_ways_is_refused() {
    let plain = zipped(&[(METADATA, "text")], CompressionMethod::Stored);
    let central = plain.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
    let patched = |at: usize, new: &[u8]| {
        let mut bytes = plain.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let joined = |parts: &[&[u8]]| parts.concat();
    let two = |names: [&str; 2]| {
        // The writer refuses a name twice: it is patched in.
        let other = "z".repeat(names[1].len());
        let archive = zipped(&[(names[0], "a"), (&other, "b")], CompressionMethod::Stored);
        let text = archive.clone();
        let mut archive = archive;
        for at in memchr::memmem::find_iter(&text, &other) {
            archive[at..at + other.len()].copy_from_slice(names[1].as_bytes());
        }
        archive
    };
    let refused: &[(&str, Vec<u8>)] = &[
        ("a file twice", two(["a/x.py", "a/x.py"])),
        ("a file in two cases", two(["a/x.py", "a/X.py"])),
        ("a name written in two ways", two(["a/x.py", "a/./x.py"])),
        ("metadata twice", two([METADATA, "b-1.dist-info/METADATA"])),
        ("a name that climbs", two(["a/x.py", "../x.py"])),
        ("bytes before it", joined(&[b"#!/bin/sh\n", &plain])),
        ("bytes behind it", joined(&[&plain, b"x"])),
        ("another archive behind it", joined(&[&plain, &plain])),
        ("another name in the local header", patched(30, b"q")),
        (
            "another sum in the directory",
            patched(central + 16, b"\x01\x02\x03\x04"),
        ),
        (
            "another length in the directory",
            patched(central + 24, b"\xff"),
        ),
        (
            "another method in the directory",
            patched(central + 10, b"\x08"),
        ),
        ("a link", patched(central + 41, &[0xa1])),
        ("an encrypted file", patched(6, b"\x01")),
        (
            "an entry that is not counted",
            patched(plain.len() - 12, b"\0\0\0\0"),
        ),
        ("no archive", b"no archive".to_vec()),
        ("nothing", Vec::new()),
        ("a half", plain[..plain.len() / 2].to_vec()),
    ];
    for (what, archive) in refused {
        let read = read_zip(archive.clone());
        assert!(read.is_err(), "{what}: {read:?}");
    }
    // In both places alike, and still not what is there.
    let mut wrong = patched(central + 16, b"\x01\x02\x03\x04");
    wrong[14..18].copy_from_slice(b"\x01\x02\x03\x04");
    assert!(read_zip(wrong).is_err());
}

#[test]
fn a_tar_archive_that_reads_in_two_ways_is_refused() {
    let good = ("package/package.json", "{}");
    let one = ended(files(&[good]));
    let gz = gzipped(&one);
    let parts = files(&[good, ("package/x", "")]);
    let pax = |record: &str| {
        let described = [
            ("x", tar_crate::EntryType::XHeader, record),
            ("package/a", FILE, "text"),
        ];
        gzipped(&ended([tarred(&described), one.clone()].concat()))
    };
    let refused: &[(&str, Vec<u8>)] = &[
        ("a file twice", gzipped(&files(&[good, good]))),
        (
            "a file in two cases",
            gzipped(&files(&[good, ("package/Package.json", "{}")])),
        ),
        (
            "metadata in two folders",
            gzipped(&files(&[good, ("evil/package.json", "{}")])),
        ),
        (
            "a path with a dot",
            gzipped(&files(&[good, ("package/./package.json", "{}")])),
        ),
        (
            "a path from here",
            gzipped(&files(&[good, ("./package/package.json", "{}")])),
        ),
        (
            "a path that climbs",
            gzipped(&files(&[good, ("package/../x", "")])),
        ),
        (
            "a second gzip",
            [gzipped(&parts[..1024]), gzipped(&parts[1024..])].concat(),
        ),
        (
            "another archive behind it",
            [gz.clone(), gz.clone()].concat(),
        ),
        ("zeros behind it", [gz.clone(), vec![0; 8]].concat()),
        (
            "a file behind the end",
            gzipped(&[one.clone(), one.clone()].concat()),
        ),
        (
            "a file behind one block of zeros",
            gzipped(&[files(&[good]), vec![0; 512], one.clone()].concat()),
        ),
        (
            "a link",
            gzipped(&tarred(&[(good.0, tar_crate::EntryType::Symlink, "")])),
        ),
        (
            "a hard link",
            gzipped(&tarred(&[(good.0, tar_crate::EntryType::Link, "")])),
        ),
        (
            "a device",
            gzipped(&tarred(&[(good.0, tar_crate::EntryType::Char, "")])),
        ),
        ("another length in its pax header", pax("9 size=9\n")),
        ("a name by pax and by pax", pax("10 path=a\n10 path=b\n")),
        ("a pax header without end", pax("99 path=a\n")),
        (
            "one name for all files",
            gzipped(&tarred(&[
                ("g", tar_crate::EntryType::XGlobalHeader, "10 path=a\n"),
                (good.0, FILE, "{}"),
            ])),
        ),
        ("a half", gz[..gz.len() / 2].to_vec()),
        ("no archive", gzipped(&[b'x'; 1024])),
        ("no gzip", one.clone()),
    ];
    for (what, archive) in refused {
        let read = read_tar(archive.clone());
        assert!(read.is_err(), "{what}: {read:?}");
    }
    let named = read_tar(pax("18 path=package/b\n")).unwrap();
    assert_eq!(named.files, ["package/b", "package/package.json"]);
}

#[test]
fn metadata_is_small_and_an_archive_unpacks_to_no_more_than_so_much() {
    let large = "x".repeat(usize::try_from(METADATA_BYTES_MAX).unwrap() + 1);
    let problem = read_zip(zipped(&[(METADATA, &large)], CompressionMethod::Deflated));
    assert_eq!(problem.unwrap_err().kind, Kind::TooLarge);
    let problem = read_tar(gzipped(&files(&[("package/package.json", &large)])));
    assert_eq!(problem.unwrap_err().kind, Kind::TooLarge);
    let bomb = gzipped(&ended(files(&[("package/x", &"\0".repeat(32 << 20))])));
    assert_eq!(read_tar(bomb).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn the_directory_of_an_archive_is_no_longer_than_its_bound() {
    // The end says how long the directory is, and is believed before a byte of it is read.
    let told = |length: u64| {
        let mut archive = zipped(&[(METADATA, "text")], CompressionMethod::Stored);
        let end = archive.len() - 22;
        archive[end + 12..end + 16].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        read_zip(archive).unwrap_err().kind
    };
    assert_eq!(told(DIRECTORY_BYTES_MAX), Kind::Invalid);
    assert_eq!(told(DIRECTORY_BYTES_MAX + 1), Kind::TooLarge);
}

#[test]
fn a_header_that_describes_a_file_has_a_bound() {
    let read = |bytes: usize| {
        let mut record = format!("{bytes} comment=");
        record.push_str(&"x".repeat(bytes - record.len() - 1));
        record.push('\n');
        let described = [
            ("x", tar_crate::EntryType::XHeader, &*record),
            ("package/package.json", FILE, "{}"),
        ];
        read_tar(gzipped(&ended(tarred(&described))))
    };
    assert!(read(64 * 1024).unwrap().found.is_some());
    assert_eq!(read(64 * 1024 + 1).unwrap_err().kind, Kind::TooLarge);
}
