
/* Clusters. */

const clusterWords = (number, group, cluster) => (group in data.clusterings[number].groups
  ? [pair(`cluster (${data.clusterings[number].name})`, cluster < 0 ? "in none" : `${cluster}`)] : []);
const images = (count) => (count === 1 ? "1 image" : `${count.toLocaleString("en")} images`);
const sharePercent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
const colour = (cluster) => (cluster < 0 ? "none" : `s${cluster % 8}`);
const clusterName = (cluster) => (cluster < 0 ? "in none" : `cluster ${cluster}`);
const make = (id) => $(`#${id}`).content.cloneNode(true).firstElementChild;

const clustersHeld = {
  byRow: new Map((data.items ?? []).map((item) => [item.row, item])),
  async view(clustering, group) { return data.clusterings[clustering].held[group]; },
  async rows(rows) { return rows.map((row) => this.byRow.get(row)).filter(Boolean); },
  has(row) { return this.byRow.has(row); },
};

const clustersServed = {
  byRow: new Map(),
  view: (clustering, group) => ask(`clusters/${clustering}/${group}`, {}),
  async rows(rows) {
    const missing = rows.filter((row) => !this.byRow.has(row));
    if (missing.length) {
      for (const item of await ask("rows", { rows: missing })) this.byRow.set(item.row, item);
    }
    return rows.map((row) => this.byRow.get(row));
  },
  has: () => true,
};

const clusterSource = data.items ? clustersHeld : clustersServed;

/* The filter: the clusters of the class that is chosen. */

function offerClusters() {
  const [clustering, group] = $("#group").value.split(":"), menu = $("#cluster-of");
  if (menu.dataset.of === $("#group").value) return;
  menu.dataset.of = $("#group").value;
  const known = group === undefined ? [] : data.clusterings[+clustering].groups[group];
  menu.replaceChildren(new Option("all", ""), ...known.map(([cluster, count]) =>
    new Option(`${cluster < 0 ? "in none" : cluster} (${count.toLocaleString("en")})`, cluster)));
  menu.disabled = group === undefined;
}

function showPicturesOf(clustering, group, cluster) {
  filters.reset();
  setTimeout(() => {
    $("#group").value = `${clustering}:${group}`;
    offerClusters();
    $("#cluster-of").value = cluster;
    filter();
    $("#pictures").scrollIntoView();
  });
}

/* Pictures in a row, which arrow keys go through. */

async function fillStrip(strip, rows, how) {
  let items = [];
  try {
    items = await clusterSource.rows(rows);
  } catch (error) {
    strip.textContent = `No answer: ${error.message}`;
  }
  strip.replaceChildren(...items.map((item, place) => {
    const thumb = make("thumb"), best = item.predictions[0];
    fillView($(".view", thumb), item, how.layer, how.target);
    thumb.tabIndex = place ? -1 : 0;
    thumb.title = item.key;
    thumb.setAttribute("aria-label", [`${item.key}: ${best.name} ${percent(best.score)}`, words(item)].filter(Boolean).join(", "));
    thumb.addEventListener("click", () => openDetail(place, items, strip));
    thumb.addEventListener("focus", () => rove(thumb));
    return thumb;
  }));
  if (!items.length && !strip.textContent) strip.textContent = "Not in this file.";
}

function strollThrough(strip, event) {
  const thumbs = [...strip.children], here = thumbs.indexOf(document.activeElement);
  const next = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: thumbs.length - 1 }[event.key];
  if (here < 0 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  thumbs[next]?.focus();
  event.preventDefault();
}

/* The plane: points to hover over, to tap, or to go through with arrow keys. */

function drawPlane(box, view, how) {
  const svg = $("svg", box), preview = $(".preview", box), mark = $(".current", svg);
  const { row, x, y, cluster } = view.points;
  const points = row.map((_, i) => ({ row: row[i], x: 30 + 0.36 * x[i], y: 390 - 0.36 * y[i], cluster: cluster[i], has: clusterSource.has(row[i]) }));
  let only = null, current = null, latest = 0;
  const kinds = [...new Set(cluster)].sort((a, b) => a - b);

  const path = (of, has) => {
    const made = document.createElementNS(svg.namespaceURI, "path");
    const own = points.filter((point) => point.cluster === of && point.has === has);
    made.setAttribute("d", own.map((point) => `M${point.x.toFixed(1)} ${point.y.toFixed(1)}h0`).join(""));
    made.setAttribute("class", `points ${colour(of)}${has ? "" : " faint"}`);
    made.dataset.cluster = of;
    return made;
  };
  $("g", svg).replaceChildren(...[false, true].flatMap((has) => kinds.map((of) => path(of, has))));

  const pickable = () => points.filter((point) => point.has && (only === null || point.cluster === only));
  async function pick(point) {
    if (!point || point === current) return;
    current = point;
    mark.setAttribute("cx", point.x);
    mark.setAttribute("cy", point.y);
    mark.removeAttribute("hidden");
    const asked = ++latest;
    if (!data.items) await new Promise((done) => setTimeout(done, 80));  // a pointer that goes by asks nothing
    if (asked !== latest) return;
    try {
      const [item] = await clusterSource.rows([point.row]);
      if (asked !== latest) return;
      const card = makeCard(item, 0, { ...how, open: () => openDetail(0, [item], preview) });
      const told = document.createElement("p");
      told.className = `hint keyed-as ${colour(point.cluster)}`;
      told.textContent = clusterName(point.cluster);
      preview.replaceChildren(card, told);
    } catch (error) {
      preview.textContent = `No answer: ${error.message}`;
    }
  }
  const nearest = (event) => {
    const { left, top, width, height } = svg.getBoundingClientRect();
    const [px, py] = [(event.clientX - left) * 420 / width, (event.clientY - top) * 420 / height];
    const away = (point) => (point.x - px) ** 2 + (point.y - py) ** 2;
    return pickable().reduce((best, point) => (best && away(best) <= away(point) ? best : point), null);
  };
  const beside = (dx, dy) => {
    if (!current) return pickable()[0];
    const along = (point) => (point.x - current.x) * dx + (point.y - current.y) * dy;
    const across = (point) => Math.abs((point.x - current.x) * dy) + Math.abs((point.y - current.y) * dx);
    const cost = (point) => along(point) + 2 * across(point);
    return pickable().filter((point) => along(point) > 0.01)
      .reduce((best, point) => (best && cost(best) <= cost(point) ? best : point), null);
  };
  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, (event) => pick(nearest(event)));
  svg.addEventListener("focus", () => { if (!current && svg.matches(":focus-visible")) pick(pickable()[0]); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (step) pick(beside(...step));
    else if (event.key === "Enter") $(".card", preview)?.click();
    else return;
    event.preventDefault();
  });
  svg.setAttribute("aria-label", `${view.name}: ${images(points.length)} on a plane; arrow keys move from one to the next, Enter opens it`);

  const named = new Set([-1, ...view.clusters.map(({ number }) => number)]);
  $(".keyed", box).replaceChildren(...kinds.filter((of) => named.has(of)).map((of) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: clusterName(of), className: `link ${colour(of)}` });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      only = only === of ? null : of;
      for (const other of $(".keyed", box).children) other.setAttribute("aria-pressed", other === button && only !== null);
      for (const path of $("g", svg).children) path.classList.toggle("away", only !== null && +path.dataset.cluster !== only);
    });
    return button;
  }));
  const held = points.filter((point) => point.has).length;
  $(".plane-words", box).textContent = [
    "Images that are alike are near each other; those in one place are spread around it.",
    points.length < view.of ? `${points.length.toLocaleString("en")} of ${images(view.of)}, thinned evenly; of small clusters more.` : "",
    held < points.length ? `The ${held.toLocaleString("en")} larger points have their pictures in this file.` : "",
  ].filter(Boolean).join(" ");
}

/* A class: its plane, its clusters and its outliers. */

function makeCluster(cluster, view, how) {
  const made = make("cluster");
  $("h3", made).textContent = `Cluster ${cluster.number}`;
  $("h3", made).classList.add("keyed-as", colour(cluster.number));
  $(".badge", made).hidden = !cluster.stands_out;
  $(".others", made).hidden = !cluster.farthest.length;
  $("button", made).addEventListener("click", () => showPicturesOf(how.clustering, view.number, cluster.number));
  for (const kind of ["mean", "deviation"]) {
    const picture = $(`.${kind}`, made);
    if (cluster[kind]) {
      picture.src = cluster[kind];
      picture.alt = `${kind === "mean" ? "average" : "spread"} of the maps of cluster ${cluster.number}`;
    } else picture.closest("figure").remove();
  }
  $("dl", made).replaceChildren(
    pair("images", `${cluster.count.toLocaleString("en")} of ${view.count.toLocaleString("en")}`),
    pair("rank", cluster.rank.toLocaleString("en")),
    pair("unlike the rest", cluster.unlikeness.toFixed(2)),
    pair("apart, joined", `${cluster.apart.toFixed(2)}, ${cluster.joined.toFixed(2)}`),
    pair("spread", exact(cluster.spread)),
    pair("right", sharePercent(cluster.right)),
    pair("mean score", percent(cluster.score)),
  );
  return made;
}

async function showClass(clustering, group) {
  const box = $("#of-class");
  const view = await clusterSource.view(clustering, group).catch((error) => {
    box.textContent = `No answer: ${error.message}`;
  });
  if (!view || showClass.wanted !== `${clustering}:${group}`) return;
  const { layer, target } = data.clusterings[clustering], made = make("class-clusters");
  const how = { clustering, layer: layer ?? data.layers.length - 1, target };
  const left = Object.entries(view.left_out).map(([why, count]) => `${images(count)} (${why})`);
  $(".about", made).textContent = [
    `${images(view.count)} compared.`, left.length ? `Left out: ${left.join(", ")}.` : "",
    view.in_none ? `In no cluster: ${view.in_none.toLocaleString("en")}.` : "",
    view.others ? `${view.others.toLocaleString("en")} more clusters are not shown one by one; the filters have them.` : "",
  ].filter(Boolean).join(" ");
  const cards = view.clusters.map((cluster) => makeCluster(cluster, view, how));
  $(".cluster-list", made).replaceChildren(...cards);
  for (const strip of made.querySelectorAll(".strip")) strip.addEventListener("keydown", (event) => strollThrough(strip, event));
  drawPlane($(".plane", made), view, how);
  $(".plane", made).hidden = !view.points.row.length;
  $(".outliers", made).hidden = !view.outliers.length;
  box.replaceChildren(made);
  const strips = view.clusters.flatMap(({ nearest, farthest }, place) =>
    [[$(".nearest", cards[place]), nearest], [$(".farthest", cards[place]), farthest]]);
  for (const [strip, rows] of [...strips, [$(".outliers .strip", made), view.outliers]]) {
    if (made.isConnected) await fillStrip(strip, rows, how);  // one after another: they are dozens
  }
}

function chooseClass(clustering, group) {
  for (const part of document.querySelectorAll("div[data-clustering]")) part.hidden = +part.dataset.clustering !== clustering;
  const menu = $(`div[data-clustering="${clustering}"] .of-class`);
  if (group !== undefined) menu.value = group;
  showClass.wanted = `${clustering}:${menu.value}`;
  if (menu.value !== "") showClass(clustering, menu.value);
}

if (data.clusterings.length) {
  for (const change of ["input", "change"]) filters.addEventListener(change, offerClusters, true);
  filters.addEventListener("reset", () => setTimeout(offerClusters));
  $("#clustering")?.addEventListener("change", (event) => chooseClass(+event.target.value));
  for (const menu of document.querySelectorAll(".of-class")) {
    menu.addEventListener("change", () => chooseClass(+menu.closest("[data-clustering]").dataset.clustering));
  }
  for (const button of document.querySelectorAll("button[data-class]")) {
    button.addEventListener("click", () => {
      chooseClass(+button.dataset.clustering, button.dataset.class);
      $("#of-class").scrollIntoView();
    });
  }
  offerClusters();
  chooseClass(+($("#clustering")?.value ?? 0));
}
