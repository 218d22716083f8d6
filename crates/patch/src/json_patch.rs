//! JSON patch (RFC 6902), with the latitude and the error texts of the library that Kubernetes uses.
//!
//! *Guarantees*: bounded work whatever the patch says, by [`MAX_OPERATIONS`], [`MAX_COPY_BYTES`], [`MAX_DEPTH`] and [`MAX_MOVED_NODES`];
//! the result nests no deeper than [`MAX_DEPTH`] if the target did not. *Assumes*: the target and each value of the patch nest at most
//! [`MAX_DEPTH`] deep. On an error the target is left with the operations before the failing one applied: **throw it away**. (Callers
//! patch a copy of the stored object in any case; a rollback would cost every good patch something.)
//!
//! *Where Kubernetes is laxer than the RFC, so are we*: `replace` of a member that an object lacks adds it; an index may be negative and
//! counts from the end (`add` at `-1` appends); a missing `value` is `null`; `test` takes an absent member for `null`; `copy` of an
//! absent member gives `null`. *Where it is laxer by accident, we are not*: a pointer that does not begin with `/` is refused, where
//! Kubernetes ignores what stands before the first slash and so patches a place that the user did not mean.

use serde_json::{Map, Value};

use crate::PatchError;

/// Most operations in one patch, as in Kubernetes. Each is at worst one shift of a list of at most a request body's size: 10,000 of
/// them over 3 MiB move less than 30 GiB in the worst case that can be written down, and microseconds in practice.
pub const MAX_OPERATIONS: usize = 10_000;

/// Most bytes (of JSON text) that the `copy` operations of one patch may add, as in Kubernetes: 3 MiB, the size of a request body.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Most levels of nesting in the result: the bound of the decoder, so that what was stored can be read again. Without it, `copy` and
/// `move` could nest a value in itself until a recursive walk of the object ends the process.
pub const MAX_DEPTH: usize = 100;

/// Most values that are visited to measure the depth of what `move` puts deeper than it was. 10,000 moves of a 3 MiB list would visit
/// 10⁹ values, seconds of work; this bound keeps it under 50 ms.
pub const MAX_MOVED_NODES: usize = 4_000_000;

/// Decodes a JSON patch and applies it in place.
///
/// # Errors
/// [`PatchError::BadRequest`] if it is not JSON, or no list of objects; [`PatchError::TooLarge`] if it goes over a bound;
/// [`PatchError::Unprocessable`] if an operation does not apply or a `test` fails.
pub fn json_patch(target: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|error| PatchError::BadRequest(format!("error decoding patch: {error}")))?;
    json_patch_value(target, &patch)
}

/// Applies a JSON patch that is decoded already: see [`json_patch`].
///
/// # Errors
/// As [`json_patch`].
pub fn json_patch_value(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().ok_or_else(|| {
        PatchError::BadRequest("error decoding patch: a JSON patch is a list of operations".to_owned())
    })?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut spent = Spent::default();
    for operation in operations {
        let operation = operation.as_object().ok_or_else(|| {
            PatchError::BadRequest("error decoding patch: an operation of a JSON patch is an object".to_owned())
        })?;
        apply_operation(target, operation, &mut spent)?;
    }
    Ok(())
}

/// What the operations so far have used of the bounds.
#[derive(Default)]
struct Spent {
    copied_bytes: usize,
    moved_nodes: usize,
}

fn unprocessable(text: String) -> PatchError {
    PatchError::Unprocessable(text)
}

fn missing(text: std::fmt::Arguments<'_>) -> PatchError {
    unprocessable(format!("{text}: missing value"))
}

fn apply_operation(doc: &mut Value, operation: &Map<String, Value>, spent: &mut Spent) -> Result<(), PatchError> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    match kind {
        "add" => add(doc, operation),
        "remove" => remove(doc, operation),
        "replace" => replace(doc, operation),
        "move" => move_(doc, operation, spent),
        "copy" => copy(doc, operation, spent),
        "test" => test(doc, operation),
        other => Err(unprocessable(format!("Unexpected kind: {other}"))),
    }
}

/// A member of the operation that holds a pointer. `why` is what the error says was being done.
fn pointer<'a>(operation: &'a Map<String, Value>, member: &str, why: &str) -> Result<&'a str, PatchError> {
    operation
        .get(member)
        .and_then(Value::as_str)
        .ok_or_else(|| missing(format_args!("{why}")))
}

fn value_of(operation: &Map<String, Value>) -> Value {
    operation.get("value").cloned().unwrap_or(Value::Null)
}

/// The number of reference tokens of a pointer, so the depth at which its value lies.
fn depth_of_path(path: &str) -> usize {
    path.bytes().filter(|&b| b == b'/').count()
}

fn unescape(token: &str) -> String {
    if token.contains('~') {
        token.replace("~1", "/").replace("~0", "~")
    } else {
        token.to_owned()
    }
}

/// The container that holds what `path` points to, and its key there. `None` if a step on the way is absent or holds nothing.
fn parent<'a>(doc: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (steps, last) = path.strip_prefix('/').map(|rest| {
        rest.rsplit_once('/')
            .map_or((None, rest), |(steps, last)| (Some(steps), last))
    })?;
    let mut at = doc;
    for step in steps.into_iter().flat_map(|steps| steps.split('/')) {
        at = match at {
            Value::Object(object) => object.get_mut(&unescape(step))?,
            Value::Array(list) => {
                let index = existing_index(list.len(), &unescape(step)).ok()?;
                list.get_mut(index)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Object(_) | Value::Array(_)).then(|| (at, unescape(last)))
}

fn number(key: &str) -> Result<i64, String> {
    key.parse()
        .map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))
}

/// The position that `key` names among `len` places; negative counts from the end.
fn place(len: usize, key: &str) -> Result<usize, String> {
    let asked = number(key)?;
    let invalid = || format!("Unable to access invalid index: {asked}: invalid index referenced");
    let size = i64::try_from(len).map_err(|_| invalid())?;
    let index = if asked < 0 { asked + size } else { asked };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < len)
        .ok_or_else(invalid)
}

fn existing_index(len: usize, key: &str) -> Result<usize, String> {
    place(len, key)
}

/// The member, `None` where an object lacks it.
fn get<'a>(container: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match container {
        Value::Array(list) => existing_index(list.len(), key).map(|index| list.get(index)),
        container => Ok(container.get(key)),
    }
}

fn put(container: &mut Value, key: String, value: Value) -> Result<(), String> {
    match container {
        Value::Object(object) => {
            object.insert(key, value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            number(&key).map_err(|error| format!("value was not a proper array index: '{key}': {error}"))?;
            let index = place(list.len() + 1, &key)?;
            list.insert(index, value);
        }
        _ => {}
    }
    Ok(())
}

fn take(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(object) => object
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(list) => existing_index(list.len(), key).map(|index| list.remove(index)),
        _ => Ok(Value::Null),
    }
}

fn too_deep() -> PatchError {
    PatchError::TooLarge(format!(
        "the patched object would nest more than {MAX_DEPTH} levels deep"
    ))
}

/// Whether `value` nests at most `limit` levels; counts what it visits in `visited`.
fn fits(value: &Value, limit: usize, visited: &mut usize) -> bool {
    *visited += 1;
    match value {
        Value::Array(list) => limit > 0 && list.iter().all(|item| fits(item, limit - 1, visited)),
        Value::Object(object) => limit > 0 && object.values().all(|member| fits(member, limit - 1, visited)),
        _ => true,
    }
}

fn check_depth(value: &Value, path: &str) -> Result<(), PatchError> {
    let room = MAX_DEPTH.checked_sub(depth_of_path(path)).ok_or_else(too_deep)?;
    if fits(value, room, &mut 0) {
        Ok(())
    } else {
        Err(too_deep())
    }
}

fn add(doc: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = pointer(operation, "path", "add operation failed to decode path")?;
    let value = value_of(operation);
    check_depth(&value, path)?;
    let (container, key) = parent(doc, path).ok_or_else(|| {
        missing(format_args!(
            "add operation does not apply: doc is missing path: \"{path}\""
        ))
    })?;
    put(container, key, value).map_err(|error| unprocessable(format!("error in add for path: '{path}': {error}")))
}

fn remove(doc: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = pointer(operation, "path", "remove operation failed to decode path")?;
    let (container, key) = parent(doc, path).ok_or_else(|| {
        missing(format_args!(
            "remove operation does not apply: doc is missing path: \"{path}\""
        ))
    })?;
    match take(container, &key) {
        Ok(_) => Ok(()),
        Err(error) => Err(unprocessable(format!("error in remove for path: '{path}': {error}"))),
    }
}

fn replace(doc: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = pointer(
        operation,
        "path",
        "replace operation failed to decode path: operation missing path field",
    )?;
    let value = value_of(operation);
    check_depth(&value, path)?;
    if path.is_empty() {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return Err(unprocessable(
                "replace operation value must be object or array".to_owned(),
            ));
        }
        *doc = value;
        return Ok(());
    }
    let (container, key) = parent(doc, path).ok_or_else(|| {
        missing(format_args!(
            "replace operation does not apply: doc is missing path: {path}"
        ))
    })?;
    match container {
        Value::Array(list) => {
            let index = existing_index(list.len(), &key).map_err(|_| {
                missing(format_args!(
                    "replace operation does not apply: doc is missing key: {path}"
                ))
            })?;
            list[index] = value;
        }
        Value::Object(object) => {
            object.insert(key, value);
        }
        _ => {}
    }
    Ok(())
}

fn move_(doc: &mut Value, operation: &Map<String, Value>, spent: &mut Spent) -> Result<(), PatchError> {
    let from = pointer(
        operation,
        "from",
        "move operation failed to decode from: operation, missing from field",
    )?;
    let (container, key) = parent(doc, from).ok_or_else(|| {
        missing(format_args!(
            "move operation does not apply: doc is missing from path: {from}"
        ))
    })?;
    let value =
        take(container, &key).map_err(|error| unprocessable(format!("error in move for path: '{key}': {error}")))?;
    let path = pointer(
        operation,
        "path",
        "move operation failed to decode path: operation missing path field",
    )?;
    // What moves up or sideways cannot make the object deeper; only what moves down has to be measured.
    if depth_of_path(path) > depth_of_path(from) {
        let room = MAX_DEPTH.checked_sub(depth_of_path(path)).ok_or_else(too_deep)?;
        if !fits(&value, room, &mut spent.moved_nodes) {
            return Err(too_deep());
        }
        if spent.moved_nodes > MAX_MOVED_NODES {
            return Err(PatchError::TooLarge(format!(
                "the move operations of the patch move more than {MAX_MOVED_NODES} values"
            )));
        }
    }
    let (container, key) = parent(doc, path).ok_or_else(|| {
        missing(format_args!(
            "move operation does not apply: doc is missing destination path: {path}"
        ))
    })?;
    put(container, key, value).map_err(|error| unprocessable(format!("error in move for path: '{path}': {error}")))
}

fn copy(doc: &mut Value, operation: &Map<String, Value>, spent: &mut Spent) -> Result<(), PatchError> {
    let from = pointer(
        operation,
        "from",
        "copy operation failed to decode from: operation, missing from field",
    )?;
    let (container, key) = parent(doc, from).ok_or_else(|| {
        missing(format_args!(
            "copy operation does not apply: doc is missing from path: {from}"
        ))
    })?;
    let source =
        get(container, &key).map_err(|error| unprocessable(format!("error in copy for from: '{from}': {error}")))?;
    spent.copied_bytes = spent.copied_bytes.saturating_add(source.map_or(0, encoded_len));
    if spent.copied_bytes > MAX_COPY_BYTES {
        return Err(PatchError::TooLarge(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPY_BYTES}",
            spent.copied_bytes
        )));
    }
    let value = source.cloned().unwrap_or(Value::Null);
    let path = pointer(operation, "path", "copy operation failed to decode path")?;
    check_depth(&value, path)?;
    let (container, key) = parent(doc, path).ok_or_else(|| {
        missing(format_args!(
            "copy operation does not apply: doc is missing destination path: {path}"
        ))
    })?;
    put(container, key, value).map_err(|error| unprocessable(format!("error while adding value during copy: {error}")))
}

fn test(doc: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = pointer(
        operation,
        "path",
        "test operation failed to decode path: operation missing path field",
    )?;
    let want = operation.get("value").unwrap_or(&Value::Null);
    let failed = || unprocessable(format!("testing value {path} failed: test failed"));
    if path.is_empty() {
        return if doc == want { Ok(()) } else { Err(failed()) };
    }
    let (container, key) = parent(doc, path)
        .ok_or_else(|| missing(format_args!("test operation does not apply: is missing path: {path}")))?;
    let got =
        get(container, &key).map_err(|error| unprocessable(format!("error in test for path: '{path}': {error}")))?;
    if got.unwrap_or(&Value::Null) == want {
        Ok(())
    } else {
        Err(failed())
    }
}

/// The length of the JSON text of `value`, in bytes, without writing it.
fn encoded_len(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Writing a `Value` to a counter cannot fail; if it did, the largest size is the safe answer.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
#[path = "json_patch_tests.rs"]
mod tests;
