//! `file:///PATH`: a file on the worker itself.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use super::{FetchError, Resolver, Source};

/// Copies from the worker's own file system.
pub(super) struct FileResolver;

impl Resolver for FileResolver {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn fetch<'a>(&'a self, source: Source<'a>) -> BoxFuture<'a, Result<PathBuf, FetchError>> {
        Box::pin(async move {
            // file://localhost/PATH means the same, by RFC 8089
            let path = source.rest.strip_prefix("localhost").unwrap_or(source.rest);
            if !path.starts_with('/') {
                let message = format!(
                    "{} has no absolute path; write file:///PATH, with three slashes",
                    source.uri
                );
                return Err(FetchError::permanent("BadUri", message));
            }
            let from = Path::new(path);
            let failed = |error: std::io::Error| {
                let message = format!("{path} cannot be read on this worker: {error}");
                match error.kind() {
                    // it may be put there later, or on another worker
                    std::io::ErrorKind::NotFound => FetchError::transient("NotFound", message),
                    _ => FetchError::transient("Unreadable", message),
                }
            };
            let meta = tokio::fs::metadata(from).await.map_err(failed)?;
            if !meta.is_file() {
                let message = format!("{path} is not a file; name the weights' one file");
                return Err(FetchError::permanent("NotAFile", message));
            }
            let to = source.dir.join("weights");
            tokio::fs::copy(from, &to).await.map_err(failed)?;
            Ok(to)
        })
    }
}
