//! GET of one object or one part of it.

use http::StatusCode;

use crate::{
    Answer, Response,
    context::Context,
    options::{At, ListOptions},
    respond,
};

/// Answers the object at the path. The resourceVersion option means what it means for lists.
pub(crate) async fn get(cx: &Context) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let options = ListOptions::parse(&cx.query, false)?;
    let key = cx.key();
    if let At::Exact(revision) = options.at {
        let found = cx
            .server
            .cache
            .store()
            .get(&setpoint_store::Key::new(&*key), Some(revision))
            .await;
        let versioned = found
            .map_err(|e| super::list::store_status(&e))?
            .ok_or_else(|| cx.not_found())?;
        let object = setpoint_cache::Object::new(setpoint_store::Key::new(key), &versioned)
            .map_err(setpoint_meta::status::Status::internal)?;
        return respond::object(cx, StatusCode::OK, negotiated, &object);
    }
    super::list::settle(cx, options.at).await?;
    let object = cx.cache().get(&key).ok_or_else(|| cx.not_found())?;
    respond::object(cx, StatusCode::OK, negotiated, &object)
}
