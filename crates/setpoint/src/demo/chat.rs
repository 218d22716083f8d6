//! One chat request through the gateway, shown as it comes.

use std::{io::Write as _, net::SocketAddr};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};

/// Asks the model and prints its answer.
pub(super) async fn ask(gateway: &SocketAddr, model: &str, question: &str) -> Result<()> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body =
        json!({"model": model, "stream": true, "max_tokens": 96, "messages": [{"role": "user", "content": question}]})
            .to_string();
    let request = http::Request::post(format!("http://{gateway}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    println!("> {question}");
    let response = client.request(request).await.context("the gateway did not answer")?;
    let code = response.status();
    let mut body = response.into_body();
    let mut buffer = String::new();
    let mut answer = String::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the answer broke off")?.into_data() else {
            continue;
        };
        buffer.push_str(&String::from_utf8_lossy(&data));
        while let Some(end) = buffer.find("\n\n") {
            let event: String = buffer.drain(..end + 2).collect();
            let text = event
                .trim()
                .strip_prefix("data: ")
                .and_then(|d| serde_json::from_str::<Value>(d).ok())
                .and_then(|v| {
                    v.pointer("/choices/0/delta/content")
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                });
            if let Some(text) = text {
                print!("{text}");
                std::io::stdout().flush()?;
                answer.push_str(&text);
            }
        }
    }
    println!();
    if !code.is_success() {
        bail!("the gateway answered {code}: {buffer}");
    }
    if answer.trim().is_empty() {
        bail!("the model answered nothing");
    }
    Ok(())
}
