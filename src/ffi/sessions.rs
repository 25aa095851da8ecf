//! Routes of a host whose sessions outlast connections.
//!
//! The host is called where it must be: to freeze a session when an event is pulled, to thaw one
//! within a turn, by the thread that is inside its handle and by no other. What a session was
//! frozen to belongs to the library from then on.
//!
//! Without the feature `sessions` the function of the header is there, and says so.

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;

use super::failure::{Code, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::input;

/// `heartwheel_sessions` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeartwheelSessions {
    struct_size: usize,
    key: *const c_char,
    store: *const c_char,
    is_required: c_int,
    reserved: c_int,
    context: *mut c_void,
    freeze: Option<Freeze>,
    thaw: Option<Thaw>,
    discard: Option<Discard>,
}

type Freeze = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, usize) -> i64;
type Thaw = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut *mut c_void) -> c_int;
type Discard = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// Adds WebSockets whose events the host pulls, and whose sessions outlast connections.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_route_sessions(
    handle: *mut Heartwheel,
    path: *const c_char,
    sessions: *const HeartwheelSessions,
) -> c_int {
    let body = |host: &mut Host| {
        if sessions.is_null() || !sessions.is_aligned() {
            return Err(Failure::new(Code::Argument, c"sessions must point to what they are"));
        }
        // SAFETY: it is not null and aligned, and the host says that the first member can be read.
        let size = unsafe { ptr::read(&raw const (*sessions).struct_size) };
        if !(SIZE..=SIZE_MAX).contains(&size) {
            let text = c"struct_size must be sizeof(heartwheel_sessions)";
            return Err(Failure::new(Code::Argument, text));
        }
        // SAFETY: as above, and it is as long as it says.
        let sessions = unsafe { ptr::read(sessions) };
        // SAFETY: the host's texts.
        let [path, key, store] = unsafe {
            [input::text(path)?, input::text(sessions.key)?, input::text(sessions.store)?]
        };
        host.add_sessions(path, key, store, &sessions)?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

const SIZE: usize = size_of::<HeartwheelSessions>();
/// No header makes the struct this large: such a size was not set by the host.
const SIZE_MAX: usize = 256;

// The layout is the header's.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(SIZE == 64);

#[cfg(not(feature = "sessions"))]
impl Host {
    fn add_sessions(
        &mut self,
        _: &str,
        _: &str,
        _: &str,
        _: &HeartwheelSessions,
    ) -> Result<(), Failure> {
        Err(Failure::new(Code::Argument, c"the library was built without the feature `sessions`"))
    }
}

#[cfg(feature = "sessions")]
pub(super) use with_sessions::{Calls, Held, Told, follow};

#[cfg(feature = "sessions")]
mod with_sessions {
    use std::any::Any;
    use std::ffi::c_void;
    use std::mem;
    use std::ptr;
    use std::sync::Arc;

    use super::{Code, Discard, Failure, Freeze, HeartwheelSessions, Host, Thaw};
    use crate::core::contract::event::Event;
    use crate::core::contract::sessions::Claims;
    use crate::core::engine::Served;
    use crate::ffi::asked::Kept;
    use crate::ffi::failure::OK;
    use crate::ffi::host::Pulled;
    use crate::ffi::routes::host_socket;
    use crate::server::Error;
    use crate::threads::sessions::{
        BadSession, Hold, Keeper, MemorySessions, Opening, SessionKey, SessionStore, Unsaved,
    };

    /// The functions of a host for one route, and what they are given.
    pub(in super::super) struct Calls {
        context: *mut c_void,
        freeze: Freeze,
        thaw: Thaw,
        discard: Option<Discard>,
    }

    // The header says that the thread inside the handle calls the functions with the pointer. The
    // store's thread has no way to: it has bytes alone.
    unsafe impl Send for Calls {}
    // As above: one thread at a time is inside.
    unsafe impl Sync for Calls {}

    /// What a host has thawed and was not told of yet.
    struct Thawed {
        user: *mut c_void,
        calls: Arc<Calls>,
    }

    // As for `Calls`: it is made, taken and dropped by the thread inside the handle.
    unsafe impl Send for Thawed {}

    /// The claim of a peer that is open.
    pub(in super::super) struct Held {
        hold: Hold,
        calls: Arc<Calls>,
    }

    /// What a host is told of an event.
    pub(in super::super) enum Told {
        /// The event.
        Event,
        /// Nothing: the event was for the library.
        Nothing,
        /// That a session was not saved, and why, in a word.
        Unsaved(&'static [u8]),
    }

    impl Host {
        pub(super) fn add_sessions(
            &mut self,
            path: &str,
            key: &str,
            store: &str,
            sessions: &HeartwheelSessions,
        ) -> Result<(), Failure> {
            let HeartwheelSessions { context, freeze, thaw, discard, .. } = *sessions;
            let (Some(freeze), Some(thaw)) = (freeze, thaw) else {
                return Err(Failure::new(Code::Argument, c"freeze and thaw must be functions"));
            };
            if sessions.reserved != 0 {
                return Err(Failure::new(Code::Argument, c"what is reserved must be 0"));
            }
            let key = key_of(key, sessions.is_required != 0)?;
            let store = self.store_of(store)?;
            let calls = Arc::new(Calls { context, freeze, thaw, discard });
            let thawing = calls.clone();
            let thaw = move |frozen: &[u8]| thawing.thaw(frozen);
            let keeper = Keeper::of_host(path, key, store, Box::new(thaw));
            let mut served = Served::handled(host_socket(path));
            served.claimed_by(keeper.clone());
            let inner = &mut self.server.inner;
            keeper.begin(inner.handle(), inner.engine().config()).map_err(Error::Io)?;
            match inner.add_route(served) {
                Ok(route) => self.session_routes.push((route, calls)),
                Err(refused) => {
                    keeper.end();
                    return Err(refused.into());
                }
            }
            Ok(())
        }

        fn store_of(&self, store: &str) -> Result<Arc<dyn SessionStore>, Failure> {
            if store == "memory" {
                return Ok(Arc::new(MemorySessions::default()));
            }
            match store.split_once(':') {
                Some(("sqlite", path)) if !path.is_empty() => sqlite(path),
                Some(("redis" | "rediss" | "unix" | "sentinel" | "sentinels", _)) => {
                    self.redis(store)
                }
                _ => {
                    let text = c"a store is \"memory\", \"sqlite:PATH\", or a URL of Redis";
                    Err(Failure::new(Code::Argument, text))
                }
            }
        }

        #[cfg(feature = "cluster")]
        fn redis(&self, url: &str) -> Result<Arc<dyn SessionStore>, Failure> {
            let name = &self.server.inner.engine().config().cluster.name;
            let store = crate::threads::sessions::RedisSessions::new(url, name);
            let store = store.map_err(|error| Failure::told(Code::Argument, &error.to_string()))?;
            Ok(Arc::new(store))
        }

        #[cfg(not(feature = "cluster"))]
        fn redis(&self, _: &str) -> Result<Arc<dyn SessionStore>, Failure> {
            let text = c"the library was built without the feature `cluster`";
            Err(Failure::new(Code::Argument, text))
        }
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(path: &str) -> Result<Arc<dyn SessionStore>, Failure> {
        let store = crate::threads::sessions::SqliteSessions::open(path);
        let store = store.map_err(|error| Failure::told(Code::Io, &format!("{path}: {error}")))?;
        Ok(Arc::new(store))
    }

    #[cfg(not(feature = "sqlite"))]
    fn sqlite(_: &str) -> Result<Arc<dyn SessionStore>, Failure> {
        let text = c"the library was built without the feature `sqlite`";
        Err(Failure::new(Code::Argument, text))
    }

    fn key_of(text: &str, is_required: bool) -> Result<SessionKey, Failure> {
        let key = match text.split_once(':') {
            None if text == "identity" => SessionKey::identity(),
            Some(("cookie", name)) if !name.is_empty() => SessionKey::cookie(name),
            Some(("query", name)) if !name.is_empty() => SessionKey::query(name),
            _ => {
                let text = c"a key is \"identity\", \"cookie:NAME\" or \"query:NAME\"";
                return Err(Failure::new(Code::Argument, text));
            }
        };
        Ok(if is_required { key.required() } else { key })
    }

    /// Does what an event means for the session of its peer. Returns what the host is told of it.
    pub(in super::super) fn follow(
        routes: &[(usize, Arc<Calls>)],
        job: &mut Pulled,
        event: &mut Event,
    ) -> Told {
        if routes.is_empty() {
            return Told::Event;
        }
        if let Event::Opened(request) = event {
            let borne = request.borne().take();
            let opening = borne.and_then(|borne| borne.downcast::<Opening>().ok());
            let calls = routes.iter().find(|(route, _)| *route == job.route);
            if let (Some(opening), Some((_, calls))) = (opening, calls) {
                Kept::of(&mut job.session).open(*opening, calls.clone());
            }
            return Told::Event;
        }
        let session = job.session.as_mut();
        let kept = session.and_then(|session| session.downcast_mut::<Kept>());
        match (kept, event) {
            (Some(kept), Event::Visit(_)) => return kept.follow_keeper(),
            (None, Event::Visit(_)) => return Told::Nothing,
            (Some(kept), Event::Closed(_)) => kept.let_go(),
            (Some(kept), _) => kept.note_changed(),
            (None, _) => {}
        }
        Told::Event
    }

    impl Kept {
        fn open(&mut self, opening: Opening, calls: Arc<Calls>) {
            let Opening { thawed, hold } = opening;
            let thawed = thawed.and_then(|thawed| thawed.downcast::<Thawed>().ok());
            self.user = thawed.map_or(ptr::null_mut(), |thawed| thawed.take());
            self.held = hold.map(|hold| Box::new(Held { hold, calls }));
            self.note_changed();
        }

        /// Takes note that the session may have changed.
        pub fn note_changed(&self) {
            if let Some(held) = &self.held {
                held.hold.note_changed();
            }
        }

        /// Does what the keeper asks for at a visit.
        fn follow_keeper(&mut self) -> Told {
            let Some(held) = &mut self.held else { return Told::Nothing };
            let told = match held.hold.take_unsaved() {
                Some(Unsaved::Store) => Told::Unsaved(b"store"),
                Some(Unsaved::TooBig) => Told::Unsaved(b"too_big"),
                None => Told::Nothing,
            };
            let is_due = held.hold.take_due();
            if held.hold.is_wanted() {
                self.let_go();
            } else if is_due {
                let news = held.freeze(self.user);
                held.hold.renew(news);
            }
            told
        }

        /// Saves the session for the last time.
        fn let_go(&mut self) {
            let Some(mut held) = self.held.take() else { return };
            if !held.hold.is_fenced() {
                let news = held.freeze(self.user);
                held.hold.end(news);
            }
        }
    }

    impl Held {
        /// Has the host freeze a session. Returns the bytes, if they are others than those that are
        /// saved, not too many, and the host has made any.
        fn freeze(&mut self, user: *mut c_void) -> Option<Vec<u8>> {
            let size = self.hold.bytes_max();
            let mut out = Vec::new();
            out.try_reserve_exact(size).ok()?;
            // What the host does not write is nobody else's.
            out.resize(size, 0_u8);
            let Calls { context, freeze, .. } = *self.calls;
            // SAFETY: the host's function and pointers; there is room for as many bytes.
            let len = unsafe { freeze(context, user, out.as_mut_ptr().cast(), size) };
            // A negative number is a host that has none.
            match usize::try_from(len).ok()? {
                len if len <= size => self.hold.news(out[..len].to_vec()),
                _ => {
                    self.hold.note_too_big();
                    None
                }
            }
        }
    }

    impl Calls {
        /// Has the host thaw a session.
        fn thaw(self: &Arc<Self>, frozen: &[u8]) -> Result<Box<dyn Any + Send>, BadSession> {
            let mut user = ptr::null_mut();
            // It is never null, and aligned for whatever is read from it byte by byte.
            let data = crate::ffi::event::pointer_to(frozen).cast();
            // SAFETY: the host's function and pointer; the bytes and the place live as long as the
            // call.
            let code = unsafe { (self.thaw)(self.context, data, frozen.len(), &raw mut user) };
            match code {
                OK => Ok(Box::new(Thawed { user, calls: self.clone() })),
                _ => Err(BadSession::new(format!("the host has refused it: {code}"))),
            }
        }
    }

    impl Thawed {
        /// Gives it to the host.
        fn take(mut self) -> *mut c_void {
            mem::replace(&mut self.user, ptr::null_mut())
        }
    }

    impl Drop for Thawed {
        fn drop(&mut self) {
            if let Some(discard) = self.calls.discard
                && !self.user.is_null()
            {
                // SAFETY: the host's function and pointers, of which the host was told by no event.
                unsafe { discard(self.calls.context, self.user) };
            }
        }
    }
}
