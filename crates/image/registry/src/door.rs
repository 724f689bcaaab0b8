//! Who may do what: everybody, users with a password (RFC 7617), or who brings a token (RFC 6750,
//! and Distribution's token specification for scopes and challenges).

use hyper::Method;

use crate::{
    Options, Result,
    issue::Issuer,
    login::Users,
    refusal::{Code, Refusal},
    request::{Repository, Route},
    server::Asked,
    token::{Access, Bearer, Verifier},
};

/// Where users of our own get their tokens.
pub(crate) const TOKEN_PATH: &str = "/token";

/// What is asked before anything else of a request is looked at.
pub(crate) enum Door {
    Open,
    Users(Users),
    Tokens { verifier: Verifier, realm: String, service: String },
    Issued(Box<Issuer>),
}

/// What a client may do.
#[derive(Debug, Clone, Default)]
pub(crate) enum Granted {
    #[default]
    All,
    Only(Vec<Access>),
}

/// A client that came in.
pub(crate) struct Admitted {
    pub user: String,
    pub granted: Granted,
}

impl Granted {
    /// The repositories that may be pulled from; `None` where all may.
    pub(crate) fn pulls(&self) -> Option<Vec<Repository>> {
        let Granted::Only(access) = self else { return None };
        let pulls = |a: &&Access| a.covers(&pull(&a.name));
        Some(access.iter().filter(pulls).filter_map(|a| Repository::parse(&a.name)).collect())
    }
}

impl Door {
    pub(crate) fn new(options: &Options) -> Result<Door> {
        let users = options.htpasswd.as_deref().map(Users::read).transpose()?;
        Ok(match (&options.tokens, users) {
            (Some(tokens), _) => Door::Tokens {
                verifier: Verifier::new(tokens)?,
                realm: tokens.realm.clone(),
                service: tokens.service.clone(),
            },
            (None, Some(users)) if options.issue || options.anonymous_pull => {
                Door::Issued(Box::new(Issuer::new(users, options.anonymous_pull)?))
            }
            (None, Some(users)) => Door::Users(users),
            (None, None) => Door::Open,
        })
    }

    /// Lets in who may do all that `needed` says. Blocks: a wrong password costs its bcrypt.
    /// `here` is this server's address as the client has it, for the place of its tokens.
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        needed: &[Access],
        here: &str,
    ) -> std::result::Result<Admitted, Refusal> {
        match self {
            Door::Open => Ok(Admitted { user: String::new(), granted: Granted::All }),
            Door::Users(users) => match users.check(authorization) {
                Some(user) => Ok(Admitted { user, granted: Granted::All }),
                None => Err(basic()),
            },
            Door::Tokens { verifier, realm, service } => by_token(verifier, authorization, needed)
                .map_err(|why| bearer(realm, service, needed, why)),
            Door::Issued(issuer) => {
                // Who sends a password with each request may: it is the same user.
                if let Some(user) = issuer.users.check(authorization) {
                    return Ok(Admitted { user, granted: Granted::All });
                }
                let realm = format!("{here}{TOKEN_PATH}");
                by_token(&issuer.verifier, authorization, needed)
                    .map_err(|why| bearer(&realm, here, needed, why))
            }
        }
    }
}

/// Why a token does not do, in the words of RFC 6750; nothing where there is none.
type Why = Option<&'static str>;

fn by_token(
    verifier: &Verifier,
    authorization: Option<&str>,
    needed: &[Access],
) -> std::result::Result<Admitted, Why> {
    let Some(header) = authorization else { return Err(None) };
    let token = header
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Bearer { subject, access } =
        token.and_then(|token| verifier.check(token)).ok_or(Some("invalid_token"))?;
    match needed.iter().all(|need| access.iter().any(|has| has.covers(need))) {
        true => Ok(Admitted { user: subject, granted: Granted::Only(access) }),
        false => Err(Some("insufficient_scope")),
    }
}

pub(crate) fn basic() -> Refusal {
    let challenge = "Basic realm=\"hako registry\"";
    Refusal::new(Code::Unauthorized, "").header("WWW-Authenticate", challenge)
}

fn bearer(realm: &str, service: &str, needed: &[Access], why: Why) -> Refusal {
    let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
    let scopes: Vec<String> = needed.iter().map(ToString::to_string).collect();
    for (name, value) in [("scope", scopes.join(" ")), ("error", why.unwrap_or_default().into())] {
        if !value.is_empty() {
            challenge += &format!(",{name}=\"{value}\"");
        }
    }
    let detail = why.unwrap_or_default().replace('_', " ");
    Refusal::new(Code::Unauthorized, detail).header("WWW-Authenticate", challenge)
}

fn pull(name: &str) -> Access {
    access("repository", name, &["pull"])
}

fn access(kind: &str, name: &str, actions: &[&str]) -> Access {
    let actions = actions.iter().map(|a| (*a).to_owned()).collect();
    Access { kind: kind.to_owned(), name: name.to_owned(), actions }
}

/// What a request needs, as Docker's registry has it.
pub(crate) fn needed(route: Option<&Route>, method: &Method, asked: &Asked) -> Vec<Access> {
    let actions: &[&str] = match *method {
        Method::GET | Method::HEAD => &["pull"],
        Method::DELETE => &["delete"],
        _ => &["pull", "push"],
    };
    let of = |repository: &Repository| access("repository", repository.as_str(), actions);
    match route {
        None | Some(Route::Root) => Vec::new(),
        Some(Route::Catalog) => vec![access("registry", "catalog", &["*"])],
        Some(Route::Metrics) => vec![access("registry", "metrics", &["*"])],
        Some(
            Route::Tags(repository)
            | Route::Manifest(repository, _)
            | Route::Blob(repository, _)
            | Route::Referrers(repository, _),
        ) => vec![of(repository)],
        // To cancel an upload is the pusher's right, not the deleter's.
        Some(Route::Upload(repository, _)) => {
            vec![access("repository", repository.as_str(), &["pull", "push"])]
        }
        Some(Route::Uploads(repository)) => {
            let from = asked.query("mount").and(asked.query("from")).and_then(Repository::parse);
            let from = from.filter(|from| from != repository).map(|from| pull(from.as_str()));
            [of(repository)].into_iter().chain(from).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route;

    #[test]
    fn what_requests_need() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (method, path, query, want) in [
            (Method::GET, "/v2/", "", ""),
            (Method::GET, "/nowhere", "", ""),
            (Method::GET, "/v2/_catalog", "", "registry:catalog:*"),
            (Method::GET, "/metrics", "", "registry:metrics:*"),
            (Method::HEAD, "/v2/a/b/manifests/x", "", "repository:a/b:pull"),
            (Method::PUT, "/v2/a/b/manifests/x", "", "repository:a/b:pull,push"),
            (Method::DELETE, "/v2/a/b/manifests/x", "", "repository:a/b:delete"),
            (Method::GET, "/v2/a/tags/list", "", "repository:a:pull"),
            (Method::DELETE, "/v2/a/blobs/uploads/x", "", "repository:a:pull,push"),
            (Method::GET, "/v2/a/blobs/uploads/x", "", "repository:a:pull,push"),
            (Method::POST, "/v2/a/blobs/uploads/", "", "repository:a:pull,push"),
            (
                Method::POST,
                "/v2/a/blobs/uploads/",
                &format!("mount={digest}&from=b"),
                "repository:a:pull,push repository:b:pull",
            ),
        ] {
            let asked = Asked::for_query(query);
            let needed = needed(route(path).ok().as_ref(), &method, &asked);
            let text: Vec<String> = needed.iter().map(ToString::to_string).collect();
            assert_eq!(text.join(" "), want, "{method} {path}");
        }
    }
}
