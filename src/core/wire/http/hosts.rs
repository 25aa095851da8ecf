//! Which Host names are answered: this keeps DNS rebinding out.
//!
//! A page of a foreign site can make its own name point to this machine; then all its requests here
//! are of its own origin. But it cannot send another Host than its own name.

use std::fmt;
use std::str::FromStr;

use super::authority::Authority;
use super::refusal::Refusal;

/// Which Host names are answered. The default is `auto`.
///
/// Read from text and written as text: `auto`, `*`, or a comma-separated list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// IP addresses, `localhost`, this machine's name and names under `.local`.
    #[default]
    Auto,
    /// All names.
    Any,
    /// Only these. An entry `*.example.com` means every name under `example.com`, not the name
    /// itself. Ports, case and the dot at the end of a full name do not matter.
    List(Vec<String>),
}

impl Hosts {
    /// Checks the host of a request, [`Request::host`](super::Request::host). `key` is the
    /// configuration key that has this value.
    ///
    /// A request without a host is answered: it is HTTP/1.0, which no browser sends.
    ///
    /// # Errors
    ///
    /// 421, if the name is not answered.
    pub fn check(&self, host: Option<&str>, machine_name: &str, key: &str) -> Result<(), Refusal> {
        let Some(host) = host else { return Ok(()) };
        let is_answered = match (self, Authority::parse(host)) {
            (Hosts::Any, _) => true,
            (_, None) => false,
            (Hosts::Auto, Some(host)) => is_own(host, machine_name),
            (Hosts::List(list), Some(host)) => list.iter().any(|entry| matches(entry, host.name())),
        };
        match is_answered {
            true => Ok(()),
            false => Err(Refusal::new(
                421,
                format!("this server does not answer to this Host name: see {key}"),
            )),
        }
    }
}

fn is_own(host: Authority, machine_name: &str) -> bool {
    let name = host.name();
    host.is_address()
        || name.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case(machine_name)
        || matches("*.local", name)
}

/// Returns whether an entry of the list means this name.
fn matches(entry: &str, name: &str) -> bool {
    let Some(domain) = entry.strip_prefix('*') else { return entry.eq_ignore_ascii_case(name) };
    // `domain` begins with its dot: something must stand before it.
    let Some(split) = name.len().checked_sub(domain.len()) else { return false };
    split > 0 && name.as_bytes()[split..].eq_ignore_ascii_case(domain.as_bytes())
}

impl FromStr for Hosts {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Hosts, HostsError> {
        if text.trim() == "*" {
            return Ok(Hosts::Any);
        }
        let list: Vec<String> = text.split(',').map(parse_entry).collect::<Result<_, _>>()?;
        // Case aside, a list of only `auto` prints the same as `auto`.
        Ok(if list == ["auto"] { Hosts::Auto } else { Hosts::List(list) })
    }
}

fn parse_entry(entry: &str) -> Result<String, HostsError> {
    let entry = entry.trim();
    match Authority::parse(entry.strip_prefix("*.").unwrap_or(entry)) {
        Some(host @ Authority { port: None, .. })
            if !entry.ends_with(':') && !host.name().split('.').any(str::is_empty) =>
        {
            Ok(entry.strip_suffix('.').unwrap_or(entry).to_ascii_lowercase())
        }
        _ => Err(HostsError),
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hosts::Auto => f.write_str("auto"),
            Hosts::Any => f.write_str("*"),
            Hosts::List(list) => f.write_str(&list.join(",")),
        }
    }
}

/// The text is neither `auto` nor `*` nor a list of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostsError;

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be auto, * or a list of names and addresses without ports")
    }
}

impl std::error::Error for HostsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(hosts: &str, host: &str) -> bool {
        let verdict = hosts.parse::<Hosts>().unwrap().check(Some(host), "Gauge", "admission.hosts");
        assert!(verdict.as_ref().err().is_none_or(|refusal| refusal.status() == 421));
        verdict.is_ok()
    }

    // FAULTS 10.
    #[test]
    fn auto_answers_to_what_no_stranger_can_own() {
        for host in [
            "127.0.0.1",
            "192.168.1.9:8765",
            "[::1]",
            "[fe80::1]:80",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "gauge",
            "GAUGE:80",
            "x.local",
            "a.b.LOCAL.:80",
        ] {
            assert!(answers("auto", host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "gauge.evil",
            ".local",
            "local",
            "notlocal",
            "x.local.evil",
            "a@localhost",
            "localhost:x",
            "127.1",
            "[::1",
            "localhost..",
        ] {
            assert!(!answers("auto", host), "{host}");
        }
    }

    #[test]
    fn a_list_answers_to_its_entries_alone() {
        let list = "Example.com., *.example.org, [::1]";
        for host in
            ["example.COM:80", "example.com.", "a.example.org", "a.b.EXAMPLE.org.", "[::1]:2"]
        {
            assert!(answers(list, host), "{host}");
        }
        for host in
            ["a.example.com", "example.org", ".example.org", "aexample.org", "localhost", "1.2.3.4"]
        {
            assert!(!answers(list, host), "{host}");
        }
    }

    #[test]
    fn any_answers_to_all() {
        assert!(answers("*", "evil.example") && answers("*", ""));
        assert_eq!(Hosts::Auto.check(None, "gauge", "k"), Ok(()), "HTTP/1.0 without Host");
        let refusal = Hosts::Auto.check(Some("evil"), "gauge", "admission.admin_hosts");
        assert!(refusal.unwrap_err().to_string().ends_with("see admission.admin_hosts"));
    }

    #[test]
    fn text_is_read_and_printed_back() {
        for (text, printed) in [
            ("auto", "auto"),
            ("AUTO.", "auto"),
            ("auto,AUTO", "auto,auto"),
            (" * ", "*"),
            ("B.example , *.c.example.,1.2.3.4,[::1]", "b.example,*.c.example,1.2.3.4,[::1]"),
        ] {
            let hosts: Hosts = text.parse().unwrap();
            assert_eq!(hosts.to_string(), printed);
            assert_eq!(printed.parse(), Ok(hosts));
        }
        let bad = ["", "a,", "a b", "a:80", "a:", "*.", "**.a", "a.*", "http://a", "::1", "a,*"];
        for text in bad.into_iter().chain([".", "*..", "a..", ".a", "a..b"]) {
            assert_eq!(text.parse::<Hosts>(), Err(HostsError), "{text:?}");
        }
    }
}
