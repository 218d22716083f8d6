//! The path of every request, in order; handlers are reached from [`dispatch`] alone.

use std::{
    any::Any,
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{self, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt;
use setpoint_definition::Verb;
use setpoint_govern::{Decision, UserInfo, audit};
use setpoint_meta::status::Status;
use setpoint_pki::{IdentityError, PeerIdentity};

use crate::{
    Answer, ApiServer, Response,
    authorize::attributes,
    catalog::Served,
    context::{Context, Notes},
    decode::BODY_LIMIT,
    documents, handlers,
    metrics::RequestLabels,
    request::{Query, RequestInfo, ResourcePath},
    respond,
    server::Inner,
    strategy::Target,
};

/// How long a request that is not a watch may take (the reference's `--request-timeout`).
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a body over the limit that are read and thrown away, so that the client gets its 413.
const DISCARD: usize = 16 << 20;

/// Who is at the other end.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A TLS client.
    Remote {
        /// Its address.
        address: SocketAddr,
        /// The verified certificate it presented, if any.
        certificate: Option<Result<PeerIdentity, IdentityError>>,
    },
    /// Code in this process, which is who it says it is.
    Local(Arc<UserInfo>),
}

/// What is known of a request once it has been answered: for audit and metrics.
#[derive(Default)]
struct Record {
    info: Option<Arc<RequestInfo>>,
    user: Option<Arc<UserInfo>>,
    impersonator: Option<Arc<UserInfo>>,
    decision: Option<Decision>,
    notes: Notes,
}

impl ApiServer {
    /// Answers a request. Never fails: whatever goes wrong is a `Status`.
    pub(crate) async fn handle<B>(&self, request: Request<B>, peer: Arc<Peer>) -> Response
    where
        B: http_body::Body<Data: Buf> + Send + Unpin,
    {
        let started = Instant::now();
        let received = self.inner.clock.now();
        let (head, body) = request.into_parts();
        let mut record = Record::default();
        let answer = AssertUnwindSafe(self.inner.answer(&head, body, &peer, &mut record))
            .catch_unwind()
            .await;
        let answer = answer.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let (mut response, error) = match answer {
            Ok(response) => (response, None),
            Err(status) => (respond::status(&status), Some(status)),
        };
        let audit_id = uuid::Uuid::new_v4().to_string();
        finish_headers(&mut response, &record.notes, &audit_id);
        self.inner.count(&record, response.status().as_u16(), started.elapsed());
        self.inner.audit(
            &head,
            &peer,
            &record,
            &audit_id,
            received,
            response.status().as_u16(),
            error.as_deref(),
        );
        response
    }

    /// A client of this server inside the process, under an identity of its own: the same pipeline, no TLS, no authentication.
    pub fn client_service(&self, user: UserInfo) -> InProcess {
        InProcess {
            server: self.clone(),
            peer: Arc::new(Peer::Local(Arc::new(user))),
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Box<Status> {
    let what = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    tracing::error!(panic = what, "a request handler panicked");
    Status::internal("this request caused the server to panic; it has been logged").into()
}

fn finish_headers(response: &mut Response, notes: &Notes, audit_id: &str) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(audit_id) {
        headers.insert("audit-id", id);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    for warning in notes.take_warnings() {
        let quoted: String = warning
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| {
                if matches!(c, '"' | '\\') {
                    vec!['\\', c]
                } else {
                    vec![c]
                }
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

impl Inner {
    async fn answer<B>(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: B,
        peer: &Peer,
        record: &mut Record,
    ) -> Answer<Response>
    where
        B: http_body::Body<Data: Buf> + Send + Unpin,
    {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let info = Arc::new(RequestInfo::new(&head.method, head.uri.path(), &query)?);
        record.info = Some(info.clone());
        let user = match peer {
            Peer::Local(user) => user.clone(),
            Peer::Remote { certificate, .. } => {
                self.authentication
                    .authenticate(&head.headers, certificate.as_ref(), self.clock.now())?
            }
        };
        record.user = Some(user.clone());
        let user = match self
            .authentication
            .impersonate(&head.headers, &user, &self.authorization)?
        {
            Some(effective) => {
                record.impersonator = Some(user);
                Arc::new(effective)
            }
            None => user,
        };
        record.user = Some(user.clone());
        match self.authorization.check(&user, &info) {
            Ok(decision) => record.decision = Some(decision),
            Err(status) => {
                record.decision = Some(Decision::NoOpinion(String::new()));
                return Err(status);
            }
        }
        if info.verb == "watch" {
            return self
                .dispatch(&info, query, &head.headers, user, Bytes::new(), record.notes.clone())
                .await;
        }
        let _slot = self
            .in_flight
            .try_acquire()
            .map_err(|_| Status::too_many_requests("Too many requests, please try again later.", 1))?;
        let _counted = Counted::new(&self.metrics.in_flight);
        let work = async {
            let body = read_body(body, &head.headers).await?;
            self.dispatch(&info, query, &head.headers, user, body, record.notes.clone())
                .await
        };
        let answer = tokio::time::timeout(TIMEOUT, work).await;
        answer.unwrap_or_else(|_| {
            Err(Status::timeout(
                format_args!("request did not complete within {} s", TIMEOUT.as_secs()),
                0,
            )
            .into())
        })
    }

    async fn dispatch(
        self: &Arc<Self>,
        info: &Arc<RequestInfo>,
        query: Query,
        headers: &HeaderMap,
        user: Arc<UserInfo>,
        body: Bytes,
        notes: Notes,
    ) -> Answer<Response> {
        let Some(path) = &info.resource else {
            return documents::answer(self, info, headers, &query).await;
        };
        let served = self.served(path).await?;
        if let Some(warning) = &served.version().deprecation {
            notes.warn(warning.clone());
        }
        let cx = Context {
            server: self.clone(),
            info: info.clone(),
            path: path.clone(),
            query,
            headers: headers.clone(),
            user,
            served,
            notes,
        };
        check_scope(&cx)?;
        dispatch(cx, body).await
    }

    /// The kind that the path names. A kind that this server has not heard of yet may have been made a moment ago.
    async fn served(&self, path: &ResourcePath) -> Answer<Served> {
        let find = || {
            self.kinds
                .current()
                .served(&path.group, &path.version, &path.resource)
                .cloned()
        };
        if let Some(found) = find() {
            return Ok(found);
        }
        self.cache.fresh().await.map_err(|e| handlers::list::cache_status(&e))?;
        find().ok_or_else(|| Status::no_such_path().into())
    }

    fn count(&self, record: &Record, code: u16, took: Duration) {
        let path = record.info.as_ref().and_then(|i| i.resource.as_ref());
        // only what is served may become a label
        let path = path.filter(|p| self.kinds.current().served(&p.group, &p.version, &p.resource).is_some());
        let text = |f: fn(&ResourcePath) -> &String| path.map(f).cloned().unwrap_or_default();
        let subresource = text(|p| &p.subresource);
        let labels = RequestLabels {
            verb: record.info.as_ref().map_or("", |i| i.verb),
            group: text(|p| &p.group),
            version: text(|p| &p.version),
            resource: text(|p| &p.resource),
            subresource: if code == 404 { String::new() } else { subresource },
            code,
        };
        self.metrics.answered(labels, took);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the record of a request is made of what only its end knows"
    )]
    fn audit(
        &self,
        head: &http::request::Parts,
        peer: &Peer,
        record: &Record,
        id: &str,
        received: jiff::Timestamp,
        code: u16,
        error: Option<&Status>,
    ) {
        let Some(log) = &self.audit else { return };
        let unread = Arc::new(RequestInfo {
            verb: "",
            path: head.uri.path().to_owned(),
            resource: None,
        });
        let info = record.info.as_ref().unwrap_or(&unread);
        let nobody = UserInfo::default();
        let user = record.user.as_deref().unwrap_or(&nobody);
        let addresses: Vec<std::net::IpAddr> = match peer {
            Peer::Remote { address, .. } => vec![address.ip()],
            Peer::Local(_) => Vec::new(),
        };
        let uri = head.uri.path_and_query().map_or("", |p| p.as_str());
        let facts = audit::Facts {
            impersonator: record.impersonator.as_deref(),
            request_uri: uri,
            source_ips: &addresses,
            user_agent: head
                .headers
                .get(header::USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default(),
            now: self.clock.now(),
            error,
            decision: record.decision.as_ref(),
            annotations: record.notes.take_annotations().into_iter().collect(),
            ..audit::Facts::new(id, attributes(user, info), received, code)
        };
        log.record(&facts);
    }
}

/// A request in flight: counted until it is answered or its client has gone.
struct Counted(prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>);

impl Counted {
    fn new(gauge: &prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A kind is asked for in its own scope.
fn check_scope(cx: &Context) -> Answer<()> {
    let namespaced = cx.definition().scope == setpoint_definition::Scope::Namespaced;
    let in_namespace = !cx.path.namespace.is_empty();
    let is_namespaces = cx.definition().group.is_empty() && &*cx.definition().plural == "namespaces";
    let misplaced = if namespaced {
        !in_namespace && !cx.path.name.is_empty() && !matches!(cx.info.verb, "list" | "watch" | "deletecollection")
    } else {
        in_namespace && !is_namespaces
    };
    let homeless = namespaced && !in_namespace && cx.info.verb == "create";
    if misplaced || homeless {
        Err(Status::no_such_path().into())
    } else {
        Ok(())
    }
}

async fn dispatch(mut cx: Context, body: Bytes) -> Answer<Response> {
    let definition = cx.definition().clone();
    if !definition.is_stored() {
        return match (cx.info.verb, &*cx.path.subresource) {
            ("create", "") => handlers::reviews::review(&cx, &body).await,
            (verb, _) => Err(Status::method_not_supported(&cx.group_resource(), verb).into()),
        };
    }
    let subresource = cx.path.subresource.clone();
    let target = match &*subresource {
        "" => Target::Main,
        "scale" if cx.version().scale.is_some() => return handlers::scale::scale(&cx, &body).await,
        "finalize" if cx.info.verb == "update" && &*definition.plural == "namespaces" => {
            return handlers::update::finalize_namespace(&cx, &body).await;
        }
        "token" if cx.info.verb == "create" && &*definition.plural == "serviceaccounts" => {
            return handlers::token::create(&cx, &body).await;
        }
        part if cx.version().part(part).is_some() => Target::Part(part.to_owned()),
        _ => return Err(Status::no_such_path().into()),
    };
    let main = target == Target::Main;
    let serves = |verb: Verb| definition.verbs.contains(&verb);
    match cx.info.verb {
        "get" if serves(Verb::Get) => handlers::get::get(&cx).await,
        "list" if main && serves(Verb::List) => handlers::list::list(&cx).await,
        "watch" if main && serves(Verb::Watch) => handlers::watch::watch(Arc::new(cx)).await,
        "create" if main && cx.path.name.is_empty() && serves(Verb::Create) => {
            handlers::create::create(&cx, &body).await
        }
        "update" if !cx.path.name.is_empty() && serves(Verb::Update) => {
            handlers::update::update(&cx, &target, &body).await
        }
        "patch" if !cx.path.name.is_empty() && serves(Verb::Patch) => handlers::patch::patch(&cx, &target, &body).await,
        "delete" if main && serves(Verb::Delete) => handlers::delete::delete(&mut cx, &body).await,
        "deletecollection" if main && serves(Verb::DeleteCollection) => {
            handlers::delete::delete_collection(&mut cx, &body).await
        }
        _ => Err(Status::method_not_allowed().into()),
    }
}

/// Reads a body of at most [`BODY_LIMIT`] bytes.
async fn read_body<B>(mut body: B, headers: &HeaderMap) -> Answer<Bytes>
where
    B: http_body::Body<Data: Buf> + Send + Unpin,
{
    let too_large = || Box::new(Status::request_entity_too_large(format_args!("limit is {BODY_LIMIT}")));
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity") {
        return Err(Status::new(
            415,
            setpoint_meta::status::Reason::UnsupportedMediaType,
            "compressed request bodies are not accepted",
        )
        .into());
    }
    let mut out = Vec::with_capacity(announced.unwrap_or(0).min(BODY_LIMIT));
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Status::bad_request("the request body could not be read").into());
        };
        let Ok(mut data) = frame.into_data() else { continue };
        if discarded > 0 || out.len() + data.remaining() > BODY_LIMIT {
            // a client that is still sending would see a broken connection instead of the answer: hear it out, within bounds
            discarded += data.remaining();
            if discarded > DISCARD {
                return Err(too_large());
            }
            continue;
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            out.extend_from_slice(chunk);
            let taken = chunk.len();
            data.advance(taken);
        }
    }
    if discarded > 0 {
        Err(too_large())
    } else {
        Ok(out.into())
    }
}

/// A client inside the process: a tower service over [`ApiServer`], as `kube::Client` takes it.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    peer: Arc<Peer>,
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data: Buf> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, peer) = (self.server.clone(), self.peer.clone());
        async move { Ok(server.handle(request, peer).await) }.boxed()
    }
}
