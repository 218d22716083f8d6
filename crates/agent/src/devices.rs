//! Who has which device of the worker.
//!
//! # Guarantees
//! A device has at most one owner, and an owner keeps it until its last process is gone, whatever bindings say meanwhile. That is what holds
//! "never two owners" on the worker, should the control plane ever err.
//!
//! # How to get it wrong
//! Releasing on SIGTERM instead of on the group's end: the device's memory is still taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use setpoint_inference::kinds::DeviceInUse;
use tokio::sync::watch;

/// The devices' owners.
#[derive(Debug)]
pub struct Devices {
    owners: Mutex<BTreeMap<String, Owner>>,
    changed: watch::Sender<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    uid: String,
    name: String,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            owners: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Devices {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of `devices` that another replica than `uid` has, with that replica's name.
    pub fn holder(&self, uid: &str, devices: &[String]) -> Option<(String, String)> {
        let owners = self.lock();
        devices.iter().find_map(|device| {
            let owner = owners.get(device).filter(|owner| owner.uid != uid)?;
            Some((device.clone(), owner.name.clone()))
        })
    }

    /// Makes `uid` the owner of all of `devices`, or of none.
    ///
    /// # Errors
    /// The device and the replica that has it.
    pub fn claim(&self, uid: &str, name: &str, devices: &[String]) -> Result<(), (String, String)> {
        let mut owners = self.lock();
        for device in devices {
            if let Some(owner) = owners.get(device).filter(|owner| owner.uid != uid) {
                return Err((device.clone(), owner.name.clone()));
            }
        }
        for device in devices {
            let owner = Owner {
                uid: uid.to_owned(),
                name: name.to_owned(),
            };
            owners.insert(device.clone(), owner);
        }
        drop(owners);
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Takes everything from `uid`.
    pub fn release(&self, uid: &str) {
        let mut owners = self.lock();
        let before = owners.len();
        owners.retain(|_, owner| owner.uid != uid);
        let changed = owners.len() != before;
        drop(owners);
        if changed {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Every device that has an owner, by id.
    pub fn in_use(&self) -> Vec<DeviceInUse> {
        let entry = |(id, owner): (&String, &Owner)| DeviceInUse {
            id: id.clone(),
            replica: owner.name.clone(),
        };
        self.lock().iter().map(entry).collect()
    }

    /// Changes whenever an owner does.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_none_and_one_owner() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let devices = Devices::default();
        devices.claim("a", "ns/a", &ids(&["0", "1"])).unwrap();
        devices.claim("a", "ns/a", &ids(&["0", "1"])).unwrap();
        let refused = devices.claim("b", "ns/b", &ids(&["2", "1"]));
        assert_eq!(refused, Err(("1".to_owned(), "ns/a".to_owned())));
        devices.claim("c", "ns/c", &ids(&["2"])).unwrap();
        let used: Vec<_> = devices.in_use().into_iter().map(|d| (d.id, d.replica)).collect();
        let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        assert_eq!(used, [pair("0", "ns/a"), pair("1", "ns/a"), pair("2", "ns/c")]);
        let mut watch = devices.watch();
        watch.mark_unchanged();
        devices.release("b");
        assert!(!watch.has_changed().unwrap());
        devices.release("a");
        assert!(watch.has_changed().unwrap());
        devices.claim("b", "ns/b", &ids(&["0", "1"])).unwrap();
    }
}
