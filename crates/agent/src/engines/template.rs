//! The templates of commands, arguments and variables: `{model}`, `{host}`, `{port}`, `{name}`, `{devices}`; `{{` and `}}` for braces.

use super::{EngineError, Launch};

/// Fills in one template. `field` is named when it is wrong.
pub(super) fn expand(field: &str, text: &str, launch: &Launch<'_>) -> Result<String, EngineError> {
    let wrong = |message: String| EngineError::Template {
        field: field.to_owned(),
        message,
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
        } else if brace == "{"
            && let Some(end) = rest.find('}')
        {
            let name = &rest[..end];
            let value = value(name, launch).ok_or_else(|| {
                wrong(format!("{{{name}}} is no placeholder; there are {{model}}, {{host}}, {{port}}, {{name}} and {{devices}}, and a literal brace is doubled"))
            })?;
            out.push_str(&value);
            rest = &rest[end + 1..];
        } else {
            return Err(wrong(format!(
                "the brace {brace} in {text:?} has no partner; a literal brace is doubled"
            )));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Fills in each template of a list.
pub(super) fn expand_all(field: &str, texts: &[String], launch: &Launch<'_>) -> Result<Vec<String>, EngineError> {
    let each = texts.iter().enumerate();
    each.map(|(i, text)| expand(&format!("{field}[{i}]"), text, launch))
        .collect()
}

fn value(name: &str, launch: &Launch<'_>) -> Option<String> {
    Some(match name {
        "model" => launch.model.display().to_string(),
        "host" => launch.host.to_string(),
        "port" => launch.port.to_string(),
        "name" => launch.replica.spec.model.name.clone(),
        "devices" => launch.devices(),
        _ => return None,
    })
}
