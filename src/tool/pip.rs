//! pip and its kin: pip, uv, poetry, pdm, pipenv, twine.

use super::{Place, Upstream, command, home, ini, read};

/// The index that pip or uv is set to: by environment, by their files, else their own default.
pub async fn learn() -> Option<Upstream> {
    let url = match from_environment().or_else(from_uv) {
        Some(url) => Some(url),
        None => from_pip().await,
    }?;
    url.contains("://").then_some(Upstream { url, auth: None })
}

fn from_environment() -> Option<String> {
    ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|url| !url.is_empty())
}

fn from_uv() -> Option<String> {
    let text = read(&home()?.join(".config/uv/uv.toml"))?;
    ini::get(&text, None, "index-url")
}

/// pip's merged configuration; where that says nothing, the default that its help prints.
async fn from_pip() -> Option<String> {
    for program in ["pip", "pip3"] {
        for key in ["global.index-url", "install.index-url"] {
            if let Some(url) = command::output(program, &["config", "get", key]).await {
                return Some(url.trim().to_owned());
            }
        }
        if let Some(help) = command::output(program, &["install", "--help"]).await {
            return command::address_behind(&help, "--index-url");
        }
    }
    let help = command::output("uv", &["pip", "install", "--help"]).await?;
    command::address_behind(&help, "--default-index")
}

/// Every client of the family reads one of these.
#[must_use]
pub fn environment(place: &Place) -> Vec<(&'static str, String)> {
    let simple = place.simple();
    vec![
        ("PIP_INDEX_URL", simple.clone()),
        ("PIP_TRUSTED_HOST", place.host()),
        ("UV_DEFAULT_INDEX", simple.clone()),
        ("PDM_PYPI_URL", simple.clone()),
        ("PIPENV_PYPI_MIRROR", simple.clone()),
        // Of the plugin poetry-plugin-pypi-mirror; poetry itself knows no mirror.
        ("POETRY_PYPI_MIRROR_URL", simple),
    ]
}
