//! The options of reads, parsed and checked (meta/v1 ListOptions; KEP-365 paging, KEP-2340 resourceVersion semantics).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use setpoint_meta::{
    Revision,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};

use crate::{Answer, request::Query};

/// What state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Everything acknowledged before the request.
    Consistent,
    /// Whatever is at hand.
    Any,
    /// This revision or a later one.
    NotOlderThan(Revision),
    /// Exactly this revision.
    Exact(Revision),
}

/// Where a page goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continue {
    /// The format, as Kubernetes writes it.
    v: String,
    /// The revision of the first page; -1: whatever is current (an inconsistent continuation).
    pub(crate) rv: i64,
    /// The key after which to go on, relative to the resource's prefix.
    pub(crate) start: String,
}

impl Continue {
    pub(crate) fn new(revision: Option<Revision>, start: &str) -> Self {
        let rv = revision.and_then(|r| i64::try_from(r.get()).ok()).unwrap_or(-1);
        Self {
            v: "meta.k8s.io/v1".into(),
            rv,
            start: start.into(),
        }
    }

    pub(crate) fn encode(&self) -> String {
        // a struct of strings and a number always serializes
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Option<Self> {
        let token: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?).ok()?;
        let plain = token.v == "meta.k8s.io/v1"
            && !token.start.starts_with('/')
            && !token.start.split('/').any(|s| s == "..")
            && (token.rv == -1 || token.rv > 0);
        plain.then_some(token)
    }
}

/// The options of list, watch and deletecollection.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) at: At,
    pub(crate) limit: usize,
    pub(crate) go_on: Option<Continue>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) bookmarks: bool,
    /// `Some(true)`: the watch begins with the state and says when it is through (KEP-3157).
    pub(crate) initial_events: Option<bool>,
    /// The resourceVersion as given, for watches.
    pub(crate) version: Option<Revision>,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, watch: bool) -> Answer<Self> {
        let refuse = |message: String| Box::new(Status::bad_request(message));
        let labels =
            LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(|e| refuse(e.to_string()))?;
        let fields =
            FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(|e| refuse(format!("{e}")))?;
        let version = query
            .get("resourceVersion")
            .map(str::parse::<Revision>)
            .transpose()
            .map_err(|e| refuse(e.to_string()))?;
        let go_on = query
            .get("continue")
            .map(|text| {
                Continue::decode(text).ok_or_else(|| {
                    refuse("continue key is not valid: it must be the value that a list answered".into())
                })
            })
            .transpose()?;
        let limit = query.number::<i64>("limit")?.unwrap_or(0);
        let limit = usize::try_from(limit).map_err(|_| refuse("limit must not be negative".into()))?;
        let initial_events = query.get("sendInitialEvents").map(|v| !matches!(v, "false" | "0"));
        let matching = query.get("resourceVersionMatch");
        check(watch, version, matching, go_on.as_ref(), initial_events)?;
        let at = match (version, matching) {
            (Some(r), Some("Exact")) => At::Exact(r),
            (Some(r), None) if r > Revision::ZERO && limit > 0 => At::Exact(r),
            (None, _) => At::Consistent,
            (Some(Revision::ZERO), _) => At::Any,
            (Some(r), _) => At::NotOlderThan(r),
        };
        let timeout = query
            .number::<u64>("timeoutSeconds")?
            .filter(|s| *s > 0)
            .map(Duration::from_secs);
        Ok(Self {
            labels,
            fields,
            at,
            limit,
            go_on,
            timeout,
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events,
            version,
        })
    }
}

/// The combinations that Kubernetes' ValidateListOptions refuses.
fn check(
    watch: bool,
    version: Option<Revision>,
    matching: Option<&str>,
    go_on: Option<&Continue>,
    initial: Option<bool>,
) -> Answer<()> {
    let refuse = |field: &str, why: &str| Err(Box::new(Status::bad_request(format!("{field}: Forbidden: {why}"))));
    match (watch, matching) {
        (_, None | Some("NotOlderThan" | "Exact")) => {}
        (_, Some(other)) => {
            return Err(Box::new(Status::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            ))));
        }
    }
    if watch {
        if initial.is_some() && matching != Some("NotOlderThan") {
            return refuse(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        if initial.is_none() && matching.is_some() {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        return Ok(());
    }
    if initial.is_some() {
        return refuse("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if go_on.is_some() && version.is_some_and(|r| r != Revision::ZERO) {
        return Err(Box::new(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        )));
    }
    if matching.is_some() && version.is_none() {
        return refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
    }
    if matching.is_some() && go_on.is_some() {
        return refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden when continue is provided",
        );
    }
    if matching == Some("Exact") && version == Some(Revision::ZERO) {
        return refuse(
            "resourceVersionMatch",
            "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(query: &str) -> Result<At, String> {
        ListOptions::parse(&Query::parse(query), query.contains("watch"))
            .map(|o| o.at)
            .map_err(|s| s.message)
    }

    #[test]
    fn resource_version_semantics() {
        assert_eq!(at(""), Ok(At::Consistent));
        assert_eq!(at("limit=5"), Ok(At::Consistent));
        assert_eq!(at("resourceVersion=0"), Ok(At::Any));
        assert_eq!(at("resourceVersion=0&limit=5"), Ok(At::Any));
        assert_eq!(at("resourceVersion=7"), Ok(At::NotOlderThan(Revision::new(7))));
        assert_eq!(at("resourceVersion=7&limit=5"), Ok(At::Exact(Revision::new(7))));
        assert_eq!(
            at("resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan"),
            Ok(At::NotOlderThan(Revision::new(7)))
        );
        let token = Continue::new(Some(Revision::new(3)), "ns/a").encode();
        for bad in [
            "resourceVersion=x",
            "resourceVersion=-1",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Sometimes&resourceVersion=1",
            "resourceVersion=0&resourceVersionMatch=Exact",
            &format!("continue={token}&resourceVersion=7"),
            "continue=nonsense",
            "limit=-1",
            "limit=x",
            "sendInitialEvents=true",
            "watch=1&sendInitialEvents=true",
            "watch=1&resourceVersionMatch=NotOlderThan",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
        assert_eq!(at(&format!("continue={token}&resourceVersion=0")), Ok(At::Any));
    }

    #[test]
    fn continue_tokens_round_trip_and_cannot_climb() {
        let token = Continue::new(Some(Revision::new(9)), "ns/name");
        assert_eq!(Continue::decode(&token.encode()), Some(token));
        for start in ["/x", "a/../b"] {
            assert_eq!(Continue::decode(&Continue::new(None, start).encode()), None);
        }
    }
}
