/* The third tab: chains of an image GAN, rendered beforehand for a grid of step sizes and numbers of steps. */

class StripsTab {
  constructor(about, source, state, change) {
    Object.assign(this, { about, state, image: new Image() });
    const { steps, step_sizes: sizes } = about, pad = $("pad");
    pad.style.gridTemplateColumns = `auto repeat(${steps.length}, 1fr)`;
    const cells = sizes.map((size, e) => [
      `<span>ε = ${size}</span>`,
      ...steps.map((n, s) => `<button type="button" data-e="${e}" data-s="${s}" tabindex="-1" aria-label="step size ${size}, ${n} steps"></button>`),
    ].join(""));
    pad.innerHTML = `<span></span>${steps.map((n) => `<span>${n}</span>`).join("")}${cells.join("")}`;
    const pick = (event) => {
      const cell = document.elementFromPoint(event.clientX, event.clientY);
      if (cell && cell.dataset.e) this.set(+cell.dataset.e, +cell.dataset.s, change);
    };
    pad.addEventListener("pointermove", pick);
    pad.addEventListener("pointerdown", pick);
    onArrows(pad, (right, down) => {
      this.set(+this.state.row + down, +this.state.column + right, change);
      pad.querySelector(".on").focus();
    });
    this.image.src = source;
    this.image.onload = () => this.draw();
  }
  set(row, column, change) {
    const { steps, step_sizes: sizes } = this.about, clip = (v, n) => Math.min(Math.max(v, 0), n - 1);
    [this.state.row, this.state.column] = [clip(row, sizes.length), clip(column, steps.length)];
    this.draw();
    change();
  }
  draw() {
    const { about, image } = this, { chains, tile, steps, step_sizes: sizes } = about;
    const row = +this.state.row, column = +this.state.column, index = row * steps.length + column;
    const logits = about.mean_logit, low = Math.min(...logits), high = Math.max(...logits), colours = ramp();
    for (const button of $("pad").querySelectorAll("button")) {
      const k = +button.dataset.e * steps.length + +button.dataset.s, on = k === index;
      const level = Math.round((255 * (logits[k] - low)) / (high - low || 1));
      button.style.background = `rgb(${colours[level].map(Math.round)})`;
      button.classList.toggle("on", on);
      button.tabIndex = on ? 0 : -1;
    }
    for (const [canvas, from] of [[$("before"), row * steps.length], [$("after"), index]]) {
      const rows = canvas.clientWidth < 500 ? 2 : 1, wide = (tile * chains) / rows; // two rows on a phone
      [canvas.width, canvas.height] = [wide, tile * rows];
      for (let k = 0; k < rows && image.complete; k++) {
        canvas.getContext("2d").drawImage(image, k * wide, from * tile, wide, tile, 0, k * tile, wide, tile);
      }
    }
    const says = `ε = ${sizes[row]}, ${steps[column]} steps`;
    $("after").setAttribute("aria-label", `Images of ${chains} chains after ${says}`);
    $("strip-note").innerHTML = `<b>${says}</b> · mean logit ${(Math.round(100 * logits[index]) / 100 || 0).toFixed(2)} nats · mean |z|²
      ${about.mean_squared_length[index].toFixed(0)} <i>(the prior's: ${about.latent_dim})</i>`;
    $("strip-about").textContent = `${about.gan}, logit ${about.logit}: ${chains} chains, the same starts and noise in every cell.`;
  }
}
