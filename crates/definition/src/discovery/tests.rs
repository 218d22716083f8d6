use super::*;
use serde_json::{Value, json};

use crate::builtin;
use crate::resource::Origin;

fn defs() -> Vec<Arc<ResourceDefinition>> {
    let mut defs: Vec<Arc<ResourceDefinition>> = builtin::all().into_iter().map(Arc::new).collect();
    let crd = crate::crd::tests::sample();
    defs.push(Arc::new(
        ResourceDefinition::from_crd(&crd, Origin::CustomResource).unwrap(),
    ));
    defs
}

#[test]
fn golden() {
    let defs = defs();
    insta::assert_json_snapshot!("api", api_versions(&defs, "127.0.0.1:6443"));
    insta::assert_json_snapshot!("apis", api_group_list(&defs));
    insta::assert_json_snapshot!("api_v1", api_resource_list("", "v1", &defs).unwrap());
    insta::assert_json_snapshot!(
        "apis_stable_example_com",
        api_group("stable.example.com", &defs).unwrap()
    );
    insta::assert_json_snapshot!(
        "apis_stable_example_com_v1",
        api_resource_list("stable.example.com", "v1", &defs).unwrap()
    );
    insta::assert_json_snapshot!("aggregated_api", aggregated_api(&defs));
    insta::assert_json_snapshot!("aggregated_apis", aggregated_apis(&defs));
}

#[test]
fn what_is_not_served_is_not_there() {
    let defs = defs();
    assert_eq!(api_group("", &defs), None);
    assert_eq!(api_group("absent.example.com", &defs), None);
    assert_eq!(api_resource_list("stable.example.com", "v2", &defs), None);
    let mut unserved = (**defs.last().unwrap()).clone();
    for version in &mut unserved.versions {
        version.served = false;
    }
    assert_eq!(api_group("stable.example.com", &[Arc::new(unserved)]), None);
}

#[test]
fn the_order_of_definitions_does_not_matter() {
    let defs = defs();
    let reversed: Vec<_> = defs.iter().rev().cloned().collect();
    assert_eq!(aggregated_apis(&defs), aggregated_apis(&reversed));
}

/// The hashes that a Kubernetes server answers for these kinds.
#[test]
fn storage_version_hashes_are_those_of_kubernetes() {
    let hash = |group: &str, plural: &str| {
        let defs = builtin::all();
        storage_version_hash(
            defs.iter()
                .find(|def| &*def.group == group && &*def.plural == plural)
                .unwrap(),
        )
    };
    assert_eq!(hash("", "configmaps"), "qFsyl6wFWjQ=");
    assert_eq!(hash("", "namespaces"), "Q3oi5N2YM8M=");
    assert_eq!(hash("", "secrets"), "S6u1pOWzb84=");
    assert_eq!(hash("events.k8s.io", "events"), hash("", "events"));
}

#[test]
fn etags_are_quoted_hex() {
    assert_eq!(
        etag(b""),
        "\"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\""
    );
}

#[test]
fn every_entry_names_what_clients_need() {
    let document = aggregated_apis(&defs());
    let items: Vec<&Value> = document["items"].as_array().unwrap().iter().collect();
    assert!(items.iter().all(|group| group["metadata"]["name"] != json!("")));
}
