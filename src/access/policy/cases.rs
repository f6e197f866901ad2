//! Cases of policies and requests, each with its decision.

use super::*;
use crate::access::action::{Action, PUBLISH, READ};
use crate::access::principal::Principal;
use crate::config::Domain;

const OWNER: &str = "111122223333";
const OTHER: &str = "444455556666";
const REPOSITORY: &str = "arn:aws:codeartifact:us-east-1:111122223333:repository/corp/team";
const PACKAGE: &str = "arn:aws:codeartifact:us-east-1:111122223333:package/corp/team/npm/acme/ui";

/// A request, as most cases have it.
struct Asked {
    principal: Principal,
    action: Action,
    resource: &'static str,
    reach: ResourceReach,
    address: &'static str,
    time: &'static str,
    over_tls: bool,
    more: Vec<(String, Vec<String>)>,
}

fn asked() -> Asked {
    Asked {
        principal: Principal::user_of(OTHER, "ada").unwrap(),
        action: READ,
        resource: REPOSITORY,
        reach: ResourceReach::One,
        address: "10.1.2.3",
        time: "2026-11-23T12:00:00Z",
        over_tls: false,
        more: vec![
            (
                "aws:tagkeys".into(),
                vec!["team".into(), "cost-center".into()],
            ),
            ("aws:requesttag/team".into(), vec!["web".into()]),
            ("aws:multifactorauthage".into(), vec!["90".into()]),
        ],
    }
}

impl Asked {
    fn of(&self, policies: &[&str]) -> bool {
        let parsed: Vec<Policy> = policies
            .iter()
            .map(|text| Policy::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")))
            .collect();
        let attached: Vec<Attached<'_>> = parsed
            .iter()
            .map(|policy| Attached { to: "it", policy })
            .collect();
        let question = PolicyQuestion {
            action: self.action,
            resource: self.resource,
            reach: self.reach,
            circumstances: Circumstances {
                principal: &self.principal,
                address: Some(self.address.parse().unwrap()),
                time: self.time.parse().unwrap(),
                over_tls: self.over_tls,
                user_agent: "npm/11",
                more: &self.more,
            },
        };
        decide(&question, &attached).is_allowed
    }
}

/// One statement that allows, with these parts in the place of the usual ones.
fn allow(parts: &str) -> String {
    let mut statement: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#)
            .unwrap();
    let parts: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&format!("{{{parts}}}")).unwrap();
    for (key, value) in parts {
        statement.remove(key.strip_prefix("Not").unwrap_or(&key));
        statement.insert(key, value);
    }
    serde_json::to_string(&statement).unwrap()
}

fn condition(text: &str) -> String {
    allow(&format!(r#""Condition":{{{text}}}"#))
}

#[test]
fn principals() {
    let role = Principal::session_of(OTHER, "build", "run-7").unwrap();
    let ada = asked().principal;
    #[rustfmt::skip]
    let cases = [
        (r#""*""#, &ada, true),
        (r#"{"AWS":"*"}"#, &ada, true),
        (r#"{"AWS":"444455556666"}"#, &ada, true),
        (r#"{"AWS":"arn:aws:iam::444455556666:root"}"#, &ada, true),
        (r#"{"AWS":"arn:aws:iam::444455556666:user/ada"}"#, &ada, true),
        (r#"{"AWS":"arn:aws:iam::444455556666:user/bob"}"#, &ada, false),
        (r#"{"AWS":["111122223333","arn:aws:iam::444455556666:user/ada"]}"#, &ada, true),
        (r#"{"AWS":["111122223333","arn:aws:iam::444455556666:user/bob"]}"#, &ada, false),
        (r#"{"AWS":"arn:aws:iam::444455556666:role/build"}"#, &role, true),
        (r#"{"AWS":"arn:aws:iam::444455556666:role/deploy"}"#, &role, false),
        (r#"{"AWS":"arn:aws:sts::444455556666:assumed-role/build/run-7"}"#, &role, true),
        (r#"{"AWS":"arn:aws:sts::444455556666:assumed-role/build/run-8"}"#, &role, false),
        (r#"{"AWS":"anonymous"}"#, &Principal::Anonymous, true),
        (r#"{"AWS":"anonymous"}"#, &ada, false),
        (r#"{"AWS":"444455556666"}"#, &Principal::Anonymous, false),
        (r#""*""#, &Principal::Anonymous, true),
    ];
    for (written, principal, allowed) in cases {
        let asked = Asked {
            principal: principal.clone(),
            ..asked()
        };
        let policy = allow(&format!(r#""Principal":{written}"#));
        assert_eq!(asked.of(&[&policy]), allowed, "{written} {principal}");
    }
}

#[test]
fn actions_and_resources() {
    #[rustfmt::skip]
    let cases = [
        (r#""Action":"codeartifact:ReadFromRepository""#, READ, REPOSITORY, true),
        (r#""Action":"codeartifact:readfromrepository""#, READ, REPOSITORY, true),
        (r#""Action":"codeartifact:Read*""#, READ, REPOSITORY, true),
        (r#""Action":"codeartifact:*""#, READ, REPOSITORY, true),
        (r#""Action":"s3:*""#, READ, REPOSITORY, false),
        (r#""Action":"codeartifact:ReadFromRepositor?""#, READ, REPOSITORY, true),
        (r#""Action":["codeartifact:Get*","codeartifact:List*"]"#, READ, REPOSITORY, false),
        (r#""Action":["codeartifact:Get*","codeartifact:Read*"]"#, READ, REPOSITORY, true),
        (r#""NotAction":"codeartifact:Publish*""#, READ, REPOSITORY, true),
        (r#""NotAction":["codeartifact:Read*"]"#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:repository/corp/team""#, READ, REPOSITORY, true),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:repository/corp/other""#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:*:111122223333:repository/corp/*""#, READ, REPOSITORY, true),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:*""#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:package/corp/team/npm/acme/*""#, PUBLISH, PACKAGE, true),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:package/corp/*/npm/acme/ui""#, PUBLISH, PACKAGE, true),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:package/corp/team/pypi//*""#, PUBLISH, PACKAGE, false),
        (r#""NotResource":"arn:aws:codeartifact:us-east-1:111122223333:repository/corp/secret""#, READ, REPOSITORY, true),
        (r#""NotResource":"arn:aws:codeartifact:us-east-1:111122223333:repository/corp/*""#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:package/corp/team/npm/${aws:username}/*""#, PUBLISH, PACKAGE, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:${aws:PrincipalAccount}:repository/corp/team""#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:repository/${aws:nothing}/team""#, READ, REPOSITORY, false),
        (r#""Resource":"arn:aws:codeartifact:us-east-1:111122223333:repository/${aws:nothing, 'corp'}/team""#, READ, REPOSITORY, true),
    ];
    for (parts, action, resource, allowed) in cases {
        let asked = Asked {
            action,
            resource,
            ..asked()
        };
        assert_eq!(asked.of(&[&allow(parts)]), allowed, "{parts}");
    }
}

#[test]
fn conditions() {
    #[rustfmt::skip]
    let cases = [
        (r#""StringEquals":{"aws:username":"ada"}"#, true),
        (r#""StringEquals":{"AWS:UserName":["bob","ada"]}"#, true),
        (r#""StringEquals":{"aws:username":"Ada"}"#, false),
        (r#""StringEqualsIgnoreCase":{"aws:username":"Ada"}"#, true),
        (r#""StringNotEquals":{"aws:username":"bob"}"#, true),
        (r#""StringNotEquals":{"aws:username":["bob","ada"]}"#, false),
        (r#""StringNotEqualsIgnoreCase":{"aws:username":"ADA"}"#, false),
        (r#""StringLike":{"aws:username":"a?a"}"#, true),
        (r#""StringLike":{"aws:username":"b*"}"#, false),
        (r#""StringNotLike":{"aws:username":"b*"}"#, true),
        (r#""StringEquals":{"aws:absent":"x"}"#, false),
        (r#""StringNotEquals":{"aws:absent":"x"}"#, true),
        (r#""StringEqualsIfExists":{"aws:absent":"x"}"#, true),
        (r#""StringEqualsIfExists":{"aws:username":"x"}"#, false),
        (r#""Null":{"aws:absent":"true"}"#, true),
        (r#""Null":{"aws:username":"true"}"#, false),
        (r#""Null":{"aws:username":false}"#, true),
        (r#""NumericLessThan":{"aws:MultiFactorAuthAge":"100"}"#, true),
        (r#""NumericLessThan":{"aws:MultiFactorAuthAge":90}"#, false),
        (r#""NumericLessThanEquals":{"aws:MultiFactorAuthAge":"90"}"#, true),
        (r#""NumericGreaterThan":{"aws:MultiFactorAuthAge":"89.5"}"#, true),
        (r#""NumericGreaterThanEquals":{"aws:MultiFactorAuthAge":"91"}"#, false),
        (r#""NumericNotEquals":{"aws:MultiFactorAuthAge":"90"}"#, false),
        (r#""NumericEquals":{"aws:username":"90"}"#, false),
        (r#""DateLessThan":{"aws:CurrentTime":"2026-12-01T00:00:00Z"}"#, true),
        (r#""DateLessThan":{"aws:CurrentTime":"2026-11-23"}"#, false),
        (r#""DateGreaterThan":{"aws:CurrentTime":"2026-11-23T13:00:00+02:00"}"#, true),
        (r#""DateGreaterThanEquals":{"aws:EpochTime":"1795435200"}"#, true),
        (r#""DateNotEquals":{"aws:CurrentTime":"2026-11-23T12:00:00Z"}"#, false),
        (r#""Bool":{"aws:SecureTransport":"false"}"#, true),
        (r#""Bool":{"aws:SecureTransport":true}"#, false),
        (r#""IpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#, true),
        (r#""IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.1.2.3"]}"#, true),
        (r#""IpAddress":{"aws:SourceIp":"2001:db8::/32"}"#, false),
        (r#""NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#, false),
        (r#""NotIpAddress":{"aws:SourceIp":"192.168.0.0/16"}"#, true),
        (r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:user/*"}"#, true),
        (r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"}"#, false),
        (r#""ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:role/*"}"#, true),
        (r#""ArnEquals":{"aws:PrincipalArn":"arn:aws:*"}"#, false),
        (r#""StringEquals":{"aws:PrincipalAccount":"444455556666"}"#, true),
        (r#""StringLike":{"aws:UserAgent":"npm/*"}"#, true),
        (r#""ForAllValues:StringEquals":{"aws:TagKeys":["team","cost-center","stage"]}"#, true),
        (r#""ForAllValues:StringEquals":{"aws:TagKeys":["team"]}"#, false),
        (r#""ForAllValues:StringEquals":{"aws:absent":["team"]}"#, true),
        (r#""ForAnyValue:StringEquals":{"aws:TagKeys":["team"]}"#, true),
        (r#""ForAnyValue:StringEquals":{"aws:TagKeys":["stage"]}"#, false),
        (r#""ForAnyValue:StringEquals":{"aws:absent":["team"]}"#, false),
        (r#""ForAnyValue:StringNotEquals":{"aws:TagKeys":["team"]}"#, true),
        (r#""ForAllValues:StringNotLike":{"aws:TagKeys":["secret-*"]}"#, true),
        (r#""StringEquals":{"aws:RequestTag/team":"web","aws:username":"ada"}"#, true),
        (r#""StringEquals":{"aws:RequestTag/team":"web"},"Bool":{"aws:SecureTransport":"true"}"#, false),
        (r#""StringEquals":{"aws:username":"${aws:username}"}"#, true),
    ];
    for (text, allowed) in cases {
        assert_eq!(asked().of(&[&condition(text)]), allowed, "{text}");
    }
}

#[test]
fn a_deny_wins_wherever_it_stands_and_without_an_allow_nothing_is_allowed() {
    let yes = allow("");
    let no = allow(r#""Effect":"Deny""#);
    let no_other = allow(r#""Effect":"Deny","Action":"codeartifact:Delete*""#);
    let list = |all: &[&String]| {
        let all: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
            all.join(",")
        )
    };
    let one = format!(r#"{{"Statement":{yes}}}"#);
    for (policies, allowed) in [
        (vec![], false),
        (vec![yes.clone()], true),
        (vec![one], true),
        (vec![list(&[&yes, &no])], false),
        (vec![list(&[&no, &yes])], false),
        (vec![list(&[&no_other, &yes])], true),
        (vec![yes.clone(), no.clone()], false),
        (vec![no, yes.clone()], false),
        (vec![no_other, yes], true),
    ] {
        let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
        assert_eq!(asked().of(&policies), allowed, "{policies:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused_whole() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"Statement":[]}"#,
        r#"{"Version":"2020-01-01","Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}"#,
        r#"{"Effect":"allow","Principal":"*","Action":"*"}"#,
        r#"{"Effect":"Allow","Action":"*"}"#,
        r#"{"Effect":"Allow","Principal":"*"}"#,
        r#"{"Effect":"Allow","Principal":"ada","Action":"*"}"#,
        r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:user/*"},"Action":"*"}"#,
        r#"{"Effect":"Allow","Principal":{"Service":"x"},"Action":"*"}"#,
        r#"{"Effect":"Allow","NotPrincipal":"*","Action":"*"}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","NotAction":"*"}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":1}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","Conditions":{}}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","Condition":{"StringIs":{"a":"b"}}}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","Condition":{"IpAddress":{"aws:SourceIp":"ten"}}}"#,
        r#"{"Effect":"Allow","Principal":"*","Action":"*","Condition":{"NumericEquals":{"a":"b"}}}"#,
    ] {
        assert!(Policy::parse(text).is_err(), "{text}");
    }
    assert!(Policy::parse(&allow(&format!(r#""Sid":"{}""#, "x".repeat(8000)))).is_err());
}

#[test]
fn the_deciding_statement_is_named_and_conditions_make_it_last_no_longer() {
    let text = format!(
        r#"{{"Statement":[{},{}]}}"#,
        allow(r#""Sid":"Readers""#),
        allow(r#""Effect":"Deny","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#)
    );
    let policy = Policy::parse(&text).unwrap();
    let attached = [Attached {
        to: "repository `team`",
        policy: &policy,
    }];
    let principal = Principal::root(OWNER);
    let ask = |address: &str| {
        let question = PolicyQuestion {
            action: READ,
            resource: REPOSITORY,
            reach: ResourceReach::One,
            circumstances: Circumstances {
                principal: &principal,
                address: Some(address.parse().unwrap()),
                time: "2026-11-23T12:00:00Z".parse().unwrap(),
                over_tls: false,
                user_agent: "",
                more: &[],
            },
        };
        decide(&question, &attached)
    };
    let (near, far) = (ask("10.0.0.1"), ask("192.0.2.1"));
    assert!(near.is_allowed && !near.is_lasting);
    assert_eq!(
        near.why.to_string(),
        "statement `Readers` of the policy of repository `team`"
    );
    assert!(!far.is_allowed);
    assert_eq!(
        far.why.to_string(),
        "statement 2 of the policy of repository `team`"
    );
}

fn domain() -> Domain {
    Domain {
        name: "corp".to_owned(),
        owner: OWNER.to_owned(),
        region: "us-east-1".to_owned(),
    }
}

#[test]
fn what_a_policy_names_has_to_be_there_a_denial_too() {
    let (domain, repositories) = (domain(), ["team".to_owned(), "public".to_owned()]);
    let known = KnownNames {
        domain: &domain,
        repositories: &repositories,
    };
    let arn = |what: &str| format!(r#""Resource":"arn:aws:codeartifact:us-east-1:{OWNER}:{what}""#);
    let making = |what: &str| format!(r#""Action":"codeartifact:CreateRepository",{}"#, arn(what));
    for (parts, is_taken) in [
        (
            r#""Action":"codeartifact:ReadFromRepository""#.to_owned(),
            true,
        ),
        (r#""Action":["codeartifact:*","*"]"#.to_owned(), true),
        (r#""Action":"codeartifact:List*""#.to_owned(), true),
        (
            r#""Action":["codeartifact:GetAuthorizationToken","sts:GetServiceBearerToken"]"#
                .to_owned(),
            true,
        ),
        (r#""Action":"codeartifact:ReadFromRepo""#.to_owned(), false),
        (
            r#""Action":["codeartifact:ReadFromRepository","codeartifact:Reed*"]"#.to_owned(),
            false,
        ),
        (r#""Action":"s3:*""#.to_owned(), false),
        (r#""NotAction":"codeartifact:Publsh*""#.to_owned(), false),
        (arn("domain/corp"), true),
        (arn("domain/copr"), false),
        (arn("repository/corp/team"), true),
        (arn("repository/corp/taem"), false),
        (arn("repository/corp/team/npm"), false),
        (arn("repository/corp/sandbox-*"), true),
        (arn("repository/corp/${aws:username}"), true),
        (arn("repository/copr/*"), false),
        (making("repository/corp/new"), true),
        (arn("package/corp/team/npm/acme/*"), true),
        (arn("package/corp/team/*"), true),
        (arn("package/corp/*/npm//ui"), true),
        (arn("package/corp/sandbox-*"), true),
        (arn("package/corp/sandbox-*/npm/*"), true),
        (arn("package/corp/team/npmm/acme/*"), false),
        (arn("package/corp/taem/npm/acme/ui"), false),
        (arn("package-group/corp/npm/*"), true),
        (arn("dataset/corp/team"), false),
        (r#""Resource":"team""#.to_owned(), false),
        (r#""Resource":"*""#.to_owned(), true),
        (
            r#""Resource":"arn:aws:codeartifact:*:*:repository/corp/*""#.to_owned(),
            true,
        ),
        (
            r#""Resource":"arn:aws:codeartifact:eu-west-1:111122223333:repository/corp/team""#
                .to_owned(),
            false,
        ),
        (
            r#""Resource":"arn:aws:codeartifact:us-east-1:444455556666:repository/corp/team""#
                .to_owned(),
            false,
        ),
        (
            r#""NotResource":"arn:aws:codeartifact:us-east-1:111122223333:repository/corp/taem""#
                .to_owned(),
            false,
        ),
    ] {
        for effect in ["Allow", "Deny"] {
            let policy = Policy::parse(&allow(&format!(r#""Effect":"{effect}",{parts}"#))).unwrap();
            assert_eq!(policy.check(&known).is_ok(), is_taken, "{effect} {parts}");
        }
    }
}

#[test]
fn the_value_of_a_variable_is_text_and_what_came_from_the_request_does_not_last() {
    let ask = |parts: &str, agent: &str| {
        let policy = Policy::parse(&allow(parts)).unwrap();
        let attached = [Attached {
            to: "it",
            policy: &policy,
        }];
        let principal = Principal::user_of(OTHER, "ada").unwrap();
        let question = PolicyQuestion {
            action: READ,
            resource: REPOSITORY,
            reach: ResourceReach::One,
            circumstances: Circumstances {
                principal: &principal,
                address: None,
                time: "2026-11-23T12:00:00Z".parse().unwrap(),
                over_tls: false,
                user_agent: agent,
                more: &[],
            },
        };
        let decision = decide(&question, &attached);
        (decision.is_allowed, decision.is_lasting)
    };
    let base = "arn:aws:codeartifact:us-east-1:111122223333:repository/corp";
    let by_agent = format!(r#""Resource":"{base}/${{aws:useragent}}""#);
    let a_part = format!(r#""Resource":"{base}/t${{aws:useragent}}m""#);
    let compared = r#""Condition":{"StringLike":{"aws:username":"${aws:useragent}"}}"#;
    let as_arn = r#""Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:user/${aws:useragent}"}}"#;
    for (parts, agent, is_allowed) in [
        (by_agent.as_str(), "team", true),
        (&by_agent, "*", false),
        (&by_agent, "tea?", false),
        (&a_part, "ea", true),
        (&a_part, "*", false),
        (compared, "ada", true),
        (compared, "a*", false),
        (as_arn, "ada", true),
        (as_arn, "*", false),
    ] {
        assert_eq!(ask(parts, agent), (is_allowed, false), "{parts} {agent}");
    }
    // A decision that depends on the caller alone may be kept for the next request.
    let own = format!(r#""Resource":["{base}/${{aws:username}}","{base}/team"]"#);
    assert_eq!(ask(&own, "x"), (true, true));
    let named = r#""Condition":{"StringEquals":{"aws:username":"ada"}}"#;
    assert_eq!(ask(named, "x"), (true, true));
    assert_eq!(
        ask(r#""Condition":{"Null":{"aws:absent":"true"}}"#, "x"),
        (true, false)
    );
    let star = format!(r#""Resource":"{base}/${{*}}""#);
    assert_eq!(ask(&star, "x"), (false, true));
}

#[test]
fn whether_anything_may_be_published_is_asked_before_it_is_known_what() {
    const BEFORE: &str = "arn:aws:codeartifact:us-east-1:111122223333:package/corp/team/nuget//";
    let asked = Asked {
        action: PUBLISH,
        resource: BEFORE,
        reach: ResourceReach::AnyBelow,
        ..asked()
    };
    let about = |resource: &str| {
        let arn = "arn:aws:codeartifact:us-east-1:111122223333:package/corp";
        format!(r#""Resource":"{arn}/{resource}""#)
    };
    let deny = |parts: &str| allow(parts).replace("Allow", "Deny");
    for (resource, some) in [
        ("team/nuget//acme", true),
        ("team/nuget//acme.*", true),
        ("team/*", true),
        ("*/nuget/*", true),
        ("other/*", false),
        ("team/npm/*", false),
    ] {
        let allowed = allow(&about(resource));
        assert_eq!(asked.of(&[&allowed]), some, "{resource}");
        let all_but = allow(&about(resource).replace("Resource", "NotResource"));
        let left = !matches!(resource, "team/*" | "*/nuget/*");
        assert_eq!(asked.of(&[&all_but]), left, "all but {resource}");
        let denied = deny(&about(resource));
        assert_eq!(
            asked.of(&[&allow(""), &denied]),
            left,
            "{resource} is denied"
        );
    }
    assert!(!asked.of(&[&allow(r#""Action":"codeartifact:Read*""#)]));
    assert!(!asked.of(&[&allow(
        r#""Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#
    )]));
    assert!(!asked.of(&[&allow(""), &deny("")]));
}
