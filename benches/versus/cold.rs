use std::path::Path;
pub fn run(_options: &super::Options, _folder: &Path) {}
