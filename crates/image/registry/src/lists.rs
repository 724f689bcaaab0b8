//! Tags, referrers and the catalog, in pages (OCI Distribution Specification 1.1, "Content
//! discovery"; the catalog is that of Docker's registry).

use hako_content::Kind;
use hako_oci::{
    Descriptor, Digest,
    image::{Index, Manifest},
    media_type,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::{
    body::Body,
    catalog, manifests,
    refusal::{Code, Refusal},
    request::{Repository, number},
    server::{Asked, State, answer, block},
};

/// The longest page.
const PAGE_MAX: usize = 1000;

/// The longest list of tags that is given where no number was asked for; Docker's registry gives
/// all, and its clients expect that.
const TAGS_MAX: usize = 100_000;

/// What is given of the catalog where no number was asked for.
const CATALOG_PAGE: usize = 100;

/// How many bytes of descriptors a page of referrers may have.
const REFERRERS_BYTES_MAX: usize = 4 << 20;

fn page(asked: &Asked, default: usize) -> Result<usize, Refusal> {
    match asked.query("n") {
        None => Ok(default),
        Some(text) => match number(text) {
            Some(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            None => Err(Refusal::new(Code::PaginationNumberInvalid, text)),
        },
    }
}

/// Splits off what was read only to know whether there is more.
fn split<T>(mut found: Vec<T>, count: usize) -> (Vec<T>, bool) {
    let more = found.len() > count;
    found.truncate(count);
    (found, more && count > 0)
}

fn json_answer(text: String, kind: &str, more: &[(&'static str, String)]) -> Response<Body> {
    let mut headers =
        vec![("Content-Type", kind.to_owned()), ("Content-Length", text.len().to_string())];
    headers.extend_from_slice(more);
    answer(StatusCode::OK, &headers, Body::text(text))
}

/// `GET /v2/<name>/tags/list`.
pub(crate) fn tags(
    state: &State,
    repository: &Repository,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let count = page(asked, TAGS_MAX)?.min(TAGS_MAX);
    let last = asked.query("last").filter(|last| !last.is_empty());
    let found = block(|| {
        state.store.view(|names| match catalog::exists(names, repository)? {
            true => Ok(catalog::tags(names, repository, last, count + 1)?),
            false => Err(Refusal::new(Code::NameUnknown, repository.as_str())),
        })
    })?;
    Ok(tags_page(repository, found, count))
}

/// The tags that somebody else has listed, in our order and pages.
pub(crate) fn tags_of(
    repository: &Repository,
    asked: &Asked,
    mut tags: Vec<String>,
) -> Result<Response<Body>, Refusal> {
    let count = page(asked, TAGS_MAX)?.min(TAGS_MAX);
    let key = |tag: &str| (tag.to_ascii_lowercase(), tag.to_owned());
    tags.retain(|tag| hako_oci::reference::is_tag(tag));
    tags.sort_by_cached_key(|tag| key(tag));
    tags.dedup();
    if let Some(last) = asked.query("last").filter(|last| !last.is_empty()) {
        let last = key(last);
        tags.retain(|tag| key(tag) > last);
    }
    Ok(tags_page(repository, tags, count))
}

fn tags_page(repository: &Repository, found: Vec<String>, count: usize) -> Response<Body> {
    let (tags, more) = split(found, count);
    let mut headers = Vec::new();
    if let (true, Some(last)) = (more, tags.last()) {
        let name = repository.as_str();
        headers
            .push(("Link", format!("</v2/{name}/tags/list?last={last}&n={count}>; rel=\"next\"")));
    }
    let text = json!({ "name": repository.as_str(), "tags": tags }).to_string();
    json_answer(text, "application/json", &headers)
}

/// `GET /v2/_catalog`.
pub(crate) fn catalog(state: &State, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let count = page(asked, CATALOG_PAGE)?.min(PAGE_MAX);
    let last = asked.query("last").and_then(Repository::parse);
    let last = last.as_ref().map(Repository::as_str);
    let found = block(|| state.store.view(|names| catalog::repositories(names, last, count + 1)))?;
    let (repositories, more) = split(found, count);
    let mut headers = Vec::new();
    if let (true, Some(last)) = (more, repositories.last()) {
        headers.push(("Link", format!("</v2/_catalog?last={last}&n={count}>; rel=\"next\"")));
    }
    let text = json!({ "repositories": repositories }).to_string();
    Ok(json_answer(text, "application/json", &headers))
}

/// `GET /v2/<name>/referrers/<digest>`.
pub(crate) fn referrers(
    state: &State,
    repository: &Repository,
    subject: &Digest,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let wanted = asked.query("artifactType").filter(|wanted| !wanted.is_empty());
    let last = asked.query("last").and_then(|text| text.parse::<Digest>().ok());
    let found = block(|| {
        state.store.view(|names| {
            catalog::referrers(names, repository, subject, last.as_ref(), PAGE_MAX + 1)
        })
    })?;
    let (found, mut more) = split(found, PAGE_MAX);
    let mut manifests = Vec::new();
    let mut bytes = 0;
    let mut looked_at = None;
    for target in found {
        let digest = target.digest.clone();
        let described = match manifests::read(state, &target) {
            Ok(document) => describe(target, &document),
            // Deleted meanwhile.
            Err(e) if e.code == Code::ManifestUnknown => continue,
            Err(e) => return Err(e),
        };
        if wanted.is_none() || described.artifact_type.as_deref() == wanted {
            let value = serde_json::to_value(&described)
                .map_err(|e| Refusal::fault(format!("JSON: {e}")))?;
            bytes += value.to_string().len();
            if bytes > REFERRERS_BYTES_MAX && !manifests.is_empty() {
                more = true;
                break;
            }
            manifests.push(value);
        }
        looked_at = Some(digest);
    }
    let mut headers = Vec::new();
    if let (true, Some(last)) = (more, looked_at) {
        let name = repository.as_str();
        let filter = wanted.map(|w| format!("&artifactType={}", encode(w))).unwrap_or_default();
        headers.push((
            "Link",
            format!("</v2/{name}/referrers/{subject}?last={last}{filter}>; rel=\"next\""),
        ));
    }
    Ok(referrers_page(wanted, &manifests, headers))
}

/// The referrers that somebody else has listed.
pub(crate) fn referrers_of(
    asked: &Asked,
    mut found: Vec<Descriptor>,
) -> Result<Response<Body>, Refusal> {
    let wanted = asked.query("artifactType").filter(|wanted| !wanted.is_empty());
    found.retain(|d| wanted.is_none() || d.artifact_type.as_deref() == wanted);
    let manifests: Result<Vec<_>, _> = found.iter().map(serde_json::to_value).collect();
    let manifests = manifests.map_err(|e| Refusal::fault(format!("JSON: {e}")))?;
    Ok(referrers_page(wanted, &manifests, Vec::new()))
}

fn referrers_page(
    wanted: Option<&str>,
    manifests: &[serde_json::Value],
    mut headers: Vec<(&'static str, String)>,
) -> Response<Body> {
    if wanted.is_some() {
        headers.push(("OCI-Filters-Applied", "artifactType".to_owned()));
    }
    let text = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
    });
    json_answer(text.to_string(), media_type::OCI_INDEX, &headers)
}

/// A referrer's descriptor: with its annotations and with what it is.
fn describe(mut target: Descriptor, document: &[u8]) -> Descriptor {
    match Kind::of(&target.media_type) {
        Kind::Index => {
            if let Ok(index) = Index::parse(document) {
                target.artifact_type = index.artifact_type;
                target.annotations = index.annotations;
            }
        }
        _ => {
            if let Ok(manifest) = Manifest::parse(document) {
                let own = manifest.artifact_type.filter(|own| !own.is_empty());
                target.artifact_type = own.or(Some(manifest.config.media_type));
                target.annotations = manifest.annotations;
            }
        }
    }
    target
}

/// A value for a query.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/+".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        assert_eq!(
            encode("application/x+json;a=b&c \u{e9}"),
            "application/x+json%3Ba%3Db%26c%20%C3%A9"
        );
    }

    #[test]
    fn pages_are_split() {
        assert_eq!(split(vec![1, 2, 3], 2), (vec![1, 2], true));
        assert_eq!(split(vec![1, 2], 2), (vec![1, 2], false));
        assert_eq!(split(vec![1], 0), (vec![], false));
    }
}
