use crate::support::pypi::publish;
use crate::support::tool::{Tool, clients, said, succeeded};
use crate::support::{Fault, Reply, TestLarder, Upstream};

async fn index(in_json: bool) -> (Upstream, Upstream) {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    publish(
        &upstream,
        &files,
        "acme-app",
        &[("1.0", &[]), ("2.0", &["acme-lib>=1"])],
        in_json,
    );
    publish(&upstream, &files, "acme-lib", &[("1.5", &[])], in_json);
    (upstream, files)
}

pub fn program(name: &str) -> String {
    clients()
        .join("python/bin")
        .join(name)
        .display()
        .to_string()
}

fn wheels(files: &Upstream) -> usize {
    files.count_ending(&[".whl", ".metadata"])
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_again_without_fetching_and_without_an_upstream() {
    for in_json in [true, false] {
        let (upstream, files) = index(in_json).await;
        let larder = TestLarder::start(&upstream).await;
        let mut tool = Tool::new();
        let simple = format!("{}/pypi/public/simple/", larder.url);
        let variables = [
            ("PIP_INDEX_URL", simple.as_str()),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ];
        let install = ["install", "--target", "out", "--no-compile", "Acme.App"];
        succeeded(&tool.run(program("pip"), &install, &variables).await);
        assert!(tool.has("out/acme_app.py") && tool.has("out/acme_lib.py"));
        assert!(wheels(&files) >= 2);
        for away in [false, true] {
            tool.empty_home();
            tool.remove("out");
            upstream.forget_seen();
            files.forget_seen();
            if away {
                upstream.vanish();
                files.vanish();
            }
            succeeded(&tool.run(program("pip"), &install, &variables).await);
            assert!(tool.has("out/acme_lib.py"));
            assert_eq!(wheels(&files), 0);
            println!(
                "pip, index in {}: again, upstream {}: {} requests to it, 0 for assets",
                if in_json { "JSON" } else { "HTML" },
                if away { "away" } else { "there" },
                upstream.seen().len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_installs_again_without_fetching_and_without_an_upstream() {
    let (upstream, files) = index(true).await;
    let larder = TestLarder::start(&upstream).await;
    let mut tool = Tool::new();
    let simple = format!("{}/pypi/public/simple/", larder.url);
    let python = program("python");
    let variables = [
        ("UV_DEFAULT_INDEX", simple.as_str()),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("UV_PYTHON", python.as_str()),
    ];
    tool.write(
        "pyproject.toml",
        "[project]\nname = \"app\"\nversion = \"1.0\"\nrequires-python = \">=3.8\"\ndependencies = [\"acme-app\"]\n",
    );
    succeeded(&tool.run(program("uv"), &["sync"], &variables).await);
    assert!(wheels(&files) >= 2);
    for away in [false, true] {
        tool.empty_home();
        tool.remove(".venv");
        upstream.forget_seen();
        files.forget_seen();
        if away {
            upstream.vanish();
            files.vanish();
        }
        succeeded(
            &tool
                .run(program("uv"), &["sync", "--locked"], &variables)
                .await,
        );
        assert!(tool.has(".venv"));
        assert_eq!(wheels(&files), 0);
        println!(
            "uv: again, upstream {}: {} requests to it, 0 for assets",
            if away { "away" } else { "there" },
            upstream.seen().len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_is_told_why_and_installs_when_the_file_is_right_again() {
    let (upstream, files) = index(true).await;
    let larder = TestLarder::start(&upstream).await;
    let tool = Tool::new();
    let simple = format!("{}/pypi/public/simple/", larder.url);
    let variables = [
        ("PIP_INDEX_URL", simple.as_str()),
        ("PIP_RETRIES", "0"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    let install = ["install", "--target", "out", "--no-compile", "acme-lib"];
    let wheel = files
        .paths()
        .into_iter()
        .find(|path| path.contains("acme_lib") && path.ends_with(".whl"))
        .unwrap();
    for fault in [Fault::Corrupt, Fault::EndEarly(50)] {
        files.fault(&wheel, fault);
        let output = tool.run(program("pip"), &install, &variables).await;
        assert!(!output.status.success());
        println!("pip: {}", said(&output));
        assert!(
            said(&output).contains("not what its registry promised"),
            "{}",
            said(&output)
        );
    }
    succeeded(&tool.run(program("pip"), &install, &variables).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_reads_metadata_out_of_the_wheel_where_upstream_has_no_file_of_it() {
    let (upstream, files) = index(true).await;
    for project in ["acme-app", "acme-lib"] {
        let path = format!("/simple/{project}/");
        let page = String::from_utf8(upstream.reply(&path).body.to_vec()).unwrap();
        let page = page.replace("\"core-metadata\"", "\"x-nothing\"");
        upstream.put(&path, Reply::typed(crate::support::pypi::JSON, page));
    }
    let larder = TestLarder::start(&upstream).await;
    let tool = Tool::new();
    let simple = format!("{}/pypi/public/simple/", larder.url);
    let python = program("python");
    let variables = [
        ("UV_DEFAULT_INDEX", simple.as_str()),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("UV_PYTHON", python.as_str()),
    ];
    let install = ["pip", "install", "--target", "out", "acme-app"];
    succeeded(&tool.run(program("uv"), &install, &variables).await);
    assert!(tool.has("out/acme_lib.py"));
    assert_eq!(files.count_ending(&[".metadata"]), 0);
    assert_eq!(files.count_ending(&[".whl"]), 2, "each wheel once, whole");
}
