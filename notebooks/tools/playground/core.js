"use strict";
/* The arithmetic of the playground, without a page: networks, log ratios, energies, samplers, measures.
   It mirrors utils/{models/mlp,toy,density_ratio,energy,samplers,metrics/toy}.py and is tested against them.
   Points are flat arrays, (n, 2) row by row; energies and logits are in nats. */

// ------------------------------------------------------------------------------------ random numbers
/** Normal and uniform numbers from a seed (sfc32 and Box-Muller); tests put recorded ones in its place. */
class Noise {
  constructor(seed = 0) {
    this.state = [0x9e3779b9, 0x243f6a88, 0xb7e15162, seed | 0];
    for (let i = 0; i < 20; i++) this.next(); // mixes the seed in
  }
  next() {
    const s = this.state, t = (((s[0] + s[1]) | 0) + s[3]) | 0;
    s[3] = (s[3] + 1) | 0;
    s[0] = s[1] ^ (s[1] >>> 9);
    s[1] = (s[2] + (s[2] << 3)) | 0;
    s[2] = (((s[2] << 21) | (s[2] >>> 11)) + t) | 0;
    return ((t >>> 0) + 0.5) / 4294967296; // in (0, 1)
  }
  uniform(out) {
    for (let i = 0; i < out.length; i++) out[i] = this.next();
    return out;
  }
  normal(out) {
    for (let i = 0; i < out.length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(this.next())), angle = 2 * Math.PI * this.next();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }
}

// -------------------------------------------------------------------------------------- one product
const pad = (dim) => Math.ceil(dim / 16) * 16; // rows of a product's result have a multiple of 16 numbers

/** WebAssembly of `affine` below with SIMD, assembled here: tiles of 2 rows x 16 columns in registers. */
function assembleKernel() {
  const leb = (v) => (v < 128 ? [v] : [(v & 127) | 128, ...leb(v >>> 7)]);
  const i32 = (v) => [0x41, ...(v < 64 ? [v] : [(v & 127) | 128, v >>> 7])]; // for 0 <= v < 8192
  const get = (i) => [0x20, i], set = (i) => [0x21, i], add = [0x6a], times = [0x6c];
  const simd = (code, ...rest) => [0xfd, ...leb(code), ...rest];
  const load = (at) => simd(0x00, 2, ...leb(at)), store = (at) => simd(0x0b, 2, ...leb(at));
  const loadSplat = simd(0x09, 2, 0), plus = simd(0xe4), product = simd(0xe6), maximum = simd(0xe9);
  const [n, k, m, x, w, b, y, floor, row, col, x0, x1, pw, end, py] = Array(15).keys();
  const first = 15, vFloor = 15, acc = 16, wide = 24, s0 = 28, s1 = 29;
  const repeat = (body, i, by, limit) => [
    0x03, 0x40, ...body, ...get(i), ...by, ...add, ...set(i), ...get(i), ...get(limit), 0x49, 0x0d, 0, 0x0b,
  ];
  const each = (count, f) => Array.from({ length: count }, (_, c) => f(c)).flat();
  const inner = [
    ...get(x0), ...loadSplat, ...set(s0), ...get(x1), ...loadSplat, ...set(s1),
    ...each(4, (c) => [...get(pw), ...load(16 * c), ...set(wide + c)]),
    ...each(8, (c) => [
      ...get(acc + c), ...get(c < 4 ? s0 : s1), ...get(wide + (c & 3)), ...product, ...plus, ...set(acc + c),
    ]),
    ...get(x1), ...i32(4), ...add, ...set(x1),
    ...get(pw), ...get(m), ...add, ...set(pw),
  ];
  const tile = [
    ...each(8, (c) => [...get(b), ...get(col), ...add, ...load(16 * (c & 3)), ...set(acc + c)]),
    ...get(x), ...get(row), ...get(k), ...times, ...add, ...set(x0), // k and m are in bytes
    ...get(x0), ...get(k), ...add, ...set(x1), ...get(x1), ...set(end),
    ...get(w), ...get(col), ...add, ...set(pw),
    ...repeat(inner, x0, i32(4), end),
    ...get(y), ...get(row), ...get(m), ...times, ...add, ...get(col), ...add, ...set(py),
    ...each(4, (c) => [...get(py), ...get(acc + c), ...get(vFloor), ...maximum, ...store(16 * c)]),
    ...get(py), ...get(m), ...add, ...set(py),
    ...each(4, (c) => [...get(py), ...get(acc + 4 + c), ...get(vFloor), ...maximum, ...store(16 * c)]),
  ];
  const code = [
    2, first - 8, 0x7f, 15, 0x7b, // locals: i32, v128
    ...get(floor), ...simd(0x13), ...set(vFloor),
    ...repeat([...i32(0), ...set(col), ...repeat(tile, col, i32(64), m)], row, i32(2), n), 0x0b,
  ];
  const section = (id, body) => [id, ...leb(body.length), ...body];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 8, ...Array(7).fill(0x7f), 0x7d, 0]), ...section(2, [1, 1, 0x65, 1, 0x6d, 2, 0, 1]),
    ...section(3, [1, 0]), ...section(7, [1, 1, 0x66, 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

/** A heap of numbers and y = max(x w + b, floor) on it: in WebAssembly, else in plain JavaScript. */
class Compute {
  constructor(Real = Float32Array, plain = false, size = 1 << 24) {
    this.top = 0;
    if (Real === Float32Array && !plain) {
      try {
        const m = new WebAssembly.Memory({ initial: size >> 14 }); // pages of 2^14 floats
        this.kernel = new WebAssembly.Instance(new WebAssembly.Module(assembleKernel()), { e: { m } }).exports.f;
        this.heap = new Float32Array(m.buffer);
      } catch (error) {
        this.kernel = null; // a browser without SIMD
      }
    }
    this.heap ||= new Real(size);
    this.zeros = this.alloc(1024);
  }
  alloc(size) {
    const at = this.top;
    this.top += Math.ceil(size / 16) * 16;
    if (this.top > this.heap.length) throw new RangeError("the heap of the playground is full");
    return at;
  }
  /** Rows x (n, k), matrix w (k, m), b (m), y (n, m) at these places; n even, m a multiple of 16. */
  affine(n, k, m, x, w, b, y, floor = -Infinity) {
    if (this.kernel) return this.kernel(n, 4 * k, 4 * m, 4 * x, 4 * w, 4 * b, 4 * y, floor);
    const heap = this.heap;
    for (let row = 0; row < n; row++, x += k, y += m) {
      for (let j = 0; j < m; j++) heap[y + j] = heap[b + j];
      for (let i = 0; i < k; i++) {
        const v = heap[x + i], at = w + i * m;
        if (v !== 0) for (let j = 0; j < m; j++) heap[y + j] += v * heap[at + j];
      }
      for (let j = 0; j < m; j++) if (heap[y + j] < floor) heap[y + j] = floor;
    }
  }
}

// ------------------------------------------------------------------------------------------ networks
const CAPACITY = 512; // rows that pass a network at once

/** Linear layers with ReLU between them; layers are {rows, cols, weight (rows, cols), bias}, as in torch. */
class Mlp {
  constructor(compute, layers) {
    this.compute = compute;
    this.layers = layers.map(({ rows, cols, weight, bias }) => {
      const inside = cols === 2 ? 2 : pad(cols), outside = pad(rows);
      const layer = { inside, outside, rows, cols };
      layer.w = compute.alloc(inside * outside); // (in, out)
      layer.back = compute.alloc(outside * pad(cols)); // (out, in)
      layer.b = compute.alloc(outside);
      for (let i = 0; i < rows; i++) {
        compute.heap[layer.b + i] = bias[i] || 0;
        for (let j = 0; j < cols; j++) compute.heap[layer.w + j * outside + i] = weight[i * cols + j] || 0;
      }
      return layer;
    });
    const widest = Math.max(...this.layers.map((layer) => Math.max(layer.outside, pad(layer.cols))));
    this.values = [compute.alloc(CAPACITY * this.layers[0].inside)];
    for (const layer of this.layers) this.values.push(compute.alloc(CAPACITY * layer.outside));
    this.slopes = [compute.alloc(CAPACITY * widest), compute.alloc(CAPACITY * widest)];
    this.transpose();
  }
  transpose() {
    const heap = this.compute.heap;
    for (const { inside, outside, cols, w, back } of this.layers) {
      for (let i = 0; i < inside; i++) {
        for (let j = 0; j < outside; j++) heap[back + j * pad(cols) + i] = heap[w + i * outside + j];
      }
    }
  }
  /** Values of points (n, 2), n <= CAPACITY; the place of the results, whose rows have pad(...) numbers. */
  forward(points, from, n) {
    const { heap } = this.compute, input = this.values[0], even = n + (n & 1);
    for (let i = 0; i < 2 * n; i++) heap[input + i] = points[from + i];
    this.layers.forEach(({ inside, outside, w, b }, l) => {
      const floor = l < this.layers.length - 1 ? 0 : -Infinity;
      this.compute.affine(even, inside, outside, this.values[l], w, b, this.values[l + 1], floor);
    });
    return this.values[this.layers.length];
  }
  /** After `forward`: from slopes of the results in `this.slopes[0]` to those of the points (rows of 16).
      `visit(l, place)` sees the slopes at the results of layer l. */
  backward(n, visit = null) {
    const { heap } = this.compute, even = n + (n & 1);
    let [here, there] = this.slopes;
    for (let l = this.layers.length - 1; l >= 0; l--) {
      const { outside, cols, back } = this.layers[l], m = pad(cols), value = this.values[l];
      if (visit) visit(l, here);
      this.compute.affine(even, outside, m, here, back, this.compute.zeros, there);
      if (l > 0) for (let i = 0; i < n * m; i++) if (!(heap[value + i] > 0)) heap[there + i] = 0;
      [here, there] = [there, here];
    }
    return here;
  }
}

// ------------------------------------------------------------------------------------------- targets
/** Isotropic Gaussians: utils.toy.GaussianMixture. */
class Mixture {
  constructor(means, std, weights = null) {
    Object.assign(this, { means, std, k: means.length / 2 }); // means are flat, (k, 2)
    this.weights = weights || new Array(this.k).fill(1 / this.k);
    this.logWeights = this.weights.map(Math.log);
  }
  sample(n, noise) {
    const x = noise.normal(new Float64Array(2 * n));
    for (let i = 0; i < n; i++) {
      let u = noise.next(), mode = 0;
      while (mode < this.k - 1 && u > this.weights[mode]) u -= this.weights[mode++];
      for (let c = 0; c < 2; c++) x[2 * i + c] = this.means[2 * mode + c] + this.std * x[2 * i + c];
    }
    return x;
  }
  /** log p(x) and its slope, added with `sign` to value[i] and slope[2 i, 2 i + 1]. */
  logDensity(x, from, n, value, slope, sign = 1) {
    const terms = new Float64Array(this.k), scale = 0.5 / this.std ** 2;
    const normaliser = 2 * Math.log(this.std * Math.sqrt(2 * Math.PI));
    for (let i = 0; i < n; i++) {
      const a = x[2 * (from + i)], b = x[2 * (from + i) + 1];
      let top = -Infinity;
      for (let j = 0; j < this.k; j++) {
        const u = a - this.means[2 * j], v = b - this.means[2 * j + 1];
        terms[j] = this.logWeights[j] - scale * (u * u + v * v);
        if (terms[j] > top) top = terms[j];
      }
      let sum = 0, u = 0, v = 0;
      for (let j = 0; j < this.k; j++) {
        if (terms[j] < top - 40) continue;
        const p = Math.exp(terms[j] - top);
        (sum += p), (u += p * (this.means[2 * j] - a)), (v += p * (this.means[2 * j + 1] - b));
      }
      value[from + i] += sign * (top + Math.log(sum) - normaliser);
      slope[2 * (from + i)] += (sign * u) / sum / this.std ** 2;
      slope[2 * (from + i) + 1] += (sign * v) / sum / this.std ** 2;
    }
  }
  /** Distance to the nearest mode in units of std, and its index. */
  assign(x, i) {
    let best = Infinity, mode = 0;
    for (let j = 0; j < this.k; j++) {
      const square = (x[2 * i] - this.means[2 * j]) ** 2 + (x[2 * i + 1] - this.means[2 * j + 1]) ** 2;
      if (square < best) [best, mode] = [square, j];
    }
    return [Math.sqrt(best) / this.std, mode];
  }
}

/** The swiss roll: utils.toy.SwissRoll; its modes are stretches of equal length in t. */
class Roll {
  constructor({ noise, scale, bins, u, weights }) {
    Object.assign(this, { scale, std: noise / scale, k: bins, weights: new Array(bins).fill(1 / bins) });
    const nodes = this.along(u.map((v) => Math.PI * (3 + 1.5 * v)));
    this.curve = new Mixture(nodes, this.std, weights.map((w) => w / 2));
    this.ts = Float64Array.from({ length: 1000 }, (_, i) => 1.5 * Math.PI * (1 + (2 * i) / 999));
    this.nodes = this.along(this.ts);
  }
  along(ts) {
    const points = new Float64Array(2 * ts.length);
    ts.forEach((t, i) => points.set([(t * Math.cos(t)) / this.scale, (t * Math.sin(t)) / this.scale], 2 * i));
    return points;
  }
  sample(n, noise) {
    const x = this.along(Float64Array.from({ length: n }, () => 1.5 * Math.PI * (1 + 2 * noise.next())));
    const offset = noise.normal(new Float64Array(2 * n));
    return x.map((v, i) => v + this.std * offset[i]);
  }
  logDensity(...points) {
    this.curve.logDensity(...points); // the quadrature is a mixture along the curve
  }
  assign(x, i) {
    const a = x[2 * i], b = x[2 * i + 1], { nodes, scale, ts } = this;
    let best = Infinity, nearest = 0;
    for (let j = 0; j < ts.length; j++) {
      const square = (a - nodes[2 * j]) ** 2 + (b - nodes[2 * j + 1]) ** 2;
      if (square < best) [best, nearest] = [square, j];
    }
    let t = ts[nearest];
    const offset = () => [a - (t * Math.cos(t)) / scale, b - (t * Math.sin(t)) / scale];
    for (let round = 0; round < 4; round++) {
      const [u, v] = offset(), c = Math.cos(t), s = Math.sin(t);
      const p = (c - t * s) / scale, q = (s + t * c) / scale;
      t = Math.min(Math.max(t + (u * p + v * q) / (p * p + q * q), ts[0]), ts[999]);
    }
    const [u, v] = offset(), refined = u * u + v * v;
    [best, t] = refined < best ? [refined, t] : [best, ts[nearest]];
    const mode = Math.floor(((t / Math.PI - 1.5) / 3) * this.k);
    return [Math.sqrt(best) / this.std, Math.min(Math.max(mode, 0), this.k - 1)];
  }
}

/** log p_g from a table of (n, n) values on [-extent, extent]^2: the interpolation of density_ratio.GridLogit. */
class Table {
  constructor(values, extent) {
    Object.assign(this, { values, extent, n: Math.sqrt(values.length) });
  }
  logDensity(x, from, n, value, slope, sign = 1) {
    const size = this.n, scale = size / (2 * this.extent), A = -0.75; // torch's cubic
    const wx = new Float64Array(8), wy = new Float64Array(8);
    const cubic = (t, w) => { // four weights at distances t + 1, t, 1 - t, 2 - t, and their slopes in t
      for (let tap = 0; tap < 4; tap++) {
        const s = Math.abs(t + 1 - tap), direction = t + 1 - tap < 0 ? -1 : 1, near = s <= 1;
        w[tap] = near ? ((A + 2) * s - (A + 3)) * s * s + 1 : ((A * s - 5 * A) * s + 8 * A) * s - 4 * A;
        w[4 + tap] = direction * (near ? (3 * (A + 2) * s - 2 * (A + 3)) * s : (3 * A * s - 10 * A) * s + 8 * A);
      }
    };
    const clip = (i) => Math.min(Math.max(i, 0), size - 1);
    for (let i = from; i < from + n; i++) {
      const px = (x[2 * i] + this.extent) * scale - 0.5, py = (x[2 * i + 1] + this.extent) * scale - 0.5;
      const column = Math.floor(px), row = Math.floor(py);
      cubic(px - column, wx), cubic(py - row, wy);
      let v = 0, u = 0, w = 0;
      for (let r = 0; r < 4; r++) {
        const at = clip(row - 1 + r) * size;
        let line = 0, tilt = 0;
        for (let c = 0; c < 4; c++) {
          const cell = this.values[at + clip(column - 1 + c)];
          (line += wx[c] * cell), (tilt += wx[4 + c] * cell);
        }
        (v += wy[r] * line), (u += wy[r] * tilt), (w += wy[4 + r] * line);
      }
      value[i] += sign * v;
      slope[2 * i] += sign * u * scale;
      slope[2 * i + 1] += sign * w * scale;
    }
  }
}

// ---------------------------------------------------------------------------------------- log ratios
// A log ratio has evaluate(x, from, n, d, slope): it writes d and its slope at n points from `from` on.

/** d = 0: the chains then sample the prior. */
const NO_LOGIT = {
  evaluate(x, from, n, d, slope) {
    d.fill(0, from, from + n);
    if (slope) slope.fill(0, 2 * from, 2 * (from + n));
  },
};

/** slope * network + intercept: density_ratio.Affine. */
class NetworkLogit {
  constructor(network, slope = 1, intercept = 0) {
    Object.assign(this, { network, slope, intercept });
  }
  evaluate(x, from, n, d, slope) {
    const { network, slope: a } = this, { heap } = network.compute;
    for (let start = from; start < from + n; start += CAPACITY) {
      const m = Math.min(CAPACITY, from + n - start);
      const out = network.forward(x, 2 * start, m), top = network.slopes[0];
      heap.fill(0, top, top + 16 * m);
      for (let i = 0; i < m; i++) {
        d[start + i] = a * heap[out + 16 * i] + this.intercept;
        heap[top + 16 * i] = a;
      }
      if (!slope) continue;
      const back = network.backward(m);
      for (let i = 0; i < m; i++) for (const c of [0, 1]) slope[2 * (start + i) + c] = heap[back + 16 * i + c];
    }
  }
}

/** log p_d - log p_g of two objects with a log density. */
class DensityLogit {
  constructor(data, generated) {
    Object.assign(this, { data, generated });
  }
  evaluate(x, from, n, d, slope) {
    slope ||= new Float64Array(x.length);
    NO_LOGIT.evaluate(x, from, n, d, slope);
    this.data.logDensity(x, from, n, d, slope, 1);
    this.generated.logDensity(x, from, n, d, slope, -1);
  }
}

/** Logistic regression of data against samples of a generator by a small network and Adam, step by step. */
class LiveFit {
  constructor(compute, noise, width = 64, depth = 3) {
    const sizes = [2, ...new Array(depth).fill(width), 1];
    const shapes = sizes.slice(1).map((rows, l) => ({ rows, cols: sizes[l], weight: [], bias: [] }));
    this.network = new Mlp(compute, shapes);
    this.logit = new NetworkLogit(this.network);
    this.turned = compute.alloc(CAPACITY * Math.max(...sizes));
    this.gradients = this.network.layers.map(({ inside, outside }) => compute.alloc(inside * outside));
    this.begin(noise);
  }
  /** Forget everything: torch's initial weights. */
  begin(noise) {
    const moments = (size) => [new Float64Array(size), new Float64Array(size)];
    this.moments = this.network.layers.map(({ inside, outside }) => [moments(inside * outside), moments(outside)]);
    const { heap } = this.network.compute;
    for (const { rows, cols, outside, w, b } of this.network.layers) {
      const draw = () => (2 * noise.next() - 1) / Math.sqrt(cols);
      for (let i = 0; i < rows; i++) {
        heap[b + i] = draw();
        for (let j = 0; j < cols; j++) heap[w + j * outside + i] = draw();
      }
    }
    this.network.transpose();
    Object.assign(this, { step: 0, loss: Math.LN2 });
  }
  adam(at, size, gradient, [mean, square], rate) {
    const { heap } = this.network.compute, fix1 = 1 - 0.5 ** this.step, fix2 = 1 - 0.999 ** this.step;
    for (let i = 0; i < size; i++) {
      const g = gradient(i);
      mean[i] = 0.5 * mean[i] + 0.5 * g;
      square[i] = 0.999 * square[i] + 0.001 * g * g;
      heap[at + i] -= (rate * mean[i]) / fix1 / (Math.sqrt(square[i] / fix2) + 1e-8);
    }
  }
  /** One step on n real and n generated points (n even, 2 n <= CAPACITY). */
  train(real, fake, rate) {
    const { network } = this, { compute, layers, values, slopes } = network, { heap } = compute;
    const n = real.length / 2, top = slopes[0], out = network.forward([...real, ...fake], 0, 2 * n);
    heap.fill(0, top, top + 32 * n);
    let loss = 0;
    for (let i = 0; i < 2 * n; i++) {
      const sign = i < n ? -1 : 1, d = sign * heap[out + 16 * i]; // loss: log(1 + e^d), of real ones with -d
      loss += (Math.max(d, 0) + Math.log1p(Math.exp(-Math.abs(d)))) / (2 * n);
      heap[top + 16 * i] = sign / (1 + Math.exp(-d)) / n;
    }
    const biases = [];
    network.backward(2 * n, (l, here) => {
      const { inside, outside } = layers[l];
      for (let i = 0; i < 2 * n; i++) {
        for (let j = 0; j < inside; j++) heap[this.turned + j * 2 * n + i] = heap[values[l] + i * inside + j];
      }
      compute.affine(inside, 2 * n, outside, this.turned, here, compute.zeros, this.gradients[l]);
      biases[l] = new Float64Array(outside);
      for (let i = 0; i < 2 * n; i++) for (let j = 0; j < outside; j++) biases[l][j] += heap[here + i * outside + j];
    });
    this.step++;
    layers.forEach(({ w, b, inside, outside }, l) => {
      this.adam(w, inside * outside, (i) => heap[this.gradients[l] + i], this.moments[l][0], rate);
      this.adam(b, outside, (i) => biases[l][i], this.moments[l][1], rate);
    });
    network.transpose();
    this.loss += 0.02 * (loss - this.loss);
  }
}

// ------------------------------------------------------------------------------------------ energies
// An energy has evaluate(z, n, E, slope), slope may be null; that of a GAN keeps the generated points in x.

/** E(z) = -log p_0(z) - d(G(z)): utils.energy.latent_energy. */
class LatentEnergy {
  constructor(generator, logit) {
    Object.assign(this, { generator, logit });
    this.resize(0);
  }
  resize(n) {
    [this.x, this.d, this.slope] = [2 * n, n, 2 * n].map((size) => new Float64Array(size));
  }
  generate(z, from, n) {
    const { generator } = this, { heap } = generator.compute, out = generator.forward(z, 2 * from, n);
    for (let i = 0; i < n; i++) for (const c of [0, 1]) this.x[2 * (from + i) + c] = heap[out + 16 * i + c];
  }
  evaluate(z, n, energy, slope) {
    if (this.d.length !== n) this.resize(n);
    const { generator } = this, { heap } = generator.compute;
    for (let from = 0; from < n; from += CAPACITY) {
      const m = Math.min(CAPACITY, n - from), top = generator.slopes[0];
      this.generate(z, from, m);
      this.logit.evaluate(this.x, from, m, this.d, slope && this.slope);
      for (let j = from; j < from + m; j++) {
        energy[j] = 0.5 * (z[2 * j] ** 2 + z[2 * j + 1] ** 2) + Math.log(2 * Math.PI) - this.d[j];
      }
      if (!slope) continue;
      heap.fill(0, top, top + 16 * m);
      for (let i = 0; i < m; i++) for (const c of [0, 1]) heap[top + 16 * i + c] = this.slope[2 * (from + i) + c];
      const back = generator.backward(m);
      for (let i = 0; i < m; i++) {
        for (const c of [0, 1]) slope[2 * (from + i) + c] = z[2 * (from + i) + c] - heap[back + 16 * i + c];
      }
    }
  }
}

/** Samples of a generator, (n, 2). */
function generate(generator, n, noise) {
  const energy = new LatentEnergy(generator, NO_LOGIT), z = noise.normal(new Float64Array(2 * n));
  energy.resize(n);
  for (let from = 0; from < n; from += CAPACITY) energy.generate(z, from, Math.min(CAPACITY, n - from));
  return energy.x;
}

/** Two curved valleys of unequal depth: the landscape of notebook 04. */
const TWO_WELLS = {
  along: (x) => 0.4 * (x * x - 2.25) ** 2 + 0.3 * x,
  evaluate(z, n, energy, slope) {
    for (let i = 0; i < n; i++) {
      const x = z[2 * i], across = z[2 * i + 1] + 0.75 - (x * x) / 3;
      energy[i] = TWO_WELLS.along(x) + across * across;
      if (!slope) continue;
      slope[2 * i] = 1.6 * x * (x * x - 2.25) + 0.3 - (4 / 3) * x * across;
      slope[2 * i + 1] = 2 * across;
    }
  },
};

// ------------------------------------------------------------------------------------------ samplers
const ADJUSTED = { ula: false, mala: true, hmc: true, underdamped: true };

/** Chains on an energy. `advance` costs one gradient of each chain: a transition, but of HMC one leapfrog step.

    ula, mala, hmc follow utils.samplers, with h^2 = stepSize for hmc. underdamped is HMC with one leapfrog step
    that keeps the part e^{-friction h} of the momentum (Horowitz, 1991), and turns it round when it rejects:
    without friction it flies on, with a large one it is MALA. */
class Chains {
  constructor(energy, z, noise) {
    const n = z.length / 2;
    Object.assign(this, { energy, noise, n, z: Float64Array.from(z), accepted: new Uint8Array(n).fill(1) });
    for (const name of ["E", "pathE", "kinetic", "luck"]) this[name] = new Float64Array(n);
    for (const name of ["slope", "path", "pathSlope", "momentum", "random", "x"]) this[name] = new Float64Array(2 * n);
    Object.assign(this, { transitions: 0, gradients: 0, divergences: 0, acceptance: 1, flown: 0, fresh: true });
    this.refresh();
  }
  /** Take a new energy at the old states; a flight of HMC is broken off. */
  refresh(energy = this.energy) {
    this.energy = energy;
    energy.evaluate(this.z, this.n, this.E, this.slope);
    this.flown = 0;
    this.path.set(this.z), this.x.set(energy.x || this.z);
  }
  /** Returns whether a transition has ended. */
  advance({ sampler, stepSize, temperature, friction = 1, leapfrog = 10 }) {
    const { n, z, E, slope, path, pathE, pathSlope, momentum, kinetic, random } = this;
    const h = Math.sqrt(stepSize), flying = sampler === "hmc" || sampler === "underdamped";
    if (!flying) {
      this.noise.normal(random);
      const spread = Math.sqrt(stepSize * temperature);
      for (let i = 0; i < 2 * n; i++) path[i] = z[i] - 0.5 * stepSize * slope[i] + spread * random[i];
    } else {
      if (this.flown === 0) {
        const keep = sampler === "hmc" || this.fresh ? 0 : Math.exp(-friction * h);
        const spread = Math.sqrt(temperature * (1 - keep * keep));
        this.noise.normal(random);
        for (let i = 0; i < 2 * n; i++) random[i] = momentum[i] = keep * momentum[i] + spread * random[i];
        for (let i = 0; i < n; i++) kinetic[i] = 0.5 * (momentum[2 * i] ** 2 + momentum[2 * i + 1] ** 2);
        path.set(z);
        pathSlope.set(slope);
        this.fresh = false;
      }
      for (let i = 0; i < 2 * n; i++) {
        momentum[i] -= 0.5 * h * pathSlope[i];
        path[i] += h * momentum[i];
      }
    }
    this.energy.evaluate(path, n, pathE, pathSlope);
    this.gradients++;
    if (flying) for (let i = 0; i < 2 * n; i++) momentum[i] -= 0.5 * h * pathSlope[i];
    if (sampler === "hmc" && ++this.flown < leapfrog) return false;
    this.flown = 0;
    if (ADJUSTED[sampler]) this.noise.uniform(this.luck);
    const image = this.energy.x || path;
    let count = 0;
    for (let i = 0; i < n; i++) {
      const a = 2 * i, b = a + 1;
      let ok = Number.isFinite(pathE[i]) && Number.isFinite(pathSlope[a]) && Number.isFinite(pathSlope[b]);
      if (!ok) this.divergences++;
      else if (ADJUSTED[sampler]) {
        let change = E[i] - pathE[i];
        if (flying) change += kinetic[i] - 0.5 * (momentum[a] ** 2 + momentum[b] ** 2);
        else {
          const half = 0.5 * stepSize, u = path[a] - z[a], v = path[b] - z[b];
          const forth = (u + half * slope[a]) ** 2 + (v + half * slope[b]) ** 2;
          const back = (half * pathSlope[a] - u) ** 2 + (half * pathSlope[b] - v) ** 2;
          change += (forth - back) / (2 * stepSize);
        }
        ok = Math.log(this.luck[i]) < change / temperature;
      }
      this.accepted[i] = ok;
      if (ok) {
        count++;
        E[i] = pathE[i];
        for (const c of [a, b]) [z[c], slope[c], this.x[c]] = [path[c], pathSlope[c], image[c]];
      } else for (const c of [a, b]) [path[c], momentum[c], image[c]] = [z[c], -random[c], this.x[c]];
    }
    this.transitions++;
    this.acceptance = count / n;
    return true;
  }
}

// ------------------------------------------------------------------------------------------ measures
const HIGH_QUALITY = 4; // std

/** Share of high quality and balance of the modes: metrics.toy.{high_quality_share, mode_balance}. */
function quality(x, target, good = null) {
  const n = x.length / 2, counts = new Float64Array(target.k);
  let total = 0;
  for (let i = 0; i < n; i++) {
    const [distance, mode] = target.assign(x, i), near = distance <= HIGH_QUALITY;
    if (good) good[i] = near;
    total += near;
    counts[mode] += near;
  }
  let balance = total ? 0 : NaN;
  counts.forEach((count, mode) => {
    if (count) balance += (count / total) * Math.log(count / total / target.weights[mode]);
  });
  return { share: total / n, balance };
}

/** Mean of |x_i - y_j| over all pairs. */
function meanDistance(x, y) {
  let sum = 0;
  for (let i = 0; i < x.length; i += 2) {
    for (let j = 0; j < y.length; j += 2) sum += Math.sqrt((x[i] - y[j]) ** 2 + (x[i + 1] - y[j + 1]) ** 2);
  }
  return (4 * sum) / (x.length * y.length);
}

/** 2 E|X - Y| - E|X - X'| - E|Y - Y'|: metrics.toy.energy_distance; `within` is the last term, if known. */
function energyDistance(x, y, within = meanDistance(y, y)) {
  return 2 * meanDistance(x, y) - meanDistance(x, x) - within;
}

// ------------------------------------------------------------------------------------------- package
/** Number of a half-precision float's 16 bits. */
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? NaN : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** What `package_networks` in __init__.py packed: its header, and a function that makes a network of a name. */
async function unpack(base64) {
  const packed = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer(), length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const body = buffer.slice(4 + length);
  const network = (compute, name) => {
    let { at } = header.networks[name];
    const take = (size) => Float64Array.from(new Uint16Array(body, at, size), fromHalf, (at += 2 * size));
    const layers = header.networks[name].shapes.map(([rows, cols]) => ({
      rows, cols, weight: take(rows * cols), bias: take(rows),
    }));
    return new Mlp(compute, layers);
  };
  const table = (name) => {
    const { at, n, extent, scale } = header.tables[name], steps = new Int16Array(body, at, n * n);
    const values = new Float64Array(n * n); // stored: differences along the rows
    for (let i = 0; i < n * n; i++) values[i] = steps[i] / scale + (i % n ? values[i - 1] : 0);
    return new Table(values, extent);
  };
  const target = (name) => {
    const { means, std } = header.targets[name];
    return means ? new Mixture(Float64Array.from(means.flat()), std) : new Roll(header.targets[name]);
  };
  return { header, network, table, target };
}

if (typeof module !== "undefined") {
  module.exports = { Noise, Compute, Mixture, NO_LOGIT, NetworkLogit, DensityLogit, LiveFit, LatentEnergy };
  Object.assign(module.exports, { TWO_WELLS, Chains, quality, energyDistance, unpack });
}
