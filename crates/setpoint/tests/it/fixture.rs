//! A server of the test's own: a process in a directory that goes with the test.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;

pub(crate) const SETPOINT: &str = env!("CARGO_BIN_EXE_setpoint");

/// A server process. Killed when it is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    pub(crate) directory: TempDir,
    pub(crate) url: String,
    arguments: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut server = Self {
            child: None,
            directory,
            url: String::new(),
            arguments,
        };
        server.spawn("127.0.0.1:0");
        server
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn spawn(&mut self, listen: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .expect("a log");
        let mut child = Command::new(SETPOINT)
            .args(["server", "--listen", listen, "--data-dir"])
            .arg(self.data_dir())
            .args(&self.arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout"))
            .read_line(&mut line)
            .expect("a line");
        let url = line.split_whitespace().find(|w| w.starts_with("https://"));
        self.url = url
            .unwrap_or_else(|| panic!("no address in {line:?}; log: {}", self.log()))
            .to_owned();
        self.child = Some(child);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Starts again on the same address and directory.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let listen = self.url.trim_start_matches("https://").to_owned();
        self.spawn(&listen);
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }

    /// A kubeconfig for somebody else.
    pub(crate) fn user(&self, user: &str, groups: &[&str]) -> PathBuf {
        let path = self
            .directory
            .path()
            .join(format!("{}.kubeconfig", user.replace(':', "-")));
        let mut command = Command::new(SETPOINT);
        command
            .args(["kubeconfig", "create", user, "--data-dir"])
            .arg(self.data_dir())
            .arg("--output")
            .arg(&path);
        for group in groups {
            command.args(["--group", group]);
        }
        assert!(command.status().expect("kubeconfig create").success());
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "--- the server's log ends:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        self.kill();
    }
}

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}

/// A raw request with any headers: (code, body).
pub(crate) async fn raw(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> (u16, serde_json::Value) {
    use http_body_util::BodyExt;
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(kube::client::Body::from(body.into())).expect("a request");
    let response = client.send(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (
        code,
        serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
    )
}

/// Asks until it is true, for at most `seconds`; `what` says what was waited for.
pub(crate) async fn eventually<F, Fut>(what: &str, seconds: u64, mut ask: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let end = Instant::now() + Duration::from_secs(seconds);
    while !ask().await {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
