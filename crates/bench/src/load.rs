//! The measurements. Closed loop: each client sends its next request when the last is answered, so latencies say what such clients
//! see; they do not say what an open arrival process would.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Arguments,
    client::{Connection, Target},
};

const NAMESPACE: &str = "bench";
/// Objects that `list` reads.
const LISTED: usize = 5_000;

/// A line of the result.
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    p50: Option<Duration>,
    p99: Option<Duration>,
}

impl Row {
    pub(crate) fn value(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            p50: None,
            p99: None,
        }
    }

    fn rate(name: &str, count: u64, took: Duration, times: &Histogram<u64>) -> Self {
        let at = |q: f64| Some(Duration::from_micros(times.value_at_quantile(q)));
        Self {
            name: name.into(),
            value: count as f64 / took.as_secs_f64(),
            unit: "/s",
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

/// Prints the rows.
pub(crate) fn print(rows: &[Row], as_json: bool) {
    let ms = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1000.0);
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|r| json!({"name": r.name, "value": r.value, "unit": r.unit, "p50Ms": ms(r.p50), "p99Ms": ms(r.p99)}))
            .collect();
        println!("{}", json!(rows));
        return;
    }
    println!("{:<28} {:>12} {:<6} {:>10} {:>10}", "", "", "", "p50 ms", "p99 ms");
    for row in rows {
        let show = |d: Option<Duration>| ms(d).map(|m| format!("{m:.2}")).unwrap_or_default();
        println!(
            "{:<28} {:>12.1} {:<6} {:>10} {:>10}",
            row.name,
            row.value,
            row.unit,
            show(row.p50),
            show(row.p99)
        );
    }
}

/// Runs every measurement.
pub(crate) async fn run(arguments: &Arguments, target: &Target) -> Result<Vec<Row>> {
    let bar = ProgressBar::new(5).with_style(
        ProgressStyle::with_template("{spinner} [{bar:30}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut connections = Vec::new();
    for _ in 0..arguments.connections.max(1) {
        connections.push(target.connect().await?);
    }
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string();
    // it may be there from a run before
    let _ = connections[0]
        .call(Method::POST, "/api/v1/namespaces", body.into())
        .await;
    let mut rows = Vec::new();
    let run = Run {
        arguments,
        connections,
        tag: stamp(),
    };
    bar.set_message("create");
    let (row, created) = run.create().await?;
    rows.push(row);
    bar.inc(1);
    bar.set_message("get");
    rows.push(run.get(created).await?);
    bar.inc(1);
    bar.set_message("update");
    rows.push(run.update(created).await?);
    bar.inc(1);
    bar.set_message("list");
    rows.extend(run.list().await?);
    bar.inc(1);
    bar.set_message("watch");
    rows.push(run.watch(target).await?);
    bar.finish_and_clear();
    Ok(rows)
}

fn stamp() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}

struct Run<'a> {
    arguments: &'a Arguments,
    connections: Vec<Connection>,
    tag: u64,
}

fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn object(name: &str, size: usize, stamp: &str) -> Bytes {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"stamp": stamp, "payload": "x".repeat(size.saturating_sub(350))}}).to_string().into()
}

impl Run<'_> {
    fn name(&self, index: usize) -> String {
        format!("c{}-{index}", self.tag)
    }

    /// Runs `work` by every client for the configured time; `work` gets the connection and a number that is given once.
    async fn closed_loop<F, Fut>(&self, work: F) -> Result<(u64, Duration, Histogram<u64>)>
    where
        F: Fn(Connection, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let times = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
        let begun = Instant::now();
        let end = begun + Duration::from_secs(self.arguments.seconds);
        let mut clients = Vec::new();
        for client in 0..self.arguments.clients {
            let connection = self.connections[client % self.connections.len()].clone();
            let (work, next, done, times) = (work.clone(), next.clone(), done.clone(), times.clone());
            clients.push(tokio::spawn(async move {
                let mut own = Histogram::<u64>::new(3)?;
                while Instant::now() < end {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    work(connection.clone(), index).await?;
                    own.record(sent.elapsed().as_micros() as u64)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                times.lock().await.add(own)?;
                anyhow::Ok(())
            }));
        }
        for client in clients {
            client.await??;
        }
        let histogram = times.lock().await.clone();
        Ok((done.load(Ordering::Relaxed), begun.elapsed(), histogram))
    }

    async fn create(&self) -> Result<(Row, usize)> {
        let (tag, size) = (self.tag, self.arguments.size);
        let (count, took, times) = self
            .closed_loop(move |mut connection, index| async move {
                let body = object(&format!("c{tag}-{index}"), size, "0");
                connection
                    .call(Method::POST, &collection(NAMESPACE), body)
                    .await
                    .map(drop)
            })
            .await?;
        Ok((
            Row::rate("create (durable)", count, took, &times),
            usize::try_from(count)?,
        ))
    }

    async fn get(&self, created: usize) -> Result<Row> {
        let tag = self.tag;
        let (count, took, times) = self
            .closed_loop(move |mut connection, index| async move {
                let path = format!("{}/c{tag}-{}", collection(NAMESPACE), index % created.max(1));
                connection.call(Method::GET, &path, Bytes::new()).await.map(drop)
            })
            .await?;
        Ok(Row::rate("get", count, took, &times))
    }

    async fn update(&self, created: usize) -> Result<Row> {
        let (tag, size) = (self.tag, self.arguments.size);
        let (count, took, times) = self
            .closed_loop(move |mut connection, index| async move {
                let name = format!("c{tag}-{}", index % created.max(1));
                let body = object(&name, size, &index.to_string());
                connection
                    .call(Method::PUT, &format!("{}/{name}", collection(NAMESPACE)), body)
                    .await
                    .map(drop)
            })
            .await?;
        Ok(Row::rate("update (durable)", count, took, &times))
    }

    /// Whole lists, from the cache.
    async fn list(&self) -> Result<Vec<Row>> {
        let mut connection = self.connections[0].clone();
        let path = format!("{}?resourceVersion=0", collection(NAMESPACE));
        let (mut lists, mut bytes, mut objects) = (0u64, 0u64, 0u64);
        let mut times = Histogram::<u64>::new(3)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(self.arguments.seconds) {
            let sent = Instant::now();
            let answer = connection.call(Method::GET, &path, Bytes::new()).await?;
            times.record(sent.elapsed().as_micros() as u64)?;
            if lists == 0 {
                objects = serde_json::from_slice::<Value>(&answer)?["items"]
                    .as_array()
                    .map_or(0, |i| i.len() as u64);
            }
            lists += 1;
            bytes += answer.len() as u64;
        }
        let took = begun.elapsed();
        let mut row = Row::rate(&format!("list of {objects}, objects"), lists * objects, took, &times);
        row.name = format!("list, {objects} objects each");
        let rate = Row::value(
            "list, bytes",
            bytes as f64 / took.as_secs_f64() / f64::from(1 << 20),
            "MiB/s",
        );
        let enough = if objects as usize >= LISTED {
            ""
        } else {
            " (fewer than 5,000)"
        };
        row.name.push_str(enough);
        Ok(vec![row, rate])
    }

    /// Watchers of the namespace, 100 updates a second; the time from sending the update to having its event.
    async fn watch(&self, target: &Target) -> Result<Row> {
        let watchers = self.arguments.watchers;
        let mut connection = self.connections[0].clone();
        let name = self.name(0);
        let list: Value = serde_json::from_slice(
            &connection
                .call(Method::GET, &format!("{}?limit=1", collection(NAMESPACE)), Bytes::new())
                .await?,
        )?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let times = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
        let received = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        let mut watching = Vec::new();
        for _ in 0..watchers.div_ceil(50).max(1) {
            watching.push(target.connect().await?);
        }
        for watcher in 0..watchers {
            let mut connection = watching[watcher % watching.len()].clone();
            let path = format!("{}?watch=1&resourceVersion={version}", collection(NAMESPACE));
            let (stop, times, received) = (stop.clone(), times.clone(), received.clone());
            let response = connection
                .send(Method::GET, &path, "application/json", Bytes::new())
                .await?;
            tasks.push(tokio::spawn(async move {
                let mut body = response.into_body();
                let mut own = Histogram::<u64>::new(3)?;
                while !stop.load(Ordering::Relaxed) {
                    let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(200), body.frame()).await
                    else {
                        continue;
                    };
                    let now = micros();
                    let Ok(data) = frame.into_data() else { continue };
                    for sent in stamps(&data) {
                        own.record(now.saturating_sub(sent))?;
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
                times.lock().await.add(own)?;
                anyhow::Ok(())
            }));
        }
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while begun.elapsed() < Duration::from_secs(self.arguments.seconds) {
            ticks.tick().await;
            let body = object(&name, self.arguments.size, &format!("@{}@", micros()));
            connection
                .call(Method::PUT, &format!("{}/{name}", collection(NAMESPACE)), body)
                .await?;
        }
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await??;
        }
        let histogram = times.lock().await.clone();
        Ok(Row::rate(
            &format!("watch events, {watchers} watchers"),
            received.load(Ordering::Relaxed),
            took,
            &histogram,
        ))
    }
}

/// The send times (`@MICROS@`) in a chunk of events. One that is cut between two chunks is not counted.
fn stamps(data: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('@');
    let mut found = Vec::new();
    parts.next();
    while let (Some(stamp), Some(_)) = (parts.next(), parts.next()) {
        found.extend(stamp.parse::<u64>());
    }
    found
}
