use std::path::Path;

use super::team;
use crate::clients::maven::{DEBIAN, newest};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::{TestLarder, sha1};

fn settings(larder: &TestLarder) -> String {
    format!(
        "<settings><mirrors><mirror><id>larder</id><mirrorOf>*</mirrorOf><url>{}/maven/team/</url></mirror></mirrors></settings>",
        larder.url
    )
}

/// A project of one class that is jarred, packaged and deployed.
fn project(larder: &TestLarder, version: &str, file: &str, content: &str) -> Tool {
    let tool = Tool::new();
    let plugins: Vec<String> = [
        "maven-resources-plugin",
        "maven-compiler-plugin",
        "maven-jar-plugin",
        "maven-install-plugin",
        "maven-deploy-plugin",
    ]
    .iter()
    .map(|plugin| {
        format!(
            "<plugin><groupId>org.apache.maven.plugins</groupId><artifactId>{plugin}</artifactId><version>{}</version></plugin>",
            newest(plugin)
        )
    })
    .collect();
    let plugins = plugins.concat();
    tool.write(
        "pom.xml",
        &format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.acme</groupId><artifactId>lib</artifactId><version>{version}</version>\
             <properties><maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>\
             <distributionManagement><repository><id>team</id><url>{0}/maven/team/</url></repository></distributionManagement>\
             <build><plugins>{plugins}</plugins></build></project>",
            larder.url
        ),
    );
    tool.write(&format!("src/main/java/{file}"), content);
    tool.write("settings.xml", &settings(larder));
    tool
}

const LIB: &str = "org/acme/Lib.java";
const MVN: [&str; 5] = [
    "-B",
    "-q",
    "-s",
    "settings.xml",
    "-Dmaven.repo.local=repository",
];

async fn mvn(tool: &Tool, goals: &[&str]) -> std::process::Output {
    let arguments = [&MVN[..], &["-Dmaven.test.skip=true"], goals].concat();
    tool.run("mvn", &arguments, &[]).await
}

const DEPLOY: [&str; 5] = [
    "resources:resources",
    "compiler:compile",
    "jar:jar",
    "install:install",
    "deploy:deploy",
];

async fn metadata(larder: &TestLarder, path: &str) -> String {
    let path = format!("/maven/team/{path}/maven-metadata.xml");
    larder.get(&path).await.expect(200).text()
}

#[tokio::test(flavor = "multi_thread")]
async fn mvn_deploys_builds_with_it_and_is_refused_other_bytes() {
    let (upstream, larder) = team().await;
    upstream.put_folder("/maven2/", Path::new(DEBIAN));
    let lib = |version: &str, text: &str| {
        let class = format!(
            "package org.acme; public class Lib {{ public static String x = \"{text}\"; }}\n"
        );
        project(&larder, version, LIB, &class)
    };
    succeeded(&mvn(&lib("1.0", "one"), &DEPLOY).await);
    let metadata_1 = metadata(&larder, "org/acme/lib").await;
    assert!(
        metadata_1.contains("<release>1.0</release>"),
        "{metadata_1}"
    );
    succeeded(&mvn(&lib("1.1", "two"), &DEPLOY).await);
    let both = metadata(&larder, "org/acme/lib").await;
    assert!(both.contains("<version>1.0</version>") && both.contains("<release>1.1</release>"));

    // A project elsewhere builds with it, from an empty local repository.
    let app = project(
        &larder,
        "1",
        "App.java",
        "class App { String y = org.acme.Lib.x; }\n",
    );
    let pom = app.read("pom.xml").replace("<artifactId>lib<", "<artifactId>app<").replace(
        "<build>",
        "<dependencies><dependency><groupId>org.acme</groupId><artifactId>lib</artifactId><version>1.0</version></dependency></dependencies><build>",
    );
    app.write("pom.xml", &pom);
    succeeded(&mvn(&app, &["resources:resources", "compiler:compile"]).await);
    assert!(app.has("repository/org/acme/lib/1.0/lib-1.0.jar"));

    let again = mvn(&lib("1.0", "other"), &DEPLOY).await;
    assert!(!again.status.success());
    let line = said(&again);
    let line = line
        .lines()
        .find(|line| line.contains("409"))
        .unwrap_or_else(|| panic!("{line}"));
    println!(
        "mvn: deployed, built with, and a second time: {}",
        line.trim()
    );
    let jar = larder
        .get("/maven/team/org/acme/lib/1.0/lib-1.0.jar")
        .await
        .expect(200);
    let said = larder
        .get("/maven/team/org/acme/lib/1.0/lib-1.0.jar.sha1")
        .await
        .expect(200);
    assert_eq!(said.text(), sha1(jar.bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mvn_deploys_snapshots_one_after_another() {
    let (upstream, larder) = team().await;
    upstream.put_folder("/maven2/", Path::new(DEBIAN));
    for text in ["one", "two"] {
        let class = format!(
            "package org.acme; public class Lib {{ public static String x = \"{text}\"; }}\n"
        );
        succeeded(&mvn(&project(&larder, "2.0-SNAPSHOT", LIB, &class), &DEPLOY).await);
    }
    let snapshot = metadata(&larder, "org/acme/lib/2.0-SNAPSHOT").await;
    assert!(
        snapshot.contains("<buildNumber>2</buildNumber>"),
        "{snapshot}"
    );
    assert!(snapshot.contains("<extension>pom</extension>"));
    let app = project(
        &larder,
        "1",
        "App.java",
        "class App { String y = org.acme.Lib.x; }\n",
    );
    let pom = app.read("pom.xml").replace("<artifactId>lib<", "<artifactId>app<").replace(
        "<build>",
        "<dependencies><dependency><groupId>org.acme</groupId><artifactId>lib</artifactId><version>2.0-SNAPSHOT</version></dependency></dependencies><repositories><repository><id>team</id><url>http://ours.example/</url><snapshots><enabled>true</enabled></snapshots></repository></repositories><build>",
    );
    app.write("pom.xml", &pom);
    succeeded(&mvn(&app, &["-U", "resources:resources", "compiler:compile"]).await);
}

async fn put(larder: &TestLarder, path: &str, body: &str) -> crate::support::larder::Answer {
    larder
        .send(
            reqwest::Method::PUT,
            &format!("/maven/team/{path}"),
            &[],
            Some(body.to_owned().into()),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deployment_is_seen_before_its_end_and_what_is_wrong_is_refused() {
    let (_upstream, larder) = team().await;
    let pom = "<project><groupId>org.acme</groupId><artifactId>lib</artifactId><version>1.0</version></project>";
    let at = |file: &str| format!("org/acme/lib/1.0/{file}");
    let wrong = put(
        &larder,
        &at("lib-1.0.pom"),
        &pom.replace(">lib<", ">other<"),
    )
    .await;
    assert!(wrong.expect(400).text().contains("artifactId"));
    put(&larder, &at("lib-1.0.pom"), "<project>")
        .await
        .expect(400);
    put(&larder, &at("lib-1.0.pom"), "<!DOCTYPE x><project/>")
        .await
        .expect(400);
    put(&larder, &at("lib-1.0.pom"), pom).await.expect(201);
    put(&larder, &at("lib-1.0.jar"), "broken on its way")
        .await
        .expect(201);
    let refused = put(&larder, &at("lib-1.0.jar.sha1"), &sha1(b"bytes")).await;
    assert!(refused.expect(400).text().contains("was said to have"));
    put(&larder, &at("lib-1.0.jar"), "bytes").await.expect(201);
    put(&larder, &at("lib-1.0.jar.sha1"), &sha1(b"bytes"))
        .await
        .expect(201);

    larder
        .get("/maven/team/org/acme/lib/maven-metadata.xml")
        .await
        .expect(404);
    larder
        .get(&format!("/maven/team/{}", at("lib-1.0.jar")))
        .await
        .expect(404);
    let end =
        "<metadata><versioning><versions><version>1.0</version></versions></versioning></metadata>";
    put(&larder, "org/acme/lib/maven-metadata.xml", end)
        .await
        .expect(201);
    let jar = larder
        .get(&format!("/maven/team/{}", at("lib-1.0.jar")))
        .await;
    assert_eq!(jar.expect(200).text(), "bytes");
    put(&larder, &at("lib-1.0.jar"), "bytes").await.expect(200);
    put(&larder, &at("lib-1.0.jar"), "other").await.expect(409);
    // Whatever it is called, a file in a version's folder is that version's; elsewhere it is nobody's.
    put(&larder, "org/acme/lib/1.0/other.jar", "x")
        .await
        .expect(201);
    put(&larder, "org/acme/nonsense.jar", "x").await.expect(404);
}
