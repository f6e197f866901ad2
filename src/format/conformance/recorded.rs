//! Documents in the shapes in which registries send them.

use std::borrow::Cow;

use http::Method;
use url::Url;

use super::{Recorded, addresses, merging, paths, rendering};
use crate::package::{Format, VersionId};
use crate::{ClientRequest, Target};

const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Where Larder serves it, where upstream has it, its media type, and what it is.
type Document = (Format, &'static str, &'static str, &'static str, String);

fn documents() -> Vec<Document> {
    let dist = |version: &str| {
        format!(
            r#"{{"name":"left-pad","version":"{version}","dependencies":{{"once":"*"}},"dist":{{"tarball":"https://up.example/npm/left-pad/-/left-pad-{version}.tgz","shasum":"a9993e364706816aba3e25717850c26c9cd0d89d"}}}}"#
        )
    };
    let packument = format!(
        "{{\"name\": \"left-pad\", \"dist-tags\": {{\"latest\": \"1.3.0\", \"next\": \"2.0.0-rc.1\"}},\n \"versions\": {{\"1.0.0\": {}, \"1.3.0\": {}, \"2.0.0-rc.1\": {}}},\n \"time\": {{\"created\":\"2014-03-14T09:09:29.000Z\",\"1.0.0\":\"2014-03-14T09:09:29.000Z\",\"1.3.0\":\"2018-04-09T01:10:45.796Z\",\"2.0.0-rc.1\":\"2019-04-09T01:10:45.796Z\"}}, \"readme\": \"\\u00fc\"}}",
        dist("1.0.0"),
        dist("1.3.0"),
        dist("2.0.0-rc.1")
    );
    let page = format!(
        r#"{{"meta":{{"api-version":"1.1"}}, "name":"foo","versions":["1.0","1.3.0","2.0.0rc1"], "files":[
 {{"filename":"foo-1.0.tar.gz","url":"https://files.example/p/foo-1.0.tar.gz","hashes":{{"sha256":"{SHA}"}},"upload-time":"2020-01-01T00:00:00Z","size":3}},
 {{"filename":"foo-1.3.0.tar.gz","url":"../../p/foo-1.3.0.tar.gz","hashes":{{}},"yanked":"bad"}},
 {{"filename":"foo-2.0.0rc1-py3-none-any.whl","url":"https://files.example/p/foo-2.0.0rc1-py3-none-any.whl","hashes":{{"sha256":"{SHA}"}},"requires-python":">=3.8","core-metadata":true}}]}}"#
    );
    let html = format!(
        "<!DOCTYPE html>\n<html><head><title>Links for foo</title></head><body><h1>Links for foo</h1>\n<a href=\"https://files.example/p/foo-1.0.tar.gz#sha256={SHA}\">foo-1.0.tar.gz</a><br/>\n<a href=\"/p/foo-1.3.0.tar.gz\" data-yanked=\"\">foo-1.3.0.tar.gz</a><br/>\n<a href=\"https://files.example/p/foo-2.0.0rc1-py3-none-any.whl#sha256={SHA}\" data-requires-python=\"&gt;=3.8\">foo-2.0.0rc1-py3-none-any.whl</a><br/>\n</body></html>"
    );
    let metadata = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata>\n  <groupId>org.x</groupId>\n  <artifactId>lib</artifactId>\n  <versioning>\n    <latest>2.0-rc1</latest>\n    <release>2.0-rc1</release>\n    <versions>\n      <version>1.0</version>\n      <version>1.3.0</version>\n      <version>2.0-rc1</version>\n    </versions>\n    <lastUpdated>20260101000000</lastUpdated>\n  </versioning>\n</metadata>\n";
    let leaf = |version: &str| {
        format!(
            r#"{{"@id":"https://up.example/r/acme.lib/{version}.json","@type":"Package","packageContent":"https://up.example/f/acme.lib/{version}/acme.lib.{version}.nupkg","registration":"https://up.example/r/acme.lib/index.json","catalogEntry":{{"@id":"https://up.example/c/acme.lib.{version}.json","id":"Acme.Lib","version":"{version}","listed":true,"published":"2020-01-01T00:00:00Z"}}}}"#
        )
    };
    let registration = format!(
        r#"{{"@id":"https://up.example/r/acme.lib/index.json","count":1,"items":[{{"@id":"https://up.example/r/acme.lib/index.json#page","count":3,"lower":"1.0.0","upper":"2.0.0-rc.1","items":[{},{},{}]}}]}}"#,
        leaf("1.0.0"),
        leaf("1.3.0"),
        leaf("2.0.0-rc.1")
    );
    let simple = "application/vnd.pypi.simple.v1+json";
    vec![
        (
            Format::Npm,
            "left-pad",
            "https://up.example/npm/left-pad",
            "application/json",
            packument,
        ),
        (
            Format::Pypi,
            "simple/foo/",
            "https://up.example/simple/foo/",
            simple,
            page,
        ),
        (
            Format::Pypi,
            "simple/foo/",
            "https://up.example/simple/foo/",
            "text/html",
            html,
        ),
        (
            Format::Maven,
            "org/x/lib/maven-metadata.xml",
            "https://up.example/maven2/org/x/lib/maven-metadata.xml",
            "application/xml",
            metadata.to_owned(),
        ),
        (
            Format::Nuget,
            "v3/registration/acme.lib/index.json",
            "https://up.example/r/acme.lib/index.json",
            "application/json",
            registration,
        ),
        (
            Format::Nuget,
            "v3/flat/acme.lib/index.json",
            "https://up.example/f/acme.lib/index.json",
            "application/json",
            "{\"versions\":[\"1.0.0\",\"1.3.0\",\"2.0.0-rc.1\"]}".to_owned(),
        ),
    ]
}

/// Asks it of each document.
fn each(holds: impl Fn(&dyn crate::Protocol, &Recorded<'_>)) {
    for (format, served_at, url, media_type, body) in documents() {
        let protocol = format.protocol();
        let target = protocol.parse(&ClientRequest {
            method: &Method::GET,
            rest: served_at,
            query: None,
            accept: media_type,
        });
        let Ok(Target::Document(document)) = target else {
            panic!("{served_at}: {target:?}");
        };
        holds(
            protocol,
            &Recorded {
                document: &document,
                bytes: body.as_bytes(),
                media_type,
                url: &Url::parse(url).unwrap(),
                served_at,
                is_well_formed: true,
            },
        );
    }
}

/// All ways to choose of the three versions.
fn choices() -> impl Iterator<Item = impl Fn(&VersionId) -> bool> {
    (0..8).map(|choice: u32| {
        move |version: &VersionId| {
            let index = match version.as_str() {
                "1" | "1.0" | "1.0.0" => 0,
                "1.3" | "1.3.0" => 1,
                _ => 2,
            };
            choice >> index & 1 == 1
        }
    })
}

#[test]
fn what_is_hidden_is_not_shown_and_what_is_not_stays() {
    each(|protocol, recorded| {
        for hides in choices() {
            rendering(protocol, recorded, &hides);
        }
    });
}

#[test]
fn an_address_that_is_printed_leads_back_to_its_file() {
    each(addresses);
}

#[test]
fn parts_are_merged_into_the_whole_and_keep_their_order() {
    each(|protocol, recorded| {
        for is_near in choices() {
            merging(protocol, recorded, &is_near);
        }
    });
}

#[test]
fn paths_lead_to_one_thing_in_every_spelling() {
    each(|protocol, recorded| {
        for rest in [
            Cow::Borrowed(recorded.served_at),
            recorded.served_at.replace('l', "%6c").into(),
        ] {
            paths(
                protocol,
                &ClientRequest {
                    method: &Method::GET,
                    rest: &rest,
                    query: None,
                    accept: "",
                },
            );
        }
    });
}
