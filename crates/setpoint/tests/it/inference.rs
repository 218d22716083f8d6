//! The main job on real processes: server, agents and gateway as an operator starts them, with the testkit's engine as the model server.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use setpoint_inference::kinds::{ModelDeployment, Replica, Worker};
use sha2::{Digest, Sha256};

use crate::fixture::{SETPOINT, Server, eventually};

/// A process of ours, killed with the test.
struct Process(Child);

impl Process {
    fn start(log: &Path, arguments: &[&str]) -> (Self, String) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let mut child = Command::new(SETPOINT)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout"))
            .read_line(&mut line)
            .expect("a line");
        (Self(child), line)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A control plane with two workers in one region, one in another, and a gateway.
struct Plane {
    agents: Vec<Process>,
    _gateway: Process,
    gateway: String,
    client: Client,
    server: Server,
    engine: PathBuf,
}

fn engine() -> PathBuf {
    let directory = Path::new(SETPOINT).parent().expect("a directory");
    let engine = directory.join("testkit-engine");
    if !engine.exists() {
        // `cargo test -p setpoint` does not build another package's binary; `cargo xtask test` does beforehand
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "-p", "setpoint-testkit"])
            .status()
            .expect("cargo");
        assert!(built.success(), "the testkit's engine builds");
    }
    engine
}

impl Plane {
    async fn start() -> Self {
        let server = Server::start();
        let client = server.client().await;
        let agents = [
            ("a1", "us-west-2", "a"),
            ("b1", "us-west-2", "b"),
            ("e1", "us-east-1", "a"),
        ];
        let agents = agents
            .map(|(name, region, zone)| agent(&server, name, region, zone))
            .into();
        let gateway_config = server.user("system:gateway:g", &["system:gateways"]);
        let log = server.directory.path().join("gateway.log");
        let (gateway, line) = Process::start(
            &log,
            &[
                "gateway",
                "--listen",
                "127.0.0.1:0",
                "--kubeconfig",
                gateway_config.to_str().expect("text"),
            ],
        );
        let address = line
            .split_whitespace()
            .find(|w| w.starts_with("http://"))
            .expect("an address")
            .to_owned();
        Self {
            agents,
            _gateway: gateway,
            gateway: address,
            client,
            server,
            engine: engine(),
        }
    }

    /// Applies a model, a deployment of `replicas`, and a route.
    async fn deploy(&self, replicas: u32, regions: &[&str]) {
        let weights = self.server.directory.path().join("weights.bin");
        std::fs::write(&weights, b"weights").expect("written");
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(b"weights")));
        let api_version = "inference.setpoint.dev/v1alpha1";
        let meta = |name: &str| json!({"name": name, "namespace": "default"});
        let objects = [
            (
                "gpuflavors",
                json!({"apiVersion": api_version, "kind": "GpuFlavor", "metadata": {"name": "h100-80g"}, "spec": {"memory": "80Gi", "hourlyCost": "4.50"}}),
            ),
            (
                "namespaces/default/models",
                json!({"apiVersion": api_version, "kind": "Model", "metadata": meta("m"), "spec": {"uri": format!("file://{}", weights.display()), "digest": digest, "sizeBytes": 7}}),
            ),
            (
                "namespaces/default/modeldeployments",
                json!({"apiVersion": api_version, "kind": "ModelDeployment", "metadata": meta("chat"), "spec": {
                "modelRef": {"name": "m"}, "replicas": replicas, "accelerators": [{"flavor": "h100-80g", "count": 1}], "placement": {"regions": regions}, "drainSeconds": 1,
                "engine": {"type": "Command", "command": [self.engine, "--port", "{port}"]}}}),
            ),
            (
                "namespaces/default/modelroutes",
                json!({"apiVersion": api_version, "kind": "ModelRoute", "metadata": meta("m"), "spec": {"modelName": "m", "backends": [{"deploymentRef": {"name": "chat"}}]}}),
            ),
        ];
        for (path, object) in objects {
            let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
            let path = format!("/apis/{api_version}/{path}/{name}?fieldManager=test&force=true");
            let (code, body) = crate::fixture::raw(
                &self.client,
                "PATCH",
                &path,
                &[("content-type", "application/apply-patch+yaml")],
                object.to_string(),
            )
            .await;
            assert!(code < 300, "{body}");
        }
    }

    fn replicas(&self) -> Api<Replica> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn deployments(&self) -> Api<ModelDeployment> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn ready(&self) -> Vec<Replica> {
        let all = match self.replicas().list(&ListParams::default()).await {
            Ok(list) => list.items,
            Err(error) => {
                eprintln!("the replicas cannot be listed: {error:?}");
                Vec::new()
            }
        };
        all.into_iter().filter(Replica::is_ready).collect()
    }

    async fn wait_ready(&self, wanted: usize) {
        eventually(&format!("{wanted} replicas are ready"), 60, || async {
            let (ready, engines) = (self.ready().await.len(), self.engines());
            eprintln!("{ready} ready, {engines} engines of {wanted}");
            ready == wanted && engines == wanted
        })
        .await;
    }

    /// Engine processes of this test's workers: found by what they run and where, not by what anybody says.
    fn engines(&self) -> usize {
        engine_pids(self.server.directory.path()).len()
    }

    async fn ask(&self) -> (u16, String) {
        use http_body_util::BodyExt;
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let request = http::Request::post(format!("{}/v1/chat/completions", self.gateway))
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .expect("a request");
        let response = client.request(request).await.expect("an answer");
        let code = response.status().as_u16();
        (
            code,
            String::from_utf8_lossy(&response.into_body().collect().await.expect("a body").to_bytes()).into_owned(),
        )
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["a1.log", "b1.log", "e1.log", "gateway.log"] {
                let text = std::fs::read_to_string(self.server.directory.path().join(log)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(15).collect();
                eprintln!(
                    "--- {log} ends:\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
        self.agents.clear();
        for pid in engine_pids(self.server.directory.path()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn agent(server: &Server, name: &str, region: &str, zone: &str) -> Process {
    let directory = server.directory.path();
    let file = directory.join(format!("{name}.yaml"));
    let devices: Vec<_> = (0..8)
        .map(|id| json!({"id": id.to_string(), "flavor": "h100-80g"}))
        .collect();
    let worker = json!({"apiVersion": "inference.setpoint.dev/v1alpha1", "kind": "Worker", "metadata": {"name": name},
        "spec": {"address": "127.0.0.1", "region": region, "zone": zone, "devices": devices}});
    std::fs::write(&file, worker.to_string()).expect("written");
    let kubeconfig = server.user(&format!("system:worker:{name}"), &["system:workers"]);
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (state, weights) = (
        text(&directory.join("workers").join(name)),
        text(&directory.join("weights")),
    );
    let arguments = [
        "agent",
        "--kubeconfig",
        &text(&kubeconfig),
        "--worker",
        &text(&file),
        "--state-dir",
        &state,
        "--weights-dir",
        &weights,
        "--log",
        "info",
    ]
    .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start(&directory.join(format!("{name}.log")), &arguments).0
}

/// Processes of the testkit's engine whose environment names this directory.
fn engine_pids(directory: &Path) -> Vec<Pid> {
    let mark = directory.to_str().expect("text").as_bytes().to_vec();
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.windows(mark.len()).any(|w| w == mark);
            (ours && exe.to_string_lossy().contains("testkit-engine")).then(|| Pid::from_raw(pid))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_processes_that_answer_and_goes_without_a_trace() {
    let plane = Plane::start().await;
    plane.deploy(3, &["us-west-2"]).await;
    plane.wait_ready(3).await;
    for replica in plane.ready().await {
        assert_eq!(
            replica.binding.as_ref().and_then(|b| b.region.as_deref()),
            Some("us-west-2")
        );
    }
    let (code, answer) = plane.ask().await;
    assert_eq!(code, 200, "{answer}");
    // scaling up and down, as kubectl scale does it
    let scale = |replicas: u32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
    plane
        .deployments()
        .patch_scale("chat", &PatchParams::default(), &scale(5))
        .await
        .expect("scaled");
    plane.wait_ready(5).await;
    plane
        .deployments()
        .patch_scale("chat", &PatchParams::default(), &scale(2))
        .await
        .expect("scaled");
    plane.wait_ready(2).await;
    plane
        .deployments()
        .delete("chat", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("every process and replica is gone", 60, || async {
        plane.engines() == 0
            && plane
                .replicas()
                .list(&ListParams::default())
                .await
                .is_ok_and(|l| l.items.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_killed_comes_back() {
    let mut plane = Plane::start().await;
    plane.deploy(3, &["us-west-2"]).await;
    plane.wait_ready(3).await;
    // a replica's process
    let before = engine_pids(plane.server.directory.path());
    kill(before[0], Signal::SIGKILL).expect("killed");
    eventually("another process is in its place", 60, || async {
        let now = engine_pids(plane.server.directory.path());
        now.len() == 3 && !now.contains(&before[0]) && plane.ready().await.len() == 3
    })
    .await;
    // the server, in the middle of a scale-up: what runs goes on running, and the rest follows
    let serving = engine_pids(plane.server.directory.path());
    plane
        .deployments()
        .patch(
            "chat",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"replicas": 6}})),
        )
        .await
        .expect("patched");
    plane.server.kill();
    assert_eq!(plane.ask().await.0, 200, "gateways route without a server");
    plane.server.restart();
    plane.client = plane.server.client().await;
    plane.wait_ready(6).await;
    let now = engine_pids(plane.server.directory.path());
    assert!(serving.iter().all(|pid| now.contains(pid)), "no replica was touched");
    // an agent: its next run adopts what it had started
    plane.agents[0].signal(Signal::SIGKILL);
    plane.agents[0] = agent(&plane.server, "a1", "us-west-2", "a");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    plane.wait_ready(6).await;
    let adopted = engine_pids(plane.server.directory.path());
    assert!(
        now.iter().all(|pid| adopted.contains(pid)),
        "none was restarted, none doubled"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_s_replicas_move() {
    let mut plane = Plane::start().await;
    plane.deploy(4, &["us-west-2"]).await;
    plane.wait_ready(4).await;
    let workers: Api<Worker> = Api::all(plane.client.clone());
    // the agent and its replicas die together, as a machine does
    let lost: Vec<String> = plane
        .ready()
        .await
        .iter()
        .filter(|r| r.worker() == Some("a1"))
        .map(ResourceExt::name_any)
        .collect();
    assert!(!lost.is_empty(), "the scheduler spread the replicas");
    drop(plane.agents.remove(0));
    eventually(
        "the worker counts as lost and every replica is ready elsewhere",
        60,
        || async {
            let worker = workers.get("a1").await.expect("the worker");
            let state = serde_json::to_value(&worker).expect("JSON")["lifecycle"]["state"].clone();
            let ready = plane.ready().await;
            state == "Lost" && ready.iter().filter(|r| r.worker() == Some("b1")).count() == 4
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_placed_says_why() {
    let plane = Plane::start().await;
    plane.deploy(2, &["mars-1"]).await;
    let reason = || async {
        let replicas = plane
            .replicas()
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        replicas.first().and_then(|r| r.binding.clone())
    };
    eventually("the scheduler has looked", 30, || async {
        reason().await.is_some_and(|b| !b.reason.is_empty())
    })
    .await;
    let binding = reason().await.expect("a binding");
    assert_eq!(
        (binding.worker, &*binding.reason),
        (None, "NoMatchingRegion"),
        "{}",
        binding.message
    );
    assert!(binding.message.contains("mars-1"), "{}", binding.message);
    eventually("the deployment says so too", 30, || async {
        let status = plane
            .deployments()
            .get("chat")
            .await
            .expect("the deployment")
            .status
            .unwrap_or_default();
        status
            .pending
            .iter()
            .any(|p| p.reason == "NoMatchingRegion" && p.count == 2)
    })
    .await;
    let output = Command::new(SETPOINT)
        .args(["why", "modeldeployment/chat", "--kubeconfig"])
        .arg(plane.server.kubeconfig())
        .output()
        .expect("why");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.lines().next().is_some_and(|l| l.contains("NoMatchingRegion")),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2));
    // taking the step unblocks it
    plane.deploy(2, &["us-west-2"]).await;
    plane.wait_ready(2).await;
}
