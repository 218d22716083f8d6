//! kubectl, as a person uses it. Skipped, and said so, where there is none.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::fixture::Server;

struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn of(server: &Server) -> Option<Self> {
        let there = Command::new("kubectl")
            .arg("version")
            .arg("--client")
            .output()
            .is_ok_and(|o| o.status.success());
        if !there {
            eprintln!("skipped: kubectl is not on the PATH");
        }
        there.then(|| Self {
            kubeconfig: server.kubeconfig(),
        })
    }

    /// Runs it; standard output and error together, and whether it succeeded.
    fn try_run(&self, arguments: &str, input: &str) -> (bool, String) {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.kubeconfig.with_file_name("kubectl-cache"))
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(input.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("kubectl ends");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn run(&self, arguments: &str, input: &str) -> String {
        let (ok, text) = self.try_run(arguments, input);
        assert!(ok, "kubectl {arguments}: {text}");
        text
    }
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: \"1\"}\n";

#[test]
fn a_person_s_commands_work() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::of(&server) else { return };
    assert!(kubectl.run("apply -f -", MAP).contains("configmap/a created"));
    assert!(kubectl.run("apply -f -", MAP).contains("configmap/a unchanged"));
    assert!(
        kubectl
            .run("apply -f -", &MAP.replace("\"1\"", "\"2\""))
            .contains("configmap/a configured")
    );
    assert!(
        kubectl
            .run("apply --server-side --force-conflicts -f -", MAP)
            .contains("serverside-applied")
    );
    assert!(kubectl.run("get cm a -o jsonpath={.data.x}", "").starts_with('1'));
    assert!(kubectl.run("get cm", "").contains("NAME"));
    kubectl.run("label cm a team=blue", "");
    kubectl.run("annotate cm a note=hi", "");
    assert!(kubectl.run("get cm -l team=blue -o name", "").contains("configmap/a"));
    kubectl.run("patch cm a -p {\"data\":{\"y\":\"2\"}}", "");
    kubectl.run(
        "patch cm a --type=json -p [{\"op\":\"remove\",\"path\":\"/data/y\"}]",
        "",
    );
    assert!(kubectl.run("describe cm a", "").contains("team=blue"));
    assert!(
        kubectl
            .run("explain modeldeployment.spec.replicas", "")
            .contains("replicas <integer>")
    );
    assert!(kubectl.run("api-resources", "").contains("modeldeployments"));
    // typed commands send protobuf
    kubectl.run("create namespace tenant", "");
    kubectl.run("create configmap b --from-literal=k=v", "");
    kubectl.run("create secret generic s --from-literal=k=v", "");
    assert_eq!(
        kubectl.run("get secret s -o jsonpath={.data.k}", "").lines().next(),
        Some("dg==")
    );
    kubectl.run("create serviceaccount robot", "");
    kubectl.run("create role reader --verb=get,list --resource=configmaps", "");
    kubectl.run(
        "create rolebinding reader --role=reader --serviceaccount=default:robot",
        "",
    );
    kubectl.run("create quota q --hard=count/configmaps=10", "");
    assert!(
        kubectl
            .run(
                "auth can-i list configmaps --as=system:serviceaccount:default:robot",
                ""
            )
            .contains("yes")
    );
    assert!(
        kubectl
            .try_run("auth can-i list secrets --as=system:serviceaccount:default:robot", "")
            .1
            .contains("no")
    );
    assert!(kubectl.run("auth whoami", "").contains("setpoint-admin"));
    let token = kubectl.run("create token robot", "");
    assert!(token.trim().lines().any(|l| l.split('.').count() == 3), "{token}");
    let (ok, text) = kubectl.try_run("get cm nosuch", "");
    assert!(
        !ok && text.contains("Error from server (NotFound): configmaps \"nosuch\" not found"),
        "{text}"
    );
    let (ok, text) = kubectl.try_run(
        "apply -f -",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndatum: {}\n",
    );
    assert!(!ok && text.contains("unknown field \"datum\""), "{text}");
    kubectl.run("delete cm a b", "");
    kubectl.run("delete namespace tenant --timeout=30s", "");
}
