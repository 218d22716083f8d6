//! What can be wrong with a patch, and which HTTP status says so.

/// A patch that cannot be applied. `Display` is the text that the user sees, as Kubernetes words it where Kubernetes has a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch document itself is malformed: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The patch is well formed but does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// This kind of patch cannot be used on this object: 415.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The patch would do more work than is allowed: 413.
    #[error("{0}")]
    TooLarge(String),
}

impl PatchError {
    /// The HTTP status code of the answer.
    #[must_use]
    pub const fn status_code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::Unprocessable(_) => 422,
        }
    }
}
