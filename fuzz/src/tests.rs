//! Each target on its seeds, what fuzzing found among them, without libFuzzer.

#[test]
fn the_laws_hold_of_every_seed() {
    type Target = (&'static str, fn(&[u8]));
    let targets: &[Target] = &[
        ("path", super::path),
        ("packument", super::packument),
        ("simple_json", super::simple_json),
        ("simple_html", super::simple_html),
        ("maven_metadata", super::maven_metadata),
        ("pom", super::pom),
        ("nuspec", super::nuspec),
        ("core_metadata", super::core_metadata),
        ("archive", super::archive),
        ("package_info", super::package_info),
        ("registration", super::registration),
        ("pattern", super::pattern),
        ("version", super::version),
        #[cfg(feature = "whole")]
        ("lockfile", super::whole::lockfile),
        #[cfg(feature = "whole")]
        ("bundle", super::whole::bundle),
        #[cfg(feature = "whole")]
        ("policy", super::whole::policy),
    ];
    for (name, target) in targets {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds");
        let seeds = std::fs::read_dir(format!("{folder}/{name}")).unwrap();
        for seed in seeds {
            #[allow(clippy::disallowed_methods, reason = "seeds are files")]
            let data = std::fs::read(seed.unwrap().path()).unwrap();
            target(&data);
        }
    }
}
