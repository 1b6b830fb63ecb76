// A dream to play in: a world model's imagine step and what it tells of a state, run by ONNX Runtime Web.
//
//   state --imagine(action, noise)--> state --tell--> pictures, reward, continuation
//
// Everything comes from the folder of this page. `window.dream` is the whole of it, for whoever wants to look inside.

import * as ort from "./runtime/ort.wasm.min.mjs";

const here = (name) => new URL(name, import.meta.url).href;
const element = (id) => document.getElementById(id);

ort.env.wasm.numThreads = 1; // more need headers that plain servers do not send
ort.env.wasm.wasmPaths = {
  mjs: here("runtime/ort-wasm-simd-threaded.mjs"),
  wasm: here("runtime/ort-wasm-simd-threaded.wasm"),
};

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, int16: Int16Array,
  int8: Int8Array, uint8: Uint8Array,
};
const KEYS = "1234567890qwertyuiopasdfghjkl";
const GOING_ON = 0.5; // below that probability an episode is over

// Uniform numbers in [0, 1) that follow from a seed (xorshift32).
function generator(seed) {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13; x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5; x >>>= 0;
    return x / 4294967296;
  };
}

class Dream {
  constructor(about, imagine, tell, starts) {
    Object.assign(this, { about, imagine, tell, starts });
    this.size = about.state.reduce((sum, each) => sum + count(each.shape), 0);
    this.reset(0, 1);
  }

  // The state that a dream begins from, with noise that follows from the seed.
  reset(start, seed) {
    this.start = start;
    this.random = generator(seed);
    this.rows = 0;
    this.earned = 0;
    this.noise = null;
    this.action = null;
    this.said = null;
    let at = start * this.size;
    this.state = {};
    for (const { name, shape } of this.about.state) {
      this.state[name] = { data: this.starts.slice(at, at + count(shape)), shape };
      at += count(shape);
    }
  }

  inputs() {
    const given = {};
    for (const [name, { data, shape }] of Object.entries(this.state)) {
      given[`state.${name}`] = new ort.Tensor("float32", data, [1, ...shape]);
    }
    return given;
  }

  // What the model tells of the present state: name -> {data, dims}.
  async look() {
    this.said = await this.tell.run(this.inputs());
    return this.said;
  }

  // One step by an action, numbers as the environment takes them.
  async step(action, chance = true) {
    const { dtype, shape } = this.about.action;
    const numbers = dtype === "int64" ? action.map((x) => BigInt(x)) : action;
    const given = this.inputs();
    given.action = new ort.Tensor(dtype, ARRAYS[dtype].from(numbers), [1, ...shape]);
    this.noise = Float32Array.from({ length: this.about.noise }, () => (chance ? this.random() : 0.5));
    if (this.about.noise) given.noise = new ort.Tensor("float32", this.noise, [1, this.about.noise]);
    const after = await this.imagine.run(given);
    for (const { name, shape: own } of this.about.state) {
      this.state[name] = { data: Float32Array.from(after[`next.${name}`].data), shape: own };
    }
    this.action = action;
    this.rows += 1;
    const said = await this.look();
    this.earned += this.told(this.reward);
    return said;
  }

  get reward() {
    return this.about.told.find((name) => name !== "continuation");
  }

  // A number of the last row: the reward by its name, or "continuation".
  told(name) {
    return Number(this.said[name].data[0]);
  }
}

function count(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

// Pictures. Other than one or three planes stand side by side.

function paint(canvas, data, [height, width, planes]) {
  const side = planes === 1 || planes === 3 ? 1 : planes;
  canvas.width = width * side;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let s = 0; s < side; s++) {
        const from = (y * width + x) * planes + s;
        const to = (y * canvas.width + s * width + x) * 4;
        for (let colour = 0; colour < 3; colour++) image.data[to + colour] = data[planes === 3 ? from + colour : from];
        image.data[to + 3] = 255;
      }
    }
  }
  context.putImageData(image, 0, 0);
}

function bars(place, key, data) {
  place.replaceChildren(...Array.from(data, (value, i) => {
    const row = document.createElement("div");
    row.className = "bar";
    const [name, number] = [document.createElement("span"), document.createElement("span")];
    const meter = document.createElement("meter");
    name.textContent = data.length > 1 ? `${key} ${i}` : key;
    number.textContent = Number(value).toPrecision(3);
    meter.min = -1;
    meter.value = Math.tanh(Number(value));
    row.append(name, meter, number);
    return row;
  }));
}

class Page {
  constructor(dream) {
    this.dream = dream;
    this.playing = false;
    this.waiting = 0;
    this.last = Promise.resolve();
    this.seed = 0;
    const { about } = dream;
    document.title = about.name;
    element("name").textContent = `A dream of ${about.name}`;
    element("about").textContent =
      `Trained for ${about.env_steps} env_steps; see model_card.md. ` +
      `Run by ONNX Runtime Web ${about.runtime.version} (${about.runtime.licence}).`;
    this.views = about.observations.map(({ key, kind, shape }) => {
      const place = document.createElement(kind === "image" ? "canvas" : "div");
      if (kind === "image") {
        place.setAttribute("role", "img");
        place.setAttribute("aria-label", `what the model shows as ${key}`);
      }
      element(kind === "image" ? "pictures" : "others").append(place);
      return { key, kind, shape, place };
    });
    this.numbers = Object.fromEntries(["row", ...about.told, "sum of rewards"].map((name) => {
      const [group, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      value.id = name.replace(/\W+/g, "-");
      group.append(term, value);
      element("told").append(group);
      return [name, value];
    }));
    for (let i = 0; i < about.starts; i++) element("start").add(new Option(String(i + 1), String(i)));
    this.wheel = about.action.kind === "box" ? new Sliders(about.action) : new Choices(about.action);
    this.listen();
  }

  listen() {
    element("pause").onclick = () => this.play(!this.playing);
    element("step").onclick = () => { this.play(false); return this.step(); };
    element("reset").onclick = () => this.reset();
    element("start").onchange = () => this.reset();
    const fps = element("fps");
    fps.value = this.dream.about.fps;
    fps.oninput = () => { element("rate").textContent = fps.value; };
    fps.oninput();
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select, input[type=range]")) return;
      const typed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (typed === " ") element("pause").click();
      else if (typed === "Enter") element("step").click();
      else if (typed === "Backspace") element("reset").click();
      else if (!this.wheel.down(typed)) return;
      event.preventDefault();
    });
    document.addEventListener("keyup", (event) => this.wheel.up(event.key.length === 1 ? event.key.toLowerCase() : event.key));
    window.addEventListener("blur", () => this.wheel.release());
  }

  get busy() {
    return this.waiting > 0;
  }

  // One thing after another: a model computes one at a time.
  alone(task) {
    this.waiting += 1;
    const done = this.last.then(task).finally(() => { this.waiting -= 1; });
    this.last = done.catch(() => {});
    return done;
  }

  reset() {
    this.play(false);
    return this.alone(async () => {
      this.seed += 1;
      this.dream.reset(Number(element("start").value), this.seed);
      await this.dream.look();
      this.show();
      this.say("Space plays, the keys below act.");
    });
  }

  play(on) {
    if (on === this.playing) return;
    this.playing = on;
    element("pause").textContent = on ? "Pause" : "Play";
    if (on) this.tick();
  }

  async tick() {
    while (this.playing) {
      const began = performance.now();
      await this.step();
      const left = 1000 / Number(element("fps").value) - (performance.now() - began);
      await new Promise((done) => setTimeout(done, Math.max(left, 0)));
    }
  }

  async step() {
    if (this.waiting > 1) return; // a key that is held asks more often than can be answered
    try {
      await this.alone(() => this.dream.step(this.wheel.action(), element("chance").checked));
      this.show();
      const over = this.dream.told("continuation") < GOING_ON;
      this.say(over ? "Here the episode ends, says the model. Backspace begins again." : "");
      if (over) this.play(false);
    } catch (error) {
      this.play(false);
      this.say(`The dream broke off: ${error.message}`);
      throw error;
    }
  }

  show() {
    for (const { key, kind, shape, place } of this.views) {
      const { data } = this.dream.said[`obs.${key}`];
      if (kind === "image") paint(place, data, shape);
      else bars(place, key, data);
    }
    this.numbers.row.textContent = this.dream.rows;
    for (const name of this.dream.about.told) this.numbers[name].textContent = this.dream.told(name).toFixed(3);
    this.numbers["sum of rewards"].textContent = this.dream.earned.toFixed(3);
  }

  say(text) {
    element("message").textContent = text;
  }
}

// The wheel: one row of buttons for each factor of discrete actions, one slider for each dimension of continuous ones.

class Choices {
  constructor({ counts, start }) {
    this.start = start;
    this.rest = counts.map((n) => (n === 3 ? 1 : 0)); // what is done while nothing is held
    this.chosen = [...this.rest];
    this.keys = new Map();
    this.buttons = counts.map((n, factor) => {
      const row = document.createElement("div");
      row.className = "factor";
      if (counts.length > 1) row.append(`${factor + 1}:`);
      const buttons = Array.from({ length: n }, (_, i) => this.button(row, factor, i, counts.length === 1));
      if (counts.length === 1 && (n === 2 || n === 3)) {
        this.keys.set("ArrowLeft", 0);
        this.keys.set("ArrowRight", n - 1);
      }
      element("actions").append(row);
      return buttons;
    });
    this.show();
  }

  button(row, factor, index, lone) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `action ${index + this.start[factor]}`;
    if (lone && index < KEYS.length) {
      const key = document.createElement("kbd");
      key.textContent = KEYS[index];
      button.append(key);
      this.keys.set(KEYS[index], index);
    }
    if (lone) {
      button.onpointerdown = () => this.choose(0, index);
      button.onpointerup = button.onpointerleave = button.onpointercancel = () => this.release();
    } else {
      button.onclick = () => this.choose(factor, index);
    }
    row.append(button);
    return button;
  }

  choose(factor, index) {
    this.chosen[factor] = index;
    this.show();
  }

  release() {
    if (this.buttons.length > 1) return;
    this.chosen = [...this.rest];
    this.show();
  }

  down(key) {
    if (!this.keys.has(key)) return false;
    this.choose(0, this.keys.get(key));
    return true;
  }

  up(key) {
    if (this.keys.get(key) === this.chosen[0]) this.release();
  }

  show() {
    this.buttons.forEach((row, factor) =>
      row.forEach((button, i) => button.setAttribute("aria-pressed", String(i === this.chosen[factor]))));
  }

  action() {
    return this.chosen.map((index, factor) => index + this.start[factor]);
  }
}

class Sliders {
  constructor({ low, high, dtype }) {
    const whole = !dtype.startsWith("float");
    this.whole = whole;
    this.keys = new Map();
    this.sliders = low.map((least, i) => {
      const row = document.createElement("label");
      row.className = "axis";
      const [slider, number] = [document.createElement("input"), document.createElement("output")];
      Object.assign(slider, { type: "range", min: least, max: high[i], step: whole ? 1 : (high[i] - least) / 200 || 1 });
      slider.value = (least + high[i]) / 2;
      slider.oninput = () => { number.textContent = Number(slider.value).toPrecision(3); };
      slider.oninput();
      row.append(`action ${i}`, slider, number);
      element("actions").append(row);
      return slider;
    });
    [["ArrowLeft", "ArrowRight"], ["ArrowDown", "ArrowUp"]].slice(0, low.length).forEach(([less, more], i) => {
      this.keys.set(less, [i, low[i]]);
      this.keys.set(more, [i, high[i]]);
    });
  }

  set(i, value) {
    this.sliders[i].value = value;
    this.sliders[i].oninput();
  }

  middle(i) {
    const { min, max } = this.sliders[i];
    return (Number(min) + Number(max)) / 2;
  }

  down(key) {
    if (!this.keys.has(key)) return false;
    this.set(...this.keys.get(key));
    return true;
  }

  up(key) {
    if (this.keys.has(key)) this.set(this.keys.get(key)[0], this.middle(this.keys.get(key)[0]));
  }

  release() {
    for (const [i] of this.keys.values()) this.set(i, this.middle(i));
  }

  action() {
    return this.sliders.map((slider) => (this.whole ? Math.round(Number(slider.value)) : Number(slider.value)));
  }
}

async function fetched(name) {
  const answer = await fetch(here(name));
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status})`);
  return answer;
}

async function begin() {
  const about = await (await fetched("dream.json")).json();
  const starts = new Float32Array(await (await fetched("starts.bin")).arrayBuffer());
  const graph = async (name) => {
    const bytes = new Uint8Array(await (await fetched(name)).arrayBuffer());
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  };
  const imagine = await graph("imagine.onnx");
  const tell = await graph("tell.onnx");
  const page = new Page(new Dream(about, imagine, tell, starts));
  await page.reset();
  window.dream = page.dream;
  window.page = page;
  document.documentElement.dataset.ready = "yes";
}

begin().catch((error) => {
  element("message").textContent = `This page cannot dream: ${error.message}`;
  console.error(error);
});
