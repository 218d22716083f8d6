//! Kubeconfig files, as kubectl and every Kubernetes client read them.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::ClientCert;

/// How the client of a kubeconfig proves who it is.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// A client certificate with its key.
    Certificate(&'a ClientCert),
    /// A bearer token.
    Token(&'a str),
}

/// A kubeconfig with one cluster, one user and one context, all named `name`, and everything embedded. `server` is the URL
/// (`https://127.0.0.1:6443`). The text holds a secret: write it with mode 0600.
pub fn kubeconfig(server: &str, ca_pem: &str, credential: Credential<'_>, name: &str) -> String {
    // A JSON string is a YAML double-quoted scalar, so no name or URL can break out of its place.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let user = match credential {
        Credential::Certificate(certificate) => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(&certificate.cert_pem),
            STANDARD.encode(&certificate.key_pem),
        ),
        Credential::Token(token) => format!("    token: {}\n", quote(token)),
    };
    let name = quote(name);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         users:\n\
         - name: {name}\n  user:\n{user}\
         contexts:\n\
         - name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n\
         current-context: {name}\n",
        server = quote(server),
        ca = STANDARD.encode(ca_pem),
    )
}
