/* The second tab: one landscape, one step size, three samplers side by side, and what each makes of p(x). */

const BINS = 60, WIDE = 2.8, SAMPLERS = { ula: "ULA", mala: "MALA", hmc: "HMC" };

class ValleysTab {
  constructor(state) {
    Object.assign(this, { state, panels: {} });
    for (const [key, name] of Object.entries(SAMPLERS)) {
      const figure = document.createElement("figure");
      figure.innerHTML = `<figcaption><b>${name}</b> <span></span></figcaption>
        <canvas class="square" role="img" aria-label="Chains of ${name} on the two valleys"></canvas>
        <canvas class="bars" role="img"></canvas><table></table>`;
      $("wells").append(figure);
      const [square, bars] = figure.querySelectorAll("canvas");
      this.panels[key] = { plane: new Plane(square, 3.2), bars, note: figure.querySelector("span"), table: figure.querySelector("table") };
    }
    this.colours = ramp();
    this.heat = new Heat(3.2, (z, n, out) => TWO_WELLS.evaluate(z, n, out, null), null, 8);
    this.restart();
  }
  /** p(x) in the bins, exact, at the present temperature. */
  exact() {
    const fine = 40, p = new Float64Array(BINS);
    for (let i = 0; i < BINS * fine; i++) {
      const x = WIDE * ((2 * i + 1) / (BINS * fine) - 1);
      p[Math.floor(i / fine)] += Math.exp(-TWO_WELLS.along(x) / this.state.temperature);
    }
    const total = p.reduce((a, b) => a + b, 0);
    return p.map((v) => v / total);
  }
  restart() {
    const n = +this.state.chains;
    this.p = this.exact();
    for (const panel of Object.values(this.panels)) {
      const noise = new Noise(3), z = noise.normal(new Float64Array(2 * n)).map((v, i) => (i % 2 ? 0 : 1.4) + 0.2 * v);
      const counts = { counts: new Float64Array(BINS), total: 0, left: 0, crossings: 0, accepted: 0, lost: 0 };
      Object.assign(panel, counts, { chains: new Chains(TWO_WELLS, z, noise), flash: new Float64Array(n) });
      panel.side = new Uint8Array(n);
      panel.plane.forget();
    }
  }
  /** Count the states; an old count fades, so that the histogram is of the last few hundred steps. */
  record(panel, weight) {
    const { chains, counts, side, flash, lost } = panel, fade = Math.exp(-weight / 500);
    for (let i = 0; i < BINS; i++) counts[i] *= fade;
    panel.total = panel.total * fade + chains.n * weight;
    panel.left *= fade;
    for (let i = 0; i < chains.n; i++) {
      if (!(Math.hypot(chains.z[2 * i], chains.z[2 * i + 1]) < 20)) { // escaped: starts again
        panel.lost++;
        [chains.z[2 * i], chains.z[2 * i + 1]] = [1.4, 0];
      }
      const x = chains.z[2 * i], bin = Math.floor(((x / WIDE + 1) / 2) * BINS), left = x < -0.5 ? 1 : 0;
      if (bin >= 0 && bin < BINS) counts[bin] += weight;
      if (x < 0) panel.left += weight;
      if ((left && !side[i]) || (x > 0.5 && side[i])) panel.crossings++;
      side[i] = left || (x <= 0.5 && side[i]);
      if (!chains.accepted[i]) flash[i] = 1;
    }
    panel.accepted += chains.acceptance;
    if (panel.lost > lost) chains.refresh();
  }
  frame(transitions, playing) {
    const { state } = this;
    for (const [sampler, panel] of Object.entries(this.panels)) {
      for (let i = 0; i < transitions; i++) {
        if (panel.chains.advance({ ...state, sampler })) this.record(panel, sampler === "hmc" ? +state.leapfrog : 1);
      }
      for (let i = 0; i < panel.flash.length; i++) panel.flash[i] = Math.max(panel.flash[i] - 0.25, 0);
    }
    this.heat.work(playing ? 3 : 50, this.colours);
    this.draw(transitions > 0);
  }
  /** As many gradients as a transition of HMC takes. */
  once() {
    this.frame(this.state.leapfrog, false);
  }
  draw(moving = false) {
    for (const panel of Object.values(this.panels)) {
      const { chains, flash, counts, total, table } = panel;
      if (this.heat.version) panel.plane.draw(this.heat, chains.path, { flash, moving, chosen: -1 });
      this.histogram(panel);
      let distance = 0, ours = 0, theirs = 0;
      for (let i = 0; i < BINS; i++) {
        ours += counts[i] / (total || 1);
        theirs += this.p[i];
        distance = Math.max(distance, Math.abs(ours - theirs));
      }
      const left = this.p.slice(0, BINS / 2).reduce((a, b) => a + b, 0), steps = chains.transitions || 1;
      const rows = {
        "share left of 0": `${percent(panel.left / (total || 1))} <i>of ${percent(left)}</i>`,
        "distance to p(x)": distance.toFixed(3),
        acceptance: percent(panel.accepted / steps),
        "crossings, per chain and 1,000 gradients": ((1000 * panel.crossings) / chains.n / (chains.gradients || 1)).toFixed(2),
      };
      if (panel.lost) rows["escaped to infinity"] = panel.lost;
      table.innerHTML = Object.entries(rows).map(([k, v]) => `<tr><th scope="row">${k}</th><td>${v}</td></tr>`).join("");
      panel.note.textContent = chains.flown ? `in flight, ${chains.flown} of ${this.state.leapfrog}` : `${chains.transitions} steps`;
    }
  }
  histogram({ bars, counts, total }) {
    const c = fitted(bars), w = bars.clientWidth, h = bars.clientHeight, top = 1.5 * Math.max(...this.p);
    const y = (v) => h - (Math.min(v / top, 1)) * (h - 4);
    c.clearRect(0, 0, w, h);
    c.fillStyle = colour("chain");
    counts.forEach((v, i) => c.fillRect((i * w) / BINS, y(v / (total || 1)), w / BINS - 0.5, h));
    c.strokeStyle = colour("text");
    c.lineWidth = 1.8;
    c.beginPath();
    this.p.forEach((v, i) => c.lineTo(((i + 0.5) * w) / BINS, y(v)));
    c.stroke();
    bars.setAttribute("aria-label", "Histogram of x against the exact density");
  }
}
