//! `--call` and `--check`: what is asked of a Dockerfile instead of building it, and the answer.

use crate::{
    check::{Facts, Request, check},
    csv, go, outline, render,
    rules::{Settings, SettingsError},
    source::Source,
};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Nothing: it is built.
    #[default]
    Build,
    /// Whether it is right.
    Check,
    /// What a target takes.
    Outline,
    /// Which targets there are.
    Targets,
}

const METHODS: &[(&str, Method)] = &[
    ("build", Method::Build),
    ("check", Method::Check),
    ("lint", Method::Check),
    ("outline", Method::Outline),
    ("targets", Method::Targets),
];

/// The value of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// What is asked.
    pub method: Method,
    /// `format=json`.
    pub json: bool,
    /// `ignorestatus`: warnings do not make it fail.
    pub ignore_status: bool,
}

/// Why a value of `--call` means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {} for --call: {why}", go::quote(.value))]
pub struct CallError {
    value: String,
    why: String,
}

/// What is printed, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output; ends with a line feed.
    pub text: String,
    /// For standard error.
    pub error: Option<String>,
    /// Whether the command fails.
    pub failed: bool,
}

impl Call {
    /// `--check`.
    pub const CHECK: Call = Call { method: Method::Check, json: false, ignore_status: false };

    /// Reads `METHOD[,format=text|json][,ignorestatus[=true|false]]`.
    pub fn parse(text: &str) -> Result<Call, CallError> {
        let wrong = |why: String| CallError { value: text.to_owned(), why };
        let mut call = Call::default();
        if text.is_empty() {
            return Ok(call);
        }
        for field in csv::fields(text).map_err(|why| wrong(why.to_owned()))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.trim().to_lowercase(), Some(value)),
                None => (field.trim().to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("ignorestatus", value) => {
                    let value = value.unwrap_or("true");
                    call.ignore_status = go::boolean(value)
                        .ok_or_else(|| wrong(format!("invalid value for ignorestatus: {value}")))?;
                }
                ("format", Some("json")) => call.json = true,
                ("format", Some("text" | "")) => call.json = false,
                ("format", Some(other)) => return Err(wrong(format!("unknown format {other}"))),
                (name, None) | ("method", Some(name)) => {
                    let found = METHODS.iter().find(|(known, _)| *known == name);
                    let names = "build, check, outline and targets are known";
                    call.method = found.ok_or_else(|| wrong(names.to_owned()))?.1;
                }
                (key, Some(_)) => return Err(wrong(format!("unexpected key '{key}'"))),
            }
        }
        Ok(call)
    }

    /// Answers. The settings of checks are those of the build argument
    /// `BUILDKIT_DOCKERFILE_CHECK`, if it is given.
    pub fn answer(
        &self,
        source: &Source,
        request: &Request,
        facts: &dyn Facts,
    ) -> Result<Answer, SettingsError> {
        let mut request = request.clone();
        if let Some(settings) = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
            request.settings = Some(Settings::parse(settings)?);
        }
        if matches!(self.method, Method::Build | Method::Check) {
            return self.check(source, &request, facts);
        }
        let file = match crate::parse(source.bytes()) {
            Ok(file) => file,
            Err(error) => return Ok(failure(source, &error)),
        };
        let text = match (self.method, self.json) {
            (Method::Targets, false) => outline::targets_text(&outline::targets(&file)),
            (Method::Targets, true) => {
                pretty(&outline::targets_json(&outline::targets(&file), source))
            }
            _ => match outline::Outline::new(&file, &request) {
                Ok(outline) if self.json => pretty(&outline.json(source)),
                Ok(outline) => outline.text(),
                Err(error) => return Ok(failure(source, &error)),
            },
        };
        Ok(Answer { text, error: None, failed: false })
    }

    fn check(
        &self,
        source: &Source,
        request: &Request,
        facts: &dyn Facts,
    ) -> Result<Answer, SettingsError> {
        let report = check(source.bytes(), request, facts)?;
        let failed = !self.ignore_status && !report.is_clean();
        if self.json {
            return Ok(Answer { text: pretty(&report.json(source)), error: None, failed });
        }
        let (text, error) = report.text(source);
        Ok(Answer { text, failed: failed || error.is_some(), error })
    }
}

fn failure(source: &Source, error: &crate::Error) -> Answer {
    Answer { text: String::new(), error: Some(render::error(source, error)), failed: true }
}

fn pretty(value: &serde_json::Value) -> String {
    // With an alternate flag it is printed on lines of its own.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::NoFacts;

    #[test]
    fn values_of_the_flag() {
        let call = |method, json, ignore_status| Ok(Call { method, json, ignore_status });
        for (text, expected) in [
            ("check", call(Method::Check, false, false)),
            ("lint,format=json", call(Method::Check, true, false)),
            ("outline,ignorestatus", call(Method::Outline, false, true)),
            ("method=targets,ignorestatus=false", call(Method::Targets, false, false)),
            ("", call(Method::Build, false, false)),
        ] {
            assert_eq!(Call::parse(text), expected, "{text}");
        }
        for text in ["banana", "check,format=xml", "check,a=b", "check,ignorestatus=x", "\"a"] {
            assert!(Call::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers() {
        let ask = |call: &str, text: &str| {
            let source = Source::new("Dockerfile", text);
            Call::parse(call).unwrap().answer(&source, &Request::new(), &NoFacts).unwrap()
        };
        let clean = ask("check", "FROM scratch\n");
        assert_eq!(
            (clean.text.as_str(), clean.failed),
            ("Check complete, no warnings found.\n", false)
        );
        assert!(ask("check", "FROM scratch as a\n").failed);
        assert!(!ask("check,ignorestatus", "FROM scratch as a\n").failed);
        let error = ask("check,ignorestatus", "FROM\n");
        assert!(error.failed && error.error.unwrap().contains(">>> FROM\n"));
        assert!(ask("targets", "FROM scratch AS a\n").text.contains("a (default)"));
        let json = ask("outline,format=json", "FROM scratch\nARG v=1\n").text;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["args"][0]["name"], "v");
        assert!(ask("targets", "FOO\n").error.unwrap().contains("unknown instruction"));
    }

    #[test]
    fn a_build_argument_has_settings() {
        let source = Source::new("Dockerfile", "FROM scratch as a\n");
        let mut request = Request::new();
        request.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".into(), "skip=all".into());
        assert!(!Call::CHECK.answer(&source, &request, &NoFacts).unwrap().failed);
    }
}
