//! AWS settings that several tables share.

use url::Url;

use super::document::Section;

/// Where a service of AWS listens: as `endpoint` says, else where the region has it.
pub(super) fn endpoint(
    section: &Section<'_>,
    service: &str,
    region: Option<&(String, String)>,
) -> Option<Url> {
    let given = section.take_placed::<String>("endpoint");
    let (text, place) = given.or_else(|| {
        let (region, place) = region?;
        Some((
            format!("https://{service}.{region}.amazonaws.com/"),
            place.clone(),
        ))
    })?;
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        section.fault(&place, format!("`{text}` is no address of a service"));
    }
    url
}
