//! A chat in the browser that misses nothing, and shows who is there: open
//! http://127.0.0.1:8765/chat?name=Ann and http://127.0.0.1:8765/chat?name=Bob, stop the network or
//! the server's clock, come back. The browser client resumes with the last id it saw.
//!
//! `cargo run --features presence --example chat`

use heartwheel::config::ConfigError;
use heartwheel::http::{Request, Response};
use heartwheel::{Builder, Config, Route, Server, app};

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat</title>
<script src="/heartwheel.js"></script>
<p id="there"></p><ul id="said"></ul><form id="say"><input autofocus></form>
<script>
  const name = new URLSearchParams(location.search).get("name") ?? "somebody";
  const link = new Heartwheel();
  const add = text => said.append(Object.assign(document.createElement("li"), {textContent: text}));
  link.subscribe("chat", {after: "0-0", info: name}, data => add(data));
  link.addEventListener("gap", () => add("(something is missing here)"));
  say.onsubmit = event => {
    event.preventDefault();
    link.publish("chat", `${name}: ${say[0].value}`);
    say.reset();
  };
  // Who is there: first who joins and leaves, then, on each connection, who is there already.
  const names = new Map();
  const change = (joined = [], left = []) => {
    for (const {connection} of left) names.delete(connection);
    for (const {connection, info} of joined) names.set(connection, info);
    there.textContent = [...names.values()].sort().join(", ");
  };
  link.subscribe("$presence.chat", ({joined, left}) => change(joined, left));
  link.addEventListener("state", async ({detail: {state}}) => {
    if (state !== "open") return;
    const {members} = await link.presence("chat").catch(() => ({}));
    names.clear();
    change(members);
  });
</script>"#;

fn page(_: &Request) -> Response {
    Response::new(200).bytes("text/html; charset=utf-8", PAGE)
}

fn chat() -> Result<Builder, ConfigError> {
    let mut config = Config::default();
    config.set("topics.presence", "chat")?;
    // The program's routes bring topics, /ws and the browser client.
    let builder = app::routes(Server::builder().config(config));
    Ok(builder.route(Route::get("/chat", page).inline()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    chat()?.listen("127.0.0.1:8765")?.run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwheel::MemoryNetwork;

    #[test]
    fn it_can_be_served() {
        let served = chat().unwrap().listen_memory(&MemoryNetwork::new());
        assert!(served.is_ok(), "{:?}", served.err());
    }
}
