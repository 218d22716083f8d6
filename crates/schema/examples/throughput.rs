//! Prints what the walks of a write cost for a 1 KiB custom resource, and what schemas cost in memory.
//! `cargo run --release -p setpoint-schema --example throughput`

use serde_json::{Value, json};
use setpoint_schema::{PruneOptions, Schema, default, drop_nulls, prune, strict, validate};
use std::{hint::black_box, time::Instant};

fn container(i: usize) -> Value {
    let env = json!({"type": "array", "items": {"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "minLength": 1}, "value": {"type": "string"}}}});
    let resources = json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[0-9]+(m|Mi|Gi)?$"}});
    json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "maxLength": 63, "description": format!("name {i}")}, "image": {"type": "string"}, "env": env,
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"], "items":
            {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
                "protocol": {"type": "string", "default": "TCP", "enum": ["TCP", "UDP"]}}}},
        "resources": {"type": "object", "properties": {"limits": resources, "requests": resources}},
        "pull": {"type": "string", "default": "IfNotPresent"}}})
}

fn crd(i: usize) -> Value {
    let own: serde_json::Map<String, Value> = (0..100)
        .map(|f| {
            (
                format!("field{f}of{i}"),
                json!({"type": "string", "description": "What it is."}),
            )
        })
        .collect();
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "replicas": {"type": "integer", "format": "int32", "minimum": 0, "default": 1},
        "containers": {"type": "array", "items": container(i)}, "init": {"type": "array", "items": container(i)},
        "own": {"type": "object", "properties": own}}}}})
}

fn object() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example.com/team/image:1.2.3", "env": [{"name": "A", "value": "some value"},
        {"name": "B", "value": "another value"}], "ports": [{"port": 80}, {"port": 443}], "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}})
    };
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "b", "labels": {"app": "web", "tier": "front"}},
        "spec": {"replicas": 3, "containers": [container("main"), container("side")], "init": [container("setup")], "own": {"field7of0": "text"}}})
}

fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or_default()
        * 4
}

fn time(name: &str, mut run: impl FnMut()) {
    const ROUNDS: u32 = 20_000;
    (0..1000).for_each(|_| run());
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| run());
    println!("{name}: {:?}", start.elapsed() / ROUNDS);
}

fn main() {
    let schema = Schema::from_crd(&crd(0)).expect("a structural schema");
    let bytes = serde_json::to_vec(&object()).expect("JSON");
    println!("object: {} bytes", bytes.len());
    let (mut value, _) = strict::decode_json(&bytes).expect("JSON");
    time("decode", || drop(black_box(strict::decode_json(black_box(&bytes)))));
    time("decode with serde_json", || {
        drop(black_box(serde_json::from_slice::<Value>(black_box(&bytes))))
    });
    time("prune", || {
        drop(black_box(prune(&schema, &mut value, &PruneOptions::default())))
    });
    time("drop nulls", || drop_nulls(&schema, black_box(&mut value)));
    time("default", || default(&schema, black_box(&mut value)));
    time("validate", || drop(black_box(validate(&schema, &value, None))));
    assert_eq!(validate(&schema, &value, None), []);

    let before = resident_kib();
    let start = Instant::now();
    let schemas: Vec<Schema> = (0..1000)
        .map(|i| Schema::from_crd(&crd(i)).expect("a structural schema"))
        .collect();
    println!(
        "1000 CRDs: {} KiB more resident, {:?} each to make",
        resident_kib() - before,
        start.elapsed() / 1000
    );
    black_box(schemas);
}
