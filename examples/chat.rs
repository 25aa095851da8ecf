//! A chat in the browser that misses nothing: open http://127.0.0.1:8765/ in two windows, stop the
//! network or the server's clock, come back. The browser client resumes with the last id it saw.

use heartwheel::http::{Request, Response};
use heartwheel::{Route, Server, app};

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat</title>
<script src="/heartwheel.js"></script>
<ul id="said"></ul><form id="say"><input autofocus></form>
<script>
  const link = new Heartwheel();
  const add = text => said.append(Object.assign(document.createElement("li"), {textContent: text}));
  link.subscribe("chat", {after: "0-0"}, data => add(data));
  link.addEventListener("gap", () => add("(something is missing here)"));
  say.onsubmit = event => {
    event.preventDefault();
    link.publish("chat", say[0].value);
    say.reset();
  };
</script>"#;

fn page(_: &Request) -> Response {
    Response::new(200).bytes("text/html; charset=utf-8", PAGE)
}

fn main() -> heartwheel::Result<()> {
    // The program's routes bring topics, /ws and the browser client; a later route wins.
    app::routes(Server::builder())
        .route(Route::get("/", page).inline())
        .listen("127.0.0.1:8765")?
        .run()?;
    Ok(())
}
