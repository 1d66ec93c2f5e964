/* Drawing: heat maps that sharpen a slice at a time, planes with moving chains, traces that scroll. */

const $ = (id) => document.getElementById(id);
const palette = {}; // the theme's colours, read once: asking for a style in every frame is slow
const colour = (name) =>
  (palette[name] ||= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** Call act(right, down, event) when an arrow key is pressed on an element. */
function onArrows(element, act) {
  element.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    act(...move, event);
  });
}

/** 256 colours from unlikely (0) to likely (255), from the page's theme: dark is likely. */
function ramp() {
  const stops = [0, 1, 2, 3, 4].map((i) => rgb(colour(`map${i}`)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = Math.min((i / 255) * 4, 3.999), k = Math.floor(at);
    return stops[k].map((v, c) => v + (at - k) * (stops[k + 1][c] - v));
  });
}

/** Fit a canvas to its place on the page; returns its context in CSS pixels. */
function fitted(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), { clientWidth, clientHeight } = canvas;
  const width = Math.round(clientWidth * ratio), height = Math.round(clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** Values of a function on a square, first on 32 x 32 cells, then 64, then 128, some milliseconds at a time. */
class Heat {
  static versions = 0;
  constructor(extent, evaluate, low, high) {
    Object.assign(this, { extent, evaluate, low, high });
    this.canvas = document.createElement("canvas");
    this.restart();
  }
  restart(finest = 128) {
    Object.assign(this, { size: 32, row: 0, finest, done: false, values: new Float64Array(32 * 32) });
  }
  work(milliseconds, colours) {
    const end = performance.now() + milliseconds;
    while (!this.done && performance.now() < end) {
      const { size, extent } = this, rows = Math.max(1, Math.floor(512 / size));
      const x = new Float64Array(2 * rows * size), out = new Float64Array(rows * size);
      for (let i = 0; i < rows * size; i++) {
        x[2 * i] = extent * ((2 * (i % size) + 1) / size - 1);
        x[2 * i + 1] = extent * (1 - (2 * (this.row + Math.floor(i / size)) + 1) / size);
      }
      this.evaluate(x, rows * size, out);
      this.values.set(out, this.row * size);
      this.row += rows;
      if (this.row >= size) this.finish(colours);
    }
  }
  finish(colours) {
    const { size, values, canvas } = this;
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    const lowest = values.reduce((a, b) => Math.min(a, b), Infinity); // without `low`, down to the minimum
    const [from, to] = this.low === null ? [lowest + this.high, lowest] : [this.low, this.high];
    for (let i = 0; i < size * size; i++) {
      const at = Math.min(Math.max((values[i] - from) / (to - from), 0), 1);
      image.data.set(colours[Math.round(255 * at)], 4 * i);
      image.data[4 * i + 3] = 255;
    }
    this.drawn = size;
    this.version = ++Heat.versions;
    context.putImageData(image, 0, 0);
    if (size >= this.finest) this.done = true;
    else [this.size, this.row, this.values] = [2 * size, 0, new Float64Array(4 * size * size)];
  }
}

const discs = {};
/** A chain's dot, drawn once. */
function disc(kind, radius, ratio) {
  const key = [colour(kind), colour("edge"), radius, ratio].join();
  if (discs[key]) return discs[key];
  const canvas = document.createElement("canvas"), reach = radius + 1;
  canvas.width = canvas.height = Math.ceil(2 * reach * ratio);
  const c = canvas.getContext("2d");
  c.setTransform(canvas.width / (2 * reach), 0, 0, canvas.width / (2 * reach), 0, 0);
  c.arc(reach, reach, radius, 0, 2 * Math.PI);
  c.fillStyle = colour(kind);
  c.fill();
  c.strokeStyle = colour("edge");
  c.lineWidth = 0.7;
  c.stroke();
  return (discs[key] = canvas);
}

/** A square of the plane with a heat map, trails and chains; y points upwards. */
class Plane {
  constructor(canvas, extent) {
    const layer = () => document.createElement("canvas");
    Object.assign(this, { canvas, extent, trails: layer(), base: layer(), last: null, stamp: "" });
  }
  get side() {
    return this.canvas.clientWidth;
  }
  pixel(v, axis) {
    return (0.5 + ((axis ? -0.5 : 0.5) * v) / this.extent) * this.side;
  }
  /** The point under a pointer. */
  point(event) {
    const box = this.canvas.getBoundingClientRect(), u = (event.clientX - box.left) / box.width;
    return [this.extent * (2 * u - 1), this.extent * (1 - (2 * (event.clientY - box.top)) / box.height)];
  }
  forget() {
    this.last = null;
    this.trails.width = this.canvas.width; // clears
  }
  /** The heat map and the data, drawn anew only when they change. */
  background(heat, dots, ratio) {
    const { base, canvas, side } = this, stamp = [heat.version, canvas.width, dots && dots.length].join();
    if (stamp === this.stamp) return;
    this.stamp = stamp;
    [base.width, base.height] = [canvas.width, canvas.height];
    const c = base.getContext("2d");
    c.imageSmoothingQuality = "high";
    c.drawImage(heat.canvas, 0, 0, canvas.width, canvas.height);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = colour("data");
    for (let i = 0; dots && i < dots.length; i += 2) {
      c.fillRect(this.pixel(dots[i], 0) - 1, this.pixel(dots[i + 1], 1) - 1, 2, 2);
    }
  }
  /** Chains at points (n, 2); `flash` holds how long ago each was rejected, `good` who is of high quality. */
  draw(heat, points, { flash, good, dots, ring, chosen, pen, moving }) {
    const { canvas, trails, side } = this, n = points.length / 2;
    if (!side) return; // hidden, or not laid out yet: nothing to draw on
    const c = fitted(canvas);
    const ratio = canvas.width / side;
    this.background(heat, dots, ratio);
    c.drawImage(this.base, 0, 0, side, side);
    if (trails.width !== canvas.width) [trails.width, trails.height, this.last] = [canvas.width, canvas.height, null];
    if (moving) {
      const t = trails.getContext("2d");
      t.setTransform(ratio, 0, 0, ratio, 0, 0);
      t.globalCompositeOperation = "destination-out";
      t.fillStyle = "rgba(0,0,0,0.2)";
      t.fillRect(0, 0, side, side);
      t.globalCompositeOperation = "source-over";
      if (this.last && this.last.length === points.length) {
        t.strokeStyle = colour("trail");
        t.lineWidth = 1;
        t.beginPath();
        for (let i = 0; i < 2 * n; i += 2) {
          t.moveTo(this.pixel(this.last[i], 0), this.pixel(this.last[i + 1], 1));
          t.lineTo(this.pixel(points[i], 0), this.pixel(points[i + 1], 1));
        }
        t.stroke();
      }
      this.last = Float64Array.from(points);
    }
    c.drawImage(trails, 0, 0, side, side);
    const circle = (u, v, r) => {
      const x = this.pixel(u, 0), y = this.pixel(v, 1);
      c.moveTo(x + r, y);
      c.arc(x, y, r, 0, 2 * Math.PI);
    };
    const radius = n > 500 ? 2 : 2.6, reach = radius + 1;
    const sprites = ["stray", "chain"].map((kind) => disc(kind, radius, ratio));
    for (let i = 0; i < n; i++) {
      const x = this.pixel(points[2 * i], 0) - reach, y = this.pixel(points[2 * i + 1], 1) - reach;
      c.drawImage(sprites[good ? good[i] : 1], x, y, 2 * reach, 2 * reach);
    }
    c.beginPath();
    for (let i = 0; i < n; i++) if (flash && flash[i] > 0) circle(points[2 * i], points[2 * i + 1], 3 + 2 * flash[i]);
    c.strokeStyle = colour("flash");
    c.lineWidth = 1.1;
    c.stroke();
    const [u, v] = pen || (chosen >= 0 && chosen < n ? points.slice(2 * chosen) : []); // what is looked at
    if (u !== undefined) {
      c.beginPath();
      circle(u, v, 7);
      c.strokeStyle = colour("chosen");
      c.lineWidth = 2.5;
      c.stroke();
    }
    if (!ring) return;
    c.strokeStyle = colour("circle");
    c.setLineDash([3, 4]);
    c.beginPath();
    for (const r of [1, 2, 3]) circle(0, 0, (r / this.extent) * (side / 2)); // 39 %, 86 % and 99 % of the prior
    c.stroke();
    c.setLineDash([]);
  }
}

/** A measure: its number, and its trace against the generator alone and exact samples. */
class Trace {
  constructor(parent, title, unit, low, high, format, hint) {
    Object.assign(this, { title, low, high, log: low > 0, format, values: [], lines: {} });
    const card = document.createElement("div");
    card.className = "card";
    card.title = hint;
    card.innerHTML = `<h3>${title} <small>${unit}</small></h3><output>–</output><canvas role="img"></canvas><p></p>`;
    [this.output, this.canvas, this.text] = ["output", "canvas", "p"].map((tag) => card.querySelector(tag));
    parent.append(card);
  }
  reset(lines) {
    Object.assign(this, { values: [], lines });
    const said = (kind) => `<span class="${kind}">${kind === "generator" ? "generator alone" : "exact samples"}
      <b>${this.format(lines[kind].mean)}</b></span>`;
    this.text.innerHTML = Object.keys(lines).map(said).join(" ");
  }
  push(value) {
    this.values.push(value);
    if (this.values.length > 400) this.values.shift();
  }
  /** The number in words, after all drawing: a change of text makes the next question for a size slow. */
  say() {
    const value = this.values.at(-1);
    this.output.textContent = Number.isFinite(value) ? this.format(value) : "–";
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.output.textContent}`);
  }
  draw() {
    const c = fitted(this.canvas), w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    const warp = (v) => (this.log ? Math.log(Math.max(v, this.low)) : v);
    const bottom = warp(this.low), top = warp(this.high);
    const y = (v) => h - 3 - (Math.min(Math.max((warp(v) - bottom) / (top - bottom), 0), 1)) * (h - 6);
    c.clearRect(0, 0, w, h);
    for (const [kind, { mean, sd }] of Object.entries(this.lines)) {
      c.fillStyle = c.strokeStyle = colour(kind === "exact" ? "data" : "generator");
      c.globalAlpha = 0.18;
      c.fillRect(0, y(mean + 2 * sd), w, Math.max(y(mean - 2 * sd) - y(mean + 2 * sd), 1));
      c.globalAlpha = 1;
      c.setLineDash([5, 3]);
      c.beginPath();
      c.moveTo(0, y(mean));
      c.lineTo(w, y(mean));
      c.stroke();
      c.setLineDash([]);
    }
    c.strokeStyle = colour("chain");
    c.lineWidth = 2;
    c.beginPath();
    this.values.forEach((v, i) => Number.isFinite(v) && c.lineTo(((i + 400 - this.values.length) / 399) * w, y(v)));
    c.stroke();
  }
}
