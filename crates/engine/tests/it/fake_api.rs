//! As much of a Kubernetes API as the engine uses, in memory: list, watch, get, create, apply, merge patch, delete with finalizers.
//! Objects are applied whole, one manager a subresource; enough to see what an engine sends.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

type Refuse = Box<dyn Fn(&Method, &str, &Value) -> Option<(u16, &'static str)> + Send>;

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<String, Value>,
    /// Watch events by revision: collection, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    writes: Vec<String>,
    conflicts: Vec<String>,
    refuse: Option<Refuse>,
}

/// A shared in-memory API.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    /// Watch events of this kind come so much later.
    lag: (&'static str, Duration),
}

/// `/apis/g/v/namespaces/ns/plural/name/sub`, taken apart.
struct Path {
    namespace: Option<String>,
    plural: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Self {
        let mut segments = path
            .trim_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter();
        let skip = if segments.next().as_deref() == Some("api") {
            1
        } else {
            2
        };
        let mut segments = segments.skip(skip).peekable();
        let namespace = segments
            .next_if(|segment| segment == "namespaces")
            .and_then(|_| segments.next());
        let plural = segments.next().unwrap_or_default();
        Self {
            namespace,
            plural,
            name: segments.next(),
            subresource: segments.next(),
        }
    }

    fn key(&self) -> String {
        key(
            &self.plural,
            self.namespace.as_deref(),
            self.name.as_deref().unwrap_or_default(),
        )
    }
}

fn key(plural: &str, namespace: Option<&str>, name: &str) -> String {
    format!("{plural}/{}/{name}", namespace.unwrap_or_default())
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(0),
            lag: ("", Duration::ZERO),
        }
    }

    /// One that shows changes of a kind late.
    pub(crate) fn lagging(plural: &'static str, lag: Duration) -> Self {
        Self {
            lag: (plural, lag),
            ..Self::new()
        }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        Client::new(service, "default")
    }

    /// Refuses requests with a code and a message; `None` lets them pass.
    pub(crate) fn refuse(
        &self,
        refuse: impl Fn(&Method, &str, &Value) -> Option<(u16, &'static str)> + Send + 'static,
    ) {
        self.lock().refuse = Some(Box::new(refuse));
    }

    /// Stores an object as a user does.
    pub(crate) fn put(&self, plural: &str, object: impl serde::Serialize) {
        let object = serde_json::to_value(object).expect("serialises");
        let key = key(plural, object["metadata"]["namespace"].as_str(), text(&object, "name"));
        self.store(&mut self.lock(), &key, object);
        self.announce();
    }

    pub(crate) fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.delete(&mut self.lock(), &key(plural, Some(namespace), name));
        self.announce();
    }

    pub(crate) fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        self.lock().objects.get(&key(plural, namespace, name)).cloned()
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let prefix = format!("{plural}/");
        let state = self.lock();
        let objects = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        objects.map(|(_, object)| text(object, "name").to_owned()).collect()
    }

    /// The reasons of all events about an object.
    pub(crate) fn reasons(&self, name: &str) -> Vec<String> {
        let state = self.lock();
        let events = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with("events/"))
            .map(|(_, event)| event);
        let about = events.filter(|event| event["regarding"]["name"] == name);
        about
            .map(|event| event["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Every write that was asked for and not refused, whether or not it changed something, as `METHOD path`, but for events.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.lock().writes.clone()
    }

    /// Every write that met a precondition that did not hold.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        self.lock().conflicts.clone()
    }

    /// Returns once this holds; it is asked again at each change.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !holds(self) {
                // The clock too: some of what is waited for leaves no trace in the store.
                let _ = tokio::time::timeout(Duration::from_millis(5), changed.changed()).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(came.is_ok(), "never: {what}; writes: {:#?}", self.writes());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    fn announce(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn store(&self, state: &mut State, key: &str, mut object: Value) -> Value {
        let before = state.objects.get(key).cloned();
        let uid = before.as_ref().map_or_else(
            || format!("uid-{}", state.revision + 1),
            |before| text(before, "uid").to_owned(),
        );
        object["metadata"]["uid"] = uid.into();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if object == *before {
                return object;
            }
        }
        state.revision += 1;
        let spec_changed = before.as_ref().is_none_or(|before| before["spec"] != object["spec"]);
        let generation = before
            .as_ref()
            .and_then(|before| before["metadata"]["generation"].as_i64())
            .unwrap_or(0);
        object["metadata"]["generation"] = (generation + i64::from(spec_changed)).into();
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        let terminating = object["metadata"].get("deletionTimestamp").is_some();
        if terminating && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            state.objects.remove(key);
            state
                .log
                .push((state.revision, key.to_owned(), "DELETED", object.clone()));
            return object;
        }
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.objects.insert(key.to_owned(), object.clone());
        state.log.push((state.revision, key.to_owned(), event, object.clone()));
        object
    }

    fn delete(&self, state: &mut State, key: &str) -> Option<Value> {
        let mut object = state.objects.get(key)?.clone();
        object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        Some(self.store(state, key, object))
    }

    async fn serve(&self, request: Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        let body: Value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("JSON")
        };
        let path = Path::parse(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET && query.contains("watch=true") {
            return self.watch(&path, query);
        }
        let apply = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"));
        let manager = parameter(query, "fieldManager").unwrap_or_default().to_owned();
        let answer = self.handle(&parts.method, &path, parts.uri.path(), body, apply, &manager);
        if matches!(answer, Err((409, _))) {
            self.lock()
                .conflicts
                .push(format!("{} {}", parts.method, parts.uri.path()));
        }
        self.announce();
        match answer {
            Ok(object) => respond(StatusCode::OK, &object),
            Err((code, message)) => {
                let reason = match code {
                    404 => "NotFound",
                    403 => "Forbidden",
                    409 if message == "exists" => "AlreadyExists",
                    409 => "Conflict",
                    _ => "InternalError",
                };
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
                    "code": code, "reason": reason, "message": message});
                respond(StatusCode::from_u16(code).expect("a code"), &status)
            }
        }
    }

    fn handle(
        &self,
        method: &Method,
        path: &Path,
        uri: &str,
        body: Value,
        apply: bool,
        manager: &str,
    ) -> Result<Value, (u16, &'static str)> {
        let mut state = self.lock();
        if let Some(refused) = state.refuse.as_ref().and_then(|refuse| refuse(method, uri, &body)) {
            return Err(refused);
        }
        let key = path.key();
        let answer = match *method {
            Method::GET if path.name.is_none() => return Ok(list(&state, &path.plural)),
            Method::GET => return state.objects.get(&key).cloned().ok_or((404, "not found")),
            Method::POST => {
                let key = self::key(&path.plural, path.namespace.as_deref(), text(&body, "name"));
                if state.objects.contains_key(&key) {
                    return Err((409, "exists"));
                }
                self.store(&mut state, &key, body)
            }
            Method::PUT => {
                let current = state.objects.get(&key).ok_or((404, "not found"))?;
                check(current, &body)?;
                self.store(&mut state, &key, body)
            }
            Method::PATCH if apply => {
                let current = state.objects.get(&key).cloned();
                let applied = applied(current, body, path.subresource.as_deref(), manager)?;
                self.store(&mut state, &key, applied)
            }
            Method::PATCH => {
                let mut current = state.objects.get(&key).cloned().ok_or((404, "not found"))?;
                check(&current, &body)?;
                merge(&mut current, body);
                self.store(&mut state, &key, current)
            }
            Method::DELETE => {
                let current = state.objects.get(&key).ok_or((404, "not found"))?;
                let uid = &body["preconditions"]["uid"];
                if uid.is_string() && *uid != current["metadata"]["uid"] {
                    return Err((409, "uid"));
                }
                self.delete(&mut state, &key).ok_or((404, "not found"))?
            }
            _ => return Err((405, "method")),
        };
        if path.plural != "events" && path.plural != "leases" {
            state.writes.push(format!("{method} {uri}"));
        }
        Ok(answer)
    }

    fn watch(&self, path: &Path, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
        let from: u64 = parameter(query, "resourceVersion")
            .and_then(|from| from.parse().ok())
            .unwrap_or(0);
        let prefix = format!("{}/", path.plural);
        let lag = if self.lag.0 == path.plural {
            self.lag.1
        } else {
            Duration::ZERO
        };
        let (state, changed) = (self.state.clone(), self.changed.subscribe());
        let events = futures::stream::unfold((from, changed), move |(from, mut changed)| {
            let (state, prefix) = (state.clone(), prefix.clone());
            async move {
                loop {
                    changed.borrow_and_update();
                    let events: Vec<_> = {
                        let state = state.lock().expect("no test panics while it holds the state");
                        let news = state
                            .log
                            .iter()
                            .filter(|(revision, key, ..)| *revision > from && key.starts_with(&prefix));
                        news.cloned().collect()
                    };
                    if let Some((last, ..)) = events.last() {
                        let last = *last;
                        tokio::time::sleep(lag).await;
                        let lines = events
                            .into_iter()
                            .map(|(_, _, kind, object)| json!({"type": kind, "object": object}).to_string());
                        let lines: String = lines.map(|line| line + "\n").collect();
                        return Some((http_body::Frame::data(Bytes::from(lines)), (last, changed)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        let body = StreamBody::new(events.map(Ok::<_, Infallible>));
        Response::new(BodyExt::boxed(SyncBody(Mutex::new(Box::pin(body)))))
    }
}

/// A body that is `Sync` though its stream is not: only one reads it.
struct SyncBody<B>(Mutex<B>);

impl<B: http_body::Body + Unpin> http_body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        let body = self.get_mut().0.get_mut().expect("one reader");
        std::pin::Pin::new(body).poll_frame(cx)
    }
}

fn respond(code: StatusCode, body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let body = http_body_util::Full::new(Bytes::from(body.to_string()));
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(BodyExt::boxed(body))
        .expect("a response")
}

fn list(state: &State, plural: &str) -> Value {
    let prefix = format!("{plural}/");
    let items: Vec<_> = state
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(_, object)| object)
        .collect();
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items})
}

/// A resourceVersion in a body is a precondition.
fn check(current: &Value, body: &Value) -> Result<(), (u16, &'static str)> {
    let wanted = &body["metadata"]["resourceVersion"];
    if wanted.is_string() && *wanted != current["metadata"]["resourceVersion"] {
        return Err((409, "changed"));
    }
    Ok(())
}

/// The current object with what the manager applies instead of what it applied before.
fn applied(
    current: Option<Value>,
    mut body: Value,
    subresource: Option<&str>,
    manager: &str,
) -> Result<Value, (u16, &'static str)> {
    let mut object = match (current, subresource) {
        (None, Some(_)) => return Err((404, "not found")),
        (None, None) => json!({"metadata": {}}),
        (Some(current), _) => {
            check(&current, &body)?;
            current
        }
    };
    let mut managed: Vec<Value> = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mine =
        |entry: &Value| entry["manager"] == manager && entry.get("subresource").and_then(Value::as_str) == subresource;
    managed.retain(|entry| !mine(entry));
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let fields = if let Some(part) = subresource {
        object[part] = body[part].clone();
        json!({format!("f:{part}"): fields(&body[part])})
    } else {
        let mut owned = fields(&body);
        for identity in ["f:apiVersion", "f:kind"] {
            owned.as_object_mut().expect("an object").remove(identity);
        }
        for identity in ["f:name", "f:namespace"] {
            owned["f:metadata"].as_object_mut().expect("an object").remove(identity);
        }
        let metadata = std::mem::take(&mut body["metadata"]);
        merge(&mut object["metadata"], metadata);
        for (field, value) in body
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(field, _)| *field != "metadata")
        {
            object[field] = value.clone();
        }
        owned
    };
    let mut entry = json!({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields});
    if let Some(subresource) = subresource {
        entry["subresource"] = subresource.into();
    }
    managed.push(entry);
    object["metadata"]["managedFields"] = managed.into();
    normalise(&mut object);
    Ok(object)
}

/// What a server does to some values: quantities, say, come back in canonical form.
fn normalise(object: &mut Value) {
    if let Some(rigging) = object.pointer_mut("/spec/rigging")
        && let Some(text) = rigging.as_str()
    {
        *rigging = text.to_lowercase().into();
    }
}

fn fields(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (format!("f:{key}"), fields(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) if items.iter().all(|item| item["uid"].is_string()) => items
            .iter()
            .map(|item| (format!("k:{}", json!({"uid": item["uid"]})), fields(item)))
            .collect::<Map<_, _>>()
            .into(),
        _ => json!({}),
    }
}

fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in patch {
                if value.is_null() {
                    target.as_object_mut().expect("an object").remove(&key);
                } else {
                    merge(&mut target[&key], value);
                }
            }
        }
        other => *target = other,
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
