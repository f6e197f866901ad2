//! The routes: each path leads to one, and the route's type says what it takes to be let in. A path
//! is looked at here, once per request, and nowhere else.

use std::borrow::Cow;

use http::header::USER_AGENT;
use http::{HeaderMap, Method};

use crate::codeartifact::Operation;
use crate::package::Format;
use crate::problem::{Decider, Kind, Problem};
use crate::telemetry::RUN_TAG;

/// Where a path leads, by what it takes to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Open to everybody.
    Open(Open),
    /// The CodeArtifact API. A call is signed, and its operation asks for permissions of its own; who
    /// asks for an operation that there is not has to be known all the same.
    Api(Option<Operation>),
    /// A permission on the repository that it leads to.
    Repository(InRepository<'a>),
}

/// Everything that nobody needs a permission for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Front,
    Live,
    Ready,
    Metrics,
    /// Takes an identity token, which is checked there, for one of Larder's.
    Exchange,
    /// Nothing is there.
    Nowhere,
}

/// A path within a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InRepository<'a> {
    Package {
        format: Format,
        repository: &'a str,
        /// Below the repository, still encoded.
        rest: &'a str,
        /// The `larder run` that asks.
        run: Option<&'a str>,
    },
    /// A tarball or an attestation at the host's root: npm puts the registry's host, without its path,
    /// before the path of upstream's address. It lies in the run's repository, or else in the first.
    NpmAtRoot {
        rest: &'a str,
        tag: Option<RunTag<'a>>,
    },
    /// Why a version is served or not, in the repository that the query names.
    Decide,
}

/// The run and the repository that `larder run` has npm name in its `User-Agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTag<'a> {
    pub run: &'a str,
    pub repository: &'a str,
}

impl<'a> RunTag<'a> {
    /// Reads the tag where the request has one.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let agent = headers.get(USER_AGENT)?;
        memchr::memmem::find(agent.as_bytes(), RUN_TAG.as_bytes())?;
        let mut words = agent.to_str().ok()?.split(' ');
        let tag = words.find_map(|word| word.strip_prefix(RUN_TAG))?;
        let (run, repository) = tag.split_once('.')?;
        Some(Self { run, repository })
    }
}

/// Whether npm itself asks: what other clients of its registry make of an answer is their own.
pub fn is_npm(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"npm/"))
}

/// The methods of what can only be read.
pub const READS: &str = "GET, HEAD";

/// A top-level folder of paths.
#[derive(Clone, Copy)]
enum Folder {
    Api,
    Run,
    Nothing,
    Format(Format),
    NpmAtRoot,
}

/// The single places, each with the methods that it takes.
const PLACES: [(&str, Route<'static>, &str); 6] = [
    ("/", Route::Open(Open::Front), READS),
    ("/-/live", Route::Open(Open::Live), READS),
    ("/-/ready", Route::Open(Open::Ready), READS),
    ("/-/metrics", Route::Open(Open::Metrics), READS),
    ("/-/oidc/token", Route::Open(Open::Exchange), "POST"),
    ("/-/decide", Route::Repository(InRepository::Decide), READS),
];

/// The folders. A path lies in the first one that it begins with.
const FOLDERS: [(&str, Folder); 9] = [
    ("/v1/", Folder::Api),
    ("/-/run/", Folder::Run),
    // The one path of npm's own that it asks for at the host's root.
    ("/-/npm/v1/attestations/", Folder::NpmAtRoot),
    ("/-/", Folder::Nothing),
    ("/npm/", Folder::Format(Format::Npm)),
    ("/pypi/", Folder::Format(Format::Pypi)),
    ("/maven/", Folder::Format(Format::Maven)),
    ("/nuget/", Folder::Format(Format::Nuget)),
    ("/", Folder::NpmAtRoot),
];

/// The router's own list: the paths of all places and, with a slash at their end, of all folders.
pub fn paths() -> impl Iterator<Item = &'static str> {
    let places = PLACES.iter().map(|(path, ..)| *path);
    places.chain(FOLDERS.iter().map(|(path, _)| *path))
}

const NOWHERE: Route<'static> = Route::Open(Open::Nowhere);

impl<'a> Route<'a> {
    /// Finds the route. `path` is without doubled slashes.
    pub fn find(method: &Method, path: &'a str, tag: Option<RunTag<'a>>) -> Self {
        if let Some((_, place, _)) = PLACES.iter().find(|(at, ..)| *at == path) {
            return *place;
        }
        let found = FOLDERS
            .iter()
            .find_map(|(at, folder)| Some((folder, path.strip_prefix(at)?)));
        let Some((folder, below)) = found else {
            return NOWHERE;
        };
        match folder {
            Folder::Api => Self::Api(Operation::of(method, path)),
            Folder::Run => Self::in_run(below),
            Folder::Nothing => NOWHERE,
            // npm's registry lies below `/-/run/` within a run: what it asks for elsewhere is upstream's
            // path, whatever that looks like.
            Folder::Format(format) if tag.is_none() => Self::package(*format, below, None)
                .unwrap_or_else(|| Self::npm_at_root(method, path, tag)),
            Folder::Format(_) | Folder::NpmAtRoot => Self::npm_at_root(method, path, tag),
        }
    }

    fn in_run(below: &'a str) -> Self {
        let Some((run, path)) = below.split_once('/') else {
            return NOWHERE;
        };
        let is_id = !run.is_empty()
            && run.len() <= 64
            && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let Some((format, below)) = path.split_once('/').filter(|_| is_id) else {
            return NOWHERE;
        };
        let format = Format::SERVED.into_iter().find(|it| it.as_str() == format);
        format
            .and_then(|format| Self::package(format, below, Some(run)))
            .unwrap_or(NOWHERE)
    }

    fn package(format: Format, below: &'a str, run: Option<&'a str>) -> Option<Self> {
        let (repository, rest) = below.split_once('/').unwrap_or((below, ""));
        // `/npm/-/npm-10.0.0.tgz` is the package npm at the host's root.
        if repository.is_empty() || repository == "-" {
            return None;
        }
        Some(Self::Repository(InRepository::Package {
            format,
            repository,
            rest,
            run,
        }))
    }

    fn npm_at_root(method: &Method, path: &'a str, tag: Option<RunTag<'a>>) -> Self {
        let reads = method == Method::GET || method == Method::HEAD;
        let is_npm = path.contains("/-/npm/v1/attestations/")
            || (path.contains("/-/") && path.ends_with(".tgz"));
        if !reads || !is_npm {
            return NOWHERE;
        }
        let rest = path.trim_start_matches('/');
        Self::Repository(InRepository::NpmAtRoot { rest, tag })
    }

    /// Whether the route takes the method. Formats and the API read theirs themselves; what leads
    /// nowhere does so by every method.
    ///
    /// # Errors
    /// Which methods it takes.
    pub fn takes(&self, method: &Method) -> Result<(), Problem> {
        let place = PLACES.iter().find(|(_, route, _)| route == self);
        let Some((.., allow)) = place else {
            return Ok(());
        };
        if allow.split(", ").any(|one| one == method.as_str()) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::MethodNotAllowed { allow },
            Decider::Larder,
            format!("this path takes no {method}, but {allow}"),
        ))
    }

    /// The format that answers and problems are in.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Repository(InRepository::Package { format, .. }) => Some(*format),
            Self::Repository(InRepository::NpmAtRoot { .. }) => Some(Format::Npm),
            _ => None,
        }
    }

    /// Whether the answer may be the same as that to another client's request, which no run counts.
    pub fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::Repository(
                InRepository::Package { run: None, .. } | InRepository::NpmAtRoot { tag: None, .. }
            )
        )
    }
}

/// The path with one slash wherever there are several: settings that end in a slash and clients that
/// begin with one double them. Encoded slashes stay as they are.
pub fn single_slashes(path: &str) -> Cow<'_, str> {
    if memchr::memmem::find(path.as_bytes(), b"//").is_none() {
        return Cow::Borrowed(path);
    }
    let mut single = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !single.ends_with('/') {
            single.push(c);
        }
    }
    Cow::Owned(single)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn get(path: &str) -> Route<'_> {
        Route::find(&Method::GET, path, None)
    }

    const TAG: RunTag<'_> = RunTag {
        run: "7a",
        repository: "team",
    };

    fn npm<'a>(repository: &'a str, rest: &'a str, run: Option<&'a str>) -> Route<'a> {
        Route::Repository(InRepository::Package {
            format: Format::Npm,
            repository,
            rest,
            run,
        })
    }

    fn at_root<'a>(rest: &'a str, tag: Option<RunTag<'a>>) -> Route<'a> {
        Route::Repository(InRepository::NpmAtRoot { rest, tag })
    }

    #[test]
    fn no_tag_and_no_method_lead_out_of_the_api_or_out_of_larders_own_paths() {
        let file = "own/-/own-1.0.0.tgz";
        for tag in [None, Some(TAG)] {
            for method in [Method::GET, Method::HEAD, Method::PUT] {
                let find = |path: &str| match Route::find(&method, path, tag) {
                    Route::Open(open) => Some(open),
                    Route::Api(None) => None,
                    route => panic!("{method} {path} leads to {route:?}"),
                };
                assert_eq!(find(&format!("/v1/{file}")), None);
                for before in ["control", "control/x", "live", "metrics", "oidc/token", "x"] {
                    let path = format!("/-/{before}/{file}");
                    assert_eq!(find(&path), Some(Open::Nowhere), "{path}");
                }
                let path = "/-/control/-/npm/v1/attestations/own@1.0.0";
                assert_eq!(find(path), Some(Open::Nowhere));
            }
        }
    }

    #[test]
    fn a_place_takes_the_methods_that_it_lists() {
        for (path, _, allow) in PLACES {
            for method in [
                "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE",
            ] {
                let is_taken = allow.split(", ").any(|one| one == method);
                let method: Method = method.parse().unwrap();
                let taken = Route::find(&method, path, None).takes(&method);
                assert_eq!(taken.is_ok(), is_taken, "{method} {path}");
            }
        }
        for path in ["/x", "/-/x", "/npm", "/-/run/7a", "/v1"] {
            let route = Route::find(&Method::POST, path, None);
            assert_eq!(route, NOWHERE);
            assert!(route.takes(&Method::POST).is_ok());
        }
    }

    #[test]
    fn every_format_has_a_folder() {
        for format in Format::SERVED {
            let path = format!("/{format}/team/x");
            assert_eq!(get(&path).format(), Some(format));
        }
    }

    #[test]
    fn paths_lead_where_the_design_says() {
        for (path, expected) in [
            ("/npm/team/left-pad", npm("team", "left-pad", None)),
            ("/npm/team/@a%2fb", npm("team", "@a%2fb", None)),
            ("/npm/team", npm("team", "", None)),
            ("/-/run/7a/npm/team/x", npm("team", "x", Some("7a"))),
            // Commands for the owner alone come through the control socket, not by HTTP.
            ("/-/run/7a", NOWHERE),
            ("/-/run/7a/lease", NOWHERE),
            ("/-/control", NOWHERE),
            ("/-/control/import", NOWHERE),
            (
                "/left-pad/-/left-pad-1.3.0.tgz",
                at_root("left-pad/-/left-pad-1.3.0.tgz", None),
            ),
            (
                "/npm/-/npm-10.0.0.tgz",
                at_root("npm/-/npm-10.0.0.tgz", None),
            ),
            (
                "/-/npm/v1/attestations/a@1.0.0",
                at_root("-/npm/v1/attestations/a@1.0.0", None),
            ),
            ("/-/live", Route::Open(Open::Live)),
            ("/v1/domains", Route::Api(None)),
            ("/v1/domain", Route::Api(Some(Operation::DescribeDomain))),
            ("/", Route::Open(Open::Front)),
            ("/gem/x", NOWHERE),
            ("/generic/team/x", NOWHERE),
            ("/-/run//npm/x", NOWHERE),
            ("/-/npm/v1/oidc/token", NOWHERE),
        ] {
            assert_eq!(get(path), expected, "{path}");
        }
        // Upstream's own path may look like one of ours.
        let path = "/npm/team/left-pad/-/left-pad-1.3.0.tgz";
        let rest = path.trim_start_matches('/');
        assert_eq!(
            Route::find(&Method::GET, path, Some(TAG)),
            at_root(rest, Some(TAG))
        );
    }

    #[test]
    fn a_doubled_slash_is_one() {
        for (path, single) in [
            ("/npm/public/a", "/npm/public/a"),
            ("//npm/public/a", "/npm/public/a"),
            ("/npm//public///a//", "/npm/public/a/"),
            ("//", "/"),
            ("/npm/public/@a%2f%2fb", "/npm/public/@a%2f%2fb"),
            ("/npm/public/%2f/a", "/npm/public/%2f/a"),
            ("/maven/p//ü//x", "/maven/p/ü/x"),
        ] {
            let made = single_slashes(path);
            assert_eq!(made, single);
            assert_eq!(matches!(made, Cow::Borrowed(_)), path == single, "{path}");
        }
    }

    #[test]
    fn a_runs_tag_is_a_word_of_the_user_agent() {
        for (agent, tag) in [
            ("npm/11 larder-run/7a.team", Some(TAG)),
            ("larder-run/7a.team npm/11", Some(TAG)),
            ("npm/11 larder-run/7a", None),
            ("npm/11 xlarder-run/7a.team", None),
            ("npm/11", None),
        ] {
            let value = HeaderValue::from_static(agent);
            let headers = HeaderMap::from_iter([(USER_AGENT, value)]);
            assert_eq!(RunTag::of(&headers), tag, "{agent}");
        }
    }
}
