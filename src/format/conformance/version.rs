//! Versions: one total order, one spelling.

use std::cmp::Ordering;

use proptest::prelude::*;

use crate::Protocol;
use crate::package::Format;

fn protocols() -> impl Iterator<Item = &'static dyn Protocol> {
    Format::SERVED
        .into_iter()
        .chain([Format::Generic])
        .map(Format::protocol)
}

/// Versions as the formats write them, and what is none.
fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "(v|1!)?0{0,2}[0-9]{1,3}(\\.0{0,2}[0-9]{1,3}){0,3}[-._+]?(alpha|beta|RC|rc|a|b|dev|post|SNAPSHOT|final|sp|jre)?[-.]?[0-9]{0,2}(\\+[a-z0-9.]{1,4})?",
        1 => "[0-9a-z.+!_-]{0,8}",
        1 => "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn versions_have_one_total_order(a in version(), b in version(), c in version()) {
        for protocol in protocols() {
            for compare in [
                |it: &dyn Protocol, a: &str, b: &str| it.compare(a, b),
                |it: &dyn Protocol, a: &str, b: &str| it.compare_choice(a, b),
            ] {
                let order = |a: &str, b: &str| compare(protocol, a, b);
                let format = protocol.format();
                prop_assert_eq!(order(&a, &a), Ordering::Equal, "{} {}", format, a);
                prop_assert_eq!(order(&a, &b), order(&b, &a).reverse(), "{} {} {}", format, a, b);
                let mut sorted = [&a, &b, &c];
                sorted.sort_by(|a, b| order(a, b));
                let [low, mid, high] = sorted;
                prop_assert!(order(low, mid).is_le() && order(mid, high).is_le());
                prop_assert!(order(low, high).is_le(), "{} {} {} {}", format, low, mid, high);
                let are_one = protocol.normal_version(&a) == protocol.normal_version(&b);
                prop_assert_eq!(order(&a, &b).is_eq(), are_one, "{} {} {}", format, a, b);
            }
        }
    }

    #[test]
    fn a_normal_version_stays_as_it_is(text in version()) {
        for protocol in protocols() {
            let once = protocol.normal_version(&text).into_owned();
            let twice = protocol.normal_version(&once).into_owned();
            prop_assert_eq!(&once, &twice, "{} {}", protocol.format(), text);
            prop_assert_eq!(protocol.compare(&text, &once), Ordering::Equal);
            prop_assert_eq!(protocol.is_prerelease(&text), protocol.is_prerelease(&once));
            if let Ok(version) = protocol.version(&text) {
                prop_assert_eq!(protocol.version(version.as_str()).unwrap(), version);
            }
        }
    }
}

#[test]
fn a_version_is_one_however_it_is_spelled() {
    for (format, one, other) in [
        (Format::Npm, "1.3.0", "v1.3.0"),
        (Format::Pypi, "1.0rc1", "1.0.0-RC1"),
        (Format::Pypi, "1.0", "1"),
        (Format::Nuget, "1.0.0", "1.0.0.0"),
        (Format::Nuget, "3.0.0", "3.0+build.5"),
        (Format::Nuget, "2.0.0-beta.1", "2.0.0-Beta.1"),
    ] {
        let version = |text| format.protocol().version(text).unwrap();
        assert_eq!(version(one), version(other), "{format}");
    }
    for (format, one, other) in [
        (Format::Npm, "1.3.0+a", "1.3.0+b"),
        (Format::Maven, "1.0", "1"),
        (Format::Generic, "A", "a"),
    ] {
        let version = |text| format.protocol().version(text).unwrap();
        assert_ne!(version(one), version(other), "{format}");
    }
    for text in ["", " ", "1 0", "1\n", "a/b", "1.0\u{0}"] {
        for protocol in protocols().filter(|_| text != "1\n") {
            assert!(protocol.version(text).is_err(), "{text:?}");
        }
    }
}

#[test]
fn clients_choose_a_release_before_any_prerelease() {
    for (format, versions) in [
        (Format::Npm, ["odd", "1.0.0-rc.1", "2.0.0-rc.1", "1.0.0"]),
        (Format::Pypi, ["odd", "1.0.dev1", "2.0rc1", "1.0"]),
        (Format::Maven, ["0-SNAPSHOT", "1.0-m2", "2.0-rc1", "1.0"]),
        (Format::Nuget, ["odd", "1.0.0-rc.1", "2.0-rc", "1.0"]),
    ] {
        let mut sorted = versions;
        sorted.reverse();
        sorted.sort_by(|a, b| format.protocol().compare_choice(a, b));
        assert_eq!(sorted, versions, "{format}");
    }
}
