//! [`Usage`]: amounts by key.

use std::collections::BTreeMap;

use serde_json::Value;
use setpoint_meta::Quantity;

/// Amounts by key (`count/configmaps`, `requests.inference.setpoint.dev/gpus`). A key that is not there is zero, and zero is not
/// kept, so equal uses are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<String, Quantity>);

impl Usage {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same and this much more of the key.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, amount: impl IntoAmount) -> Self {
        let key = key.into();
        self.set(&key, self.get(&key) + amount.into_amount());
        self
    }

    /// The amount of a key.
    pub fn get(&self, key: &str) -> Quantity {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// Sets the amount of a key.
    pub fn set(&mut self, key: &str, amount: Quantity) {
        if amount == Quantity::default() {
            self.0.remove(key);
        } else if let Some(kept) = self.0.get_mut(key) {
            *kept = amount;
        } else {
            self.0.insert(key.to_owned(), amount);
        }
    }

    /// Adds all amounts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (key, amount) in &other.0 {
            self.set(key, self.get(key) + *amount);
        }
    }

    /// Takes away all amounts of `other`; results may be negative.
    pub fn subtract(&mut self, other: &Self) {
        for (key, amount) in &other.0 {
            self.set(key, self.get(key) - *amount);
        }
    }

    /// What `new` uses more than `old` (negative where it uses less): the delta of an update.
    pub fn difference(new: &Self, old: &Self) -> Self {
        let mut delta = new.clone();
        delta.subtract(old);
        delta
    }

    /// Only what is positive.
    #[must_use]
    pub fn increases(&self) -> Self {
        let positive = self.0.iter().filter(|(_, amount)| **amount > Quantity::default());
        Self(positive.map(|(key, amount)| (key.clone(), *amount)).collect())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and amounts, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(key, amount)| (key.as_str(), *amount))
    }
}

impl Extend<(String, Quantity)> for Usage {
    fn extend<T: IntoIterator<Item = (String, Quantity)>>(&mut self, items: T) {
        for (key, amount) in items {
            self.set(&key, self.get(&key) + amount);
        }
    }
}

/// What can be an amount: a quantity, or a count.
pub trait IntoAmount {
    /// As a quantity.
    fn into_amount(self) -> Quantity;
}

impl IntoAmount for Quantity {
    fn into_amount(self) -> Quantity {
        self
    }
}

impl IntoAmount for i64 {
    fn into_amount(self) -> Quantity {
        Quantity::from_int(self)
    }
}

/// A quantity in JSON: a text, or a plain number.
pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}
