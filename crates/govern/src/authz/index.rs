//! The index from a subject to the rules that bindings give it.
//!
//! Roles live in numbered slots, and bindings refer to slots, so changing a role touches one slot, however many bindings name it.
//! A binding may come before its role: the slot is then empty. Each subject has one set of roles for the cluster and one for each
//! namespace in which a RoleBinding names it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::RwLock;
use serde_json::Value;
use setpoint_meta::{GroupResource, object, quote::quoted};

use super::{
    GROUP,
    aggregate::{Member, resolve},
    rule::{ALL, PolicyRule, has, has_or_all},
};
use crate::{
    Attributes, Decision, UserInfo,
    user::{MASTERS, service_account_user},
};

/// The most missing roles that a reason names: a reason goes into the response and the audit log.
const MAX_ERRORS: usize = 8;

/// The four kinds of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum RbacKind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl RbacKind {
    /// The kind with this name.
    pub fn parse(kind: &str) -> Option<Self> {
        Some(match kind {
            "Role" => Self::Role,
            "ClusterRole" => Self::ClusterRole,
            "RoleBinding" => Self::RoleBinding,
            "ClusterRoleBinding" => Self::ClusterRoleBinding,
            _ => return None,
        })
    }

    /// As in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
            Self::RoleBinding => "RoleBinding",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }

    /// As in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Role => "roles",
            Self::ClusterRole => "clusterroles",
            Self::RoleBinding => "rolebindings",
            Self::ClusterRoleBinding => "clusterrolebindings",
        }
    }

    /// With the group.
    pub fn group_resource(self) -> GroupResource {
        GroupResource::new(GROUP, self.plural())
    }
}

/// Decides by the Roles, ClusterRoles, RoleBindings and ClusterRoleBindings that it was fed. A clone is a handle to the same index.
#[derive(Clone, Default)]
pub struct Authorizer {
    index: Arc<RwLock<Index>>,
}

/// What a user may do in a namespace: the answer to a SelfSubjectRulesReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesReview {
    /// Rules about resources.
    pub resource_rules: Vec<PolicyRule>,
    /// Rules about paths.
    pub non_resource_rules: Vec<PolicyRule>,
    /// Roles that bindings name but that do not exist.
    pub errors: Vec<String>,
}

impl RulesReview {
    /// All rules in one list.
    pub fn rules(&self) -> Vec<PolicyRule> {
        [self.resource_rules.as_slice(), &self.non_resource_rules].concat()
    }

    fn add(&mut self, rule: &PolicyRule) {
        let (to, other) = match rule.resources.is_empty() {
            false => (&mut self.resource_rules, &rule.non_resource_urls),
            true => (&mut self.non_resource_rules, &rule.resources),
        };
        if !to.contains(rule) {
            to.push(rule.clone());
        }
        // A rule with both lists, which validation refuses for Roles but allows for ClusterRoles, is two rules.
        if !other.is_empty() && !self.non_resource_rules.contains(rule) {
            self.non_resource_rules.push(rule.clone());
        }
    }
}

impl Authorizer {
    /// Knows no object: allows [`MASTERS`] everything and others nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an object, new or changed, by its `kind`. Objects of other kinds are ignored. Cheap: the cost is that of the one
    /// object, but for ClusterRoles that an aggregated role selects.
    pub fn upsert(&self, object: &Value) {
        self.change(object, true);
    }

    /// Forgets an object, by its `kind`, namespace and name.
    pub fn remove(&self, object: &Value) {
        self.change(object, false);
    }

    fn change(&self, object: &Value, present: bool) {
        let Some(kind) = RbacKind::parse(object::kind(object)) else {
            return;
        };
        let namespace = object::namespace(object).unwrap_or("");
        let name = object::name(object);
        let mut index = self.index.write();
        match kind {
            RbacKind::Role | RbacKind::ClusterRole => {
                let key = RoleKey::new(kind, namespace, name);
                index.set_role(key, present.then(|| Member::from_value(object)));
            }
            RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
                index.unbind(kind, namespace, name);
                if present {
                    index.bind(kind, namespace, name, object);
                }
            }
        }
    }

    /// Whether the user may do what is asked, and why.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(format!("members of {MASTERS} may do everything"));
        }
        let index = self.index.read();
        let verb = verb_bit(attributes.verb);
        let mut missing = Vec::new();
        for scope in index.scopes(attributes.user, attributes.namespace) {
            for (&id, sources) in &scope.roles {
                let slot = &index.slots[id];
                match &slot.rules {
                    Some(compiled) if compiled.allow(verb, attributes) => {
                        return Decision::Allow(index.explain(sources, slot));
                    }
                    Some(_) => {}
                    None if missing.len() < MAX_ERRORS => missing.push(slot.missing()),
                    None => {}
                }
            }
        }
        missing.dedup();
        Decision::NoOpinion(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Everything that the user may do in the namespace (and at cluster scope); with an empty namespace at cluster scope only.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> RulesReview {
        let mut review = RulesReview::default();
        if user.is_in(MASTERS) {
            review.add(&PolicyRule::resources(&[ALL], &[ALL], &[ALL]));
            review.add(&PolicyRule::urls(&[ALL], &[ALL]));
        }
        let index = self.index.read();
        for scope in index.scopes(user, namespace) {
            for &id in scope.roles.keys() {
                let slot = &index.slots[id];
                match &slot.rules {
                    Some(compiled) => compiled.rules.iter().for_each(|rule| review.add(rule)),
                    None => review.errors.push(slot.missing()),
                }
            }
        }
        review.errors.sort();
        review.errors.dedup();
        review
    }

    /// The effective rules of a role; `None` when there is no such role. `namespace` does not matter for a ClusterRole.
    pub fn role_rules(&self, kind: RbacKind, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        let index = self.index.read();
        let id = index.ids.get(&RoleKey::new(kind, namespace, name))?;
        let compiled = index.slots[*id].rules.as_ref()?;
        Some(compiled.rules.to_vec())
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index.read();
        f.debug_struct("Authorizer")
            .field("roles", &index.ids.len())
            .field("bindings", &index.bindings.len())
            .finish()
    }
}

#[derive(Default)]
struct Index {
    slots: Vec<Slot>,
    free: Vec<usize>,
    ids: HashMap<RoleKey, usize>,
    bindings: HashMap<(RbacKind, String, String), Arc<Binding>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
    cluster_roles: BTreeMap<String, Member>,
    /// Names of the ClusterRoles with an aggregationRule.
    aggregated: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RoleKey {
    /// `None` for a ClusterRole.
    namespace: Option<String>,
    name: String,
}

impl RoleKey {
    fn new(kind: RbacKind, namespace: &str, name: &str) -> Self {
        Self {
            namespace: (kind == RbacKind::Role).then(|| namespace.to_owned()),
            name: name.to_owned(),
        }
    }

    fn kind(&self) -> RbacKind {
        match self.namespace {
            Some(_) => RbacKind::Role,
            None => RbacKind::ClusterRole,
        }
    }
}

struct Slot {
    key: RoleKey,
    /// `None` when bindings name a role that does not exist.
    rules: Option<Compiled>,
    /// How many bindings name it.
    bound: usize,
}

impl Slot {
    fn missing(&self) -> String {
        let kind = match self.key.kind() {
            RbacKind::Role => "role",
            _ => "clusterrole",
        };
        format!("{kind}.{GROUP} {} not found", quoted(&self.key.name))
    }
}

struct Binding {
    kind: RbacKind,
    namespace: String,
    name: String,
    role: usize,
    subjects: Vec<Subject>,
}

/// A subject, by the name that requests carry.
struct Subject {
    is_group: bool,
    name: String,
    /// As the reason names it: `User "x"`, `ServiceAccount "name/namespace"`.
    described: String,
}

#[derive(Default)]
struct Grants {
    cluster: Scope,
    namespaces: HashMap<String, Scope>,
}

impl Grants {
    fn is_empty(&self) -> bool {
        self.cluster.roles.is_empty() && self.namespaces.is_empty()
    }
}

/// The roles that one subject has in one place. Ordered, so that reasons do not depend on a hash.
#[derive(Default)]
struct Scope {
    roles: BTreeMap<usize, Vec<Source>>,
}

/// A binding, and which of its subjects.
struct Source {
    binding: Arc<Binding>,
    subject: usize,
}

impl Index {
    /// The scopes that apply to the user: each identity's cluster scope first, then those of the namespace.
    fn scopes<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Scope> {
        let grants = move || {
            let groups = user.groups.iter().filter_map(|g| self.groups.get(g));
            self.users.get(&user.name).into_iter().chain(groups)
        };
        let inside = move || match namespace {
            "" => None,
            _ => Some(grants().filter_map(move |grants| grants.namespaces.get(namespace))),
        };
        grants()
            .map(|grants| &grants.cluster)
            .chain(inside().into_iter().flatten())
    }

    fn explain(&self, sources: &[Source], slot: &Slot) -> String {
        let Some(source) = sources.first() else {
            return String::new();
        };
        let binding = &source.binding;
        let name = match binding.kind {
            RbacKind::RoleBinding => format!("{}/{}", binding.name, binding.namespace),
            _ => binding.name.clone(),
        };
        format!(
            "RBAC: allowed by {} {} of {} {} to {}",
            binding.kind.as_str(),
            quoted(&name),
            slot.key.kind().as_str(),
            quoted(&slot.key.name),
            binding.subjects[source.subject].described,
        )
    }

    fn slot(&mut self, key: &RoleKey) -> usize {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let slot = Slot {
            key: key.clone(),
            rules: None,
            bound: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.ids.insert(key.clone(), id);
        id
    }

    /// Frees the slot if neither a role nor a binding needs it.
    fn release(&mut self, id: usize) {
        let slot = &self.slots[id];
        if slot.rules.is_none() && slot.bound == 0 {
            self.ids.remove(&slot.key);
            self.free.push(id);
        }
    }

    fn set_rules(&mut self, key: &RoleKey, rules: Option<Arc<[PolicyRule]>>) {
        let id = self.slot(key);
        self.slots[id].rules = rules.map(Compiled::new);
        self.release(id);
    }

    fn set_role(&mut self, key: RoleKey, role: Option<Member>) {
        if key.namespace.is_some() {
            return self.set_rules(&key, role.map(|role| role.rules));
        }
        let plain = role.as_ref().filter(|role| role.selectors.is_none());
        self.set_rules(&key, plain.map(|role| Arc::clone(&role.rules)));
        let new = role.clone();
        let old = match role {
            Some(role) => self.cluster_roles.insert(key.name.clone(), role),
            None => self.cluster_roles.remove(&key.name),
        };
        self.aggregated.retain(|name| *name != key.name);
        if new.as_ref().is_some_and(|role| role.selectors.is_some()) {
            self.aggregated.push(key.name.clone());
        }
        let involved = [&old, &new]
            .into_iter()
            .flatten()
            .any(|role| role.selectors.is_some() || self.is_selected(role));
        if involved {
            for name in self.aggregated.clone() {
                let rules = resolve(&name, &self.cluster_roles);
                self.set_rules(&RoleKey::new(RbacKind::ClusterRole, "", &name), Some(rules.into()));
            }
        }
    }

    fn is_selected(&self, role: &Member) -> bool {
        let aggregates = self.aggregated.iter().filter_map(|name| self.cluster_roles.get(name));
        aggregates
            .filter_map(|aggregate| aggregate.selectors.as_ref())
            .flatten()
            .any(|selector| selector.matches(&role.labels))
    }

    fn bind(&mut self, kind: RbacKind, namespace: &str, name: &str, object: &Value) {
        let text =
            |value: &Value, key: &str| -> String { value.get(key).and_then(Value::as_str).unwrap_or("").to_owned() };
        let role = object.get("roleRef").unwrap_or(&Value::Null);
        let role_kind = match (kind, text(role, "kind").as_str()) {
            (RbacKind::RoleBinding, "Role") => RbacKind::Role,
            (_, "ClusterRole") => RbacKind::ClusterRole,
            _ => return,
        };
        let id = self.slot(&RoleKey::new(role_kind, namespace, &text(role, "name")));
        self.slots[id].bound += 1;
        let listed = object.get("subjects").and_then(Value::as_array);
        let subjects = listed
            .into_iter()
            .flatten()
            .filter_map(|subject| Subject::parse(subject, namespace))
            .collect();
        let binding = Arc::new(Binding {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            role: id,
            subjects,
        });
        for (position, subject) in binding.subjects.iter().enumerate() {
            let by_name = if subject.is_group {
                &mut self.groups
            } else {
                &mut self.users
            };
            let grants = by_name.entry(subject.name.clone()).or_default();
            let scope = match kind {
                RbacKind::RoleBinding => grants.namespaces.entry(namespace.to_owned()).or_default(),
                _ => &mut grants.cluster,
            };
            scope.roles.entry(id).or_default().push(Source {
                binding: Arc::clone(&binding),
                subject: position,
            });
        }
        self.bindings
            .insert((kind, namespace.to_owned(), name.to_owned()), binding);
    }

    fn unbind(&mut self, kind: RbacKind, namespace: &str, name: &str) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let Some(binding) = self.bindings.remove(&key) else {
            return;
        };
        for subject in &binding.subjects {
            let by_name = if subject.is_group {
                &mut self.groups
            } else {
                &mut self.users
            };
            let Some(grants) = by_name.get_mut(&subject.name) else {
                continue;
            };
            match kind {
                RbacKind::RoleBinding => {
                    if let Some(scope) = grants.namespaces.get_mut(namespace) {
                        scope.drop_source(&binding);
                        if scope.roles.is_empty() {
                            grants.namespaces.remove(namespace);
                        }
                    }
                }
                _ => grants.cluster.drop_source(&binding),
            }
            if grants.is_empty() {
                by_name.remove(&subject.name);
            }
        }
        self.slots[binding.role].bound -= 1;
        self.release(binding.role);
    }
}

impl Scope {
    fn drop_source(&mut self, binding: &Arc<Binding>) {
        if let Some(sources) = self.roles.get_mut(&binding.role) {
            sources.retain(|source| !Arc::ptr_eq(&source.binding, binding));
            if sources.is_empty() {
                self.roles.remove(&binding.role);
            }
        }
    }
}

impl Subject {
    /// A subject of a binding in `namespace` (empty for a ClusterRoleBinding). `None` for a kind that RBAC does not know, or a
    /// service account without a namespace: it applies to nobody.
    fn parse(subject: &Value, namespace: &str) -> Option<Self> {
        let text = |key| subject.get(key).and_then(Value::as_str).unwrap_or("");
        let name = text("name");
        let kind = text("kind");
        match kind {
            "User" | "Group" => Some(Self {
                is_group: kind == "Group",
                name: name.to_owned(),
                described: format!("{kind} {}", quoted(name)),
            }),
            "ServiceAccount" => {
                let namespace = match text("namespace") {
                    "" => namespace,
                    given => given,
                };
                (!namespace.is_empty() && !name.is_empty()).then(|| Self {
                    is_group: false,
                    name: service_account_user(namespace, name),
                    described: format!("{kind} {}", quoted(&format!("{name}/{namespace}"))),
                })
            }
            _ => None,
        }
    }
}

/// Rules with the set of their verbs beside them, so that most rules are passed over by one comparison.
struct Compiled {
    verbs: Vec<u16>,
    rules: Arc<[PolicyRule]>,
}

/// Verbs with a bit of their own. All others share [`OTHER`].
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
const OTHER: u16 = 1 << VERBS.len();

fn verb_bit(verb: &str) -> u16 {
    match VERBS.iter().position(|known| *known == verb) {
        Some(position) => 1 << position,
        None => OTHER,
    }
}

impl Compiled {
    fn new(rules: Arc<[PolicyRule]>) -> Self {
        let mask = |rule: &PolicyRule| match has(&rule.verbs, ALL) {
            true => u16::MAX,
            false => rule.verbs.iter().fold(0, |mask, verb| mask | verb_bit(verb)),
        };
        Self {
            verbs: rules.iter().map(mask).collect(),
            rules,
        }
    }

    fn allow(&self, verb: u16, attributes: &Attributes<'_>) -> bool {
        self.verbs.iter().zip(self.rules.iter()).any(|(mask, rule)| {
            mask & verb != 0
                && (verb != OTHER || has_or_all(&rule.verbs, attributes.verb))
                && rule.allows_object(attributes)
        })
    }
}
