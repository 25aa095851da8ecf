//! Which routes a path has, and by which methods a request is given to them.

use crate::core::contract::route::Face;
use crate::core::engine::services::{Asked, Served};
use crate::core::wire::http::{Caching, Method, path};

/// The routes in the order in which they are looked for. A look-up takes time by the logarithm of
/// the routes without parameters; those with parameters are walked.
#[derive(Clone, Debug, Default)]
pub(in crate::core::engine) struct Paths {
    /// Those without parameters, by key. Routes of one key stand in the order of their numbers.
    exact: Vec<u16>,
    /// Those with parameters: what says more comes first.
    patterns: Vec<u16>,
}

/// The routes of a path for one listener, by what they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::core::engine) struct Found {
    pub websocket: Option<usize>,
    by_method: [Option<usize>; Method::ALL.len()],
    /// A POST needs no body.
    pub is_bare: bool,
    /// It reports the server's health: a watcher may use any Host name for it.
    pub is_health: bool,
    /// What caches may do with its answers.
    pub caching: Caching,
}

impl Paths {
    /// Takes in the routes from `first` on. Returns the number of the first one that answers what
    /// an earlier one answers: it hides that one.
    pub fn add(&mut self, routes: &[Served], first: usize) -> Option<usize> {
        let mut hiding = None;
        for number in first..routes.len() {
            let route = &routes[number];
            let has_parameters = path::has_parameters(&route.path);
            let list = if has_parameters { &mut self.patterns } else { &mut self.exact };
            let order = |other: &u16| {
                let other = &routes[usize::from(*other)].key;
                if has_parameters { path::order(other, &route.key) } else { other.cmp(&route.key) }
            };
            let from = list.partition_point(|other| order(other).is_lt());
            let same = list[from..].iter().take_while(|other| order(other).is_eq()).count();
            let others = list[from..from + same].iter().map(|other| &routes[usize::from(*other)]);
            if others.into_iter().any(|other| clashes(other, route)) {
                hiding = hiding.or(Some(number));
            }
            list.insert(from + same, number as u16);
        }
        hiding
    }

    /// Finds the routes of a path. Those without parameters hide the others, and of the others
    /// those that say more hide the rest.
    pub fn find(&self, routes: &[Served], face: Face, path: &str) -> Option<Found> {
        let key = path::key_of_request(path);
        let route = |number: &u16| &routes[usize::from(*number)];
        let is_seen = |number: &&u16| route(number).face.is_seen_by(face);
        let from = self.exact.partition_point(|number| *route(number).key < *key);
        let exact = self.exact[from..].iter().take_while(|number| *route(number).key == *key);
        let found = Found::of(routes, exact.filter(is_seen));
        found.or_else(|| {
            let is_taken = |number: &&u16| is_seen(number) && path::takes(&route(number).key, &key);
            let mut rest = self.patterns.iter();
            let first = rest.find(is_taken)?;
            let same = |number: &&u16| route(number).key == route(first).key;
            let others = rest.take_while(same).filter(is_seen);
            Found::of(routes, std::iter::once(first).chain(others))
        })
    }
}

/// Returns whether two routes of the same key would answer the same requests. What the engine
/// answers by itself may be added twice.
fn clashes(one: &Served, other: &Served) -> bool {
    let is_same_service =
        one.kind == other.kind && !one.kind.has_handler() && one.authorizes == other.authorizes;
    one.service.asked == other.service.asked && one.face.overlaps(other.face) && !is_same_service
}

impl Found {
    fn of<'n>(routes: &[Served], numbers: impl Iterator<Item = &'n u16>) -> Option<Found> {
        let mut found = None;
        for number in numbers.map(|number| usize::from(*number)) {
            let service = routes[number].service;
            let found: &mut Found = found.get_or_insert_default();
            found.caching = found.caching.max(service.caching);
            found.is_health |= service.is_health;
            found.is_bare |= service.is_bare;
            match service.asked {
                Asked::Upgrade => found.websocket = Some(number),
                Asked::By(method) => found.by_method[method as usize] = Some(number),
            }
        }
        found
    }

    /// Returns the route that answers a method.
    pub fn by(&self, method: Method) -> Option<usize> {
        self.by_method[method as usize]
    }

    /// Returns one of the routes.
    pub fn any(&self) -> Option<usize> {
        self.websocket.or_else(|| self.by_method.into_iter().flatten().next())
    }

    /// Returns the value of the Allow header (RFC 9110, 10.2.1).
    pub fn allow(&self) -> String {
        let methods = Method::ALL.into_iter().filter(|method| {
            let is_opening = *method == Method::Get && self.websocket.is_some();
            self.by(*method).is_some() || is_opening || *method == Method::Options
        });
        let names = methods.map(|method| match method {
            Method::Get if self.by(Method::Get).is_some() => "GET, HEAD",
            method => method.name(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}
