"use strict";
// Sort a table by the column whose head is pressed.
const exact = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
};
const compare = (a, b) => {
  const [x, y] = [a, b].map((one) => Number(one.replace(/^(-?)inf$/, "$1Infinity")));
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
      table.classList.remove("grouped");
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
for (const zoom of document.querySelectorAll("button.zoom")) {
  const image = zoom.closest(".figure-image").querySelector("img");
  const enlarge = () => {
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
  };
  zoom.addEventListener("click", enlarge);
  image.addEventListener("click", enlarge);
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
const next = (svg) => show(svg, (Number(svg.dataset.step ?? 3) + 1) % 4);
const flicker = (svg) => {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    show(svg, 3);
  };
  svg.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse" || still) return;
    next(svg);
    timer = setInterval(() => next(svg), 700);
  });
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && stop());
  svg.addEventListener("click", () => { clearInterval(timer); next(svg); });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); next(svg); }
    if (event.key === "Escape") stop();
  });
};
document.querySelectorAll("svg.flicker").forEach(flicker);

// --- the case viewer ------------------------------------------------------------------------------

const study = JSON.parse(document.getElementById("case-data").textContent);
const explorer = document.getElementById("explorer");
const choice = explorer.querySelector("form").elements;
const slider = explorer.querySelector("input[name=slice]");
const shots = explorer.querySelector(".shots");
const heading = explorer.querySelector(".case");
const MEAN = "";
const make = (name, attributes = {}, ...children) => {
  const svg = ["svg", "g", "path", "image", "circle", "title"].includes(name);
  const one = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...children);
  return one;
};
const number = (value, metric) =>
  value === null ? "–" : value === "inf" ? "∞" : value === "-inf" ? "−∞" : value.toFixed(metric.digits).replace("-", "−");
const measured = () => study.datasets[choice.dataset.value];
const metricNamed = (name) => study.metrics.find((one) => one.name === name);
const infinite = (value) => value === "inf" || value === "-inf";
// The value of a case; the mean over the outlined structures where none is named, with `sized` of the values' sizes.
const valueOf = (name, metric, structure, model, sized = false) => {
  const structures = measured().values[metric]?.[name] ?? {};
  const place = study.models.indexOf(model);
  if (structure !== MEAN) return structures[structure]?.[place] ?? null;
  const all = study.outlined.map((one) => structures[one]?.[place] ?? null).filter((one) => one !== null);
  if (!all.length) return null;
  return all.find(infinite) ?? all.reduce((sum, one) => sum + (sized ? Math.abs(one) : one), 0) / all.length;
};
const cost = (value, better) => {
  if (value === null) return Infinity;
  if (infinite(value)) return Number.MAX_VALUE;
  return better === "higher" ? -value : better === "zero" ? Math.abs(value) : value;
};
// Cases from worst to best.
const ordered = () => {
  const metric = metricNamed(choice.metric.value);
  const names = Object.keys(measured().values[metric.name] ?? {}).sort();
  const worth = new Map(names.map((name) =>
    [name, cost(valueOf(name, metric.name, choice.structure.value, choice.model.value, metric.better === "zero"), metric.better)]));
  return names.sort((a, b) => worth.get(b) - worth.get(a) || (a < b ? -1 : 1));
};
// Of a large study each case's slices lie in a script of their own, fetched when the case is first shown.
// Gives the slices, or null where there are none or they are still to come.
const slicesOf = (name) => {
  const { slices } = measured();
  if (typeof slices[name] !== "string") return slices[name] ?? null;
  const script = make("script", { src: slices[name] });
  slices[name] = null;
  script.addEventListener("error", () => { explorer.querySelector("output").textContent = `${script.src} is missing`; });
  document.head.append(script);
  return null;
};
const slicesArrived = (dataset, name, caseSlices) => {
  study.datasets[dataset].slices[name] = caseSlices;
  if (choice.dataset.value === dataset && choice.case.value === name) drawCase();
};
const option = (value, text) => make("option", { value }, text);
const list = () => {
  const before = choice.case.value;
  const metric = metricNamed(choice.metric.value);
  choice.case.replaceChildren(...ordered().map((name, place) => {
    const value = number(valueOf(name, metric.name, choice.structure.value, choice.model.value), metric);
    return option(name, `${place + 1}. ${name} (${value})`);
  }));
  if (before) choice.case.value = before;
};
const drawSlice = () => {
  const caseSlices = slicesOf(choice.case.value);
  if (!caseSlices || !slider) return;
  const place = Number(slider.value);
  const text = `${caseSlices.plane} slice ${caseSlices.slices[place]} of ${caseSlices.total}`;
  explorer.querySelector("output").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  for (const svg of shots.querySelectorAll("svg")) {
    svg.querySelector("image").setAttribute("href", caseSlices.images[place]);
    const own = { reference: caseSlices.reference, prediction: caseSlices.predictions[svg.dataset.model] };
    for (const [kind, outlines] of Object.entries(own)) {
      const lines = study.outlined.filter((name) => outlines[place][name]).flatMap((name) => [
        make("path", { class: "line under", d: outlines[place][name] }),
        make("path", { class: `line ${kind === "prediction" ? "dashed" : ""}`, d: outlines[place][name], stroke: study.colours[name] },
          make("title", {}, `${study.structures[name]}, ${kind}`)),
      ]);
      svg.querySelector(`g.${kind}`).replaceChildren(...lines);
    }
  }
};
const drawCase = (structure = choice.structure.value) => {
  const name = choice.case.value;
  const caseSlices = slicesOf(name);
  const names = [...choice.case.options].map((one) => one.value);
  heading.textContent = name
    ? `${name}: ${names.indexOf(name) + 1} of ${names.length} from worst to best`
    : "No case was measured";
  const figures = !name ? [] : study.models.map((model) => {
    const figure = make("figure", { class: "shot" });
    figure.append(make("h4", {}, make("span", { class: "dot", style: `background: ${study.modelColours[model]}` }), study.modelNames[model]));
    figure.classList.toggle("chosen", model === choice.model.value);
    if (caseSlices) {
      const [height, width] = [caseSlices.height * caseSlices.pixel_mm[0], caseSlices.width * caseSlices.pixel_mm[1]];
      const half = `scale(${caseSlices.pixel_mm[1] / 2} ${caseSlices.pixel_mm[0] / 2})`;
      const svg = make("svg", {
        class: "flicker", viewBox: `0 0 ${width} ${height}`, tabindex: "0", role: "img",
        "data-model": model, "aria-label": `${name}: reference and prediction of ${study.modelNames[model]}`,
      },
        make("image", { width, height, preserveAspectRatio: "none" }),
        make("g", { class: "layer reference", transform: half }),
        make("g", { class: "layer prediction", transform: half }));
      flicker(svg);
      figure.append(svg);
    }
    const table = make("table", { class: "values" });
    const head = make("tr", {}, make("th", { scope: "col" }, "Structure"));
    head.append(...study.metrics.map((metric) => make("th", { scope: "col", class: "num" }, metric.title)));
    table.append(make("thead", {}, head), make("tbody", {}, ...Object.entries(study.structures).map(([key, text]) =>
      make("tr", key === choice.structure.value ? { class: "chosen" } : {}, make("th", { scope: "row" }, text),
        ...study.metrics.map((metric) => make("td", { class: "num" }, number(valueOf(name, metric.name, key, model), metric)))))));
    figure.append(table);
    return figure;
  });
  shots.replaceChildren(...figures);
  if (caseSlices && slider) {
    slider.max = caseSlices.slices.length - 1;
    slider.value = caseSlices.fullest[structure || "all"] ?? caseSlices.fullest.all;
    drawSlice();
  }
};
// The address names the case, so that it can be shared and the browser's Back leads back to the figure.
const address = () => `#case/${[choice.dataset.value, choice.case.value, choice.structure.value, choice.model.value].map(encodeURIComponent).join("/")}`;
const open = (hash, jump) => {
  const [dataset, name, structure, model] = hash.slice("#case/".length).split("/").map(decodeURIComponent);
  if (!study.datasets[dataset]?.values[choice.metric.value]?.[name]) return;
  choice.dataset.value = dataset;
  if (structure in study.structures || structure === MEAN) choice.structure.value = structure;
  if (study.models.includes(model)) choice.model.value = model;
  list();
  choice.case.value = name;
  drawCase();
  if (jump) {
    document.getElementById("cases").scrollIntoView();
    explorer.focus({ preventScroll: true });
  }
};
const go = (where) => {
  const names = [...choice.case.options].map((one) => one.value);
  const here = names.indexOf(choice.case.value);
  const place = { worst: 0, median: Math.floor(names.length / 2), best: names.length - 1, previous: here - 1, next: here + 1 }[where];
  if (!names[place]) return;
  choice.case.value = names[place];
  drawCase();
  history.replaceState(null, "", address());
};
choice.metric.replaceChildren(...study.metrics.map((one) => option(one.name, one.title)));
choice.structure.replaceChildren(option(MEAN, "mean of the structures"), ...Object.entries(study.structures).map(([key, text]) => option(key, text)));
choice.model.replaceChildren(...study.models.map((one) => option(one, study.modelNames[one])));
choice.model.value = study.models[0];
list();
choice.case.selectedIndex = 0;
drawCase();
for (const field of ["dataset", "metric", "structure", "model"]) {
  choice[field].addEventListener("change", () => { list(); drawCase(); });
}
choice.case.addEventListener("change", () => { drawCase(); history.replaceState(null, "", address()); });
slider?.addEventListener("input", drawSlice);
explorer.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
for (const button of explorer.querySelectorAll("button[data-go]")) {
  button.addEventListener("click", () => go(button.dataset.go));
}
const turn = (by) => {
  if (!slider) return;
  slider.value = Number(slider.value) + by;
  drawSlice();
};
explorer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const press = {
    "[": () => go("previous"), "]": () => go("next"), ",": () => turn(-1), ".": () => turn(1),
    f: () => shots.querySelectorAll("svg").forEach(next),
  }[event.key];
  if (press) { event.preventDefault(); press(); }
});
const follow = () => location.hash.startsWith("#case/") && open(location.hash, true);
addEventListener("hashchange", follow);
follow();

// --- points of figures that open a case -------------------------------------------------------------

const tip = document.querySelector(".tip");
for (const figureImage of document.querySelectorAll(".figure-image")) {
  const markers = study.markers[figureImage.dataset.figure];
  if (!markers) continue;
  const { dataset, metric } = figureImage.dataset;
  const height = 1000 * Number(figureImage.dataset.ratio);
  const svg = make("svg", {
    class: "markers", viewBox: `0 0 1000 ${height}`, tabindex: "0", role: "application",
    "aria-label": "Points of this figure: arrow keys go from point to point, Enter opens the case",
  });
  const circles = markers.map(([x, y], place) =>
    make("circle", { cx: x * 1000, cy: y * height, r: 7, "data-place": place }));
  svg.append(...circles);
  figureImage.append(svg);
  let here = -1;
  const point = (place) => {
    here = place;
    circles.forEach((circle, other) => {
      circle.classList.toggle("here", other === place);
      circle.classList.toggle("same", place >= 0 && markers[other][2] === markers[place]?.[2]);
    });
    tip.hidden = place < 0;
    if (place < 0) return;
    const [, , name, structure, model, text] = markers[place];
    tip.textContent = `${name} · ${study.structures[structure]} · ${study.modelNames[model]}: ${text}`;
    const box = circles[place].getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 6)}px`;
  };
  const enter = () => {
    const [, , name, structure, model] = markers[here] ?? [];
    if (!name) return;
    point(-1);
    if (metricNamed(metric)) choice.metric.value = metric;
    const hash = `#case/${[dataset, name, structure, model].map(encodeURIComponent).join("/")}`;
    if (location.hash === hash) open(hash, true);
    else location.hash = hash;
  };
  // The nearest point within reach: points lie close together.
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * 1000, ((event.clientY - box.top) / box.height) * height];
    let [found, least] = [-1, 14 ** 2];
    markers.forEach(([column, row], place) => {
      const far = (column * 1000 - x) ** 2 + (row * height - y) ** 2;
      if (far < least) [found, least] = [place, far];
    });
    return found;
  };
  svg.addEventListener("pointermove", (event) => {
    const place = nearest(event);
    svg.style.cursor = place < 0 ? "" : "pointer";
    if (place !== here) point(place);
  });
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("blur", () => point(-1));
  svg.addEventListener("click", (event) => { point(nearest(event)); enter(); });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); point((here + by + markers.length) % markers.length); }
    if (event.key === "Enter") enter();
    if (event.key === "Escape") point(-1);
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
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.settings details)").forEach((d) => (d.open = true)));
