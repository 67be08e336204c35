// Code in tables may break behind a sign that joins words. What scrolls can be scrolled by the keyboard, and has a name for who hears the page; captions of the pages' parts have a level.
addEventListener("load", () => {
  document.querySelectorAll(".caption[role=heading]").forEach((one) => one.setAttribute("aria-level", "2"));
  document.querySelectorAll(".content table code .pre").forEach((one) => {
    const parts = one.textContent.split(/(?<=[/_.,=:-])(?=.)/);
    one.replaceChildren(...parts.flatMap((part, place) => (place ? [document.createElement("wbr"), part] : [part])));
  });
  document.querySelectorAll("pre, .table-wrapper, .sidebar-scroll, .toc-scroll").forEach((one) => {
    if (one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight) return;
    one.tabIndex = 0;
    one.setAttribute("role", "region");
    one.setAttribute("aria-label", one.matches("pre") ? "Code" : one.matches(".table-wrapper") ? "Table" : "Pages");
  });
});
