//! What a request asks for, read from its method, path and query alone (Kubernetes' RequestInfo and the option types of meta/v1).
//!
//! Authorization, audit and dispatch all use this one reading, so that they cannot disagree about what is being done.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use setpoint_meta::status::Status;

use crate::Answer;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other URLs the method in lower case.
    pub verb: &'static str,
    /// The decoded path.
    pub path: String,
    /// Set when the path names a resource of an API group version.
    pub resource: Option<ResourcePath>,
}

/// The parts of a resource URL. Empty text: not in the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group; empty for core.
    pub group: String,
    /// e.g. `v1`
    pub version: String,
    /// The namespace (for the resource `namespaces` itself: its name).
    pub namespace: String,
    /// The plural name.
    pub resource: String,
    /// The object.
    pub name: String,
    /// e.g. `status`
    pub subresource: String,
}

impl RequestInfo {
    /// Reads a request line. Paths that would mean something else to another reader (`//`, `.`, `..`, an encoded slash) are refused.
    pub fn new(method: &Method, path: &str, query: &Query) -> Answer<Self> {
        let segments = segments(path)?;
        let decoded = if segments.is_empty() {
            "/".to_owned()
        } else {
            format!("/{}{}", segments.join("/"), if path.ends_with('/') { "/" } else { "" })
        };
        let plain = Self {
            verb: method_verb(method),
            path: decoded,
            resource: None,
        };
        let (group, version, rest) = match segments.iter().map(|s| &**s).collect::<Vec<_>>()[..] {
            ["api", version, ref rest @ ..] if !rest.is_empty() => ("", version, rest.to_vec()),
            ["apis", group, version, ref rest @ ..] if !rest.is_empty() => (group, version, rest.to_vec()),
            _ => return Ok(plain),
        };
        let Some(mut resource) = resource_path(&rest) else {
            return Ok(plain);
        };
        resource.group = group.to_owned();
        resource.version = version.to_owned();
        let verb = resource_verb(method, &resource, query);
        if resource.name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
            resource.name = single_name(query).unwrap_or_default();
        }
        Ok(Self {
            verb,
            resource: Some(resource),
            ..plain
        })
    }
}

/// A collection request that a field selector narrows to one name is authorized for that name (RequestInfoFactory does the same).
fn single_name(query: &Query) -> Option<String> {
    query
        .get("fieldSelector")?
        .split(',')
        .find_map(|r| r.strip_prefix("metadata.name="))
        .map(|n| n.trim_start_matches('=').to_owned())
}

fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Box<Status>> {
    let refused = || {
        Box::new(Status::bad_request(format!(
            "the path {path:?} is not in its plain form: it may not hold empty, \".\" or \"..\" segments or encoded slashes"
        )))
    };
    let trimmed = path.strip_prefix('/').ok_or_else(refused)?;
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    if trimmed.is_empty() {
        return if path.len() <= 1 {
            Ok(Vec::new())
        } else {
            Err(refused())
        };
    }
    trimmed
        .split('/')
        .map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| refused())?;
            let plain = !decoded.is_empty() && decoded != "." && decoded != ".." && !decoded.contains(['/', '\0']);
            plain.then_some(decoded).ok_or_else(refused)
        })
        .collect()
}

fn resource_path(rest: &[&str]) -> Option<ResourcePath> {
    let path = |namespace: &str, resource: &str, name: &str, subresource: &str| ResourcePath {
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..ResourcePath::default()
    };
    Some(match rest {
        ["namespaces"] => path("", "namespaces", "", ""),
        ["namespaces", name] => path(name, "namespaces", name, ""),
        ["namespaces", name, sub @ ("status" | "finalize" | "why" | "history")] => path(name, "namespaces", name, sub),
        ["namespaces", ns, resource] => path(ns, resource, "", ""),
        ["namespaces", ns, resource, name] => path(ns, resource, name, ""),
        ["namespaces", ns, resource, name, sub] => path(ns, resource, name, sub),
        [resource] => path("", resource, "", ""),
        [resource, name] => path("", resource, name, ""),
        [resource, name, sub] => path("", resource, name, sub),
        _ => return None,
    })
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

fn resource_verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match *method {
        // a watch is of a collection: on a named path it would be authorized for one name and show them all
        Method::GET | Method::HEAD if query.flag("watch") && path.subresource.is_empty() && path.name.is_empty() => {
            "watch"
        }
        Method::GET | Method::HEAD if path.name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if path.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => method_verb(method),
    }
}

/// The query of a request, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`.
    pub fn parse(query: &str) -> Self {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|pair| match pair.split_once('=') {
                Some((k, v)) => (decode(k), decode(v)),
                None => (decode(pair), String::new()),
            });
        Self(pairs.collect())
    }

    /// The first value of a parameter, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| &**v)
            .filter(|v| !v.is_empty())
    }

    /// Adds a parameter that came by another way (an option in the body).
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| &**v)
    }

    /// A boolean parameter as Kubernetes converts it: absent, `false` and `0` are false, anything else is true.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .find(|(k, _)| k == name)
            .is_some_and(|(_, v)| !matches!(&*v.to_ascii_lowercase(), "false" | "0"))
    }

    /// A parameter that must be a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Answer<Option<T>> {
        self.get(name)
            .map(|v| {
                v.parse().map_err(|_| {
                    Box::new(Status::bad_request(format!(
                        "invalid value {v:?} for parameter {name:?}: it must be a number"
                    )))
                })
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, uri: &str) -> Answer<RequestInfo> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::new(&method, path, &Query::parse(query))
    }

    fn line(method: Method, uri: &str) -> String {
        match read(method, uri) {
            Ok(RequestInfo {
                verb,
                path,
                resource: None,
            }) => format!("{verb} {path}"),
            Ok(RequestInfo {
                verb,
                resource: Some(r),
                ..
            }) => {
                format!(
                    "{verb} g={} v={} ns={} r={} n={} s={}",
                    r.group, r.version, r.namespace, r.resource, r.name, r.subresource
                )
            }
            Err(status) => format!("{}", status.code),
        }
    }

    #[test]
    fn readings() {
        let get = |uri| line(Method::GET, uri);
        assert_eq!(get("/"), "get /");
        assert_eq!(get("/healthz"), "get /healthz");
        assert_eq!(get("/api/v1"), "get /api/v1");
        assert_eq!(get("/apis/apps/v1/"), "get /apis/apps/v1/");
        assert_eq!(get("/api/v1/namespaces"), "list g= v=v1 ns= r=namespaces n= s=");
        assert_eq!(get("/api/v1/namespaces/a"), "get g= v=v1 ns=a r=namespaces n=a s=");
        assert_eq!(
            get("/api/v1/namespaces/a/status"),
            "get g= v=v1 ns=a r=namespaces n=a s=status"
        );
        assert_eq!(
            get("/api/v1/namespaces/a/secrets?watch=1"),
            "watch g= v=v1 ns=a r=secrets n= s="
        );
        assert_eq!(
            get("/api/v1/namespaces/a/secrets/b?watch=0"),
            "get g= v=v1 ns=a r=secrets n=b s="
        );
        assert_eq!(
            get("/apis/x.y/v1/namespaces/a/ks/b/scale"),
            "get g=x.y v=v1 ns=a r=ks n=b s=scale"
        );
        assert_eq!(get("/apis/x.y/v1/ks/b/status"), "get g=x.y v=v1 ns= r=ks n=b s=status");
        assert_eq!(
            get("/api/v1/secrets?fieldSelector=metadata.name%3Da"),
            "list g= v=v1 ns= r=secrets n=a s="
        );
        assert_eq!(
            line(Method::DELETE, "/api/v1/namespaces/a/secrets"),
            "deletecollection g= v=v1 ns=a r=secrets n= s="
        );
        assert_eq!(
            line(Method::POST, "/api/v1/namespaces/a/secrets"),
            "create g= v=v1 ns=a r=secrets n= s="
        );
    }

    /// Found in review: it was authorized for one name and streamed the whole collection.
    #[test]
    fn a_watch_of_a_named_path_is_a_get() {
        let read = |uri| line(Method::GET, uri);
        assert_eq!(
            read("/api/v1/namespaces/a/secrets/b?watch=1"),
            "get g= v=v1 ns=a r=secrets n=b s="
        );
        assert_eq!(
            read("/api/v1/namespaces/a?watch=1"),
            "get g= v=v1 ns=a r=namespaces n=a s="
        );
    }

    #[test]
    fn path_tricks_are_refused() {
        for path in [
            "//",
            "/api//v1/secrets",
            "/api/v1/../v1",
            "/api/v1/namespaces/a/secrets/..",
            "/api/v1/namespaces/a%2fb/secrets",
            "/a/%2e%2e/b",
            "x",
            "/%ff",
        ] {
            assert_eq!(line(Method::GET, path), "400", "{path}");
        }
    }
}
