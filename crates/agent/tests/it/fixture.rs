//! A table in the place of the control plane, and an agent beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use setpoint_agent::control::{Bound, ControlError, ControlPlane, ReplicaRef};
use setpoint_agent::supervisor::Supervisor;
use setpoint_agent::{AgentOptions, OnExit, Timings, WorkerFile};
use setpoint_inference::kinds::{Binding, EngineType, EnvVar, Replica, ReplicaStatus, Time};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The variable by which a copy of the test program knows that it is to be an engine, and how.
pub(crate) const ENGINE_FLAGS: &str = "TESTKIT_ENGINE_FLAGS";
/// No test waits for anything longer than this.
const PATIENCE: Duration = Duration::from_secs(20);
const WEIGHTS: &[u8] = b"weights";

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(crate) fn time() -> Time {
    Time(jiff::Timestamp::now())
}

/// The control plane: a list that the test sets, and what the agent wrote.
#[derive(Default)]
struct Table {
    bound: watch::Sender<Bound>,
    written: Mutex<BTreeMap<String, Vec<ReplicaStatus>>>,
    released: Mutex<Vec<String>>,
    news: watch::Sender<u64>,
    down: AtomicBool,
}

impl Table {
    fn take(&self, write: impl FnOnce()) -> BoxFuture<'static, Result<(), ControlError>> {
        let down = self.down.load(Ordering::Relaxed);
        if !down {
            write();
            self.news.send_modify(|n| *n += 1);
        }
        Box::pin(async move {
            if down {
                Err(ControlError::Unavailable("down".into()))
            } else {
                Ok(())
            }
        })
    }
}

impl ControlPlane for Table {
    fn bound(&self) -> watch::Receiver<Bound> {
        self.bound.subscribe()
    }
    fn write_status<'a>(
        &'a self,
        replica: &'a ReplicaRef,
        status: &'a ReplicaStatus,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        self.take(|| {
            self.written
                .lock()
                .unwrap()
                .entry(replica.name.clone())
                .or_default()
                .push(status.clone())
        })
    }
    fn release<'a>(&'a self, replica: &'a ReplicaRef) -> BoxFuture<'a, Result<(), ControlError>> {
        self.take(|| self.released.lock().unwrap().push(replica.name.clone()))
    }
}

/// A worker's machine: folders that outlive agents, and the control plane.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    table: Arc<Table>,
}

/// An agent at work.
pub(crate) struct RunningAgent {
    task: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl RunningAgent {
    /// Dies as by SIGKILL: every task of it is gone, its processes are not.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Is asked to end, and ends.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("without a panic");
    }
}

/// The variable by which a copy of the test program knows that it is to be an agent, and in which folder.
pub(crate) const AGENT_DIR: &str = "TESTKIT_AGENT_DIR";

fn options(dir: &Path, on_exit: OnExit) -> AgentOptions {
    let worker = "{apiVersion: inference.setpoint.dev/v1alpha1, kind: Worker, metadata: {name: w}, \
                  spec: {address: 127.0.0.1, region: r}}";
    let worker = WorkerFile::from_yaml(worker).expect("a worker");
    let ms = Duration::from_millis;
    AgentOptions {
        on_exit,
        timings: Timings {
            probe_starting: ms(20),
            withdraw_grace: ms(50),
            withdraw_limit: ms(300),
            liveness_factor: 2,
            restart_first: ms(20),
            sweep: ms(50),
            ..Timings::default()
        },
        ..AgentOptions::new(worker, dir)
    }
}

/// An agent whose wishes are in a file, until it is killed.
pub(crate) async fn agent_on(dir: &Path) {
    let text = std::fs::read(dir.join("wishes.json")).expect("wishes");
    let replicas: Vec<Replica> = serde_json::from_slice(&text).expect("JSON");
    let table = Arc::new(Table::default());
    let entry = |replica: Replica| (replica.metadata.uid.clone().unwrap(), Arc::new(replica));
    table
        .bound
        .send_replace(Bound::Known(replicas.into_iter().map(entry).collect()));
    let supervisor = Supervisor::open(options(dir, OnExit::Keep))
        .await
        .expect("the state directory is free");
    supervisor.run(table, CancellationToken::new()).await;
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("model.gguf"), WEIGHTS).expect("weights");
        Self {
            dir,
            table: Arc::default(),
        }
    }

    pub(crate) fn start(&self, on_exit: OnExit) -> RunningAgent {
        let options = options(self.dir.path(), on_exit);
        let (table, shutdown) = (self.table.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            let supervisor = Supervisor::open(options).await.expect("the state directory is free");
            supervisor.run(table, stop).await;
        });
        RunningAgent { task, shutdown }
    }

    pub(crate) fn replica(&self, name: &str, flags: &str) -> Replica {
        self.replica_on(name, flags, &[])
    }

    /// A replica that runs the testkit's engine in a copy of this program.
    pub(crate) fn replica_on(&self, name: &str, flags: &str, devices: &[&str]) -> Replica {
        let mut replica = Replica::new(name, Default::default()).within("team-a");
        // a uid for each bench: tests run beside each other
        replica.metadata.uid = Some(format!("{name}-{}", self.dir.path().file_name().unwrap().display()));
        let spec = &mut replica.spec;
        spec.model.name = "smol".into();
        spec.model.uri = format!("file://{}", self.dir.path().join("model.gguf").display());
        spec.model.digest = digest(WEIGHTS);
        spec.drain_seconds = 10;
        spec.engine.type_ = EngineType::Command;
        let exe = std::env::current_exe().expect("this program").display().to_string();
        spec.engine.command = vec![exe, "engine_process".into(), "--exact".into(), "--nocapture".into()];
        spec.engine.env = vec![EnvVar {
            name: ENGINE_FLAGS.into(),
            value: format!("--host {{host}} --port {{port}} --name {{name}} {flags}"),
        }];
        replica.binding = Some(Binding {
            worker: Some("w".into()),
            devices: devices.iter().map(|id| (*id).to_owned()).collect(),
            ..Binding::default()
        });
        replica
    }

    fn uid(&self, name: &str) -> String {
        format!("{name}-{}", self.dir.path().file_name().unwrap().display())
    }

    /// Binds these replicas, and no others.
    pub(crate) fn bind<'a>(&self, replicas: impl IntoIterator<Item = &'a Replica>) {
        let entry = |replica: &Replica| (replica.metadata.uid.clone().unwrap(), Arc::new(replica.clone()));
        self.table
            .bound
            .send_replace(Bound::Known(replicas.into_iter().map(entry).collect()));
    }

    /// The control plane has said nothing yet.
    pub(crate) fn forget(&self) {
        self.table.bound.send_replace(Bound::Unknown);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.table.down.store(down, Ordering::Relaxed);
    }

    /// What an agent in a process of its own is to run.
    pub(crate) fn write_wishes(&self, replicas: &[Replica]) {
        let text = serde_json::to_vec(replicas).expect("JSON");
        std::fs::write(self.dir.path().join("wishes.json"), text).expect("written");
    }

    /// Starts an agent in a process of its own.
    pub(crate) fn spawn_agent(&self) -> std::process::Child {
        let exe = std::env::current_exe().expect("this program");
        std::process::Command::new(exe)
            .args(["agent_process", "--exact", "--nocapture"])
            .env(AGENT_DIR, self.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts")
    }

    /// How many process groups a replica has: how often it runs.
    pub(crate) fn groups(&self, name: &str) -> usize {
        let group = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(')')
                .next()?
                .split_ascii_whitespace()
                .nth(2)?
                .parse::<u32>()
                .ok()
        };
        let groups: std::collections::BTreeSet<_> = self.processes(name).iter().filter_map(group).collect();
        groups.len()
    }

    /// Sets a replica's deletion timestamp.
    pub(crate) fn delete(&self, name: &str) {
        let uid = self.uid(name);
        self.table.bound.send_modify(|bound| {
            let Bound::Known(known) = bound else {
                panic!("nothing is bound")
            };
            let replica = Arc::make_mut(known.get_mut(&uid).expect("it is bound"));
            replica.metadata.deletion_timestamp = Some(time());
        });
    }

    /// Every status that was written for a replica, in order.
    pub(crate) fn written(&self, name: &str) -> Vec<ReplicaStatus> {
        self.table
            .written
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn released(&self) -> Vec<String> {
        self.table.released.lock().unwrap().clone()
    }

    /// Waits for a latest status like this.
    pub(crate) async fn status(&self, name: &str, like: impl Fn(&ReplicaStatus) -> bool) -> ReplicaStatus {
        let mut news = self.table.news.subscribe();
        let found = async {
            loop {
                news.mark_unchanged();
                if let Some(status) = self.written(name).last().filter(|status| like(status)) {
                    return status.clone();
                }
                news.changed().await.expect("the table lives");
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("no such status of {name}: {:#?}", self.written(name)))
    }

    /// Long enough for every loop to have looked many times, where nothing is expected to happen.
    pub(crate) async fn settled(&self) {
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    /// The live processes that carry a replica's mark.
    pub(crate) fn processes(&self, name: &str) -> Vec<u32> {
        let mark = format!("SETPOINT_REPLICA_UID={}", self.uid(name));
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| environment(*pid).contains(&mark) && alive(*pid))
            .collect()
    }

    /// The value of a variable in a replica's first process.
    pub(crate) fn variable(&self, name: &str, variable: &str) -> String {
        let pid = self.processes(name)[0];
        let prefix = format!("{variable}=");
        environment(pid)
            .iter()
            .find_map(|v| v.strip_prefix(&prefix).map(str::to_owned))
            .expect("it is set")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir
            .path()
            .join(format!("agent/logs/team-a_{name}_{}.log", self.uid(name)))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// How often an engine of the replica has listened.
    pub(crate) fn starts(&self, name: &str) -> usize {
        self.log(name).matches("testkit-engine listens on").count()
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("agent/replicas/{}.json", self.uid(name)))
    }

    pub(crate) fn has_record(&self, name: &str) -> bool {
        self.record_path(name).exists()
    }

    pub(crate) fn remove_record(&self, name: &str) {
        std::fs::remove_file(self.record_path(name)).expect("there is a record");
    }

    pub(crate) fn edit_record(&self, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        let text = std::fs::read(self.record_path(name)).expect("there is a record");
        let mut record = serde_json::from_slice(&text).expect("JSON");
        edit(&mut record);
        std::fs::write(self.record_path(name), record.to_string()).expect("written");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // a test that fails leaves nothing running; what it started carries the mark of its own folder
        let state = format!(
            "SETPOINT_STATE={}",
            self.dir.path().canonicalize().unwrap().join("agent").display()
        );
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if let Some(pid) = pid.filter(|pid| environment(*pid).contains(&state)) {
                kill(pid, "KILL");
            }
        }
    }
}

fn environment(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect()
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let signal = match signal {
        "KILL" => rustix::process::Signal::KILL,
        other => panic!("no test sends {other}"),
    };
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until something holds that no event tells.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ask(uri: String, method: &str, body: &'static str) -> Option<u16> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .body(Full::from(body))
        .expect("a request");
    let response = client.request(request).await.ok()?;
    let status = response.status().as_u16();
    response.collect().await.ok()?;
    Some(status)
}

pub(crate) async fn answers(endpoint: &str) -> bool {
    ask(format!("{endpoint}/v1/models"), "GET", "").await == Some(200)
}

/// Sends a chat request; the answer's status.
pub(crate) async fn chat(endpoint: String) -> Option<u16> {
    let body = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    ask(format!("{endpoint}/v1/chat/completions"), "POST", body).await
}

pub(crate) async fn fail_health(endpoint: &str) {
    ask(format!("{endpoint}/testkit/health"), "POST", "fail").await;
}
