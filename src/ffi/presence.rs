//! Who is on a topic, as clients of a host ask and hear it.
//!
//! Without the features `client` and `presence` the functions of the header are there, and say so.

use std::ffi::{c_char, c_int};
use std::mem::size_of;
use std::ptr;

use super::failure::{Code, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::{input, links};
use crate::core::topics::After;

/// `heartwheel_member` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeartwheelMember {
    struct_size: usize,
    change: u32,
    reserved: u32,
    identity: *const c_char,
    info: *const c_char,
    connection: *const c_char,
}

/// Asks who is on a topic of the server of a client.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_presence(
    handle: *mut Heartwheel,
    client: u64,
    topic: *const c_char,
    reference: *mut u64,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text.
        let asked = host.ask_presence(input::peer(client)?, unsafe { input::text(topic) }?)?;
        // SAFETY: the host's place.
        unsafe { links::put(reference, asked) };
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Subscribes a client, which says something of itself.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_subscribe_as(
    handle: *mut Heartwheel,
    client: u64,
    topic: *const c_char,
    position: *const c_char,
    info: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let (topic, position, info) =
            unsafe { (input::text(topic)?, input::optional_text(position)?, input::text(info)?) };
        let after = position.map_or(After::Now, After::parse);
        host.subscribe_as(input::peer(client)?, topic, after, info)?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Returns how many members the topic has, by the event that was pulled last.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_event_count(handle: *mut Heartwheel) -> i64 {
    let count = |host: &mut Host| Ok(i64::try_from(host.event_count()?).unwrap_or(i64::MAX));
    // SAFETY: the host's handle.
    unsafe { with(handle, count) }
}

/// Shows a member that the event names which was pulled last.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_event_member(
    handle: *mut Heartwheel,
    index: usize,
    out: *mut HeartwheelMember,
) -> c_int {
    let body = |host: &mut Host| {
        if out.is_null() || !out.is_aligned() {
            return Err(Failure::new(Code::Argument, c"out must point to a member"));
        }
        // SAFETY: it is not null and aligned, and the host says that the first member can be read.
        let size = unsafe { ptr::read(&raw const (*out).struct_size) };
        if !(SIZE..=SIZE_MAX).contains(&size) {
            let text = c"struct_size must be sizeof(heartwheel_member)";
            return Err(Failure::new(Code::Argument, text));
        }
        let Some(member) = host.event_member(index)? else { return Ok(super::failure::DONE) };
        // SAFETY: there is room for as many bytes as the size says, which is the host's and stays.
        unsafe { out.write(HeartwheelMember { struct_size: size, ..member }) };
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

const SIZE: usize = size_of::<HeartwheelMember>();
/// No header makes the struct this large: such a size was not set by the host.
const SIZE_MAX: usize = 256;

// The layout is the header's.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(SIZE == 40);

#[cfg(not(all(feature = "client", feature = "presence")))]
mod without {
    use super::{After, Code, Failure, HeartwheelMember, Host};
    use crate::core::ground::id::ConnectionId;

    impl Host {
        pub(super) fn ask_presence(&mut self, _: ConnectionId, _: &str) -> Result<u64, Failure> {
            Err(NO_PRESENCE)
        }

        pub(super) fn subscribe_as(
            &mut self,
            _: ConnectionId,
            _: &str,
            _: After,
            _: &str,
        ) -> Result<(), Failure> {
            Err(NO_PRESENCE)
        }

        pub(super) fn event_count(&mut self) -> Result<u64, Failure> {
            Err(NO_PRESENCE)
        }

        pub(super) fn event_member(
            &mut self,
            _: usize,
        ) -> Result<Option<HeartwheelMember>, Failure> {
            Err(NO_PRESENCE)
        }
    }

    const NO_PRESENCE: Failure = Failure::new(
        Code::Argument,
        c"the library was built without the features `client` and `presence`",
    );
}

#[cfg(all(feature = "client", feature = "presence"))]
pub(super) use with_presence::Named;

#[cfg(all(feature = "client", feature = "presence"))]
mod with_presence {
    use std::ffi::CString;
    use std::ptr;

    use super::{After, Code, Failure, HeartwheelMember, Host, SIZE};
    use crate::core::client::topics::{Moves, TopicEvent, TopicMember, TopicRefused};
    use crate::core::engine::Refused;
    use crate::core::ground::id::ConnectionId;
    use crate::core::wire::hub;
    use crate::ffi::failure::c_text;
    use crate::ffi::links::{number_of, topic_taken};
    use crate::threads::link::LinkEvent;

    /// Whom an event names, as C reads it.
    pub(in super::super) struct Named {
        /// `None` if there are more than the server names.
        all: Option<Vec<Shown>>,
        count: u64,
    }

    struct Shown {
        change: u32,
        identity: Option<CString>,
        info: Option<CString>,
        connection: CString,
    }

    impl Host {
        pub(super) fn ask_presence(
            &mut self,
            id: ConnectionId,
            topic: &str,
        ) -> Result<u64, Failure> {
            let link = self.link(id).ok_or(Refused::Gone)?;
            let (number, reference) = (link.number(), link.next_reference());
            let taken = self.server.inner.with_clients(|clients, now| {
                clients.ask(now, number, |entry, _| entry.ask_presence(reference, topic))
            });
            match taken {
                Some(Err(TopicRefused::Full)) => {
                    Err(Failure::new(Code::Full, c"64 questions wait for an answer"))
                }
                taken => topic_taken(taken).map(|()| reference.into()),
            }
        }

        pub(super) fn subscribe_as(
            &mut self,
            id: ConnectionId,
            topic: &str,
            after: After,
            info: &str,
        ) -> Result<(), Failure> {
            let number = number_of(id)
                .ok_or(Failure::new(Code::Argument, c"only clients say something of themselves"))?;
            if !hub::is_info(info) {
                let text = c"info is at most 256 bytes of text without control characters";
                return Err(Failure::new(Code::Argument, text));
            }
            topic_taken(self.server.inner.with_clients(|clients, now| {
                clients.ask(now, number, |entry, _| entry.subscribe_as(topic, after, info))
            }))
        }

        pub(super) fn event_count(&mut self) -> Result<u64, Failure> {
            Ok(self.named()?.count)
        }

        /// Returns a member that the event in hand names; `None` beyond the last.
        pub(super) fn event_member(
            &mut self,
            index: usize,
        ) -> Result<Option<HeartwheelMember>, Failure> {
            let all = self.named()?.all.as_ref();
            let unnamed = Failure::new(Code::None, c"the topic has more members than are named");
            Ok(all.ok_or(unnamed)?.get(index).map(Shown::show))
        }

        fn named(&mut self) -> Result<&Named, Failure> {
            let nobody = Failure::new(Code::None, c"the event tells of no members");
            let Some(pulled) = self.link_event.as_mut() else { return Err(nobody) };
            if pulled.named.is_none() {
                pulled.named = Named::of(&pulled.event);
            }
            pulled.named.as_ref().ok_or(nobody)
        }
    }

    impl Named {
        fn of(event: &LinkEvent) -> Option<Named> {
            let LinkEvent::Topic(event) = event else { return None };
            let shown = |change| move |member: &TopicMember| Shown::new(change, member);
            match event {
                TopicEvent::Presence { members, count, .. } => {
                    let all = members.as_ref();
                    let all = all.map(|all| all.iter().map(shown(THERE)).collect());
                    Some(Named { all, count: *count })
                }
                TopicEvent::Event { topic, event } => {
                    let Moves { joined, left, count } = Moves::of(topic, event)?;
                    let all = joined.zip(left).map(|(joined, left)| {
                        let joined = joined.iter().map(shown(JOINED));
                        joined.chain(left.iter().map(shown(LEFT))).collect()
                    });
                    Some(Named { all, count })
                }
                _ => None,
            }
        }
    }

    impl Shown {
        /// A NUL, which no server of ours tells, ends a text.
        fn new(change: u32, member: &TopicMember) -> Shown {
            let text = |text: &Option<String>| text.as_deref().map(c_text);
            Shown {
                change,
                identity: text(&member.identity),
                info: text(&member.info),
                connection: c_text(&member.connection),
            }
        }

        /// The texts that it points to live as long as the event.
        fn show(&self) -> HeartwheelMember {
            let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
            HeartwheelMember {
                struct_size: SIZE,
                change: self.change,
                reserved: 0,
                identity: text(&self.identity),
                info: text(&self.info),
                connection: self.connection.as_ptr(),
            }
        }
    }

    const THERE: u32 = 0;
    const JOINED: u32 = 1;
    const LEFT: u32 = 2;
}
