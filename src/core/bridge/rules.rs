//! Which topics go over a bridge, and what they are called on the other side.
//!
//! ```text
//!   out   "devices.* -> plant7/{topic}"         devices.7      ─►  plant7/devices.7
//!   in    "plant7/commands/# -> commands.{rest}"   commands.a.b  ◄─  plant7/commands/a/b
//! ```
//!
//! The far side is another heartwheel or a broker of MQTT: their topics have different forms. A
//! rule is refused when it is read, if no topic can come of it. What a topic becomes may still be
//! none: then [`Unnamed`] is the answer, and the event is not sent on.

use std::fmt;

use crate::core::admission::rights::{is_pattern, matches};
use crate::core::topics::Name;

/// What the far side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// Another heartwheel: topics are [`Name`]s.
    Heartwheel,
    /// A broker of MQTT: topics are levels with `/` between two.
    Mqtt,
}

/// The rules of one bridge, in their order: the first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    far: Far,
    outgoing: Vec<Rule>,
    incoming: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// What it fits: a pattern of topics, or a filter of MQTT.
    from: String,
    /// What becomes of a topic, with `{topic}` or `{rest}`.
    to: String,
}

/// A topic becomes none on the other side: it would be too long, or have other characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unnamed;

impl Rules {
    /// Reads the rules that go out and those that come in, each as `FROM -> TO`.
    ///
    /// # Errors
    ///
    /// The first rule that is none, and why.
    pub fn new(
        far: Far,
        outgoing: impl IntoIterator<Item: AsRef<str>>,
        incoming: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Rules, BadRule> {
        let outgoing = outgoing.into_iter().map(|text| Rule::outgoing(far, text.as_ref()));
        let outgoing = outgoing.collect::<Result<Vec<Rule>, BadRule>>()?;
        let incoming = incoming.into_iter().map(|text| Rule::incoming(far, text.as_ref()));
        let incoming = incoming.collect::<Result<Vec<Rule>, BadRule>>()?;
        let all = outgoing.len() + incoming.len();
        if all > RULES_MAX {
            return Err(BadRule { rule: all.to_string(), why: "rules are more than 64" });
        }
        for out in &outgoing {
            for back in incoming.iter().filter(|back| back.takes_what_comes_of(out, far)) {
                if outgoing.iter().any(|again| overlap(&back.image(), &again.from)) {
                    let rule = format!("{out}\", \"{back}");
                    let why = "what goes out would come in and go out again";
                    return Err(BadRule { rule, why });
                }
            }
        }
        Ok(Rules { far, outgoing, incoming })
    }

    /// Returns what the far side is.
    pub fn far(&self) -> Far {
        self.far
    }

    /// Returns whether events of this topic go out. The server's own topics never do.
    pub fn sends(&self, topic: &str) -> bool {
        self.find_outgoing(topic).is_some()
    }

    /// Returns the far topic of a topic that [goes out](Rules::sends). The topic for its gaps, see
    /// [`Rules::gap_topic`], is then a topic, too.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn outgoing(&self, topic: &str) -> Result<String, Unnamed> {
        let mapped = fill(&self.find_outgoing(topic).ok_or(Unnamed)?.to, topic, "");
        match self.far {
            Far::Heartwheel => Some(mapped).filter(|name| is_here(name)),
            Far::Mqtt => Some(mapped).filter(|name| is_there(name)),
        }
        .ok_or(Unnamed)
    }

    /// Returns the topic here of a far topic. The topic for its gaps is then a topic, too.
    ///
    /// # Errors
    ///
    /// It has none: no rule fits, or what comes of it is no topic.
    pub fn incoming(&self, far_topic: &str) -> Result<String, Unnamed> {
        let fits = |rule: &&Rule| match self.far {
            Far::Heartwheel => rule.from == far_topic,
            Far::Mqtt => fits(&rule.from, far_topic),
        };
        let rule = self.incoming.iter().find(fits).ok_or(Unnamed)?;
        // Before anything is copied: a far topic may be long.
        if far_topic.len() > FAR_LEN_MAX {
            return Err(Unnamed);
        }
        let dotted = |text: &str| text.replace('/', ".");
        let rest = rest_of(&rule.from, far_topic).unwrap_or_default();
        let mapped = fill(&rule.to, &dotted(far_topic), &dotted(rest));
        Some(mapped).filter(|name| is_here(name)).ok_or(Unnamed)
    }

    /// Returns what to subscribe to on the far side: topics of a heartwheel, filters of MQTT.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        self.incoming.iter().map(|rule| &*rule.from)
    }

    /// Returns the far topic that gaps of a far topic are published to.
    pub fn gap_topic(&self, mapped: &str) -> String {
        match self.far {
            Far::Heartwheel => gap_topic_here(mapped),
            Far::Mqtt => format!("{mapped}{GAP_THERE}"),
        }
    }

    fn find_outgoing(&self, topic: &str) -> Option<&Rule> {
        let fits = |rule: &&Rule| !Name::is_own(topic) && matches(&rule.from, topic);
        self.outgoing.iter().find(fits)
    }
}

/// Returns the topic here that gaps of an incoming topic are published to.
pub fn gap_topic_here(mapped: &str) -> String {
    format!("{mapped}{GAP_HERE}")
}

impl Rule {
    fn outgoing(far: Far, text: &str) -> Result<Rule, BadRule> {
        let rule = Rule::read(text)?;
        let bad = |why| Err(BadRule { rule: text.to_owned(), why });
        if !is_pattern(&rule.from) || Name::is_own(&rule.from) {
            return bad("it sends a pattern of topics: A-Z a-z 0-9 . _ - : and *, not $");
        }
        if rule.to.contains(REST) {
            return bad("{rest} is of what comes in; {topic} goes out");
        }
        // The shortest topic of the pattern stands for all.
        let example = fill(&rule.to, &rule.from.replace('*', "x"), "");
        match far {
            Far::Heartwheel if !is_here(&example) => bad(NO_TOPIC_HERE),
            Far::Mqtt if !is_there(&example) || example.contains('{') => {
                bad("it becomes no topic of MQTT: no + and #, not $ first, at most 1024 bytes")
            }
            _ => Ok(rule),
        }
    }

    fn incoming(far: Far, text: &str) -> Result<Rule, BadRule> {
        let rule = Rule::read(text)?;
        let bad = |why| Err(BadRule { rule: text.to_owned(), why });
        match far {
            Far::Heartwheel if rule.from.contains('*') => {
                return bad("another heartwheel is asked for topics, not for patterns");
            }
            Far::Heartwheel if !Name::is_valid(&rule.from) || Name::is_own(&rule.from) => {
                return bad("it takes no topic: 1 to 128 characters of A-Z a-z 0-9 . _ - :");
            }
            Far::Mqtt if !is_filter(&rule.from) => {
                return bad(
                    "it takes no filter of MQTT: + and # are levels of their own, # the last",
                );
            }
            _ => {}
        }
        if rule.to.contains(REST) && !rule.from.ends_with('#') {
            return bad("{rest} is what # stands for, and there is none");
        }
        let dotted = rule.from.replace('/', ".").replace(['+', '#'], "x");
        match is_here(&fill(&rule.to, &dotted, "x")) {
            false => bad(NO_TOPIC_HERE),
            true => Ok(rule),
        }
    }

    fn read(text: &str) -> Result<Rule, BadRule> {
        let bad = |why| BadRule { rule: text.to_owned(), why };
        let (from, to) = text.split_once("->").ok_or(bad("a rule is FROM -> TO"))?;
        let (from, to) = (from.trim(), to.trim());
        if from.is_empty() || to.is_empty() || text.len() > RULE_LEN_MAX {
            return Err(bad("a rule is FROM -> TO, of at most 512 bytes"));
        }
        Ok(Rule { from: from.to_owned(), to: to.to_owned() })
    }

    /// Returns whether this rule, which comes in, may take what goes out by another.
    fn takes_what_comes_of(&self, out: &Rule, far: Far) -> bool {
        let from = match far {
            Far::Heartwheel => self.from.clone(),
            Far::Mqtt => self.from.replace(['+', '#'], "*"),
        };
        // `a/#` fits `a` as well.
        let parent = from.strip_suffix("/*").filter(|_| self.from.ends_with('#'));
        let image = fill(&out.to, &out.from, "");
        overlap(&image, &from) || parent.is_some_and(|parent| overlap(&image, parent))
    }

    /// Returns a pattern of what comes of this rule, which comes in.
    fn image(&self) -> String {
        let topic = self.from.replace('/', ".").replace(['+', '#'], "*");
        fill(&self.to, &topic, "*")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// A rule that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRule {
    rule: String,
    why: &'static str,
}

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": {}", self.rule, self.why)
    }
}

impl std::error::Error for BadRule {}

/// Returns whether a mapped name is a topic here, and has one for its gaps.
fn is_here(mapped: &str) -> bool {
    let is_short = mapped.len() + GAP_HERE.len() <= Name::LEN_MAX;
    is_short && Name::is_valid(mapped) && !Name::is_own(mapped)
}

/// Returns whether a mapped name is a topic of MQTT, and has one for its gaps (MQTT 5, 4.7).
fn is_there(mapped: &str) -> bool {
    let is_short = !mapped.is_empty() && mapped.len() + GAP_THERE.len() <= FAR_LEN_MAX;
    is_short && !mapped.starts_with('$') && !mapped.contains(['+', '#', '\0'])
}

/// Returns whether a text is a filter of MQTT (MQTT 5, 4.7.1). Shared subscriptions are none here:
/// their messages are spread over several clients.
fn is_filter(text: &str) -> bool {
    let levels = || text.split('/');
    let last = levels().count() - 1;
    let is_level = |(place, level): (usize, &str)| match level {
        "#" => place == last,
        "+" => true,
        _ => !level.contains(['+', '#', '\0']),
    };
    !text.starts_with("$share/") && levels().enumerate().all(is_level)
}

/// Returns whether a filter of MQTT fits a topic. A wildcard in front does not fit `$` (MQTT 5,
/// 4.7.2).
pub(crate) fn fits(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    let mut is_begun = false;
    for part in filter.split('/') {
        match (part, levels.next()) {
            // It stands for its parent, too.
            ("#", level) => return level.is_some() || is_begun,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
        is_begun = true;
    }
    levels.next().is_none()
}

/// Returns what `#` stands for in a topic that fits: nothing for its parent; `None` if the filter
/// has no `#`.
fn rest_of<'a>(filter: &str, topic: &'a str) -> Option<&'a str> {
    let before = filter.strip_suffix('#')?;
    let levels = before.matches('/').count();
    let mut rest = topic;
    for _ in 0..levels {
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    Some(rest)
}

/// Returns what a rule makes of a topic.
fn fill(to: &str, topic: &str, rest: &str) -> String {
    let mut filled = String::new();
    let mut left = to;
    while let Some(at) = left.find('{') {
        filled.push_str(&left[..at]);
        left = &left[at..];
        let known = [(TOPIC, topic), (REST, rest), ("{", "{")];
        for (name, text) in known {
            if let Some(behind) = left.strip_prefix(name) {
                filled.push_str(text);
                left = behind;
                break;
            }
        }
    }
    filled + left
}

/// Returns whether two patterns may name the same, if `*` stands for anything, nothing included.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Whether what is left of `one` overlaps with what is left of `other` from each place on.
    let mut below = vec![false; other.len() + 1];
    below[other.len()] = true;
    for place in (0..other.len()).rev() {
        below[place] = other[place] == b'*' && below[place + 1];
    }
    for &byte in one.iter().rev() {
        let mut row = vec![false; other.len() + 1];
        row[other.len()] = byte == b'*' && below[other.len()];
        for (place, &against) in other.iter().enumerate().rev() {
            row[place] = match (byte, against) {
                (b'*', _) | (_, b'*') => row[place + 1] || below[place],
                _ => byte == against && below[place + 1],
            };
        }
        below = row;
    }
    below[0]
}

const TOPIC: &str = "{topic}";
const REST: &str = "{rest}";
const GAP_HERE: &str = ":gap";
const GAP_THERE: &str = "/$gap";

/// How many rules a bridge may have: a topic is held against each.
const RULES_MAX: usize = 64;
const RULE_LEN_MAX: usize = 512;
/// How long a topic of MQTT may be, in bytes. MQTT allows 65,535.
const FAR_LEN_MAX: usize = 1024;

const NO_TOPIC_HERE: &str = "it becomes no topic: at most 124 characters of A-Z a-z 0-9 . _ - :";

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(far: Far, outgoing: &[&str], incoming: &[&str]) -> Result<Rules, String> {
        Rules::new(far, outgoing, incoming).map_err(|bad| bad.to_string())
    }

    #[test]
    fn what_goes_out_is_named_by_the_first_rule_that_fits() {
        let to_broker =
            ["devices.* -> plant7/{topic}", "*.alarm -> alarms", "a -> x/{topic}/{topic}"];
        let to_hub = ["devices.* -> plant7.{topic}", "a -> all", "*:x -> {topic}.{topic}"];
        let long = format!("devices.{}", "x".repeat(120));
        let almost = format!("devices.{}", "x".repeat(109));
        let cases = [
            ("devices.7", Some("plant7/devices.7"), Some("plant7.devices.7")),
            ("devices.7.alarm", Some("plant7/devices.7.alarm"), Some("plant7.devices.7.alarm")),
            ("doors.alarm", Some("alarms"), None),
            ("a", Some("x/a/a"), Some("all")),
            ("b:x", None, Some("b:x.b:x")),
            ("devices.", None, None),
            ("devices", None, None),
            ("$stats", None, None),
            // With `:gap` behind it, it would be longer than a topic may be.
            (&almost, Some(&*format!("plant7/{almost}")), Some(&*format!("plant7.{almost}"))),
            (&long, Some(&*format!("plant7/{long}")), None),
        ];
        let broker = rules(Far::Mqtt, &to_broker, &[]).unwrap();
        let hub = rules(Far::Heartwheel, &to_hub, &[]).unwrap();
        for (topic, at_broker, at_hub) in cases {
            assert_eq!(broker.outgoing(topic).ok().as_deref(), at_broker, "{topic}");
            assert_eq!(hub.outgoing(topic).ok().as_deref(), at_hub, "{topic}");
            assert!(!hub.sends(topic) || topic == long || at_hub.is_some(), "{topic}");
            let gap = hub.outgoing(topic).map(|mapped| hub.gap_topic(&mapped));
            assert!(gap.is_err() || Name::is_valid(&gap.unwrap()), "{topic}");
        }
        assert!(hub.sends(&long), "no topic comes of it, which is to be told");
        assert_eq!(broker.gap_topic("a/b"), "a/b/$gap");
    }

    #[test]
    fn what_comes_in_is_named_by_levels() {
        let incoming = [
            "plant7/commands/# -> commands.{rest}",
            "one/+/two -> {topic}",
            "whole/# -> {topic}",
            "fixed/+ -> all",
            "# -> rest.{rest}",
        ];
        let rules = rules(Far::Mqtt, &[], &incoming).unwrap();
        let hostile = "a/".repeat(600);
        let cases = [
            ("plant7/commands/a/b", Some("commands.a.b")),
            ("plant7/commands/a.b", Some("commands.a.b")),
            // The parent: there is nothing that `#` stands for, and a dot may end a topic.
            ("plant7/commands", Some("commands.")),
            ("plant7/commands/", Some("commands.")),
            ("one/x/two", Some("one.x.two")),
            ("one//two", Some("one..two")),
            ("whole/a/b/c", Some("whole.a.b.c")),
            ("whole", Some("whole")),
            ("fixed/anything \u{e4}", Some("all")),
            ("fixed/a/b", Some("rest.fixed.a.b")),
            ("other", Some("rest.other")),
            ("", Some("rest.")),
            ("/", Some("rest..")),
            // What is no topic here.
            ("plant7/commands/a b", None),
            ("plant7/commands/\u{e4}", None),
            ("plant7/commands/$gap", None),
            ("whole/{topic}", None),
            ("whole/{rest}{rest}", None),
            ("plant7/commands/*", None),
            ("$SYS/broker", None),
            (&hostile, None),
        ];
        for (far_topic, expected) in cases {
            assert_eq!(rules.incoming(far_topic).ok().as_deref(), expected, "{far_topic}");
        }
        assert_eq!(rules.subscriptions().count(), 5);
    }

    #[test]
    fn another_heartwheel_is_asked_for_topics() {
        let rules = rules(Far::Heartwheel, &[], &["cmd.7 -> {topic}", "x:gap -> y"]).unwrap();
        assert_eq!(rules.incoming("cmd.7").as_deref(), Ok("cmd.7"));
        assert_eq!(rules.incoming("cmd.8"), Err(Unnamed));
        assert_eq!(gap_topic_here("y"), "y:gap");
    }

    #[test]
    fn a_rule_of_which_no_topic_can_come_is_refused() {
        let refused = [
            // far, out or in, the rule
            (Far::Mqtt, true, "devices.*"),
            (Far::Mqtt, true, "-> a"),
            (Far::Mqtt, true, "a ->"),
            (Far::Mqtt, true, "a/b -> a"),
            (Far::Mqtt, true, "$stats -> a"),
            (Far::Mqtt, true, "a -> b/+"),
            (Far::Mqtt, true, "a -> b/#"),
            (Far::Mqtt, true, "a -> $SYS/{topic}"),
            (Far::Mqtt, true, "a -> {Topic}"),
            (Far::Mqtt, true, "a -> {rest}"),
            (Far::Heartwheel, true, "a -> b/{topic}"),
            (Far::Heartwheel, true, "a -> $b"),
            (Far::Heartwheel, true, "a -> b c"),
            (Far::Heartwheel, true, "a -> {topic"),
            (Far::Heartwheel, false, "a.* -> {topic}"),
            (Far::Heartwheel, false, "* -> {topic}"),
            (Far::Heartwheel, false, "$stats -> hub.{topic}"),
            (Far::Heartwheel, false, "a/b -> {topic}"),
            (Far::Heartwheel, false, "a -> {rest}"),
            (Far::Mqtt, false, "a/+ -> {rest}"),
            (Far::Mqtt, false, "a/#/b -> x"),
            (Far::Mqtt, false, "a# -> x"),
            (Far::Mqtt, false, "a+/b -> x"),
            (Far::Mqtt, false, "$share/g/a -> x"),
            (Far::Mqtt, false, "a b/c -> {topic}"),
            (Far::Mqtt, false, "a/# -> b/{rest}"),
        ];
        for (far, is_out, rule) in refused {
            let (outgoing, incoming): (&[&str], &[&str]) =
                if is_out { (&[rule], &[]) } else { (&[], &[rule]) };
            let error = rules(far, outgoing, incoming).unwrap_err();
            assert!(error.contains(rule), "{error}");
        }
        let long = format!("a -> {}", "x".repeat(125));
        assert!(rules(Far::Heartwheel, &[&long], &[]).is_err());
        assert!(rules(Far::Heartwheel, &[&long[..long.len() - 1]], &[]).is_ok());
        let many = vec!["a -> b"; RULES_MAX + 1];
        assert!(rules(Far::Mqtt, &many, &[]).is_err());
    }

    #[test]
    fn rules_that_map_onto_themselves_are_refused() {
        let cases = [
            (
                Far::Mqtt,
                "devices.* -> plant7/{topic}",
                "plant7/commands/# -> commands.{rest}",
                true,
            ),
            (Far::Mqtt, "devices.* -> plant7/{topic}", "plant7/# -> {rest}", false),
            (Far::Mqtt, "devices.* -> plant7/{topic}", "plant7/+ -> devices.all", false),
            (Far::Mqtt, "devices.* -> plant7/{topic}", "plant7/+ -> back.{topic}", true),
            (Far::Mqtt, "a -> b", "b/# -> a", false),
            (Far::Mqtt, "a -> b//c", "b/+/c -> a", false),
            (Far::Mqtt, "a -> b/c", "# -> x.{topic}", true),
            (Far::Mqtt, "* -> up/{topic}", "down/# -> {rest}", true),
            (Far::Mqtt, "* -> up/{topic}", "# -> {rest}", false),
            (Far::Heartwheel, "a.* -> {topic}", "a.x -> a.x", false),
            (Far::Heartwheel, "a.* -> {topic}", "a.x -> b.x", true),
            (Far::Heartwheel, "a.* -> up.{topic}", "a.x -> a.x", true),
            (Far::Heartwheel, "a.* -> all", "all -> a.all", false),
        ];
        for (far, out, back, is_good) in cases {
            assert_eq!(rules(far, &[out], &[back]).is_ok(), is_good, "{out}, {back}");
        }
    }

    #[test]
    fn patterns_overlap_as_their_names_do() {
        let patterns = ["a", "*", "a*", "*a", "a*b", "*a*", "ab", "**", "b*", "a.*.b"];
        let names = ["a", "b", "ab", "aab", "ba", "a.x.b", "bab", "a.b"];
        for one in patterns {
            for other in patterns {
                let both = |name: &&&str| matches(one, name) && matches(other, name);
                if names.iter().any(|name| both(&name)) {
                    assert!(overlap(one, other), "{one} {other}");
                }
            }
        }
        assert!(!overlap("a*", "b*") && !overlap("a", "ab") && !overlap("*a", "*b"));
    }
}
