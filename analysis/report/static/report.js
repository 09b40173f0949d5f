// Draws the charts of the report as SVG and lets its tables sort and filter. It asks for nothing
// that is not on the page, and writes text only as text.
"use strict";

const { charts: CHARTS, words: WORDS } = JSON.parse(document.getElementById("data").textContent);
const DASHES = ["", "7 3", "2 3", "8 3 2 3", "12 4", "5 2 2 2 2 2"];
const HEIGHT = 300;
const REACH = 40; // pixels within which the pointer finds a point

function html(name, attributes, parent, text) {
  return make(document.createElement(name), attributes, parent, text);
}

function svg(name, attributes, parent, text) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, parent, text);
}

function make(element, attributes, parent, text) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== false) element.setAttribute(key, value);
  }
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

function written(value) {
  if (value === 0) return "0";
  const decimals = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toLocaleString("en", { maximumFractionDigits: decimals });
}

// Round numbers that divide a range into about so many parts.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((multiple) => multiple * power >= raw) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) {
    found.push(at * step || 0); // never -0
  }
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  return found.map((value) => [
    value,
    value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }),
  ]);
}

function scale([low, high], [start, end]) {
  const pixel = (value) => start + ((value - low) / (high - low)) * (end - start);
  pixel.back = (at) => low + ((at - start) / (end - start)) * (high - low);
  return pixel;
}

function extent(values, margin) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!Number.isFinite(low)) return [0, 1];
  const span = high - low || Math.abs(high) || 1;
  // Nothing here is below zero unless some value is.
  const start = low - span * margin;
  return [low >= 0 ? Math.max(0, start) : start, high + span * margin];
}

const MARKERS = [
  (r) => `M${-r} 0A${r} ${r} 0 1 0 ${r} 0A${r} ${r} 0 1 0 ${-r} 0Z`,
  (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0 ${-1.2 * r}L${1.1 * r} ${r}H${-1.1 * r}Z`,
  (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
  (r) => `M0 ${1.2 * r}L${1.1 * r} ${-r}H${-1.1 * r}Z`,
  (r) => `M${-r / 2} ${-r * 1.2}H${r / 2}V${-r / 2}H${r * 1.2}V${r / 2}H${r / 2}V${r * 1.2}H${-r / 2}V${r / 2}H${-r * 1.2}V${-r / 2}H${-r / 2}Z`,
];

function marker(look, x, y, radius, parent, hollow, faint) {
  return svg("path", {
    d: MARKERS[(look.marker ?? 0) % MARKERS.length](radius),
    transform: `translate(${x} ${y})`,
    fill: hollow ? "var(--page)" : look.colour,
    stroke: hollow ? look.colour : "var(--page)",
    "stroke-width": hollow ? 2 : 1,
    opacity: faint ? 0.55 : undefined,
  }, parent);
}

function cross(colour, x, y, parent) {
  svg("path", { d: "M-5 -5L5 5M-5 5L5 -5", transform: `translate(${x} ${y})`, stroke: colour, "stroke-width": 3, fill: "none" }, parent);
}

function path(points, x, y) {
  return points.map((point, place) => `${place ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
}

// What all charts share: a title, a tip beside the pointer, and drawing anew when the width changes.
class Chart {
  constructor(data, hidden, parent) {
    this.data = data;
    this.hidden = hidden;
    this.box = html("div", { class: "chart", "data-chart": data.key }, parent);
    html("h4", {}, this.box, data.title);
    this.svg = svg("svg", { role: "img", "aria-label": `${data.title}: ${data.x}` }, this.box);
    this.tip = html("div", { class: "tip", hidden: "" }, this.box);
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  canvas(height) {
    this.width = this.box.clientWidth;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("height", height);
  }

  show(x, y, text) {
    this.tip.hidden = false;
    this.tip.textContent = text;
    const top = this.svg.offsetTop;
    const left = x + 14 + this.tip.offsetWidth > this.width ? x - 14 - this.tip.offsetWidth : x + 14;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${top + y + 10}px`;
  }

  hide() {
    this.tip.hidden = true;
    this.svg.querySelector(".found")?.remove();
  }

  axisX(x, y, count) {
    for (const [value, text] of ticks(...x.domain, count)) {
      svg("line", { class: "grid", x1: x(value), x2: x(value), y1: y[0], y2: y[1] }, this.svg);
      svg("text", { class: "quiet", x: x(value), y: y[0] + 16, "text-anchor": "middle" }, this.svg, text);
    }
    svg("text", { x: (x.range[0] + x.range[1]) / 2, y: y[0] + 36, "text-anchor": "middle" }, this.svg, this.data.x);
  }
}

class Plane extends Chart {
  constructor(data, hidden, parent) {
    super(data, hidden, parent);
    this.zoomed = null;
    this.reset = html("button", { type: "button", class: "reset", hidden: "" }, this.box, WORDS.reset);
    this.reset.addEventListener("click", () => this.zoom(null));
    this.svg.addEventListener("dblclick", () => this.zoom(null));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => this.hide());
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointerup", (event) => this.release(event));
  }

  zoom(domains) {
    this.zoomed = domains;
    this.reset.hidden = domains === null;
    this.draw();
  }

  visible() {
    return (this.data.series ?? []).filter((series) => !this.hidden.has(series.name));
  }

  domains() {
    const xs = [], ys = [];
    for (const series of this.visible()) {
      for (const point of series.points) {
        xs.push(point.x, ...(point.x_range ?? []));
        ys.push(point.y, ...(point.y_range ?? []));
      }
      for (const [x, y] of series.ends ?? []) {
        xs.push(x);
        ys.push(y);
      }
    }
    const margin = this.data.lines ? 0.03 : 0.12;
    if (this.data.level && ys.length) ys.push(this.data.level[0]);
    return [extent(xs, margin), extent(ys, margin)];
  }

  draw() {
    if (!this.box.clientWidth) return;
    this.canvas(HEIGHT);
    this.hide();
    const [xs, ys] = this.zoomed ?? this.domains();
    const labels = ticks(...ys, 5);
    const left = 26 + 7 * Math.max(...labels.map(([, text]) => text.length));
    const top = this.data.failed ? 32 : 12;
    const x = Object.assign(scale(xs, [left, this.width - 12]), { domain: xs, range: [left, this.width - 12] });
    const y = scale(ys, [HEIGHT - 44, top]);
    this.scales = { x, y };
    for (const [value, text] of labels) {
      svg("line", { class: "grid", x1: left, x2: this.width - 12, y1: y(value), y2: y(value) }, this.svg);
      svg("text", { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, this.svg, text);
    }
    this.axisX(x, [HEIGHT - 44, top], Math.max(3, this.width / 110));
    const middle = (HEIGHT - 44 + top) / 2;
    svg("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, this.svg, this.data.y);
    const clip = svg("clipPath", { id: `clip-${this.data.key}` }, this.svg);
    svg("rect", { x: left, y: top - 6, width: this.width - 12 - left, height: HEIGHT - 44 - top + 12 }, clip);
    const inside = svg("g", { "clip-path": `url(#clip-${this.data.key})` }, this.svg);
    if (this.data.level) {
      const at = y(this.data.level[0]);
      svg("line", { class: "rule", x1: left, x2: this.width - 12, y1: at, y2: at, "stroke-dasharray": "3 3" }, inside);
      svg("text", { class: "quiet", x: left + 6, y: at - 4 }, inside, this.data.level[1]);
    }
    this.visible().forEach((series, place, all) => {
      if (this.data.lines) {
        // Where lines may coincide, later ones are thinner, so that all are seen.
        const thinner = 2.2 * (1 - place / Math.max(1, all.length - 1));
        this.drawLine(series, inside, this.data.coincide ? 1.5 + thinner : 2);
      } else series.points.forEach((point) => this.drawPoint(point, series.look, inside));
      for (const end of series.ends ?? []) cross(series.look.colour, x(end[0]), y(end[1]), inside);
    });
    this.drawFailed(left);
  }

  drawLine(series, inside, width) {
    const { x, y } = this.scales;
    const { points, look } = series;
    const ranged = points.filter((point) => point.y_range);
    if (ranged.length) {
      const around = [
        ...ranged.map((point) => [point.x, point.y_range[1]]),
        ...ranged.toReversed().map((point) => [point.x, point.y_range[0]]),
      ];
      svg("path", { d: `${path(around, x, y)}Z`, fill: look.colour, opacity: 0.16 }, inside);
    }
    svg("path", {
      d: path(points.map((point) => [point.x, point.y]), x, y),
      fill: "none", stroke: look.colour, "stroke-width": width,
      "stroke-dasharray": DASHES[(look.line ?? 0) % DASHES.length] || undefined, class: "line",
    }, inside);
    if (points.length < 16) points.forEach((point) => marker(look, x(point.x), y(point.y), 3.5, inside));
  }

  drawPoint(point, look, inside) {
    const { x, y } = this.scales;
    const bar = { stroke: look.colour, "stroke-width": 2 };
    if (point.x_range && !point.faint) svg("line", { ...bar, x1: x(point.x_range[0]), x2: x(point.x_range[1]), y1: y(point.y), y2: y(point.y) }, inside);
    if (point.y_range && !point.faint) svg("line", { ...bar, x1: x(point.x), x2: x(point.x), y1: y(point.y_range[0]), y2: y(point.y_range[1]) }, inside);
    marker(look, x(point.x), y(point.y), point.faint ? 3.5 : 7, inside, point.hollow, point.faint);
  }

  drawFailed(left) {
    const failed = (this.data.failed ?? []).filter(([name]) => !this.hidden.has(name));
    if (!failed.length) return;
    svg("rect", { class: "band", x: left, y: 0, width: this.width - 12 - left, height: 22 }, this.svg);
    const text = svg("text", { class: "quiet", x: left + 6, y: 15 }, this.svg, WORDS.oom);
    const start = left + 18 + text.getComputedTextLength();
    failed.forEach(([, look], place) => {
      cross(look.colour, start + ((this.width - 24 - start) * (place + 0.5)) / failed.length, 11, this.svg);
    });
  }

  at(event) {
    const frame = this.svg.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  move(event) {
    const [px, py] = this.at(event);
    if (this.from) {
      const [x, y] = this.from;
      this.box.querySelector(".zoom")?.remove();
      svg("rect", { class: "zoom", x: Math.min(x, px), y: Math.min(y, py), width: Math.abs(px - x), height: Math.abs(py - y) }, this.svg);
      return;
    }
    this.hide();
    const { x, y } = this.scales;
    let found = null, nearest = REACH;
    for (const series of this.visible()) {
      for (const point of series.points) {
        const distance = Math.hypot(x(point.x) - px, y(point.y) - py);
        if (distance < nearest) [found, nearest] = [{ series, point }, distance];
      }
    }
    if (!found) return;
    const { series, point } = found;
    svg("circle", { class: "found", cx: x(point.x), cy: y(point.y), r: 9, fill: "none", stroke: "var(--text)", "stroke-width": 1.5 }, this.svg);
    const ranged = (value, range) => written(value) + (range ? ` (${written(range[0])} – ${written(range[1])})` : "");
    this.show(px, py, [
      series.name + (point.note ? `, ${point.note}` : ""),
      `${this.data.x}: ${ranged(point.x, point.x_range)}`,
      `${this.data.y}: ${ranged(point.y, point.y_range)}`,
    ].join("\n"));
  }

  press(event) {
    if (event.pointerType === "touch" || event.button) return; // a finger scrolls the page
    this.hide();
    this.from = this.at(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  release(event) {
    if (!this.from) return;
    const [[x0, y0], [x1, y1]] = [this.from, this.at(event)];
    this.from = null;
    this.box.querySelector(".zoom")?.remove();
    if (Math.abs(x1 - x0) < 8 || Math.abs(y1 - y0) < 8) return;
    const { x, y } = this.scales;
    this.zoom([
      [x.back(Math.min(x0, x1)), x.back(Math.max(x0, x1))],
      [y.back(Math.max(y0, y1)), y.back(Math.min(y0, y1))],
    ]);
  }
}

// Rows with their name above them, so that a long name fits a narrow screen.
class Rows extends Chart {
  draw() {
    if (!this.box.clientWidth) return;
    const rows = this.data.bars;
    const height = rows.length * 40 + 50;
    this.canvas(height);
    this.hide();
    const [low, high] = this.range(rows);
    const range = [12, this.width - 16];
    const x = Object.assign(scale([low, high], range), { domain: [low, high], range });
    this.axisX(x, [height - 44, 4], Math.max(3, this.width / 110));
    this.under(x, height);
    rows.forEach((row, place) => {
      const y = place * 40 + 4;
      svg("text", { x: 12, y: y + 12 }, this.svg, row.name);
      this.drawRow(row, x, y + 18);
    });
  }

  under() {}

  onHover(element, text) {
    element.addEventListener("pointermove", (event) => {
      const frame = this.svg.getBoundingClientRect();
      this.show(event.clientX - frame.left, event.clientY - frame.top, text);
    });
    element.addEventListener("pointerleave", () => this.hide());
  }
}

class Bars extends Rows {
  shown() {
    return this.data.parts.map((_, part) => part).filter((part) => !this.hidden.has(this.data.parts[part]));
  }

  range(bars) {
    const sums = bars.map((bar) => this.shown().reduce((sum, part) => sum + bar.values[part], 0));
    return [0, Math.max(...sums) * 1.03 || 1];
  }

  drawRow(bar, x, y) {
    let left = 0;
    for (const part of this.shown()) {
      const value = bar.values[part];
      const element = svg("rect", {
        class: "bar", x: x(left), y, width: Math.max(0, x(left + value) - x(left)), height: 16,
        fill: this.data.parts.length > 1 ? `var(--part-${part})` : bar.look.colour,
        stroke: "var(--page)", opacity: bar.hollow ? 0.6 : undefined,
      }, this.svg);
      const note = bar.hollow ? `\n${WORDS.untrusted}` : "";
      const name = this.data.parts.length > 1 ? this.data.parts[part] : this.data.x;
      this.onHover(element, `${bar.name}\n${name}: ${written(value)}${note}`);
      left += value;
    }
  }
}

const KINDS = { XYChart: Plane, BarChart: Bars };

// One legend for the charts of a figure: a name that is pressed hides what it names in all of them.
function drawFigure(figure) {
  const hidden = new Set();
  const charts = CHARTS[figure.dataset.figure];
  const place = figure.querySelector(".charts");
  const drawn = charts.map((chart) => new KINDS[chart.kind](chart, hidden, place));
  const legend = figure.querySelector(".legend");
  const named = new Map();
  for (const chart of charts) {
    for (const series of chart.series ?? []) {
      if (!named.has(series.name) || chart.lines) named.set(series.name, { look: series.look, lines: chart.lines });
    }
    for (const [name, look] of chart.failed ?? []) {
      if (!named.has(name)) named.set(name, { look, failed: true });
    }
    if (chart.parts?.length > 1) chart.parts.forEach((part, number) => named.set(part, { part: number }));
  }
  for (const [name, key] of named) {
    const button = html("button", { type: "button", "aria-pressed": "true" }, legend);
    drawKey(button, key);
    button.append(key.failed ? `${name}: ${WORDS.oom}` : name);
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      drawn.forEach((chart) => chart.draw());
    });
  }
  const points = charts.flatMap((chart) => (chart.series ?? []).flatMap((series) => series.points));
  if (points.some((point) => point.hollow)) html("span", {}, legend, WORDS.hollow);
  if (charts.some((chart) => (chart.series ?? []).some((series) => series.ends))) html("span", {}, legend, WORDS.ended);
  if (charts.some((chart) => chart.series)) html("p", { class: "hint" }, figure, WORDS.hint);
}

function drawKey(button, { look, lines, failed, part }) {
  const key = svg("svg", { width: lines ? 28 : 14, height: 14, "aria-hidden": "true" }, button);
  if (part !== undefined) svg("rect", { x: 1, y: 1, width: 12, height: 12, fill: `var(--part-${part})` }, key);
  else if (failed) cross(look.colour, 7, 7, key);
  else {
    if (lines) svg("line", { x1: 0, x2: 28, y1: 7, y2: 7, stroke: look.colour, "stroke-width": 2, "stroke-dasharray": DASHES[(look.line ?? 0) % DASHES.length] || undefined }, key);
    marker(look, lines ? 14 : 7, 7, lines ? 3.5 : 5, key);
  }
}

function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), document.documentElement.lang, { numeric: true });
}

function sort(table, column, descending) {
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [a, b] = [value(first, column), value(second, column)];
    if (a === null || b === null) return (a === null) - (b === null); // not measured: last, always
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
}

function enliven(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.title = `${WORDS.sort} ${button.textContent}`;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
  const section = table.closest("section");
  const field = section.querySelector(".filter input");
  const count = section.querySelector(".count");
  const rows = [...table.tBodies[0].rows];
  const filter = () => {
    const wanted = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} / ${rows.length} ${WORDS.rows}`;
  };
  field.addEventListener("input", filter);
  filter();
}

function offerTheme(button) {
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark ? WORDS.light : WORDS.dark; };
  button.addEventListener("click", () => {
    dark = !dark;
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    name();
  });
  name();
  button.hidden = false;
}

offerTheme(document.getElementById("theme"));
document.querySelectorAll("[data-figure]").forEach(drawFigure);
document.querySelectorAll("table.sortable").forEach(enliven);
