//! kill -9 loses no acknowledged write, and a server that returns serves its clients where they were.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};

use crate::fixture::{Server, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let mut server = Server::start_with(&["--api-only"]);
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for round in 0..3 {
        let client = server.client().await;
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let written = written.clone();
                let (api, stop) = (Api::<ConfigMap>::namespaced(client.clone(), "default"), stop.clone());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("r{round}-w{writer}-{n}");
                        let object = ConfigMap {
                            metadata: ObjectMeta {
                                name: Some(name.clone()),
                                ..ObjectMeta::default()
                            },
                            ..ConfigMap::default()
                        };
                        match api.create(&PostParams::default(), &object).await {
                            Ok(made) => {
                                written.fetch_add(1, Ordering::Relaxed);
                                mine.push((name, made.resource_version().expect("a version")));
                            }
                            Err(_) => break,
                        }
                    }
                    mine
                })
            })
            .collect();
        eventually("the writers write", 30, || {
            let enough = written.load(Ordering::Relaxed) > 100;
            std::future::ready(enough)
        })
        .await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.await.expect("a writer"));
        }
        server.restart();
        let api = Api::<ConfigMap>::namespaced(server.client().await, "default");
        let found: std::collections::HashMap<String, String> = api
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .into_iter()
            .map(|o| (o.name_any(), o.resource_version().expect("a version")))
            .collect();
        for (name, version) in &acknowledged {
            assert_eq!(found.get(name), Some(version), "{name} was acknowledged");
        }
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_after_a_restart() {
    let mut server = Server::start_with(&["--api-only"]);
    let api = Api::<ConfigMap>::namespaced(server.client().await, "default");
    let object = |name: &str| ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    let first = api.create(&PostParams::default(), &object("a")).await.expect("created");
    let seen = first.resource_version().expect("a version");
    for name in ["b", "c"] {
        api.create(&PostParams::default(), &object(name))
            .await
            .expect("created");
    }
    api.delete("b", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    server.restart();
    let api = Api::<ConfigMap>::namespaced(server.client().await, "default");
    api.create(&PostParams::default(), &object("d")).await.expect("created");
    let events = api
        .watch(&WatchParams::default().timeout(5), &seen)
        .await
        .expect("a watch")
        .boxed();
    let told: Vec<String> = events
        .take(4)
        .map_ok(|event| match event {
            WatchEvent::Added(o) => format!("+{}", o.name_any()),
            WatchEvent::Deleted(o) => format!("-{}", o.name_any()),
            other => format!("{other:?}"),
        })
        .try_collect()
        .await
        .expect("events");
    assert_eq!(told, ["+b", "+c", "-b", "+d"]);
}
