// the name of the search button, as read aloud, begins with all that is written on it
for (const button of document.querySelectorAll(".search-button-field")) {
  button.setAttribute("aria-label", "Search Ctrl+K");
}
