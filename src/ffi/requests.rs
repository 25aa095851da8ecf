//! Requests that a host answers or lets in, and what it asks of them.

use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};

use super::asked::{Asked, Kept, add_line, refusal};
use super::failure::{Code, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::input;
use crate::Bytes;
use crate::core::contract::accept::Accept;
use crate::core::contract::event::{Event, Outcome};
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::{Refused, Served};
use crate::core::wire::http::{Method, Request, Response, is_field_value};

/// Adds requests that the host answers.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_request(
    handle: *mut Heartwheel,
    method: *const c_char,
    path: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let (method, path) = unsafe { (input::text(method)?, input::text(path)?) };
        // HEAD comes along with GET.
        let method = Method::of(method).filter(|_| method != "HEAD");
        let not_served = Failure::new(Code::Argument, c"the method is not served");
        let kind = RouteKind::answering(method.ok_or(not_served)?);
        host.asked_for();
        host.add_routes(vec![Served::handled(RouteSpec::new(path, kind))])?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Answers a request.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_respond(
    handle: *mut Heartwheel,
    peer: u64,
    status: c_int,
    content_type: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        // SAFETY: the host's text and bytes.
        let response = unsafe { response_of(status, content_type, data.cast(), len) }?;
        if host.waiting(id)?.is_judged {
            return Err(Failure::new(Code::Argument, c"it is to be let in, or refused"));
        }
        host.decide(id, |asked| Outcome::Answer(response.headers(&asked.lines)))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Adds a header line to the answer that follows.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_respond_header(
    handle: *mut Heartwheel,
    peer: u64,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        // SAFETY: the host's texts.
        let (name, value) = unsafe { (input::text(name)?, input::text(value)?) };
        add_line(host.waiting(id)?, name, value).map(|()| OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Refuses a request, or to let it in.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_refuse(
    handle: *mut Heartwheel,
    peer: u64,
    status: c_int,
    sentence: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        // SAFETY: the host's text.
        let sentence = unsafe { input::text(sentence) }?;
        let status = u16::try_from(status).ok().filter(|status| (300..600).contains(status));
        let bad = Failure::new(Code::Argument, c"a refusal's status is within 300 to 599");
        let status = status.ok_or(bad)?;
        host.decide(id, |asked| {
            let refusal = refusal(status, sentence, &asked.lines);
            match asked.is_judged {
                true => Outcome::Verdict(asked.request, Err(refusal)),
                false => Outcome::Answer(refusal.into()),
            }
        })?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Lets a request in.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_accept(
    handle: *mut Heartwheel,
    peer: u64,
    identity: *const c_char,
    publish: *const c_char,
    subscribe: *const c_char,
    protocol: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        // SAFETY: the host's texts, where they are not null.
        let [identity, publish, subscribe, protocol] = unsafe {
            [
                input::optional_text(identity)?,
                input::optional_text(publish)?,
                input::optional_text(subscribe)?,
                input::optional_text(protocol)?,
            ]
        };
        let asked = host.waiting(id)?;
        if !asked.is_judged {
            return Err(Failure::new(Code::Argument, c"it is to be answered"));
        }
        let terms = Terms { identity, publish, subscribe, protocol };
        let accept = accept(&terms, asked)?;
        host.decide(id, |asked| Outcome::Verdict(asked.request, Ok(accept)))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Writes who is at the other end.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_identity(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        let engine = host.server.inner.engine();
        engine.check_there(id)?;
        let none = Failure::new(Code::None, c"the peer has no identity");
        let identity = engine.identity_of_peer(id).ok_or(none)?;
        // SAFETY: the host's place.
        unsafe { input::show(identity.as_str().as_bytes(), text, size) }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Keeps the request that opened a peer.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_keep_request(handle: *mut Heartwheel, peer: u64) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        let job = host.job.as_mut().filter(|job| job.id == id).ok_or(Refused::Gone)?;
        let Some(Event::Opened(request)) = &host.event else {
            return Err(Failure::new(Code::Argument, c"HEARTWHEEL_OPENED is not in hand"));
        };
        Kept::of(&mut job.session).request = Some(request.clone());
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Writes the method.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_method(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the host's handle and place.
    unsafe { show(handle, peer, text, size, |request| Some(request.method().as_bytes().into())) }
}

/// Writes the path.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_path(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the host's handle and place.
    unsafe { show(handle, peer, text, size, |request| Some(request.path().as_bytes().into())) }
}

/// Writes the query.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_query(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let query = |request: &Request| request.query().map(|query| query.as_bytes().into());
    // SAFETY: the host's handle and place.
    unsafe { show(handle, peer, text, size, query) }
}

/// Writes a value of the query.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_query_value(
    handle: *mut Heartwheel,
    peer: u64,
    name: *const c_char,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let value = |request: &Request, name: &str| owned(request.query_value(name));
    // SAFETY: the host's handle, text and place.
    unsafe { show_named(handle, peer, name, text, size, value) }
}

/// Writes the first value of a header.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_header(
    handle: *mut Heartwheel,
    peer: u64,
    name: *const c_char,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let line =
        |request: &Request, name: &str| request.header_values(name).next().map(<[u8]>::to_vec);
    // SAFETY: the host's handle, text and place.
    unsafe { show_named(handle, peer, name, text, size, line) }
}

/// Writes the trace context.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_trace(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let trace = |request: &Request| request.trace().map(|trace| trace.to_string().into_bytes());
    // SAFETY: the host's handle and place.
    unsafe { show(handle, peer, text, size, trace) }
}

/// Writes a parameter of the path.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_parameter(
    handle: *mut Heartwheel,
    peer: u64,
    name: *const c_char,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let parameter = |request: &Request, name: &str| owned(request.parameter(name));
    // SAFETY: the host's handle, text and place.
    unsafe { show_named(handle, peer, name, text, size, parameter) }
}

/// Shows the body.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_body(
    handle: *mut Heartwheel,
    peer: u64,
    data: *mut *const u8,
    len: *mut usize,
) -> c_int {
    let body = |host: &mut Host| {
        if data.is_null() || !data.is_aligned() || len.is_null() || !len.is_aligned() {
            return Err(Failure::new(Code::Argument, c"data and len must have a place"));
        }
        let body = host.request_of(input::peer(peer)?)?.body();
        // SAFETY: neither is null or unaligned, and the host says that they are places.
        unsafe {
            data.write(super::event::pointer_to(body));
            len.write(body.len());
        }
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Writes a part of a peer's request.
///
/// # Safety
///
/// As [`with`] and [`input::show`].
unsafe fn show(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
    part: impl FnOnce(&Request) -> Option<Vec<u8>>,
) -> c_int {
    let body = |host: &mut Host| {
        let part = part(host.request_of(input::peer(peer)?)?);
        let part = part.ok_or(Failure::new(Code::None, c"the request has none"))?;
        // the caller promises the same.
        unsafe { input::show(&part, text, size) }
    };
    // as above.
    unsafe { with(handle, body) }
}

/// As [`show`], for a part that has a name.
///
/// # Safety
///
/// As [`show`] and [`input::text`].
unsafe fn show_named(
    handle: *mut Heartwheel,
    peer: u64,
    name: *const c_char,
    text: *mut c_char,
    size: usize,
    part: impl FnOnce(&Request, &str) -> Option<Vec<u8>>,
) -> c_int {
    let body = |host: &mut Host| {
        // the caller promises the same.
        let name = unsafe { input::text(name) }?;
        let part = part(host.request_of(input::peer(peer)?)?, name);
        let part = part.ok_or(Failure::new(Code::None, c"the request has none of this name"))?;
        // as above.
        unsafe { input::show(&part, text, size) }
    };
    // as above.
    unsafe { with(handle, body) }
}

fn owned(text: Option<Cow<'_, str>>) -> Option<Vec<u8>> {
    text.map(|text| text.into_owned().into_bytes())
}

/// What a host lets a request in with.
struct Terms<'a> {
    identity: Option<&'a str>,
    publish: Option<&'a str>,
    subscribe: Option<&'a str>,
    protocol: Option<&'a str>,
}

/// Makes what lets a request in, with the lines that were added.
fn accept(terms: &Terms<'_>, asked: &Asked) -> Result<Accept, Failure> {
    let mut accept = Accept::new();
    if let Some(protocol) = terms.protocol {
        let is_offered = asked.request.has_token("Sec-WebSocket-Protocol", protocol);
        accept = Accept::with_protocol(protocol)
            .ok()
            .filter(|_| is_offered)
            .ok_or(Failure::new(Code::Argument, c"the client has not offered this subprotocol"))?;
    }
    if let Some(identity) = terms.identity {
        accept = accept.identity(identity);
    }
    if let Some(patterns) = terms.publish {
        accept = accept.publish(patterns.split_ascii_whitespace());
    }
    if let Some(patterns) = terms.subscribe {
        accept = accept.subscribe(patterns.split_ascii_whitespace());
    }
    let lines = asked.lines.as_str().split_terminator("\r\n");
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        accept = accept.header(name, value);
    }
    let checked = accept.check();
    checked.map_err(|fault| Failure::told(Code::Argument, &fault.to_string()))?;
    Ok(accept)
}

/// Makes the answer that the host describes.
///
/// # Safety
///
/// As [`input::text`], for a type that is not null, and [`input::bytes`].
unsafe fn response_of(
    status: c_int,
    content_type: *const c_char,
    data: *const u8,
    len: usize,
) -> Result<Response, Failure> {
    // the caller promises the same.
    let data = unsafe { input::bytes(data, len) }?;
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    let status =
        status.ok_or(Failure::new(Code::Argument, c"an answer's status is within 200 to 599"))?;
    let response = Response::new(status);
    if content_type.is_null() {
        return match data {
            [] => Ok(response),
            _ => Err(Failure::new(Code::Argument, c"a body has a content type")),
        };
    }
    if matches!(status, 204 | 205 | 304) {
        return Err(Failure::new(Code::Argument, c"an answer of this status has no body"));
    }
    // as above.
    let content_type = unsafe { input::text(content_type) }?;
    if content_type.is_empty() || !is_field_value(content_type.as_bytes()) {
        return Err(Failure::new(Code::Argument, c"the content type is no header value"));
    }
    let body =
        input::copy(data).ok_or(Failure::new(Code::Full, c"there is no memory for the answer"))?;
    Ok(response.bytes(content_type.to_owned(), Bytes::from(body)))
}
