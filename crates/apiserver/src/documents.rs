//! Paths that are not resources: health, version, metrics, discovery and OpenAPI.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use setpoint_definition::{discovery, openapi};
use setpoint_meta::status::Status;

use crate::{
    Answer, Response, ResponseBody,
    catalog::Document,
    negotiate::Negotiated,
    request::{Query, RequestInfo},
    respond,
    server::Inner,
};

/// The Kubernetes version whose API this is.
const KUBERNETES: (&str, &str, &str) = ("1", "36", "v1.36.0");
/// The media type of aggregated discovery (KEP-3352).
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a GET of a path that is not a resource.
pub(crate) async fn answer(server: &Inner, info: &RequestInfo, headers: &HeaderMap, query: &Query) -> Answer<Response> {
    if !matches!(info.verb, "get" | "head") {
        let known = is_known(&info.path);
        return Err(if known {
            Status::method_not_allowed()
        } else {
            Status::no_such_path()
        }
        .into());
    }
    let segments: Vec<&str> = info.path.split('/').filter(|s| !s.is_empty()).collect();
    match segments[..] {
        [] => Ok(respond::value(StatusCode::OK, &json!({"paths": paths(server)}))),
        ["version"] => Ok(respond::value(StatusCode::OK, &version())),
        ["healthz" | "livez"] => Ok(text("ok")),
        ["readyz"] => ready(server, query).await,
        ["metrics"] => Ok(respond::with_type(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            server.metrics.render().into_bytes(),
        )),
        ["api"] | ["apis"] | ["api", _] | ["apis", _] | ["apis", _, _] => discovery(server, &segments, headers, query),
        ["openapi", "v2"] => {
            check_json(headers)?;
            let catalog = server.kinds.current();
            Ok(document(
                headers,
                &catalog.document("openapi/v2", |defs| made(&openapi::v2_document(defs), true)),
                "application/json",
            ))
        }
        ["openapi", "v3"] => {
            let catalog = server.kinds.current();
            Ok(document(
                headers,
                &catalog.document("openapi/v3", |defs| made(&openapi::v3_index(defs), true)),
                "application/json",
            ))
        }
        ["openapi", "v3", "api", v] => openapi_v3(server, "", v, headers),
        ["openapi", "v3", "apis", g, v] => openapi_v3(server, g, v, headers),
        _ => Err(Status::no_such_path().into()),
    }
}

fn is_known(path: &str) -> bool {
    matches!(
        path.split('/').nth(1),
        Some("version" | "healthz" | "livez" | "readyz" | "metrics" | "api" | "apis" | "openapi")
    )
}

fn text(text: &'static str) -> Response {
    respond::with_type(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// The server is ready when its cache follows the store.
async fn ready(server: &Inner, query: &Query) -> Answer<Response> {
    let stopping = server.shutdown.is_cancelled();
    let cache = server.cache.fresh().await;
    let checks = [
        ("ping", Ok(())),
        ("watch-cache", cache.map(drop).map_err(|e| e.to_string())),
        (
            "shutdown",
            if stopping {
                Err("the server is stopping".to_owned())
            } else {
                Ok(())
            },
        ),
    ];
    let ok = checks.iter().all(|(_, c)| c.is_ok());
    if ok && !query.flag("verbose") {
        return Ok(text("ok"));
    }
    let mut out = String::new();
    for (name, check) in &checks {
        match check {
            Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
            Err(why) => out.push_str(&format!("[-]{name} failed: {why}\n")),
        }
    }
    out.push_str(if ok {
        "readyz check passed\n"
    } else {
        "readyz check failed\n"
    });
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(respond::with_type(code, "text/plain; charset=utf-8", out.into_bytes()))
}

fn version() -> Value {
    let (major, minor, git) = KUBERNETES;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("{git}+setpoint-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
    })
}

fn paths(server: &Inner) -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for definition in server
        .kinds
        .current()
        .definitions()
        .iter()
        .filter(|d| !d.group.is_empty())
    {
        paths.push(format!("/apis/{}", definition.group));
        paths.extend(
            definition
                .versions
                .iter()
                .filter(|v| v.served)
                .map(|v| format!("/apis/{}/{}", definition.group, v.name)),
        );
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort();
    paths.dedup();
    paths
}

fn discovery(server: &Inner, segments: &[&str], headers: &HeaderMap, query: &Query) -> Answer<Response> {
    let catalog = server.kinds.current();
    let wants = |h: &HeaderValue| {
        h.to_str().is_ok_and(|a| {
            a.contains("as=APIGroupDiscoveryList") && a.contains("v=v2;")
                || h.to_str().is_ok_and(|a| {
                    a.split(',')
                        .any(|c| c.contains("as=APIGroupDiscoveryList") && c.split(';').any(|p| p.trim() == "v=v2"))
                })
        })
    };
    let aggregated = headers.get_all(header::ACCEPT).iter().any(wants);
    if aggregated && segments.len() == 1 {
        let name = format!("discovery/{}", segments[0]);
        let made = catalog.document(&name, |defs| {
            made(
                &if segments[0] == "api" {
                    discovery::aggregated_api(defs)
                } else {
                    discovery::aggregated_apis(defs)
                },
                true,
            )
        });
        return Ok(document(headers, &made, AGGREGATED));
    }
    let negotiated = Negotiated::from_headers(headers, query.flag("pretty"), false)?;
    let defs = catalog.definitions();
    let value = match *segments {
        ["api"] => Some(discovery::api_versions(defs, &server.advertise)),
        ["apis"] => Some(discovery::api_group_list(defs)),
        ["api", version] => discovery::api_resource_list("", version, defs),
        ["apis", group] => discovery::api_group(group, defs),
        ["apis", group, version] => discovery::api_resource_list(group, version, defs),
        _ => None,
    };
    respond::encoded(StatusCode::OK, negotiated, &value.ok_or_else(Status::no_such_path)?)
}

fn openapi_v3(server: &Inner, group: &str, version: &str, headers: &HeaderMap) -> Answer<Response> {
    check_json(headers)?;
    let catalog = server.kinds.current();
    if !catalog
        .definitions()
        .iter()
        .any(|d| &*d.group == group && d.served(version).is_some())
    {
        return Err(Status::no_such_path().into());
    }
    let document_of = catalog.document(&format!("openapi/v3/{group}/{version}"), |defs| {
        made(&openapi::v3_document(group, version, defs).unwrap_or_default(), true)
    });
    Ok(document(headers, &document_of, "application/json"))
}

/// OpenAPI is JSON only; a client that takes nothing else is told so and falls back.
fn check_json(headers: &HeaderMap) -> Answer<()> {
    Negotiated::from_headers(headers, false, false).map(drop)
}

fn made(value: &Value, tagged: bool) -> Document {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let etag = if tagged { discovery::etag(&body) } else { String::new() };
    Document {
        body: body.into(),
        etag,
    }
}

fn document(headers: &HeaderMap, document: &Document, content_type: &'static str) -> Response {
    let unchanged = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|t| t.trim() == document.etag));
    let mut response = if unchanged && !document.etag.is_empty() {
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::with_type(StatusCode::OK, content_type, document.body.clone())
    };
    if let Ok(tag) = HeaderValue::from_str(&document.etag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
