// the same terms as `pkgdata catalog search`; a term that is no regular expression yet, because it
// is being typed, counts as a plain word
const cards = [...document.querySelectorAll("article")];
const input = document.getElementById("terms");
const data = cards.map((card) => ({ card, ...JSON.parse(card.dataset.facts) }));
function compile(text) {
  try { return new RegExp(text, "i"); }
  catch { return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i"); }
}
const whole = (text) => compile("^(?:" + text + ")$");
function condition(term) {
  const found = /^(tag|task|type|repo|repository):(.*)$/.exec(term);
  if (!found) {
    const re = compile(term);
    return (one) => re.test(one.id) || re.test(one.title);
  }
  if (found[1] === "type") {
    const re = whole(found[2]);
    return (one) => one.types.some((t) => re.test(t) || re.test(t.split(".").pop()));
  }
  const re = compile(found[2]);
  if (found[1] === "tag") return (one) => one.tags.some((t) => re.test(t));
  if (found[1] === "task") return (one) => one.tasks.some((t) => re.test(t));
  return (one) => re.test(one.repository);
}
function terms(text) {
  return [...text.matchAll(/(\w+:)?"([^"]*)"|(\S+)/g)].map((m) => m[3] ?? (m[1] ?? "") + m[2]);
}
function apply() {
  const wanted = terms(input.value).map(condition);
  let count = 0;
  for (const one of data) {
    const good = wanted.every((test) => test(one));
    one.card.hidden = !good;
    count += good;
  }
  const total = data.length;
  document.getElementById("count").textContent =
    count === total ? `${total} datasets` : `${count} of ${total} datasets`;
}
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
input.addEventListener("input", () => {
  history.replaceState(null, "", input.value ? "#?" + encodeURIComponent(input.value) : "#");
  apply();
});
document.addEventListener("click", (event) => {
  const term = event.target.dataset?.term;
  if (term) { input.value = term; input.dispatchEvent(new Event("input")); scrollTo(0, 0); }
});
document.getElementById("search").hidden = false;
if (location.hash.startsWith("#?")) {
  try { input.value = decodeURIComponent(location.hash.slice(2)); } catch { input.value = ""; }
}
apply();
