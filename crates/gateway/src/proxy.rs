//! One request: find a replica, pass the request on, pass the answer back as it comes.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    load::InFlight,
    metrics::{Metrics, ModelLabels, RequestLabels},
    routes::{Backend, Route, Routes, Target},
};

/// A request may be this long: images and long contexts included.
const BODY_LIMIT: usize = 16 << 20;
/// Replicas that one request is tried on.
const TRIES: usize = 3;

/// What every request shares.
pub(crate) struct Proxy {
    pub(crate) routes: Arc<Routes>,
    pub(crate) metrics: Metrics,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// The body of an answer.
pub(crate) enum Body {
    Full(Full<Bytes>),
    Upstream(Streaming),
}

/// A replica's answer on its way through, and the guards that count it as load until its last byte or until the client goes.
pub(crate) struct Streaming {
    body: Incoming,
    _load: InFlight,
    _target: Busy,
}

/// A request in flight on a replica.
struct Busy(Arc<Target>);

impl Busy {
    fn new(target: Arc<Target>) -> Self {
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(target)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Upstream(streaming) => Pin::new(&mut streaming.body).poll_frame(cx),
        }
    }
}

/// The answers that the gateway gives itself, in OpenAI's shape.
fn refuse(code: StatusCode, message: &str, retry_after: Option<u32>) -> Response<Body> {
    let kind = if code.is_server_error() {
        "server_error"
    } else {
        "invalid_request_error"
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code.as_u16()}}).to_string();
    let mut response = Response::new(Body::Full(Full::new(body.into())));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl Proxy {
    pub(crate) fn new(routes: Arc<Routes>, metrics: Metrics) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(std::time::Duration::from_millis(500)));
        Self {
            routes,
            metrics,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Answers a request of the OpenAI API.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => text("ok"),
            "/metrics" => text(&self.metrics.render()),
            "/v1/models" => {
                let data: Vec<Value> = self
                    .routes
                    .models()
                    .into_iter()
                    .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "setpoint"}))
                    .collect();
                let mut response = text(&json!({"object": "list", "data": data}).to_string());
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" if request.method() == http::Method::POST => {
                self.forward(request).await
            }
            "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" => {
                refuse(StatusCode::METHOD_NOT_ALLOWED, "use POST", None)
            }
            path => refuse(StatusCode::NOT_FOUND, &format!("nothing is served at {path}"), None),
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            return refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the request is larger than {BODY_LIMIT} bytes, or broke off"),
                None,
            );
        };
        let body = body.to_bytes();
        let model = match serde_json::from_slice::<Value>(&body)
            .map(|v| v.get("model").and_then(Value::as_str).map(str::to_owned))
        {
            Ok(Some(model)) => model,
            Ok(None) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "the request must name a model in the field \"model\"",
                    None,
                );
            }
            Err(e) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    &format!("the request is not valid JSON: {e}"),
                    None,
                );
            }
        };
        let Some(route) = self.routes.get(&model) else {
            let known = self.routes.models().join(", ");
            return refuse(
                StatusCode::NOT_FOUND,
                &format!("the model {model:?} does not exist; models: {known}"),
                None,
            );
        };
        let response = self.routed(&model, &route, &head, body).await;
        self.metrics
            .requests
            .get_or_create(&RequestLabels {
                model: model.clone(),
                code: response.status().as_u16(),
            })
            .inc();
        self.metrics
            .first_byte
            .get_or_create(&ModelLabels { model })
            .observe(started.elapsed().as_secs_f64());
        response
    }

    async fn routed(&self, model: &str, route: &Route, head: &http::request::Parts, body: Bytes) -> Response<Body> {
        // the load counts where the request waits, so that a deployment at zero is seen to be wanted
        let Some(waits_on) = route.backends.iter().find(|b| b.weight > 0) else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("no deployment answers for the model {model:?}"),
                Some(10),
            );
        };
        let mut load = waits_on.load.begin();
        let mut tried: Vec<Arc<Target>> = Vec::new();
        loop {
            let (backend, target) = match self.replica(model, route, waits_on, &tried).await {
                Ok(found) => found,
                Err(refusal) => return *refusal,
            };
            if !Arc::ptr_eq(&backend.load, &waits_on.load) {
                load = backend.load.begin();
            }
            let busy = Busy::new(target.clone());
            match self.send(&target, head, &body).await {
                Ok(response) => {
                    target.healthy();
                    let (parts, upstream) = response.into_parts();
                    let mut answer = Response::new(Body::Upstream(Streaming {
                        body: upstream,
                        _load: load,
                        _target: busy,
                    }));
                    *answer.status_mut() = parts.status;
                    *answer.headers_mut() = passed_on(&parts.headers);
                    return answer;
                }
                Err(why) => {
                    tracing::info!(endpoint = target.endpoint, why, "a replica failed before it answered");
                    target.eject();
                    tried.push(target);
                    self.metrics
                        .retries
                        .get_or_create(&ModelLabels {
                            model: model.to_owned(),
                        })
                        .inc();
                    if tried.len() >= TRIES {
                        return refuse(
                            StatusCode::BAD_GATEWAY,
                            &format!(
                                "{TRIES} replicas of the model {model:?} failed before they answered; the last: {why}"
                            ),
                            Some(1),
                        );
                    }
                }
            }
        }
    }

    /// A replica for the request; waits for one, in bounds, when there is none.
    async fn replica(
        &self,
        model: &str,
        route: &Route,
        waits_on: &Backend,
        tried: &[Arc<Target>],
    ) -> Result<(Backend, Arc<Target>), Box<Response<Body>>> {
        let dice = rand::rng().random::<u32>();
        if let Some(found) = route.pick(dice, tried) {
            return Ok(found);
        }
        let Some(_waiting) = waits_on.load.wait(route.max_queued) else {
            let message = format!("{} requests wait for the model {model:?} already", route.max_queued);
            return Err(Box::new(refuse(StatusCode::TOO_MANY_REQUESTS, &message, Some(1))));
        };
        let deadline = Instant::now() + route.queue_timeout;
        loop {
            let changed = self.routes.changed.notified();
            // a replica that was left alone comes back without an event
            let pause = (Instant::now() + std::time::Duration::from_millis(250)).min(deadline);
            let _ = tokio::time::timeout_at(pause, changed).await;
            if let Some(found) = self.routes.get(model).and_then(|r| r.pick(dice, tried)) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "no replica of the model {model:?} became ready within {} s",
                    route.queue_timeout.as_secs()
                );
                return Err(Box::new(refuse(StatusCode::SERVICE_UNAVAILABLE, &message, Some(5))));
            }
        }
    }

    /// Sends the request to one replica. An error: it has not begun to answer.
    async fn send(
        &self,
        target: &Target,
        head: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Response<Incoming>, String> {
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        let body = named(body, &target.model);
        let mut request = Request::post(format!("{}{path}", target.endpoint))
            .body(Full::new(body))
            .map_err(|e| e.to_string())?;
        *request.headers_mut() = passed_on(&head.headers);
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request.headers_mut().remove(header::HOST);
        // a key of the gateway's is no business of an engine's
        request.headers_mut().remove(header::AUTHORIZATION);
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        // an engine that is shutting down or overloaded has not begun either
        match response.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => {
                Err(format!("it answered {}", response.status()))
            }
            _ => Ok(response),
        }
    }
}

/// The body under the name that the engine knows the model by; as it is when that is the name it has.
fn named(body: &Bytes, model: &str) -> Bytes {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) if value["model"] != model => {
            value["model"] = model.into();
            value.to_string().into()
        }
        _ => body.clone(),
    }
}

/// Headers without those that are about one connection (RFC 9110 §7.6.1).
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let hop = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    headers
        .iter()
        .filter(|(name, _)| !hop.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn text(text: &str) -> Response<Body> {
    Response::new(Body::Full(Full::new(Bytes::copy_from_slice(text.as_bytes()))))
}
