//! authorization.k8s.io/v1 SubjectAccessReview: answered, not stored.

use super::access_review;
use super::draft::Draft;
use crate::resource::ResourceDefinition;

pub(super) fn definition() -> ResourceDefinition {
    Draft::new(
        access_review::GROUP,
        "v1",
        "io.k8s.api.authorization.v1.SubjectAccessReview",
        "subjectaccessreviews",
    )
    .review()
    .cluster()
    .validator(|new, _| access_review::validate_subject(new))
    .build()
}
