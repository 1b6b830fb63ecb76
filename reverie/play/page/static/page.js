// The page of `reverie play`: draws the moments that the server sends, and sends what keys, fingers and buttons ask for.
// Messages are described in messages.py; nothing is computed here but the difference of two pictures.
"use strict";

const $ = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Space: "Space" };
const keyName = (code) => KEYS[code] || code.replace(/^(Key|Digit)/, "");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fixed = (x, digits = 2) => (typeof x === "number" ? x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") : x === null || x === undefined ? "–" : String(x));
const signed = (x) => (typeof x === "number" && Number(x.toFixed(2)) > 0 ? "+" : "") + fixed(x);

let socket = null;
let hello = null;
let last = null; // the view that is shown
let parts = {};
const traces = new Map(); // position -> numbers, for the curves
const scales = {}; // of bars: the largest magnitude that was seen

// Talking

function connect() {
  const key = new URLSearchParams(location.search).get("key") || "";
  socket = new WebSocket(`ws://${location.host}/play?key=${encodeURIComponent(key)}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => receive(event.data);
  socket.onclose = (event) => {
    $("gone-text").textContent = event.reason || "The server has gone, or closed this visit.";
    $("gone").hidden = false;
  };
}

function send(command) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command));
}

function receive(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const message = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  if (message.kind === "hello") begin(message);
  else if (message.kind === "error") say(message.text, true);
  else if (message.kind === "view") {
    parts = {};
    for (const part of message.parts) {
      const count = part.shape.reduce((a, b) => a * b, 1);
      parts[part.name] = { shape: part.shape, data: new Uint8Array(buffer, 4 + length + part.at, count) };
    }
    show(message);
    send({ do: "ack", frame: message.frame });
  }
}

let told = "";
let wrongUntil = 0; // what went wrong stays for a while
function say(text, wrong = false) {
  if (wrong) wrongUntil = Date.now() + 6000;
  else if (text === told || (!text && Date.now() < wrongUntil)) return;
  told = text;
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

// What is played

function begin(message) {
  hello = message;
  traces.clear();
  document.title = `${hello.run} – Reverie`;
  const what = $("what");
  what.replaceChildren();
  const agent = document.createElement("b");
  agent.textContent = hello.agent;
  what.append(agent, ` on ${hello.env}, after ${hello.env_steps.toLocaleString("en")} env_steps`);
  if (typeof hello.optimal_score === "number") what.append(` · best score ${hello.optimal_score}`);
  $("lacks").textContent = hello.lacks.join(" ");
  $("lacks").hidden = !hello.lacks.length;
  for (const element of document.querySelectorAll(".dreaming")) element.hidden = !hello.dreams;
  for (const id of ["dream", "difference", "here"]) $(id).hidden = !hello.dreams;
  $("stage").classList.toggle("alone", !hello.dreams);
  $("stage").classList.toggle("numbers", !hello.images.length);
  $("settings-title").textContent = hello.dreams ? "Time and dream" : "Time";
  $("replay").disabled = !hello.replay;
  $("replay").title = hello.replay ? "R" : "This run has no replay";
  $("record").hidden = !hello.recordable;
  $("dreams").max = hello.limits.dreams;
  $("speed").max = hello.limits.speed;
  makeActions(hello.controls);
  makeKeys(hello.controls);
  $("stage").focus({ preventScroll: true });
}

function makeKeys(controls) {
  const rows = controls.names.map((name, i) => [controls.chords[i].map(keyName).join(controls.kind === "choice" ? " + " : " "), name]);
  const space = controls.chords.some((chord) => chord.includes("Space"));
  rows.push([space ? "P" : "P Space", "play or pause"], [". ,", "one moment on or back"], ["F", "fresh episode"]);
  if (hello.replay) rows.push(["R", "from the replay"]);
  if (hello.dreams) rows.push(["D", "dream on from here"], ["L", "the world goes along, or waits"]);
  rows.push(["T", "who is at the wheel"]);
  $("keys").replaceChildren();
  for (const [keys, meaning] of rows.filter((row) => row[0])) {
    const dt = document.createElement("dt");
    for (const key of keys.split(" ")) {
      const kbd = document.createElement("kbd");
      kbd.textContent = key;
      dt.append(kbd, " ");
    }
    const dd = document.createElement("dd");
    dd.textContent = meaning;
    $("keys").append(dt, dd);
  }
}

// Acting

const pressed = new Set();
let finger = null; // the action under a finger
let sliders = [];
let sent = "null";

function makeActions(controls) {
  const box = $("actions");
  box.replaceChildren();
  sliders = [];
  controls.names.forEach((name, i) => {
    const keys = controls.chords[i].map(keyName);
    if (controls.kind === "choice") {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.action = i;
      button.append(name);
      const kbd = document.createElement("kbd");
      kbd.textContent = keys.join(" + ") || (i === controls.idle ? "no key" : "");
      kbd.setAttribute("aria-hidden", "true");
      button.append(kbd);
      if (keys.length) button.setAttribute("aria-keyshortcuts", controls.chords[i].join("+"));
      button.onpointerdown = (event) => {
        button.setPointerCapture(event.pointerId);
        finger = i;
        act();
      };
      button.onpointerup = button.onpointercancel = button.onlostpointercapture = () => {
        finger = null;
        act();
      };
      button.onclick = (event) => {
        if (event.detail) return; // a finger or a mouse, which has been heard already
        finger = i;
        act();
        finger = null;
        act();
      };
      box.append(button);
      return;
    }
    const label = document.createElement("label");
    label.className = "number";
    const text = document.createElement("span");
    text.textContent = name + (keys.length ? ` ${keys.join(" ")}` : "");
    const input = document.createElement("input");
    const number = controls.kind === "numbers";
    Object.assign(input, { type: "range", min: number ? -1 : 0, max: number ? 1 : controls.sizes[i] - 1, step: number ? 0.05 : 1 });
    input.value = 0;
    const output = document.createElement("output");
    input.oninput = () => act();
    label.append(text, input, output);
    sliders.push({ input, output });
    box.append(label);
  });
  $("actions-hint").textContent =
    controls.idle === null
      ? "No action means “nothing” here, so time waits for yours."
      : controls.kind === "choice"
        ? `While nothing is held: ${controls.names[controls.idle]}.`
        : "Keys pull a number all the way; sliders stay where they are put.";
}

function chosen() {
  const controls = hello.controls;
  if (controls.kind === "choice") {
    if (finger !== null) return finger;
    let best = null;
    controls.chords.forEach((chord, i) => {
      if (chord.length && chord.every((key) => pressed.has(key)) && (best === null || chord.length > controls.chords[best].length)) best = i;
    });
    return best;
  }
  const values = sliders.map(({ input, output }, i) => {
    const [down, up] = controls.chords[i];
    let value = Number(input.value);
    if (pressed.has(down) !== pressed.has(up)) value = Number(pressed.has(up) ? input.max : input.min);
    output.textContent = controls.kind === "numbers" ? value.toFixed(2) : String(value);
    return value;
  });
  return values.some((value) => value !== 0) ? values : null;
}

function act() {
  if (!hello) return;
  const action = chosen();
  for (const button of $("actions").querySelectorAll("button")) button.classList.toggle("held", Number(button.dataset.action) === action);
  const text = JSON.stringify(action);
  if (text === sent) return;
  sent = text;
  hold(action);
}

// While time stands still, an action is a step. Whether it does is known over there: what is shown here may be older.
const hold = (action) => send({ do: "hold", action, step: action !== null && hello.controls.kind === "choice" });

const isAction = (code) => hello && hello.controls.chords.some((chord) => chord.includes(code));
// Sliders and switches keep the keys that move them; there is nothing to write in.
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
const OWN = { range: [...ARROWS, "Home", "End", "PageUp", "PageDown"], radio: [...ARROWS, "Space"], checkbox: ["Space"] };
const owns = (target, code) => target.matches("input") && OWN[target.type].includes(code);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !hello || owns(event.target, event.code)) return;
  const onButton = event.target.matches("button, summary") && (event.code === "Space" || event.code === "Enter");
  if (isAction(event.code) && !onButton) {
    event.preventDefault();
    pressed.add(event.code);
    if (event.repeat) {
      if (hello.controls.kind === "choice" && last && !last.running) hold(chosen());
    } else act();
    return;
  }
  if (event.repeat && !["Comma", "Period"].includes(event.code)) return;
  const shortcuts = {
    KeyP: () => $("play").click(),
    Space: onButton ? null : () => $("play").click(),
    Period: () => $("step").click(),
    Comma: () => $("back").click(),
    KeyF: () => $("fresh").click(),
    KeyR: () => $("replay").click(),
    KeyD: () => hello.dreams && $("here").click(),
    KeyL: () => hello.dreams && $("along").click(),
    KeyT: () => nextWheel(),
  };
  if (shortcuts[event.code]) {
    event.preventDefault();
    shortcuts[event.code]();
  }
});
addEventListener("keyup", (event) => {
  if (pressed.delete(event.code)) act();
});
addEventListener("blur", () => {
  pressed.clear();
  finger = null;
  act();
});
document.addEventListener("visibilitychange", () => document.hidden && last && last.running && send({ do: "pause" }));

function nextWheel() {
  const radios = [...document.querySelectorAll("input[name=wheel]")];
  const next = radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length];
  next.checked = true;
  send({ do: "set", wheel: next.value });
}

$("play").onclick = () => send({ do: last && last.running ? "pause" : "play" });
$("step").onclick = () => send({ do: "step" });
$("back").onclick = () => send({ do: "back", by: 1 });
$("fresh").onclick = () => send({ do: "fresh" });
$("replay").onclick = () => send({ do: "replay" });
$("here").onclick = () => send({ do: "here" });
$("record").onclick = () => send({ do: "record", on: $("record").getAttribute("aria-pressed") !== "true" });
$("again").onclick = () => location.reload();
$("scrub").oninput = () => send({ do: "to", position: Number($("scrub").value) });
for (const id of ["speed", "horizon", "dreams"]) $(id).oninput = () => send({ do: "set", [id]: Number($(id).value) });
for (const id of ["along", "likely", "patient"]) $(id).onchange = () => send({ do: "set", [id]: $(id).checked });
for (const radio of document.querySelectorAll("input[name=wheel]")) radio.onchange = () => send({ do: "set", wheel: radio.value });
// A mouse or a finger leaves no focus behind on what the arrow keys would move.
addEventListener("click", (event) => event.detail && event.target.matches("input") && event.target.blur());
addEventListener("pointerup", (event) => {
  if (event.target.closest("label")) setTimeout(() => document.activeElement.matches("input") && document.activeElement.blur());
});

// Pictures

function canvasIn(box, key, height, width) {
  let canvas = box.querySelector(`canvas[data-key="${CSS.escape(key)}"]`);
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.dataset.key = key;
    canvas.setAttribute("role", "img");
    box.append(canvas);
  }
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return canvas;
}

function paint(canvas, data, colour) {
  // data: a byte or three for each pixel; colour: of a byte, [r, g, b], or null for what is RGB already
  const context = canvas.getContext("2d", { willReadFrequently: true }); // small and changed often: no GPU
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0, n = canvas.width * canvas.height; i < n; i++) {
    const rgb = colour ? colour(data[i]) : [data[3 * i], data[3 * i + 1], data[3 * i + 2]];
    image.data.set(rgb, 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

const between = (stops, x) => {
  const at = Math.min(Math.max(x, 0), 0.9999) * (stops.length - 1);
  const [a, b] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
  return a.map((v, i) => Math.round(v + (b[i] - v) * (at % 1)));
};
const HEAT = [[9, 8, 20], [76, 40, 130], [190, 55, 110], [250, 140, 60], [255, 245, 190]];
const COLD = [[70, 150, 255], [24, 23, 34], [255, 150, 60]];
const heat = Array.from({ length: 256 }, (_, i) => between(HEAT, i / 255));
const signs = Array.from({ length: 256 }, (_, i) => between(COLD, i / 255));

function bars(box, numbers, from) {
  // numbers: key -> list; from: only for names of what stands in several panes
  let list = box.querySelector("ol.bars");
  const entries = Object.entries(numbers).flatMap(([key, values]) => values.map((value, i) => [values.length > 1 ? `${key} ${i + 1}` : key, value]));
  if (!entries.length) {
    if (list) list.remove();
    return;
  }
  if (!list) {
    list = document.createElement("ol");
    list.className = "bars";
    box.append(list);
  }
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach(([name, value], i) => {
    if (!list.children[i]) {
      const item = document.createElement("li");
      item.innerHTML = '<span class="name"></span><span class="track"><i></i></span><span class="value"></span>';
      list.append(item);
    }
    const item = list.children[i];
    scales[name] = Math.max(scales[name] || 1e-6, Math.abs(value) || 0);
    bar(item.querySelector("i"), value / scales[name] / 2, 0.5);
    item.querySelector(".name").textContent = name;
    item.querySelector(".value").textContent = fixed(value);
  });
}

function bar(element, length, zero = 0) {
  element.style.left = `${100 * (zero + Math.min(length, 0))}%`;
  element.style.width = `${100 * Math.abs(length)}%`;
}

// A moment

function show(view) {
  last = view;
  const { world, dream } = view;
  document.body.dataset.position = view.position;
  say(view.said, false);
  $("play-text").textContent = view.running ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", view.running);
  $("back").disabled = view.position <= view.oldest;
  Object.assign($("scrub"), { min: view.oldest, max: Math.max(view.newest, view.oldest + 1), disabled: view.newest === view.oldest });
  $("scrub").value = view.position;
  $("position").textContent = view.position === view.newest ? `${view.position}` : `${view.position} of ${view.newest}`;
  settings(view.settings);
  if (view.recording) {
    $("record").setAttribute("aria-pressed", view.recording.on);
    $("record").textContent = view.recording.on ? "Recording …" : "Record";
    $("recorded").textContent = view.recording.rows ? `${view.recording.rows} rows written` : "";
  }
  panes(view);
  grid(view);
  live(view);
  would(view);
  curves(view);
  inside();
  const by = { person: "you", agent: "the agent", recorded: "the recording" }[view.by];
  const taken = hello.controls.kind === "choice" && view.action !== null ? hello.controls.names[view.action] : null;
  for (const button of $("actions").querySelectorAll("button")) {
    button.classList.toggle("chosen", Number(button.dataset.action) === view.action);
    button.disabled = Boolean(world.mask) && world.mask[Number(button.dataset.action)] < 0.5;
  }
  $("world-under").textContent = taken ? `${taken} (${by}) · score ${signed(world.score)}` : `score ${signed(world.score)}`;
}

function settings(chosen) {
  const now = document.activeElement;
  for (const id of ["speed", "horizon", "dreams"]) if ($(id) !== now || !$(id).matches(":active")) $(id).value = chosen[id];
  for (const id of ["along", "likely", "patient"]) $(id).checked = chosen[id];
  for (const radio of document.querySelectorAll("input[name=wheel]")) radio.checked = radio.value === chosen.wheel;
  $("speed-text").textContent = `${chosen.speed} a second`;
  $("horizon-text").textContent = `${chosen.horizon} steps`;
  $("dreams-text").textContent = String(chosen.dreams);
}

function panes(view) {
  const { world, dream } = view;
  const waits = !view.settings.along || world.left;
  for (const [name, part] of Object.entries(parts)) {
    if (name === "world.picture" || name.startsWith("world/")) {
      const [height, width] = part.shape;
      const canvas = canvasIn($("world-screen"), name, height, width);
      canvas.setAttribute("aria-label", `World, step ${world.step}`);
      paint(canvas, part.data, null);
    } else if (name.startsWith("dream/")) {
      const [, height, width] = part.shape;
      const canvas = canvasIn($("dream-screen"), name, height, width);
      canvas.setAttribute("aria-label", `Dream, step ${dream.step}`);
      paint(canvas, part.data.subarray(0, height * width * 3), null);
    }
  }
  bars($("world-screen"), world.numbers);
  $("world-mark").textContent = world.left
    ? "left the recording"
    : !view.settings.along && dream && dream.apart ? "waits"
    : world.terminal ? "the end" : world.last ? "cut off" : world.first ? "an episode begins" : `step ${world.step}`;
  $("world-screen").classList.toggle("dim", Boolean(waits && dream && dream.apart));
  if (!dream) return;
  bars($("dream-screen"), dream.numbers);
  const made = dream.false[0];
  $("dream-mark").textContent = made ? "made-up reward" : dream.over[0] ? "says: the end" : dream.step ? `step ${dream.step} of ${view.settings.horizon}` : "begins here";
  $("dream-mark").classList.toggle("false", Boolean(made));
  $("dream-screen").classList.toggle("dim", dream.over[0] && dream.step > 0 && !world.last);
  $("dream-under").textContent = `dreamed score ${signed(dream.returns[0])}`;
  difference(view);
}

function difference(view) {
  const { world, dream } = view;
  const apart = dream.apart;
  $("difference-mark").textContent = apart ? "nothing to compare" : "";
  $("difference-under").textContent = apart ? "The world did not go this way." : `squared error ${dream.error === null ? "–" : dream.error.toExponential(1)}`;
  $("difference-screen").classList.toggle("dim", apart);
  for (const key of hello.images) {
    const [seen, told] = [parts[`world/${key}`], parts[`dream/${key}`]];
    if (!told || apart) continue;
    const [height, width] = seen.shape;
    const values = new Uint8Array(height * width);
    for (let i = 0; i < values.length; i++) {
      let sum = 0;
      for (let c = 0; c < 3; c++) sum += Math.abs(seen.data[3 * i + c] - told.data[3 * i + c]);
      values[i] = sum / 3;
    }
    const canvas = canvasIn($("difference-screen"), key, height, width);
    canvas.setAttribute("aria-label", "Difference of world and dream");
    paint(canvas, values, (v) => heat[v]);
  }
  const numbers = {};
  for (const [key, values] of Object.entries(world.numbers)) {
    if (dream.numbers[key]) numbers[key] = values.map((value, i) => (apart ? 0 : dream.numbers[key][i] - value));
  }
  bars($("difference-screen"), numbers);
}

function grid(view) {
  const { dream } = view;
  const several = Boolean(dream) && dream.over.length > 1;
  $("many").hidden = !several;
  if (!several) {
    $("grid").replaceChildren();
    return;
  }
  const box = $("grid");
  const wanted = dream.over.length + (parts.spread ? 1 : 0);
  while (box.children.length > wanted) box.lastChild.remove();
  while (box.children.length < wanted) {
    const figure = document.createElement("figure");
    figure.append(document.createElement("figcaption"));
    box.append(figure);
  }
  const main = hello.images.length ? parts[`dream/${hello.images[0]}`] : null;
  dream.over.forEach((over, i) => {
    const figure = box.children[i];
    figure.classList.toggle("over", over);
    if (main) {
      const [, height, width] = main.shape;
      const canvas = canvasIn(figure, "dream", height, width);
      canvas.setAttribute("aria-label", `Dream ${i + 1}`);
      figure.prepend(canvas);
      paint(canvas, main.data.subarray(i * height * width * 3, (i + 1) * height * width * 3), null);
    }
    const caption = figure.querySelector("figcaption");
    caption.textContent = dream.done[i] ? "over" : `${signed(dream.said.reward[i])}${over ? " · the end" : ""}`;
    caption.classList.toggle("false", Boolean(dream.false[i]));
  });
  if (parts.spread) {
    const figure = box.children[wanted - 1];
    figure.classList.remove("over");
    const [height, width] = parts.spread.shape;
    const canvas = canvasIn(figure, "spread", height, width);
    figure.prepend(canvas);
    for (const other of figure.querySelectorAll('canvas:not([data-key="spread"])')) other.remove();
    canvas.setAttribute("aria-label", "How far the dreams are apart");
    paint(canvas, parts.spread.data, (v) => heat[v]);
    const caption = figure.querySelector("figcaption");
    caption.textContent = "apart";
    caption.classList.remove("false");
  }
  const rewards = dream.said.reward;
  const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
  const deviation = Math.sqrt(rewards.reduce((a, b) => a + (b - mean) ** 2, 0) / rewards.length);
  $("spread").textContent = `Mean deviation ${fixed(dream.spread, 3)}; reward ${signed(mean)} ± ${fixed(deviation)}.` + (view.settings.likely ? " With the most likely latents they are all the same." : "");
}

function row(name, ...cells) {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = name;
  tr.append(th);
  for (const [i, cell] of cells.entries()) {
    if (i > 0 && !hello.dreams) break;
    const td = document.createElement("td");
    const [text, wrong] = Array.isArray(cell) ? cell : [cell, false];
    td.textContent = text;
    td.classList.toggle("false", Boolean(wrong));
    tr.append(td);
  }
  return tr;
}

function live(view) {
  const { world, dream } = view;
  const seen = world.said;
  const said = dream ? dream.said : {};
  const first = (x) => (Array.isArray(x) ? x[0] : x);
  const dreamt = dream && dream.step > 0 && !dream.done[0];
  const made = Boolean(dream && dream.false[0]);
  const truth = dream && dream.apart ? "–" : signed(world.reward);
  const rows = [];
  rows.push(row("reward", truth, signed(first(seen.reward)), [dreamt ? signed(first(said.reward)) + (made ? " ✗" : "") : "–", made]));
  if (seen.continuation) rows.push(row("goes on", dream && dream.apart ? "–" : world.terminal ? "0" : "1", fixed(first(seen.continuation)), dreamt ? fixed(first(said.continuation)) : "–"));
  if (seen.value) rows.push(hello.dreams ? row("value", "", fixed(first(seen.value)), dreamt ? fixed(first(said.value)) : "–") : row("value", fixed(first(seen.value))));
  if (typeof seen.kl === "number") rows.push(row("surprise (KL, nats)", "", fixed(seen.kl), ""));
  if (typeof seen.entropy === "number") {
    rows.push(hello.dreams ? row("actor's entropy", "", fixed(seen.entropy), dreamt ? fixed(said.entropy) : "–") : row("actor's entropy", fixed(seen.entropy)));
  }
  if (hello.remembers) rows.push(row("ΔQ after burn-in", seen.delta_q === null || seen.delta_q === undefined ? "–" : fixed(seen.delta_q, 3)));
  $("live").querySelector("tbody").replaceChildren(...rows);
  const hints = [];
  if (hello.unit !== "reward") hints.push(`The model learns ${hello.unit}; seen and dreamed rewards are that.`);
  if (made) hints.push("✗ The world did not pay this.");
  if (hello.remembers) hints.push(seen.burn_in ? `Values with the memory carried until here, against a memory of the last ${seen.burn_in} rows alone.` : "There are no earlier rows to burn a memory in with yet.");
  $("live-hint").textContent = hints.join(" ");
}

function would(view) {
  const seen = view.world.said;
  const dreamed = view.dream && view.dream.step && !view.dream.done[0] ? view.dream.said : {};
  const flat = (lists) => (lists || []).flat();
  let values = [], other = [], names = [], centred = false, hint = "";
  if (seen.probabilities) {
    [values, other] = [flat(seen.probabilities), flat(dreamed.probabilities)];
    names = hello.controls.kind === "choice" ? hello.controls.names : hello.controls.sizes.flatMap((n, i) => Array.from({ length: n }, (_, k) => `${hello.controls.names[i]}: ${k}`));
    hint = other.length ? "Probabilities of actions: at what is seen, and below in the dream." : "Probabilities of actions.";
  } else if (seen.q) {
    [values, names] = [seen.q, hello.controls.names];
    centred = true;
    hint = "Action values, in units of reward.";
  } else if (seen.mean) {
    [values, other, names] = [seen.mean, dreamed.mean || [], hello.controls.names];
    centred = true;
    hint = "Means of the actions' distribution.";
  } else hint = `It would do ${JSON.stringify(view.agent)}.`;
  const most = centred ? Math.max(1e-6, ...values.map(Math.abs), ...other.map(Math.abs)) : 1;
  const best = values.indexOf(Math.max(...values));
  const list = $("would");
  while (list.children.length > values.length) list.lastChild.remove();
  values.forEach((value, i) => {
    if (!list.children[i]) {
      const item = document.createElement("li");
      item.innerHTML = '<span class="name"></span><span class="track"><i></i><i class="d"></i></span><span class="value"></span>';
      list.append(item);
    }
    const item = list.children[i];
    const [here, there] = item.querySelectorAll("i");
    item.querySelector(".track").classList.toggle("from-zero", !centred);
    bar(here, centred ? value / most / 2 : value, centred ? 0.5 : 0);
    bar(there, other.length ? (centred ? other[i] / most / 2 : other[i]) : 0, centred ? 0.5 : 0);
    item.querySelector(".name").textContent = names[i];
    item.querySelector(".value").textContent = fixed(value);
    item.classList.toggle("best", i === best && !seen.mean);
  });
  $("would-hint").textContent = hint;
}

const SHOWN = 120; // moments in a curve, at most
const LEAST = 40;

function curves(view) {
  const { world, dream } = view;
  for (const position of traces.keys()) if (position > view.newest || position < view.oldest) traces.delete(position);
  const first = (x) => (Array.isArray(x) ? x[0] : x);
  const dreamt = dream && dream.step > 0 && !dream.done[0];
  if (view.position === 0 && view.newest === 0) traces.clear();
  traces.set(view.position, {
    reward: dream && dream.apart ? null : world.reward,
    dreamReward: dreamt ? first(dream.said.reward) : null,
    made: Boolean(dream && dream.false[0]),
    value: dream && dream.apart ? null : first(world.said.value),
    dreamValue: dreamt ? first(dream.said.value) : null,
    on: dream && dream.apart ? null : first(world.said.continuation),
    dreamOn: dreamt ? first(dream.said.continuation) : null,
    kl: dream && dream.apart ? null : world.said.kl,
    error: dream && !dream.apart ? dream.error : null,
    best: world.said.q ? Math.max(...world.said.q) : null,
    delta: world.said.delta_q,
  });
  const plots = [["reward", "reward", "dreamReward"]];
  if (world.said.value) plots.push(["value", "value", "dreamValue"]);
  if (world.said.continuation) plots.push(["goes on", "on", "dreamOn"]);
  if (typeof world.said.kl === "number") plots.push(["surprise (KL, nats)", "kl", null]);
  if (dream) plots.push(["squared error of the dream", null, "error"]);
  if (world.said.q) plots.push(["highest action value", "best", null]);
  if (hello.remembers) plots.push(["ΔQ after burn-in", "delta", null]);
  const box = $("traces");
  while (box.children.length > plots.length) box.lastChild.remove();
  plots.forEach(([title, one, two], i) => {
    if (!box.children[i]) {
      const div = document.createElement("div");
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      div.append(document.createElement("span"), canvas);
      box.append(div);
    }
    box.children[i].querySelector("span").textContent = title;
    const canvas = box.children[i].querySelector("canvas");
    canvas.setAttribute("aria-label", `${title} so far`);
    plot(canvas, view, one, two);
  });
}

function plot(canvas, view, one, two) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.max(canvas.clientWidth, 50), 46];
  if (canvas.width !== Math.round(width * ratio)) Object.assign(canvas, { width: Math.round(width * ratio), height: height * ratio });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const end = Math.max(view.position, Math.min(view.newest, view.position + 20));
  const start = Math.max(view.oldest, end - SHOWN);
  const span = Math.max(LEAST, end - start);
  const points = [];
  for (let position = start; position <= end; position++) points.push([position, traces.get(position)]);
  const number = (x) => typeof x === "number";
  const all = points.flatMap(([, t]) => (t ? [one && t[one], two && t[two]].filter(number) : []));
  const [low, high] = [Math.min(0, ...all), Math.max(one === "kl" || two === "error" ? 1e-6 : 0.1, ...all)];
  const x = (position) => 4 + ((position - start) / span) * (width - 40);
  const y = (value) => height - 5 - ((value - low) / (high - low || 1)) * (height - 10);
  context.strokeStyle = css("--line");
  context.beginPath();
  context.moveTo(0, y(0));
  context.lineTo(width - 34, y(0));
  context.stroke();
  const line = (name, colour, dash) => {
    context.strokeStyle = colour;
    context.lineWidth = 1.8;
    context.setLineDash(dash);
    context.beginPath();
    let open = false;
    for (const [position, t] of points) {
      if (!t) continue; // a moment that was too quick to be looked at
      if (number(t[name])) {
        if (open) context.lineTo(x(position), y(t[name]));
        else context.moveTo(x(position), y(t[name]));
        open = true;
      } else open = false;
    }
    context.stroke();
    context.setLineDash([]);
  };
  if (one) line(one, css(one === "reward" ? "--world" : "--seen"), []);
  if (two) line(two, css("--dream"), [4, 3]);
  if (one === "reward") {
    context.fillStyle = css("--false");
    for (const [position, t] of points) if (t && t.made) context.fillRect(x(position) - 2, y(t.dreamReward) - 2, 5, 5);
  }
  context.fillStyle = css("--soft");
  context.globalAlpha = 0.35;
  context.fillRect(x(view.position), 0, 1, height);
  context.globalAlpha = 1;
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "right";
  const digits = (v) => (Math.abs(v) >= 1000 || Math.abs(v) < 0.05 ? v.toExponential(0) : v.toFixed(Math.abs(v) >= 10 ? 0 : 1));
  context.fillText(digits(high), width - 2, 10);
  if (low < -0.05 * high) context.fillText(digits(low), width - 2, height - 2);
}

const TITLES = { posterior: "seen: posterior", prior: "expected: prior", dream_prior: "dreamed: prior" };

function inside() {
  const names = Object.keys(parts).filter((name) => TITLES[name] || name.startsWith("memory."));
  $("inside").hidden = !names.length;
  const box = $("pictures");
  for (const figure of [...box.children]) if (!names.includes(figure.dataset.name)) figure.remove();
  for (const name of names) {
    let figure = box.querySelector(`figure[data-name="${name}"]`);
    if (!figure) {
      figure = document.createElement("figure");
      figure.dataset.name = name;
      const caption = document.createElement("figcaption");
      caption.textContent = TITLES[name] || name.replace("memory.", "memory: ");
      figure.append(caption);
      box.append(figure);
    }
    const [height, width] = parts[name].shape;
    const canvas = canvasIn(figure, name, height, width);
    canvas.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
    figure.prepend(canvas);
    paint(canvas, parts[name].data, (v) => (name.startsWith("memory.") ? signs[v] : heat[v]));
  }
  const latent = names.includes("posterior");
  $("inside-hint").textContent = latent
    ? hello.gaussian ? "Gaussian latents: means above, deviations below." : "Each line is a categorical latent, each cell a class: the lighter, the likelier."
    : names.length ? "Blue is below zero, orange above." : "";
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => last && show(last));
addEventListener("resize", () => last && show(last));
connect();
