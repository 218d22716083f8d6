//! Each filter by hand, and the guarantees of [`super`] by property.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::kinds::{
    Accelerator, Bytes, CachedModel, Device, GpuFlavor, HostResources, MilliCpu, Placement, Replica, ReplicaSpec,
    Spread, Taint, TaintEffect, Toleration, WhenUnsatisfiable, Worker, WorkerState, ZONE_KEY,
};
use crate::reconcilers::fixtures::{bound, flavor, replica, worker};

fn flavors() -> Vec<GpuFlavor> {
    vec![flavor("h100-80g", "4.50"), flavor("a100-80g", "2.80")]
}

fn accelerator(flavor: &str, count: u32) -> Accelerator {
    Accelerator {
        flavor: flavor.into(),
        count,
        market: None,
        max_hourly_cost: None,
    }
}

/// Places one request on the workers.
fn place(workers: &[Worker], spec: &ReplicaSpec) -> Result<Placed, Unplaced> {
    let flavors = flavors();
    Fleet::new(workers, &flavors).place("team-a", spec)
}

fn refusal(workers: &[Worker], spec: &ReplicaSpec) -> Unplaced {
    let unplaced = place(workers, spec).expect_err("it should not fit");
    let tally: u32 = unplaced.filtered.iter().map(|filtered| filtered.workers).sum();
    assert_eq!(tally, unplaced.considered);
    unplaced
}

fn changes(unplaced: &Unplaced) -> Vec<(&str, u32)> {
    unplaced
        .counterfactuals
        .iter()
        .map(|change| (change.change.as_str(), change.workers))
        .collect()
}

fn west() -> Vec<Worker> {
    vec![
        worker("w1", "us-west-2", "a", 2),
        worker("w2", "us-west-2", "b", 2),
        worker("e1", "us-east-1", "a", 2),
    ]
}

fn wanting(change: impl FnOnce(&mut ReplicaSpec)) -> ReplicaSpec {
    let mut spec = replica("chat-0").spec;
    change(&mut spec);
    spec
}

fn in_regions(spec: &mut ReplicaSpec, regions: &[&str]) {
    spec.placement.get_or_insert_default().regions = regions.iter().map(|&region| region.to_owned()).collect();
}

#[test]
fn no_workers() {
    let unplaced = refusal(&[], &replica("chat-0").spec);
    assert_eq!(
        (unplaced.reason, unplaced.message.as_str()),
        (Reason::NoWorkers, "no worker has registered")
    );
}

#[test]
fn region() {
    let unplaced = refusal(&west(), &wanting(|spec| in_regions(spec, &["mars-1"])));
    assert_eq!(unplaced.reason, Reason::NoMatchingRegion);
    assert_eq!(
        unplaced.message,
        "no worker is in region mars-1; regions that have workers: us-east-1, us-west-2"
    );
    assert_eq!(changes(&unplaced), [("drop placement.regions", 3)]);
}

#[test]
fn zone() {
    let spec = wanting(|spec| {
        in_regions(spec, &["us-west-2"]);
        spec.placement.get_or_insert_default().zones = vec!["us-west-2z".into()];
    });
    let unplaced = refusal(&west(), &spec);
    assert_eq!(unplaced.reason, Reason::NoMatchingZone);
    assert_eq!(
        unplaced.message,
        "no worker is in zone us-west-2z; zones that have workers: us-west-2a, us-west-2b"
    );
    assert_eq!(changes(&unplaced), [("drop placement.zones", 2)]);
}

#[test]
fn labels() {
    let labelled = |value: &str| {
        wanting(|spec| {
            spec.placement.get_or_insert_default().node_selector = BTreeMap::from([("tier".into(), value.into())]);
        })
    };
    let mut workers = west();
    workers[2].spec.labels.insert("tier".into(), "gold".into());
    assert_eq!(place(&workers, &labelled("gold")).unwrap().worker, "e1");
    let unplaced = refusal(&workers, &labelled("tin"));
    assert_eq!(unplaced.reason, Reason::NoMatchingLabels);
    assert_eq!(
        unplaced.message,
        "none of the 3 workers there carries the labels tier=tin"
    );
}

#[test]
fn flavor_and_the_order_of_accelerators() {
    let mut workers = west();
    for device in &mut workers[0].spec.devices {
        device.flavor = "a100-80g".into();
    }
    let spec = wanting(|spec| spec.accelerators = vec![accelerator("a100-80g", 2), accelerator("h100-80g", 1)]);
    let placed = place(&workers, &spec).unwrap();
    assert_eq!(
        (placed.worker.as_str(), placed.flavor.as_deref(), placed.alternative),
        ("w1", Some("a100-80g"), 0)
    );
    let spec = wanting(|spec| spec.accelerators = vec![accelerator("a100-80g", 3), accelerator("h100-80g", 1)]);
    assert_eq!(place(&workers, &spec).unwrap().alternative, 1);

    let unplaced = refusal(
        &workers,
        &wanting(|spec| spec.accelerators = vec![accelerator("b200", 1)]),
    );
    assert_eq!(unplaced.reason, Reason::FlavorUnavailable);
    assert_eq!(
        unplaced.message,
        "none of the 3 workers that match has 1 × b200; flavors there: a100-80g, h100-80g"
    );
    assert_eq!(
        changes(&unplaced),
        [("accept flavor h100-80g", 2), ("accept flavor a100-80g", 1)]
    );
}

#[test]
fn market_and_cost() {
    let spot = wanting(|spec| spec.accelerators[0].market = Some(Market::Spot));
    let unplaced = refusal(&west(), &spot);
    assert_eq!(unplaced.reason, Reason::MarketUnavailable);
    assert_eq!(changes(&unplaced), [("drop market of the accelerators", 3)]);

    let cheap = |limit: &str| {
        wanting(|spec| {
            spec.accelerators = vec![Accelerator {
                max_hourly_cost: Some(limit.parse().unwrap()),
                ..accelerator("h100-80g", 2)
            }]
        })
    };
    assert_eq!(
        place(&west(), &cheap("9")).unwrap().hourly_cost,
        Some("9".parse().unwrap())
    );
    let unplaced = refusal(&west(), &cheap("8.99"));
    assert_eq!(unplaced.reason, Reason::TooExpensive);
    assert_eq!(
        unplaced.message,
        "on the 3 workers that match, 2 × h100-80g costs 9 an hour, the limit is 8.99"
    );
    let mut unpriced = flavors();
    unpriced[0].spec.hourly_cost = None;
    let workers = west();
    let refused = Fleet::new(&workers, &unpriced)
        .place("team-a", &cheap("9").clone())
        .unwrap_err();
    assert_eq!(refused.reason, Reason::TooExpensive);
}

#[test]
fn device_memory() {
    let sized = |gib: u64, count: u32| {
        wanting(|spec| {
            spec.model.size_bytes = Some(gib * Bytes::GIB);
            spec.accelerators[0].count = count;
        })
    };
    // A fifth on top: 66 GiB need 79.2.
    assert!(place(&west(), &sized(66, 1)).is_ok());
    assert!(place(&west(), &sized(132, 2)).is_ok());
    let unplaced = refusal(&west(), &sized(67, 1));
    assert_eq!(unplaced.reason, Reason::ModelTooLarge);
    assert_eq!(
        unplaced.message,
        "weights and working memory need 80.4 GiB on each of 1 × h100-80g, which has 80.0 GiB"
    );
    let mut workers = west();
    workers[1].spec.devices[0].memory_bytes = Some(40 * Bytes::GIB);
    assert_eq!(
        place(&workers[1..2], &sized(40, 1)).unwrap_err().reason,
        Reason::ModelTooLarge
    );
}

#[test]
fn taints() {
    let taint = |effect| Taint {
        key: "team".into(),
        value: "b".into(),
        effect,
    };
    let mut workers = west();
    workers.truncate(2);
    workers
        .iter_mut()
        .for_each(|worker| worker.spec.taints = vec![taint(TaintEffect::NoSchedule)]);
    let unplaced = refusal(&workers, &replica("chat-0").spec);
    assert_eq!(unplaced.reason, Reason::Tainted);
    assert_eq!(
        unplaced.message,
        "the 2 workers that match carry taints that are not tolerated: team=b:NoSchedule"
    );
    assert_eq!(changes(&unplaced), [("tolerate the taints of w1, w2", 2)]);
    let tolerant = wanting(|spec| {
        let toleration = Toleration {
            key: Some("team".into()),
            value: Some("b".into()),
            ..Toleration::default()
        };
        spec.placement.get_or_insert_default().tolerations = vec![toleration];
    });
    assert!(place(&workers, &tolerant).is_ok());
    // What would rather not have it is taken last.
    workers[1].spec.taints.clear();
    workers[0].spec.taints = vec![taint(TaintEffect::PreferNoSchedule)];
    assert_eq!(place(&workers, &replica("chat-0").spec).unwrap().worker, "w2");
    assert!(place(&workers[..1], &replica("chat-0").spec).is_ok());
}

#[test]
fn lifecycle_and_cordon() {
    let mut workers = west();
    workers[0].lifecycle.as_mut().unwrap().state = WorkerState::Lost;
    workers[1].lifecycle = None;
    let spec = wanting(|spec| in_regions(spec, &["us-west-2"]));
    let unplaced = refusal(&workers, &spec);
    assert_eq!(unplaced.reason, Reason::NoReadyWorkers);
    assert_eq!(
        unplaced.message,
        "none of the 2 workers that match is Ready: w1 is Lost, w2 is not heard yet"
    );
    assert_eq!(changes(&unplaced), [("drop placement.regions", 1)]);

    let mut workers = west();
    workers.iter_mut().for_each(|worker| worker.spec.unschedulable = true);
    let unplaced = refusal(&workers, &spec);
    assert_eq!(
        (unplaced.reason, unplaced.message.as_str()),
        (Reason::Cordoned, "the 2 workers that match are cordoned: w1, w2")
    );
    assert_eq!(changes(&unplaced), [("uncordon of w1, w2", 2)]);
}

#[test]
fn devices() {
    let workers = west();
    let flavors = flavors();
    let held = [bound(replica("a"), "w1", &["0"]), bound(replica("b"), "w2", &["1"])];
    let mut fleet = Fleet::new(&workers, &flavors);
    held.iter().for_each(|replica| fleet.hold(replica));
    let spec = wanting(|spec| {
        in_regions(spec, &["us-west-2"]);
        spec.accelerators[0].count = 2;
    });
    let unplaced = fleet.place("team-a", &spec).unwrap_err();
    assert_eq!(unplaced.reason, Reason::InsufficientDevices);
    assert_eq!(
        unplaced.message,
        "2 × h100-80g needed on one worker; on the 2 workers that match, 2 of 4 h100-80g are free, 1 at most on one worker"
    );
    let one = wanting(|spec| in_regions(spec, &["us-west-2"]));
    assert_eq!(fleet.place("team-a", &one).unwrap().devices, ["1"]);
    assert_eq!(fleet.place("team-a", &one).unwrap().devices, ["0"]);
    assert_eq!(
        fleet.place("team-a", &one).unwrap_err().reason,
        Reason::InsufficientDevices
    );
}

#[test]
fn processor_and_memory() {
    let mut workers = west();
    workers.truncate(1);
    workers[0].spec.cpu = Some(MilliCpu(4000));
    workers[0].spec.memory = Some(Bytes(8 * Bytes::GIB));
    let hungry = |cpu: u64, memory: u64| {
        wanting(|spec| {
            spec.accelerators.clear();
            spec.resources = Some(HostResources {
                cpu: Some(MilliCpu(cpu)),
                memory: Some(Bytes(memory * Bytes::GIB)),
            });
        })
    };
    assert_eq!(place(&workers, &hungry(4000, 8)).unwrap().flavor, None);
    let unplaced = refusal(&workers, &hungry(4500, 8));
    assert_eq!(unplaced.reason, Reason::InsufficientCpu);
    assert_eq!(
        unplaced.message,
        "4500m CPU asked for; the 1 workers that match have 4 left at most"
    );
    let unplaced = refusal(&workers, &hungry(1000, 9));
    assert_eq!(
        (unplaced.reason, changes(&unplaced)),
        (Reason::InsufficientMemory, vec![("drop resources.memory", 1)])
    );
    // What is taken is taken.
    let flavors = flavors();
    let spec = hungry(3000, 1);
    let mut fleet = Fleet::new(&workers, &flavors);
    assert!(fleet.place("team-a", &spec).is_ok());
    assert_eq!(
        fleet.place("team-a", &spec).unwrap_err().reason,
        Reason::InsufficientCpu
    );
}

fn spread_over_zones(spec: &mut ReplicaSpec, when_unsatisfiable: WhenUnsatisfiable) {
    in_regions(spec, &["us-west-2"]);
    spec.placement.get_or_insert_default().spread = vec![Spread {
        topology_key: ZONE_KEY.into(),
        max_skew: 1,
        when_unsatisfiable,
    }];
}

#[test]
fn hard_spread() {
    let mut workers = west();
    workers[0] = worker("w1", "us-west-2", "a", 8);
    let flavors = flavors();
    let spec = wanting(|spec| spread_over_zones(spec, WhenUnsatisfiable::DoNotSchedule));
    let mut fleet = Fleet::new(&workers, &flavors);
    let zones: Vec<_> = (0..5)
        .map(|_| fleet.place("team-a", &spec).unwrap().zone.unwrap())
        .collect();
    // Zone b has room for two: the third of zone a is the last that keeps the skew.
    assert_eq!(zones.iter().filter(|zone| *zone == "us-west-2b").count(), 2);
    let unplaced = fleet.place("team-a", &spec).unwrap_err();
    assert_eq!(unplaced.reason, Reason::SpreadUnsatisfiable);
    assert_eq!(
        unplaced.message,
        "the 1 workers with room are in domains that are full for now: team-a/chat over topology.kubernetes.io/zone (maxSkew 1): \
         us-west-2a has 3, us-west-2b has 2"
    );
    assert_eq!(changes(&unplaced)[0], ("drop placement.regions", 1));
    assert!(changes(&unplaced).contains(&("drop placement.spread", 1)));
}

#[test]
fn a_zone_without_a_worker_in_service_does_not_count() {
    let mut workers = west();
    workers[1].lifecycle.as_mut().unwrap().state = WorkerState::Lost;
    let flavors = flavors();
    let spec = wanting(|spec| spread_over_zones(spec, WhenUnsatisfiable::DoNotSchedule));
    let mut fleet = Fleet::new(&workers, &flavors);
    assert!((0..2).all(|_| fleet.place("team-a", &spec).is_ok()));
}

#[test]
fn soft_spread_prefers_and_does_not_refuse() {
    let mut workers = west();
    workers[0] = worker("w1", "us-west-2", "a", 4);
    let flavors = flavors();
    let spec = wanting(|spec| spread_over_zones(spec, WhenUnsatisfiable::ScheduleAnyway));
    let mut fleet = Fleet::new(&workers, &flavors);
    let names: Vec<_> = (0..6).map(|_| fleet.place("team-a", &spec).unwrap().worker).collect();
    assert_eq!(names.iter().filter(|name| *name == "w2").count(), 2);
    assert_ne!(names[0], names[1]);
}

#[test]
fn scores() {
    // Best fit: the fuller worker first.
    let workers = [worker("w1", "us-west-2", "a", 8), worker("w2", "us-west-2", "a", 2)];
    let spec = replica("chat-0").spec;
    assert_eq!(place(&workers, &spec).unwrap().worker, "w2");
    // Cached weights go before best fit.
    let mut cached = workers.clone();
    cached[0].status.get_or_insert_default().cached_models = vec![CachedModel {
        digest: spec.model.digest.clone(),
        bytes: 1,
    }];
    assert_eq!(place(&cached, &spec).unwrap().worker, "w1");
    // Fragmentation goes before both: with requests of four devices about, one of four free is not broken.
    let four = wanting(|spec| spec.accelerators[0].count = 4);
    let whole = [worker("w1", "us-west-2", "a", 4), worker("w2", "us-west-2", "a", 7)];
    let flavors = flavors();
    let mut fleet = Fleet::new(&whole, &flavors);
    fleet.learn(&four);
    fleet.learn(&spec);
    assert_eq!(fleet.place("team-a", &spec).unwrap().worker, "w2");
    assert_eq!(
        Fleet::new(&whole, &flavors).place("team-a", &spec).unwrap().worker,
        "w1"
    );
}

fn arbitrary_worker(index: usize) -> impl Strategy<Value = Worker> {
    let states = prop_oneof![6 => Just(Some(WorkerState::Ready)), 1 => Just(Some(WorkerState::Lost)), 1 => Just(None)];
    (
        0..3usize,
        0..2usize,
        prop::collection::vec(0..2usize, 0..5),
        states,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
        .prop_map(move |(region, zone, devices, state, cordoned, tainted)| {
            let mut made = worker(&format!("w{index}"), ["r0", "r1", "r2"][region], ["a", "b"][zone], 0);
            let flavor = |flavor: usize| ["h100-80g", "a100-80g"][flavor].to_owned();
            made.spec.devices = (devices.into_iter().enumerate())
                .map(|(id, of)| Device {
                    id: id.to_string(),
                    flavor: flavor(of),
                    memory_bytes: None,
                })
                .collect();
            made.lifecycle = state.and_then(|state| {
                made.lifecycle.map(|mut lifecycle| {
                    lifecycle.state = state;
                    lifecycle
                })
            });
            made.spec.unschedulable = cordoned;
            if tainted {
                made.spec.taints = vec![Taint {
                    key: "t".into(),
                    value: String::new(),
                    effect: TaintEffect::NoExecute,
                }];
            }
            made
        })
}

fn arbitrary_workers() -> impl Strategy<Value = Vec<Worker>> {
    (0..8usize).prop_flat_map(|count| (0..count).map(arbitrary_worker).collect::<Vec<_>>())
}

fn arbitrary_request() -> impl Strategy<Value = ReplicaSpec> {
    let accelerators = prop::collection::vec((0..2usize, 1..4u32), 0..3);
    (0..3usize, 0..4usize, accelerators, any::<bool>(), 0..3usize).prop_map(
        |(deployment, region, accelerators, spread, revision)| {
            wanting(|spec| {
                spec.deployment_ref.name = format!("d{deployment}");
                spec.revision = format!("v{revision}");
                let mut placement = Placement::default();
                if region < 3 {
                    placement.regions = vec![format!("r{region}")];
                }
                if spread {
                    let when_unsatisfiable = WhenUnsatisfiable::DoNotSchedule;
                    placement.spread = vec![Spread {
                        topology_key: ZONE_KEY.into(),
                        max_skew: 1,
                        when_unsatisfiable,
                    }];
                }
                spec.placement = Some(placement);
                spec.accelerators = accelerators
                    .iter()
                    .map(|&(flavor, count)| accelerator(["h100-80g", "a100-80g"][flavor], count))
                    .collect();
            })
        },
    )
}

fn run(workers: &[Worker], held: &[Replica], requests: &[ReplicaSpec]) -> Vec<Result<Placed, Unplaced>> {
    let flavors = flavors();
    let mut fleet = Fleet::new(workers, &flavors);
    held.iter().for_each(|replica| fleet.hold(replica));
    requests.iter().for_each(|spec| fleet.learn(spec));
    requests.iter().map(|spec| fleet.place("team-a", spec)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_device_has_two_owners_and_every_filter_holds(
        workers in arbitrary_workers(),
        requests in prop::collection::vec(arbitrary_request(), 0..20),
    ) {
        let held: Vec<Replica> = workers.iter().take(2).enumerate()
            .map(|(index, worker)| bound(replica(&format!("held-{index}")), worker.metadata.name.as_deref().unwrap(), &["0"]))
            .collect();
        let mut owned: HashSet<(String, String)> = held.iter()
            .map(|replica| (replica.worker().unwrap().to_owned(), "0".to_owned()))
            .collect();
        for (spec, outcome) in requests.iter().zip(run(&workers, &held, &requests)) {
            match outcome {
                Ok(placed) => {
                    let worker = workers.iter().find(|worker| worker.metadata.name.as_deref() == Some(&placed.worker)).unwrap();
                    prop_assert_eq!(worker.state(), Some(WorkerState::Ready));
                    prop_assert!(!worker.spec.unschedulable && worker.spec.taints.is_empty());
                    let regions = &spec.placement.as_ref().unwrap().regions;
                    prop_assert!(regions.is_empty() || regions.contains(&worker.spec.region));
                    match spec.accelerators.get(placed.alternative) {
                        Some(chosen) => {
                            prop_assert_eq!(placed.flavor.as_deref(), Some(chosen.flavor.as_str()));
                            prop_assert_eq!(placed.devices.len(), chosen.count as usize);
                        }
                        None => prop_assert!(placed.devices.is_empty()),
                    }
                    for id in &placed.devices {
                        let device = worker.spec.devices.iter().find(|device| device.id == *id).unwrap();
                        prop_assert_eq!(Some(device.flavor.as_str()), placed.flavor.as_deref());
                        prop_assert!(owned.insert((placed.worker.clone(), id.clone())), "{} of {} twice", id, placed.worker);
                    }
                }
                Err(unplaced) => {
                    let tally: u32 = unplaced.filtered.iter().map(|filtered| filtered.workers).sum();
                    prop_assert_eq!(tally, unplaced.considered);
                    prop_assert_eq!(unplaced.considered as usize, workers.len());
                    prop_assert!(!unplaced.message.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_order_of_workers_decides_nothing(
        workers in arbitrary_workers().prop_shuffle(),
        requests in prop::collection::vec(arbitrary_request(), 0..12),
    ) {
        let mut sorted = workers.clone();
        sorted.sort_by(|a, b| b.metadata.name.cmp(&a.metadata.name));
        prop_assert_eq!(run(&workers, &[], &requests), run(&sorted, &[], &requests));
    }

    /// What is remembered of a shape that did not fit is what a fresh look would say.
    #[test]
    fn a_remembered_failure_is_still_true(
        workers in arbitrary_workers(),
        requests in prop::collection::vec(arbitrary_request(), 1..12),
    ) {
        let outcomes = run(&workers, &[], &requests);
        let placed: Vec<Replica> = requests.iter().zip(&outcomes).enumerate().filter_map(|(index, (spec, outcome))| {
            let placed = outcome.as_ref().ok()?;
            let mut owner = bound(replica(&format!("r{index}")), &placed.worker, &[]);
            owner.spec = spec.clone();
            owner.binding.as_mut()?.devices = placed.devices.clone();
            Some(owner)
        }).collect();
        let (last, outcome) = (requests.last().unwrap(), outcomes.last().unwrap());
        if let Err(unplaced) = outcome {
            let fresh = run(&workers, &placed, std::slice::from_ref(last)).pop().unwrap();
            prop_assert_eq!(fresh.map_err(|fresh| fresh.reason), Err(unplaced.reason));
        }
    }
}

/// Decisions a second on 1,200 workers of 8 devices: `cargo test -p setpoint-inference --profile bench -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    let workers: Vec<Worker> = (0..1200)
        .map(|index| worker(&format!("w{index:04}"), "us-west-2", "a", 8))
        .collect();
    let flavors = flavors();
    let specs: Vec<ReplicaSpec> = [1, 2, 4]
        .map(|count| {
            wanting(|spec| {
                spec.accelerators[0].count = count;
                spec.revision = format!("v{count}");
            })
        })
        .into();
    let mut fleet = Fleet::new(&workers, &flavors);
    specs.iter().for_each(|spec| fleet.learn(spec));
    let begin = std::time::Instant::now();
    let placed = (0..6000)
        .filter(|index| fleet.place("team-a", &specs[index % 3]).is_ok())
        .count();
    println!(
        "{placed} of 6000 placed, {:.0} decisions/s",
        6000.0 / begin.elapsed().as_secs_f64()
    );
}
