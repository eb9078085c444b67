"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const grid = $("#grid"), filters = $("#filters"), dialog = $("#detail");
const shown = { page: 0, total: 0, items: [] };  // items of this page
const viewed = { items: [], at: 0, box: grid };  // which is open, of which pictures

/* Where pictures come from: the page itself, or the server that sent it. */

function within(value, wanted) {
  return value !== null
    && (wanted.least === undefined || value >= +wanted.least)
    && (wanted.most === undefined || value <= +wanted.most);
}

function isOf(item, wanted) {
  const [clustering, group] = wanted.group.split(":");
  const [own, cluster] = item.clusters[+clustering];
  return own === +group && (wanted.cluster === undefined || cluster === +wanted.cluster);
}

function answers(item, wanted) {
  const best = item.predictions[0];
  const sure = (test) => best.score !== null && test(best.score);
  return (wanted.predicted === undefined || best.number === +wanted.predicted)
    && (wanted.label === undefined || item.label === +wanted.label)
    && (wanted.correct === undefined || item.correct === (wanted.correct === "1"))
    && (wanted.low === undefined || sure((score) => score >= +wanted.low))
    && (wanted.high === undefined || sure((score) => score <= +wanted.high))
    && (wanted.group === undefined || isOf(item, wanted))
    && (wanted.measure === undefined || within(item.measured[+wanted.measure][0], wanted))
    && (wanted.flag === undefined || (+wanted.flag ? (item.flags & +wanted.flag) !== 0 : item.flags === 0));
}

const held = {
  async page(wanted, number) {
    const found = data.items.filter((item) => answers(item, wanted));
    const score = (item) => item.predictions[0].score ?? 0;
    if (wanted.order === "surest") found.sort((a, b) => score(b) - score(a));
    if (wanted.order === "unsure") found.sort((a, b) => score(a) - score(b));
    const value = (item) => item.measured[+wanted.measure][0];
    if (wanted.order === "lowest") found.sort((a, b) => value(a) - value(b));
    if (wanted.order === "highest") found.sort((a, b) => value(b) - value(a));
    const start = number * data.perPage;
    return { total: found.length, items: found.slice(start, start + data.perPage) };
  },
  async means(layer) { return data.means[data.layers[layer]]; },
};

async function ask(path, wanted) {
  const answer = await fetch(`${path}?${new URLSearchParams(wanted)}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const served = {
  page: (wanted, number) => ask("items", { ...wanted, page: number }),
  means: (layer) => ask("means", { layer }),
};

const source = data.items ? held : served;

/* The grid. */

const percent = (score) => (score === null ? "–" : score.toFixed(2));
const words = (item) => (item.correct === null ? "" : item.correct ? "right" : "wrong");
const chosen = (id, otherwise) => +($(`#${id}`)?.value ?? otherwise);
const pages = () => Math.max(1, Math.ceil(shown.total / data.perPage));

function wantedNow() {
  const given = [...new FormData(filters)].filter(([, value]) => value !== "");
  const wanted = Object.fromEntries(given);
  if (wanted.measure === undefined) for (const name of ["least", "most"]) delete wanted[name];
  return wanted;
}

function fillView(view, item, layer, target) {
  const { photo, heat } = item.pictures;
  const [below, above] = [$(".photo", view), $(".heat", view)];
  const alone = () => view.classList.add("alone");
  if (photo) {
    below.addEventListener("error", alone);
    below.src = photo;
  } else if (heat.length) alone();
  above.addEventListener("error", () => above.remove());
  if (heat.length && heat[layer][target]) above.src = heat[layer][target];
  else above.remove();
  drawBoxes($(".boxes", view), item, layer, target);
}

function drawBoxes(svg, item, layer, target) {
  const boxes = $("#boxes")?.checked && layer >= data.boxes ? item.boxes[target] : null;
  if (!boxes) return svg.remove();
  svg.setAttribute("viewBox", `0 0 ${item.view[0]} ${item.view[1]}`);
  for (const kind of layer === data.boxes ? ["truth", "found"] : ["truth"]) {
    for (const [x, y, width, height] of boxes[kind]) {
      const box = $("#box").content.querySelector("rect").cloneNode();
      for (const [name, value] of Object.entries({ x, y, width, height, class: `${kind}-box` })) {
        box.setAttribute(name, value);
      }
      svg.append(box);
    }
  }
}

const exact = (value) => (value === null || value === undefined ? "–" : String(+value.toPrecision(4)));

function makeCard(item, place, { layer, target, open } = {
  layer: chosen("layer", data.layers.length - 1), target: chosen("target", 0), open: openDetail,
}) {
  const card = $("#card").content.cloneNode(true).firstElementChild;
  const measure = $("#measure")?.value ?? "";
  const best = item.predictions[0], mark = $(".mark", card);
  const named = item.pictures.heat.length ? item.targets[target] : best;  // the class of the map
  const predicted = named.number === best.number ? "" : `predicted: ${best.name} ${percent(best.score)}`;
  fillView($(".view", card), item, layer, target);
  $(".name", card).textContent = named.name;
  $(".score", card).textContent = percent(named.score);
  $(".predicted", card).textContent = predicted;
  $(".file", card).textContent = item.key.split("/").slice(-2).join("/");
  $(".truth", card).textContent = item.correct === false ? `label: ${item.label_name}` : "";
  $(".measured", card).textContent = measure === "" ? ""
    : `${data.measures[+measure]} ${exact(item.measured[+measure][target])}`;
  mark.textContent = { right: "✓", wrong: "✗" }[words(item)] ?? "";
  mark.classList.add(words(item) || "none");
  card.classList.toggle("flagged", item.flags !== 0);
  card.tabIndex = place ? -1 : 0;
  card.title = item.key;
  card.setAttribute("aria-label", [`${item.key}: ${named.name} ${percent(named.score)}`,
    predicted, words(item), $(".truth", card).textContent, $(".measured", card).textContent, ...item.flag_words].filter(Boolean).join(", "));
  card.addEventListener("click", () => open(place));
  card.addEventListener("focus", () => rove(card));
  return card;
}

function rove(card) {
  for (const other of card.parentElement.children) other.tabIndex = other === card ? 0 : -1;
}

function draw() {
  grid.replaceChildren(...shown.items.map((item, place) => makeCard(item, place)));
  const first = shown.page * data.perPage + 1, last = first + shown.items.length - 1;
  $("#place").textContent = shown.total
    ? `${first.toLocaleString("en")}–${last.toLocaleString("en")} of ${shown.total.toLocaleString("en")}` : "none";
  $("#previous").disabled = shown.page === 0;
  $("#next").disabled = shown.page + 1 >= pages();
  $("#empty").hidden = shown.items.length > 0;
}

let latest = 0;  // an answer that comes late is not shown

async function turn(page) {
  const turned = ++latest;
  grid.setAttribute("aria-busy", "true");
  try {
    const found = await source.page(wantedNow(), page);
    if (turned !== latest) return false;
    Object.assign(shown, { page, total: found.total, items: found.items });
    draw();
    return true;
  } catch (error) {
    if (turned === latest) $("#place").textContent = `No answer: ${error.message}`;
    return false;
  } finally {
    if (turned === latest) grid.removeAttribute("aria-busy");
  }
}

async function turnTo(page, place) {
  if (page < 0 || page >= pages() || !(await turn(page))) return;
  const cards = grid.children;
  cards[Math.min(place < 0 ? cards.length - 1 : place, cards.length - 1)]?.focus();
}

function columns() {
  const [first] = grid.children;
  return [...grid.children].filter((card) => card.offsetTop === first.offsetTop).length;
}

grid.addEventListener("keydown", (event) => {
  const cards = [...grid.children], here = cards.indexOf(document.activeElement);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key in steps) {
    const next = here + steps[event.key];
    if (cards[next]) cards[next].focus();
    else if (next < 0) turnTo(shown.page - 1, -1);
    else turnTo(shown.page + 1, 0);
  } else if (event.key === "PageUp") turnTo(shown.page - 1, 0);
  else if (event.key === "PageDown") turnTo(shown.page + 1, 0);
  else if (event.key === "Home") cards[0].focus();
  else if (event.key === "End") cards.at(-1).focus();
  else return;
  event.preventDefault();
});

$("#previous").addEventListener("click", () => turn(shown.page - 1));
$("#next").addEventListener("click", () => turn(shown.page + 1));
let asked = JSON.stringify(wantedNow());

function filter() {
  const wanted = JSON.stringify(wantedNow());
  if (wanted !== asked) turn(0);
  asked = wanted;
}

for (const change of ["input", "change"]) filters.addEventListener(change, filter);
filters.addEventListener("reset", () => setTimeout(filter));
filters.addEventListener("submit", (event) => event.preventDefault());
for (const id of ["layer", "target", "boxes"]) $(`#${id}`)?.addEventListener("change", draw);

const sliders = [...document.querySelectorAll("input[type=range]")];

function blend(value) {
  document.documentElement.style.setProperty("--mix", value / 100);
  for (const slider of sliders) slider.value = value;
}

for (const slider of sliders) slider.addEventListener("input", () => blend(slider.value));
if (sliders.length) blend(sliders[0].value);

function allowOrders() {
  for (const option of $("#order").options) {
    if (["lowest", "highest"].includes(option.value)) option.disabled = $("#measure").value === "";
  }
  if ($("#order").selectedOptions[0].disabled) $("#order").value = "source";
}

if ($("#measure")) {
  filters.addEventListener("change", allowOrders, true);
  filters.addEventListener("reset", () => setTimeout(allowOrders));
  allowOrders();
}

for (const button of document.querySelectorAll("[data-measure]")) {
  button.addEventListener("click", () => {
    filters.reset();
    setTimeout(() => {
      filters.elements.measure.value = button.dataset.measure;
      allowOrders();
      filters.elements.order.value = button.dataset.order;
      filter();
      $("#pictures").scrollIntoView();
    });
  });
}

for (const button of document.querySelectorAll("[data-predicted]")) {
  button.addEventListener("click", () => {
    filters.reset();
    filters.elements.predicted.value = button.dataset.predicted;
    $("#pictures").scrollIntoView();
  });
}

/* One picture. */

function pair(name, value) {
  const row = document.createElement("div");
  for (const [tag, text] of [["dt", name], ["dd", value]]) {
    row.append(Object.assign(document.createElement(tag), { textContent: text }));
  }
  return row;
}

function figure(item, layer, target) {
  const made = $("#figure").content.cloneNode(true).firstElementChild;
  const explained = item.targets[target];
  fillView($(".view", made), item, layer, target);
  $(".photo", made).alt = item.key;
  if (layer === null) return made;
  $(".name", made).textContent = explained.name;
  $(".score", made).textContent = percent(explained.score);
  $(".layer", made).textContent = data.maps[layer];
  const above = $(".heat", made), none = () => $(".layer", made).append(": no map of this class");
  if (!above) none();
  else above.alt = `heatmap of ${explained.name} at ${data.maps[layer]}`;
  above?.addEventListener("error", none);
  return made;
}

function prediction({ name, score }) {
  const row = $("#prediction").content.cloneNode(true).firstElementChild;
  $("bdi", row).textContent = name;
  $(".number", row).textContent = percent(score);
  $("rect", row).setAttribute("width", 100 * Math.min(Math.max(score ?? 0, 0), 1));
  return row;
}

function showDetail() {
  const item = viewed.items[viewed.at], note = $(".notice", dialog);
  const figures = data.maps.flatMap((_, layer) => item.targets.map((_, target) => figure(item, layer, target)));
  $("#detail-title .file").textContent = item.key;
  $(".detail-grid", dialog).replaceChildren(...(figures.length ? figures : [figure(item, null, 0)]));
  const missing = (why) => { note.hidden = false; note.textContent = `The photograph is not shown: ${why}.`; };
  note.hidden = true;
  if (item.pictures.note) missing(item.pictures.note);
  $(".detail-grid .photo", dialog).addEventListener("error", () => missing("it cannot be read"));
  $(".predictions", dialog).replaceChildren(...item.predictions.map(prediction));
  $(".facts", dialog).replaceChildren(
    pair("number", item.sample.toLocaleString("en")),
    pair("size", `${item.width} × ${item.height} pixels`),
    ...(item.label === null ? [] : [pair("label", item.label_name)]),
    ...(item.correct === null ? [] : [pair("prediction", words(item))]),
    ...item.clusters.flatMap(([group, cluster], number) => clusterWords(number, group, cluster)),
    ...(item.flags ? [pair("flags", item.flag_words.join(", "))] : []),
  );
  $(".measures", dialog)?.replaceChildren(...data.measures.map((name, number) =>
    pair(name, item.measured[number].map(exact).join(", "))));
  const paged = viewed.items === shown.items;
  const at = viewed.at + (paged ? shown.page * data.perPage : 0);
  $("[data-step='-1']", dialog).disabled = at === 0;
  $("[data-step='1']", dialog).disabled = at + 1 >= (paged ? shown.total : viewed.items.length);
}

function openDetail(at, items = shown.items, box = grid) {
  Object.assign(viewed, { items, at, box });
  showDetail();
  if (!dialog.open) dialog.showModal();
}

async function step(by) {
  const at = viewed.at + by, { items, box } = viewed;
  if (!items[at]) {
    if (items !== shown.items) return;
    const page = shown.page + by;
    if (page < 0 || page >= pages() || !(await turn(page))) return;
    return openDetail(by > 0 ? 0 : shown.items.length - 1);
  }
  openDetail(at, items, box);
}

dialog.addEventListener("keydown", (event) => {
  if (event.target.type === "range") return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === dialog || button?.dataset.close !== undefined) dialog.close();
  else if (button?.dataset.step) step(+button.dataset.step);
});
dialog.addEventListener("close", () => viewed.box.children[viewed.at]?.focus());

/* Average maps, once they are looked at. */

async function showMeans(details) {
  const box = $(".mean-grid", details);
  if (!details.open || box.childElementCount) return;
  box.textContent = "…";
  try {
    const found = await source.means(+details.dataset.layer);
    box.replaceChildren(...found.map(({ name, count, picture }) => {
      const made = $("#mean").content.cloneNode(true).firstElementChild;
      $("img", made).src = picture;
      $("img", made).alt = `average map of ${name}`;
      $(".name", made).textContent = name;
      $(".count", made).textContent = count === 1 ? "1 image" : `${count.toLocaleString("en")} images`;
      return made;
    }));
    if (!found.length) box.textContent = "Every map has a flag.";
  } catch (error) {
    box.textContent = `No answer: ${error.message}`;
  }
}

for (const details of document.querySelectorAll(".means")) {
  details.addEventListener("toggle", () => showMeans(details));
  showMeans(details);
}

$(".filtering").open = matchMedia("(min-width: 40rem)").matches;
turn(0);
