//! Principals: those who send requests.

use std::fmt;

use crate::format::path;

/// A user, a role, or nobody that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller without a credential; policies call it `anonymous`.
    Anonymous,
    /// By its ARN: `arn:aws:iam::111122223333:root`, `…:user/ada`,
    /// `arn:aws:sts::111122223333:assumed-role/build/run-7`.
    Named(Box<str>),
}

/// A name that is none of a user or role.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name of a user or role: letters, digits and any of +=,.@_-, up to 64 of them")]
pub struct NoName(String);

/// An ARN of a principal, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ArnParts<'a> {
    /// `iam` or `sts`.
    service: &'a str,
    account: &'a str,
    /// `root`, or a path such as `user/ada`.
    name: &'a str,
}

impl Principal {
    /// The owner of an account.
    #[must_use]
    pub fn root(account: &str) -> Self {
        Self::Named(format!("arn:aws:iam::{account}:root").into())
    }

    /// A user of an account; the word `root` is its owner.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn user_of(account: &str, name: &str) -> Result<Self, NoName> {
        if name == "root" {
            return Ok(Self::root(account));
        }
        is_name(name)?;
        Ok(Self::Named(
            format!("arn:aws:iam::{account}:user/{name}").into(),
        ))
    }

    /// One session of a role.
    ///
    /// # Errors
    /// Where the role's or the session's name is none.
    pub fn session_of(account: &str, role: &str, session: &str) -> Result<Self, NoName> {
        is_name(role)?;
        is_name(session)?;
        Ok(Self::Named(
            format!("arn:aws:sts::{account}:assumed-role/{role}/{session}").into(),
        ))
    }

    /// Reads an ARN of a user, role session or account's root, or `anonymous`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "anonymous" {
            return Some(Self::Anonymous);
        }
        let principal = Self::Named(text.into());
        let ArnParts { service, name, .. } = principal.parts()?;
        let is_one = match service {
            "iam" => name == "root" || name.starts_with("user/") || name.starts_with("role/"),
            "sts" => name.starts_with("assumed-role/"),
            _ => false,
        };
        is_one.then_some(principal)
    }

    fn parts(&self) -> Option<ArnParts<'_>> {
        let Self::Named(arn) = self else { return None };
        let mut parts = arn.splitn(6, ':');
        let (arn, partition, service, region, account, name) = (
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
        );
        (arn == "arn" && partition.starts_with("aws") && region.is_empty()).then_some(ArnParts {
            service,
            account,
            name,
        })
    }

    #[must_use]
    pub fn arn(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Named(arn) => Some(arn),
        }
    }

    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.parts().map(|parts| parts.account)
    }

    /// The user's name, for `aws:username`.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        let name = self.parts()?.name;
        name.strip_prefix("user/").map(path::last_segment)
    }

    /// `aws:PrincipalType`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.parts() {
            None => "Anonymous",
            Some(ArnParts { name: "root", .. }) => "Account",
            Some(ArnParts { service: "sts", .. }) => "AssumedRole",
            Some(_) => "User",
        }
    }

    /// Whether it owns the account.
    #[must_use]
    pub fn is_root_of(&self, account: &str) -> bool {
        let root = ArnParts {
            service: "iam",
            account,
            name: "root",
        };
        self.parts() == Some(root)
    }

    /// Whether a policy that says `name` means it: an account means all of its principals, a role
    /// all of its sessions.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let Some(own) = self.parts() else {
            return name == "anonymous";
        };
        if name == own.account || self.arn() == Some(name) {
            return true;
        }
        let named = Self::Named(name.into());
        let Some(named) = named.parts() else {
            return false;
        };
        if named.service != "iam" || named.account != own.account {
            return false;
        }
        let session = own.name.strip_prefix("assumed-role/");
        let role = session.and_then(|session| session.split('/').next());
        named.name == "root"
            || (own.service == "sts"
                && named.name.strip_prefix("role/").map(path::last_segment) == role)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.arn().unwrap_or("anonymous"))
    }
}

fn is_name(name: &str) -> Result<(), NoName> {
    let is_one = !name.is_empty()
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c));
    if is_one {
        Ok(())
    } else {
        Err(NoName(name.chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_means_all_its_principals_and_a_role_all_its_sessions() {
        let ada = Principal::user_of("111122223333", "ada").unwrap();
        let run = Principal::session_of("111122223333", "build", "run-7").unwrap();
        for (principal, name, is) in [
            (&ada, "111122223333", true),
            (&ada, "arn:aws:iam::111122223333:root", true),
            (&ada, "arn:aws:iam::111122223333:user/ada", true),
            (&ada, "arn:aws:iam::111122223333:user/bob", false),
            (&ada, "arn:aws:iam::444455556666:root", false),
            (&ada, "arn:aws:iam::111122223333:role/ada", false),
            (&ada, "anonymous", false),
            (&run, "arn:aws:iam::111122223333:role/build", true),
            (&run, "arn:aws:iam::111122223333:role/teams/build", true),
            (&run, "arn:aws:iam::111122223333:role/other", false),
            (&run, "arn:aws:iam::111122223333:user/build", false),
            (
                &run,
                "arn:aws:sts::111122223333:assumed-role/build/run-7",
                true,
            ),
            (
                &run,
                "arn:aws:sts::111122223333:assumed-role/build/run-8",
                false,
            ),
            (&Principal::Anonymous, "anonymous", true),
            (&Principal::Anonymous, "111122223333", false),
        ] {
            assert_eq!(principal.is(name), is, "{principal} as {name}");
        }
    }

    #[test]
    fn a_name_cannot_reach_out_of_its_arn() {
        for name in ["", "a/b", "a:b", "a*", "a b"] {
            assert!(Principal::user_of("111122223333", name).is_err(), "{name}");
        }
        assert!(Principal::parse("arn:aws:s3:::bucket").is_none());
        assert!(Principal::parse("arn:aws:iam::111122223333:user/ada").is_some());
    }
}
