//! authentication.k8s.io/v1 TokenReview: answered, not stored.

use super::draft::Draft;
use crate::resource::ResourceDefinition;

pub(super) fn definition() -> ResourceDefinition {
    Draft::new(
        "authentication.k8s.io",
        "v1",
        "io.k8s.api.authentication.v1.TokenReview",
        "tokenreviews",
    )
    .review()
    .cluster()
    .build()
}
