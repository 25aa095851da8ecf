
// -- Who is on the topics, where the server tells of them --------------------------------------------
const people = make("ul", { className: "legend", id: "people" });
people.setAttribute("aria-label", "Who is on these topics");
$("topics").parentElement.after(people);
const rooms = new Map(); // by topic, what was told last

// A member without an identity has no name; connections of one identity are one person.
const crowd = ({ count, members }) => {
  if (!members) return `${count} there`;
  const names = [...new Set(members.map((one) => one.identity).filter((name) => name !== null))];
  const unnamed = members.filter((one) => one.identity === null).length;
  const words = [...names.slice(0, 20), ...(names.length > 20 ? [`${names.length - 20} more`] : []),
    ...(unnamed ? [`${unnamed} without a name`] : [])];
  return `${count} there${count ? `: ${words.join(", ")}` : ""}`;
};
function drawPeople() {
  for (const topic of rooms.keys()) if (!shown.has(topic)) leaveRoom(topic);
  people.replaceChildren(...[...rooms].filter(([, there]) => there).map(([topic, there]) =>
    make("li", {}, make("b", { textContent: topic }), ` ${crowd(there)}`)));
}
function leaveRoom(topic) {
  if (rooms.get(topic)) wheel.unsubscribe(`$presence.${topic}`);
  rooms.delete(topic);
}
async function askWho(topic) {
  const there = await wheel.presence(topic).catch(() => null);
  if (!shown.has(topic)) return;
  // Joins and leaves are told of topics that tell who is there; others are not asked about again.
  if (there && !rooms.get(topic)) wheel.subscribe(`$presence.${topic}`, () => askWho(topic));
  rooms.set(topic, there ?? rooms.get(topic) ?? null);
  drawPeople();
}
function lookForPeople() {
  for (const topic of shown) if (!rooms.has(topic) && !topic.startsWith("$")) askWho(topic);
  drawPeople();
}
wheel.addEventListener("state", ({ detail: { state } }) => {
  // A topic is asked about anew when the server may be another one.
  if (state === "open") for (const topic of shown) if (!topic.startsWith("$")) askWho(topic);
});
// Who comes and goes within a second is in no event.
setInterval(() => {
  if (wheel.state === "open") for (const [topic, there] of rooms) if (there) askWho(topic);
}, 10_000);
new MutationObserver(() => wheel.state === "open" && lookForPeople()).observe($("topics"), { childList: true });
