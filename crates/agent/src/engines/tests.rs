use std::os::unix::fs::PermissionsExt as _;

use setpoint_inference::kinds::{Binding, EnvVar};

use super::*;

fn replica(type_: EngineType, command: &[&str]) -> Replica {
    let mut replica = Replica::default();
    replica.spec.engine.type_ = type_;
    replica.spec.engine.command = command.iter().map(|word| (*word).to_owned()).collect();
    replica.spec.model.name = "smol".into();
    replica.binding = Some(Binding {
        devices: vec!["3".into(), "5".into()],
        ..Binding::default()
    });
    replica
}

fn line(replica: &Replica, engine_dir: Option<&Path>) -> Result<CommandLine, EngineError> {
    command_line(&Launch {
        replica,
        model: Path::new("/w/abc"),
        host: [127, 0, 0, 1].into(),
        port: 20_007,
        engine_dir,
    })
}

#[test]
fn a_command_is_filled_in() {
    let mut replica = replica(
        EngineType::Command,
        &["serve-{name}", "{model}", "a{{b}}c", "{host}:{port}"],
    );
    replica.spec.engine.args = vec!["--gpus={devices}".into()];
    let variable = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: value.into(),
    };
    replica.spec.engine.env = vec![variable("P", "{port}"), variable("CUDA_VISIBLE_DEVICES", "0,1,2,3")];
    let line = line(&replica, None).expect("a command line");
    assert_eq!(line.program, PathBuf::from("serve-smol"));
    assert_eq!(line.args, ["/w/abc", "a{b}c", "127.0.0.1:20007", "--gpus=3,5"]);
    let env: Vec<_> = line.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("CUDA_VISIBLE_DEVICES", "3,5"), ("P", "20007")]);
}

#[test]
fn wrong_templates_are_named() {
    for (word, says) in [
        ("{prot}", "spec.engine.command[1]: {prot} is no placeholder"),
        ("{port", "has no partner"),
        ("port}", "has no partner"),
        ("{", "has no partner"),
    ] {
        let error = line(&replica(EngineType::Command, &["x", word]), None).unwrap_err();
        assert!(error.to_string().contains(says), "{word}: {error}");
    }
    let error = line(&replica(EngineType::Command, &[]), None).unwrap_err();
    assert!(matches!(error, EngineError::NoCommand));
}

#[test]
fn our_own_engine_is_found_in_the_operators_folder() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(EngineType::Candle, &[]);
    let error = line(&replica, Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    assert!(
        error.contains("cargo build --release -p setpoint-engine-candle"),
        "{error}"
    );
    let program = dir.path().join("setpoint-engine-candle");
    std::fs::write(&program, "").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let line = line(&replica, Some(dir.path())).expect("found");
    assert_eq!(line.program, program);
    let args = line.args.join(" ");
    assert_eq!(args, "--model /w/abc --host 127.0.0.1 --port 20007 --name smol");
}
