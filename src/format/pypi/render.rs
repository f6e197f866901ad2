//! A project's page as the client wants it: upstream's own bytes with addresses changed where the
//! form is the same, a page of the other form where it is not.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;

use serde_json::{Map, Value, json};

use super::page::{self, PageFile, SimplePage};
use super::version::normalised;
use super::{Form, address};
use crate::edit::{Edits, ListEdit};
use crate::json::{Node, quoted};
use crate::package::PackageId;
use crate::{FormatError, RenderInput, Rendering, Subject};

pub fn project(
    input: &RenderInput<'_>,
    package: &PackageId,
    form: Form,
) -> Result<Rendering, FormatError> {
    let body = match (page::is_json(&input.upstream)?, form) {
        (true, Form::Json) => edit_json(input, package)?,
        (false, Form::Html | Form::PlainHtml) => edit_html(input, package)?,
        (_, Form::Json) => Some(write_json(input, package)?),
        (_, Form::Html | Form::PlainHtml) => {
            let (page, _) = page::json_head(&input.upstream)?;
            Some(write_html(input, package, &page)?)
        }
    };
    Ok(Rendering {
        body,
        content_type: Cow::Borrowed(form.media_type()),
        aliases: Vec::new(),
    })
}

/// Reads the page file by file, each without the metadata that cannot be had, and whether it is
/// shown.
fn each_file(
    input: &RenderInput<'_>,
    package: &PackageId,
    mut visit: impl FnMut(PageFile, bool) -> Result<(), FormatError>,
) -> Result<SimplePage, FormatError> {
    page::read(&input.upstream, &mut |mut file| {
        if !has_metadata(input, package, &file) {
            file.metadata = None;
        }
        let is_shown = is_shown(input, package, &file);
        visit(file, is_shown)
    })
}

/// The page with a remark that installers pass over: a comment, or a key that PEP 691 leaves to the
/// index by its underscore.
pub fn annotated(form: Form, mut body: Vec<u8>, notice: &str) -> Vec<u8> {
    if form == Form::Json {
        let key = format!("\"_larder-notice\":{},", quoted(notice));
        // A page is an object with members.
        if let Some(open) = memchr::memchr(b'{', &body) {
            let at = open + 1;
            body.splice(at..at, key.into_bytes());
        }
        return body;
    }
    // A comment may have neither two hyphens nor an angle bracket in it.
    let mut comment = String::from("<!-- ");
    for character in notice.chars() {
        if character == '-' && comment.ends_with('-') {
            comment.push(' ');
        }
        comment.push(if matches!(character, '<' | '>') {
            ' '
        } else {
            character
        });
    }
    comment.push_str(" -->\n");
    body.extend_from_slice(comment.as_bytes());
    body
}

fn is_shown(input: &RenderInput<'_>, package: &PackageId, file: &PageFile) -> bool {
    shows(input, package, file, "")
}

/// Whether the file's metadata, which the page promises beside it, can be had.
fn has_metadata(input: &RenderInput<'_>, package: &PackageId, file: &PageFile) -> bool {
    file.metadata.is_none() || shows(input, package, file, ".metadata")
}

fn shows(input: &RenderInput<'_>, package: &PackageId, file: &PageFile, ending: &str) -> bool {
    let is_permitted = input.shows.is_none_or(|shows| {
        shows(Subject::File {
            file: &format!("{}{ending}", address::file(&file.url)),
            version: file.version(package),
        })
    });
    is_permitted && address::is_fetchable(&file.url)
}

fn edit_json(input: &RenderInput<'_>, package: &PackageId) -> Result<Option<Vec<u8>>, FormatError> {
    let mut edits = Edits::new(input.upstream.bytes);
    let mut list = ListEdit::default();
    // PEP 700: the list of versions must agree with what is left, though it may name versions that
    // never had a file.
    let versions = Node::object_document(input.upstream.bytes)?.get("versions");
    let versions = versions.filter(|_| input.shows.is_some());
    let mut left = VersionsLeft::default();
    let mut hides = false;
    each_file(input, package, |file, is_shown| {
        for place in &file.addresses {
            edits.replace(place.range.clone(), quoted(&address::relative(&place.url)));
        }
        for place in file.withdrawn() {
            edits.replace(place, "false");
        }
        list.item(&mut edits, &file.range, is_shown);
        hides |= !is_shown;
        if versions.is_some() {
            left.add(file.version(package), is_shown);
        }
        Ok(())
    })?;
    list.end(&mut edits);
    if let Some(versions) = versions.filter(|_| hides) {
        let mut list = ListEdit::default();
        versions.each_element(|version| {
            let text = version.string();
            let is_kept = text.is_none_or(|text| left.has(&text));
            list.item(&mut edits, &version.range(), is_kept);
            Ok(())
        })?;
        list.end(&mut edits);
    }
    Ok(edits.apply())
}

/// Each version that has a file, by the hash of its text, and whether one of its files is left.
#[derive(Default)]
struct VersionsLeft {
    hasher: foldhash::quality::RandomState,
    is_left: HashMap<u64, bool>,
}

impl VersionsLeft {
    fn add(&mut self, version: &str, is_shown: bool) {
        let hash = self.hasher.hash_one(&*normalised(version));
        *self.is_left.entry(hash).or_default() |= is_shown;
    }

    /// Whether one of its files is left, or it never had one.
    fn has(&self, version: &str) -> bool {
        let hash = self.hasher.hash_one(&*normalised(version));
        self.is_left.get(&hash).copied().unwrap_or(true)
    }
}

fn edit_html(input: &RenderInput<'_>, package: &PackageId) -> Result<Option<Vec<u8>>, FormatError> {
    let mut edits = Edits::new(input.upstream.bytes);
    let page = each_file(input, package, |file, is_shown| {
        if !is_shown {
            edits.remove(file.range);
            return Ok(());
        }
        for place in file.withdrawn() {
            edits.remove(place);
        }
        for place in &file.addresses {
            let hash = if place.attribute == "href" {
                fragment(&file.hashes)
            } else {
                String::new()
            };
            let value = format!("{}{hash}", address::relative(&place.url));
            edits.replace(
                place.range.clone(),
                format!("{}=\"{}\"", place.attribute, escaped(&value)),
            );
        }
        Ok(())
    })?;
    if !page.is_tidy {
        drop(edits);
        return write_html(input, package, &page).map(Some);
    }
    Ok(edits.apply())
}

/// `#sha256=…`: one hash, the strongest that PEP 503 recommends first.
fn fragment(hashes: &BTreeMap<String, String>) -> String {
    hashes
        .get_key_value("sha256")
        .or_else(|| hashes.iter().next_back())
        .map_or_else(String::new, |(name, value)| format!("#{name}={value}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn write_json(input: &RenderInput<'_>, package: &PackageId) -> Result<Vec<u8>, FormatError> {
    let mut json = Vec::with_capacity(input.upstream.bytes.len());
    json.extend_from_slice(b"{\"files\":[");
    let mut is_first = true;
    let page = each_file(input, package, |file, is_shown| {
        if is_shown {
            if !std::mem::take(&mut is_first) {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, &file_json(&file))?;
        }
        Ok(())
    })?;
    let mut meta: Map<String, Value> = page.meta.into_iter().collect();
    // Without sizes and dates (PEP 700) the page is of the first version, whatever the HTML said.
    meta.insert("api-version".to_owned(), Value::from("1.0"));
    let meta = Value::Object(meta);
    let name = quoted(page.name.as_deref().unwrap_or(package.name()));
    json.extend_from_slice(format!("],\"meta\":{meta},\"name\":{name}}}").as_bytes());
    Ok(json)
}

fn file_json(file: &PageFile) -> Value {
    let mut entry = json!({
        "filename": file.name,
        "url": address::relative(&file.url),
        "hashes": file.hashes,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let (Some(value), Some(entry)) = (value, entry.as_object_mut()) {
            entry.insert(name.to_owned(), value);
        }
    };
    set(
        "requires-python",
        file.requires_python.clone().map(Value::from),
    );
    set(
        "yanked",
        file.yanked.clone().map(|reason| {
            if reason.is_empty() {
                Value::Bool(true)
            } else {
                Value::from(reason)
            }
        }),
    );
    let metadata = file.metadata.as_ref().map(|_| {
        if file.metadata_hashes.is_empty() {
            Value::Bool(true)
        } else {
            json!(file.metadata_hashes)
        }
    });
    // Not by the older name too: pip 23.0 fails on digests there (PEP 714).
    set("core-metadata", metadata);
    set("gpg-sig", file.signed.then_some(Value::Bool(true)));
    set(
        "provenance",
        file.provenance
            .as_ref()
            .map(|url| Value::from(address::relative(url))),
    );
    entry
}

fn write_html(
    input: &RenderInput<'_>,
    package: &PackageId,
    page: &SimplePage,
) -> Result<Vec<u8>, FormatError> {
    let title = escaped(page.name.as_deref().unwrap_or(package.name()));
    let mut html = String::with_capacity(input.upstream.bytes.len());
    html.push_str("<!DOCTYPE html>\n<html>\n  <head>\n");
    html.push_str("    <meta name=\"pypi:repository-version\" content=\"1.0\">\n");
    for name in ["tracks", "alternate-locations"] {
        let values = page.meta.get(name).and_then(Value::as_array);
        for value in values.into_iter().flatten().filter_map(Value::as_str) {
            html.push_str(&format!(
                "    <meta name=\"pypi:{name}\" content=\"{}\">\n",
                escaped(value)
            ));
        }
    }
    html.push_str(&format!("    <title>Links for {title}</title>\n  </head>\n  <body>\n    <h1>Links for {title}</h1>\n"));
    each_file(input, package, |file, is_shown| {
        if is_shown {
            html.push_str(&anchor(&file));
        }
        Ok(())
    })?;
    html.push_str("  </body>\n</html>\n");
    Ok(html.into_bytes())
}

fn anchor(file: &PageFile) -> String {
    let mut attributes = String::new();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            attributes.push_str(&format!(" {name}=\"{}\"", escaped(value)));
        }
    };
    let metadata =
        file.metadata.as_ref().map(
            |_| match fragment(&file.metadata_hashes).strip_prefix('#') {
                Some(hash) => hash.to_owned(),
                None => "true".to_owned(),
            },
        );
    let provenance = file.provenance.as_ref().map(address::relative);
    set("data-requires-python", file.requires_python.as_deref());
    set("data-yanked", file.yanked.as_deref());
    set("data-dist-info-metadata", metadata.as_deref());
    set("data-core-metadata", metadata.as_deref());
    set("data-gpg-sig", file.signed.then_some("true"));
    set("data-provenance", provenance.as_deref());
    format!(
        "    <a href=\"{}{}\"{attributes}>{}</a><br />\n",
        escaped(&address::relative(&file.url)),
        fragment(&file.hashes),
        escaped(&file.name)
    )
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::pypi::{PypiView, name};
    use crate::{Address, DocumentId, Upstream, View};

    const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn json_page() -> String {
        format!(
            r#"{{"meta":{{"api-version":"1.1","tracks":["https://a.example/x/"]}}, "name":"foo","versions":["1.0","2.0"],
 "files":[ {{"filename":"foo-1.0.tar.gz","url":"https://files.example/p/foo-1.0.tar.gz","hashes":{{"sha256":"{SHA}"}},"yanked":"bad","upload-time":"2020-01-01T00:00:00Z","size":3}},
  {{"filename":"foo-2.0-py3-none-any.whl","url":"../../p/foo-2.0-py3-none-any.whl","hashes":{{"sha256":"{SHA}"}},"requires-python":">=3.8","core-metadata":{{"sha256":"{SHA}"}},"odd":[1]}} ]}}"#
        )
    }

    fn html_page() -> String {
        format!(
            "<html><head><meta name=\"pypi:tracks\" content=\"https://a.example/x/\"></head><body>\n<!-- kept -->\n\
            <a class='x'  href=\"https://files.example/p/foo-1.0.tar.gz#sha256={SHA}\" data-yanked=\"bad\">foo-1.0.tar.gz</a><br/>\n\
            <a href='/p/foo-2.0-py3-none-any.whl#sha256={SHA}' data-requires-python=\"&gt;=3.8\" data-core-metadata=\"sha256={SHA}\">foo-2.0-py3-none-any.whl</a><br/>\n</body></html>"
        )
    }

    fn run(page: &str, media_type: &str, form: Form, hide: Option<&str>) -> String {
        let url = Url::parse("https://up.example/simple/foo/").unwrap();
        let package = name::parse("foo").unwrap();
        let document = DocumentId {
            package: Some(package),
            view: View::Pypi(PypiView::Project(form)),
        };
        let shows = |subject: Subject<'_>| !matches!(subject, Subject::File { version, .. } if Some(version) == hide);
        let input = RenderInput {
            document: &document,
            upstream: Upstream {
                bytes: page.as_bytes(),
                media_type,
                url: &url,
                base: &url,
                directory: None,
            },
            address: &Address {
                base: String::new(),
                kept: false,
            },
            shows: hide.is_some().then_some(&shows),
            is_only_source: true,
        };
        let rendering = project(&input, document.package.as_ref().unwrap(), form).unwrap();
        String::from_utf8(rendering.body.unwrap()).unwrap()
    }

    #[test]
    fn in_the_same_form_addresses_change_and_nothing_else() {
        let page = json_page();
        let expected = page
            .replace("https://files.example/p/", "files.example/p/")
            .replace("../../p/", "up.example/p/");
        assert_eq!(
            run(&page, super::super::JSON_TYPE, Form::Json, None),
            expected
        );
        let page = html_page();
        let expected = page
            .replace("https://files.example/p/", "files.example/p/")
            .replace(
                &format!("'/p/foo-2.0-py3-none-any.whl#sha256={SHA}'"),
                &format!("\"up.example/p/foo-2.0-py3-none-any.whl#sha256={SHA}\""),
            );
        assert_eq!(run(&page, "text/html", Form::PlainHtml, None), expected);
    }

    #[test]
    fn a_notice_is_a_remark_that_installers_pass_over() {
        for (page, media_type, form) in [
            (json_page(), super::super::JSON_TYPE, Form::Json),
            (html_page(), "text/html", Form::PlainHtml),
        ] {
            let before = run(&page, media_type, form, Some("2.0")).into_bytes();
            let notice = "held --> by \"<b>---\"";
            let body = annotated(form, before.clone(), notice);
            let url = Url::parse("https://up.example/simple/foo/").unwrap();
            let files = |bytes: &[u8]| {
                let upstream = Upstream {
                    bytes,
                    media_type: form.media_type(),
                    url: &url,
                    base: &url,
                    directory: None,
                };
                let mut count = 0;
                let read = page::read(&upstream, &mut |_| {
                    count += 1;
                    Ok(())
                });
                read.unwrap();
                count
            };
            assert_eq!((files(&before), files(&body)), (1, 1));
            let text = String::from_utf8(body).unwrap();
            match form {
                Form::Json => {
                    let page: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(page["_larder-notice"], notice);
                }
                _ => assert!(
                    text.ends_with("<!-- held - -  by \" b - - -\" -->\n"),
                    "{text}"
                ),
            }
        }
    }

    #[test]
    fn either_form_is_made_of_the_other() {
        let html = run(&json_page(), super::super::JSON_TYPE, Form::PlainHtml, None);
        for part in [
            &format!("href=\"files.example/p/foo-1.0.tar.gz#sha256={SHA}\" data-yanked=\"bad\""),
            "data-requires-python=\"&gt;=3.8\"",
            &format!("data-core-metadata=\"sha256={SHA}\""),
            "name=\"pypi:tracks\" content=\"https://a.example/x/\"",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        let json: Value =
            serde_json::from_str(&run(&html_page(), "text/html", Form::Json, None)).unwrap();
        assert_eq!(json["files"][0]["yanked"], "bad");
        assert_eq!(json["files"][1]["requires-python"], ">=3.8");
        assert_eq!(json["files"][1]["core-metadata"]["sha256"], SHA);
        assert_eq!(
            json["files"][1]["url"],
            "up.example/p/foo-2.0-py3-none-any.whl"
        );
        assert_eq!(json["meta"]["tracks"][0], "https://a.example/x/");
    }

    #[test]
    fn a_link_is_one_however_it_is_written() {
        let hidden = "https://files.example/p/foo-2.0.tar.gz";
        for (what, link) in [
            (
                "without an end",
                format!("<a href=\"{hidden}\">foo-2.0.tar.gz<br>\n"),
            ),
            ("closed in itself", format!("<a href=\"{hidden}\"/>\n")),
            (
                "in capitals",
                format!("<A HREF='{hidden}'>foo-2.0.tar.gz</A>"),
            ),
            (
                "without quotes",
                format!("<a href={hidden}>foo-2.0.tar.gz</a>"),
            ),
            (
                "with references",
                format!("<a href=\"{}\">x</a>", hidden.replace('/', "&#47;")),
            ),
            (
                "with another href",
                format!("<a href=\"{hidden}\" href=\"x\">x</a>"),
            ),
            (
                "in a comment",
                format!("<!-- -- > <a href=\"{hidden}\">x</a> -->"),
            ),
            (
                "in a script",
                format!("<script>/*</script >*/ <a href=\"{hidden}\">x</a>"),
            ),
            (
                "in a title",
                format!("<title><a href=\"{hidden}\">x</a></title>"),
            ),
            (
                "in a template",
                format!("<template><a href=\"{hidden}\">x</a></template>"),
            ),
            ("cut off", format!("<a href=\"{hidden}\"")),
            ("with a NUL", format!("<a\0href=\"{hidden}\">x</a>")),
        ] {
            let good = "<a href=\"https://files.example/p/foo-1.0.tar.gz\">foo-1.0.tar.gz</a>";
            let page = format!("<!DOCTYPE html><html><body>{good}<br>{link}</body></html>");
            for form in [Form::Json, Form::PlainHtml] {
                let body = run(&page, "text/html", form, Some("2.0"));
                assert!(
                    body.contains("files.example/p/foo-1.0.tar.gz"),
                    "{what}: {body}"
                );
                assert!(!body.contains("2.0"), "{what}: {body}");
                assert!(!body.contains("https:"), "{what}: {body}");
            }
        }
        for open in [
            "<a href=\"/p/foo-1.0.tar.gz\">foo-1.0.tar.gz<br>\n",
            "<a href=\"/p/foo-1.0.tar.gz\"/>",
        ] {
            let body = run(&open.repeat(2), "text/html", Form::Json, None);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["files"].as_array().unwrap().len(), 2, "{body}");
            assert_eq!(body["files"][0]["filename"], "foo-1.0.tar.gz");
        }
    }

    #[test]
    fn links_are_relative_to_the_page_alone() {
        let page =
            "<head><base href=\"/deep/\"></head><a href=\"foo-1.0.tar.gz\">foo-1.0.tar.gz</a>";
        let body = run(page, "text/html", Form::PlainHtml, None);
        assert!(
            body.contains("href=\"up.example/deep/foo-1.0.tar.gz\""),
            "{body}"
        );
        assert!(!body.contains("<base"), "{body}");
    }

    #[test]
    fn a_page_is_read_for_what_it_is() {
        for media_type in ["application/octet-stream", "text/html", ""] {
            let body = run(&json_page(), media_type, Form::PlainHtml, None);
            assert!(body.contains("files.example/p/foo-1.0.tar.gz"), "{body}");
            let marked = format!("\u{feff}{}", json_page());
            let body = run(&marked, media_type, Form::Json, Some("2.0"));
            assert!(
                !body.contains("2.0-py3") && body.contains("foo-1.0"),
                "{body}"
            );
        }
    }

    #[test]
    fn a_file_whose_name_and_address_differ_is_of_neither_version() {
        let page = r#"{"name":"foo","files":[{"filename":"foo-3.0.tar.gz","url":"/p/foo-2.0.tar.gz","hashes":{}},{"filename":"foo-1.0.tar.gz","url":"/p/foo-1.0.0.tar.gz","hashes":{}}]}"#;
        let body = run(page, super::super::JSON_TYPE, Form::Json, Some(""));
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["files"].as_array().unwrap().len(), 1);
        assert_eq!(body["files"][0]["filename"], "foo-1.0.tar.gz");
    }

    #[test]
    fn a_hidden_version_is_in_no_form() {
        for (page, media_type) in [
            (json_page(), super::super::JSON_TYPE),
            (html_page(), "text/html"),
        ] {
            for form in [Form::Json, Form::Html] {
                let body = run(&page, media_type, form, Some("2.0"));
                assert!(
                    !body.contains("2.0-py3") && body.contains("foo-1.0"),
                    "{body}"
                );
            }
        }
        let body: Value = serde_json::from_str(&run(
            &json_page(),
            super::super::JSON_TYPE,
            Form::Json,
            Some("2.0"),
        ))
        .unwrap();
        assert_eq!(body["versions"], json!(["1.0"]));
    }
}
