//! What each namespace has from the start: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};

use crate::Shutdown;

const ROOT_CA: &str = "kube-root-ca.crt";
const RETRY: Duration = Duration::from_secs(1);

/// Makes them until shutdown. `ca_pem`: the certificate that clients must trust.
pub async fn run(client: Client, ca_pem: String, shutdown: Shutdown) {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut events = Box::pin(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    let mut again: Vec<String> = Vec::new();
    loop {
        let mut todo = Vec::new();
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(n)) if n.metadata.deletion_timestamp.is_none() => todo.push(n.name_any()),
                Some(_) => {}
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !again.is_empty() => todo.append(&mut again),
        }
        for namespace in todo {
            if let Err(error) = furnish(&client, &namespace, &ca_pem).await {
                tracing::debug!(%error, namespace, "a namespace could not be furnished; trying again");
                again.push(namespace);
            }
        }
    }
}

async fn furnish(client: &Client, namespace: &str, ca_pem: &str) -> kube::Result<()> {
    let named = |name: &str| ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata: named("default"),
        ..ServiceAccount::default()
    };
    make(&Api::namespaced(client.clone(), namespace), &account).await?;
    let data = BTreeMap::from([("ca.crt".to_owned(), ca_pem.to_owned())]);
    let map = ConfigMap {
        metadata: named(ROOT_CA),
        data: Some(data),
        ..ConfigMap::default()
    };
    make(&Api::namespaced(client.clone(), namespace), &map).await
}

/// Creates what is not there. A namespace that is gone or going needs nothing.
async fn make<K>(api: &Api<K>, object: &K) -> kube::Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    if api.get_metadata_opt(&object.name_any()).await?.is_some() {
        return Ok(());
    }
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}
