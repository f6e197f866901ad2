//! Whole configurations: what they say, and what is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use super::load::*;
use super::*;

fn source(text: &str) -> ConfigSource {
    ConfigSource {
        file: "larder.toml".to_owned(),
        text: text.to_owned(),
        environment: Vec::new(),
    }
}

fn faults(text: &str) -> String {
    load(&source(text), &Learned::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_example_is_right_and_shows_the_defaults() {
    let example = include_str!("../../config.example.toml");
    let written = load(&source(example), &Learned::default()).unwrap();
    let default = load(
        &source("data_dir = \"/var/lib/larder\""),
        &Learned::default(),
    )
    .unwrap();
    assert_eq!(written.cache, default.cache);
    assert_eq!(written.fetch, default.fetch);
    assert_eq!(written.server, default.server);
    assert_eq!(written.upload, default.upload);
    assert_eq!(written.log, default.log);
    assert_eq!(written.report, default.report);
    assert_eq!(written.listen, default.listen);
}

#[test]
fn every_mistake_is_named_with_its_line_and_the_nearest_key() {
    let faults = faults(
        "listne = \"127.0.0.1:1\"\ndata_dir = \"/x\"\n[cache]\nmax_size = \"lots\"\nabsent = 1\n\
         [[connection]]\nname = \"n\"\nformat = \"nmp\"\nurl = \"ftp://x\"\n\
         [[repository]]\nname = \"team\"\nupstreams = [\"teem\"]\nexternal_connections = [\"m\"]\n\
         [[rule]]\naction = \"refuse\"\npackages = [\"gem:x\"]\n",
    );
    for part in [
        "larder.toml:1: there is no key `listne`; did you mean `listen`?",
        "larder.toml:4: `cache.max_size` has to be a size",
        "larder.toml:5: there is no key `cache.absent`; did you mean `cache.absent_for`?",
        "larder.toml:8: `nmp` is no format",
        "did you mean `npm`?",
        "there is no repository `teem`; did you mean `team`?",
        "there is no connection `m`",
        "larder.toml:15: `rule.action` has to be",
        "`gem` is no format",
    ] {
        assert!(faults.contains(part), "{part}\nis not in\n{faults}");
    }
}

#[test]
fn mistakes_about_publishing_are_named() {
    let connection = |name: &str| {
        format!(
            "[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"https://n.example\"\n"
        )
    };
    let text = format!(
        "data_dir = \"/x\"\n{}{}\
         [[repository]]\nname = \"a\"\npublish = \"locl\"\n\
         [[repository]]\nname = \"b\"\npublish = \"local\"\nspool = true\n\
         [[repository]]\nname = \"c\"\npublish = [\"forward:one\", \"forward:two\"]\n\
         [[repository]]\nname = \"d\"\npublish = \"forward:ome\"\n\
         [[origin]]\npackages = [\"npm:x\"]\nupstream = \"deny\"\nfrom = [\"too\"]\n\
         [[retain]]\npackages = [\"npm:x\"]\n",
        connection("one"),
        connection("two")
    );
    let faults = faults(&text);
    for part in [
        "`repository.publish` has to be \"deny\", \"local\" or",
        "`repository.spool` is of use with publish = \"forward:CONNECTION\" alone",
        "two connections of format npm cannot both take publishes",
        "there is no connection `ome`; did you mean `one`?",
        "`origin.upstream` has to be \"allow\" or \"block\", not `deny`",
        "there is no connection `too`; did you mean `two`?",
        "`[[retain]]` needs `keep_last`, `keep_newer_than`, or both",
    ] {
        assert!(faults.contains(part), "{part}\nis not in\n{faults}");
    }
}

#[test]
fn publishing_beyond_loopback_has_to_be_meant() {
    let text = "data_dir = \"/x\"\nlisten = \"0.0.0.0:5273\"\nanyone_may_read = true\n\
                [[repository]]\nname = \"a\"\npublish = \"local\"\n";
    assert!(faults(text).contains("anyone_may_publish = true"));
    let meant = text.replace(
        "[[repository]]",
        "anyone_may_publish = true\n[[repository]]",
    );
    assert!(load(&source(&meant), &Learned::default()).is_ok());
}

#[test]
fn text_that_is_no_toml_is_named_with_its_line() {
    assert!(faults("a = 1\nb = = 2\n").starts_with("larder.toml:2:"));
}

#[test]
fn a_circle_of_upstreams_is_refused_with_its_path() {
    let text = "data_dir = \"/x\"\n[[repository]]\nname = \"a\"\nupstreams = [\"b\"]\n[[repository]]\nname = \"b\"\nupstreams = [\"a\"]\n";
    assert!(faults(text).contains("a → b → a"));
}

#[test]
fn listening_beyond_loopback_has_to_be_meant() {
    let text = "data_dir = \"/x\"\nlisten = \"0.0.0.0:5273\"\n";
    assert!(faults(text).contains("anyone_may_read = true"));
    assert!(
        load(
            &source(&format!("{text}anyone_may_read = true\n")),
            &Learned::default()
        )
        .is_ok()
    );
}

#[test]
fn the_environment_lies_over_the_file() {
    let source = ConfigSource {
        environment: vec![
            ("LARDER_CACHE_MAX_SIZE".to_owned(), "1GiB".to_owned()),
            ("LARDER_OFFLINE".to_owned(), "true".to_owned()),
            (
                "LARDER_CONNECTION".to_owned(),
                "[{ name = \"n\", format = \"npm\", url = \"https://n.example\" }]".to_owned(),
            ),
        ],
        ..source("data_dir = \"/x\"\n[cache]\nmax_size = \"2GiB\"\n")
    };
    let config = load(&source, &Learned::default()).unwrap();
    assert_eq!(config.cache.max_size, 1024 * 1024 * 1024);
    assert!(config.offline);
    assert_eq!(config.connections[0].url.as_str(), "https://n.example/");
    assert_eq!(
        config.repositories[0].connections().collect::<Vec<_>>(),
        ["n"]
    );
}

#[test]
fn sources_are_flat_and_the_nearest_comes_first() {
    let text = "data_dir = \"/x\"\n\
        [[connection]]\nname = \"a\"\nformat = \"npm\"\nurl = \"https://a.example\"\n\
        [[connection]]\nname = \"b\"\nformat = \"npm\"\nurl = \"https://u:p@b.example\"\n\
        [[repository]]\nname = \"public\"\nexternal_connections = [\"a\"]\n\
        [[repository]]\nname = \"team\"\nupstreams = [\"public\"]\nexternal_connections = [\"b\"]\n";
    let config = load(&source(text), &Learned::default()).unwrap();
    assert_eq!(
        config.repositories[1].connections().collect::<Vec<_>>(),
        ["b", "a"]
    );
    assert_eq!(config.connections[1].url.as_str(), "https://b.example/");
    assert!(config.connections[1].auth.is_some());
}

#[test]
fn secrets_stand_in_no_file() {
    let text = "data_dir = \"/x\"\n[[connection]]\nname = \"a\"\nformat = \"npm\"\nurl = \"https://a.example\"\nauth = { bearer = \"inline\" }\n";
    assert!(faults(text).contains("{ env ="));
}

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let source = ConfigSource {
        environment: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..source(&format!("data_dir = \"/x\"\n{text}"))
    };
    load(&source, &Learned::default()).map_err(|faults| faults.to_string())
}

#[test]
fn every_key_is_a_variable_too() {
    let config = with(
        "[tls]\ncertificate = \"/a.pem\"\n",
        &[
            ("LARDER_TLS_KEY", "/k.pem"),
            ("LARDER_DOMAIN_OWNER", "111122223333"),
            ("LARDER_DOMAIN_NAME", "\"quoted\""),
            ("LARDER_SERVER_HOSTS", "[\"host.docker.internal\"]"),
            ("LARDER_BUNDLE_KEY", "{ env = \"PATH\" }"),
        ],
    )
    .unwrap();
    let tls = config.tls.unwrap();
    assert_eq!(tls.certificate, PathBuf::from("/a.pem"));
    assert_eq!(tls.key, PathBuf::from("/k.pem"));
    assert_eq!(config.domain.owner, "111122223333");
    assert_eq!(config.domain.name, "quoted");
    assert_eq!(config.server.hosts, ["host.docker.internal"]);
    assert!(config.bundle.key.is_some());
    let said = with(
        "",
        &[(
            "LARDER_ENCRYPTION_KEY",
            "{ env = \"NOTHING_OF_THIS_NAME\" }",
        )],
    );
    let said = said.unwrap_err();
    assert!(
        said.contains("LARDER_ENCRYPTION_KEY: `encryption.key` names the variable"),
        "{said}"
    );
    assert!(!said.contains("missing"), "{said}");
}

#[test]
fn a_variable_that_is_no_key_is_named_with_the_nearest() {
    for (name, hint) in [
        (
            "LARDER_CACHE_MAX_SIZ",
            "did you mean `LARDER_CACHE_MAX_SIZE`?",
        ),
        ("LARDER_LISTN", "did you mean `LARDER_LISTEN`?"),
        ("LARDER_SERVR_DRAIN", "did you mean `LARDER_SERVER_DRAIN`?"),
        ("LARDER_RULES", "did you mean `LARDER_RULE`?"),
        ("LARDER_TLS_CERT", "did you mean `LARDER_TLS_CERTIFICATE`?"),
        ("LARDER_NONSENSE", "stands for no key"),
        (
            "LARDER_LOG",
            "is a table, whose keys are variables of their own, such as `LARDER_LOG_",
        ),
        (
            "LARDER_CACHE",
            "is a table, whose keys are variables of their own, such as `LARDER_CACHE_",
        ),
        ("LARDER_CONNECTION_URL", "stands for no key"),
    ] {
        let said = with("", &[(name, "1")]).unwrap_err();
        assert!(
            said.contains(&format!("{name}: `{name}` ")) && said.contains(hint),
            "{said}"
        );
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let auth = "[[connection]]\nname = \"n\"\nformat = \"npm\"\nurl = \"https://n.example\"\nauth = { bearer = { env = \"PATH\" } }\n";
    for name in [
        "LARDER_CONFIG",
        "LARDER_DATA_DIR",
        "LARDER_BIN",
        "LARDER_SERVICE_HOST",
        "LARDER_SERVICE_PORT",
        "LARDER_SERVICE_PORT_HTTP",
        "LARDER_PORT",
        "LARDER_PORT_5273_TCP",
        "LARDER_PORT_5273_TCP_ADDR",
        "OTHER_LARDER",
    ] {
        assert!(
            with(auth, &[(name, "tcp://10.0.0.1:5273")]).is_ok(),
            "{name}"
        );
    }
    // One that a secret is read from is known by that.
    let own = auth.replace("PATH", "LARDER_NPM_TOKEN");
    let said = with(&own, &[("LARDER_NPM_TOKEN", "x")]).unwrap_err();
    assert!(
        said.contains("which is not set") && !said.contains("stands for no key"),
        "{said}"
    );
    assert!(with(auth, &[("LARDER_NPM_TOKEN", "x")]).is_err());
}

#[test]
fn a_setting_that_would_do_nothing_or_something_else_is_named() {
    let n = "[[connection]]\nname = \"n\"\nformat = \"npm\"\nurl = \"https://n.example\"\n";
    let connection = |more: &str| format!("{n}{more}\n");
    let secret = "{ env = \"PATH\" }";
    for (text, said) in [
        (connection("auth = {}"), "t.toml:6: `connection.auth` is empty"),
        (connection(&format!("auth = {{ bearer = {secret}, header = {{ name = \"x\", value = {secret} }} }}")), "`connection.auth` has `bearer` and `header`"),
        (connection(&format!("auth = {{ header = {{ name = \"a b\", value = {secret} }} }}")), "`a b` is no name of a header"),
        (connection(&format!("auth = {{ bearer = {secret} }}")).replace("https://", "https://u:p@"), "`connection.url` has a user"),
        (connection("publish_auth = \"client\""), "t.toml:6: `connection.publish_auth` is about publishes that are passed on"),
        (connection("attach = \"all\""), "t.toml:6: `connection.attach` has to be \"configuration\" or \"api\""),
        (connection("proxy = \"socks5://proxy.example\""), "t.toml:6: `connection.proxy` has to be the address of an HTTP proxy"),
        (connection("proxy = \"http://proxy.example:1/?key=1\""), "`connection.proxy` has to be the address of an HTTP proxy"),
        ("[[task]]\nrun = \"backup\"\nat = \"03:00\"\nout = \"\"\n".to_owned(), "`task.out` has to be a path from the root"),
        ("[[task]]\nrun = \"backup\"\nat = \"03:00\"\nout = \"backups\"\n".to_owned(), "`task.out` has to be a path from the root"),
        (connection("proxy = \"\""), "`connection.proxy` has to be the address of an HTTP proxy"),
        (connection("client_cert = \"own.pem\""), "`connection.client_cert` has to be { env ="),
        (connection("rate_max = 0"), "`connection.rate_max` has to be at least 1"),
        (connection("timeout = \"0s\""), "`connection.timeout` has to be longer"),
        (format!("{n}{n}"), "t.toml:6: there are two connections `n`"),
        ("[[repository]]\nname = \"r\"\n[[retain]]\npackages = [\"npm:*\"]\nrepository = \"rr\"\nkeep_last = 1\n".to_owned(), "t.toml:6: there is no repository `rr`; did you mean `r`?"),
        ("[[retain]]\npackages = [\"npm:*\"]\nkeep_last = 0\n".to_owned(), "`retain.keep_last` has to be at least 1"),
        ("[[task]]\nrun = \"clean\"\nevery = \"1d\"\n".to_owned(), "t.toml:3: `task.run` has to be one of retain, gc, verify, backup, not `clean`"),
        ("[[task]]\nrun = \"verfy\"\nevery = \"1d\"\n".to_owned(), "did you mean \"verify\"?"),
        ("[[task]]\nevery = \"1d\"\n".to_owned(), "t.toml:2: `task.run` is missing"),
        ("[[task]]\nrun = \"gc\"\n".to_owned(), "t.toml:2: a [[task]] has one of `every`"),
        ("[[task]]\nrun = \"gc\"\nevery = \"1d\"\nat = \"03:30\"\n".to_owned(), "t.toml:2: a [[task]] has one of `every`"),
        ("[[task]]\nrun = \"gc\"\nevery = \"10ms\"\n".to_owned(), "t.toml:4: `task.every` has to be a second or longer"),
        ("[[task]]\nrun = \"gc\"\nat = \"25:00\"\n".to_owned(), "t.toml:4: `task.at` has to be a time of the day"),
        ("[[task]]\nrun = \"gc\"\nat = \"3\"\n".to_owned(), "t.toml:4: `task.at` has to be a time of the day"),
        ("[[task]]\nrun = \"gc\"\nat = \"03:30\"\nrepair = true\n".to_owned(), "t.toml:5: `task.repair` is of use with run = \"verify\" alone"),
        ("[[task]]\nrun = \"gc\"\nat = \"03:30\"\nout = \"/b\"\n".to_owned(), "t.toml:5: `task.out` is of use with run = \"backup\" alone"),
        ("[[task]]\nrun = \"backup\"\nat = \"03:30\"\n".to_owned(), "t.toml:2: a task with run = \"backup\" needs `out`"),
        ("[[task]]\nrun = \"backup\"\nat = \"03:30\"\nout = \"/x/backup\"\n".to_owned(), "t.toml:5: `task.out` lies within the data directory"),
        ("[[task]]\nrun = \"retain\"\nat = \"03:30\"\n".to_owned(), "t.toml:3: `task.run` = \"retain\" deletes what no [[retain]] keeps"),
        ("[[task]]\nrun = \"gc\"\nat = \"03:30\"\n[[task]]\nrun = \"gc\"\nevery = \"1d\"\n".to_owned(), "t.toml:5: there are two tasks `gc`"),
        ("[[task]]\nrun = \"gc\"\nat = \"03:30\"\nevry = \"1d\"\n".to_owned(), "t.toml:5: there is no key `task.evry`; did you mean `task.every`?"),
        ("[[rule]]\naction = \"deny\"\npackages = []\n".to_owned(), "t.toml:4: `rule.packages` is empty"),
        ("rule = [1]\n".to_owned(), "each of `rule` has to be a table"),
        ("[[origin]]\npackages = [\"npm:x\"]\n".to_owned(), "`[[origin]]` says nothing without"),
        ("[[origin]]\npackages = [\"npm:x\"]\nfrom = []\n".to_owned(), "t.toml:4: `origin.from` says"),
        ("[domain]\nname = \"a b/c\"\n".to_owned(), "t.toml:3: `domain.name` has to be"),
        ("[domain]\nowner = \"11112222333\"\n".to_owned(), "`domain.owner` has to be an account"),
        ("[domain]\nregion = \"\"\n".to_owned(), "`domain.region` has to be a region"),
        ("[access]\nfailures_max = 0\n".to_owned(), "`access.failures_max` has to be at least 1"),
        ("[fetch]\nfailures_max = 0\n".to_owned(), "`fetch.failures_max` has to be at least 1"),
        ("[fetch]\nread_timeout = \"0s\"\n".to_owned(), "`fetch.read_timeout` has to be longer"),
        ("[events]\nat_once = 0\n".to_owned(), "`events.at_once` has to be at least 1"),
        ("[upload]\nat_once = 0\nbody_bytes_max = 0\n".to_owned(), "`upload.body_bytes_max` has to be at least 1"),
        ("[server]\nheader_bytes_max = 100\n".to_owned(), "`server.header_bytes_max` has to be at least 8KiB"),
        ("[server]\nhosts = [\"a.example:80\"]\n".to_owned(), "`server.hosts` has to be a list of names"),
        ("[log]\nlevel = \"warning\"\n".to_owned(), "did you mean `warn`?"),
        ("[encryption]\n".to_owned(), "t.toml:2: `encryption.key` is missing"),
        ("public_url = \"https://u:p@x.example\"\n".to_owned(), "`public_url` stands in every document"),
        ("public_url = \"packages.corp.example\"\n".to_owned(), "`public_url` has to begin with"),
    ] {
        let source = ConfigSource {
            file: "t.toml".to_owned(),
            ..source(&format!("data_dir = \"/x\"\n{text}"))
        };
        let faults = load(&source, &Learned::default()).unwrap_err().to_string();
        assert!(faults.contains(said), "{said}\nis not in\n{faults}");
    }
    for right in [
        "[log]\nlevel = \"info,larder=debug\"\n",
        "[cache]\nmin_free = 0\nfresh_for = \"0s\"\n",
    ] {
        with(right, &[]).unwrap();
    }
}

#[test]
fn the_built_in_repository_draws_on_what_no_other_names() {
    let learned = |names: &[&str]| {
        let formats = names.iter().map(|name| name.parse().unwrap());
        let connections = formats.map(|format: crate::package::Format| {
            ConnectionSettings::new(&format!("public:{format}"), format, "https://up.example/")
                .unwrap()
        });
        Learned {
            data_dir: Some("/data".into()),
            connections: Some(connections.collect()),
            ..Learned::default()
        }
    };
    let sources = |text: &str, names: &[&str]| -> Vec<String> {
        let source = ConfigSource {
            file: "larder.toml".to_owned(),
            text: text.to_owned(),
            environment: Vec::new(),
        };
        let config = load(&source, &learned(names)).unwrap_or_else(|it| panic!("{it}"));
        let repositories = config.repositories.iter();
        let lines = repositories.map(|one| {
            let connections: Vec<&str> = one.connections().collect();
            format!("{}: {}", one.name, connections.join(" "))
        });
        lines.collect()
    };
    let team = "[[repository]]\nname = \"team\"\nupstreams = [\"public\"]\npublish = \"local\"\n";
    assert_eq!(
        sources(team, &["pypi", "npm"]),
        [
            "team: public:npm public:pypi",
            "public: public:npm public:pypi"
        ]
    );
    let bare = "[[repository]]\nname = \"public\"\n";
    assert_eq!(sources(bare, &["npm"]), ["public: public:npm"]);
    let one = "[[repository]]\nname = \"team\"\nexternal_connections = [\"public:npm\"]\n";
    // No door that nobody asked for.
    assert_eq!(sources(one, &["npm", "pypi"]), ["team: public:npm"]);
    assert_eq!(sources(one, &["npm"]), ["team: public:npm"]);
    // Packages of one's own alone, under whatever name.
    let own = "[[repository]]\nname = \"public\"\npublish = \"local\"\n";
    assert_eq!(sources(own, &["npm"]), ["public: "]);
}

#[test]
fn mistakes_are_told_in_the_order_of_their_lines() {
    let said = with("[cache]\nmax_size = \"lots\"\nmax_sise = 1\n[[repository]]\nname = \"Team\"\nupstreams = [\"pub\"]\n[log]\nlevle = \"x\"\n", &[("LARDER_LISTN", "1")]).unwrap_err();
    assert_eq!(said.lines().next(), Some("6 mistakes in larder.toml"));
    let lines: Vec<&str> = said
        .lines()
        .skip(1)
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    let at = |line: usize| format!("larder.toml:{line}");
    let expected = [at(3), at(4), at(6), at(9), "LARDER_LISTN".to_owned()];
    let without_upstream: Vec<&str> = lines.into_iter().filter(|it| *it != at(7)).collect();
    assert_eq!(without_upstream, expected, "{said}");
}

#[test]
fn a_token_of_an_exchange_holds_no_longer_than_may_be() {
    let read = |expires: &str| {
        let text = format!(
            "[[oidc]]\nissuer = \"https://issuer.ci.example\"\naudience = \"larder\"\n\
             claims = {{ repository = \"acme/*\" }}\nrole = \"build\"\nexpires = \"{expires}\"\n"
        );
        load(&source(&text), &Learned::default()).map(|config| config.oidc.len())
    };
    assert_eq!(read("12h").unwrap(), 1);
    assert_eq!(read("43200s").unwrap(), 1);
    let faults = read("43201s").unwrap_err().to_string();
    assert!(
        faults.contains("`oidc.expires` has to be 12h or less"),
        "{faults}"
    );
}

#[test]
fn a_task_has_a_pace_and_the_name_of_its_command_unless_it_has_one_of_its_own() {
    let config = with(
        "[[task]]\nrun = \"gc\"\nevery = \"6h\"\n\
         [[task]]\nrun = \"verify\"\nat = 03:30:00\nrepair = true\n\
         [[task]]\nrun = \"backup\"\nat = \"03:30\"\nout = \"/b.tar\"\n\
         [[task]]\nname = \"weekly\"\nrun = \"backup\"\nevery = \"7d\"\nout = \"/c/\"\n",
        &[],
    )
    .unwrap();
    let tasks = config
        .tasks
        .iter()
        .map(|it| (it.name.as_str(), &it.work, it.pace));
    let hours = |count: u64| Pace::Every(Duration::from_secs(count * 3600));
    let night = Pace::Daily("03:30".parse().unwrap());
    let backup = |out: &str| TaskWork::Backup { out: out.into() };
    assert_eq!(
        tasks.collect::<Vec<_>>(),
        [
            ("gc", &TaskWork::Gc, hours(6)),
            ("verify", &TaskWork::Verify { repair: true }, night),
            ("backup", &backup("/b.tar"), night),
            ("weekly", &backup("/c/"), hours(7 * 24)),
        ]
    );
}
