// What browsers see: the client, the pages of the program, what the docs print, foreign origins,
// compressed messages.
//
//   node all.mjs SERVER APP CHROMIUM FIREFOX [SCREENSHOTS]
//
// APP is the folder of heartwheel.js; FIREFOX may be empty. Exit status 0 if all hold.
import { browser } from "./support.mjs";

await import("./client.mjs");
await import("./page.mjs");
await import("./nodes.mjs");
await import("./snippets.mjs");
await import("./foreign.mjs");
await import("./compressed.mjs");
await browser.close();
process.exit();
