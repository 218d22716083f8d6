//! In which form and encoding an answer is given (API concepts, "Alternate representations of resources").

use http::{HeaderMap, header};
use setpoint_meta::status::Status;

use crate::Answer;

/// The form of an object or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Object,
    /// meta.k8s.io/v1 Table.
    Table,
    /// meta.k8s.io/v1 PartialObjectMetadata (or its list).
    Metadata,
}

/// The encoding of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// application/json
    Json,
    /// application/json, indented (`?pretty=true`).
    PrettyJson,
    /// application/yaml
    Yaml,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The form.
    pub(crate) form: Form,
    /// The encoding.
    pub(crate) encoding: Encoding,
}

/// The media types that a request may name, as errors list them.
pub(crate) const ACCEPTED: &[&str] = &["application/json", "application/yaml"];

impl Negotiated {
    /// Reads `Accept`. The first clause that can be met wins; clients order them. `forms`: whether Tables and partial metadata make
    /// sense for what is asked.
    pub(crate) fn from_headers(headers: &HeaderMap, pretty: bool, forms: bool) -> Answer<Self> {
        let json = if pretty { Encoding::PrettyJson } else { Encoding::Json };
        let accept = headers.get_all(header::ACCEPT);
        let mut clauses = accept
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .peekable();
        if clauses.peek().is_none() {
            return Ok(Self {
                form: Form::Object,
                encoding: json,
            });
        }
        clauses
            .find_map(|clause| Self::clause(clause, json, forms))
            .ok_or_else(|| Status::not_acceptable(ACCEPTED).into())
    }

    fn clause(clause: &str, json: Encoding, forms: bool) -> Option<Self> {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next()? {
            "application/json" | "application/*" | "*/*" => json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let (mut form, mut version, mut group) = ("", "", "");
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("as", value)) => form = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                Some(("stream", _)) if form.is_empty() => {}
                _ => {}
            }
        }
        let form = match form {
            "" => Form::Object,
            _ if !forms || group != "meta.k8s.io" || version != "v1" => return None,
            "Table" => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata,
            _ => return None,
        };
        Some(Self { form, encoding })
    }

    /// The `Content-Type` of the answer.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json | Encoding::PrettyJson => "application/json",
            Encoding::Yaml => "application/yaml",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Option<(Form, Encoding)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        Negotiated::from_headers(&headers, false, true)
            .ok()
            .map(|n| (n.form, n.encoding))
    }

    #[test]
    fn what_clients_send() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl), Some((Form::Table, Encoding::Json)));
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf, application/json"),
            Some((Form::Object, Encoding::Json))
        );
        assert_eq!(
            accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some((Form::Metadata, Encoding::Json))
        );
        assert_eq!(accept("application/yaml"), Some((Form::Object, Encoding::Yaml)));
        assert_eq!(accept("*/*"), Some((Form::Object, Encoding::Json)));
        assert_eq!(accept("text/html"), None);
        assert_eq!(accept("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(accept("application/json;as=Table;v=v2;g=meta.k8s.io"), None);
    }
}
