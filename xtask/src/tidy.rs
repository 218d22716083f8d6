//! The rules of the house that no compiler checks.
//!
//! - Crates depend only on what [`EDGES`] allows: architecture is absent dependencies.
//! - Files stay under [`LINES`] lines; [`LONG`] lists the exceptions and may only shrink.
//! - Every module of a directory with a registry is in the registry.
//! - No file names this machine, and no source has a marker of unfinished work.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A file longer than this has two concerns.
const LINES: usize = 800;
/// Files that are longer, each with the length that it may not exceed. Take entries out; put none in.
const LONG: &[(&str, usize)] = &[];

/// For each crate, the crates of this workspace that it may depend on (tests excepted). The order is the layering: an edge points up.
const EDGES: &[(&str, &[&str])] = &[
    ("meta", &[]),
    ("schema", &["meta"]),
    ("patch", &["meta", "schema"]),
    ("protobuf", &[]),
    ("definition", &["meta", "schema"]),
    ("store", &["meta"]),
    ("store-embedded", &["meta", "store"]),
    ("cache", &["meta", "store"]),
    ("pki", &["meta"]),
    ("govern", &["meta", "pki"]),
    (
        "apiserver",
        &[
            "meta",
            "schema",
            "patch",
            "definition",
            "protobuf",
            "store",
            "cache",
            "pki",
            "govern",
        ],
    ),
    ("reconcile", &["meta"]),
    ("engine", &["reconcile"]),
    ("system", &["meta"]),
    ("inference", &["meta", "reconcile"]),
    ("agent", &["inference"]),
    ("gateway", &["inference"]),
    ("cli", &["inference"]),
    ("testkit", &[]),
    ("bench", &[]),
    (
        "setpoint",
        &[
            "meta",
            "definition",
            "store",
            "store-embedded",
            "pki",
            "govern",
            "apiserver",
            "reconcile",
            "engine",
            "system",
            "inference",
            "agent",
            "gateway",
            "cli",
        ],
    ),
    ("engine-candle", &[]),
];

/// Directories in which every file is a feature, and the file that lists them.
const REGISTRIES: &[(&str, &str)] = &[
    ("crates/definition/src/builtin", "mod.rs"),
    ("crates/inference/src/kinds", "mod.rs"),
    ("crates/inference/src/reconcilers", "mod.rs"),
];

pub(crate) fn run() -> Result<()> {
    let mut problems = Vec::new();
    edges(&mut problems)?;
    files(&mut problems)?;
    registries(&mut problems)?;
    if problems.is_empty() {
        eprintln!("tidy: in order");
        return Ok(());
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    bail!("{} rules broken", problems.len())
}

fn edges(problems: &mut Vec<String>) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = short(package["name"].as_str().unwrap_or_default());
        if name == "xtask" {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            problems.push(format!("crate {name} is not in the table of edges (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let full = dependency["name"].as_str().unwrap_or_default();
            let ours = full == "setpoint" || full.starts_with("setpoint-");
            if ours && dependency["kind"] != "dev" && !allowed.contains(&short(full)) {
                problems.push(format!(
                    "crate {name} may not depend on {}: the table of edges is in xtask/src/tidy.rs",
                    short(full)
                ));
            }
        }
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_prefix("setpoint-").unwrap_or(name)
}

fn files(problems: &mut Vec<String>) -> Result<()> {
    let long: BTreeMap<&str, usize> = LONG.iter().copied().collect();
    // spelled in pieces so that this file does not break its own rules
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    for path in tracked()? {
        let name = path.to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if text.contains(concat!("/work", "/main")) {
            problems.push(format!("{name} names a path of somebody's machine"));
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let lines = text.lines().count();
        let limit = long.get(&*name).copied().unwrap_or(LINES);
        if lines > limit {
            problems.push(format!("{name} has {lines} lines, over {limit}: it has two concerns"));
        }
        for marker in markers.iter().filter(|m| text.contains(**m)) {
            problems.push(format!("{name} says {marker}: finish it or write an issue"));
        }
    }
    Ok(())
}

fn registries(problems: &mut Vec<String>) -> Result<()> {
    for (directory, registry) in REGISTRIES {
        let directory = Path::new(directory);
        let listing = std::fs::read_to_string(directory.join(registry))
            .with_context(|| format!("{} of {}", registry, directory.display()))?;
        for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else {
                continue;
            };
            let feature = path.extension().is_some_and(|e| e == "rs") && !matches!(stem, "mod" | "registry" | "tests");
            if feature && !listing.contains(stem) {
                problems.push(format!(
                    "{} is not in {}/{registry}",
                    path.display(),
                    directory.display()
                ));
            }
        }
    }
    Ok(())
}

fn tracked() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .output()
        .context("git ls-files")?;
    let names = output.stdout.split(|b| *b == 0).filter(|n| !n.is_empty());
    Ok(names
        .map(|n| PathBuf::from(String::from_utf8_lossy(n).into_owned()))
        .filter(|p| !p.to_string_lossy().ends_with(".json"))
        .collect())
}
