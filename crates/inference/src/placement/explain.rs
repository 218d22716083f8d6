//! The slow path: why nothing fits, and what single change would help. Runs once for each shape that does not fit.

use std::collections::{BTreeMap, BTreeSet};

use setpoint_reconcile::Object;

use super::fleet::{
    Fleet, SpreadRule, affordable, bytes_a_device, in_service, model_fits, placement, price, untolerated, wanted,
};
use super::{Reason, Unplaced};
use crate::kinds::{Accelerator, Bytes, Counterfactual, Filtered, ReplicaSpec, Worker, WorkerState};

/// How many of a list a message names.
const NAMED: usize = 6;
/// How many counterfactuals are given.
const COUNTERFACTUALS: usize = 8;

/// Everything that a verdict on one worker needs.
struct Case<'f, 'a> {
    fleet: &'f Fleet<'a>,
    spec: &'f ReplicaSpec,
    accelerators: &'f [Accelerator],
    spreads: &'f [SpreadRule],
    group: usize,
}

impl Fleet<'_> {
    pub(super) fn explain(&self, spec: &ReplicaSpec, spreads: &[SpreadRule], group: usize) -> Unplaced {
        let case = Case {
            fleet: self,
            spec,
            accelerators: &spec.accelerators,
            spreads,
            group,
        };
        let mut failed: BTreeMap<Reason, Vec<u32>> = BTreeMap::new();
        for host in 0..self.hosts.len() as u32 {
            // A worker that fits would have been taken.
            if let Err(reason) = case.verdict(host, None) {
                failed.entry(reason).or_default().push(host);
            }
        }
        let reason = failed.keys().next_back().copied().unwrap_or(Reason::NoWorkers);
        let hosts = failed.get(&reason).map_or(&[][..], Vec::as_slice);
        let filtered = failed.iter().map(|(reason, hosts)| Filtered {
            reason: reason.to_string(),
            workers: hosts.len() as u32,
        });
        Unplaced {
            reason,
            message: case.message(reason, hosts),
            considered: self.hosts.len() as u32,
            filtered: filtered.collect(),
            counterfactuals: case.counterfactuals(),
        }
    }
}

impl<'f, 'a> Case<'f, 'a> {
    fn worker(&self, host: u32) -> &'a Worker {
        self.fleet.hosts[host as usize].worker
    }

    /// Whether the worker fits, if nothing were checked that `ignoring` names.
    fn verdict(&self, host: u32, ignoring: Option<Reason>) -> Result<(), Reason> {
        let worker = self.worker(host);
        self.wanted_ignoring(worker, ignoring)?;
        if self.accelerators.is_empty() {
            self.in_service_ignoring(worker, ignoring)?;
            return self.room(host, ignoring);
        }
        // The accelerator that came furthest tells why the worker fails.
        let mut furthest = Reason::FlavorUnavailable;
        for accelerator in self.accelerators {
            let Some((stock, slot)) = self.fleet.slot(&accelerator.flavor, host) else {
                continue;
            };
            let enough = slot.free >= accelerator.count;
            let verdict = self
                .affordable_ignoring(accelerator, stock.spec, worker, ignoring)
                .and_then(|()| model_fits(self.spec, accelerator, slot))
                .and_then(|()| self.in_service_ignoring(worker, ignoring))
                .and_then(|()| enough.then_some(()).ok_or(Reason::InsufficientDevices))
                .and_then(|()| self.room(host, ignoring));
            match verdict {
                Ok(()) => return Ok(()),
                Err(reason) => furthest = furthest.max(reason),
            }
        }
        Err(furthest)
    }

    /// `wanted` with one constraint taken out of the request.
    fn wanted_ignoring(&self, worker: &Worker, ignoring: Option<Reason>) -> Result<(), Reason> {
        let Some(mut relaxed) = placement(self.spec).cloned() else {
            return Ok(());
        };
        match ignoring {
            Some(Reason::NoMatchingRegion) => relaxed.regions.clear(),
            Some(Reason::NoMatchingZone) => relaxed.zones.clear(),
            Some(Reason::NoMatchingLabels) => relaxed.node_selector.clear(),
            _ => return wanted(self.spec, worker),
        }
        let mut spec = self.spec.clone();
        spec.placement = Some(relaxed);
        wanted(&spec, worker)
    }

    fn affordable_ignoring(
        &self,
        accelerator: &Accelerator,
        flavor: Option<&crate::kinds::GpuFlavorSpec>,
        worker: &Worker,
        ignoring: Option<Reason>,
    ) -> Result<(), Reason> {
        let mut relaxed = accelerator.clone();
        match ignoring {
            Some(Reason::MarketUnavailable) => relaxed.market = None,
            Some(Reason::TooExpensive) => relaxed.max_hourly_cost = None,
            _ => {}
        }
        affordable(&relaxed, flavor, worker)
    }

    fn in_service_ignoring(&self, worker: &Worker, ignoring: Option<Reason>) -> Result<(), Reason> {
        match ignoring {
            Some(Reason::Tainted | Reason::Cordoned) => {
                let mut relaxed = worker.clone();
                if ignoring == Some(Reason::Tainted) {
                    relaxed.spec.taints.clear();
                } else {
                    relaxed.spec.unschedulable = false;
                }
                in_service(self.spec, &relaxed)
            }
            _ => in_service(self.spec, worker),
        }
    }

    /// What is left of the worker beside its devices, and the spread.
    fn room(&self, host: u32, ignoring: Option<Reason>) -> Result<(), Reason> {
        let wanted = self.spec.resources.unwrap_or_default();
        let left = &self.fleet.hosts[host as usize];
        let checks = [
            (
                Reason::InsufficientCpu,
                left.cpu_free >= wanted.cpu.map_or(0, |cpu| cpu.0),
            ),
            (
                Reason::InsufficientMemory,
                left.memory_free >= wanted.memory.map_or(0, |memory| memory.0),
            ),
            (
                Reason::SpreadUnsatisfiable,
                self.fleet.spread_allows(self.spreads, self.group, host),
            ),
        ];
        match checks.into_iter().find(|(reason, ok)| !ok && Some(*reason) != ignoring) {
            Some((reason, _)) => Err(reason),
            None => Ok(()),
        }
    }

    /// The reason for people; `hosts` are those that failed on it.
    fn message(&self, reason: Reason, hosts: &[u32]) -> String {
        let number = hosts.len();
        let workers = || hosts.iter().map(|&host| self.worker(host));
        match reason {
            Reason::NoWorkers => "no worker has registered".to_owned(),
            Reason::NoMatchingRegion => {
                let asked = placement(self.spec).map_or(&[][..], |placement| &placement.regions);
                let there = listed(self.fleet.hosts.iter().map(|host| host.worker.spec.region.clone()));
                format!(
                    "no worker is in region {}; regions that have workers: {there}",
                    asked.join(" or ")
                )
            }
            Reason::NoMatchingZone => {
                let asked = placement(self.spec).map_or(&[][..], |placement| &placement.zones);
                let there = listed(workers().filter_map(|worker| worker.spec.zone.clone()));
                format!(
                    "no worker is in zone {}; zones that have workers: {there}",
                    asked.join(" or ")
                )
            }
            Reason::NoMatchingLabels => {
                let asked = placement(self.spec)
                    .into_iter()
                    .flat_map(|placement| &placement.node_selector);
                let asked = listed(asked.map(|(key, value)| format!("{key}={value}")));
                format!("none of the {number} workers there carries the labels {asked}")
            }
            Reason::FlavorUnavailable => {
                let there = workers()
                    .flat_map(|worker| &worker.spec.devices)
                    .map(|device| device.flavor.clone());
                format!(
                    "none of the {number} workers that match has {}; flavors there: {}",
                    self.asked(),
                    listed(there)
                )
            }
            Reason::MarketUnavailable => {
                let markets = listed(workers().map(|worker| format!("{:?}", worker.spec.market)));
                format!(
                    "the {number} workers that match are of market {markets}, asked for is {}",
                    self.asked()
                )
            }
            Reason::TooExpensive => self.expensive_message(hosts),
            Reason::ModelTooLarge => self.large_message(hosts),
            Reason::Tainted => {
                let taints = workers().filter_map(|worker| untolerated(self.spec, worker, false));
                let taints = listed(taints.map(|taint| format!("{}={}:{:?}", taint.key, taint.value, taint.effect)));
                format!("the {number} workers that match carry taints that are not tolerated: {taints}")
            }
            Reason::NoReadyWorkers => {
                let state = |worker: &Worker| worker.state().map_or("not heard yet", WorkerState::as_str);
                let states = listed(workers().map(|worker| format!("{} is {}", worker.name(), state(worker))));
                format!("none of the {number} workers that match is Ready: {states}")
            }
            Reason::Cordoned => {
                let names = listed(workers().map(|worker| worker.name().to_owned()));
                format!("the {number} workers that match are cordoned: {names}")
            }
            Reason::InsufficientDevices => self.devices_message(hosts),
            Reason::InsufficientCpu => {
                let wanted = self.spec.resources.unwrap_or_default().cpu.unwrap_or_default();
                let most = hosts
                    .iter()
                    .map(|&host| self.fleet.hosts[host as usize].cpu_free)
                    .max()
                    .unwrap_or(0);
                format!(
                    "{wanted} CPU asked for; the {number} workers that match have {} left at most",
                    crate::kinds::MilliCpu(most)
                )
            }
            Reason::InsufficientMemory => {
                let wanted = self.spec.resources.unwrap_or_default().memory.unwrap_or_default();
                let most = hosts
                    .iter()
                    .map(|&host| self.fleet.hosts[host as usize].memory_free)
                    .max()
                    .unwrap_or(0);
                format!(
                    "{wanted} of memory asked for; the {number} workers that match have {} left at most",
                    Bytes(most)
                )
            }
            Reason::SpreadUnsatisfiable => {
                let spread = self.fleet.spread_text(self.spreads, self.group);
                format!("the {number} workers with room are in domains that are full for now: {spread}")
            }
        }
    }

    /// `1 × h100-80g or 2 × a100-80g (Spot)`
    fn asked(&self) -> String {
        let one = |accelerator: &Accelerator| {
            let market = accelerator
                .market
                .map(|market| format!(" ({market:?})"))
                .unwrap_or_default();
            format!("{} × {}{market}", accelerator.count, accelerator.flavor)
        };
        self.accelerators.iter().map(one).collect::<Vec<_>>().join(" or ")
    }

    fn expensive_message(&self, hosts: &[u32]) -> String {
        let mut prices = BTreeSet::new();
        for accelerator in self.accelerators {
            let Some(limit) = accelerator.max_hourly_cost else {
                continue;
            };
            for &host in hosts {
                let Some((stock, _)) = self.fleet.slot(&accelerator.flavor, host) else {
                    continue;
                };
                let cost = match price(stock.spec, self.worker(host), accelerator.count) {
                    Some(cost) => format!("costs {cost} an hour"),
                    None => "has no price".to_owned(),
                };
                prices.insert(format!(
                    "{} × {} {cost}, the limit is {limit}",
                    accelerator.count, accelerator.flavor
                ));
            }
        }
        format!(
            "on the {} workers that match, {}",
            hosts.len(),
            listed(prices.into_iter())
        )
    }

    fn large_message(&self, hosts: &[u32]) -> String {
        let mut needs = BTreeSet::new();
        for accelerator in self.accelerators {
            let slots = hosts
                .iter()
                .filter_map(|&host| self.fleet.slot(&accelerator.flavor, host));
            let largest = slots.filter_map(|(_, slot)| slot.memory).max();
            if let (Some(needed), Some(largest)) = (bytes_a_device(self.spec, accelerator.count), largest) {
                needs.insert(format!(
                    "{:.1} GiB on each of {} × {}, which has {:.1} GiB",
                    needed as f64 / Bytes::GIB as f64,
                    accelerator.count,
                    accelerator.flavor,
                    largest as f64 / Bytes::GIB as f64,
                ));
            }
        }
        format!("weights and working memory need {}", listed(needs.into_iter()))
    }

    fn devices_message(&self, hosts: &[u32]) -> String {
        let mut flavors = BTreeSet::new();
        for accelerator in self.accelerators {
            let slots: Vec<_> = hosts
                .iter()
                .filter_map(|&host| self.fleet.slot(&accelerator.flavor, host))
                .map(|(_, slot)| slot)
                .collect();
            let all: usize = slots.iter().map(|slot| slot.devices.len()).sum();
            let free: u32 = slots.iter().map(|slot| slot.free).sum();
            let most = slots.iter().map(|slot| slot.free).max().unwrap_or(0);
            flavors.insert(format!(
                "{free} of {all} {} are free, {most} at most on one worker",
                accelerator.flavor
            ));
        }
        format!(
            "{} needed on one worker; on the {} workers that match, {}",
            self.asked(),
            hosts.len(),
            listed(flavors.into_iter())
        )
    }

    fn fitting(&self, ignoring: Option<Reason>) -> Vec<u32> {
        (0..self.fleet.hosts.len() as u32)
            .filter(|&host| self.verdict(host, ignoring).is_ok())
            .collect()
    }

    fn counterfactuals(&self) -> Vec<Counterfactual> {
        let changes = [
            (Reason::NoMatchingRegion, "drop placement.regions"),
            (Reason::NoMatchingZone, "drop placement.zones"),
            (Reason::NoMatchingLabels, "drop placement.nodeSelector"),
            (Reason::MarketUnavailable, "drop market of the accelerators"),
            (Reason::TooExpensive, "drop maxHourlyCost of the accelerators"),
            (Reason::Tainted, "tolerate the taints"),
            (Reason::Cordoned, "uncordon"),
            (Reason::InsufficientCpu, "drop resources.cpu"),
            (Reason::InsufficientMemory, "drop resources.memory"),
            (Reason::SpreadUnsatisfiable, "drop placement.spread"),
        ];
        let mut helpful = Vec::new();
        for (reason, change) in changes {
            let fitting = self.fitting(Some(reason));
            if fitting.is_empty() {
                continue;
            }
            let names = listed(fitting.iter().map(|&host| self.worker(host).name().to_owned()));
            let change = match reason {
                Reason::Tainted | Reason::Cordoned => format!("{change} of {names}"),
                _ => change.to_owned(),
            };
            helpful.push(Counterfactual {
                change,
                workers: fitting.len() as u32,
            });
        }
        helpful.extend(self.other_flavors());
        helpful.sort_by(|a, b| b.workers.cmp(&a.workers).then_with(|| a.change.cmp(&b.change)));
        helpful.truncate(COUNTERFACTUALS);
        helpful
    }

    /// Flavors that were not asked for and would fit.
    fn other_flavors(&self) -> Vec<Counterfactual> {
        let Some(first) = self.accelerators.first() else {
            return Vec::new();
        };
        let mut helpful = Vec::new();
        for stock in &self.fleet.stocks {
            if self
                .accelerators
                .iter()
                .any(|accelerator| accelerator.flavor == stock.name)
            {
                continue;
            }
            let other = [Accelerator {
                flavor: stock.name.to_owned(),
                count: first.count,
                market: None,
                max_hourly_cost: None,
            }];
            let case = Case {
                accelerators: &other,
                ..*self
            };
            let workers = case.fitting(None).len() as u32;
            if workers > 0 {
                helpful.push(Counterfactual {
                    change: format!("accept flavor {}", stock.name),
                    workers,
                });
            }
        }
        helpful
    }
}

/// Distinct items in order, the first few by name and the rest by number.
fn listed(items: impl Iterator<Item = String>) -> String {
    let items: BTreeSet<String> = items.collect();
    let more = items.len().saturating_sub(NAMED);
    let mut text = items.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { "none".to_owned() } else { text }
}
