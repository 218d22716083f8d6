//! A small, real, OpenAI-compatible HTTP engine without a model.
//!
//! # Guarantees
//! - It speaks what the agent and the gateway rely on: `/v1/chat/completions` (whole and as server-sent events),
//!   `/v1/models`, `/health`, `/metrics`; every answer is real HTTP/1.1 over a real socket.
//! - Its misbehaviour is asked for by name ([`EngineOptions`]) and never random: a test that fails, fails again.
//! - On SIGTERM the process stops accepting, finishes what is in flight and exits with 0 (unless told to ignore it).
//!
//! # Caveats
//! It answers with made-up words. It is for tests only, and the product never starts it for a user.
//!
//! # How to get it wrong
//! Waiting for "the port is open" is not waiting for readiness: with a startup delay the socket listens at once and
//! `/health` answers 503 until the delay is over, as real engines do while they load weights.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// The largest request body that is read, in bytes.
const MAX_BODY: usize = 4 << 20;

/// The most tokens one answer may have.
const MAX_TOKENS: u64 = 100_000;

/// How the engine behaves. Every field has a flag of the same name: `--startup-delay-ms 200`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The address to listen on; loopback unless told otherwise.
    pub host: IpAddr,
    /// The port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// The model name that `/v1/models` and every answer report.
    pub name: String,
    /// For how long `/health` answers 503 after the start.
    pub startup_delay: Duration,
    /// Time before the first token of an answer.
    pub latency: Duration,
    /// Time before each further token.
    pub token_latency: Duration,
    /// `/health` answers 503 for ever. `POST /testkit/health` with body `ok` or `fail` changes it at run time.
    pub fail_health: bool,
    /// The process exits with code 42 after this time.
    pub crash_after: Option<Duration>,
    /// How many tokens an answer has when the request names no `max_tokens`.
    pub tokens: u64,
    /// SIGTERM is ignored (for tests of forced stops).
    pub ignore_term: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            name: "testkit".to_owned(),
            startup_delay: Duration::ZERO,
            latency: Duration::ZERO,
            token_latency: Duration::ZERO,
            fail_health: false,
            crash_after: None,
            tokens: 8,
            ignore_term: false,
        }
    }
}

impl EngineOptions {
    /// Reads command-line flags (without the program's name).
    ///
    /// # Errors
    /// A line that names the flag which is unknown, lacks its value, or whose value does not parse.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--fail-health" => options.fail_health = true,
                "--ignore-term" => options.ignore_term = true,
                _ => {
                    let value = args
                        .next()
                        .ok_or_else(|| format!("{flag} is unknown or lacks its value"))?;
                    options.set(&flag, &value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|e| format!("{flag} {value}: {e}"));
        match flag {
            "--host" => self.host = value.parse().map_err(|e| format!("{flag} {value}: {e}"))?,
            "--port" => self.port = value.parse().map_err(|e| format!("{flag} {value}: {e}"))?,
            "--name" => self.name = value.to_owned(),
            // the flag that real engines take; there is no model here
            "--model" => {}
            "--startup-delay-ms" => self.startup_delay = Duration::from_millis(number()?),
            "--latency-ms" => self.latency = Duration::from_millis(number()?),
            "--token-ms" => self.token_latency = Duration::from_millis(number()?),
            "--crash-after-ms" => self.crash_after = Some(Duration::from_millis(number()?)),
            "--tokens" => self.tokens = number()?.min(MAX_TOKENS),
            _ => return Err(format!("unknown flag {flag}")),
        }
        Ok(())
    }
}

/// What the engine has counted since its start.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    running: AtomicU64,
    tokens: AtomicU64,
}

#[derive(Debug)]
struct State {
    options: EngineOptions,
    started: Instant,
    fail_health: AtomicBool,
    counters: Counters,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An engine that runs inside the test's own process. It stops when it is dropped.
#[derive(Debug)]
pub struct TestEngine {
    address: SocketAddr,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl TestEngine {
    /// Listens and serves on the current tokio runtime.
    ///
    /// # Errors
    /// What `bind` gives: the port is taken, or the address is not this machine's.
    pub async fn start(options: EngineOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((options.host, options.port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            fail_health: AtomicBool::new(options.fail_health),
            started: Instant::now(),
            counters: Counters::default(),
            options,
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, state.clone(), stopped));
        Ok(Self {
            address,
            state,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT`, as `Replica.status.endpoint` has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Chat requests answered or being answered.
    pub fn requests(&self) -> u64 {
        self.state.counters.requests.load(Ordering::Relaxed)
    }

    /// Chat requests being answered now.
    pub fn running(&self) -> u64 {
        self.state.counters.running.load(Ordering::Relaxed)
    }

    /// Makes `/health` fail or succeed from now on.
    pub fn set_failing(&self, failing: bool) {
        self.state.fail_health.store(failing, Ordering::Relaxed);
    }

    /// Stops accepting, finishes what is in flight, and returns.
    pub async fn drain(mut self) {
        self.stop.send_replace(true);
        // a panic of the accept loop has been printed by its own thread
        let _ = (&mut self.task).await;
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.task.abort();
    }
}

/// The whole process: what the binary `testkit-engine` runs, and what a test binary may run in a child of itself.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(options: EngineOptions) -> std::io::Result<()> {
    let crash_after = options.crash_after;
    let ignore_term = options.ignore_term;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let engine = TestEngine::start(options).await?;
    println!("testkit-engine listens on {}", engine.address());
    let crash = async {
        match crash_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(crash);
    loop {
        tokio::select! {
            () = &mut crash => {
                eprintln!("testkit-engine crashes, as it was asked to");
                std::process::exit(42);
            }
            _ = term.recv() => if ignore_term {
                println!("testkit-engine ignores SIGTERM, as it was asked to");
            } else {
                println!("testkit-engine drains");
                engine.drain().await;
                return Ok(());
            }
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        connections.spawn(connection(stream, state.clone(), stopped.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // how a connection ends is the client's business
    let done = tokio::select! {
        _ = connection.as_mut() => true,
        _ = stopped.wait_for(|stop| *stop) => false,
    };
    if !done {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match (&method, path.as_str()) {
        (&Method::GET, "/health") => health(state),
        (&Method::GET, "/v1/models") => json_body(
            StatusCode::OK,
            &json!({"object": "list", "data": [{"id": state.options.name, "object": "model", "created": 0, "owned_by": "testkit"}]}),
        ),
        (&Method::GET, "/metrics") => metrics(state),
        (&Method::POST, "/v1/chat/completions") => chat(state, request).await,
        (&Method::POST, "/testkit/health") => {
            let fail = read(request).await.is_ok_and(|body| &body[..] == b"fail");
            state.fail_health.store(fail, Ordering::Relaxed);
            health(state)
        }
        _ => error(StatusCode::NOT_FOUND, &format!("no such path: {method} {path}")),
    }
}

fn health(state: &State) -> Response<Body> {
    let loading = state.started.elapsed() < state.options.startup_delay;
    if loading || state.fail_health.load(Ordering::Relaxed) {
        let why = if loading { "loading" } else { "failing" };
        return json_body(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": why}));
    }
    json_body(StatusCode::OK, &json!({"status": "ok"}))
}

fn metrics(state: &State) -> Response<Body> {
    let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let c = &state.counters;
    let text = format!(
        "# TYPE testkit_requests_total counter\ntestkit_requests_total {}\n\
         # TYPE testkit_requests_running gauge\ntestkit_requests_running {}\n\
         # TYPE testkit_tokens_total counter\ntestkit_tokens_total {}\n",
        count(&c.requests),
        count(&c.running),
        count(&c.tokens),
    );
    let mut response = Response::new(Full::from(text).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    response
}

/// Counts one request as running for as long as it lives, also when the client goes away.
#[derive(Debug)]
struct Running(Arc<State>);

impl Running {
    fn new(state: &Arc<State>) -> Self {
        state.counters.requests.fetch_add(1, Ordering::Relaxed);
        state.counters.running.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn chat(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let body = match read(request).await {
        Ok(body) => body,
        Err(message) => return error(StatusCode::PAYLOAD_TOO_LARGE, &message),
    };
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(e) => {
            return error(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {e}"));
        }
    };
    if !body["messages"].is_array() {
        return error(StatusCode::BAD_REQUEST, "messages: a list is required");
    }
    let running = Running::new(state);
    let tokens = body["max_tokens"]
        .as_u64()
        .unwrap_or(state.options.tokens)
        .min(MAX_TOKENS);
    let prompt = prompt_tokens(&body["messages"]);
    tokio::time::sleep(state.options.latency).await;
    if body["stream"].as_bool().unwrap_or(false) {
        return stream(running, tokens, prompt);
    }
    let mut words = Vec::new();
    for n in 0..tokens {
        if n > 0 && !state.options.token_latency.is_zero() {
            tokio::time::sleep(state.options.token_latency).await;
        }
        words.push(format!("word{n}"));
    }
    state.counters.tokens.fetch_add(tokens, Ordering::Relaxed);
    json_body(
        StatusCode::OK,
        &json!({
            "id": "chatcmpl-testkit", "object": "chat.completion", "created": 0, "model": state.options.name,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": words.join(" ")}, "finish_reason": "stop"}],
            "usage": usage(prompt, tokens),
        }),
    )
}

fn stream(running: Running, tokens: u64, prompt: u64) -> Response<Body> {
    // 16 events of less than 300 bytes: a client that stalls holds back less than 5 KiB
    let (send, receive) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        let state = running.0.clone();
        let event = |value: &Value| Bytes::from(format!("data: {value}\n\n"));
        let chunk = |delta: Value, finish: Value| {
            json!({
                "id": "chatcmpl-testkit", "object": "chat.completion.chunk", "created": 0, "model": state.options.name,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            })
        };
        for n in 0..tokens {
            if n > 0 {
                tokio::time::sleep(state.options.token_latency).await;
            }
            let delta = match n {
                0 => json!({"role": "assistant", "content": "word0"}),
                n => json!({"content": format!(" word{n}")}),
            };
            if send.send(event(&chunk(delta, Value::Null))).await.is_err() {
                return; // the client went away: so does the work
            }
            state.counters.tokens.fetch_add(1, Ordering::Relaxed);
        }
        let mut last = chunk(json!({}), json!("stop"));
        last["usage"] = usage(prompt, tokens);
        if send.send(event(&last)).await.is_ok() {
            let _ = send.send(Bytes::from_static(b"data: [DONE]\n\n")).await;
        }
        drop(running);
    });
    let frames = Frames(receive);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/event-stream"),
    );
    response
}

/// The receiving half of a bounded channel as a stream of body frames.
#[derive(Debug)]
struct Frames(mpsc::Receiver<Bytes>);

impl futures::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// Words stand in for tokens.
fn prompt_tokens(messages: &Value) -> u64 {
    messages
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|message| message["content"].as_str())
        .map(|content| content.split_whitespace().count() as u64)
        .sum()
}

async fn read(request: Request<Incoming>) -> Result<Bytes, String> {
    Limited::new(request.into_body(), MAX_BODY)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|e| format!("the body cannot be read: {e}"))
}

fn json_body(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(value.to_string()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn error(status: StatusCode, message: &str) -> Response<Body> {
    json_body(
        status,
        &json!({"error": {"message": message, "type": "invalid_request_error", "code": status.as_u16()}}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    async fn ask(engine: &TestEngine, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", engine.endpoint()))
            .body(Full::from(body.to_owned()))
            .expect("a valid request");
        let response = client.request(request).await.expect("an answer");
        let status = response.status();
        let body = response.collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    const ASK: &str = r#"{"messages":[{"role":"user","content":"one two three"}],"max_tokens":3}"#;

    #[tokio::test]
    async fn answers_whole_and_streamed() {
        let engine = TestEngine::start(EngineOptions::default()).await.unwrap();
        let (status, body) = ask(&engine, Method::POST, "/v1/chat/completions", ASK).await;
        assert_eq!(status, StatusCode::OK);
        let whole: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "word0 word1 word2");
        assert_eq!(whole["usage"]["prompt_tokens"], 3);

        let streamed = ASK.replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
        let (_, body) = ask(&engine, Method::POST, "/v1/chat/completions", &streamed).await;
        let events: Vec<&str> = body.split("\n\n").filter(|e| !e.is_empty()).collect();
        assert_eq!(events.len(), 5, "{body}");
        assert_eq!(events[4], "data: [DONE]");
        let text: String = events[..4]
            .iter()
            .map(|e| serde_json::from_str::<Value>(&e["data: ".len()..]).unwrap())
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(text, "word0 word1 word2");
        assert_eq!((engine.requests(), engine.running()), (2, 0));
        let (_, metrics) = ask(&engine, Method::GET, "/metrics", "").await;
        assert!(metrics.contains("testkit_tokens_total 6\n"), "{metrics}");
    }

    #[tokio::test]
    async fn health_follows_the_orders() {
        let options = ["--startup-delay-ms", "3600000", "--name", "m"];
        let options = EngineOptions::parse(options.map(str::to_owned)).unwrap();
        let engine = TestEngine::start(options).await.unwrap();
        assert_eq!(
            ask(&engine, Method::GET, "/health", "").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        let engine = TestEngine::start(EngineOptions::default()).await.unwrap();
        assert_eq!(ask(&engine, Method::GET, "/health", "").await.0, StatusCode::OK);
        ask(&engine, Method::POST, "/testkit/health", "fail").await;
        assert_eq!(
            ask(&engine, Method::GET, "/health", "").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn bad_requests_are_refused() {
        let engine = TestEngine::start(EngineOptions::default()).await.unwrap();
        for body in ["", "{", "{}", r#"{"messages":"hi"}"#] {
            let (status, text) = ask(&engine, Method::POST, "/v1/chat/completions", body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {text}");
        }
        assert_eq!(ask(&engine, Method::GET, "/nothing", "").await.0, StatusCode::NOT_FOUND);
        assert!(EngineOptions::parse(["--port".to_owned(), "x".to_owned()]).is_err());
        assert!(EngineOptions::parse(["--wat".to_owned()]).is_err());
    }

    #[tokio::test]
    async fn a_drain_finishes_what_is_in_flight() {
        let options = EngineOptions {
            latency: Duration::from_millis(150),
            ..EngineOptions::default()
        };
        let engine = TestEngine::start(options).await.unwrap();
        let address = engine.address();
        let state = engine.state.clone();
        let in_flight = async { ask(&engine, Method::POST, "/v1/chat/completions", ASK).await };
        let started = async {
            while state.counters.running.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            engine.stop.send_replace(true);
        };
        let ((status, _), ()) = tokio::join!(in_flight, started);
        assert_eq!(status, StatusCode::OK);
        engine.drain().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
