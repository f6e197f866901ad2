//! For which machines files are wanted.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::package::Format;

/// A kind of machine, in npm's words (`os`, `cpu`, `libc`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    os: String,
    cpu: String,
    /// `glibc` or `musl`; on Linux alone.
    libc: Option<String>,
}

/// A word that is no platform.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no platform, as in linux-x64, linux-arm64-musl, darwin-arm64 or win32-x64")]
pub struct NoPlatform(String);

impl FromStr for Platform {
    type Err = NoPlatform;

    fn from_str(text: &str) -> Result<Self, NoPlatform> {
        let mut parts = text.split('-');
        let os = match parts.next() {
            Some("macos") => "darwin",
            Some("windows") => "win32",
            Some(os @ ("linux" | "darwin" | "win32" | "freebsd")) => os,
            _ => return Err(NoPlatform(text.to_owned())),
        };
        let cpu = match parts.next() {
            Some("x86_64" | "amd64") => "x64",
            Some("aarch64") => "arm64",
            Some(cpu @ ("x64" | "arm64" | "ia32" | "arm" | "ppc64" | "s390x" | "riscv64")) => cpu,
            _ => return Err(NoPlatform(text.to_owned())),
        };
        let libc = match (os, parts.next()) {
            ("linux", None) => Some("glibc".to_owned()),
            ("linux", Some(libc @ ("glibc" | "musl"))) => Some(libc.to_owned()),
            (_, None) => None,
            _ => return Err(NoPlatform(text.to_owned())),
        };
        match parts.next() {
            Some(_) => Err(NoPlatform(text.to_owned())),
            None => Ok(Self {
                os: os.to_owned(),
                cpu: cpu.to_owned(),
                libc,
            }),
        }
    }
}

impl Platform {
    /// This machine.
    fn here() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            "windows" => "win32",
            os => os,
        };
        let cpu = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            "x86" => "ia32",
            cpu => cpu,
        };
        let libc = if cfg!(target_env = "musl") {
            "musl"
        } else {
            "glibc"
        };
        Self {
            os: os.to_owned(),
            cpu: cpu.to_owned(),
            libc: (os == "linux").then(|| libc.to_owned()),
        }
    }
}

/// The platforms that files are wanted for; empty: all platforms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platforms {
    pub platforms: Vec<Platform>,
    /// Versions of Python, `3.12`.
    pub pythons: Vec<String>,
}

impl Platforms {
    /// This machine alone.
    #[must_use]
    pub fn here() -> Self {
        Self {
            platforms: vec![Platform::here()],
            pythons: Vec::new(),
        }
    }

    /// Whether an npm package for these (`linux`, `!win32`) is for one that is wanted.
    #[must_use]
    pub fn npm(&self, os: &[String], cpu: &[String], libc: &[String]) -> bool {
        let admits = |words: &[String], one: &str| {
            let is_barred = words.iter().any(|word| word.strip_prefix('!') == Some(one));
            let mut named = words
                .iter()
                .filter(|word| !word.starts_with('!'))
                .peekable();
            !is_barred && (named.peek().is_none() || named.any(|word| word == one || word == "any"))
        };
        self.platforms.is_empty()
            || self.platforms.iter().any(|it| {
                let libc_fits = match &it.libc {
                    Some(own) => admits(libc, own),
                    None => libc.is_empty(),
                };
                admits(os, &it.os) && admits(cpu, &it.cpu) && libc_fits
            })
    }

    /// Whether what runs on these versions of Python (`>=3.9`, PEP 440) runs on all that are wanted.
    #[must_use]
    pub fn run(&self, on: &str) -> bool {
        let takes = |python: &String| {
            // Which patch of it nobody says: a late one.
            let is_minor = python.split('.').count() == 2;
            let version = if is_minor {
                format!("{python}.99")
            } else {
                python.clone()
            };
            Format::Pypi.protocol().version_in(&version, on) != Some(false)
        };
        on.is_empty() || self.pythons.iter().all(takes)
    }

    /// Whether a Python distribution, by its file's name, is for one that is wanted. Whatever is no
    /// wheel is for all.
    #[must_use]
    pub fn python(&self, file: &str) -> bool {
        let file = file.strip_suffix(".metadata").unwrap_or(file);
        let Some(stem) = file.strip_suffix(".whl") else {
            return true;
        };
        // name-version[-build]-python-abi-platform; each may be several, with dots.
        let mut parts = stem.rsplit('-');
        let (Some(platform), Some(abi), Some(python)) = (parts.next(), parts.next(), parts.next())
        else {
            return true;
        };
        let fits_python = self.pythons.is_empty()
            || self
                .pythons
                .iter()
                .any(|version| python.split('.').any(|tag| runs_on(tag, abi, version)));
        let fits_platform = self.platforms.is_empty()
            || platform
                .split('.')
                .any(|tag| tag == "any" || self.platforms.iter().any(|it| it.has_wheels(tag)));
        fits_python && fits_platform
    }
}

/// Whether a wheel of this tag runs on a version of Python (PEP 425).
fn runs_on(tag: &str, abi: &str, version: &str) -> bool {
    let (major, minor) = version.split_once('.').unwrap_or((version, ""));
    let minor: Option<u32> = minor.split('.').next().and_then(|minor| minor.parse().ok());
    let Some(at) = tag.find(|c: char| c.is_ascii_digit()) else {
        return true;
    };
    let (kind, number) = tag.split_at(at);
    let (own_major, own_minor) = number.split_at(1.min(number.len()));
    if own_major != major {
        return false;
    }
    let own_minor: Option<u32> = own_minor.parse().ok();
    match (own_minor, minor) {
        (None, _) | (_, None) => true,
        (Some(own), Some(minor)) if kind == "py" || abi.contains("abi3") => own <= minor,
        (Some(own), Some(minor)) => own == minor,
    }
}

impl Platform {
    /// Whether a wheel of this platform tag is for it.
    fn has_wheels(&self, tag: &str) -> bool {
        let cpus: &[&str] = match (self.os.as_str(), self.cpu.as_str()) {
            ("darwin", "x64") => &["x86_64", "universal2", "intel", "fat64"],
            ("darwin", _) => &["arm64", "universal2"],
            ("win32", "x64") => return tag == "win_amd64",
            ("win32", "arm64") => return tag == "win_arm64",
            ("win32", _) => return tag == "win32",
            (_, "x64") => &["x86_64"],
            (_, "arm64") => &["aarch64"],
            (_, "ia32") => &["i686"],
            (_, "arm") => &["armv7l", "armv6l"],
            (_, "ppc64") => &["ppc64le"],
            (_, "s390x") => &["s390x"],
            _ => &["riscv64"],
        };
        let is_os = match (self.os.as_str(), self.libc.as_deref()) {
            ("darwin", _) => tag.starts_with("macosx"),
            ("linux", Some("musl")) => tag.starts_with("musllinux") || tag.starts_with("linux"),
            ("linux", _) => tag.starts_with("manylinux") || tag.starts_with("linux"),
            (os, _) => tag.starts_with(os),
        };
        is_os && cpus.iter().any(|cpu| tag.ends_with(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(platform: &str, python: &str) -> Platforms {
        Platforms {
            platforms: vec![platform.parse().unwrap()],
            pythons: vec![python.to_owned()],
        }
    }

    #[test]
    fn wheels_fit_their_machines() {
        let linux = only("linux-x64", "3.12");
        for (file, fits) in [
            ("a-1-py3-none-any.whl", true),
            ("a-1-py2.py3-none-any.whl", true),
            ("a-1-py2-none-any.whl", false),
            (
                "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                true,
            ),
            ("a-1-cp311-cp311-manylinux_2_17_x86_64.whl", false),
            ("a-1-cp38-abi3-manylinux_2_28_x86_64.whl", true),
            ("a-1-cp313-abi3-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp312-cp312-musllinux_1_2_x86_64.whl", false),
            ("a-1-cp312-cp312-manylinux_2_17_aarch64.whl", false),
            ("a-1-cp312-cp312-win_amd64.whl", false),
            ("a-1-cp312-cp312-macosx_11_0_universal2.whl", false),
            ("a-1-1-cp312-cp312-linux_x86_64.whl.metadata", true),
            ("a-1.tar.gz", true),
        ] {
            assert_eq!(linux.python(file), fits, "{file}");
        }
        assert!(only("linux-x64-musl", "3").python("a-1-cp312-cp312-musllinux_1_2_x86_64.whl"));
        assert!(only("darwin-arm64", "3.9").python("a-1-cp39-cp39-macosx_11_0_universal2.whl"));
        assert!(only("win32-x64", "3.9").python("a-1-cp39-cp39-win_amd64.whl"));
        assert!(Platforms::default().python("a-1-cp27-cp27m-win32.whl"));
    }

    #[test]
    fn what_runs_on_one_python_may_not_on_another() {
        let old = only("linux-x64", "3.8");
        for (on, runs) in [
            ("", true),
            (">=3.8", true),
            (">=3.8.1,<4", true),
            ("<3.9", true),
            (">=3.9", false),
            ("!=3.8.*", false),
            ("what is this", true),
        ] {
            assert_eq!(old.run(on), runs, "{on}");
        }
        let both = Platforms {
            pythons: vec!["3.8".to_owned(), "3.12.1".to_owned()],
            ..Platforms::default()
        };
        assert!(both.run(">=3.8") && !both.run(">=3.9") && !both.run("<3.12"));
        assert!(Platforms::default().run(">=3.99"));
    }

    #[test]
    fn npm_packages_say_what_they_are_for() {
        let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let linux = only("linux-arm64", "3");
        assert!(linux.npm(&[], &[], &[]));
        assert!(linux.npm(&words(&["!win32"]), &[], &[]));
        assert!(!linux.npm(&words(&["!linux"]), &[], &[]));
        assert!(linux.npm(&words(&["linux"]), &words(&["arm64"]), &words(&["glibc"])));
        assert!(!linux.npm(&words(&["linux"]), &words(&["arm64"]), &words(&["musl"])));
        assert!(!linux.npm(&words(&["darwin"]), &words(&["arm64"]), &[]));
        assert!("solaris-x64".parse::<Platform>().is_err());
        assert!("linux-x64-musl-x".parse::<Platform>().is_err());
    }
}
