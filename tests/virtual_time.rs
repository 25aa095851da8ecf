//! A server by a clock that is moved by hand, with connections in memory: what embedders test
//! theirs with, and what only such a clock can show. Nothing here sleeps; days pass.

mod common;

#[path = "virtual_time/cohorts.rs"]
mod cohorts;
#[path = "virtual_time/deadlines.rs"]
mod deadlines;
#[path = "virtual_time/drain_hooks.rs"]
mod drain_hooks;
#[path = "virtual_time/long.rs"]
mod long;
#[path = "virtual_time/network.rs"]
mod network;
#[path = "virtual_time/publish_hooks.rs"]
mod publish_hooks;
#[path = "virtual_time/repeats.rs"]
mod repeats;
#[path = "virtual_time/route_limits.rs"]
mod route_limits;
#[path = "virtual_time/short_way.rs"]
mod short_way;
#[path = "virtual_time/subscriber_hooks.rs"]
mod subscriber_hooks;
#[path = "virtual_time/subscriptions.rs"]
mod subscriptions;
#[path = "virtual_time/takeover.rs"]
mod takeover;
#[path = "virtual_time/threads.rs"]
mod threads;
#[path = "virtual_time/timers.rs"]
mod timers;
#[path = "virtual_time/traces.rs"]
mod traces;
#[path = "virtual_time/typed.rs"]
mod typed;
