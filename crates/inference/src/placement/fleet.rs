//! [`Fleet`]: the workers and what is left of them, indexed by flavor; and the fast path of placing.

use std::collections::HashMap;

use setpoint_reconcile::Object;

use super::fragmentation::Mix;
use super::{MEMORY_HEADROOM_DIVISOR, Placed, Reason, Unplaced};
use crate::kinds::{
    Accelerator, GpuFlavor, GpuFlavorSpec, Money, Placement, Replica, ReplicaSpec, TaintEffect, WhenUnsatisfiable,
    Worker, WorkerState,
};

/// The workers and what is left of them: the ledger of one batch of placements.
pub struct Fleet<'a> {
    /// In order of their names, which breaks ties.
    pub(super) hosts: Vec<Host<'a>>,
    host_ids: HashMap<&'a str, u32>,
    pub(super) stocks: Vec<Stock<'a>>,
    stock_ids: HashMap<&'a str, usize>,
    topologies: Vec<Topology<'a>>,
    groups: Vec<Group<'a>>,
    group_ids: HashMap<(&'a str, &'a str), usize>,
    shapes: Vec<Shape<'a>>,
    shape_ids: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    mixes: HashMap<&'a str, Mix>,
}

/// A worker and what is left of its processor and memory.
pub(super) struct Host<'a> {
    pub(super) worker: &'a Worker,
    pub(super) cpu_free: u64,
    pub(super) memory_free: u64,
    replicas: u32,
}

/// A flavor and every worker that has devices of it.
pub(super) struct Stock<'a> {
    pub(super) name: &'a str,
    pub(super) spec: Option<&'a GpuFlavorSpec>,
    pub(super) slots: Vec<Slot<'a>>,
    /// Unusable devices in expectation, by number of free ones.
    unusable: Vec<i32>,
}

/// The devices of one flavor on one worker.
pub(super) struct Slot<'a> {
    pub(super) host: u32,
    pub(super) free: u32,
    /// Memory of the smallest device, if known.
    pub(super) memory: Option<u64>,
    pub(super) devices: Vec<(&'a str, bool)>,
}

/// The domains of one topology key.
struct Topology<'a> {
    key: &'a str,
    names: Vec<&'a str>,
    of_host: Vec<Option<u32>>,
}

/// The replicas of one deployment, which spread.
struct Group<'a> {
    name: (&'a str, &'a str),
    hosts: Vec<u32>,
    /// By topology: how many replicas each domain has.
    counts: HashMap<usize, Vec<u32>>,
}

/// What depends on what is asked for, and not on what is left.
struct Shape<'a> {
    spec: &'a ReplicaSpec,
    group: usize,
    alternatives: Vec<Alternative>,
    spreads: Vec<SpreadRule>,
    cpu: u64,
    memory: u64,
    /// The last failure, and the size of the group then. While the group is the same, so is the answer: the ledger only shrinks.
    failed: Option<(usize, Unplaced)>,
}

/// One accelerator of a shape, or the host's processor.
struct Alternative {
    stock: Option<usize>,
    count: u32,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy)]
struct Candidate {
    host: u32,
    slot: u32,
    /// The part of the score that the ledger does not change.
    fixed: u64,
}

pub(super) struct SpreadRule {
    topology: usize,
    pub(super) max_skew: u32,
    hard: bool,
    /// Domains in which the shape could run.
    eligible: Vec<u32>,
}

/// The score of a candidate: the lowest wins. Fields from the most significant bit:
/// 8 replicas already in the domain (soft spreads) · 1 avoided by a taint · 14 growth of fragmentation · 1 weights not cached · 20 cost in
/// hundredths · 10 devices left (best fit), or replicas on the worker where there are no devices (balance).
mod score {
    pub(super) const SOFT_SPREAD: u32 = 56;
    pub(super) const AVOIDED: u32 = 55;
    pub(super) const GROWTH: u32 = 41;
    pub(super) const GROWTH_ZERO: i32 = 1 << 13;
    pub(super) const NOT_CACHED: u32 = 40;
    pub(super) const COST: u32 = 20;
    pub(super) const COST_MOST: u64 = (1 << 20) - 1;
    pub(super) const LEFT: u32 = 10;
    pub(super) const LEFT_MOST: u32 = (1 << 10) - 1;
}

impl<'a> Fleet<'a> {
    /// The ledger of these workers with nothing taken. Workers and flavors may come in any order.
    pub fn new(
        workers: impl IntoIterator<Item = &'a Worker>,
        flavors: impl IntoIterator<Item = &'a GpuFlavor>,
    ) -> Self {
        let mut workers: Vec<_> = workers.into_iter().collect();
        workers.sort_by_key(|worker| worker.name());
        let specs: HashMap<&str, &GpuFlavorSpec> = flavors
            .into_iter()
            .map(|flavor| (flavor.name(), &flavor.spec))
            .collect();
        let mut fleet = Self {
            hosts: Vec::with_capacity(workers.len()),
            host_ids: HashMap::with_capacity(workers.len()),
            stocks: Vec::new(),
            stock_ids: HashMap::new(),
            topologies: Vec::new(),
            groups: Vec::new(),
            group_ids: HashMap::new(),
            shapes: Vec::new(),
            shape_ids: HashMap::new(),
            mixes: HashMap::new(),
        };
        for worker in workers {
            fleet.add(worker, &specs);
        }
        fleet
    }

    fn add(&mut self, worker: &'a Worker, specs: &HashMap<&str, &'a GpuFlavorSpec>) {
        // At most as many workers as fit in memory: 2^32 is beyond it.
        let host = self.hosts.len() as u32;
        self.host_ids.insert(worker.name(), host);
        self.hosts.push(Host {
            worker,
            cpu_free: worker.spec.cpu.map_or(u64::MAX, |cpu| cpu.0),
            memory_free: worker.spec.memory.map_or(u64::MAX, |memory| memory.0),
            replicas: 0,
        });
        for device in &worker.spec.devices {
            let stock = *self.stock_ids.entry(&device.flavor).or_insert_with(|| {
                self.stocks.push(Stock {
                    name: &device.flavor,
                    spec: specs.get(device.flavor.as_str()).copied(),
                    slots: Vec::new(),
                    unusable: Vec::new(),
                });
                self.stocks.len() - 1
            });
            let stock = &mut self.stocks[stock];
            let memory = device.memory_bytes.or(stock.spec.map(|spec| spec.memory.0));
            if stock.slots.last().is_none_or(|slot| slot.host != host) {
                stock.slots.push(Slot {
                    host,
                    free: 0,
                    memory,
                    devices: Vec::new(),
                });
            }
            if let Some(slot) = stock.slots.last_mut() {
                slot.free += 1;
                slot.memory = slot.memory.min(memory).or(memory);
                slot.devices.push((&device.id, false));
            }
        }
    }

    /// A replica's binding is in force: its devices, processor time and memory are taken. Idempotent for devices.
    pub fn hold(&mut self, replica: &'a Replica) {
        let Some(binding) = &replica.binding else { return };
        let Some(&host) = binding.worker.as_deref().and_then(|name| self.host_ids.get(name)) else {
            return;
        };
        for stock in &mut self.stocks {
            let Some(slot) = slot_of(stock, host) else { continue };
            for (id, taken) in &mut slot.devices {
                if !*taken && binding.devices.iter().any(|device| device == id) {
                    *taken = true;
                    slot.free -= 1;
                }
            }
        }
        let wanted = replica.spec.resources.unwrap_or_default();
        self.take_host(
            host,
            wanted.cpu.map_or(0, |cpu| cpu.0),
            wanted.memory.map_or(0, |memory| memory.0),
        );
        let lost = self.hosts[host as usize].worker.state() == Some(WorkerState::Lost);
        if !replica.is_terminating() && !lost {
            let group = self.group(replica.namespace(), &replica.spec.deployment_ref.name);
            self.groups[group].hosts.push(host);
        }
    }

    /// A request of this shape is among those that come: it counts in the mix by which fragmentation is measured.
    pub fn learn(&mut self, spec: &'a ReplicaSpec) {
        for accelerator in &spec.accelerators {
            self.mixes
                .entry(&accelerator.flavor)
                .or_default()
                .learn(accelerator.count);
        }
    }

    /// Places a replica and takes what it uses, or says why not.
    ///
    /// # Errors
    /// [`Unplaced`] where no worker fits.
    pub fn place(&mut self, namespace: &'a str, spec: &'a ReplicaSpec) -> Result<Placed, Unplaced> {
        let shape = self.shape(namespace, spec);
        let group_size = self.groups[self.shapes[shape].group].hosts.len();
        if let Some((size, unplaced)) = &self.shapes[shape].failed
            && *size == group_size
        {
            return Err(unplaced.clone());
        }
        let chosen = self.shapes[shape]
            .alternatives
            .iter()
            .enumerate()
            .find_map(|(index, alternative)| {
                let (candidate, feasible) = self.best(&self.shapes[shape], alternative)?;
                Some((index, candidate, feasible))
            });
        match chosen {
            Some((index, candidate, feasible)) => Ok(self.reserve(shape, index, candidate, feasible)),
            None => {
                let unplaced = self.explain(spec, &self.shapes[shape].spreads, self.shapes[shape].group);
                self.shapes[shape].failed = Some((group_size, unplaced.clone()));
                Err(unplaced)
            }
        }
    }

    /// The candidate with the lowest score, and how many there are.
    fn best(&self, shape: &Shape<'a>, alternative: &Alternative) -> Option<(Candidate, u32)> {
        let group = &self.groups[shape.group];
        let stock = alternative.stock.map(|stock| &self.stocks[stock]);
        let mut best: Option<(u64, Candidate)> = None;
        let mut feasible = 0;
        let hard: Vec<(&SpreadRule, u32)> = shape.spreads.iter().map(|rule| (rule, rule.limit(group))).collect();
        for candidate in &alternative.candidates {
            let host = &self.hosts[candidate.host as usize];
            if host.cpu_free < shape.cpu || host.memory_free < shape.memory {
                continue;
            }
            let left = match stock {
                Some(stock) => {
                    let free = stock.slots[candidate.slot as usize].free;
                    match free.checked_sub(alternative.count) {
                        Some(left) => left,
                        None => continue,
                    }
                }
                None => host.replicas,
            };
            let mut soft = 0;
            let allowed = hard
                .iter()
                .all(|(rule, limit)| match self.in_domain(rule, group, candidate.host) {
                    Some(count) if rule.hard => count < *limit,
                    Some(count) => {
                        soft = count.max(soft);
                        true
                    }
                    None => !rule.hard,
                });
            if !allowed {
                continue;
            }
            feasible += 1;
            let growth = stock.map_or(0, |stock| {
                let unusable = |free: u32| stock.unusable.get(free as usize).copied().unwrap_or_default();
                unusable(left) - unusable(left + alternative.count)
            });
            let growth = (growth + score::GROWTH_ZERO).clamp(0, 2 * score::GROWTH_ZERO - 1);
            let key = candidate.fixed
                | u64::from(soft.min(255)) << score::SOFT_SPREAD
                | u64::from(growth.unsigned_abs()) << score::GROWTH
                | u64::from(left.min(score::LEFT_MOST)) << score::LEFT;
            if best.is_none_or(|(lowest, _)| key < lowest) {
                best = Some((key, *candidate));
            }
        }
        best.map(|(_, candidate)| (candidate, feasible))
    }

    fn reserve(&mut self, shape: usize, index: usize, candidate: Candidate, feasible: u32) -> Placed {
        let Shape {
            group,
            cpu,
            memory,
            ref alternatives,
            ..
        } = self.shapes[shape];
        let Alternative { stock, count, .. } = alternatives[index];
        let worker = self.hosts[candidate.host as usize].worker;
        let mut placed = Placed {
            worker: worker.name().to_owned(),
            flavor: None,
            devices: Vec::new(),
            region: worker.spec.region.clone(),
            zone: worker.spec.zone.clone(),
            market: worker.spec.market,
            hourly_cost: None,
            considered: self.hosts.len() as u32,
            feasible,
            alternative: index,
        };
        if let Some(stock) = stock {
            let stock = &mut self.stocks[stock];
            placed.flavor = Some(stock.name.to_owned());
            placed.hourly_cost = price(stock.spec, worker, count);
            let slot = &mut stock.slots[candidate.slot as usize];
            slot.free -= count;
            for (id, taken) in slot.devices.iter_mut().filter(|(_, taken)| !taken).take(count as usize) {
                *taken = true;
                placed.devices.push((*id).to_owned());
            }
        }
        self.take_host(candidate.host, cpu, memory);
        let group = &mut self.groups[group];
        group.hosts.push(candidate.host);
        for (&topology, counts) in &mut group.counts {
            if let Some(domain) = self.topologies[topology].of_host[candidate.host as usize] {
                counts[domain as usize] += 1;
            }
        }
        placed
    }

    fn take_host(&mut self, host: u32, cpu: u64, memory: u64) {
        let host = &mut self.hosts[host as usize];
        // A worker without a limit stays without one.
        if host.worker.spec.cpu.is_some() {
            host.cpu_free = host.cpu_free.saturating_sub(cpu);
        }
        if host.worker.spec.memory.is_some() {
            host.memory_free = host.memory_free.saturating_sub(memory);
        }
        host.replicas += 1;
    }

    /// The shape of a request, worked out once.
    fn shape(&mut self, namespace: &'a str, spec: &'a ReplicaSpec) -> usize {
        let id = (namespace, spec.deployment_ref.name.as_str(), spec.revision.as_str());
        let known = self.shape_ids.get(&id).into_iter().flatten();
        if let Some(&shape) = known.into_iter().find(|&&shape| self.shapes[shape].spec == spec) {
            return shape;
        }
        for accelerator in &spec.accelerators {
            self.measure_fragmentation(&accelerator.flavor);
        }
        let group = self.group(namespace, &spec.deployment_ref.name);
        let alternatives = self.alternatives(spec);
        let spreads = self.spreads(spec, group, &alternatives);
        let wanted = spec.resources.unwrap_or_default();
        self.shapes.push(Shape {
            spec,
            group,
            alternatives,
            spreads,
            cpu: wanted.cpu.map_or(0, |cpu| cpu.0),
            memory: wanted.memory.map_or(0, |memory| memory.0),
            failed: None,
        });
        let shape = self.shapes.len() - 1;
        self.shape_ids.entry(id).or_default().push(shape);
        shape
    }

    fn alternatives(&self, spec: &ReplicaSpec) -> Vec<Alternative> {
        if spec.accelerators.is_empty() {
            let hosts = (0..self.hosts.len() as u32).filter(|&host| {
                let worker = self.hosts[host as usize].worker;
                wanted(spec, worker).and_then(|()| in_service(spec, worker)).is_ok()
            });
            let candidates = hosts.map(|host| Candidate {
                host,
                slot: 0,
                fixed: self.fixed(spec, host, None),
            });
            return vec![Alternative {
                stock: None,
                count: 0,
                candidates: candidates.collect(),
            }];
        }
        let of_accelerator = |accelerator: &Accelerator| {
            let stock = self.stock_ids.get(accelerator.flavor.as_str()).copied();
            let slots = stock.map_or(&[][..], |stock| &self.stocks[stock].slots);
            let mut candidates = Vec::new();
            for (index, slot) in slots.iter().enumerate() {
                let worker = self.hosts[slot.host as usize].worker;
                let flavor = stock.and_then(|stock| self.stocks[stock].spec);
                let fits = wanted(spec, worker)
                    .and_then(|()| affordable(accelerator, flavor, worker))
                    .and_then(|()| model_fits(spec, accelerator, slot))
                    .and_then(|()| in_service(spec, worker));
                if fits.is_ok() {
                    let cost = price(flavor, worker, accelerator.count);
                    let fixed = self.fixed(spec, slot.host, cost);
                    candidates.push(Candidate {
                        host: slot.host,
                        slot: index as u32,
                        fixed,
                    });
                }
            }
            Alternative {
                stock,
                count: accelerator.count,
                candidates,
            }
        };
        spec.accelerators.iter().map(of_accelerator).collect()
    }

    fn fixed(&self, spec: &ReplicaSpec, host: u32, cost: Option<Money>) -> u64 {
        let worker = self.hosts[host as usize].worker;
        let avoided = u64::from(untolerated(spec, worker, true).is_some());
        let not_cached = u64::from(!worker.has_cached(&spec.model.digest));
        let hundredths = cost.map_or(score::COST_MOST, |cost| (cost.micros() / 10_000).min(score::COST_MOST));
        avoided << score::AVOIDED | not_cached << score::NOT_CACHED | hundredths << score::COST
    }

    fn measure_fragmentation(&mut self, flavor: &str) {
        let Some(&stock) = self.stock_ids.get(flavor) else {
            return;
        };
        let stock = &mut self.stocks[stock];
        if stock.unusable.is_empty()
            && let Some(mix) = self.mixes.get(flavor)
        {
            let most = stock.slots.iter().map(|slot| slot.devices.len()).max().unwrap_or(0);
            stock.unusable = mix.unusable(most as u32);
        }
    }

    fn spreads(&mut self, spec: &'a ReplicaSpec, group: usize, alternatives: &[Alternative]) -> Vec<SpreadRule> {
        let mut rules = Vec::new();
        for spread in placement(spec).map_or(&[][..], |placement| &placement.spread) {
            let topology = self.topology(&spread.topology_key);
            let of_host = &self.topologies[topology].of_host;
            let hosts = alternatives.iter().flat_map(|alternative| &alternative.candidates);
            let mut eligible: Vec<u32> = hosts.filter_map(|candidate| of_host[candidate.host as usize]).collect();
            eligible.sort_unstable();
            eligible.dedup();
            let domains = self.topologies[topology].names.len();
            let Group { hosts, counts, .. } = &mut self.groups[group];
            counts.entry(topology).or_insert_with(|| {
                let mut counts = vec![0; domains];
                for domain in hosts.iter().filter_map(|&host| of_host[host as usize]) {
                    counts[domain as usize] += 1;
                }
                counts
            });
            rules.push(SpreadRule {
                topology,
                max_skew: spread.max_skew,
                hard: spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule,
                eligible,
            });
        }
        rules
    }

    fn topology(&mut self, key: &'a str) -> usize {
        if let Some(known) = self.topologies.iter().position(|topology| topology.key == key) {
            return known;
        }
        let mut names: Vec<&str> = Vec::new();
        let mut ids: HashMap<&str, u32> = HashMap::new();
        let of_host = self.hosts.iter().map(|host| {
            let name = host.worker.placement_label(key)?;
            Some(*ids.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() as u32 - 1
            }))
        });
        let of_host = of_host.collect();
        self.topologies.push(Topology { key, names, of_host });
        self.topologies.len() - 1
    }

    fn group(&mut self, namespace: &'a str, deployment: &'a str) -> usize {
        *self.group_ids.entry((namespace, deployment)).or_insert_with(|| {
            self.groups.push(Group {
                name: (namespace, deployment),
                hosts: Vec::new(),
                counts: HashMap::new(),
            });
            self.groups.len() - 1
        })
    }

    /// How many replicas of the group the host's domain has; `None` for a host in no domain.
    fn in_domain(&self, rule: &SpreadRule, group: &Group<'_>, host: u32) -> Option<u32> {
        let domain = self.topologies[rule.topology].of_host[host as usize]?;
        group.counts.get(&rule.topology)?.get(domain as usize).copied()
    }

    /// Whether every hard spread lets one more replica of the group onto the host.
    pub(super) fn spread_allows(&self, rules: &[SpreadRule], group: usize, host: u32) -> bool {
        let group = &self.groups[group];
        rules.iter().filter(|rule| rule.hard).all(|rule| {
            self.in_domain(rule, group, host)
                .is_some_and(|count| count < rule.limit(group))
        })
    }

    /// A hard spread for people: its key, its bound, and how many replicas each eligible domain has.
    pub(super) fn spread_text(&self, rules: &[SpreadRule], group: usize) -> String {
        let group = &self.groups[group];
        let texts = rules.iter().filter(|rule| rule.hard).map(|rule| {
            let topology = &self.topologies[rule.topology];
            let counts = group.counts.get(&rule.topology);
            let mut domains: Vec<String> = (rule.eligible.iter())
                .map(|&domain| {
                    let count = counts
                        .and_then(|counts| counts.get(domain as usize))
                        .copied()
                        .unwrap_or_default();
                    format!("{} has {count}", topology.names[domain as usize])
                })
                .collect();
            domains.sort();
            domains.truncate(8);
            format!("{} (maxSkew {}): {}", topology.key, rule.max_skew, domains.join(", "))
        });
        let (namespace, deployment) = group.name;
        format!("{namespace}/{deployment} over {}", texts.collect::<Vec<_>>().join("; "))
    }

    /// The devices of a flavor on a worker.
    pub(super) fn slot(&self, flavor: &str, host: u32) -> Option<(&Stock<'a>, &Slot<'a>)> {
        let stock = &self.stocks[*self.stock_ids.get(flavor)?];
        let at = stock.slots.binary_search_by_key(&host, |slot| slot.host).ok()?;
        Some((stock, &stock.slots[at]))
    }
}

impl SpreadRule {
    /// A domain with this many replicas or more takes no other.
    fn limit(&self, group: &Group<'_>) -> u32 {
        let counts = group.counts.get(&self.topology);
        let count = |&domain: &u32| {
            counts
                .and_then(|counts| counts.get(domain as usize))
                .copied()
                .unwrap_or_default()
        };
        self.eligible
            .iter()
            .map(count)
            .min()
            .unwrap_or_default()
            .saturating_add(self.max_skew)
    }
}

fn slot_of<'s, 'a>(stock: &'s mut Stock<'a>, host: u32) -> Option<&'s mut Slot<'a>> {
    let at = stock.slots.binary_search_by_key(&host, |slot| slot.host).ok()?;
    stock.slots.get_mut(at)
}

pub(super) fn placement(spec: &ReplicaSpec) -> Option<&Placement> {
    spec.placement.as_ref()
}

/// What the user asked for of the worker, devices aside.
pub(super) fn wanted(spec: &ReplicaSpec, worker: &Worker) -> Result<(), Reason> {
    let Some(placement) = placement(spec) else {
        return Ok(());
    };
    if !placement.regions.is_empty() && !placement.regions.contains(&worker.spec.region) {
        return Err(Reason::NoMatchingRegion);
    }
    let in_zone = || {
        worker
            .spec
            .zone
            .as_ref()
            .is_some_and(|zone| placement.zones.contains(zone))
    };
    if !placement.zones.is_empty() && !in_zone() {
        return Err(Reason::NoMatchingZone);
    }
    let carries = |(key, value): (&String, &String)| worker.placement_label(key) == Some(value);
    if !placement.node_selector.iter().all(carries) {
        return Err(Reason::NoMatchingLabels);
    }
    Ok(())
}

/// The accelerator's market and cost limit.
pub(super) fn affordable(
    accelerator: &Accelerator,
    flavor: Option<&GpuFlavorSpec>,
    worker: &Worker,
) -> Result<(), Reason> {
    if accelerator.market.is_some_and(|market| market != worker.spec.market) {
        return Err(Reason::MarketUnavailable);
    }
    match accelerator.max_hourly_cost {
        Some(limit) if price(flavor, worker, accelerator.count).is_none_or(|cost| cost > limit) => {
            Err(Reason::TooExpensive)
        }
        _ => Ok(()),
    }
}

/// What `count` devices cost an hour on the worker's market.
pub(super) fn price(flavor: Option<&GpuFlavorSpec>, worker: &Worker, count: u32) -> Option<Money> {
    Some(flavor?.price(worker.spec.market)?.times(u64::from(count)))
}

/// Bytes that the model needs of each of `count` devices; `None` if its size is not known.
pub(super) fn bytes_a_device(spec: &ReplicaSpec, count: u32) -> Option<u64> {
    let weights = spec.model.size_bytes?;
    Some(
        weights
            .saturating_add(weights / MEMORY_HEADROOM_DIVISOR)
            .div_ceil(u64::from(count.max(1))),
    )
}

/// The devices' memory. Not checked where either side is unknown.
pub(super) fn model_fits(spec: &ReplicaSpec, accelerator: &Accelerator, slot: &Slot<'_>) -> Result<(), Reason> {
    match (bytes_a_device(spec, accelerator.count), slot.memory) {
        (Some(needed), Some(memory)) if needed > memory => Err(Reason::ModelTooLarge),
        _ => Ok(()),
    }
}

/// The first taint that is not tolerated: one that keeps replicas away, or (`soft`) one that only would rather not have them.
pub(super) fn untolerated<'w>(spec: &ReplicaSpec, worker: &'w Worker, soft: bool) -> Option<&'w crate::kinds::Taint> {
    let tolerations = placement(spec).map_or(&[][..], |placement| &placement.tolerations);
    worker.spec.taints.iter().find(|taint| {
        (taint.effect == TaintEffect::PreferNoSchedule) == soft
            && !tolerations.iter().any(|toleration| toleration.covers(taint))
    })
}

/// The state of the worker.
pub(super) fn in_service(spec: &ReplicaSpec, worker: &Worker) -> Result<(), Reason> {
    if untolerated(spec, worker, false).is_some() {
        return Err(Reason::Tainted);
    }
    if worker.state() != Some(WorkerState::Ready) || worker.is_terminating() {
        return Err(Reason::NoReadyWorkers);
    }
    if worker.spec.unschedulable {
        return Err(Reason::Cordoned);
    }
    Ok(())
}
