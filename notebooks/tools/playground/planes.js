/* The first tab: chains on both planes at once, and what they are worth. */

const TARGETS = { "25-gaussians": "25 Gaussians", ring: "Ring", "swiss-roll": "Swiss roll", drawn: "Draw your own" };
const LOGITS = {
  none: "none, d = 0", raw: "raw", calibrated: "calibrated", refitted: "refitted", exact: "nearly exact", live: "fitted live",
};
const EXTENT = { "25-gaussians": 2.75, ring: 2.6, "swiss-roll": 2.3, drawn: 2.75 };
const DRAWN_STD = 0.08, SPACING = 0.12, MOST = 240, FIT_STEPS = 3000;
const percent = (v) => `${(100 * v).toFixed(1)} %`, nats = (v) => v.toFixed(3);
const MEASURES = [
  ["High quality", "share", 0, 1, percent, "Points within 4 standard deviations of the nearest mode, or of the roll"],
  ["Mode balance", "nats, 0 is right", 0.01, 4, nats, "KL divergence of the modes' shares from the true ones"],
  ["Energy distance", "to data", 0.001, 1, (v) => v.toFixed(4), "2 E|X - Y| - E|X - X'| - E|Y - Y'|, 1,000 data"],
  ["Acceptance", "of proposals", 0, 1, percent, "Proposals accepted in the last transition; ULA accepts all"],
];

/** Strokes as text: four characters a point, on a grid of 1296 x 1296. */
const encode = (points) => Array.from(points, (v) =>
  Math.round(((Math.min(Math.max(v, -2.75), 2.75) + 2.75) / 5.5) * 1295).toString(36).padStart(2, "0")).join("");
const decode = (text) => Float64Array.from(text.match(/../g) || [], (v) => (parseInt(v, 36) / 1295) * 5.5 - 2.75);

/** What lies there before the reader draws: a face. */
function face() {
  const arc = (radius, from, to, k) => Array.from({ length: k }, (_, i) => {
    const angle = Math.PI * (from + ((to - from) * i) / k);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
  const eyes = [-0.65, 0.65].flatMap((x) => [0.5, 0.62, 0.74].map((y) => [x, y]));
  return encode([...arc(1.9, 0, 2, 48), ...arc(1.1, 1.2, 1.83, 13), ...eyes].flat());
}

class PlanesTab {
  constructor(store, state) {
    Object.assign(this, { store, state, compute: new Compute(), networks: {}, chosen: -1, stroke: null });
    this.data = new Plane($("data"), 1);
    this.latent = new Plane($("latent"), 3.6);
    this.traces = MEASURES.map((measure) => new Trace($("measures"), ...measure));
    this.colours = ramp();
    for (const plane of [this.data, this.latent]) this.listen(plane);
  }
  network(name) {
    return (this.networks[name] ||= this.store.network(this.compute, name));
  }
  // ---- what the settings mean
  generator() {
    const { target, generator } = this.state;
    if (target !== "drawn") return this.network(`${target}-${generator}-G`);
    if (generator === "imperfect") return this.network("25-gaussians-imperfect-G");
    const layer = { rows: 2, cols: 2, weight: [1.2, 0, 0, 1.2], bias: [0, 0] }; // x = 1.2 z
    return (this.networks.plain ||= new Mlp(this.compute, [layer]));
  }
  density() {
    const { target, generator } = this.state;
    if (target === "drawn" && generator === "good") return new Mixture(Float64Array.of(0, 0), 1.2);
    return this.store.table(target === "drawn" ? "25-gaussians-imperfect-table" : `${target}-${generator}-table`);
  }
  logit() {
    const { target, generator, logit } = this.state, name = `${target}-${generator}`;
    if (logit === "none") return NO_LOGIT;
    if (logit === "exact") return new DensityLogit(this.target, this.density());
    if (logit === "live") return (this.fit ||= new LiveFit(this.compute, this.noise)).logit;
    const kind = logit === "refitted" ? "refitted" : "raw", line = this.store.header.lines[`${name}-${kind}`];
    return new NetworkLogit(this.network(`${name}-${logit === "refitted" ? "refitted" : "D"}`), ...(logit === "raw" ? [] : line));
  }
  /** Start again from the prior with all settings; `fit` forgets what was fitted live. */
  restart(fit = true) {
    const { state } = this, n = +state.chains;
    this.noise = new Noise(7);
    if (fit && this.fit) this.fit.begin(this.noise);
    this.target = state.target === "drawn"
      ? new Mixture(decode(state.drawing), DRAWN_STD) : this.store.target(state.target);
    this.data.extent = EXTENT[state.target];
    const energy = new LatentEnergy(this.generator(), this.logit());
    this.chains = new Chains(energy, this.noise.normal(new Float64Array(2 * n)), this.noise);
    Object.assign(this, { flash: new Float64Array(n), good: new Uint8Array(n) });
    this.reference = this.target.sample(1000, this.noise);
    this.within = meanDistance(this.reference, this.reference);
    this.background();
    this.baselines(n);
    this.measure();
    for (const plane of [this.data, this.latent]) plane.forget();
  }
  /** A new log ratio under the chains where they are. */
  swap() {
    this.chains.refresh(new LatentEnergy(this.generator(), this.logit()));
    this.background();
  }
  background() {
    const { energy } = this.chains, maps = new LatentEnergy(energy.generator, energy.logit);
    const old = this.heats;
    this.heats = [
      new Heat(this.data.extent, (x, n, out) => energy.logit.evaluate(x, 0, n, out, null), -6, 6),
      new Heat(this.latent.extent, (z, n, out) => maps.evaluate(z, n, out, null), null, 8),
    ];
    if (old) this.heats.forEach((heat, i) => Object.assign(heat, { canvas: old[i].canvas, version: old[i].version }));
    else for (const heat of this.heats) while (!heat.version) heat.work(50, this.colours);
  }
  /** The same measures of the generator alone and of exact samples, of as many points, over eight draws. */
  baselines(n) {
    const sources = {
      generator: () => generate(this.chains.energy.generator, n, this.noise),
      exact: () => this.target.sample(n, this.noise),
    };
    const lines = [{}, {}, {}];
    for (const [kind, draw] of Object.entries(sources)) {
      const rows = Array.from({ length: 8 }, () => this.values(draw()));
      lines.forEach((line, k) => {
        const column = rows.map((row) => row[k]).filter(Number.isFinite), size = column.length || 1;
        const mean = column.reduce((a, b) => a + b, 0) / size;
        line[kind] = { mean, sd: Math.sqrt(column.reduce((a, v) => a + (v - mean) ** 2, 0) / size) };
      });
    }
    this.traces.forEach((trace, k) => trace.reset(lines[k] || {}));
  }
  values(x, good = null) {
    const { share, balance } = quality(x, this.target, good);
    return [share, balance, energyDistance(x, this.reference, this.within)];
  }
  measure() {
    const { chains } = this;
    this.unmeasured = 0;
    const row = [...this.values(chains.x, this.good), chains.acceptance];
    row.forEach((value, k) => this.traces[k].push(value));
  }
  // ---- every frame
  advance() {
    const { chains, state } = this, ended = chains.advance(state);
    if (ended) for (let i = 0; i < chains.n; i++) this.flash[i] = chains.accepted[i] ? this.flash[i] : 1;
    return ended;
  }
  /** Steps of the live fit for some milliseconds. */
  train(milliseconds) {
    const { fit, state } = this, end = performance.now() + milliseconds;
    if (state.logit !== "live" || !fit || fit.step >= FIT_STEPS) return;
    do {
      const rate = 4e-3 * Math.max(1 - fit.step / FIT_STEPS, 0.02);
      fit.train(this.target.sample(256, this.noise), generate(this.chains.energy.generator, 256, this.noise), rate);
    } while (performance.now() < end && fit.step < FIT_STEPS);
    if (!this.chains.flown) this.chains.refresh();
    const fitted = fit.step >= FIT_STEPS;
    for (const heat of this.heats) if (heat.done || fitted) heat.restart(fitted ? 128 : 64);
  }
  frame(transitions, playing) {
    if (playing) this.train(8);
    const { chains } = this;
    let ended = false;
    for (let i = 0; i < transitions; i++) ended = this.advance() || ended;
    this.unmeasured += ended;
    if (this.unmeasured * 300 >= chains.n) this.measure();
    for (let i = 0; i < this.flash.length; i++) this.flash[i] = Math.max(this.flash[i] - 0.25, 0);
    for (const heat of this.heats) heat.work(playing ? 3 : 12, this.colours);
    this.draw(transitions > 0);
  }
  draw(moving = false) {
    const { chains, flash, good, chosen, pen } = this, [dataHeat, latentHeat] = this.heats;
    const dots = this.stroke || (this.cleared ? null : this.reference);
    this.data.draw(dataHeat, chains.energy.x, { flash, good, dots, chosen, pen, moving });
    this.latent.draw(latentHeat, chains.path, { flash, good, ring: true, chosen, moving });
    for (const act of ["draw", "say"]) for (const trace of this.traces) trace[act]();
    $("status").textContent = this.status();
  }
  status() {
    const { chains, fit, state } = this;
    const fitting = state.logit === "live" && fit
      ? ` · fit ${fit.step} / ${FIT_STEPS}, loss ${fit.loss.toFixed(3)} (useless: 0.693)` : "";
    const lost = chains.divergences ? ` · ${chains.divergences} proposals not finite` : "";
    return `${chains.transitions} steps${fitting}${lost}`;
  }
  /** An empty sheet; the chains keep to the old drawing until there is a new one. */
  blank() {
    this.cleared = true;
    this.data.stamp = "";
  }
  /** One transition. */
  once() {
    while (!this.advance());
    this.measure();
    this.draw(true);
  }
  /** Look at the next chain, or one before. */
  choose(by) {
    this.chosen = (this.chosen + by + this.chains.n) % this.chains.n;
  }
  // ---- pointer and keys: choose a chain, or draw data
  listen(plane) {
    const { canvas } = plane;
    const choose = (event) => {
      const [x, y] = plane.point(event), points = plane === this.data ? this.chains.x : this.chains.path;
      let best = (plane.extent / 10) ** 2;
      this.chosen = -1;
      for (let i = 0; i < points.length / 2; i++) {
        const square = (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
        if (square < best) [best, this.chosen] = [square, i];
      }
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.drawing(plane)) return choose(event);
      canvas.setPointerCapture(event.pointerId);
      this.put(...plane.point(event));
    });
    canvas.addEventListener("pointermove", (event) => 
      this.stroke && this.drawing(plane) ? this.put(...plane.point(event)) : choose(event));
    canvas.addEventListener("pointerleave", () => (this.chosen = -1));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.lift());
    onArrows(canvas, (right, down, event) =>
      this.drawing(plane) ? this.movePen(right, down, event.shiftKey) : this.choose(right - down));
    canvas.addEventListener("keyup", (event) => event.key === "Shift" && this.lift());
    canvas.addEventListener("blur", () => ((this.pen = null), this.lift()));
  }
  drawing(plane) {
    return this.state.target === "drawn" && plane === this.data;
  }
  /** A point of the stroke, which goes on with what is drawn. */
  put(x, y) {
    const s = (this.stroke ||= this.cleared ? [] : [...decode(this.state.drawing)]), k = s.length;
    if (Math.max(Math.abs(x), Math.abs(y)) > this.data.extent || k >= 2 * MOST) return;
    if (!k || Math.hypot(x - s[k - 2], y - s[k - 1]) > 0.99 * SPACING) s.push(x, y);
  }
  /** The stroke is done: data to fit. */
  lift() {
    const drawn = this.stroke;
    this.stroke = null;
    if (!drawn || !drawn.length) return;
    [this.state.drawing, this.cleared] = [encode(drawn), false];
    this.onDraw();
  }
  /** Arrow keys move a pen, which draws while Shift is down. */
  movePen(right, down, draws) {
    const [x, y] = this.pen || [0, 0], clip = (v) => Math.min(Math.max(v, -2.7), 2.7);
    this.pen = [clip(x + SPACING * right), clip(y - SPACING * down)];
    if (draws) this.put(...this.pen);
  }
}
