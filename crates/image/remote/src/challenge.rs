//! `WWW-Authenticate`: what a registry wants to know before it answers (RFC 9110, 11.6.1), and
//! scopes, which are what it wants to know it for.

use std::collections::{BTreeMap, BTreeSet};

/// A way to show who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token of the server at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        error: Option<String>,
    },
}

impl Challenge {
    /// The best of all challenges of an answer; `None` where none can be met.
    pub(crate) fn best<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
        let mut found: Vec<Challenge> = headers.flat_map(parse).collect();
        let bearer = found.iter().position(|c| matches!(c, Challenge::Bearer { .. }));
        match bearer {
            Some(at) => Some(found.swap_remove(at)),
            None => found.pop(),
        }
    }
}

/// All challenges of one header that are known here.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    while let Some((word, after)) = token(rest) {
        let next = after.trim_start();
        if let Some(value) = next.strip_prefix('=') {
            let Some((value, after)) = value_of(value.trim_start()) else { break };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.entry(word.to_ascii_lowercase()).or_insert(value);
            }
            rest = after;
        } else {
            found.push((word.to_ascii_lowercase(), BTreeMap::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    let known = |(scheme, mut parameters): (String, BTreeMap<String, String>)| {
        let mut take = |name: &str| parameters.remove(name);
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer {
                realm: take("realm")?,
                service: take("service"),
                scope: take("scope"),
                error: take("error"),
            }),
            _ => None,
        }
    };
    found.into_iter().filter_map(known).collect()
}

fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token, or a text in quotes.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// What is to be done with what: `repository:library/alpine` and `pull`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    pub(crate) fn repository(name: &str, actions: &[&str]) -> Scopes {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        Scopes(BTreeMap::from([(format!("repository:{name}"), actions)]))
    }

    /// Adds those that a challenge or another request names.
    pub(crate) fn add(&mut self, other: &Scopes) {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
    }

    /// The words of a challenge's `scope`.
    pub(crate) fn parse(text: &str) -> Scopes {
        let mut scopes = Scopes::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let (resource, actions) = word.rsplit_once(':').unwrap_or((word, ""));
            let actions = actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned);
            scopes.0.entry(resource.to_owned()).or_default().extend(actions);
        }
        scopes
    }

    /// Whether whoever may do this may do `other`.
    pub(crate) fn covers(&self, other: &Scopes) -> bool {
        other.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|ours| actions.is_subset(ours))
        })
    }

    /// Each as a request for a token has it.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            match actions.is_empty() {
                true => resource.clone(),
                false => format!("{resource}:{}", actions.join(",")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (service, scope) = (owned(service), owned(scope));
        Some(Challenge::Bearer { realm: realm.into(), service, scope, error: None })
    }

    #[test]
    fn challenges() {
        let cases: &[(&[&str], Option<Challenge>)] = &[
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#],
                bearer("https://a/t", Some("s"), Some("repository:x:pull,push")),
            ),
            (&[r#"bearer  REALM = "a\"b" , service=s"#], bearer("a\"b", Some("s"), None)),
            (&[r#"Basic realm="x", Bearer realm="y""#], bearer("y", None, None)),
            (&["Basic realm=\"x\"", "Bearer realm=\"y\""], bearer("y", None, None)),
            (&["Basic"], Some(Challenge::Basic)),
            (&["Negotiate", "NTLM"], None),
            (&["Bearer service=x"], None),
            (&["Bearer realm=\"open"], None),
            (&[""], None),
        ];
        for (headers, want) in cases {
            assert_eq!(Challenge::best(headers.iter().copied()), *want, "{headers:?}");
        }
    }

    #[test]
    fn scopes_are_joined() {
        let mut scopes = Scopes::repository("a/b", &["pull"]);
        let push = Scopes::repository("a/b", &["pull", "push"]);
        assert!(push.covers(&scopes) && !scopes.covers(&push));
        scopes.add(&Scopes::parse("repository:a/b:push,pull repository:c:pull registry:catalog:*"));
        let words: Vec<String> = scopes.words().collect();
        assert_eq!(words, ["registry:catalog:*", "repository:a/b:pull,push", "repository:c:pull"]);
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(header in ".{0,200}") {
            Challenge::best([header.as_str()].into_iter());
            Scopes::parse(&header);
        }
    }
}
