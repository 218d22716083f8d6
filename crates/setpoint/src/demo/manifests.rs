//! `examples/inference/`, applied as a user would apply it: server-side, file by file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    discovery::{Discovery, Scope},
};

pub(super) const NAMESPACE: &str = "team-a";
pub(super) const DEPLOYMENT: &str = "chat";
pub(super) const MODEL: &str = "smollm2-135m";

/// Where the examples are: in the working directory, or in the checkout that this program was built from.
pub(super) fn directory() -> Result<PathBuf> {
    let here = Path::new("examples/inference");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/inference");
    [here.to_owned(), built]
        .into_iter()
        .find(|d| d.is_dir())
        .context("examples/inference/ is not here: run the demo in a checkout of Setpoint")
        .and_then(|d| Ok(d.canonicalize()?))
}

/// The workers' files.
pub(super) fn workers(examples: &Path) -> Result<Vec<PathBuf>> {
    files(&examples.join("workers"))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("there are no YAML files in {}", directory.display());
    }
    Ok(files)
}

/// Applies every object of every file, in order.
pub(super) async fn apply(client: &Client, examples: &Path) -> Result<()> {
    let discovery = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .context("cannot ask the server which kinds it serves")?;
    for file in files(examples)? {
        let text = std::fs::read_to_string(&file)?;
        let objects: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", file.display()))?;
        for object in objects.into_iter().filter(|o| !o.is_null()) {
            let object: DynamicObject = serde_json::from_value(object)
                .with_context(|| format!("{} holds something that is no object", file.display()))?;
            apply_one(client, &discovery, &object)
                .await
                .with_context(|| format!("cannot apply {} of {}", object.name_any(), file.display()))?;
        }
    }
    Ok(())
}

async fn apply_one(client: &Client, discovery: &Discovery, object: &DynamicObject) -> Result<()> {
    let types = object.types.as_ref().context("the object has no apiVersion and kind")?;
    let gvk = kube::core::GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = discovery
        .resolve_gvk(&gvk)
        .with_context(|| format!("the server serves no {}", gvk.kind))?;
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (Scope::Namespaced, namespace) => {
            Api::namespaced_with(client.clone(), namespace.as_deref().unwrap_or("default"), &resource)
        }
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    };
    let parameters = PatchParams::apply("setpoint-demo").force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await?;
    eprintln!("applied {}/{}", gvk.kind.to_lowercase(), object.name_any());
    Ok(())
}
