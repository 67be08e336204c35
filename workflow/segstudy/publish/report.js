"use strict";
// Sort a table by the column whose head is pressed.
const exact = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
};
const compare = (a, b) => {
  const [x, y] = [Number(a === "inf" ? Infinity : a), Number(b === "inf" ? Infinity : b)];
  if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x === y ? 0 : x - y;
  if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
  return a.localeCompare(b, "en", { numeric: true });
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(exact(a, column), exact(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}
// Filter the rows of a table by words.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const table = document.getElementById(input.dataset.filter);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
// Save a table as CSV, with exact values.
const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", () => {
    const table = document.getElementById(button.dataset.csv);
    const rows = [...table.tHead.rows, ...table.tBodies[0].rows].map((row) =>
      [...row.cells].map((cell) => quoted(cell.dataset.value ?? cell.textContent.trim())).join(",")
    );
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([rows.join("\n") + "\n"], { type: "text/csv" }));
    link.download = `${button.dataset.csv}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
// Enlarge a figure.
const dialog = document.querySelector("dialog");
const large = new Image();
dialog.append(large);
for (const plate of document.querySelectorAll("button.plate")) {
  plate.addEventListener("click", () => {
    const image = plate.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
// Show or hide reference and prediction everywhere in a group of pictures.
for (const button of document.querySelectorAll("button[data-layer]")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    button.closest(".viewer").classList.toggle(`hide-${button.dataset.layer}`, !on);
  });
}
// Flicker: hovering, or each press, steps through image, reference, prediction, both.
const steps = ["image", "only-reference", "only-prediction", ""];
const show = (svg, step) => {
  svg.classList.remove("image", "only-reference", "only-prediction");
  if (steps[step]) svg.classList.add(steps[step]);
  svg.dataset.step = step;
};
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const svg of document.querySelectorAll("svg.flicker")) {
  let timer = 0;
  const next = () => show(svg, (Number(svg.dataset.step ?? 3) + 1) % 4);
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    show(svg, 3);
  };
  svg.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse" || still) return;
    next();
    timer = setInterval(next, 700);
  });
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && stop());
  svg.addEventListener("click", () => { clearInterval(timer); next(); });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); next(); }
    if (event.key === "Escape") stop();
  });
}
// Copy the methods text.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).innerText;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    }
  });
}
// Mark the section that is being read.
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.classList.remove("here"));
    links.get(entry.target.id)?.classList.add("here");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("main section").forEach((section) => seen.observe(section));
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.settings)").forEach((d) => (d.open = true)));
