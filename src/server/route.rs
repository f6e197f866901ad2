//! From a path to what it is about.

use http::Method;

use crate::package::Format;
use crate::problem::{Decider, Kind, Problem};

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Package {
        format: Format,
        /// `None`: the first repository (npm at the host's root).
        repository: Option<&'a str>,
        /// Below the repository, still encoded.
        rest: &'a str,
        /// The `larder run` that asks.
        run: Option<&'a str>,
    },
    Live,
    Ready,
    Metrics,
    /// Why a version is served or not.
    Decide,
    /// The CodeArtifact API.
    Api,
    /// Where identity tokens are exchanged.
    Exchange,
    Front,
    Unknown,
}

impl Route<'_> {
    /// Whether the route is for everybody, or asks in its own way who it is. It is the route that
    /// says so, not its path, which a tag may lead elsewhere.
    pub fn asks_by_itself(&self) -> bool {
        match self {
            Self::Front
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Exchange
            | Self::Api
            | Self::Unknown => true,
            Self::Package { .. } | Self::Decide => false,
        }
    }

    /// Whether the route takes the method. Formats and the API read theirs themselves; what leads
    /// nowhere does so by every method.
    ///
    /// # Errors
    /// Which methods it takes.
    pub fn takes(&self, method: &Method) -> Result<(), Problem> {
        let allow = match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Decide | Self::Front => READS,
            Self::Exchange => "POST",
            Self::Package { .. } | Self::Api | Self::Unknown => return Ok(()),
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
}

/// The methods of what can only be read.
pub const READS: &str = "GET, HEAD";

/// Reads the path. `tagged` says that npm asks within a run: its registry lies below `/-/run/`,
/// so anything else is upstream's own path behind our host.
pub fn route<'a>(method: &Method, path: &'a str, tagged: bool) -> Route<'a> {
    if tagged && !path.starts_with("/-/run/") {
        return at_root(method, path).unwrap_or(Route::Unknown);
    }
    match path {
        "/" => return Route::Front,
        "/-/live" => return Route::Live,
        "/-/ready" => return Route::Ready,
        "/-/metrics" => return Route::Metrics,
        "/-/decide" => return Route::Decide,
        "/-/oidc/token" => return Route::Exchange,
        path if path.starts_with("/v1/") => return Route::Api,
        _ => {}
    }
    if let Some(below) = path.strip_prefix("/-/run/") {
        let (run, rest) = match below.find('/') {
            Some(at) => (
                below.get(..at).unwrap_or_default(),
                below.get(at..).unwrap_or_default(),
            ),
            None => (below, ""),
        };
        let is_id = !run.is_empty()
            && run.len() <= 64
            && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return match (is_id, rest) {
            (false, _) => Route::Unknown,
            (true, rest) => package(rest, Some(run)).unwrap_or(Route::Unknown),
        };
    }
    package(path, None)
        .or_else(|| at_root(method, path))
        .unwrap_or(Route::Unknown)
}

fn package<'a>(path: &'a str, run: Option<&'a str>) -> Option<Route<'a>> {
    let (format, below) = path.strip_prefix('/')?.split_once('/')?;
    let format: Format = format.parse().ok()?;
    let (repository, rest) = below.split_once('/').unwrap_or((below, ""));
    // `/npm/-/npm-10.0.0.tgz` is the package npm at the host's root.
    if repository.is_empty() || repository == "-" {
        return None;
    }
    Some(Route::Package {
        format,
        repository: Some(repository),
        rest,
        run,
    })
}

/// npm puts our host, without our path, before the path of upstream's tarball or attestations.
fn at_root<'a>(method: &Method, path: &'a str) -> Option<Route<'a>> {
    let reads = method == Method::GET || method == Method::HEAD;
    let is_npm = path.contains("/-/npm/v1/attestations/")
        || (path.contains("/-/") && path.ends_with(".tgz"));
    (reads && is_npm).then(|| Route::Package {
        format: Format::Npm,
        repository: None,
        rest: path.trim_start_matches('/'),
        run: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route<'_> {
        route(&Method::GET, path, false)
    }

    #[test]
    fn who_it_is_has_to_be_said_wherever_a_path_leads_to_a_package() {
        let file = "/left-pad/-/left-pad-1.3.0.tgz";
        for before in [
            "",
            "/v1",
            "/-/control",
            "/-/live",
            "/-/metrics",
            "/-/run/7a",
            "/npm/team",
        ] {
            for tagged in [false, true] {
                let path = format!("{before}{file}");
                let route = route(&Method::GET, &path, tagged);
                let is_package = matches!(route, Route::Package { .. });
                assert_eq!(route.asks_by_itself(), !is_package, "{path} {route:?}");
            }
        }
        assert!(!get("/-/decide").asks_by_itself());
    }

    #[test]
    fn what_can_only_be_read_takes_no_other_method() {
        for path in [
            "/",
            "/-/live",
            "/-/ready",
            "/-/metrics",
            "/-/decide",
            "/-/oidc/token",
        ] {
            for method in [
                "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE",
            ] {
                let method: Method = method.parse().unwrap();
                let is_taken = match path {
                    "/-/oidc/token" => method == Method::POST,
                    _ => matches!(method, Method::GET | Method::HEAD),
                };
                let taken = route(&method, path, false).takes(&method);
                assert_eq!(taken.is_ok(), is_taken, "{method} {path}");
            }
        }
        for path in ["/x", "/-/x", "/npm", "/-/run/7a"] {
            let route = route(&Method::POST, path, false);
            assert_eq!(route, Route::Unknown);
            assert!(route.takes(&Method::POST).is_ok());
        }
    }

    #[test]
    fn paths_lead_where_the_design_says() {
        let npm = |repository, rest, run| Route::Package {
            format: Format::Npm,
            repository,
            rest,
            run,
        };
        for (path, expected) in [
            ("/npm/team/left-pad", npm(Some("team"), "left-pad", None)),
            ("/npm/team/@a%2fb", npm(Some("team"), "@a%2fb", None)),
            ("/npm/team", npm(Some("team"), "", None)),
            ("/-/run/7a/npm/team/x", npm(Some("team"), "x", Some("7a"))),
            // What is for its owner alone comes by a socket of its own.
            ("/-/run/7a", Route::Unknown),
            ("/-/run/7a/lease", Route::Unknown),
            ("/-/control", Route::Unknown),
            ("/-/control/import", Route::Unknown),
            (
                "/left-pad/-/left-pad-1.3.0.tgz",
                npm(None, "left-pad/-/left-pad-1.3.0.tgz", None),
            ),
            (
                "/npm/-/npm-10.0.0.tgz",
                npm(None, "npm/-/npm-10.0.0.tgz", None),
            ),
            (
                "/-/npm/v1/attestations/a@1.0.0",
                npm(None, "-/npm/v1/attestations/a@1.0.0", None),
            ),
            ("/-/live", Route::Live),
            ("/v1/domains", Route::Api),
            ("/", Route::Front),
            ("/gem/x", Route::Unknown),
            ("/-/run//npm/x", Route::Unknown),
            ("/-/npm/v1/oidc/token", Route::Unknown),
        ] {
            assert_eq!(get(path), expected, "{path}");
        }
        // Upstream's own path may look like one of ours.
        let path = "/npm/team/left-pad/-/left-pad-1.3.0.tgz";
        let rest = path.trim_start_matches('/');
        assert_eq!(route(&Method::GET, path, true), npm(None, rest, None));
    }
}
