use std::path::Path;
pub fn run(_folder: &Path) {}
