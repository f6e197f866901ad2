//! Who is let in where: every route of the router, by every method, for every kind of caller.

use std::collections::BTreeSet;

use larder::access::{Caller, Principal, Proof};
use larder::codeartifact::Operation;
use reqwest::Method;
use serde_json::json;

use super::{GUARDED, OWNER, key, policy, token};
use crate::publish::npm_document;
use crate::support::larder::Answer;
use crate::support::npm::{publish, tarball, version};
use crate::support::nuget::{self, nupkg};
use crate::support::{Reply, TestLarder, Upstream, pypi};

/// `team` is the first repository and draws on `secret`, which draws on `public`.
const REPOSITORIES: &str = "\
    [[repository]]\nname = \"team\"\nupstreams = [\"secret\"]\npublish = \"local\"\n\
    [[repository]]\nname = \"secret\"\nupstreams = [\"public\"]\npublish = \"local\"\n\
    [[repository]]\nname = \"public\"\nexternal_connections = [\"up:npm\", \"up:pypi\", \"up:maven\", \"up:nuget\"]\n\
    [[repository]]\nname = \"other\"\npublish = \"local\"\n";

/// The callers, in the order of the columns.
const CALLERS: [&str; 7] = [
    "nobody",
    "a wrong token",
    "an expired token",
    "who may do everything in `other`",
    "who may read `team`",
    "who may read `team` and publish there",
    "the owner of the domain",
];

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];
const READS: &str = "GET HEAD";
const OTHERS: &str = "PUT POST DELETE PATCH OPTIONS";
const ALL: &str = "GET HEAD PUT POST DELETE PATCH OPTIONS";

/// A path, and what each caller is answered by which methods:
///
/// | `+` | `?` | `x` | `0` | `-` | `!` |
/// | --- | --- | --- | --- | --- | --- |
/// | done | 401 | 403 | 404 | 405 | refused for what was sent |
struct Row(&'static str, &'static [(&'static str, &'static str)]);

const OPEN: &[(&str, &str)] = &[(READS, "+++++++"), (OTHERS, "-------")];
const NOWHERE: &[(&str, &str)] = &[(ALL, "0000000")];
const API: &[(&str, &str)] = &[(ALL, "xxx!!!!")];
const AT_ROOT: &[(&str, &str)] = &[(READS, "???x+++"), (OTHERS, "0000000")];
const NPM_DOCUMENT: &[(&str, &str)] = &[
    (READS, "???x+++"),
    ("PUT", "???xx!!"),
    ("DELETE", "???x000"),
    ("POST PATCH OPTIONS", "???x---"),
];
/// What came from outside is published by nobody.
const NPM_FROM_OUTSIDE: &[(&str, &str)] = &[
    (READS, "???x+++"),
    ("PUT", "???xxxx"),
    ("DELETE", "???x000"),
    ("POST PATCH OPTIONS", "???x---"),
];
const NPM_FILE: &[(&str, &str)] = &[
    (READS, "???x+++"),
    ("PUT DELETE", "???x000"),
    ("POST PATCH OPTIONS", "???x---"),
];
const PYPI_READ: &[(&str, &str)] = &[
    (READS, "???x+++"),
    ("POST", "???x000"),
    ("PUT DELETE PATCH OPTIONS", "???x---"),
];
const NUGET_READ: &[(&str, &str)] = &[
    (READS, "???x+++"),
    ("PUT POST DELETE", "???x000"),
    ("PATCH OPTIONS", "???x---"),
];

const ROWS: &[Row] = &[
    Row("/", OPEN),
    Row("/-/live", OPEN),
    Row("/-/ready", OPEN),
    Row("/-/metrics", OPEN),
    Row("//-//metrics", OPEN),
    Row(
        "/-/oidc/token",
        &[
            ("POST", "!!!!!!!"),
            ("GET HEAD PUT DELETE PATCH OPTIONS", "-------"),
        ],
    ),
    Row(
        "/-/decide?repository=team&package=npm:left-pad&version=1.3.0",
        &[(READS, "???x+++"), (OTHERS, "-------")],
    ),
    Row(
        "/-/decide?repository=secret&package=npm:left-pad&version=1.3.0",
        &[(READS, "???xxx+"), (OTHERS, "-------")],
    ),
    Row(
        "/-/decide?repository=nowhere&package=npm:left-pad&version=1.3.0",
        &[(READS, "???xxx0"), (OTHERS, "-------")],
    ),
    Row("/v1/nothing", API),
    Row("//v1//nothing", API),
    Row("/v1/own/-/own-1.0.0.tgz", API),
    Row("/v1//own/-/own-1.0.0.tgz", API),
    Row("/v1/-/npm/v1/attestations/left-pad@1.3.0", API),
    Row("/-/run/7a", NOWHERE),
    Row("/-/run/7a/lease", NOWHERE),
    Row("/-/run/7a/own/-/own-1.0.0.tgz", NOWHERE),
    Row("/-/run/7a/npm/team/left-pad", NPM_FROM_OUTSIDE),
    Row("/-/run/7a/npm/team/own/-/own-1.0.0.tgz", NPM_FILE),
    Row("/-/run/7a/pypi/team/simple/six/", PYPI_READ),
    Row("/-/npm/v1/attestations/left-pad@1.3.0", AT_ROOT),
    Row("/-/control", NOWHERE),
    Row("/-/control/import", NOWHERE),
    Row("/-/control/own/-/own-1.0.0.tgz", NOWHERE),
    Row("/-/control/-/npm/v1/attestations/left-pad@1.3.0", NOWHERE),
    Row("/-/live/own/-/own-1.0.0.tgz", NOWHERE),
    Row("/-/metrics/own/-/own-1.0.0.tgz", NOWHERE),
    Row("/-/npm/v1/security/advisories/bulk", NOWHERE),
    Row("/npm/team/left-pad", NPM_FROM_OUTSIDE),
    Row("//npm//team//left-pad", NPM_FROM_OUTSIDE),
    Row("/npm/team/own", NPM_DOCUMENT),
    Row("/npm/team/left-pad/-/left-pad-1.3.0.tgz", NPM_FILE),
    Row("/npm/team/own/-/own-1.0.0.tgz", NPM_FILE),
    Row(
        "/npm/team/-/npm/v1/attestations/left-pad@1.3.0",
        &[
            (READS, "???x+++"),
            ("PUT DELETE", "???xxxx"),
            ("POST PATCH OPTIONS", "???x---"),
        ],
    ),
    Row(
        "/npm/team/-/whoami",
        &[
            (READS, "???x+++"),
            ("PUT DELETE", "???xxxx"),
            ("POST PATCH OPTIONS", "???x---"),
        ],
    ),
    Row(
        "/npm/team/-/npm/v1/security/advisories/bulk",
        &[
            (READS, "???x000"),
            ("POST", "???x+++"),
            ("PUT DELETE", "???xxxx"),
            ("PATCH OPTIONS", "???x000"),
        ],
    ),
    Row(
        "/npm/team/-/package/own/dist-tags/old",
        &[
            (READS, "???x000"),
            ("PUT", "???xx!!"),
            ("POST", "???x---"),
            ("DELETE", "???xx++"),
            ("PATCH OPTIONS", "???x000"),
        ],
    ),
    Row(
        "/npm/team/own/-rev/1",
        &[
            (READS, "???x000"),
            // It is a package of `secret`, and `team` has nothing of its own by that name.
            ("PUT DELETE", "???xx00"),
            ("POST", "???x---"),
            ("PATCH OPTIONS", "???x000"),
        ],
    ),
    Row(
        "/npm/secret/left-pad",
        &[
            (READS, "???xxx+"),
            ("PUT", "???xxxx"),
            ("DELETE", "???xxx0"),
            ("POST PATCH OPTIONS", "???xxx-"),
        ],
    ),
    Row(
        "/npm/secret/own/-/own-1.0.0.tgz",
        &[
            (READS, "???xxx+"),
            ("PUT DELETE", "???xxx0"),
            ("POST PATCH OPTIONS", "???xxx-"),
        ],
    ),
    Row("/npm/nowhere/left-pad", &[(ALL, "???xxx0")]),
    Row(
        "/npm/-/npm-10.0.0.tgz",
        &[(READS, "???x000"), (OTHERS, "0000000")],
    ),
    Row("/pypi/team/simple/six/", PYPI_READ),
    Row("/pypi/team//simple/six/", PYPI_READ),
    Row(
        "/pypi/team/",
        &[
            ("POST", "???xx++"),
            ("GET HEAD PUT DELETE PATCH OPTIONS", "???x000"),
        ],
    ),
    Row("/pypi/team/simple/own/", PYPI_READ),
    Row(
        "/pypi/secret/",
        &[
            ("POST", "???xxx+"),
            ("GET HEAD PUT DELETE PATCH OPTIONS", "???xxx0"),
        ],
    ),
    Row(
        "/maven/team/org/acme/lib/1.0/lib-1.0.jar",
        &[
            (READS, "???x+++"),
            // The name was seen outside by the rows before.
            ("PUT", "???xxxx"),
            ("POST DELETE PATCH OPTIONS", "???x---"),
        ],
    ),
    Row(
        "/maven/team/org/own/lib/1.0/lib-1.0.jar",
        &[
            (READS, "???x000"),
            ("PUT", "???xx++"),
            ("POST DELETE PATCH OPTIONS", "???x---"),
        ],
    ),
    Row("/nuget/team/v3/index.json", NUGET_READ),
    Row("/nuget/team/v3/flat/acme.lib/index.json", NUGET_READ),
    Row(
        "/nuget/team/api/v2/package",
        &[
            (READS, "???x000"),
            ("PUT", "???xx++"),
            ("POST DELETE", "???x000"),
            ("PATCH OPTIONS", "???x000"),
        ],
    ),
    Row(
        "/nuget/team/api/v2/package/Acme.Own/1.0.0",
        &[
            (READS, "???x000"),
            ("PUT", "???x000"),
            ("POST DELETE", "???xx++"),
            ("PATCH OPTIONS", "???x000"),
        ],
    ),
    Row("/left-pad/-/left-pad-1.3.0.tgz", AT_ROOT),
    Row("/own/-/own-1.0.0.tgz", AT_ROOT),
    Row("/nothing", NOWHERE),
    Row("/gem/team/x", NOWHERE),
    Row("/generic/team/x", NOWHERE),
    Row("/v1", NOWHERE),
];

fn symbol(status: u16) -> char {
    match status {
        200..=399 => '+',
        401 => '?',
        403 => 'x',
        404 => '0',
        405 => '-',
        400..=499 => '!',
        _ => panic!("{status}"),
    }
}

struct Guarded {
    larder: TestLarder,
    tokens: Vec<Option<String>>,
    _upstream: Upstream,
}

impl Guarded {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        nuget::serve(&upstream);
        nuget::publish(&upstream, "Acme.Lib", &["1.0.0"], false);
        publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
        upstream.put(
            "/npm/-/npm/v1/attestations/left-pad@1.3.0",
            Reply::json(r#"{"attestations":[]}"#),
        );
        upstream.put("/npm/-/npm/v1/security/advisories/bulk", Reply::json("{}"));
        pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
        upstream.put("/maven2/org/acme/lib/1.0/lib-1.0.jar", Reply::bytes("lib"));
        let larder = TestLarder::start_and(&upstream, &format!("{REPOSITORIES}{GUARDED}")).await;
        let user = |name: &str| format!("arn:aws:iam::{OWNER}:user/{name}");
        let allow = |name: &str, actions: &[&str]| {
            json!({ "Effect": "Allow", "Principal": { "AWS": user(name) },
                "Action": actions.iter().map(|it| format!("codeartifact:{it}")).collect::<Vec<_>>() })
        };
        policy(&larder, Some("other"), &allow("elsewhere", &["*"])).await;
        let changes = [
            "PublishPackageVersion",
            "PutPackageMetadata",
            "UpdatePackageVersionsStatus",
            "DisposePackageVersions",
        ];
        let team = json!({ "Statement": [
            allow("reader", &["Read*", "Get*", "List*", "Describe*"]),
            allow("publisher", &["Read*", "Get*", "List*", "Describe*"]),
            allow("publisher", &changes) ] });
        policy(&larder, Some("team"), &team).await;
        let (maker, _) = key(&larder, "root").await;
        let owner = Caller {
            principal: Principal::root(OWNER),
            proof: Proof::Key(maker.as_str().into()),
        };
        let mut tokens = vec![
            None,
            Some("lrd_wrong".to_owned()),
            Some(larder.larder.access.token_for(&owner, -1).unwrap().token),
        ];
        for name in ["elsewhere", "reader", "publisher"] {
            tokens.push(Some(token(&larder, &user(name)).await.1));
        }
        tokens.push(Some(token(&larder, "root").await.1));
        let guarded = Self {
            larder,
            tokens,
            _upstream: upstream,
        };
        let document = npm_document("own", "1.0.0", &tarball("own", "1.0.0", &[]));
        guarded
            .ask(6, "PUT", "/npm/secret/own", &[], Some(document.to_vec()))
            .await
            .expect(201);
        guarded
    }

    async fn ask(
        &self,
        caller: usize,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let bearer = self.tokens[caller]
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &str)> = more.to_vec();
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        let method: Method = method.parse().unwrap();
        self.larder
            .send(method, path, &headers, body.map(Into::into))
            .await
    }
}

/// What uploads need to be one.
fn body(method: &str, path: &str) -> Option<Vec<u8>> {
    let part = |name: &str, file: &str, bytes: Vec<u8>| {
        let head = format!(
            "--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n"
        );
        [head.as_bytes(), &bytes, b"\r\n--B--\r\n"].concat()
    };
    match (method, path) {
        ("POST", "/pypi/team/" | "/pypi/secret/") => {
            let wheel = pypi::wheel("own", "1.0", &[]);
            Some(part("content", "own-1.0-py3-none-any.whl", wheel))
        }
        ("PUT", "/nuget/team/api/v2/package") => {
            let package = nupkg("Acme.Own", "1.0.0", &[]);
            Some(part("package", "package.nupkg", package))
        }
        ("PUT", path) if path.starts_with("/maven/") => Some(b"own".to_vec()),
        _ => None,
    }
}

const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=B")];

/// The path of the router's list that a path belongs to.
fn listed(path: &str) -> &'static str {
    let path = path.split('?').next().unwrap();
    let mut single = path.to_owned();
    while single.contains("//") {
        single = single.replace("//", "/");
    }
    let mut all = larder::server::paths();
    let found =
        all.find(|at| *at == single || at.ends_with('/') && single.starts_with(at) && at.len() > 1);
    found.unwrap_or("/")
}

#[tokio::test]
async fn every_route_by_every_method_lets_in_whom_it_should() {
    let rows = ROWS.iter().map(|Row(path, _)| listed(path));
    let covered: BTreeSet<&str> = rows.collect();
    for path in larder::server::paths() {
        assert!(covered.contains(path), "no row is about {path}");
    }
    let guarded = Guarded::new().await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for Row(path, expected) in ROWS {
        let mut methods: Vec<&str> = Vec::new();
        for (those, outcomes) in *expected {
            for method in those.split(' ') {
                methods.push(method);
                for (caller, expected) in outcomes.chars().enumerate() {
                    let sent = body(method, path);
                    let answer = guarded.ask(caller, method, path, &FORM, sent).await;
                    let came = symbol(answer.status);
                    cells += 1;
                    if came != expected {
                        let text = String::from_utf8_lossy(answer.bytes()).into_owned();
                        let who = CALLERS[caller];
                        wrong.push(format!(
                            "{method} {path} by {who}: `{came}` ({}), not `{expected}`: {}",
                            answer.status,
                            text.chars().take(120).collect::<String>()
                        ));
                    }
                }
            }
        }
        methods.sort_unstable();
        let mut all = METHODS;
        all.sort_unstable();
        assert_eq!(methods, all, "{path} has to have each method once");
    }
    println!(
        "{} rows, {} methods, {} callers: {cells} cells",
        ROWS.len(),
        METHODS.len(),
        CALLERS.len()
    );
    assert!(
        wrong.is_empty(),
        "{} cells\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn no_runs_tag_lets_in_who_is_not_let_in_without() {
    let guarded = Guarded::new().await;
    let mut cells = 0;
    for repository in ["team", "secret"] {
        let agent = format!("npm/11.0.0 larder-run/7a.{repository}");
        let tagged = [("user-agent", agent.as_str())];
        for Row(path, expected) in ROWS.iter().filter(|Row(_, it)| !std::ptr::eq(*it, OPEN)) {
            let (_, outcomes) = expected[0];
            for (caller, who) in CALLERS.iter().enumerate().take(4) {
                for method in ["GET", "HEAD"] {
                    let answer = guarded.ask(caller, method, path, &tagged, None).await;
                    let came = symbol(answer.status);
                    assert_ne!(came, '+', "{path} {outcomes} by {who}");
                    cells += 1;
                }
            }
        }
    }
    println!("{cells} cells");
}

/// The operations, and who is refused (`x`) or gets past the decision (`+`): the callers of [`CALLERS`],
/// and last the owner with an authorization token, which opens nothing of the API.
#[rustfmt::skip]
const OPERATIONS: &[(&str, &str)] = &[
    ("AssociateExternalConnection",         "xxxxxx+x"),
    ("CopyPackageVersions",                 "xxxxxx+x"),
    ("CreateDomain",                        "xxx++++x"),
    ("CreatePackageGroup",                  "xxxxxx+x"),
    ("CreateRepository",                    "xxxxxx+x"),
    ("DeleteDomain",                        "xxx++++x"),
    ("DeleteDomainPermissionsPolicy",       "xxxxxx+x"),
    ("DeletePackage",                       "xxxxxx+x"),
    ("DeletePackageGroup",                  "xxxxxx+x"),
    ("DeletePackageVersions",               "xxxxxx+x"),
    ("DeleteRepository",                    "xxxxxx+x"),
    ("DeleteRepositoryPermissionsPolicy",   "xxxxxx+x"),
    ("DescribeDomain",                      "xxxxxx+x"),
    ("DescribePackage",                     "xxxx+++x"),
    ("DescribePackageGroup",                "xxxxxx+x"),
    ("DescribePackageVersion",              "xxxx+++x"),
    ("DescribeRepository",                  "xxxx+++x"),
    ("DisassociateExternalConnection",      "xxxxxx+x"),
    ("DisposePackageVersions",              "xxxxx++x"),
    ("GetAssociatedPackageGroup",           "xxxxxx+x"),
    ("GetAuthorizationToken",               "xxxxxx+x"),
    ("GetDomainPermissionsPolicy",          "xxxxxx+x"),
    ("GetPackageVersionAsset",              "xxxx+++x"),
    ("GetPackageVersionReadme",             "xxxx+++x"),
    ("GetRepositoryEndpoint",               "xxxx+++x"),
    ("GetRepositoryPermissionsPolicy",      "xxxx+++x"),
    ("ListAllowedRepositoriesForGroup",     "xxxxxx+x"),
    ("ListAssociatedPackages",              "xxxxxx+x"),
    // What may not be shown is left out.
    ("ListDomains",                         "xxx++++x"),
    ("ListPackageGroups",                   "xxxxxx+x"),
    ("ListPackages",                        "xxxx+++x"),
    ("ListPackageVersionAssets",            "xxxx+++x"),
    ("ListPackageVersionDependencies",      "xxxx+++x"),
    ("ListPackageVersions",                 "xxxx+++x"),
    ("ListRepositories",                    "xxx++++x"),
    ("ListRepositoriesInDomain",            "xxxxxx+x"),
    ("ListSubPackageGroups",                "xxxxxx+x"),
    ("ListTagsForResource",                 "xxxx+++x"),
    ("PublishPackageVersion",               "xxxxx++x"),
    ("PutDomainPermissionsPolicy",          "xxxxxx+x"),
    ("PutPackageOriginConfiguration",       "xxxxxx+x"),
    ("PutRepositoryPermissionsPolicy",      "xxxxxx+x"),
    ("TagResource",                         "xxxxxx+x"),
    ("UntagResource",                       "xxxxxx+x"),
    ("UpdatePackageGroup",                  "xxxxxx+x"),
    ("UpdatePackageGroupOriginConfiguration", "xxxxxx+x"),
    ("UpdatePackageVersionsStatus",         "xxxxx++x"),
    ("UpdateRepository",                    "xxxxxx+x"),
];

/// A call of which each operation takes what it needs. The policies of its resources stay in force for
/// the callers that come after: what they are replaced by is refused.
fn call() -> (String, Vec<u8>) {
    let arn = format!("arn:aws:codeartifact:us-east-1:{OWNER}:repository/my-domain/team");
    let query = format!(
        "domain=my-domain&repository=team&format=npm&package=own&version=1.0.0&asset=own-1.0.0.tgz\
         &external-connection=up:npm&package-group=/npm/own/*&originRestrictionType=PUBLISH\
         &source-repository=team&destination-repository=team&policy-revision=none&resourceArn={arn}"
    );
    let body = json!({
        "packageGroup": "/npm/own/*", "versions": ["1.0.0"], "targetStatus": "Archived",
        "policyDocument": "{}", "policyRevision": "none", "tags": [{ "key": "a", "value": "b" }],
        "tagKeys": ["a"], "restrictions": { "publish": "ALLOW", "upstream": "ALLOW" },
    });
    (query, body.to_string().into_bytes())
}

#[tokio::test]
async fn every_operation_of_the_api_lets_in_whom_it_should() {
    let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    let all: Vec<&str> = Operation::ALL.iter().map(|it| it.name()).collect();
    assert_eq!(names, all, "each operation has one row");
    let mut guarded = Guarded::new().await;
    let authorization = "/v1/authorization-token?domain=my-domain";
    let given = guarded.ask(6, "POST", authorization, &[], None).await;
    let given = given.expect(200).json()["authorizationToken"].clone();
    guarded
        .tokens
        .push(Some(given.as_str().unwrap().to_owned()));
    let (query, body) = call();
    let mut wrong = Vec::new();
    for (operation, (name, expected)) in Operation::ALL.iter().zip(OPERATIONS) {
        let (method, path) = operation.place();
        let path = format!("{path}?{query}");
        let mut came = String::new();
        for caller in 0..guarded.tokens.len() {
            let answer = guarded.ask(caller, method, &path, &[], Some(body.clone()));
            let answer = answer.await;
            came.push(match symbol(answer.status) {
                'x' => 'x',
                '?' => panic!("{name} answered 401"),
                _ => '+',
            });
        }
        if came != *expected {
            wrong.push(format!("{name}: {came}, not {expected}"));
        }
    }
    println!(
        "{} operations, {} callers: {} cells",
        all.len(),
        guarded.tokens.len(),
        all.len() * guarded.tokens.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn who_reads_needs_the_right_on_the_repository_that_is_asked_alone() {
    let guarded = Guarded::new().await;
    let above = format!("arn:aws:iam::{OWNER}:user/above");
    let below = format!("arn:aws:iam::{OWNER}:user/below");
    for (repository, user) in [("team", &above), ("secret", &below)] {
        let reads = json!({ "Effect": "Allow", "Principal": { "AWS": user },
            "Action": ["codeartifact:Read*", "codeartifact:Get*", "codeartifact:List*", "codeartifact:Describe*"] });
        policy(&guarded.larder, Some(repository), &reads).await;
    }
    let (above, below) = (
        token(&guarded.larder, &above).await.1,
        token(&guarded.larder, &below).await.1,
    );
    let places = [
        ("GET", "/npm/{}/own"),
        ("GET", "/npm/{}/own/-/own-1.0.0.tgz"),
        ("GET", "/npm/{}/left-pad/-/left-pad-1.3.0.tgz"),
        ("GET", "/pypi/{}/simple/six/"),
        ("GET", "/maven/{}/org/acme/lib/1.0/lib-1.0.jar"),
        ("GET", "/nuget/{}/v3/flat/acme.lib/index.json"),
        ("GET", "/-/run/7a/npm/{}/own"),
        (
            "GET",
            "/-/decide?repository={}&package=npm:own&version=1.0.0",
        ),
        ("POST", "/v1/packages?domain=my-domain&repository={}"),
        (
            "GET",
            "/v1/package/version/asset?domain=my-domain&repository={}&format=npm&package=own&version=1.0.0&asset=own-1.0.0.tgz",
        ),
    ];
    let mut cells = 0;
    for (method, place) in places {
        for (token, repository, status) in [
            (&above, "team", 200),
            (&above, "secret", 403),
            (&below, "team", 403),
            (&below, "secret", 200),
        ] {
            let bearer = format!("Bearer {token}");
            let path = place.replace("{}", repository);
            let headers = [("authorization", bearer.as_str())];
            let method: Method = method.parse().unwrap();
            let answer = guarded.larder.send(method, &path, &headers, None).await;
            assert_eq!(answer.status, status, "{path}");
            cells += 1;
        }
    }
    println!("{cells} cells");
}
