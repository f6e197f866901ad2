use std::path::Path;

use crate::support::tool::{Tool, said, succeeded};
use crate::support::{TestLarder, Upstream};

/// Debian's packages install a Maven repository of real plugins and libraries here.
pub const DEBIAN: &str = "/usr/share/maven-repo";

const POM: &str = r"<project><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>app</artifactId><version>1</version>
<properties><maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
<build><plugins>
<plugin><groupId>org.apache.maven.plugins</groupId><artifactId>maven-resources-plugin</artifactId><version>RESOURCES</version></plugin>
<plugin><groupId>org.apache.maven.plugins</groupId><artifactId>maven-compiler-plugin</artifactId><version>COMPILER</version></plugin>
</plugins></build></project>";

pub fn newest(plugin: &str) -> String {
    newest_of(&format!("org/apache/maven/plugins/{plugin}"))
}

/// The newest version of what lies in a folder of that repository.
pub fn newest_of(folder: &str) -> String {
    let folder = Path::new(DEBIAN).join(folder);
    let mut versions: Vec<String> = std::fs::read_dir(folder)
        .expect("Debian's Maven plugins are there; `tests/clients` fetches them")
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    versions.sort();
    versions.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mvn_builds_again_without_fetching_and_without_an_upstream() {
    let upstream = Upstream::start().await;
    upstream.put_folder("/maven2/", Path::new(DEBIAN));
    let larder = TestLarder::start(&upstream).await;
    let tool = Tool::new();
    let pom = POM
        .replace("RESOURCES", &newest("maven-resources-plugin"))
        .replace("COMPILER", &newest("maven-compiler-plugin"));
    tool.write("pom.xml", &pom);
    tool.write(
        "src/main/java/App.java",
        "public class App { public static void main(String[] a) {} }\n",
    );
    let mirror = format!(
        "<settings><mirrors><mirror><id>larder</id><mirrorOf>*</mirrorOf><url>{}/maven/public/</url></mirror></mirrors></settings>",
        larder.url
    );
    tool.write("settings.xml", &mirror);
    let build = [
        "-B",
        "-q",
        "-s",
        "settings.xml",
        "-Dmaven.repo.local=repository",
        "compile",
    ];
    let files = |upstream: &Upstream| upstream.count_ending(&[".jar", ".pom"]);
    succeeded(&tool.run("mvn", &build, &[]).await);
    assert!(tool.has("target/classes/App.class"));
    let fetched = files(&upstream);
    assert!(fetched > 20, "{fetched} files");
    for away in [false, true] {
        tool.remove("repository");
        tool.remove("target");
        upstream.forget_seen();
        if away {
            upstream.vanish();
        }
        let output = tool.run("mvn", &build, &[]).await;
        assert!(output.status.success(), "{}", said(&output));
        assert!(tool.has("target/classes/App.class"));
        assert_eq!(files(&upstream), 0);
        println!(
            "mvn: {fetched} files the first time; again, upstream {}: {} requests to it, 0 for assets",
            if away { "away" } else { "there" },
            upstream.seen().len()
        );
    }
}
