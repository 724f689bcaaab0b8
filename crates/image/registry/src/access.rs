//! What is told of the server's life: a line of JSON for each request and event, and the numbers
//! at `/metrics`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

/// Takes lines of JSON, without their ends.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Numbers since the start.
#[derive(Default)]
pub(crate) struct Metrics {
    /// By method and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub connections: AtomicU64,
    pub connections_total: AtomicU64,
    pub uploads: AtomicU64,
    pub collections: AtomicU64,
    pub collected_blobs: AtomicU64,
    pub collected_bytes: AtomicU64,
    pub refused_logins: AtomicU64,
    pub upstream_questions: AtomicU64,
    pub upstream_failures: AtomicU64,
    pub upstream_bytes: AtomicU64,
}

const METHODS: &[&str] = &["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];

impl Metrics {
    fn count(&self, method: &str, status: u16) {
        // A method that a client made up must not become a row.
        let method = METHODS.iter().find(|m| **m == method).unwrap_or(&"other");
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, status)).or_default() += 1;
    }

    /// Prometheus' text form, version 0.0.4.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let name = "hako_registry_requests_total";
        text += &format!("# HELP {name} Requests answered.\n# TYPE {name} counter\n");
        for ((method, code), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            text += &format!("{name}{{method=\"{method}\",code=\"{code}\"}} {n}\n");
        }
        for (name, kind, help, value) in [
            ("received_bytes_total", "counter", "Bytes read from clients.", &self.received_bytes),
            ("sent_bytes_total", "counter", "Bytes written to clients.", &self.sent_bytes),
            ("connections", "gauge", "Connections that are open.", &self.connections),
            ("connections_total", "counter", "Connections accepted.", &self.connections_total),
            ("uploads", "gauge", "Uploads that are not finished.", &self.uploads),
            ("collections_total", "counter", "Garbage collections.", &self.collections),
            ("collected_blobs_total", "counter", "Blobs collected.", &self.collected_blobs),
            ("collected_bytes_total", "counter", "Bytes collected.", &self.collected_bytes),
            (
                "refused_logins_total",
                "counter",
                "Wrong passwords and tokens.",
                &self.refused_logins,
            ),
            (
                "upstream_questions_total",
                "counter",
                "Questions to the upstream.",
                &self.upstream_questions,
            ),
            (
                "upstream_failures_total",
                "counter",
                "Answers that the upstream did not give.",
                &self.upstream_failures,
            ),
            (
                "upstream_bytes_total",
                "counter",
                "Bytes of blobs read from the upstream.",
                &self.upstream_bytes,
            ),
        ] {
            let value = value.load(Relaxed);
            let written = writeln!(
                text,
                "# HELP hako_registry_{name} {help}\n# TYPE hako_registry_{name} {kind}\n\
                 hako_registry_{name} {value}"
            );
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        text
    }
}

/// One request: written when it is dropped, which is when its response is sent or given up.
pub(crate) struct Entry {
    pub log: Log,
    pub metrics: Arc<Metrics>,
    pub begun: Instant,
    pub remote: SocketAddr,
    pub method: String,
    pub uri: String,
    pub version: String,
    pub agent: String,
    pub user: String,
    pub status: u16,
    /// Bytes of the body handed to the connection.
    pub sent: u64,
    /// What went wrong here, if it did.
    pub fault: Option<String>,
}

/// The longest text of a client's that is logged.
const TEXT_BYTES_MAX: usize = 1024;

/// A client's text, cut.
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.metrics.count(&self.method, self.status);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| {
            line.insert(name.to_owned(), value);
        };
        put("time", time().into());
        put("event", "request".into());
        put("remote", self.remote.to_string().into());
        put("method", self.method.as_str().into());
        put("uri", self.uri.as_str().into());
        put("version", self.version.as_str().into());
        put("status", self.status.into());
        put("bytes", self.sent.into());
        put("seconds", json!(self.begun.elapsed().as_secs_f64()));
        for (name, text) in [("user", &self.user), ("agent", &self.agent)] {
            if !text.is_empty() {
                put(name, text.as_str().into());
            }
        }
        if let Some(fault) = &self.fault {
            put("error", fault.as_str().into());
        }
        (self.log)(&Value::Object(line).to_string());
    }
}

/// Something that is no request.
pub(crate) fn event(log: &Log, name: &str, mut fields: Value) {
    let mut line = Map::new();
    line.insert("time".into(), time().into());
    line.insert("event".into(), name.into());
    if let Some(fields) = fields.as_object_mut() {
        line.append(fields);
    }
    log(&Value::Object(line).to_string());
}

/// Now, as RFC 3339 has it, in UTC with milliseconds.
pub(crate) fn time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86400, now.as_secs() % 86400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        now.subsec_millis()
    )
}

/// The date so many days after 1970 began.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (days, want) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (11016, (2000, 2, 29)),
            (20088, (2024, 12, 31)),
            (20089, (2025, 1, 1)),
        ] {
            assert_eq!(date(days), want);
        }
    }

    #[test]
    fn made_up_methods_make_no_rows() {
        let metrics = Metrics::default();
        for n in 0..100 {
            metrics.count(&format!("X{n}"), 400);
        }
        assert!(metrics.text().contains("{method=\"other\",code=\"400\"} 100\n"));
        assert_eq!(cut(&"é".repeat(2000)).len(), TEXT_BYTES_MAX);
    }
}
