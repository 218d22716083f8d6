//! The agent on real processes, without an API server: a table stands in for the control plane, the testkit's engine for a model server.

mod fixture;

use std::time::Duration;

use fixture::{Bench, alive, digest, kill, until};
use setpoint_agent::OnExit;
use setpoint_inference::kinds::Phase;

/// Not a test of its own: what replicas of the other tests run. See [`fixture::engine`].
#[test]
fn engine_process() {
    let Ok(flags) = std::env::var(fixture::ENGINE_FLAGS) else {
        return;
    };
    let flags = flags.split_whitespace().map(str::to_owned);
    let options = setpoint_testkit::engine::EngineOptions::parse(flags).expect("flags");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(setpoint_testkit::engine::run(options))
        .expect("the engine runs");
}

#[tokio::test]
async fn a_replica_becomes_ready_and_is_started_again_when_it_dies() {
    let bench = Bench::new();
    let replica = bench.replica("r", "--tokens 2");
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    let ready = bench.status("r", |s| s.ready).await;
    let (pid, endpoint) = (ready.pid.unwrap(), ready.endpoint.unwrap());
    assert_eq!((ready.phase, ready.restarts), (Phase::Ready, 0));
    assert!(endpoint.starts_with("http://127.0.0.1:2"), "{endpoint}");
    assert!(fixture::answers(&endpoint).await);
    let seen = bench.written("r");

    kill(pid, "KILL");
    let down = bench.status("r", |s| !s.ready).await;
    assert_eq!(
        (down.phase, down.reason.as_deref()),
        (Phase::Starting, Some("Exited")),
        "{down:?}"
    );
    assert!(down.message.unwrap().contains("was ended by signal 9"));
    let again = bench.status("r", |s| s.ready).await;
    assert_eq!(again.restarts, 1);
    assert_ne!(again.pid, Some(pid));
    assert!(fixture::answers(&again.endpoint.unwrap()).await);
    let phases: Vec<Phase> = bench.written("r").iter().map(|s| s.phase).collect();
    assert!(
        phases[seen.len()..]
            .iter()
            .all(|p| [Phase::Starting, Phase::Ready].contains(p)),
        "{phases:?}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_killed_agents_successor_adopts_what_runs() {
    let bench = Bench::new();
    let replica = bench.replica("r", "");
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    let ready = bench.status("r", |s| s.ready).await;
    let pid = ready.pid.unwrap();

    // killed: nothing is closed in order, nothing is told
    agent.crash().await;
    assert!(alive(pid));
    let written = bench.written("r").len();
    bench.forget();
    let agent = bench.start(OnExit::Keep);
    bench.settled().await;
    assert!(alive(pid));
    assert_eq!(bench.processes("r"), [pid], "neither restarted nor doubled");
    let flapped = bench.written("r")[written..].iter().any(|s| !s.ready);
    assert!(
        !flapped,
        "an adopted replica never leaves the routes: {:?}",
        bench.written("r")
    );

    // killed in the instant between spawn and record: the marks lead to the process
    agent.crash().await;
    bench.edit_record("r", |record| {
        record["process"] = serde_json::Value::Null;
        record["readyAt"] = serde_json::Value::Null;
    });
    let written = bench.written("r").len();
    let agent = bench.start(OnExit::Keep);
    bench.bind([&replica]);
    until("it is looked at", || bench.written("r").len() > written).await;
    let ready = bench.status("r", |s| s.ready).await;
    assert_eq!((ready.pid, ready.restarts), (Some(pid), 0));
    assert_eq!(bench.processes("r"), [pid]);

    // an adopted process that dies is noticed, though it is nobody's child
    kill(pid, "KILL");
    let again = bench.status("r", |s| s.ready && s.pid != Some(pid)).await;
    assert_eq!(again.restarts, 1);

    // and one that died while no agent watched is started anew
    agent.crash().await;
    kill(again.pid.unwrap(), "KILL");
    until("it is dead", || !alive(again.pid.unwrap())).await;
    let agent = bench.start(OnExit::Stop);
    let anew = bench.status("r", |s| s.ready && s.pid != again.pid).await;
    assert_eq!(anew.restarts, 2);
    agent.stop().await;
    assert!(bench.processes("r").is_empty());
}

/// Not a test of its own: an agent in a process of its own, for the test below.
#[test]
fn agent_process() {
    let Some(dir) = std::env::var_os(fixture::AGENT_DIR) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(fixture::agent_on(dir.as_ref()));
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_instant_neither_doubles_nor_loses_a_process() {
    const REPLICAS: [&str; 4] = ["a", "b", "c", "d"];
    let bench = Bench::new();
    let replicas = REPLICAS.map(|name| bench.replica(name, ""));
    bench.write_wishes(&replicas);
    // from before the first spawn to after the last: every step of a start is hit by some kill
    for millis in (0..24).map(|n| n * 4) {
        let mut agent = bench.spawn_agent();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        agent.kill().expect("it is killed");
        agent.wait().expect("it is reaped");
        for name in REPLICAS {
            let groups = bench.groups(name);
            assert!(groups <= 1, "{groups} processes of {name} after {millis} ms");
        }
    }
    let settled: Vec<_> = {
        bench.bind(&replicas);
        let agent = bench.start(OnExit::Keep);
        for name in REPLICAS {
            bench.status(name, |s| s.ready).await;
        }
        agent.crash().await;
        REPLICAS.iter().flat_map(|name| bench.processes(name)).collect()
    };
    assert_eq!(settled.len(), REPLICAS.len());
    // with nothing wished for, nothing stays
    bench.bind([]);
    let agent = bench.start(OnExit::Keep);
    until("all are stopped", || settled.iter().all(|pid| !alive(*pid))).await;
    agent.stop().await;
}

#[tokio::test]
async fn processes_of_nobody_are_stopped() {
    let bench = Bench::new();
    let (kept, lost, moved) = (
        bench.replica("kept", ""),
        bench.replica("lost", ""),
        bench.replica("moved", ""),
    );
    bench.bind([&kept, &lost, &moved]);
    let agent = bench.start(OnExit::Keep);
    for name in ["kept", "lost", "moved"] {
        bench.status(name, |s| s.ready).await;
    }
    agent.crash().await;
    // the record of one is lost, and another was bound elsewhere meanwhile
    bench.remove_record("lost");
    bench.bind([&kept]);
    let agent = bench.start(OnExit::Stop);
    until("the lost one is stopped", || bench.processes("lost").is_empty()).await;
    until("the moved one is stopped", || bench.processes("moved").is_empty()).await;
    assert_eq!(bench.processes("kept").len(), 1);
    assert!(bench.released().is_empty(), "neither is being deleted");
    agent.stop().await;
}

#[tokio::test]
async fn nothing_stops_while_the_control_plane_is_silent() {
    let bench = Bench::new();
    let replica = bench.replica("r", "");
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    let first = bench.status("r", |s| s.ready).await.pid.unwrap();
    agent.crash().await;
    // the agent comes back and the control plane does not: no list, no writes
    bench.forget();
    bench.set_down(true);
    let agent = bench.start(OnExit::Keep);
    bench.settled().await;
    assert_eq!(bench.processes("r"), [first]);
    // not only kept: also started again
    kill(first, "KILL");
    until("a new process", || {
        bench.processes("r").first().is_some_and(|pid| *pid != first)
    })
    .await;
    // what was seen meanwhile is told once somebody listens
    bench.set_down(false);
    let status = bench.status("r", |s| s.ready && s.pid != Some(first)).await;
    assert_eq!(status.restarts, 1);
    bench.bind([]);
    until("it is stopped by the first list", || bench.processes("r").is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_deleted_replica_drains_and_is_released_when_all_of_it_is_gone() {
    let bench = Bench::new();
    // a grandchild outlives its parent's SIGTERM, in a session of its own
    let script = "trap '' TERM; setsid sleep 600 & exec \"$@\"";
    let mut replica = bench.replica("r", "--latency-ms 300");
    let engine = replica.spec.engine.command.clone();
    replica.spec.engine.command = ["/bin/sh", "-c", script, "sh"]
        .map(str::to_owned)
        .into_iter()
        .chain(engine)
        .collect();
    replica.spec.drain_seconds = 20;
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    let ready = bench.status("r", |s| s.ready).await;
    assert_eq!(bench.processes("r").len(), 2);

    // a request that is in flight when the replica is deleted is answered
    let asked = tokio::spawn(fixture::chat(ready.endpoint.unwrap()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.delete("r");
    let draining = bench.status("r", |s| s.phase == Phase::Draining).await;
    assert!(!draining.ready);
    assert_eq!(asked.await.unwrap(), Some(200));
    until("it is released", || bench.released() == ["r"]).await;
    assert!(
        bench.processes("r").is_empty(),
        "released before its last process was gone"
    );
    assert!(!bench.has_record("r"));
    agent.stop().await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_drain_time() {
    let bench = Bench::new();
    let mut replica = bench.replica("r", "--ignore-term");
    replica.spec.drain_seconds = 1;
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    bench.status("r", |s| s.ready).await;
    let began = std::time::Instant::now();
    bench.delete("r");
    until("it is released", || bench.released() == ["r"]).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it had a second to drain");
    assert!(bench.processes("r").is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn one_that_never_ran_is_released_at_once() {
    let bench = Bench::new();
    let mut replica = bench.replica("r", "");
    replica.metadata.deletion_timestamp = Some(fixture::time());
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Keep);
    until("it is released", || bench.released() == ["r"]).await;
    bench.settled().await;
    assert_eq!(
        bench.released(),
        ["r"],
        "once, though it stays listed until the API server has dropped it"
    );
    assert_eq!(bench.starts("r"), 0);
    agent.stop().await;
}

#[tokio::test]
async fn a_device_never_has_two_owners() {
    let bench = Bench::new();
    let (one, two) = (
        bench.replica_on("one", "", &["0", "1"]),
        bench.replica_on("two", "", &["1"]),
    );
    bench.bind([&one]);
    let agent = bench.start(OnExit::Stop);
    bench.status("one", |s| s.ready).await;
    // bound to a device that is taken: the control plane erred, or was quicker than the process' end
    bench.bind([&one, &two]);
    let waits = bench.status("two", |s| s.reason.is_some()).await;
    assert_eq!(
        (waits.phase, waits.reason.as_deref()),
        (Phase::Pending, Some("DeviceBusy"))
    );
    assert!(
        waits
            .message
            .unwrap()
            .contains("device 1 is still held by the processes of team-a/one")
    );
    assert_eq!(bench.starts("two"), 0);
    bench.delete("one");
    bench.status("two", |s| s.ready).await;
    assert!(bench.processes("one").is_empty());
    assert_eq!(bench.variable("two", "CUDA_VISIBLE_DEVICES"), "1");
    agent.stop().await;
    assert!(bench.processes("two").is_empty());
    let last = bench.written("two").pop().unwrap();
    assert_eq!(
        (last.phase, last.reason.as_deref()),
        (Phase::Stopped, Some("AgentStopped"))
    );
}

#[tokio::test]
async fn an_engine_that_no_longer_answers_leaves_the_routes_and_is_then_restarted() {
    let bench = Bench::new();
    let mut replica = bench.replica("r", "");
    replica.spec.engine.failure_threshold = 1;
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Stop);
    let ready = bench.status("r", |s| s.ready).await;
    fixture::fail_health(&ready.endpoint.unwrap()).await;
    let ill = bench.status("r", |s| !s.ready).await;
    assert_eq!(
        (ill.pid, ill.reason.as_deref()),
        (ready.pid, Some("Unhealthy")),
        "off the routes first, alive still"
    );
    let again = bench.status("r", |s| s.ready).await;
    assert_ne!(again.pid, ready.pid);
    assert_eq!(again.restarts, 1);
    agent.stop().await;
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let bench = Bench::new();
    let mut mismatch = bench.replica("mismatch", "");
    mismatch.spec.model.digest = digest(b"something else");
    let mut missing = bench.replica("missing", "");
    missing.spec.engine.command = vec!["/no/such/program".into()];
    let mut crashes = bench.replica("crashes", "");
    crashes.spec.engine.command = ["/bin/sh", "-c", "echo out of memory >&2; exit 7"]
        .map(str::to_owned)
        .into();
    let mut slow = bench.replica("slow", "--fail-health");
    slow.spec.engine.startup_timeout_seconds = 1;
    bench.bind([&mismatch, &missing, &crashes, &slow]);
    let agent = bench.start(OnExit::Stop);
    let failed = bench.status("mismatch", |s| s.phase == Phase::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("DigestMismatch"));
    let failed = bench.status("missing", |s| s.phase == Phase::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("CannotRun"));
    assert!(failed.message.unwrap().contains("/no/such/program"));
    let crash = bench.status("crashes", |s| s.restarts == 2).await;
    assert_eq!(crash.reason.as_deref(), Some("Exited"));
    let message = crash.message.unwrap();
    assert!(message.contains("exited with code 7"), "{message}");
    assert!(message.contains("its last words: out of memory"), "{message}");
    let late = bench.status("slow", |s| s.restarts == 1).await;
    assert!(
        late.message
            .unwrap()
            .contains("not ready after 1 s: /health answers 503")
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_strangers_answer_on_the_port_is_not_readiness() {
    let bench = Bench::new();
    let mut replica = bench.replica("r", "");
    // the replica's process never listens; somebody else does, on its port
    replica.spec.engine.command = vec![
        "/bin/sh".into(),
        "-c".into(),
        "echo $0; exec sleep 600".into(),
        "{port}".into(),
    ];
    bench.bind([&replica]);
    let agent = bench.start(OnExit::Stop);
    bench.status("r", |s| s.pid.is_some()).await;
    until("the port is told", || bench.log("r").contains('\n')).await;
    let port = bench.log("r").trim().parse().expect("a port");
    let options = setpoint_testkit::engine::EngineOptions {
        port,
        ..Default::default()
    };
    let stranger = setpoint_testkit::engine::TestEngine::start(options)
        .await
        .expect("the stranger listens");
    bench.settled().await;
    assert!(bench.written("r").iter().all(|s| !s.ready), "{:?}", bench.written("r"));
    drop(stranger);
    agent.stop().await;
}
