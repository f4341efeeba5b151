//! Whom an exchange is for: headers first, then the path, then the request's metadata. What a virtual
//! key says of its team and tags goes before all of them, for the key decides who pays.

use std::collections::BTreeMap;

use facts::{Labels, RouteSource};
use hyper::HeaderMap;
use metering::Request;

use crate::failure::Failure;
use crate::keys::VirtualKey;

/// The longest label, bytes.
const MAX_LABEL: usize = 128;
/// The most tags on one exchange: each is a dimension that somebody may group by.
pub const MAX_TAGS: usize = 16;
/// The route of calls that nothing names.
const UNLABELLED: &str = "unlabelled";

/// Reads the labels of a request; `names` are those given to derived routes.
pub(crate) fn labels(
    names: &BTreeMap<String, String>,
    headers: &HeaderMap,
    path_route: Option<&str>,
    request: &Request,
    key: Option<&VirtualKey>,
) -> Result<Labels, Failure> {
    let metadata = |name: &str| {
        let named = request.metadata.iter().find(|(label, _)| label == name);
        named.map(|(_, value)| value.clone()).filter(|value| is_label(value))
    };
    let label = |name: &'static str, in_metadata: &str| match header(headers, name)? {
        Some(value) => Ok(Some(value)),
        None => Ok(metadata(in_metadata)),
    };
    let (route, route_source) = if let Some(route) = header(headers, "x-farthing-route")? {
        (route, RouteSource::Header)
    } else if let Some(route) = path_route {
        (route.to_owned(), RouteSource::Path)
    } else if let Some(route) = metadata("route") {
        (route, RouteSource::Metadata)
    } else if let Some(route) = key.and_then(|key| key.route.clone()) {
        (route, RouteSource::Key)
    } else {
        let derived = request.derived_route.clone().unwrap_or_else(|| UNLABELLED.to_owned());
        (names.get(&derived).cloned().unwrap_or(derived), RouteSource::Derived)
    };
    let user = label("x-farthing-user", "user")?;
    let claimed = label("x-farthing-team", "team")?;
    Ok(Labels {
        route,
        route_source,
        task: label("x-farthing-task", "task")?,
        task_type: label("x-farthing-task-type", "task_type")?,
        user: user.or_else(|| request.user.clone().filter(|user| is_label(user))),
        team: key.and_then(|key| key.team.clone()).or(claimed),
        tags: tags(headers, request, key)?,
    })
}

fn tags(
    headers: &HeaderMap,
    request: &Request,
    key: Option<&VirtualKey>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut tags: Vec<(String, String)> = key.map(|key| key.tags.clone()).unwrap_or_default();
    let of_key = tags.len();
    let decided =
        |tags: &[(String, String)], tag: &str| tags[..of_key].iter().any(|(known, _)| known == tag);
    for name in headers.keys() {
        let Some(tag) = name.as_str().strip_prefix("x-farthing-tag-") else { continue };
        if tag.is_empty() {
            let message = "expected a name after `x-farthing-tag-`";
            return Err(Failure::bad_request("bad_label", message));
        }
        if let Some(value) = header(headers, name.as_str())?
            && !decided(&tags, tag)
        {
            tags.push((tag.to_owned(), value));
        }
    }
    for (name, value) in &request.metadata {
        let Some(tag) = name.strip_prefix("tag_") else { continue };
        // As header names are.
        let tag = tag.to_ascii_lowercase();
        if is_label(&tag) && is_label(value) && !tags.iter().any(|(known, _)| *known == tag) {
            tags.push((tag, value.clone()));
        }
    }
    if tags.len() > MAX_TAGS {
        let message = format!("expected at most {MAX_TAGS} tags, found {}", tags.len());
        return Err(Failure::bad_request("too_many_tags", message));
    }
    tags.sort();
    Ok(tags)
}

/// The value of a label's header. Given twice, too long or unprintable it is refused: a label that is
/// dropped or cut would put money on the wrong line.
fn header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = std::str::from_utf8(value.as_bytes()).unwrap_or("").trim();
    if values.next().is_some() || !is_label(value) {
        let message =
            format!("expected `{name}` once, as 1 to {MAX_LABEL} bytes of printable UTF-8");
        return Err(Failure::bad_request("bad_label", message));
    }
    Ok(Some(value.to_owned()))
}

/// Whether a text can be a label: 1 to 128 bytes without control characters.
#[must_use]
pub fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a segment of a path can be a route.
pub(crate) fn is_route(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(plain) && !matches!(text, "." | "..")
}
