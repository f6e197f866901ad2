use crate::support::nuget::{publish, serve};
use crate::support::tool::{Tool, clients, said, succeeded};
use crate::support::{TestLarder, Upstream};

pub fn program() -> String {
    let folder = clients().join("node/node_modules/nuget-exe");
    std::fs::read_dir(folder)
        .expect("nuget.exe is there; `tests/clients` fetches it")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "exe"))
        .unwrap()
        .display()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_installs_again_without_fetching_and_without_an_upstream() {
    for paged in [false, true] {
        let upstream = Upstream::start().await;
        serve(&upstream);
        publish(&upstream, "Acme.Lib", &["1.0.0", "1.2.0"], paged);
        let larder = TestLarder::start(&upstream).await;
        let mut tool = Tool::new();
        let source = format!("{}/nuget/public/v3/index.json", larder.url);
        let program = program();
        let install = [
            program.as_str(),
            "install",
            "Acme.Lib",
            "-Source",
            source.as_str(),
            "-OutputDirectory",
            "out",
            "-NonInteractive",
            "-Verbosity",
            "detailed",
        ];
        let packages = |upstream: &Upstream| upstream.count_ending(&[".nupkg"]);
        let output = tool.run("mono", &install, &[]).await;
        succeeded(&output);
        assert!(
            tool.has("out/Acme.Lib.1.2.0/Acme.Lib.1.2.0.nupkg"),
            "{}",
            said(&output)
        );
        assert_eq!(packages(&upstream), 1);
        for away in [false, true] {
            tool.empty_home();
            tool.remove("out");
            upstream.forget_seen();
            if away {
                upstream.vanish();
            }
            succeeded(&tool.run("mono", &install, &[]).await);
            assert!(tool.has("out/Acme.Lib.1.2.0/Acme.Lib.1.2.0.nupkg"));
            assert_eq!(packages(&upstream), 0);
            println!(
                "nuget.exe: again, upstream {}: {} requests to it, 0 for assets",
                if away { "away" } else { "there" },
                upstream.seen().len()
            );
        }
    }
}
