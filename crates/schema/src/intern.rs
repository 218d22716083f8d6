//! One allocation for equal schemas.
//!
//! Nodes are interned bottom-up, so that two nodes are equal exactly if their own data are and their children are the same
//! allocations: hashing and comparing a node never walks below it. The table holds weak references, and sweeps out dead ones when it
//! has doubled since the last sweep: its size stays within twice the number of live nodes (plus [`FLOOR`]).

use crate::schema::Schema;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

/// Entries below which no sweep is worth it.
const FLOOR: usize = 1024;

#[derive(Default)]
struct Table {
    nodes: HashMap<u64, Vec<Weak<Schema>>>,
    entries: usize,
    sweep_at: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// The one allocation of this schema. Its children must be interned, or it is merely not shared.
pub(crate) fn intern(schema: Schema) -> Arc<Schema> {
    if schema.recursion.is_some() {
        return Arc::new(schema);
    }
    let key = fingerprint(&schema);
    // Nothing panics while the lock is held but for memory running out; the table is whole between statements in any case.
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let known = table
        .nodes
        .get(&key)
        .and_then(|same| same.iter().filter_map(Weak::upgrade).find(|n| same_node(n, &schema)));
    if let Some(node) = known {
        return node;
    }
    let node = Arc::new(schema);
    table.nodes.entry(key).or_default().push(Arc::downgrade(&node));
    table.entries += 1;
    if table.entries > table.sweep_at.max(FLOOR) {
        sweep(&mut table);
    }
    node
}

fn sweep(table: &mut Table) {
    let mut live = 0;
    table.nodes.retain(|_, same| {
        same.retain(|node| node.strong_count() > 0);
        live += same.len();
        !same.is_empty()
    });
    table.entries = live;
    table.sweep_at = live * 2;
}

/// `==` asks the same of nodes whose children are interned, and stops at shared ones (`Arc` compares by pointer first).
fn same_node(a: &Schema, b: &Schema) -> bool {
    a == b
}

fn fingerprint(schema: &Schema) -> u64 {
    let mut h = DefaultHasher::new();
    let child = |node: &Arc<Schema>, h: &mut DefaultHasher| Arc::as_ptr(node).hash(h);
    let flags = [
        schema.nullable,
        schema.int_or_string,
        schema.closed,
        schema.preserve_unknown_fields,
        schema.embedded_resource,
    ];
    (schema.ty, flags, schema.list_type, schema.map_type).hash(&mut h);
    for (name, node) in &schema.properties {
        name.hash(&mut h);
        child(node, &mut h);
    }
    schema
        .additional
        .iter()
        .chain(&schema.items)
        .for_each(|node| child(node, &mut h));
    (
        &schema.required,
        &schema.default,
        &schema.format,
        &schema.enum_values,
        &schema.rules,
    )
        .hash(&mut h);
    if let Some(value) = &schema.value {
        let sizes = [
            value.min_length,
            value.max_length,
            value.min_items,
            value.max_items,
            value.min_properties,
            value.max_properties,
        ];
        sizes.hash(&mut h);
        value.pattern.as_ref().map(|p| p.as_str()).hash(&mut h);
        value
            .all_of
            .iter()
            .chain(&value.any_of)
            .chain(&value.one_of)
            .chain(&value.not)
            .for_each(|n| child(n, &mut h));
    }
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Type;
    use serde_json::json;

    #[test]
    fn equal_schemas_are_one_allocation() {
        let leaf = |max| json!({"type": "object", "properties": {"x": {"type": "string", "maxLength": max}}});
        let read = |max| Schema::from_crd(&json!({"type": "object", "properties": {"spec": leaf(max)}})).unwrap();
        let (a, b, c) = (read(7), read(7), read(8));
        assert!(Arc::ptr_eq(&a.properties["spec"], &b.properties["spec"]));
        assert!(!Arc::ptr_eq(&a.properties["spec"], &c.properties["spec"]));
    }

    #[test]
    fn dead_schemas_leave_the_table() {
        for i in 0..10 * FLOOR {
            intern(Schema {
                ty: Type::String,
                required: vec![format!("only here {i}")],
                ..Schema::default()
            });
        }
        let table = TABLE.lock().unwrap();
        // Other tests keep few nodes alive.
        assert!(table.entries < 4 * FLOOR, "{}", table.entries);
    }
}
