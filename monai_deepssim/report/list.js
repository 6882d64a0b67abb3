"use strict";
// Lists that are sorted, filtered and paged. Without this script all of their entries are shown, in the order of the page.

function enhanceList(list) {
  const controls = document.getElementById(list.dataset.controls);
  const find = (role) => controls.querySelector(`[data-role="${role}"]`);
  const items = [...list.querySelectorAll("[data-item]")];
  const headings = new Map([...list.querySelectorAll("[data-heading]")].map((one) => [one.dataset.heading, one]));
  const search = find("search"), kind = find("kind"), sort = find("sort"), size = find("size");
  const back = find("back"), forward = find("forward"), status = find("status");
  const words = new Map(items.map((item) => [item, (item.dataset.words || item.textContent).toLowerCase()]));
  let page = 0;

  function sorted() {
    const [name, direction] = sort.value.split(" ");
    const sign = direction === "down" ? -1 : 1;
    const key = (item) => item.dataset[name];
    const compare = (one, other) => sign * key(one).localeCompare(key(other), undefined, { numeric: true });
    const byNumber = (one, other) => sign * (Number(key(one)) - Number(key(other)));
    const isNumber = items.every((item) => key(item) !== "" && Number.isFinite(Number(key(item))));
    return [...items].sort(isNumber ? byNumber : compare);
  }

  function isWanted(item) {
    const asked = search.value.trim().toLowerCase().split(/\s+/);
    const isKind = !kind || kind.value === "" || item.dataset.kind === kind.value;
    return isKind && asked.every((word) => words.get(item).includes(word));
  }

  function show() {
    const order = sorted();
    const isGrouped = sort.value.startsWith("number") && headings.size > 0;
    const wanted = order.filter(isWanted);
    const pageSize = size.value === "all" ? Math.max(1, wanted.length) : Number(size.value);
    const pages = Math.max(1, Math.ceil(wanted.length / pageSize));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = new Set(wanted.slice(page * pageSize, (page + 1) * pageSize));
    const fragment = document.createDocumentFragment();
    const placed = new Set();
    for (const heading of headings.values()) heading.classList.add("off");
    for (const item of order) {
      const heading = headings.get(item.dataset.group);
      if (isGrouped && heading && !placed.has(heading)) {
        placed.add(heading);
        fragment.append(heading);
      }
      if (isGrouped && heading && shown.has(item)) heading.classList.remove("off");
      item.classList.toggle("off", !shown.has(item));
      fragment.append(item);
    }
    for (const heading of headings.values()) if (!placed.has(heading)) fragment.append(heading);
    list.append(fragment);
    const first = wanted.length ? page * pageSize + 1 : 0;
    const last = page * pageSize + shown.size;
    const all = wanted.length === items.length ? "" : `, ${items.length} in all`;
    status.textContent = `${first} to ${last} of ${wanted.length}${all}`;
    back.disabled = page === 0;
    forward.disabled = page === pages - 1;
  }

  function turn(step) {
    page += step;
    show();
    controls.scrollIntoView({ block: "start" });
  }

  for (const control of [search, kind, sort, size]) {
    if (control) control.addEventListener("input", () => { page = 0; show(); });
  }
  back.addEventListener("click", () => turn(-1));
  forward.addEventListener("click", () => turn(1));
  controls.hidden = false;
  show();
}

function enhancePictures(dialog) {
  const items = () => [...document.querySelectorAll("[data-item][data-pictured]")].filter((one) => one === current || !one.matches(".off"));
  const title = dialog.querySelector("[data-role=title]"), place = dialog.querySelector("[data-role=pictures]");
  let current = null;

  function open(item) {
    current = item;
    title.textContent = item.dataset.title;
    place.replaceChildren(item.querySelector(".pictures").cloneNode(true));
    for (const button of place.querySelectorAll("button")) button.remove();
    if (!dialog.open) dialog.showModal();
  }

  function step(distance) {
    const all = items();
    const next = all[all.indexOf(current) + distance];
    if (next) open(next);
  }

  for (const button of document.querySelectorAll("[data-enlarge]")) {
    const item = button.closest("[data-item]");
    button.hidden = false;
    button.addEventListener("click", () => open(item));
    for (const picture of item.querySelectorAll("img")) picture.addEventListener("click", () => open(item));
  }
  // A link to a pair opens its pictures, on whatever page of the list it is.
  for (const link of document.querySelectorAll("a[href^='#pair-']")) {
    link.addEventListener("click", (event) => {
      const item = document.querySelector(link.getAttribute("href"));
      item.classList.remove("off");
      if (!item.hasAttribute("data-pictured")) return;
      event.preventDefault();
      open(item);
    });
  }
  dialog.querySelector("[data-role=back]").addEventListener("click", () => step(-1));
  dialog.querySelector("[data-role=forward]").addEventListener("click", () => step(1));
  dialog.querySelector("[data-role=close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
}

document.documentElement.classList.add("scripted");
for (const list of document.querySelectorAll("[data-list]")) enhanceList(list);
for (const dialog of document.querySelectorAll("dialog")) enhancePictures(dialog);
