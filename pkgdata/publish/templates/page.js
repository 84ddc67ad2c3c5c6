const box = document.getElementById("search");
const rows = [...document.querySelectorAll(".files > tbody > tr")];
const texts = rows.map(row => row.textContent.toLowerCase());
const count = document.getElementById("count");
function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, number) => {
    row.hidden = !words.every(word => texts[number].includes(word));
    shown += !row.hidden;
  });
  count.textContent = `${shown} of ${rows.length} files`;
}
document.getElementById("tools").hidden = false;
box.addEventListener("input", search);
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) {
    event.preventDefault();
    box.focus();
  } else if (event.key === "Escape" && document.activeElement === box) {
    box.value = "";
    search();
  }
});
search();
// a page that was written before anybody served its folder
for (const code of document.querySelectorAll(".panel code")) {
  code.textContent = code.textContent.replaceAll("https://HOST/FOLDER/", new URL(".", location).href);
}
