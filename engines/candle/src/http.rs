//! The OpenAI API: `/v1/chat/completions` and `/v1/completions` (streaming and not), `/v1/models`, `/health`, `/metrics`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc::UnboundedReceiver, watch},
    task::JoinSet,
};

use crate::{
    model::{Finish, Message, Sampling},
    scheduler::{Prompt, Reply, Scheduler},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request may be this long: far more than any context holds.
const BODY_LIMIT: usize = 4 << 20;

/// What every request shares.
pub(crate) struct State {
    /// The name of the model.
    pub(crate) name: String,
    /// Where sequences are generated.
    pub(crate) scheduler: Scheduler,
}

/// Serves until SIGTERM; then takes nothing new and ends when what is in flight has been answered. Whoever stops it says how long that
/// may take.
pub(crate) async fn serve(address: SocketAddr, state: Arc<State>) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    eprintln!("serving {} on http://{}", state.name, listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let stopping = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = accepted else { continue };
        connections.spawn(connection(socket, state.clone(), stopping.subscribe()));
    }
    eprintln!("stopping: {} connections are open", connections.len());
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(socket: TcpStream, state: Arc<State>, mut stopping: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(handle(&state, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    // a connection that breaks is the client's affair
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

async fn handle(state: &State, request: Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health" | "/healthz") => text("ok"),
        (&Method::GET, "/metrics") => text(&metrics(state)),
        (&Method::GET, "/v1/models") => json_response(
            StatusCode::OK,
            &json!({"object": "list", "data": [{"id": state.name, "object": "model", "created": now(), "owned_by": "setpoint"}]}),
        ),
        (&Method::POST, "/v1/chat/completions") => complete(state, request, true).await,
        (&Method::POST, "/v1/completions") => complete(state, request, false).await,
        (_, "/v1/chat/completions" | "/v1/completions" | "/v1/models" | "/health" | "/metrics") => {
            error(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
        }
        (_, path) => error(StatusCode::NOT_FOUND, &format!("nothing is served at {path}")),
    }
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    max_tokens: Option<usize>,
    #[serde(default)]
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    seed: Option<u64>,
}

async fn complete(state: &State, request: Request<Incoming>, chat: bool) -> Response<Body> {
    let Ok(body) = Limited::new(request.into_body(), BODY_LIMIT).collect().await else {
        return error(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the request is larger than {BODY_LIMIT} bytes"),
        );
    };
    let ask: Ask = match serde_json::from_slice(&body.to_bytes()) {
        Ok(ask) => ask,
        Err(e) => return error(StatusCode::BAD_REQUEST, &format!("the request is not understood: {e}")),
    };
    if let Some(model) = ask.model.as_deref().filter(|m| *m != state.name) {
        return error(
            StatusCode::NOT_FOUND,
            &format!("the model {model:?} is not served here; {:?} is", state.name),
        );
    }
    let prompt = match (chat, ask.prompt) {
        (true, _) if ask.messages.is_empty() => {
            return error(StatusCode::BAD_REQUEST, "messages must hold at least one message");
        }
        (true, _) => Prompt::Chat(ask.messages),
        (false, Some(prompt)) if !prompt.is_empty() => Prompt::Text(prompt),
        (false, _) => return error(StatusCode::BAD_REQUEST, "prompt must be a text that is not empty"),
    };
    let sampling = Sampling {
        temperature: ask.temperature.unwrap_or(0.2).clamp(0.0, 2.0),
        top_p: ask.top_p.filter(|p| (0.0..1.0).contains(p)),
        seed: ask.seed.unwrap_or(0),
        max_tokens: ask
            .max_completion_tokens
            .or(ask.max_tokens)
            .unwrap_or(256)
            .clamp(1, 4096),
    };
    let Ok(replies) = state.scheduler.submit(prompt, sampling) else {
        let mut full = error(StatusCode::TOO_MANY_REQUESTS, "the queue of this replica is full");
        full.headers_mut()
            .insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        return full;
    };
    let shape = Shape {
        id: format!(
            "{}-{}",
            if chat { "chatcmpl" } else { "cmpl" },
            uuid::Uuid::new_v4().simple()
        ),
        created: now(),
        model: state.name.clone(),
        chat,
    };
    if ask.stream {
        stream(shape, replies)
    } else {
        whole(&shape, replies).await
    }
}

/// The fixed parts of an answer.
struct Shape {
    id: String,
    created: u64,
    model: String,
    chat: bool,
}

impl Shape {
    fn chunk(&self, delta: &Value, finish: Option<Finish>) -> Bytes {
        let finish = finish.map(Finish::as_str);
        let choice = match self.chat {
            true => json!({"index": 0, "delta": delta, "finish_reason": finish}),
            false => {
                json!({"index": 0, "text": delta["content"].as_str().unwrap_or_default(), "finish_reason": finish})
            }
        };
        let object = if self.chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        };
        let value =
            json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice]});
        format!("data: {value}\n\n").into()
    }
}

fn stream(shape: Shape, replies: UnboundedReceiver<Reply>) -> Response<Body> {
    let first = shape.chunk(&json!({"role": "assistant", "content": ""}), None);
    let rest = futures::stream::unfold((shape, replies, false), |(shape, mut replies, ended)| async move {
        if ended {
            return None;
        }
        let chunk = match replies.recv().await {
            Some(Reply::Text(text)) => {
                return Some((shape.chunk(&json!({"content": text}), None), (shape, replies, false)));
            }
            Some(Reply::Done { finish, .. }) => shape.chunk(&json!({}), Some(finish)),
            Some(Reply::Failed(why)) => format!(
                "data: {}\n\n",
                json!({"error": {"message": why, "type": "server_error"}})
            )
            .into(),
            None => Bytes::new(),
        };
        let last = [&*chunk, b"data: [DONE]\n\n"].concat();
        Some((Bytes::from(last), (shape, replies, true)))
    });
    let frames = futures::stream::once(std::future::ready(first))
        .chain(rest)
        .map(|chunk| Ok(Frame::data(chunk)));
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/event-stream"),
    );
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
    response
}

async fn whole(shape: &Shape, mut replies: UnboundedReceiver<Reply>) -> Response<Body> {
    let mut text = String::new();
    while let Some(reply) = replies.recv().await {
        match reply {
            Reply::Text(more) => text.push_str(&more),
            Reply::Failed(why) => return error(StatusCode::BAD_REQUEST, &why),
            Reply::Done {
                finish,
                prompt_tokens,
                completion_tokens,
            } => {
                let choice = match shape.chat {
                    true => {
                        json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish.as_str()})
                    }
                    false => json!({"index": 0, "text": text, "finish_reason": finish.as_str()}),
                };
                let object = if shape.chat {
                    "chat.completion"
                } else {
                    "text_completion"
                };
                let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens});
                return json_response(
                    StatusCode::OK,
                    &json!({"id": shape.id, "object": object, "created": shape.created, "model": shape.model, "choices": [choice], "usage": usage}),
                );
            }
        }
    }
    error(StatusCode::INTERNAL_SERVER_ERROR, "the generating thread has ended")
}

fn metrics(state: &State) -> String {
    let c = &state.scheduler.counters;
    let requests = c.requests.load(Ordering::Relaxed);
    format!(
        "# TYPE engine_requests_running gauge\nengine_requests_running {}\n\
         # TYPE engine_requests_waiting gauge\nengine_requests_waiting {}\n\
         # TYPE engine_prompt_tokens_total counter\nengine_prompt_tokens_total {}\n\
         # TYPE engine_generation_tokens_total counter\nengine_generation_tokens_total {}\n\
         # TYPE engine_requests_total counter\nengine_requests_total {requests}\n\
         # TYPE engine_time_to_first_token_seconds summary\nengine_time_to_first_token_seconds_sum {}\nengine_time_to_first_token_seconds_count {requests}\n",
        c.running.load(Ordering::Relaxed),
        c.waiting.load(Ordering::Relaxed),
        c.prompt_tokens.load(Ordering::Relaxed),
        c.generated_tokens.load(Ordering::Relaxed),
        c.first_token_us.load(Ordering::Relaxed) as f64 / 1e6,
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn text(text: &str) -> Response<Body> {
    Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync())
}

fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = text(&value.to_string());
    *response.status_mut() = code;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn error(code: StatusCode, message: &str) -> Response<Body> {
    let kind = if code.is_server_error() {
        "server_error"
    } else {
        "invalid_request_error"
    };
    json_response(
        code,
        &json!({"error": {"message": message, "type": kind, "code": code.as_u16()}}),
    )
}
