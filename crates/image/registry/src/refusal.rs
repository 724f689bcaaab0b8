//! What a client is told when its request is refused: the specification's codes and their JSON
//! (OCI Distribution Specification 1.1, "Error Codes").

use hako_content::Error as StoreError;
use hyper::{StatusCode, header::HeaderValue};
use serde_json::json;

/// A code of the specification, with what `message` says where there is nothing more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Docker's own: a page's size that is no number.
    PaginationNumberInvalid,
    /// Docker's own: a tag that is none.
    TagInvalid,
    /// Docker's own: the server's fault.
    Unknown,
}

/// Code, name, status, description.
const CODES: &[(Code, &str, StatusCode, &str)] = &[
    (Code::BlobUnknown, "BLOB_UNKNOWN", StatusCode::NOT_FOUND, "blob unknown to registry"),
    (
        Code::BlobUploadInvalid,
        "BLOB_UPLOAD_INVALID",
        StatusCode::BAD_REQUEST,
        "blob upload invalid",
    ),
    (
        Code::BlobUploadUnknown,
        "BLOB_UPLOAD_UNKNOWN",
        StatusCode::NOT_FOUND,
        "blob upload unknown to registry",
    ),
    (
        Code::DigestInvalid,
        "DIGEST_INVALID",
        StatusCode::BAD_REQUEST,
        "provided digest did not match uploaded content",
    ),
    (
        Code::ManifestBlobUnknown,
        "MANIFEST_BLOB_UNKNOWN",
        StatusCode::BAD_REQUEST,
        "manifest references a manifest or blob unknown to registry",
    ),
    (Code::ManifestInvalid, "MANIFEST_INVALID", StatusCode::BAD_REQUEST, "manifest invalid"),
    (
        Code::ManifestUnknown,
        "MANIFEST_UNKNOWN",
        StatusCode::NOT_FOUND,
        "manifest unknown to registry",
    ),
    (Code::NameInvalid, "NAME_INVALID", StatusCode::BAD_REQUEST, "invalid repository name"),
    (
        Code::NameUnknown,
        "NAME_UNKNOWN",
        StatusCode::NOT_FOUND,
        "repository name not known to registry",
    ),
    (
        Code::SizeInvalid,
        "SIZE_INVALID",
        StatusCode::BAD_REQUEST,
        "provided length did not match content length",
    ),
    (Code::Unauthorized, "UNAUTHORIZED", StatusCode::UNAUTHORIZED, "authentication required"),
    (Code::Denied, "DENIED", StatusCode::FORBIDDEN, "requested access to the resource is denied"),
    (
        Code::Unsupported,
        "UNSUPPORTED",
        StatusCode::METHOD_NOT_ALLOWED,
        "the operation is unsupported",
    ),
    (Code::TooManyRequests, "TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS, "too many requests"),
    (
        Code::PaginationNumberInvalid,
        "PAGINATION_NUMBER_INVALID",
        StatusCode::BAD_REQUEST,
        "invalid number of results requested",
    ),
    (Code::TagInvalid, "TAG_INVALID", StatusCode::BAD_REQUEST, "invalid tag"),
    (Code::Unknown, "UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR, "unknown error"),
];

/// A refused request.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
    /// Headers that say how to do better.
    pub headers: Vec<(&'static str, String)>,
    /// Why, where that is nothing for the client: for the log.
    pub fault: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Refusal {
        let (_, _, status, _) = row(code);
        Refusal { status: *status, code, detail: detail.into(), headers: Vec::new(), fault: None }
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Refusal {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    /// The server's fault: the client learns that much, the log learns the rest.
    pub(crate) fn fault(why: impl Into<String>) -> Refusal {
        Refusal { fault: Some(why.into()), ..Refusal::new(Code::Unknown, "") }
    }

    /// The body.
    pub(crate) fn json(&self) -> String {
        let (_, name, _, message) = row(self.code);
        json!({ "errors": [{ "code": name, "message": message, "detail": self.detail }] })
            .to_string()
    }
}

fn row(code: Code) -> &'static (Code, &'static str, StatusCode, &'static str) {
    // Every code has a row, which a test holds; the last one is what a hole would fall into.
    CODES.iter().find(|(c, ..)| *c == code).unwrap_or(&CODES[CODES.len() - 1])
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let why = chain(&error);
        match error {
            StoreError::DigestMismatch { expected, actual } => {
                Refusal::new(Code::DigestInvalid, format!("{expected}: content is {actual}"))
            }
            StoreError::SizeMismatch { .. } => Refusal::new(Code::SizeInvalid, why),
            StoreError::Full { .. } => {
                Refusal { status: StatusCode::INSUFFICIENT_STORAGE, ..Refusal::fault(why) }
            }
            _ => Refusal::fault(why),
        }
    }
}

/// The longest that all warnings of a response may be together (OCI Distribution Specification
/// 1.1, "Warnings").
const WARNINGS_BYTES_MAX: usize = 4096;

/// The values of `Warning` headers that say this: code 299, no agent, the text quoted.
pub(crate) fn warnings(texts: &[String]) -> crate::Result<Vec<HeaderValue>> {
    let mut left = WARNINGS_BYTES_MAX;
    let value = |text: &String| {
        let is_text = !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        let value = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let fits = is_text && value.len() <= left;
        left = left.saturating_sub(value.len());
        let value = fits.then(|| HeaderValue::from_str(&value).ok()).flatten();
        value.ok_or_else(|| crate::Error::Warning(text.clone()))
    };
    texts.iter().map(value).collect()
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row() {
        for code in [
            Code::BlobUnknown,
            Code::BlobUploadInvalid,
            Code::BlobUploadUnknown,
            Code::DigestInvalid,
            Code::ManifestBlobUnknown,
            Code::ManifestInvalid,
            Code::ManifestUnknown,
            Code::NameInvalid,
            Code::NameUnknown,
            Code::SizeInvalid,
            Code::Unauthorized,
            Code::Denied,
            Code::Unsupported,
            Code::TooManyRequests,
            Code::PaginationNumberInvalid,
            Code::TagInvalid,
            Code::Unknown,
        ] {
            assert_eq!(CODES.iter().filter(|(c, ..)| *c == code).count(), 1, "{code:?}");
        }
    }

    #[test]
    fn warnings_are_quoted_and_bounded() {
        let values = warnings(&["so \"old\" \\".into(), "b".into()]).unwrap();
        assert_eq!(values, ["299 - \"so \\\"old\\\" \\\\\"", "299 - \"b\""]);
        for bad in ["", "a\nb", "\u{e9}", &"a".repeat(4090)] {
            assert!(warnings(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(warnings(&["a".repeat(4000), "b".repeat(100)]).is_err());
    }

    #[test]
    fn the_store_is_not_explained_to_clients() {
        let refusal = Refusal::from(StoreError::Source(std::io::Error::other("secret path")));
        assert_eq!(refusal.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!refusal.json().contains("secret"));
        assert!(refusal.fault.is_some_and(|why| why.contains("secret")));
    }
}
