//! From a path to what it asks for, and from there to the rules' decision.

use divan::Bencher;
use http::Method;
use larder::config::{ConfigSource, Learned, load};
use larder::format::ClientRequest;
use larder::package::Format;
use larder::rule::RuleQuestion;

#[divan::bench(args = [
    "npm left-pad",
    "npm @scope%2fname",
    "npm left-pad/-/left-pad-1.3.0.tgz",
    "pypi simple/requests/",
    "pypi simple/requests/files.example/packages/ab/cd/requests-2.31.0-py3-none-any.whl",
    "maven org/apache/maven/maven-core/3.9.6/maven-core-3.9.6.jar",
    "nuget v3/registration-gz/newtonsoft.json/index.json",
])]
fn path(bencher: Bencher<'_, '_>, asked: &str) {
    let (format, rest) = asked.split_once(' ').unwrap();
    let protocol = format.parse::<Format>().unwrap().protocol();
    bencher.bench(|| {
        protocol
            .parse(&ClientRequest {
                method: &Method::GET,
                rest: divan::black_box(rest),
                query: None,
                accept: "*/*",
            })
            .unwrap()
    });
}

#[divan::bench(args = [1, 10, 100])]
fn decision_by_the_last_of_so_many_rules(bencher: Bencher<'_, '_>, count: usize) {
    let rule = |n| {
        format!(
            "[[rule]]\nname = \"r{n}\"\naction = \"deny\"\npackages = [\"npm:@evil{n}/*\", \"npm:bad{n}@<2.20\"]\n"
        )
    };
    let rules = (0..count).map(rule).collect::<Vec<_>>().concat();
    let source = ConfigSource {
        file: "bench.toml".to_owned(),
        text: rules,
        environment: Vec::new(),
    };
    let config = load(&source, &Learned::default()).unwrap();
    let package = Format::Npm.protocol().package("left-pad").unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    bencher.bench(|| {
        let question = RuleQuestion {
            package: divan::black_box(&package),
            version: "1.3.0",
            published: None,
            origin: larder::package::Origin::External,
        };
        config.rules.decide(&question, now).is_allowed()
    });
}
