//! The status page and the operator's page: what the features of a build add to them, and nothing
//! else.

use super::common::topics::fetch;
use super::{admin, start};

const STATUS: &str = include_str!("../../src/app/status.html");
const OPERATOR: &str = include_str!("../../src/app/operator.html");

/// What a page has of scripts: sources and inline text.
fn scripts(page: &str) -> Vec<&str> {
    page.split("<script").skip(1).map(|rest| rest.split("</script>").next().unwrap()).collect()
}

#[test]
fn the_status_page_is_its_file_and_what_the_features_add() {
    let server = start(&[]);
    let reply = fetch(server.address, "/");
    let page = reply.text();
    for (is_built, words) in [
        (cfg!(feature = "cluster"), "s.cluster"),
        (cfg!(feature = "presence"), "presence"),
        (cfg!(feature = "bridge"), "s.bridges"),
    ] {
        assert_eq!(page.contains(words), is_built, "{words}");
    }
    let is_plain = !cfg!(any(feature = "cluster", feature = "presence", feature = "bridge"));
    assert_eq!(page == STATUS, is_plain);
    // Names of nodes are the operator's alone.
    assert!(!page.contains("/nodes"));
    assert_eq!(fetch(server.address, "/nodes.js").status, 404);
}

#[test]
fn the_operators_page_is_its_file_and_what_the_features_add() {
    let server = start(&[]);
    let admin = admin(&server);
    let reply = fetch(admin, "/");
    let page = reply.text();
    let policy = reply.header("Content-Security-Policy").expect("it has one");
    if cfg!(feature = "cluster") {
        assert_eq!(scripts(page), [" src=\"/nodes.js\">"]);
        for part in ["script-src 'self';", "connect-src 'self';", "require-trusted-types-for"] {
            assert!(policy.contains(part), "{policy}");
        }
        let script = fetch(admin, "/nodes.js");
        assert_eq!(script.header("Content-Type"), Some("text/javascript; charset=utf-8"));
        // It is hidden until the script knows that there is a cluster.
        assert!(page.contains("<section class=\"card\" id=\"nodes\" hidden>"), "{page}");
        assert!(page.contains("<a href=\"/nodes\">"));
    } else {
        assert_eq!(page, OPERATOR.replace("{host}", "localhost"));
        assert!(!policy.contains("script-src") && !page.contains("nodes"), "{policy}");
        assert_eq!(fetch(admin, "/nodes.js").status, 404);
    }
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("script-src 'unsafe"));
}

/// What nodes, clients and topics are called is text in the pages, whatever it is.
#[test]
fn no_script_of_a_page_makes_markup() {
    let server = start(&[]);
    let mut texts = vec![fetch(server.address, "/").text().to_owned()];
    texts.push(fetch(admin(&server), "/").text().to_owned());
    if cfg!(feature = "cluster") {
        texts.push(fetch(admin(&server), "/nodes.js").text().to_owned());
    }
    for text in texts {
        for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!text.contains(word), "{word}");
        }
    }
}

/// `$stats` tells how this node's part in the cluster goes; a server without a cluster has none.
#[cfg(feature = "cluster")]
#[test]
fn the_figures_of_a_node_are_told_each_second() {
    use super::common::topics::Stream;

    let alone = start(&[]);
    let mut stream = Stream::open(alone.address, "/topics/$stats");
    stream.position();
    assert!(!stream.piece().contains(r#""cluster""#));
    // Nobody listens there.
    let node = start(&[("cluster.redis", "redis://127.0.0.1:1"), ("cluster.node", "a")]);
    let mut stream = Stream::open(node.address, "/topics/$stats");
    stream.position();
    let told = (0..3).map(|_| stream.piece()).find(|event| event.contains(r#""cluster""#));
    let told = told.expect("it is told with the second event");
    let (_, told) = told.split_once(r#""cluster":"#).unwrap();
    assert!(told.starts_with(r#"{"connected":false,"nodes":0,"lag_ms":"#), "{told}");
    let text = fetch(admin(&node), "/config").text().to_owned();
    let (_, section) = text.split_once("[cluster]\n").expect("the page's script looks for it");
    assert!(section.starts_with("redis = \"redis://"), "{section}");
    assert_eq!(fetch(admin(&node), "/nodes").text(), "[]");
}
