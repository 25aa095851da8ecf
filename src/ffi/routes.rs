//! What a host serves: its own WebSockets, and what the engine answers by itself.
//!
//! Each function is apart from the others, so that a linker leaves out what a host does not call.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::failure::{Code, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::input;
use crate::Bytes;
use crate::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use crate::core::engine::Served;
use crate::core::wire::http::{Request, Response, is_field_value};
use crate::threads::handler::AnswerEndpoint;

/// Adds WebSockets whose events the host pulls.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_websocket(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { add(handle, path, |path| vec![Served::handled(host_socket(path))]) }
}

/// Describes WebSockets of the host. They are placed with the workers: the host is the only one.
pub(super) fn host_socket(path: &str) -> RouteSpec {
    RouteSpec { wants_drained: true, ..RouteSpec::new(path, RouteKind::WebSocket) }
}

/// Adds topics.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_topics(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { add(handle, path, |path| Served::topics(path).into()) }
}

/// Adds WebSockets with many topics.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_hub(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { add(handle, path, |path| vec![Served::hub(path)]) }
}

/// Adds event streams.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_events(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { add(handle, path, |path| vec![Served::events(path)]) }
}

/// Adds `/healthz` and `/readyz`.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_health(handle: *mut Heartwheel) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| host.add_routes(Served::health().into()).map(|()| OK)) }
}

/// Adds the operator's routes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_operator(handle: *mut Heartwheel) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| host.add_routes(Served::operator().into()).map(|()| OK)) }
}

/// Adds an answer that is always the same.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_get(
    handle: *mut Heartwheel,
    path: *const c_char,
    content_type: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts and bytes.
        let (path, content_type, data) = unsafe {
            (input::text(path)?, input::text(content_type)?, input::bytes(data.cast(), len)?)
        };
        let answer = always(content_type, data)?;
        let spec =
            RouteSpec { placement: Placement::Inline, ..RouteSpec::new(path, RouteKind::Get) };
        let endpoint = AnswerEndpoint(move |_: &Request| answer.clone());
        host.server.inner.add_endpoint(Served::handled(spec), Arc::new(endpoint))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Adds the files of a folder.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_files(
    handle: *mut Heartwheel,
    path: *const c_char,
    folder: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let (path, folder) = unsafe { (input::text(path)?, input::text(folder)?) };
        files(host, path, folder).map(|()| OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Answers requests for a path without a token.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_open(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text.
        match host.server.inner.open_path(unsafe { input::text(path) }?) {
            true => Ok(OK),
            false => Err(Failure::new(Code::Argument, c"the path has no route")),
        }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Gives a key of the configuration a value for a path alone.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_set(
    handle: *mut Heartwheel,
    path: *const c_char,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let [path, key, value] =
            unsafe { [input::text(path)?, input::text(key)?, input::text(value)?] };
        match host.server.inner.set_on(path, key, value) {
            Ok(true) => Ok(OK),
            Ok(false) => Err(Failure::new(Code::Argument, c"the path has no route")),
            Err(faults) => Err(Failure::told(Code::Config, &faults.join("; "))),
        }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Asks the host about each request for a path.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_ask(
    handle: *mut Heartwheel,
    path: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text.
        let path = unsafe { input::text(path) }?;
        if !host.server.inner.ask_on(path) {
            return Err(Failure::new(Code::Argument, c"the path has no route to be asked about"));
        }
        host.asked_for();
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Binds an address for the operator and returns its port.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_listen_operator(
    handle: *mut Heartwheel,
    address: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { with(handle, |host| Ok(host.listen(input::text(address)?, Face::Admin)?.into())) }
}

/// Adds routes that are made from a path.
///
/// # Safety
///
/// As [`with`] and [`input::text`].
unsafe fn add(
    handle: *mut Heartwheel,
    path: *const c_char,
    specs: impl FnOnce(&str) -> Vec<Served>,
) -> c_int {
    // the caller promises the same.
    unsafe { with(handle, |host| host.add_routes(specs(input::text(path)?)).map(|()| OK)) }
}

#[cfg(feature = "streams")]
fn files(host: &mut Host, path: &str, folder: &str) -> Result<(), Failure> {
    if !std::path::Path::new(folder).is_dir() {
        return Err(Failure::told(Code::Io, &format!("{folder}: there is no such folder")));
    }
    let route = crate::server::Route::files(path, folder).into_inline();
    let (spec, endpoint) = route.ok_or(Failure::new(Code::Argument, c"it is no route"))?;
    Ok(host.server.inner.add_endpoint(spec, endpoint)?)
}

#[cfg(not(feature = "streams"))]
fn files(_: &mut Host, _: &str, _: &str) -> Result<(), Failure> {
    Err(Failure::new(Code::Argument, c"the library was built without files (feature streams)"))
}

/// Makes an answer whose body is copied once and shared by all that it is sent to.
fn always(content_type: &str, data: &[u8]) -> Result<Response, Failure> {
    if content_type.is_empty() || !is_field_value(content_type.as_bytes()) {
        return Err(Failure::new(Code::Argument, c"the content type is no header value"));
    }
    let body =
        input::copy(data).ok_or(Failure::new(Code::Full, c"there is no memory for the answer"))?;
    let answer = Response::new(200).bytes(content_type.to_owned(), Bytes::from(body));
    let answer = answer.header("Cache-Control", "no-cache");
    Ok(answer.expect("it is a good header line"))
}
