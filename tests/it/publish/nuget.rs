use crate::clients::nuget::program;
use crate::publish::team;
use crate::support::TestLarder;
use crate::support::nuget::nupkg;
use crate::support::tool::{Tool, said, succeeded};

async fn nuget(tool: &Tool, larder: &TestLarder, arguments: &[&str]) -> std::process::Output {
    let source = format!("{}/nuget/team/v3/index.json", larder.url);
    let program = program();
    let mut all = vec![program.as_str()];
    all.extend(arguments);
    all.extend(["-Source", &source, "-NonInteractive"]);
    tool.run("mono", &all, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_pushes_installs_back_unlists_and_is_refused_other_bytes() {
    let (_upstream, larder) = team().await;
    let mut tool = Tool::new();
    let package = nupkg("Acme.Own", "1.0.0", &[]);
    std::fs::write(tool.folder.path().join("own.nupkg"), &package).unwrap();
    let push = ["push", "own.nupkg", "-ApiKey", "anything"];
    succeeded(&nuget(&tool, &larder, &push).await);
    let install = ["install", "Acme.Own", "-OutputDirectory", "out"];
    succeeded(&nuget(&tool, &larder, &install).await);
    assert!(tool.has("out/Acme.Own.1.0.0/Acme.Own.1.0.0.nupkg"));

    let other = nupkg("Acme.Own", "1.0.0", &[("Else", "1.0.0")]);
    std::fs::write(tool.folder.path().join("own.nupkg"), other).unwrap();
    let output = nuget(&tool, &larder, &push).await;
    assert!(!output.status.success());
    println!("nuget.exe, a second time: {}", said(&output).trim());
    assert!(
        said(&output).contains("409") || said(&output).contains("Conflict"),
        "{}",
        said(&output)
    );

    let newer = nupkg("Acme.Own", "2.0.0", &[]);
    std::fs::write(tool.folder.path().join("own.nupkg"), newer).unwrap();
    succeeded(&nuget(&tool, &larder, &push).await);
    let delete = ["delete", "Acme.Own", "2.0.0", "-ApiKey", "anything"];
    succeeded(&nuget(&tool, &larder, &delete).await);
    tool.empty_home();
    tool.remove("out");
    let found = larder
        .get("/nuget/team/v3/query?q=own")
        .await
        .expect(200)
        .json();
    assert_eq!(found["data"][0]["version"], "1.0.0");
    // Who names it gets it.
    tool.empty_home();
    let pinned = [
        "install",
        "Acme.Own",
        "-Version",
        "2.0.0",
        "-OutputDirectory",
        "out",
    ];
    succeeded(&nuget(&tool, &larder, &pinned).await);
    assert!(tool.has("out/Acme.Own.2.0.0/Acme.Own.2.0.0.nupkg"));
    larder
        .send(
            reqwest::Method::POST,
            "/nuget/team/api/v2/package/Acme.Own/2.0.0",
            &[],
            None,
        )
        .await
        .expect(200);
    let registration = larder
        .get("/nuget/team/v3/registration/acme.own/index.json")
        .await
        .expect(200)
        .json();
    assert_eq!(
        registration["items"][0]["items"][1]["catalogEntry"]["listed"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_and_relist_leave_what_an_operator_archived_as_it_is() {
    use larder::package::Status;
    let (_upstream, larder) = team().await;
    let package = nupkg("Acme.Own", "1.0.0", &[]);
    let put = reqwest::Method::PUT;
    larder
        .send(put, "/nuget/team/api/v2/package", &[], Some(package.into()))
        .await
        .expect(201);
    let path = "/nuget/team/api/v2/package/Acme.Own/1.0.0";
    let file = "/nuget/team/v3/flat/acme.own/1.0.0/acme.own.1.0.0.nupkg";
    let own = "nuget:acme.own";
    larder
        .set_status("team", own, "1.0.0", Status::Archived)
        .await;
    for method in [reqwest::Method::DELETE, reqwest::Method::POST] {
        let told = larder.send(method, path, &[], None).await.expect(409);
        assert!(told.text().contains("is Archived in `team`, and stays so"));
        larder.get(file).await.expect(404);
    }
    larder
        .set_status("team", own, "1.0.0", Status::Published)
        .await;
    larder
        .send(reqwest::Method::DELETE, path, &[], None)
        .await
        .expect(200);
    larder.get(file).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_no_package_is_refused_and_symbols_follow_their_package() {
    let (_upstream, larder) = team().await;
    let put = async |path: &str, body: Vec<u8>| {
        larder
            .send(reqwest::Method::PUT, path, &[], Some(body.into()))
            .await
    };
    let package = "/nuget/team/api/v2/package/";
    put(package, b"no archive".to_vec()).await.expect(400);
    put(package, crate::support::pypi::wheel("acme", "1.0", &[]))
        .await
        .expect(400);
    let symbols = "/nuget/team/api/v2/symbolpackage";
    put(symbols, symbol_package("Acme.Own")).await.expect(400);
    put(package, nupkg("Acme.Own", "1.0.0", &[]))
        .await
        .expect(201);
    put(symbols, symbol_package("Acme.Own")).await.expect(201);
    let path = "/nuget/team/v3/flat/acme.own/1.0.0/acme.own.1.0.0.snupkg";
    larder.get(path).await.expect(200);
    let index = larder
        .get("/nuget/team/v3/index.json")
        .await
        .expect(200)
        .json();
    let kinds: Vec<&str> = index["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|resource| resource["@type"].as_str())
        .collect();
    for kind in ["PackagePublish/2.0.0", "SymbolPackagePublish/4.9.0"] {
        assert_eq!(
            kinds.iter().filter(|it| **it == kind).count(),
            1,
            "{kinds:?}"
        );
    }
    let found = larder
        .get("/nuget/team/v3/query?q=acme")
        .await
        .expect(200)
        .json();
    assert_eq!(found["data"][0]["id"], "acme.own");
}

fn symbol_package(id: &str) -> Vec<u8> {
    use std::io::Write as _;
    let nuspec = format!(
        "<package><metadata><id>{id}</id><version>1.0.0</version><authors>t</authors><description>d</description><packageTypes><packageType name=\"SymbolsPackage\" /></packageTypes></metadata></package>"
    );
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive
        .start_file(
            format!("{id}.nuspec"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
    archive.write_all(nuspec.as_bytes()).unwrap();
    archive.finish().unwrap().into_inner()
}
