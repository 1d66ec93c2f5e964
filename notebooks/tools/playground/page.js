/* The page: settings and their permalink, controls, presets, keyboard, and the loop. */

const DEFAULTS = {
  tab: "planes", target: "25-gaussians", generator: "imperfect", logit: "refitted", sampler: "ula", stepSize: 0.001,
  temperature: 1, friction: 1, leapfrog: 10, chains: 300, speed: 1, play: 1, drawing: face(), well: 0.15, wellT: 1,
  row: 4, column: 3,
};
const SHORT = {
  tab: "tab", target: "t", generator: "g", logit: "d", sampler: "s", stepSize: "e", temperature: "T", friction: "f",
  leapfrog: "L", chains: "n", speed: "v", play: "play", drawing: "x", well: "we", wellT: "wT", row: "row", column: "col",
};
const CHOICES = {
  target: TARGETS,
  generator: { imperfect: "imperfect", good: "good" },
  logit: LOGITS,
  sampler: { ula: "ULA", mala: "MALA", hmc: "HMC", underdamped: "underdamped" },
  speed: { slow: "4 a second", 1: "1 a frame", 4: "4 a frame", 10: "10 a frame" },
  tab: { planes: "Two planes", valleys: "Step size", images: "Images" },
};
const LEGENDS = { target: "Target", generator: "Generator", logit: "Log ratio d", sampler: "Sampler" };
const RANGES = { // [label, lowest, highest]; all on a logarithmic scale
  stepSize: ["Step size ε", 1e-5, 1],
  temperature: ["Temperature T", 0.01, 4],
  friction: ["Friction γ", 0.01, 100],
  leapfrog: ["Leapfrog steps L", 1, 30],
  well: ["Step size ε", 0.003, 1],
  wellT: ["Temperature T", 0.1, 4],
};
const PRESETS = [
  ["The promise", "d=refitted&s=ula", "The bridges between the spots empty: strays (orange) fall into the nearest valley of E."],
  ["Noise alone", "d=none&s=ula", "Without a log ratio the chains sample the prior. They move, and nothing gets better: the control."],
  ["The raw logit", "d=raw&s=ula", "As training left it, d is nearly flat: the map is empty, and so is the gain."],
  ["Calibrated", "d=calibrated&s=ula", "Platt's line makes d steeper where it was right, and where it was wrong."],
  ["Nearly exact", "d=exact&s=mala", "With the right log ratio the share is that of exact samples. d was the bottleneck."],
  ["Too coarse", "d=refitted&s=ula&e=0.1", "The share still looks fine. The balance and the energy distance do not: wide valleys fill up, narrow ones empty."],
  ["MALA says so", "d=refitted&s=mala&e=0.1", "The same step, with the correction: most proposals are rejected (rings), and the balance stays."],
  ["Worse than nothing", "g=good&d=refitted&s=ula&e=0.1", "A good generator, made worse by a step that is too large. MALA at this ε changes nothing."],
  ["Too cold", "d=exact&s=mala&T=0.1", "T below 1 looks clean and is wrong: chains sit too tightly on the modes, and none of these numbers minds."],
  ["Exact and stuck", "t=ring&d=exact&s=mala", "Strays on the bridges stand on walls so steep that all their proposals are rejected. Try ε = 0.00003."],
  ["HMC", "d=refitted&s=hmc", "Chains fly along curves, ten leapfrog steps each, and are judged where they land."],
  ["The trench", "t=swiss-roll&d=refitted&s=mala", "The roll is there in the latent plane too, as a trench that winds round the origin."],
  ["A thin trench", "t=swiss-roll&d=refitted&s=ula&e=0.03", "ULA empties the stiff stretches into the loose ones. Each point that stays looks fine."],
  ["Draw your own", "t=drawn&g=good&d=live&s=mala&e=0.003", "Draw on the data plane, with the pointer or with Shift and the arrow keys. The log ratio is fitted while you look, by logistic regression against samples of G."],
  ["A small step", "tab=valleys&we=0.02", "Wait: all three agree with p(x) in the end. HMC crosses the barrier three times as often for the same number of gradients."],
  ["ULA's bias", "tab=valleys&we=0.15", "ULA's histogram is too wide and too full in the middle, and nothing warns of it. MALA pays with rejections."],
  ["Far too coarse", "tab=valleys&we=0.5", "ULA's chains escape to infinity. MALA stays exact and pays with every second proposal; HMC's flights break."],
  ["Cold", "tab=valleys&we=0.02&wT=0.25", "The right valley should be nearly empty. Nothing that walks crosses the barrier in time."],
];

const state = { ...DEFAULTS };
let planes, valleys, strips, playing = true, tabs;
const views = () => ({ planes, valleys })[state.tab];

function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, short] of Object.entries(SHORT)) {
    const value = given.get(short), kind = DEFAULTS[key];
    state[key] = kind;
    if (value === null) continue;
    if (CHOICES[key]) state[key] = value in CHOICES[key] ? value : kind;
    else if (key === "chains") state[key] = Math.min(Math.max(Math.round(+value) || kind, 2), 1000);
    else if (key === "drawing") state[key] = /^([0-9a-z]{4}){1,240}$/.test(value) ? value : kind;
    else if (RANGES[key]) state[key] = Math.min(Math.max(+value || kind, RANGES[key][1]), RANGES[key][2]);
    else state[key] = Number.isFinite(+value) ? Math.max(Math.round(+value), 0) : kind;
  }
  state.leapfrog = Math.round(state.leapfrog);
  state.row = Math.min(state.row, STRIPS.step_sizes.length - 1);
  state.column = Math.min(state.column, STRIPS.steps.length - 1);
  playing = !!state.play && !matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** The settings that differ from the defaults, as the part after # of the page's address. */
function hash() {
  const parts = Object.entries(SHORT).filter(([key]) => String(state[key]) !== String(DEFAULTS[key]));
  return `#${parts.map(([key, short]) => `${short}=${state[key]}`).join("&")}`;
}

function changed() {
  state.play = playing ? 1 : 0;
  history.replaceState(null, "", hash());
  mark();
}

/** Which preset is on the screen, and what to see in it. */
function mark() {
  const shown = new URLSearchParams(hash().slice(1));
  for (const key of ["play", "v", "n", "x"]) shown.delete(key);
  let text = "";
  for (const link of $("presets").children) {
    const [, settings, says] = PRESETS[+link.dataset.k], wanted = new URLSearchParams(settings);
    for (const [key, short] of Object.entries(SHORT)) if (wanted.get(short) === String(DEFAULTS[key])) wanted.delete(short);
    const on = [...wanted].sort().join() === [...shown].sort().join();
    link.setAttribute("aria-current", on);
    if (on) text = says;
  }
  $("watch").textContent = text;
}

function showPresets() {
  $("presets").innerHTML = PRESETS.map(([name, settings], k) => {
    const tab = settings.startsWith("tab=valleys") ? "valleys" : "planes";
    return tab === state.tab ? `<a href="#${settings}" data-k="${k}">${name}</a>` : "";
  }).join("");
  document.querySelector(".presets").hidden = state.tab === "images";
}

// -------------------------------------------------------------------------------------------- controls

const shownNumber = (v) => (v >= 100 ? v.toFixed(0) : String(+v.toPrecision(2)));

function slider(form, key, react) {
  const [label, low, high] = RANGES[key], steps = 200, span = Math.log(high / low), whole = key === "leapfrog";
  const row = document.createElement("label");
  row.className = "slider";
  row.dataset.key = key;
  row.innerHTML = `<span>${label}</span><output></output><input type="range" min="0" max="${steps}" step="1">`;
  const input = row.querySelector("input"), output = row.querySelector("output");
  row.show = () => {
    input.value = Math.round((Math.log(state[key] / low) / span) * steps);
    output.textContent = shownNumber(state[key]);
    input.setAttribute("aria-valuetext", `${label} ${output.textContent}`);
  };
  input.addEventListener("input", () => {
    const value = low * Math.exp((input.value / steps) * span);
    state[key] = whole ? Math.round(value) : +value.toPrecision(2);
    row.show();
    react();
  });
  form.append(row);
}

function choice(form, key, react) {
  const set = document.createElement("fieldset");
  set.innerHTML = `<legend>${LEGENDS[key]}</legend><div class="choice">${Object.entries(CHOICES[key]).map(([value, name]) =>
    `<label><input type="radio" name="${key}" value="${value}"><span>${name}</span></label>`).join("")}</div>`;
  set.addEventListener("change", (event) => {
    state[key] = event.target.value;
    react();
  });
  form.append(set);
}

/** Bring every control in line with the settings. */
function showControls() {
  const drawn = state.target === "drawn";
  if (drawn && ["raw", "calibrated", "refitted"].includes(state.logit)) state.logit = "live";
  for (const input of document.querySelectorAll("input[type=radio]")) {
    input.checked = state[input.name] === input.value;
    if (input.name === "logit") input.disabled = drawn && ["raw", "calibrated", "refitted"].includes(input.value);
    if (input.name === "generator") {
      const names = drawn ? { imperfect: "that of 25 Gaussians", good: "plain, x = 1.2 z" } : CHOICES.generator;
      input.nextSibling.textContent = names[input.value];
    }
  }
  for (const row of document.querySelectorAll(".slider")) {
    row.show();
    const only = { friction: "underdamped", leapfrog: "hmc" }[row.dataset.key];
    row.hidden = only !== undefined && only !== state.sampler;
  }
  $("speed").value = state.speed;
  $("chains").value = state.chains;
  $("clear").hidden = !drawn;
  $("data").classList.toggle("drawing", drawn);
  $("play").textContent = playing ? "Pause" : "Play";
}

function buildControls() {
  const again = () => (showControls(), planes.restart(), changed());
  const swap = () => (showControls(), planes.swap(), changed());
  choice($("controls"), "target", again);
  choice($("controls"), "generator", again);
  choice($("controls"), "logit", swap);
  choice($("controls"), "sampler", swap);
  for (const key of ["stepSize", "temperature", "friction", "leapfrog"]) slider($("controls"), key, changed);
  for (const key of ["well", "wellT"]) slider($("well-controls"), key, () => (valleys.restart(), changed()));
  $("speed").innerHTML = Object.entries(CHOICES.speed).map(([value, name]) => `<option value="${value}">${name}</option>`).join("");
  const counts = [...new Set([100, 300, 1000, state.chains])].sort((a, b) => a - b);
  $("chains").innerHTML = counts.map((n) => `<option>${n}</option>`).join("");
  $("speed").addEventListener("change", () => ((state.speed = $("speed").value), changed()));
  $("chains").addEventListener("change", () => ((state.chains = +$("chains").value), restart(), changed()));
  $("play").addEventListener("click", toggle);
  $("step").addEventListener("click", oneStep);
  $("restart").addEventListener("click", restart);
  $("clear").addEventListener("click", () => planes.blank());
  const say = (text) => ($("link").textContent = text);
  const copy = async () => navigator.clipboard.writeText(location.href);
  $("link").addEventListener("click", () => copy().then(() => say("Copied"), () => say("Copy the address")));
}

const toggle = () => ((playing = !playing), showControls(), changed());
const restart = () => (planes.restart(), valleys.restart());
function oneStep() {
  if (playing) toggle();
  if (views()) views().once();
}

function showTab() {
  for (const tab of tabs) {
    const on = tab.id === `tab-${state.tab}`;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    $(tab.id.slice(4)).hidden = !on;
  }
  $("transport").hidden = state.tab === "images";
  showPresets();
  mark();
  if (state.tab === "images") strips.draw();
}

function keyboard() {
  onArrows(document.querySelector("[role=tablist]"), (right) => {
    const at = tabs.indexOf(document.activeElement), next = tabs[(at + right + tabs.length) % tabs.length];
    if (at >= 0) next.click(), next.focus();
  });
  for (const tab of tabs) tab.addEventListener("click", () => ((state.tab = tab.id.slice(4)), showTab(), changed()));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { " ": toggle, ".": oneStep, r: restart }[event.key];
    if (!act || (event.key === " " && event.target.closest("button, a, select"))) return;
    event.preventDefault(), act();
  });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const name of Object.keys(palette)) delete palette[name];
  for (const view of [planes, valleys]) if (view) view.colours = ramp();
  if (planes) planes.background();
  if (valleys) valleys.heat.restart();
  if (strips) strips.draw();
}

// ------------------------------------------------------------------------------------------------ loop

let before = 0, waited = 0, rate = 60, painted = 0, seen = true;

function frame(now) {
  requestAnimationFrame(frame);
  const passed = Math.min(now - before, 1000), view = views();
  before = now;
  if (!view || !seen) return;
  waited += passed;
  const slow = state.speed === "slow", transitions = !playing ? 0 : slow ? +(waited >= 250) : +state.speed;
  if (transitions) waited = 0;
  view.frame(transitions, playing);
  rate += 0.05 * (1000 / Math.max(passed, 1) - rate);
  if (++painted % 30 === 0) $("rate").textContent = playing ? `${rate.toFixed(0)} frames a second` : "";
}

async function start() {
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  readHash();
  tabs = [...document.querySelectorAll("[role=tab]")];
  planes = new PlanesTab(await unpack(NETWORKS), state);
  valleys = new ValleysTab({
    get stepSize() { return state.well; }, get temperature() { return state.wellT; },
    get chains() { return state.chains; }, leapfrog: 5,
  });
  strips = new StripsTab(STRIPS, SHEET, state, changed);
  buildControls();
  showControls();
  planes.restart();
  planes.onDraw = () => (planes.restart(), changed());
  keyboard();
  showTab();
  const { dataset, classList } = document.documentElement;
  window.addEventListener("message", ({ data }) => ["light", "dark"].includes(data?.theme) && setTheme(data.theme));
  if (window.name === "framed") classList.add("framed"), window.parent.postMessage("theme?", "*"); // part of a page
  new IntersectionObserver(([entry]) => (seen = entry.isIntersecting)).observe(document.body); // else all rests
  $("theme").addEventListener("click", () => setTheme(dataset.theme === "dark" ? "light" : "dark"));
  window.addEventListener("hashchange", () => (readHash(), showControls(), showTab(), restart()));
  requestAnimationFrame(frame);
}

start();
