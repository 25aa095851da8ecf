//! Routes: what an application serves on a path.

use std::sync::Arc;

use super::RouteStart;
use crate::core::config::Takeover;
use crate::core::contract::accept::Accept;
use crate::core::contract::offer::Offer;
use crate::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use crate::core::engine::Served;
use crate::core::topics::{Change, Payload};
use crate::core::wire::http::{Method, Refusal, Request, Response};
#[cfg(feature = "sessions")]
use crate::io::event_loop::EventLoop;
use crate::threads::handle::Handle;
use crate::threads::handler::{
    AnswerEndpoint, Authorize, Endpoint, Handler, Place, WebSocketEndpoint,
};
use crate::threads::hooks::{self, PublishEndpoint};
use crate::threads::peer::Peer;

/// A route: a path, what is served there, where handlers run, and who may ask.
pub struct Route {
    /// What the engine is told. Some services are of several kinds, or have several paths.
    specs: Vec<Served>,
    /// What its handler, or its hook, is run by. The engine answers a route without one.
    endpoint: Option<Arc<dyn Endpoint>>,
    authorize: Option<Arc<Authorize>>,
    /// What is done as soon as the server is built.
    pub(super) starts: Vec<RouteStart>,
    /// The folder whose files it serves.
    #[cfg(feature = "streams")]
    pub(super) folder: Option<std::path::PathBuf>,
}

impl Route {
    /// Serves WebSocket connections on `path`.
    ///
    /// `{name}` at the end of a segment stands for the rest of the segment, whatever it is, and
    /// `{name...}` as the last segment for the rest of the path: see
    /// [`Request::parameter`](Request::parameter). Everything else stands for itself, however a
    /// request encodes it; a `/` that is encoded as `%2F` separates nothing, and `.` and `..` are
    /// segments as any other. A path that no request could match is refused by
    /// [`build`](crate::Builder::build), and so is a second route for the same method there.
    pub fn websocket(path: impl Into<String>, handler: impl Handler) -> Route {
        Route::handled(path, RouteKind::WebSocket, WebSocketEndpoint(handler))
    }

    /// Serves WebSocket connections on `path`, with a handler whose sessions outlast them: a client
    /// that comes back, here or to another server with the same store, goes on with its session.
    /// See [`Resume`] for an example.
    ///
    /// The session is named by the path of the route and by `key`. It is loaded from `store` before
    /// the upgrade is answered, behind [`Route::authorize`]; where that takes longer than
    /// `deadlines.handshake`, or the store fails, the answer is 503, and no session is begun that
    /// could later overwrite the one that is there. It is saved when the connection ends, and every
    /// `sessions.save` if it has changed. It is gone when it was not saved or renewed for
    /// `sessions.ttl`.
    ///
    /// A session is of one connection at a time. A newer one with the same key ends the older with
    /// the close code 4409 ([`CloseReason::Replaced`]). If both are on this server, the older is
    /// frozen first, behind what its handler is in; the newer waits for that, for a second or half
    /// of `deadlines.handshake`, and then takes what was saved last: what the older one saves
    /// afterwards is refused. An older connection on another server that has not ended is waited
    /// for as long, and ends when its next save or renewal is refused, at most `sessions.save`
    /// later.
    ///
    /// A store that waits, for a disk or a network, has a thread of its own for this route: it
    /// holds up neither the loop nor a worker, also with `workers = 0` and [`Route::inline`]. At
    /// most 1,024 upgrades wait for it; more are refused with 503. A server that ends waits for the
    /// last saves for two seconds.
    ///
    /// [`Resume`]: crate::Resume
    /// [`CloseReason::Replaced`]: crate::CloseReason::Replaced
    #[cfg(feature = "sessions")]
    pub fn sessions(
        path: impl Into<String>,
        handler: impl crate::threads::sessions::Resume,
        key: crate::threads::sessions::SessionKey,
        store: Arc<impl crate::threads::sessions::SessionStore>,
    ) -> Route {
        let path = path.into();
        let (keeper, handler) = crate::threads::sessions::Keeper::new(&path, handler, key, store);
        let mut route = Route::websocket(path, handler);
        for served in &mut route.specs {
            served.claimed_by(keeper.clone());
        }
        let begin =
            move |inner: &mut EventLoop| keeper.begin(inner.handle(), inner.engine().config());
        route.starts.push(Box::new(begin));
        route
    }

    /// Answers GET and HEAD on `path`.
    pub fn get<F>(path: impl Into<String>, answer: F) -> Route
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        Route::on(Method::Get, path, answer)
    }

    /// Answers POST on `path`; the body is complete when `answer` is called.
    pub fn post<F>(path: impl Into<String>, answer: F) -> Route
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        Route::on(Method::Post, path, answer)
    }

    /// Answers requests of a method on `path`; the body is complete when `answer` is called. HEAD
    /// follows GET, and OPTIONS and 405 name the methods of a path by themselves.
    pub fn on<F>(method: Method, path: impl Into<String>, answer: F) -> Route
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        Route::handled(path, RouteKind::answering(method), AnswerEndpoint(answer))
    }

    /// Answers requests of a method on `path` whose bodies have up to `body_bytes`, whatever
    /// `limits.message_bytes` says: `handler` takes them in pieces. See [`Upload`].
    ///
    /// [`Upload`]: crate::Upload
    #[cfg(feature = "streams")]
    pub fn upload(
        method: Method,
        path: impl Into<String>,
        body_bytes: u64,
        handler: impl crate::threads::upload::Upload,
    ) -> Route {
        let endpoint = crate::threads::upload::UploadEndpoint(handler);
        let route = Route::handled(path, RouteKind::answering(method), endpoint);
        route.each(|spec| spec.piecewise = Some(body_bytes))
    }

    /// Serves topics on `path`, which has `{topic}`. Each topic has a WebSocket, an event
    /// stream, a GET of its newest event, and a POST to publish.
    pub fn topics(path: impl Into<String>) -> Route {
        Route::own(Served::topics(&path.into()))
    }

    /// Serves WebSocket connections with many topics each, and JSON messages.
    pub fn hub(path: impl Into<String>) -> Route {
        Route::own([Served::hub(&path.into())])
    }

    /// Serves event streams of the topics that the query names: `?topic=a&topic=b`.
    pub fn events(path: impl Into<String>) -> Route {
        Route::own([Served::events(&path.into())])
    }

    /// Serves `GET /healthz` (200 as long as the loop turns) and `GET /readyz` (503 while
    /// draining), on every listener and without a token.
    pub fn health() -> Route {
        Route::own(Served::health())
    }

    /// Serves the operator, only on the operator's listeners: `GET /metrics` (Prometheus text),
    /// `GET /connections` (JSON), `DELETE /connections/{id}`, `GET /config` (TOML), `POST /drain`,
    /// `POST /shed?fraction=0.3`; with the feature `cluster` `GET /nodes`. See
    /// [`operating`](crate::guide::operating).
    pub fn operator() -> Route {
        Route::own(Served::operator())
    }

    /// Serves the files of a folder, with GET and HEAD, behind `path`: `/` or `/static/`. The page
    /// of a folder is its `index.html`. Conditional requests and single ranges are answered,
    /// several ranges at once by the whole file. `NAME.br` or `NAME.gz` stands for NAME where the
    /// client takes it and it is not older. Names that begin with a dot are not served, nor is what
    /// leads out of the folder, through links neither. A route for the very path wins.
    ///
    /// Files are read by workers: up to 128 KiB at once, larger ones in slices of 64 KiB, of which
    /// a slow client holds one. With `workers = 0` the loop reads them, and waits for the disk. At
    /// most 16 files stay open between two slices. A file that changes while it is sent ends the
    /// connection for the reason `cut`.
    #[cfg(feature = "streams")]
    pub fn files(path: &str, folder: impl Into<std::path::PathBuf>) -> Route {
        let (prefix, folder) = (format!("{}/", path.trim_end_matches('/')), folder.into());
        let files = super::files::Files::new(&prefix, folder.clone());
        let answer = move |request: &Request| files.answer(request);
        Route { folder: Some(folder), ..Route::get(format!("{prefix}{{rest...}}"), answer) }
    }

    /// Runs the handler on the loop thread. The handler must never block: everything else waits for
    /// it. This saves two wake-ups and two switches of context for each message.
    pub fn inline(self) -> Route {
        self.each(|spec| spec.placement = Placement::Inline)
    }

    /// Serves this route on the operator's listeners instead of the public ones.
    pub fn admin(self) -> Route {
        self.each(|spec| spec.face = Face::Admin)
    }

    /// Answers this route without a token, even if `admission.tokens` is set: for public pages,
    /// such as one that then asks with a token.
    pub fn open(self) -> Route {
        self.each(|spec| spec.is_open = true)
    }

    /// Calls `authorize` for each request before it is served, whatever the route serves: where
    /// handlers of the route run, and behind the check of the token. The answer must begin within
    /// `deadlines.handshake`; a panic is answered with 500.
    ///
    /// The request is complete, but for the body of a POST to a topic, which is read as it comes.
    /// [`Accept`] lets it in, perhaps with an identity, with rights, and with headers of the
    /// answer; a [`Refusal`] is the answer.
    pub fn authorize<F>(mut self, authorize: F) -> Route
    where
        F: Fn(&Request) -> std::result::Result<Accept, Refusal> + Send + Sync + 'static,
    {
        self.authorize = Some(Arc::new(authorize));
        self.specs.iter_mut().for_each(Served::judged);
        self
    }

    /// Has `hook` decide on what clients publish here, of topics ([`Route::topics`]) and of hubs
    /// ([`Route::hub`]): `Ok(Some(payload))` publishes, the payload as it came or another;
    /// `Ok(None)` publishes nothing, since the hook has taken the event over; `Err(refusal)`
    /// refuses.
    ///
    /// ```
    /// use heartwheel::http::Refusal;
    /// use heartwheel::{Offer, Peer, Route};
    ///
    /// let topics = Route::topics("/topics/{topic}").on_publish(|peer: &Peer, offer: Offer| {
    ///     match offer.payload.as_text() {
    ///         Some("status") => {
    ///             // Taken over: it is not published.
    ///             let _ = peer.publish("requests", "status");
    ///             Ok(None)
    ///         }
    ///         Some(_) => Ok(Some(offer.payload)),
    ///         None => Err(Refusal::new(415, "this topic takes text")),
    ///     }
    /// });
    /// ```
    ///
    /// The hook is called where handlers of the route run: on a worker, where it may block, or on
    /// the loop thread with [`Route::inline`]. It is called when rights, name and memory allow the
    /// event, and for nothing that the server's own code publishes ([`Peer::publish`],
    /// [`Handle::publish`]). Calls for one connection never overlap and come in the order in which
    /// it published; what a WebSocket publishes waits for the hook within `limits.inbox_messages`
    /// and `limits.inbox_bytes`, and then the client is not read. Events that the hook itself
    /// publishes come before what it returns.
    ///
    /// | the verdict | POST | `/ws` | a WebSocket of a topic |
    /// |---|---|---|---|
    /// | published | 200 with the id | `published` with the id | the event comes back |
    /// | taken over | 200 with the id `null` | `published` with the id `null` | nothing |
    /// | refused | the refusal | `error` with its sentence | closed: 1008, `forbidden` |
    /// | a panic | 500 | closed: 1011, `panic` | closed: 1011, `panic` |
    ///
    /// What a WebSocket of a topic has sent behind an event that was refused is refused, too: its
    /// client knows by the end that the beginning of what it has sent was published. The code of
    /// `error` follows from the status: `bad_request` for 400 and 409 to 422, `limit`
    /// for 429, `unavailable` for 500 and more, else `forbidden`. A hook that makes a
    /// [`Payload::Json`](crate::Payload::Json) that is no JSON has refused with 500.
    ///
    /// What a client of `/ws` sends again after a break, while the first call still runs, comes to
    /// the hook a second time, and is published once: what a hook takes over must bear that.
    ///
    /// A POST that the hook has not answered within `deadlines.handshake` is answered with 503, and
    /// is not published then. A WebSocket waits, and so does its end; `deadlines.handler` counts a
    /// hook that blocks. Verdicts are counted (`heartwheel_publish_hooks_total`). A second call of
    /// this method replaces the hook. On a route of another kind the hook is refused by
    /// [`build`](crate::Builder::build).
    ///
    /// [`Handle::publish`]: crate::Handle::publish
    pub fn on_publish<F>(mut self, hook: F) -> Route
    where
        F: Fn(&Peer, Offer) -> std::result::Result<Option<Payload>, Refusal>
            + Send
            + Sync
            + 'static,
    {
        self.endpoint = Some(Arc::new(PublishEndpoint(hook)));
        self.specs.iter_mut().for_each(Served::hooked);
        self
    }

    /// Calls `hook` with the name of a topic when the topic gets its first subscriber: to begin
    /// what is wanted only while somebody listens.
    ///
    /// ```
    /// use heartwheel::{Handle, Route};
    ///
    /// let topics = Route::topics("/topics/{topic}")
    ///     .on_first_subscriber(|handle: &Handle, topic: &str| {
    ///         let _ = handle.publish("cameras", format!("start {topic}"));
    ///     })
    ///     .on_last_subscriber(|handle: &Handle, topic: &str| {
    ///         let _ = handle.publish("cameras", format!("stop {topic}"));
    ///     });
    /// ```
    ///
    /// Subscribers of the whole server count, by whatever route they have come: WebSockets, event
    /// streams, clients of `/ws`, and subscriptions of the server's own code. One that begins with
    /// what is retained counts at once; a HEAD of an event stream counts for a moment. The server's
    /// own topics (`$stats`) are told as the others.
    ///
    /// Of one topic, calls never overlap and alternate: first, last, first. None is left out,
    /// however fast subscribers come and go. Calls for different topics run side by side, on the
    /// workers, where they may block; with `workers = 0` on the loop thread, where they must not,
    /// also for a route that is [`inline`](Route::inline). Until the hooks of a topic have returned
    /// it counts against `limits.topics`: if that many wait, no other topic can be subscribed to.
    /// `deadlines.handler` counts a hook that blocks; one that panics is counted
    /// (`heartwheel_handler_panics_total`), and the next one is called all the same. A drain waits
    /// for what is told of its ends.
    ///
    /// Each call of this method adds a hook; hooks are called in the order of routes.
    pub fn on_first_subscriber<F>(self, hook: F) -> Route
    where
        F: Fn(&Handle, &str) + Send + Sync + 'static,
    {
        self.hook_audience(Change::First, hook)
    }

    /// Calls `hook` with the name of a topic when the topic has lost its last subscriber: see
    /// [`Route::on_first_subscriber`].
    pub fn on_last_subscriber<F>(self, hook: F) -> Route
    where
        F: Fn(&Handle, &str) + Send + Sync + 'static,
    {
        self.hook_audience(Change::Last, hook)
    }

    fn hook_audience(
        mut self,
        change: Change,
        hook: impl Fn(&Handle, &str) + Send + Sync + 'static,
    ) -> Route {
        self.starts.push(Box::new(move |inner| {
            let hook = hooks::audience_hook(&inner.handle(), hook);
            inner.hook_audience(change, hook);
            Ok(())
        }));
        self
    }

    /// Gives a key of the configuration a value for this route alone, as text that
    /// [`Config::set`] takes: the route is stricter or laxer than the others.
    ///
    /// ```
    /// use heartwheel::{Event, Peer, Route};
    ///
    /// let handler = |_: &Peer, _: Event| {};
    /// let sensors = Route::websocket("/sensors", handler)
    ///     .set("limits.message_bytes", "4k")
    ///     .set("limits.messages_per_second", "10")
    ///     .set("heartbeat.interval", "4m")
    ///     .set("deadlines.read_idle", "10m");
    /// ```
    ///
    /// Keys of a route are:
    ///
    /// - of `limits`: `message_bytes`, `fragments`, `inbox_messages`, `inbox_bytes`, `timers`,
    ///   `outbox_bytes`, `messages_per_second`, `bytes_per_second`, `rate_action`,
    ///   `send_per_second`, `pings_per_second`. A request is counted before its route is known:
    ///   `messages_per_second` and `rate_action` are for messages of WebSockets here;
    /// - of `deadlines`: `handshake` (from the complete request to the beginning of the answer),
    ///   `body`, `read_idle`, `message`, `write_stall`, `stream`, `close_send`, `close_ack`,
    ///   `lifetime`;
    /// - all of `heartbeat`, `overflow.policy`, and `admission.takeover`; in a build with the
    ///   feature `deflate` all of `compression`.
    ///
    /// They hold from the end of a request's head to the end of its answer, and for the WebSocket
    /// or event stream that it becomes. The others are for all routes: they hold before a route is
    /// known, or for all connections together. A publication that waits for a log waits as long as
    /// the configuration says. The `hello` of `/ws` names the route's values. Bodies in pieces have
    /// a bound of their own, given with their handler.
    ///
    /// A later call wins over an earlier one for the same key. A reload changes what the route has
    /// not set; if the two contradict each other, the route keeps all that it had before, and a
    /// line of the log says so. [`Config::worst_case`] does not know of it; `limits.memory_bytes`
    /// bounds what comes of it, as of all that waits. A route with values of its own takes about
    /// half a kilobyte, its connections take none.
    ///
    /// What is no key of a route, out of its bounds, or contradicts the configuration is refused by
    /// [`build`](crate::Builder::build).
    ///
    /// [`Config::set`]: crate::Config::set
    /// [`Config::worst_case`]: crate::Config::worst_case
    pub fn set(self, key: &str, value: &str) -> Route {
        self.each(|spec| spec.changes.push((key.to_owned(), value.to_owned())))
    }

    /// Sets what becomes of an open WebSocket or event stream of this route when its identity
    /// connects again: `admission.takeover` for this route alone.
    ///
    /// The handler of the connection that ends is told [`CloseReason::Replaced`], its client the
    /// close code 4409. A client without an identity is left alone.
    ///
    /// [`CloseReason::Replaced`]: crate::CloseReason::Replaced
    pub fn takeover(self, takeover: Takeover) -> Route {
        let word = match takeover {
            Takeover::Off => "off",
            Takeover::Probe => "probe",
            Takeover::Newest => "newest",
        };
        self.set("admission.takeover", word)
    }

    /// Adds a subprotocol (RFC 6455, 1.9). The server answers with the first one offered by the
    /// client that the route has.
    pub fn protocol(self, name: impl Into<String>) -> Route {
        let name = name.into();
        self.each(|spec| spec.protocols.push(name.clone()))
    }

    /// Calls the handler with the round trip of each ping.
    pub fn with_pongs(self) -> Route {
        self.each(|spec| spec.wants_pongs = true)
    }

    /// Tells the handler when all that was queued for a peer is with the kernel, after it was not.
    pub fn with_drained(self) -> Route {
        self.each(|spec| spec.wants_drained = true)
    }

    fn handled(
        path: impl Into<String>,
        kind: RouteKind,
        endpoint: impl Endpoint + 'static,
    ) -> Route {
        let specs = vec![Served::handled(RouteSpec::new(path, kind))];
        Route { endpoint: Some(Arc::new(endpoint)), ..Route::of(specs) }
    }

    /// Makes a route that the engine answers by itself. `authorize` may block all the same.
    fn own(specs: impl Into<Vec<Served>>) -> Route {
        let route = Route::of(specs.into());
        route.each(|spec| spec.placement = Placement::Worker)
    }

    fn of(specs: Vec<Served>) -> Route {
        Route {
            specs,
            endpoint: None,
            authorize: None,
            starts: Vec::new(),
            #[cfg(feature = "streams")]
            folder: None,
        }
    }

    /// Parts a route of one kind into what the engine is told, and what is run on its thread.
    #[cfg(all(feature = "ffi", feature = "streams"))]
    pub(crate) fn into_inline(self) -> Option<(Served, Arc<dyn Endpoint>)> {
        let Route { mut specs, endpoint, .. } = self.inline();
        Some((specs.pop()?, endpoint?))
    }

    fn each(mut self, mut set: impl FnMut(&mut RouteSpec)) -> Route {
        self.specs.iter_mut().for_each(|served| set(&mut served.spec));
        self
    }

    /// Parts the route into what the engine is told, and what is run for it.
    pub(super) fn into_parts(self, specs: &mut Vec<Served>, places: &mut Vec<Place>) {
        let Route { specs: own, endpoint, authorize, .. } = self;
        for spec in own {
            let endpoint = endpoint.clone().filter(|_| spec.kind.has_handler() || spec.has_hook);
            places.push(Place { endpoint, authorize: authorize.clone() });
            specs.push(spec);
        }
    }
}
