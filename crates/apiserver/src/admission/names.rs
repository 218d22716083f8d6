//! A CustomResourceDefinition may not take a name that is taken: that of a kind which Kubernetes or Setpoint brings, since it would stand
//! in its place and be judged by its rules; or one of another definition in its group.
//!
//! Kubernetes stores the second kind of conflict and says so in a condition; here it is refused when it is made.

use serde_json::Value;
use setpoint_definition::Origin;
use setpoint_meta::{
    field::{FieldError, Path},
    object,
    status::Status,
};

use super::{Attributes, Operation};
use crate::Answer;

pub(super) fn admit(attributes: &Attributes<'_>) -> Answer<()> {
    let cx = attributes.cx;
    let definition = cx.definition();
    let is_crd = &*definition.plural == "customresourcedefinitions" && &*definition.group == "apiextensions.k8s.io";
    let Some(new) = attributes
        .new
        .filter(|_| is_crd && attributes.operation != Operation::Delete)
    else {
        return Ok(());
    };
    let (group, names) = (new["spec"]["group"].as_str().unwrap_or_default(), &new["spec"]["names"]);
    let text = |key: &str| names[key].as_str().unwrap_or_default();
    let wanted: Vec<&str> = [text("plural"), text("singular")]
        .into_iter()
        .chain(
            names["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str),
        )
        .filter(|name| !name.is_empty())
        .collect();
    for other in cx
        .server
        .kinds
        .current()
        .definitions()
        .iter()
        .filter(|d| *d.group == *group)
    {
        let own =
            other.origin == Origin::CustomResource && format!("{}.{}", other.plural, other.group) == object::name(new);
        if own {
            continue;
        }
        let taken = |name: &&&str| {
            ***name == *other.plural
                || ***name == *other.singular
                || other.short_names.iter().any(|short| *short == ***name)
        };
        let clash = wanted.iter().find(taken).copied();
        let clash = clash.or_else(|| {
            [text("kind"), text("listKind")]
                .into_iter()
                .find(|k| *k == &*other.kind || *k == &*other.list_kind)
        });
        if let Some(name) = clash {
            let detail = format!("{name:?} is already in use by {}", other.group_resource());
            let error = FieldError::invalid(Path::new("spec").child("names"), name, detail);
            return Err(Status::invalid(&definition.gvk(cx.version()), object::name(new), vec![error]).into());
        }
    }
    Ok(())
}
