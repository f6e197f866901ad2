//! What is said to CodeArtifact with the command line of AWS is said to Larder.

use serde_json::json;

use super::{Aws, DOMAIN, OWNER, guarded, policy};
use crate::support::npm::{publish, version};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::{TestLarder, pypi};

pub async fn token(aws: &Aws) -> String {
    let output = aws
        .codeartifact(&[
            "get-authorization-token",
            "--domain",
            DOMAIN,
            "--domain-owner",
            OWNER,
            "--query",
            "authorizationToken",
            "--output",
            "text",
        ])
        .await;
    succeeded(&output);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_command_lines_publishes_with_npm_and_installs_with_pip() {
    let (upstream, larder) = guarded().await;
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let aws = Aws::new(&larder, "root").await;
    let token = token(&aws).await;
    let host = larder.url.trim_start_matches("http:");
    let tool = Tool::new();
    tool.write("package.json", r#"{"name":"acme-ui","version":"1.0.0"}"#);
    let npmrc = format!(
        "registry={}/npm/team/\n{host}/npm/team/:_authToken={token}\n",
        larder.url
    );
    tool.write(".npmrc", &npmrc);
    succeeded(&tool.run("npm", &["publish"], &[]).await);
    let index = format!(
        "{}/pypi/team/simple/",
        larder
            .url
            .replace("http://", &format!("http://aws:{token}@"))
    );
    let pip = Tool::new();
    let install = ["install", "--target", "out", "--no-compile", "six"];
    let settings = [
        ("PIP_INDEX_URL", index.as_str()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    let program = crate::clients::python::program("pip");
    succeeded(&pip.run(&program, &install, &settings).await);
    assert!(pip.has("out/six.py"));
    // Without it, neither.
    let without = index.replace(&format!("aws:{token}@"), "");
    let settings = [("PIP_INDEX_URL", without.as_str()), ("PIP_NO_INPUT", "1")];
    let output = Tool::new().run(&program, &install, &settings).await;
    assert!(!output.status.success(), "{}", said(&output));
    tool.write(".npmrc", &npmrc.replace(&token, "lrd_other"));
    tool.write("package.json", r#"{"name":"acme-ui","version":"1.0.1"}"#);
    let output = tool.run("npm", &["publish"], &[]).await;
    assert!(said(&output).contains("E401"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn login_leaves_each_clients_configuration_working() {
    let (upstream, larder) = guarded().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let aws = Aws::new(&larder, "root").await;
    nuget_on_the_path(&aws.tool);
    for tool in ["npm", "pip", "twine", "nuget"] {
        let output = aws
            .codeartifact(&[
                "login",
                "--tool",
                tool,
                "--domain",
                DOMAIN,
                "--domain-owner",
                OWNER,
                "--repository",
                "team",
            ])
            .await;
        succeeded(&output);
        println!(
            "aws codeartifact login --tool {tool}: {}",
            said(&output).trim()
        );
    }
    let tool = &aws.tool;
    tool.write("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    let install = ["install", "--no-fund", "--no-audit", "left-pad"];
    succeeded(&tool.run("npm", &install, &[]).await);
    assert!(tool.has("node_modules/left-pad/package.json"));
    let pip = crate::clients::python::program("pip");
    let install = ["install", "--target", "out", "--no-compile", "six"];
    succeeded(&tool.run(pip, &install, &[]).await);
    assert!(tool.has("out/six.py"));
    let file = "dist/acme_twine-1.0-py3-none-any.whl";
    std::fs::create_dir_all(tool.folder.path().join("dist")).unwrap();
    let wheel = pypi::wheel("acme-twine", "1.0", &[]);
    std::fs::write(tool.folder.path().join(file), wheel).unwrap();
    let twine = crate::clients::python::program("twine");
    let upload = [
        "upload",
        "--non-interactive",
        "--repository",
        "codeartifact",
        file,
    ];
    succeeded(&tool.run(twine, &upload, &[]).await);
    let package = crate::support::nuget::nupkg("Acme.Own", "1.0.0", &[]);
    std::fs::write(tool.folder.path().join("own.nupkg"), package).unwrap();
    let nuget = tool.folder.path().join("bin/nuget");
    let source = format!("{DOMAIN}/team");
    let push = ["push", "own.nupkg", "-Source", &source, "-ApiKey", "aws"];
    succeeded(&tool.run(&nuget, &push, &[]).await);
    let install = [
        "install",
        "Acme.Own",
        "-Source",
        &source,
        "-OutputDirectory",
        "nu",
    ];
    succeeded(&tool.run(&nuget, &install, &[]).await);
    assert!(tool.has("nu/Acme.Own.1.0.0/Acme.Own.1.0.0.nupkg"));
}

/// The command line calls the client by this name.
fn nuget_on_the_path(tool: &Tool) {
    use std::os::unix::fs::PermissionsExt as _;
    let exe = crate::clients::nuget::program();
    tool.write("bin/nuget", &format!("#!/bin/sh\nexec mono {exe} \"$@\"\n"));
    let file = tool.folder.path().join("bin/nuget");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn describe(aws: &Aws) -> std::process::Output {
    aws.codeartifact(&[
        "describe-repository",
        "--domain",
        DOMAIN,
        "--repository",
        "team",
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_not_allowed_is_told_so() {
    let (_upstream, larder) = guarded().await;
    let mut aws = Aws::new(&larder, "arn:aws:iam::222233334444:user/ada").await;
    let output = describe(&aws).await;
    assert!(
        said(&output).contains("AccessDeniedException"),
        "{}",
        said(&output)
    );
    let may = json!({ "Effect": "Allow", "Principal": { "AWS": "222233334444" }, "Action": "codeartifact:Describe*" });
    policy(&larder, None, &may).await;
    succeeded(&describe(&aws).await);
    aws.key.1.push('x');
    let output = describe(&aws).await;
    assert!(
        said(&output).contains("the signature does not match"),
        "{}",
        said(&output)
    );
    aws.key.0 = "AKLRNOBODY".to_owned();
    let output = describe(&aws).await;
    assert!(
        said(&output).contains("there is no access key"),
        "{}",
        said(&output)
    );
    unsigned(&larder).await;
}

async fn unsigned(larder: &TestLarder) {
    let answer = larder.get("/v1/domain?domain=my-domain").await.expect(403);
    assert_eq!(answer.header("x-amzn-errortype"), "AccessDeniedException");
    assert_eq!(answer.json()["__type"], "AccessDeniedException");
}
