//! Impersonation: a request that acts as somebody else, by headers, if RBAC's verb `impersonate` allows each part.
//!
//! Source: Kubernetes' authentication documentation, "User impersonation".

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::percent_decode_str;
use setpoint_meta::Status;

use crate::{
    Attributes, UserInfo,
    authz::Authorizer,
    user::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, split_service_account},
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";

/// The most groups and extra values together: each costs an authorization.
pub const MAX_VALUES: usize = 256;

/// As whom a request wants to act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads the request's headers, given as name and value. `None` when none of them asks for impersonation. A header whose value
    /// is not text must be given with an empty value, not left out: leaving it out would drop the wish.
    ///
    /// # Errors
    /// 400 for groups, uid or extras without a user, for two users or uids, and for too many values.
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, Status> {
        let mut wanted = Self::default();
        let mut asked = false;
        let mut values = 0;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if !name.starts_with("impersonate-") {
                continue;
            }
            asked = true;
            values += 1;
            if values > MAX_VALUES {
                return Err(Status::bad_request("too many impersonation headers"));
            }
            match name.as_str() {
                USER => set_once(&mut wanted.user, "Impersonate-User", value)?,
                UID => set_once(&mut wanted.uid, "Impersonate-Uid", value)?,
                GROUP => wanted.groups.push(value.to_owned()),
                other => {
                    let Some(key) = other.strip_prefix(EXTRA) else {
                        let message = format!("unknown impersonation header {name:?}");
                        return Err(Status::bad_request(message));
                    };
                    let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
                    wanted.extra.entry(key).or_default().push(value.to_owned());
                }
            }
        }
        if asked && wanted.user.is_empty() {
            let message = "impersonation headers without impersonating a user: set Impersonate-User";
            return Err(Status::bad_request(message));
        }
        Ok(asked.then_some(wanted))
    }

    /// The user that the request acts as from now on, if `requester` may impersonate each part of it.
    ///
    /// # Errors
    /// 403 naming the part.
    pub fn authorize(self, requester: &UserInfo, authorizer: &Authorizer) -> Result<UserInfo, Status> {
        let check = |attributes: Attributes<'_>| {
            let decision = authorizer.authorize(&attributes);
            match decision.is_allowed() {
                true => Ok(()),
                false => Err(attributes.forbidden(decision.reason())),
            }
        };
        let ask = |group, resource| Attributes::resource(requester, "impersonate", group, resource);
        let account = split_service_account(&self.user);
        match account {
            Some((namespace, name)) => {
                check(ask("", "serviceaccounts").in_namespace(namespace).named(name))?;
            }
            None => check(ask("", "users").named(&self.user))?,
        }
        if !self.uid.is_empty() {
            check(ask(AUTHENTICATION_GROUP, "uids").named(&self.uid))?;
        }
        for group in self.groups.iter().collect::<BTreeSet<_>>() {
            check(ask("", "groups").named(group))?;
        }
        for (key, values) in &self.extra {
            for value in values {
                let extra = ask(AUTHENTICATION_GROUP, "userextras").subresource(key);
                check(extra.named(value))?;
            }
        }
        let groups = match (account, self.groups.as_slice()) {
            // Its own groups come with the account, unless the request chose groups.
            (Some((namespace, _)), []) => vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")],
            _ => self.groups,
        };
        let mut user = UserInfo {
            name: self.user,
            uid: self.uid,
            groups,
            extra: self.extra,
        };
        if user.name == ANONYMOUS {
            user.join(UNAUTHENTICATED);
        } else if !user.is_in(UNAUTHENTICATED) {
            user.join(AUTHENTICATED);
        }
        Ok(user)
    }
}

fn set_once(slot: &mut String, header: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() || !slot.is_empty() {
        return Err(Status::bad_request(format!(
            "{header} must be given once, and not empty"
        )));
    }
    value.clone_into(slot);
    Ok(())
}
