"use strict";
// Draws the page from the JSON in it. Whatever came from a record or a model is set as text, never as markup.

const view = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const tip = document.getElementById("tip");
const dialog = document.getElementById("dialog");
const ROLES = {
  forgetting: ["forget", "forgetting: distance from the oracle's score on what is to be forgotten"],
  kept: ["keep", "kept: distance from the oracle's score on what is to be kept"],
  kl_forget: ["KL f.", "divergence from the oracle on what is to be forgotten, in nats"],
  kl_retain: ["KL r.", "divergence from the oracle on what is to be kept, in nats"],
  membership: ["MIA", "membership: distance from the oracle's AUC of the attack"],
};
const GOALS = { up: "higher is better", down: "lower is better", oracle: "toward the oracle's value on the same seed", "": "no direction" };
const STEPS = [
  [1, "within the noise"],
  [3, "1 to 3 times it"],
  [10, "3 to 10"],
  [30, "10 to 30"],
  [Infinity, "more than 30"],
];
const VERDICTS = {
  forgot: ["forgot", "The target knew it, the oracle doesn't, and neither does this one."],
  still: ["still knows", "The target knew it, the oracle doesn't, and this one still does."],
  broke: ["broke", "Target and oracle know it and this one doesn't, or its answer goes in circles."],
  changed: ["changed", "It says something else than the target."],
  kept: ["kept", "Target, oracle and this one know it."],
  gained: ["learnt anew", "The target didn't know it and this one does."],
  never: ["never knew", "Neither the target nor this one knows it."],
};
const WRECK = "⚠";
const PAGE = 20; // questions at a time

// ---- elements and tips

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// `lines` gives the lines of a tip, the first one bold; it is shown on hover, on focus and on a touch.
function withTip(element, lines) {
  const show = () => showTip(element, lines());
  element.addEventListener("mouseenter", show);
  element.addEventListener("focus", show);
  element.addEventListener("mouseleave", hideTip);
  element.addEventListener("blur", hideTip);
  return element;
}

function showTip(element, lines) {
  const [first, ...rest] = lines.filter(Boolean);
  tip.replaceChildren(h("b", {}, first), ...rest.map((line) => h("div", {}, line)));
  tip.hidden = false;
  element.setAttribute("aria-describedby", "tip");
  const at = element.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = Math.max(6, Math.min(at.left, innerWidth - size.width - 6));
  const below = at.bottom + 6 + size.height <= innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? at.bottom + 6 : Math.max(6, at.top - size.height - 6)}px`;
}

function hideTip() {
  tip.hidden = true;
}

addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
addEventListener("scroll", hideTip, true);

// One cell of a table is a stop of the tab key, and arrows lead from there to its neighbours.
function withArrows(table) {
  const stops = () => [...table.rows].map((row) => [...row.cells].map((cell) => (cell.matches("[data-stop]") ? cell : cell.querySelector("[data-stop]"))));
  const first = table.querySelector("tbody [data-stop]") || table.querySelector("[data-stop]");
  if (first) first.tabIndex = 0;
  table.addEventListener("focusin", (event) => {
    const stop = event.target.closest("[data-stop]");
    if (!stop) return;
    table.querySelectorAll('[data-stop][tabindex="0"]').forEach((each) => (each.tabIndex = -1));
    stop.tabIndex = 0;
  });
  table.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    const rows = stops();
    const row = rows.findIndex((each) => each.includes(event.target));
    if (!move || row < 0) return;
    event.preventDefault();
    let [r, c] = [row, rows[row].indexOf(event.target)];
    do [r, c] = [r + move[0], c + move[1]];
    while (rows[r] && c >= 0 && c < rows[r].length && !rows[r][c]);
    if (rows[r] && rows[r][c]) rows[r][c].focus();
  });
  return table;
}

function stop(tag, attributes, ...children) {
  return h(tag, { "data-stop": true, tabindex: -1, ...attributes }, ...children);
}

function paragraphs(texts, className) {
  return texts.map((text) => h("p", { class: className }, ...styled(text)));
}

// Our own texts: **strong**, *stress* and `code`.
function styled(text) {
  return text.split(/(\*\*[^*]+\*\*|\*[^*]+\*|`[^`]+`)/).map((part) => {
    if (part.startsWith("**")) return h("strong", {}, part.slice(2, -2));
    if (part.startsWith("*")) return h("em", {}, part.slice(1, -1));
    return part.startsWith("`") ? h("code", {}, part.slice(1, -1)) : part;
  });
}

function select(label, options, chosen, changed) {
  const box = h("select", { onchange: () => changed(box.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", {}, label, box);
}

function check(label, chosen, changed) {
  const box = h("input", { type: "checkbox", onchange: () => changed(box.checked) });
  box.checked = chosen;
  return h("label", {}, box, label);
}

function search(label, changed) {
  const box = h("input", { type: "search", placeholder: "all", size: 12, oninput: () => changed(box.value.trim().toLowerCase()) });
  return h("label", {}, label, box);
}

// A long name of a score may break after its underscores.
const breakable = (text) => text.split(/(?<=_)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));

const marked = (row) => row.name + (row.collapsed || row.diverged ? ` ${WRECK}` : "") + (row.costly ? " ▲" : "");
const isFraming = (row) => row.kind === "target" || row.kind === "oracle";
const goalOf = (column) => GOALS[column.goal] || `toward ${column.goal}`;
const columnOf = (section, name) => section.columns.find((column) => column.name === name);
const wreckLines = (row) => [row.collapsed && `${WRECK} collapsed on ${row.collapsed}: its other scores are worth little`, row.diverged && `${WRECK} diverged on ${row.diverged}`];

// ---- a table that is sorted by a click on its head

// columns: [{key, head, tip, value(row), cell(row)}]; the rows of `pinned` stay first.
function sortable(rows, columns, { pinned = () => false, rowClass = () => "", className = "", above = null, caption = "" }) {
  const state = { key: null, down: false };
  const body = h("tbody");
  const heads = columns.map((column) => {
    const button = stop("button", { type: "button", onclick: () => turn(column) }, h("span", { class: "score" }, breakable(column.head)));
    if (column.tip) withTip(button, column.tip);
    return h("th", { scope: "col", class: column.name ? "name" : column.words ? "words" : "", "aria-sort": "none", "data-key": column.key }, button);
  });
  const table = h("table", { class: className }, caption && h("caption", { class: "soft" }, caption), h("thead", {}, above, h("tr", {}, heads)), body);

  // A first click sorts up, a second one down, a third one back into the order of display.
  function turn(column) {
    if (state.key !== column.key) Object.assign(state, { key: column.key, down: false });
    else if (!state.down) state.down = true;
    else Object.assign(state, { key: null, down: false });
    fill();
  }

  function fill() {
    const by = columns.find((column) => column.key === state.key);
    const free = rows.filter((row) => !pinned(row));
    if (by) free.sort((a, b) => compare(by.value(a), by.value(b), state.down));
    heads.forEach((head, i) => head.setAttribute("aria-sort", columns[i].key !== state.key ? "none" : state.down ? "descending" : "ascending"));
    body.replaceChildren(...[...rows.filter(pinned), ...free].map((row) => h("tr", { class: rowClass(row) }, columns.map((column) => column.cell(row)))));
    if (!table.contains(document.activeElement)) withStop(table);
  }
  fill();
  return h("div", { class: "wide" }, withArrows(table));
}

function withStop(table) {
  const first = table.querySelector("tbody [data-stop]");
  if (first && !table.querySelector('[data-stop][tabindex="0"]')) first.tabIndex = 0;
}

// What is missing stands last, whichever way is sorted.
function compare(a, b, down) {
  if (a == null || b == null) return (a == null) - (b == null);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return down ? -order : order;
}

function nameColumn(section) {
  return {
    key: "name",
    name: true,
    head: "method",
    value: (row) => row.name,
    cell: (row) => {
      const button = stop("button", { type: "button", title: row.name, onclick: () => openRow(section, row) }, marked(row));
      return h("th", { scope: "row", class: "name" }, button);
    },
  };
}

// ---- at a glance

function drawGlance() {
  main.append(h("h2", {}, "At a glance"));
  if (!view.sections.length) {
    main.append(h("p", {}, "There are no records yet: ", h("code", {}, "python -m bench run --methods msa,npo --task muse-books"), " makes some."));
    return;
  }
  main.append(
    h("p", {}, "How far each method is from the oracle, the model retrained without what is to be forgotten: the mean distance over seeds, coloured by how many times the noise it is. The nearer the better, in every column. Nothing is ranked across tasks; a click on a cell opens its table."),
    legend(),
  );
  for (const [tier, about] of Object.entries(view.tiers)) {
    const sections = view.sections.filter((section) => section.tier === tier && section.rows.length);
    if (!sections.length) continue;
    main.append(h("h3", { id: `glance-${tier}` }, about.title), ...paragraphs(about.meaning, "soft"), glance(sections));
    const open = sections.filter((section) => !section.fixed);
    if (open.length) main.append(h("p", { class: "soft" }, `No primary scores were fixed for ${open.map((section) => section.short).join(", ")}: the first of each kind stand here.`));
  }
  const refused = view.sections.filter((section) => !section.rows.length);
  if (refused.length) main.append(h("p", { class: "note" }, "Without rows: ", refused.map((section, i) => [i ? ", " : "", h("a", { href: `#${section.id}`, title: section.title }, section.short)])));
}

function legend() {
  const steps = STEPS.map(([, text], i) => h("span", {}, h("span", { class: `box d${i}` }), text));
  return h("div", { class: "legend" }, h("span", {}, "Distance, in units of the noise:"), steps, h("span", {}, h("span", { class: "box wreck" }), "collapsed or diverged on some seed"), h("span", {}, "without colour: no noise is known"));
}

function glance(sections) {
  const rows = new Map();
  for (const section of sections) for (const row of section.rows) rows.set(row.name, { ...(rows.get(row.name) || { name: row.name, kind: row.kind }), [section.id]: row });
  const order = { target: 0, oracle: 1, control: 2, method: 3 };
  const all = [...rows.values()].sort((a, b) => order[a.kind] - order[b.kind] || (a.kind === "control" ? 0 : a.name.localeCompare(b.name)));
  const columns = [
    { key: "name", name: true, head: "method", value: (row) => row.name, cell: (row) => h("th", { scope: "row", class: "name", title: row.name }, row.name + (row.kind === "oracle" ? " (oracle)" : "")) },
  ];
  const tasks = [h("th", { class: "name" })];
  for (const section of sections) {
    const roles = Object.entries(section.roles);
    tasks.push(h("th", { class: "task", colspan: roles.length || 1, scope: "colgroup" }, h("a", { href: `#${section.id}`, title: section.title }, section.short)));
    if (!roles.length) columns.push({ key: section.id, head: "", value: () => null, cell: () => h("td") });
    for (const [role, score] of roles) {
      columns.push({
        key: `${section.id} ${role}`,
        head: (ROLES[role] || [role])[0],
        tip: () => [score, (ROLES[role] || [role, role])[1], (columnOf(section, score) || {}).meaning],
        value: (row) => row[section.id] && row[section.id].gaps[role] && row[section.id].gaps[role].mean,
        cell: (row) => glanceCell(section, row[section.id], role, score),
      });
    }
  }
  const table = sortable(all, columns, {
    className: "glance",
    pinned: isFraming,
    rowClass: (row) => (isFraming(row) ? "framing" : row.kind),
    above: h("tr", {}, tasks),
  });
  return table;
}

function glanceCell(section, row, role, score) {
  const gap = row && row.gaps[role];
  if (!gap) return h("td", {}, stop("a", { role: "note" }, "–"));
  const wreck = row.collapsed || row.diverged;
  const step = gap.times == null ? "" : `d${STEPS.findIndex(([most]) => gap.times <= most)}`;
  const link = stop("a", { href: `#${section.id}` }, gap.text, wreck && h("span", { class: "key" }, ` ${WRECK}`));
  const cell = row.cells[score];
  withTip(link, () => [
    `${row.name}, ${section.short}: ${score}`,
    `distance ${gap.whole}${gap.times == null ? "; no noise is known" : `, ${gap.said} times ${role.startsWith("kl") ? "that between two oracles" : "the noise"}`}`,
    cell && `score ${cell.text}; ${cell.n} seed${cell.n > 1 ? "s" : ""}`,
    ...wreckLines(row),
  ]);
  return h("td", { class: `${step} ${wreck ? "wreck" : ""}`, "data-row": row.name, "data-role": `${section.id} ${role}` }, link);
}

// ---- a section

function drawSection(section) {
  const parts = [];
  const part = (id, title, ...content) => {
    parts.push([id, title]);
    main.append(h("h3", { id: `${section.id}--${id}` }, title), ...content.flat().filter(Boolean));
  };
  const jump = h("div", { class: "jump" });
  const seeds = section.seeds.length ? `Seeds ${section.seeds.join(", ")}. ` : "";
  main.append(h("h2", {}, section.title), h("p", { class: "soft" }, `${seeds}${(view.tiers[section.tier] || {}).title || section.tier}.`), jump);
  section.statements.forEach((text) => main.append(h("p", { class: "note" }, text)));
  if (section.rows.length) {
    part("scores", "Scores", scores(section));
    part("plane", "Forgetting against what is kept", plane(section));
    part("strips", "Each score, seed by seed", strips(section));
    part("contrasts", "Which differences are supported", contrasts(section));
  }
  if (section.attacks.length) part("attacks", "Under attack", ...paragraphs(view.attacks, "soft"), attacks(section));
  if (section.rows.length) {
    if (Object.keys(section.ways).length || Object.keys(section.losses).length) part("curves", "On the way", curves(section));
    part("answers", "What the models said", answers(section));
    part("runs", "Settings, costs, commands", runs(section));
    if (section.field.length) part("field", "The field's overall score", ...paragraphs(view.field, "soft"), field(section));
  }
  const notes = [...section.unfinished, ...section.judges.map((text) => `The judge of the acc_ scores is not the paper's GPT-4o. ${text}`)];
  if (notes.length || section.absent.length) {
    part("absent", "Without scores", notes.length ? h("ul", {}, notes.map((text) => h("li", {}, text))) : null, section.absent.length ? h("details", {}, h("summary", {}, `${section.absent.length} scores that can't be had`), h("ul", {}, section.absent.map((text) => h("li", {}, text)))) : null);
  }
  jump.append(...parts.map(([id, title]) => h("a", { href: `#${section.id}--${id}` }, title)));
}

function scores(section) {
  const state = { methods: "", scores: "", all: false, controls: true };
  const place = h("div");
  const draw = () => place.replaceChildren(scoreTable(section, state));
  const set = (name) => (value) => {
    state[name] = value;
    draw();
  };
  draw();
  return [
    h("div", { class: "controls" }, search("Methods with", set("methods")), search("Scores with", set("scores")), check("all scores", false, set("all")), check("controls", true, set("controls"))),
    place,
    h("p", { class: "soft" }, "Mean over seeds with its 95% interval. Point at a cell, or move to it with the arrow keys, for its definition and seeds; a click on a head sorts, on a name opens the row. Bold: a supported contrast names it as better."),
  ];
}

function scoreTable(section, state) {
  const listed = section.columns.filter((column) => (state.all || state.scores || column.headline || !section.columns.some((each) => each.headline)) && column.name.toLowerCase().includes(state.scores));
  const rows = section.rows.filter((row) => isFraming(row) || (row.name.toLowerCase().includes(state.methods) && (state.controls || row.kind !== "control")));
  const noise = { name: "noise", kind: "noise", noise: true };
  const name = nameColumn(section);
  const columns = [
    { ...name, cell: (row) => (row.noise ? h("th", { scope: "row", class: "name" }, "noise") : name.cell(row)) },
    { key: "seeds", head: "seeds", value: (row) => row.seeds.length, cell: (row) => h("td", {}, row.noise ? "" : String(row.seeds.length)) },
    ...listed.map((column) => ({
      key: column.name,
      head: `${column.name} ${column.arrow}`.trim(),
      tip: () => [column.name, column.meaning, `${goalOf(column)}; version ${column.version}`, column.source && `after ${column.source}`, noiseLine(column)],
      value: (row) => row.cells[column.name] && row.cells[column.name].mean,
      cell: (row) => (row.noise ? h("td", { class: "interval" }, column.noise || "–") : scoreCell(section, row, column)),
    })),
  ];
  const shown = section.columns.some((column) => column.noise) ? [...rows.filter(isFraming), noise, ...rows.filter((row) => !isFraming(row))] : rows;
  return sortable(shown, columns, { pinned: (row) => isFraming(row) || row.noise, rowClass: (row) => (isFraming(row) || row.noise ? "framing" : row.kind), className: "scores" });
}

const noiseLine = (column) => (column.noise ? `noise ${column.noise} (${column.df} degrees of freedom): nearer than that nothing can be told apart` : "no noise is known");

function scoreCell(section, row, column) {
  const cell = row.cells[column.name];
  const better = (section.better[column.name] || []).includes(row.name);
  if (!cell) return stop("td", { class: "interval" }, "–");
  const [, mean, rest] = /^(\S+)(.*)$/s.exec(cell.text);
  const td = stop("td", { class: better ? "better" : "", "data-row": row.name, "data-score": column.name }, mean, h("span", { class: "interval" }, rest));
  return withTip(td, () => [
    `${row.name}: ${column.name} ${cell.text}`,
    column.meaning,
    `${goalOf(column)}; n = ${cell.n} seed${cell.n > 1 ? "s" : ""}${cell.over ? `; 95% interval (${cell.over})` : "; no interval"}`,
    `seeds: ${cell.seeds.map((value) => (value == null ? "–" : value.toPrecision(4))).join(", ")}`,
    noiseLine(column),
    better && "a supported contrast names it as the better one",
    ...wreckLines(row),
  ]);
}

// ---- pictures

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour("--ink"), soft: colour("--soft"), line: colour("--line"), paper: colour("--paper"), panel: colour("--panel"), dark: matchMedia("(prefers-color-scheme: dark)").matches };
}

// Plotly reads a few tags in texts; a name has none.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// On dark paper black and dark grey turn light, and the other colours a little lighter.
function colourOf(row, look) {
  if (!look.dark) return row.colour;
  const parts = [1, 3, 5].map((i) => parseInt(row.colour.slice(i, i + 2), 16));
  const grey = Math.max(...parts) - Math.min(...parts) < 10;
  return `rgb(${parts.map((part) => Math.round(grey ? 255 - part * 0.6 : part + (255 - part) * 0.4)).join(",")})`;
}

const redraws = new Set();
function plot(draw, label, kind = "") {
  const place = h("div", { class: `plot ${kind}`, role: "img", "aria-label": label });
  const redraw = () => {
    if (!place.isConnected) return;
    const look = theme();
    const { data, layout } = draw(look, place.clientWidth < 560);
    const axis = { gridcolor: look.line, zerolinecolor: look.line, linecolor: look.soft, automargin: true, exponentformat: "power" };
    const whole = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: look.ink, family: "system-ui, sans-serif", size: 12 }, margin: { l: 60, r: 15, t: 15, b: 50 }, hovermode: "closest", ...layout };
    whole.xaxis = { ...axis, ...layout.xaxis };
    whole.yaxis = { ...axis, ...layout.yaxis };
    Plotly.react(place, data, whole, { displayModeBar: false, responsive: true });
  };
  redraws.add(redraw);
  requestAnimationFrame(redraw);
  place.redraw = redraw;
  return place;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));

const legendOf = (narrow) => ({ tracegroupgap: 0, ...(narrow ? { orientation: "h", yref: "container", yanchor: "bottom", y: 0, font: { size: 11 } } : { font: { size: 11.5 } }) });
const hover = (section, row, name) => {
  const cell = row.cells[name];
  return cell ? `${plain(name)} ${plain(cell.text)}` : "";
};

// Seeds faint, the mean large with its interval; forgetting is counted from the oracle's on the same seed.
function plane(section) {
  const across = section.forgetting;
  const up = section.utility;
  if (!across.length || !up.length) return h("p", { class: "soft" }, "The records name no scores of forgetting and of what is kept.");
  const primary = [section.roles.forgetting, section.roles.kept];
  const state = { x: across.includes(primary[0]) ? primary[0] : across[0], y: up.includes(primary[1]) ? primary[1] : up[0], fronts: true, near: true };
  const oracleAt = (name, seed) => (section.oracles[name] || [])[section.seeds.indexOf(seed)];
  const figure = plot((look, narrow) => {
    const data = [];
    const shown = []; // what must lie in the picture when it is of the methods and the oracle alone
    let target = null;
    const against = section.oracles[state.x];
    const isFront = state.fronts && state.x === primary[0] && state.y === primary[1] && section.fixed;
    for (const row of section.rows) {
      const [x, y] = [row.cells[state.x], row.cells[state.y]];
      if (!x || !y) continue;
      const colour = colourOf(row, look);
      const points = row.seeds.map((seed, i) => [against ? minus(x.seeds[i], oracleAt(state.x, seed)) : x.seeds[i], y.seeds[i]]).filter(([a, b]) => a != null && b != null);
      if (!points.length) continue;
      const mean = (i) => points.reduce((sum, point) => sum + point[i], 0) / points.length;
      if (row.kind === "target") target = [mean(0), mean(1)];
      else if (row.kind === "oracle" || (row.kind === "method" && !row.collapsed && !row.diverged)) shown.push(...points);
      const front = isFront && section.fronts[row.name];
      const name = plain(marked(row));
      if (front) data.push({ type: "scatter", mode: "lines", x: front.mean.map((p) => p[1]), y: front.mean.map((p) => p[2]), customdata: front.mean.map((p) => p[0]), line: { color: colour, width: 1.6 }, legendgroup: row.name, showlegend: false, hovertemplate: `${name}<br>%{customdata:.0%} of its setting<br>%{x:.3f}, %{y:.3f}<extra></extra>` });
      data.push(
        { type: "scatter", mode: "markers", x: points.map((p) => p[0]), y: points.map((p) => p[1]), marker: { color: colour, symbol: row.symbol, size: 6, opacity: 0.3 }, legendgroup: row.name, showlegend: false, hoverinfo: "skip" },
        { type: "scatter", mode: "markers", x: [mean(0)], y: [mean(1)], name, legendgroup: row.name, marker: { color: colour, symbol: row.symbol, size: isFraming(row) ? 15 : 11, line: { color: look.paper, width: 1 } }, error_y: y.ends ? { type: "data", symmetric: false, array: [y.ends[1] - y.mean], arrayminus: [y.mean - y.ends[0]], color: colour, thickness: 1, width: 0 } : undefined, hovertemplate: `<b>${name}</b><br>${hover(section, row, state.x)}<br>${hover(section, row, state.y)}<br>n = ${y.n}<extra></extra>` },
      );
    }
    const sd = (columnOf(section, state.x) || {}).sd;
    const band = against && sd ? [{ type: "rect", xref: "x", yref: "paper", x0: -sd, x1: sd, y0: 0, y1: 1, fillcolor: look.soft, opacity: 0.16, line: { width: 0 }, layer: "below" }] : [];
    const [xs, ys] = state.near && shown.length ? [around(shown.map((p) => p[0]).concat(against ? [0] : [])), around(shown.map((p) => p[1]))] : [null, null];
    const annotations = [];
    if (xs && target && (target[0] > xs[1] || target[0] < xs[0])) {
      const right = target[0] > xs[1];
      annotations.push({ x: right ? xs[1] : xs[0], y: Math.max(ys[0], Math.min(ys[1], target[1])), text: right ? "target →" : "← target", showarrow: false, xanchor: right ? "right" : "left", yanchor: "bottom", font: { color: look.soft } });
    }
    return { data, layout: { shapes: band, annotations, legend: legendOf(narrow), xaxis: { range: xs, autorange: !xs, title: { text: plain(state.x) + (against ? " minus the oracle's" : "") } }, yaxis: { range: ys, autorange: !ys, title: { text: plain(state.y) } } } };
  }, "What is kept against what is forgotten; the same numbers stand in the table of scores");
  const set = (name) => (value) => {
    state[name] = value;
    figure.redraw();
  };
  const options = (names) => names.map((name) => [name, name]);
  const hasFronts = Object.keys(section.fronts).length > 0;
  return [
    h("div", { class: "controls" }, select("Across", options(across), state.x, set("x")), select("Up", options(up), state.y, set("y")), hasFronts && check("fronts along each method's own dial", true, set("fronts")), check("without target and controls", true, set("near"))),
    figure,
    h("p", { class: "soft" }, "The oracle is where unlearning should end: the grey band is the noise around it. Points at the sides of it have forgotten too little or too much. A click on a name in the legend hides it, a double click leaves it alone."),
  ];
}

// The range of some values, with room on both sides.
function around(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.07;
  return [low - room, high + room];
}

const minus = (a, b) => (a == null || b == null ? null : a - b);

function strips(section) {
  const names = section.columns.map((column) => column.name);
  const groups = [
    ["Divergence from the oracle", names.filter((name) => name.startsWith("kl_"))],
    ["Membership attacks", section.membership],
    ["Other scores", names.filter((name) => !name.startsWith("kl_") && !section.membership.includes(name))],
  ].filter(([, list]) => list.length);
  const first = (list, or) => list.find((name) => names.includes(name)) || or;
  const chosen = [first(["kl_forget_floors", "kl_forget"], names[0]), first(["mia_min_k", ...section.membership], names[names.length - 1])];
  return [h("div", { class: "pair" }, chosen.map((name) => strip(section, groups, name)))];
}

function strip(section, groups, name) {
  const state = { name };
  const figure = plot((look) => {
    const column = columnOf(section, state.name);
    const rows = section.rows.filter((row) => row.cells[state.name]);
    const values = rows.flatMap((row) => row.cells[state.name].seeds).filter((value) => value != null);
    const isLog = Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 30 && Math.max(...values) > 1;
    const data = rows.flatMap((row) => {
      const cell = row.cells[state.name];
      const label = plain(marked(row));
      const colour = colourOf(row, look);
      return [
        { type: "scatter", mode: "markers", x: cell.seeds, y: cell.seeds.map(() => label), marker: { color: colour, size: 6, opacity: 0.4, symbol: row.symbol }, hovertemplate: row.seeds.map((seed) => `${label}, seed ${seed}: %{x:.4g}<extra></extra>`) },
        { type: "scatter", mode: "markers", x: [cell.mean], y: [label], marker: { color: colour, size: 11, symbol: row.symbol, line: { color: look.paper, width: 1 } }, hovertemplate: `<b>${label}</b><br>${hover(section, row, state.name)}<br>n = ${cell.n}<extra></extra>` },
      ];
    });
    const oracle = section.rows.find((row) => row.kind === "oracle" && row.cells[state.name]);
    const line = state.name.endsWith("_floors") ? 1 : oracle && oracle.cells[state.name].mean;
    const shapes = line == null ? [] : [{ type: "line", xref: "x", yref: "paper", x0: line, x1: line, y0: 0, y1: 1, line: { color: look.soft, width: 1, dash: "dash" }, layer: "below" }];
    if (line != null && column.sd && !state.name.startsWith("kl_")) shapes.push({ type: "rect", xref: "x", yref: "paper", x0: line - column.sd, x1: line + column.sd, y0: 0, y1: 1, fillcolor: look.soft, opacity: 0.16, line: { width: 0 }, layer: "below" });
    return { data, layout: { showlegend: false, shapes, margin: { l: 10, r: 15, t: 10, b: 50 }, xaxis: { type: isLog ? "log" : "linear", title: { text: plain(`${state.name} ${column.arrow}`) } }, yaxis: { autorange: "reversed", type: "category", tickfont: { size: 11 } } } };
  }, `${name} of every method, seed by seed`, "bare");
  const options = groups.map(([title, list]) => h("optgroup", { label: title }, list.map((each) => h("option", { value: each, selected: each === name }, each))));
  const box = h("select", { onchange: () => ((state.name = box.value), figure.redraw()) }, options);
  return h("div", {}, h("div", { class: "controls" }, h("label", {}, "Score", box)), figure);
}

function contrasts(section) {
  if (!section.contrasts.length) return h("p", {}, section.contrasts_said || "No primary scores were fixed for this task: nothing is compared.");
  const fixed = section.contrasts.filter((each) => each.p !== "–");
  const columns = [
    { key: "rows", name: true, head: "contrast", value: (c) => c.rows.map((row) => row[0]).join(" – "), cell: (c) => h("th", { scope: "row", class: "name", style: "max-width:none" }, c.rows.map(([name, wreck]) => name + (wreck ? ` ${WRECK}` : "")).join(" – ")) },
    { key: "score", head: "score", value: (c) => c.role + c.score, cell: (c) => h("td", {}, `${c.role.replace("_", " ")}: ${c.score}`) },
    { key: "difference", head: "difference of gaps", value: (c) => parseFloat(c.difference), cell: (c) => h("td", {}, c.difference) },
    { key: "interval", head: "95% interval", value: (c) => parseFloat(c.interval.slice(1)), cell: (c) => h("td", {}, c.interval) },
    { key: "p", head: "p (Holm)", value: (c) => (c.p === "–" ? null : parseFloat(c.p)), cell: (c) => h("td", {}, c.p) },
    { key: "verdict", head: "supported", value: (c) => c.verdict, cell: (c) => h("td", { class: c.supported ? "better" : "interval" }, c.verdict) },
  ];
  return [h("p", {}, `${fixed.filter((each) => each.supported).length} of ${fixed.length} differences are supported. ${section.contrasts_said} A difference below 0 is for the first one.`), sortable(section.contrasts, columns, {})];
}

function attacks(section) {
  const place = h("div");
  const show = (index) => place.replaceChildren(...attack(section.attacks[index]));
  show(0);
  return [h("div", { class: "controls" }, select("Attack", section.attacks.map((each, i) => [String(i), each.name]), "0", (value) => show(Number(value)))), place];
}

function attack(table) {
  const columns = [
    { key: "name", name: true, head: "method", value: (row) => row.name, cell: (row) => h("th", { scope: "row", class: "name" }, row.name + (row.wreck ? ` ${WRECK}` : "")) },
    { key: "seeds", head: "seeds", value: (row) => row.seeds, cell: (row) => h("td", {}, String(row.seeds)) },
    ...table.head.map((head, i) => ({ key: head, head, value: (row) => row.means[i], cell: (row) => h("td", {}, row.cells[i]) })),
  ];
  const gaps = plot((look) => {
    const rows = table.rows.filter((row) => row.gap.length);
    const data = rows.map((row) => ({ type: "scatter", mode: "markers", x: row.gap, y: row.gap.map(() => plain(row.name)), marker: { color: colourOf(row, look), symbol: row.symbol, size: 9 }, hovertemplate: `${plain(row.name)}: %{x:.4g}<extra></extra>` }));
    return { data, layout: { showlegend: false, xaxis: { title: { text: plain(table.head[1]) + ", minus the oracle's" } }, yaxis: { autorange: "reversed", type: "category" }, margin: { l: 10, r: 15, t: 10, b: 50 } } };
  }, "What the attack brings back, minus what it brings back of the oracle", "bare");
  const parts = [sortable(table.rows, columns, {})];
  const pictures = [h("div", {}, gaps)];
  if (table.rows.some((row) => row.curves.length)) {
    pictures.push(
      h("div", {}, plot((look, narrow) => {
        const data = table.rows.flatMap((row) => row.curves.map((curve, i) => ({ type: "scatter", mode: "lines", x: curve.map((p) => p[0]), y: curve.map((p) => p[1]), name: plain(row.name), legendgroup: row.name, showlegend: !i, line: { color: colourOf(row, look), width: 1.4 }, hovertemplate: `${plain(row.name)}<br>step %{x}: %{y:.3f}<extra></extra>` })));
        return { data, layout: { legend: legendOf(narrow), xaxis: { title: { text: "step of the attack" } }, yaxis: { title: { text: plain(table.head[1]) } } } };
      }, "The score on the way of the attack, a line a seed")),
    );
  }
  return [...parts, h("div", { class: "pair" }, pictures)];
}

function curves(section) {
  const parts = [];
  const scored = [...new Set(Object.values(section.ways).flatMap(Object.keys))];
  const rowOf = (name) => section.rows.find((row) => row.name === name);
  if (scored.length) {
    const state = { score: scored.includes(section.roles.forgetting) ? section.roles.forgetting : scored[0] };
    const figure = plot((look, narrow) => {
      const data = Object.entries(section.ways)
        .filter(([, way]) => way[state.score])
        .map(([name, way]) => ({ type: "scatter", mode: "lines+markers", name: plain(name), x: way[state.score].map((p) => p[0]), y: way[state.score].map((p) => p[1]), line: { color: colourOf(rowOf(name), look), width: 1.6 }, marker: { size: 6, symbol: rowOf(name).symbol }, hovertemplate: `${plain(name)}<br>%{x:.0%}: %{y:.3f}<extra></extra>` }));
      const oracle = section.rows.find((row) => row.kind === "oracle" && row.cells[state.score]);
      const shapes = oracle ? [{ type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: oracle.cells[state.score].mean, y1: oracle.cells[state.score].mean, line: { color: look.soft, width: 1, dash: "dash" }, layer: "below" }] : [];
      return { data, layout: { legend: legendOf(narrow), shapes, xaxis: { tickformat: ".0%", title: { text: "share of the way from the target to the chosen setting" } }, yaxis: { title: { text: plain(state.score) } } } };
    }, "A score along the way from the target to each method's result");
    parts.push(h("div", {}, h("div", { class: "controls" }, select("Score", scored.map((name) => [name, name]), state.score, (value) => ((state.score = value), figure.redraw()))), figure, h("p", { class: "soft" }, "Mean over seeds; the dashed line is the oracle. Of a sum of weights the way goes on beyond the chosen coefficients.")));
  }
  const trained = Object.keys(section.losses);
  if (trained.length) {
    const figure = plot((look, narrow) => {
      const dashes = ["solid", "dash", "dot"];
      const data = trained.flatMap((name) => Object.entries(section.losses[name]).map(([stage, curve], i) => ({ type: "scatter", mode: "lines", name: plain(stage === name ? name : `${name}: ${stage}`), x: curve.map((p) => p[0]), y: curve.map((p) => p[1]), line: { color: colourOf(rowOf(name), look), width: 1.4, dash: dashes[i % 3] }, hovertemplate: `${plain(name)}, ${plain(stage)}<br>step %{x}: %{y:.4g}<extra></extra>` })));
      return { data, layout: { legend: legendOf(narrow), xaxis: { title: { text: "step" } }, yaxis: { title: { text: "loss" } } } };
    }, "Losses of the trainings behind the rows");
    parts.push(h("div", {}, h("div", { class: "controls" }, "Losses of the trainings, first seed"), figure, h("p", { class: "soft" }, "Each method has a loss of its own, so that heights don't compare.")));
  }
  return h("div", { class: "pair" }, parts);
}

// ---- what the models said

function answers(section) {
  const said = section.answers;
  if (!said) return h("p", { class: "soft" }, view.own ? "The store holds no texts of these runs (a classifier says none); run the same command again to have them." : section.tier === "lab" ? "No texts of these runs are published (a classifier says none)." : "A published report shows no text of a benchmark: bench report --from runs makes one of your own runs, which does.");
  const rowOf = (name) => section.rows.find((row) => row.name === name);
  const methods = said.who.filter((name) => rowOf(name).kind === "method");
  const state = { probe: 0, verdict: "all", text: "", shown: PAGE, who: new Set(methods.slice(0, 5)) };
  if (!state.who.size) said.who.filter((name) => !isFraming(rowOf(name))).forEach((name) => state.who.add(name));
  const counts = h("span", { class: "soft", role: "status" });
  const list = h("div");
  const target = said.who.findIndex((name) => rowOf(name).kind === "target");

  const isOf = (question, who, verdict) => (verdict === "changed" ? target >= 0 && who !== target && question[3][who] >= 0 && question[3][who] !== question[3][target] : question[4][who] === verdict);
  function draw() {
    const probe = said.probes[state.probe];
    const chosen = said.who.map((name, i) => [name, i]).filter(([name]) => state.who.has(name));
    const found = probe.rows.filter((question) => (state.verdict === "all" || chosen.some(([, i]) => isOf(question, i, state.verdict))) && (!state.text || [question[1], question[2], ...question[3]].some((number) => number >= 0 && said.texts[number].toLowerCase().includes(state.text))));
    counts.textContent = `${found.length} of ${probe.rows.length} questions${probe.asked > probe.rows.length ? ` (of ${probe.asked} that were asked)` : ""}, seed ${said.seed}`;
    const more = found.length > state.shown && h("button", { type: "button", onclick: () => ((state.shown += PAGE), draw()) }, `${found.length - state.shown} more`);
    list.replaceChildren(...found.slice(0, state.shown).map((question) => card(question, chosen)), ...(more ? [more] : []));
  }

  function card(question, chosen) {
    const [key, asked, truth] = question;
    const framing = said.who.map((name, i) => [name, i]).filter(([name]) => isFraming(rowOf(name)));
    return h(
      "div",
      { class: "card", "data-question": key },
      h("div", { class: "asked" }, h("div", {}, h("div", { class: "key" }, "question"), said.texts[asked]), h("div", {}, h("div", { class: "key" }, "truth"), said.texts[truth])),
      h("div", { class: "answers" }, [...framing, ...chosen].map(([name, i]) => answer(question, name, i))),
      h("div", { class: "key" }, key),
    );
  }

  function answer(question, name, i) {
    const number = question[3][i];
    const row = rowOf(name);
    const verdict = row.kind === "target" || row.kind === "oracle" ? "" : question[4][i];
    const changed = i !== target && target >= 0 && number >= 0 && number !== question[3][target];
    const label = verdict ? VERDICTS[verdict][0] : "";
    const text = number < 0 ? ["–"] : changed && question[3][target] >= 0 ? differences(said.texts[number], said.texts[question[3][target]]) : [said.texts[number] || "(nothing)"];
    return h("div", { class: `answer ${verdict}`, "data-who": name, "data-verdict": verdict }, h("div", { class: "who" }, h("span", { title: name }, row.kind === "oracle" ? `${name} (oracle)` : marked(row)), h("span", {}, [label, changed && !isFraming(row) && verdict !== "forgot" && verdict !== "broke" ? "changed" : ""].filter(Boolean).join(", "))), ...text);
  }

  const chips = h("div", { class: "chips", role: "group", "aria-label": "What has become of it" }, ["all", "forgot", "still", "broke", "changed", "gained"].map((verdict) => {
    const button = h("button", { type: "button", "aria-pressed": String(verdict === "all"), "data-verdict": verdict, onclick: () => {
      Object.assign(state, { verdict, shown: PAGE });
      chips.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      draw();
    } }, verdict === "all" ? "all" : VERDICTS[verdict][0]);
    return verdict === "all" ? button : withTip(button, () => VERDICTS[verdict]);
  }));
  const boxes = said.who.filter((name) => !isFraming(rowOf(name))).map((name) => check(marked(rowOf(name)), state.who.has(name), (on) => {
    if (on) state.who.add(name);
    else state.who.delete(name);
    draw();
  }));
  draw();
  return [
    view.own && section.tier !== "lab" ? h("p", { class: "note" }, "These are the benchmark's own texts, for your eyes: don't publish this page.") : null,
    h("div", { class: "controls" }, select("Asked", said.probes.map((probe, i) => [String(i), probe.name]), "0", (value) => (Object.assign(state, { probe: Number(value), shown: PAGE }), draw())), chips, search("Texts with", (text) => (Object.assign(state, { text, shown: PAGE }), draw())), counts),
    h("fieldset", {}, h("legend", {}, "Methods beside target and oracle"), boxes),
    h("p", { class: "soft" }, `An answer knows the truth by the task's own judgement, else where it has ${view.knows * 100}% of its words in order. What should be forgotten is what the target knows and the oracle doesn't. Marked: words that the target doesn't say.`),
    list,
  ];
}

// The words of a text that the longest common subsequence with another one doesn't have are marked.
function differences(text, other) {
  const [a, b] = [text.split(/(\s+)/), other.split(/\s+/).filter(Boolean)];
  const words = a.filter((word) => word.trim());
  const table = Array.from({ length: words.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = words.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) table[i][j] = words[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const same = new Set();
  for (let i = 0, j = 0; i < words.length && j < b.length; ) {
    if (words[i] === b[j]) same.add(i), i++, j++;
    else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  let at = -1;
  return a.map((word) => (!word.trim() || same.has(++at) ? word : h("mark", {}, word)));
}

// ---- settings, costs, commands

function runs(section) {
  const names = Object.keys(section.rows[0].used);
  const number = (text) => (/^[\d.,]/.test(text) ? parseFloat(text.replace(/,/g, "")) : null);
  const columns = [
    nameColumn(section),
    ...names.map((name) => ({ key: name, head: name, value: (row) => number(row.used[name]), cell: (row) => h("td", {}, row.used[name]) })),
    { key: "params", words: true, head: "settings", value: (row) => row.params, cell: (row) => h("td", { class: "words" }, row.params || "no parameters") },
  ];
  return [h("p", { class: "soft" }, "A click on a name shows where its settings come from, on what it was measured, and the command that makes it again. ▲: more than half of one retraining's tokens."), sortable(section.rows, columns, { pinned: isFraming, rowClass: (row) => (isFraming(row) ? "framing" : row.kind) })];
}

function field(section) {
  const columns = [
    { key: "name", name: true, head: "method", value: (row) => row.name, cell: (row) => h("th", { scope: "row", class: "name" }, row.name) },
    ...Object.keys(section.field[0].cells).map((name) => ({ key: name, head: name, value: (row) => row.means[name], cell: (row) => h("td", {}, row.cells[name]) })),
  ];
  return sortable(section.field, columns, {});
}

function openRow(section, row) {
  const facts = { ...row.used, settings: row.params || "no parameters", "settings from": row.source, seeds: row.seeds.join(", "), collapsed: row.collapsed, diverged: row.diverged, commits: row.commits, "measured on": row.measured, ...row.facts };
  const copy = h("button", { type: "button", onclick: () => navigator.clipboard.writeText(row.command).then(() => (copy.textContent = "copied")) }, "copy");
  dialog.replaceChildren(
    h("h2", { id: "dialog-title" }, `${marked(row)}, ${section.short}`),
    h("h4", {}, "Make it again"),
    ...(row.command ? [h("pre", { class: "command" }, row.command), copy] : [h("p", {}, "Only an ablation makes such runs.")]),
    h("h4", {}, "What it is, and what it cost"),
    h("dl", {}, Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name.replace(/_/g, " ")), h("dd", {}, value)])),
    h("form", { method: "dialog" }, h("button", { autofocus: true }, "close")),
  );
  hideTip();
  dialog.showModal();
}

// ---- how to read, and the way between the parts

function drawReading() {
  main.append(h("h2", {}, "How to read it"), ...paragraphs(view.reading), h("h3", {}, "Files left out"));
  main.append(view.broken.length ? h("ul", {}, view.broken.map((text) => h("li", {}, text))) : h("p", {}, "None."), h("p", { class: "soft" }, `${view.records} records. Pictures: plotly.js 4.1.1, MIT, © Plotly, Inc.`));
}

const pages = [["glance", "At a glance", drawGlance], ...view.sections.map((section) => [section.id, section.short, () => drawSection(section)]), ["reading", "How to read it", drawReading]];
let current = "";

function go() {
  const [id, part] = decodeURIComponent(location.hash.slice(1)).split("--");
  const [name, title, draw] = pages.find((page) => page[0] === id) || pages[0];
  if (name !== current) {
    current = name;
    redraws.clear();
    hideTip();
    main.replaceChildren();
    draw();
    document.title = `${title} – msa-bench report`;
    scrollTo(0, 0);
  }
  document.querySelectorAll("#nav a").forEach((link) => {
    if (link.hash === `#${name}`) {
      link.setAttribute("aria-current", "page");
      link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 20;
    } else link.removeAttribute("aria-current");
  });
  const heading = part && document.getElementById(`${name}--${part}`);
  if (heading) heading.scrollIntoView();
}

document.getElementById("nav").append(...pages.map(([id, title]) => h("a", { href: `#${id}`, title }, title)));
addEventListener("hashchange", go);
go();
