// words are looked for in all that a card says; what begins with tag: and the like, in these alone
const input = document.getElementById("terms");
const data = [...document.querySelectorAll("article")].map((card) => {
  const facts = JSON.parse(card.dataset.facts, (key, value) =>
    typeof value === "string" ? value.toLowerCase() : value);
  const use = card.querySelector("details").textContent;
  return { card, ...facts, text: card.textContent.replace(use, "").toLowerCase() };
});
const fields = {
  tag: (one, word) => one.tags.some((tag) => tag.includes(word)),
  task: (one, word) => one.tasks.some((task) => task.includes(word)),
  type: (one, word) => one.types.some((type) => type === word || type.split(".").pop() === word),
  repo: (one, word) => one.repository.includes(word),
};
fields.repository = fields.repo;
function terms(text) {
  return [...text.toLowerCase().matchAll(/(?:(\w+):)?(?:"([^]*?)"(?=\s|$)|(\S+))/g)].map((m) => {
    const word = m[2] ?? m[3];
    if (Object.hasOwn(fields, m[1])) return (one) => fields[m[1]](one, word);
    const whole = m[1] === undefined ? word : `${m[1]}:${word}`;
    return (one) => one.text.includes(whole);
  });
}
function apply() {
  const wanted = terms(input.value);
  let count = 0;
  for (const one of data) {
    one.card.hidden = !wanted.every((test) => test(one));
    count += !one.card.hidden;
  }
  const total = `${data.length} dataset${data.length === 1 ? "" : "s"}`;
  document.getElementById("count").textContent =
    count === data.length ? total : `${count} of ${total}`;
}
function search(text) {
  input.value = text;
  input.dispatchEvent(new Event("input"));
}
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
input.addEventListener("input", () => {
  history.replaceState(null, "", input.value ? "#?" + encodeURIComponent(input.value) : "#");
  apply();
});
document.addEventListener("click", (event) => {
  const term = event.target.dataset?.term;
  if (term) { event.preventDefault(); search(term); scrollTo(0, 0); }
});
document.getElementById("search").hidden = false;
if (location.hash.startsWith("#?")) {
  try { input.value = decodeURIComponent(location.hash.slice(2)); } catch { input.value = ""; }
}
apply();
