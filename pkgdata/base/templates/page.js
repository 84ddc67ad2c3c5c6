// copies the code that stands before each button, where the browser lets a page do so
for (const button of document.querySelectorAll(".copy")) {
  const label = button.innerHTML;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.innerHTML = label; }, 2000);
  });
  button.hidden = !navigator.clipboard;
}
