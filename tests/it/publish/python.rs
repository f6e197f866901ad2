use std::process::Output;

use super::team;
use crate::clients::python::program;
use crate::support::pypi::wheel;
use crate::support::tool::{Tool, said, succeeded};
use crate::support::{TestLarder, sha256};

fn dist(tool: &Tool, file: &str, bytes: &[u8]) {
    let folder = tool.folder.path().join("dist");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(file), bytes).unwrap();
}

/// Installs with pip and with uv from empty caches.
async fn installs(larder: &TestLarder, project: &str, module: &str) {
    let simple = format!("{}/pypi/team/simple/", larder.url);
    let pip = Tool::new();
    let settings = [
        ("PIP_INDEX_URL", simple.as_str()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    let install = [
        "install",
        "--target",
        "out",
        "--no-compile",
        "--no-build-isolation",
        project,
    ];
    succeeded(&pip.run(program("pip"), &install, &settings).await);
    assert!(pip.has(&format!("out/{module}")), "{module}");
    let uv = Tool::new();
    let python = program("python");
    let settings = [
        ("UV_DEFAULT_INDEX", simple.as_str()),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("UV_PYTHON", python.as_str()),
    ];
    let install = ["pip", "install", "--target", "out", project];
    succeeded(&uv.run(program("uv"), &install, &settings).await);
    assert!(uv.has(&format!("out/{module}")));
}

fn refused(client: &str, output: &Output) {
    assert!(!output.status.success(), "{}", said(output));
    let said = said(output);
    let line = said
        .lines()
        .find(|line| line.contains("409") || line.contains("already exists"))
        .unwrap_or_else(|| panic!("{said}"));
    println!(
        "{client}: published, installed back, and a second time: {}",
        line.trim()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twine_uploads_and_is_refused_other_bytes() {
    let (_upstream, larder) = team().await;
    let url = format!("{}/pypi/team/", larder.url);
    let settings = [
        ("TWINE_REPOSITORY_URL", url.as_str()),
        ("TWINE_USERNAME", "any"),
        ("TWINE_PASSWORD", "thing"),
    ];
    let upload = [
        "upload",
        "--non-interactive",
        "--disable-progress-bar",
        "--verbose",
        "dist/acme_twine-1.0-py3-none-any.whl",
    ];
    let tool = Tool::new();
    let file = "acme_twine-1.0-py3-none-any.whl";
    dist(&tool, file, &wheel("acme-twine", "1.0", &[]));
    succeeded(&tool.run(program("twine"), &upload, &settings).await);
    installs(&larder, "acme-twine", "acme_twine.py").await;
    dist(&tool, file, &wheel("acme-twine", "1.0", &["other"]));
    refused(
        "twine",
        &tool.run(program("twine"), &upload, &settings).await,
    );
    // The same bytes again are no news.
    dist(&tool, file, &wheel("acme-twine", "1.0", &[]));
    succeeded(&tool.run(program("twine"), &upload, &settings).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_publishes_and_is_refused_other_bytes() {
    let (_upstream, larder) = team().await;
    let url = format!("{}/pypi/team/", larder.url);
    let settings = [
        ("UV_PUBLISH_URL", url.as_str()),
        ("UV_PUBLISH_USERNAME", "any"),
        ("UV_PUBLISH_PASSWORD", "thing"),
    ];
    let tool = Tool::new();
    let file = "acme_uv-1.0-py3-none-any.whl";
    dist(&tool, file, &wheel("acme-uv", "1.0", &[]));
    let publish = ["publish", "--trusted-publishing", "never"];
    succeeded(&tool.run(program("uv"), &publish, &settings).await);
    installs(&larder, "acme-uv", "acme_uv.py").await;
    dist(&tool, file, &wheel("acme-uv", "1.0", &["other"]));
    refused("uv", &tool.run(program("uv"), &publish, &settings).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn poetry_publishes_and_is_refused_other_bytes() {
    let (_upstream, larder) = team().await;
    let url = format!("{}/pypi/team/", larder.url);
    let settings = [
        ("POETRY_REPOSITORIES_LARDER_URL", url.as_str()),
        ("POETRY_HTTP_BASIC_LARDER_USERNAME", "any"),
        ("POETRY_HTTP_BASIC_LARDER_PASSWORD", "thing"),
        ("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring"),
    ];
    let tool = Tool::new();
    tool.write(
        "pyproject.toml",
        "[project]\nname = \"acme-poetry\"\nversion = \"1.0\"\nrequires-python = \">=3.8\"\n[tool.poetry]\npackages = []\n",
    );
    let file = "acme_poetry-1.0-py3-none-any.whl";
    dist(&tool, file, &wheel("acme-poetry", "1.0", &[]));
    let publish = ["publish", "-r", "larder", "--no-interaction"];
    succeeded(&tool.run(program("poetry"), &publish, &settings).await);
    installs(&larder, "acme-poetry", "acme_poetry.py").await;
    dist(&tool, file, &wheel("acme-poetry", "1.0", &["other"]));
    refused(
        "poetry",
        &tool.run(program("poetry"), &publish, &settings).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flit_publishes_a_wheel_and_a_source_distribution() {
    let (_upstream, larder) = team().await;
    let url = format!("{}/pypi/team/", larder.url);
    let settings = [
        ("FLIT_INDEX_URL", url.as_str()),
        ("FLIT_USERNAME", "any"),
        ("FLIT_PASSWORD", "thing"),
        ("FLIT_ALLOW_INVALID", "1"),
    ];
    let tool = Tool::new();
    let project = |text: &str| {
        tool.write(
            "pyproject.toml",
            "[build-system]\nrequires = [\"flit_core >=3.2,<4\"]\nbuild-backend = \"flit_core.buildapi\"\n[project]\nname = \"acme_flit\"\nversion = \"1.0\"\ndescription = \"of our own\"\n",
        );
        tool.write(
            "acme_flit.py",
            &format!("\"\"\"Of our own.\"\"\"\nX = {text}\n"),
        );
    };
    project("1");
    let publish = ["publish", "--no-use-vcs"];
    succeeded(&tool.run(program("flit"), &publish, &settings).await);
    installs(&larder, "acme-flit", "acme_flit.py").await;
    let page = larder
        .get_with(
            "/pypi/team/simple/acme-flit/",
            &[("accept", crate::support::pypi::JSON)],
        )
        .await
        .expect(200)
        .json();
    assert_eq!(page["files"].as_array().unwrap().len(), 2);
    project("2");
    refused(
        "flit",
        &tool.run(program("flit"), &publish, &settings).await,
    );
}

/// What an upload tool sends.
/// The body of an upload, a form whose pieces are divided by `B`.
pub fn form(file: &str, bytes: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    body.extend(format!("--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n").bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--B--\r\n");
    body
}

pub async fn upload(
    larder: &TestLarder,
    file: &str,
    bytes: &[u8],
    fields: &[(&str, &str)],
) -> crate::support::larder::Answer {
    let body = form(file, bytes, fields);
    let headers = [("content-type", "multipart/form-data; boundary=B")];
    larder
        .send(
            reqwest::Method::POST,
            "/pypi/team/",
            &headers,
            Some(body.into()),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_served_beside_its_wheel_and_an_unlisted_version_is_yanked() {
    let (_upstream, larder) = team().await;
    let file = "acme_lib-1.0-py3-none-any.whl";
    let bytes = wheel("acme-lib", "1.0", &["left-pad>=1"]);
    upload(&larder, file, &bytes, &[]).await.expect(200);
    let json = [("accept", crate::support::pypi::JSON)];
    let page = async || {
        let page = larder.get_with("/pypi/team/simple/acme-lib/", &json).await;
        page.expect(200).json()
    };
    let entry = page().await["files"][0].clone();
    assert_eq!(entry["hashes"]["sha256"], sha256(&bytes));
    assert_eq!(entry["yanked"], false);
    let address = format!(
        "/pypi/team/simple/acme-lib/{}",
        entry["url"].as_str().unwrap()
    );
    assert_eq!(larder.get(&address).await.expect(200).bytes(), &bytes);
    let metadata = larder.get(&format!("{address}.metadata")).await.expect(200);
    assert!(metadata.text().contains("Requires-Dist: left-pad>=1"));
    assert_eq!(entry["core-metadata"]["sha256"], sha256(metadata.bytes()));

    let set = async |status| {
        larder
            .set_status("team", "pypi:acme-lib", "1.0", status)
            .await;
    };
    use larder::package::Status;
    set(Status::Unlisted).await;
    assert_eq!(page().await["files"][0]["yanked"], true);
    larder.get(&address).await.expect(200);
    set(Status::Archived).await;
    assert_eq!(page().await["files"].as_array().unwrap().len(), 0);
    let gone = larder.get(&address).await.expect(404);
    assert!(gone.text().contains("Archived"), "{}", gone.text());
    set(Status::Published).await;
    assert_eq!(page().await["files"][0]["yanked"], false);
    set(Status::Disposed).await;
    larder.get(&address).await.expect(404);
    upload(&larder, file, &bytes, &[]).await.expect(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_agree_with_its_metadata_is_refused() {
    let (_upstream, larder) = team().await;
    let good = wheel("acme-lib", "1.0", &[]);
    let right = "acme_lib-1.0-py3-none-any.whl";
    for (file, bytes, fields, why) in [
        (
            "acme_lib-2.0-py3-none-any.whl",
            &good[..],
            vec![],
            "has no acme_lib-2.0",
        ),
        (
            "other-1.0-py3-none-any.whl",
            &good,
            vec![],
            "has no other-1.0",
        ),
        (
            right,
            &good,
            vec![("name", "other")],
            "the form is of `other`",
        ),
        (
            right,
            &good,
            vec![("version", "1.1")],
            "the form is of `1.1`",
        ),
        (
            right,
            &good,
            vec![("sha256_digest", "00")],
            "no sha256 digest",
        ),
        (right, b"no archive", vec![], "no zip archive"),
        ("acme_lib-1.0.exe", &good, vec![], "no name of a wheel"),
        (
            "acme_lib-1.0.tar.gz",
            b"no archive",
            vec![],
            "no gzipped tar archive",
        ),
    ] {
        let answer = upload(&larder, file, bytes, &fields).await.expect(400);
        assert!(answer.text().contains(why), "{file}: {}", answer.text());
    }
    let wrong = "0".repeat(64);
    let answer = upload(&larder, right, &good, &[("sha256_digest", &wrong)]).await;
    assert!(answer.expect(400).text().contains("was said to have"));
    larder.get("/pypi/team/simple/acme-lib/").await.expect(404);
    upload(
        &larder,
        right,
        &good,
        &[("name", "Acme.Lib"), ("version", "1.0.0")],
    )
    .await
    .expect(200);
}
