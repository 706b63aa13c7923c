"use strict";
// Steps through a recorded session: everything it shows is in the page.

const story = JSON.parse(document.getElementById("story-data").textContent);
const { width, height, steps } = story;
const pixels = width * height;
const find = (id) => document.getElementById(id);
const [base, overlay] = find("picture").children;
const slider = find("step");
const root = document.documentElement;
let labels = new Uint16Array(pixels);
let before = new Uint16Array(pixels);
let shown = -1; // the step that `labels` belongs to
let timer = 0;

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function inflate(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  const parts = [];
  let size = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
  }
  const whole = new Uint8Array(size);
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

// Each step: number of runs, their lengths, their values (0 = as before, k + 1 = now label k).
function parse(data) {
  let place = 0;
  const number = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const octet = data[place++];
      value += (octet & 127) * factor;
      if (octet < 128) return value;
    }
  };
  const many = (count) => Array.from({ length: count }, number);
  const found = [];
  while (place < data.length) {
    const count = number();
    found.push([many(count), many(count)]);
  }
  return found;
}

function apply([lengths, values], target) {
  let start = 0;
  for (let run = 0; run < lengths.length; run++) {
    const end = start + lengths[run];
    if (values[run]) target.fill(values[run] - 1, start, end);
    start = end;
  }
}

function goTo(step, diffs) {
  if (step < shown) {
    labels.fill(0);
    shown = -1;
  }
  if (step === shown) return;
  while (shown < step) {
    before.set(labels);
    shown += 1;
    if (steps[shown].diff !== null) apply(diffs[steps[shown].diff], labels);
  }
}

function rgb(colour) {
  return [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
}

function onColour(colour) {
  const [red, green, blue] = rgb(colour);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}

function paintMasks(context, step) {
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const alpha = Math.round(Number(find("opacity").value) * 2.55);
  const colours = new Map();
  for (const instance of step.instances) {
    const [red, green, blue] = rgb(instance.colour);
    const colour = (blue << 16) | (green << 8) | red;
    colours.set(instance.id, [colour | (alpha << 24), colour | (255 << 24)]);
  }
  const mark = find("changed").checked && step.diff !== null && shown > 0;
  const white = 0xffffffff | 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at];
      if (mark && label !== before[at]) {
        const inside =
          x > 0 && x < width - 1 && y > 0 && y < height - 1 &&
          labels[at - 1] !== before[at - 1] && labels[at + 1] !== before[at + 1] &&
          labels[at - width] !== before[at - width] && labels[at + width] !== before[at + width];
        if (!inside) {
          out[at] = white;
          continue;
        }
      }
      const colour = colours.get(label);
      if (!colour) continue;
      const border =
        (x > 0 && labels[at - 1] !== label) || (x < width - 1 && labels[at + 1] !== label) ||
        (y > 0 && labels[at - width] !== label) ||
        (y < height - 1 && labels[at + width] !== label);
      out[at] = colour[border ? 1 : 0];
    }
  }
  context.putImageData(image, 0, 0);
}

function paintClicks(context, step) {
  const size = Math.max(4, Math.max(width, height) / 90);
  const colours = new Map(step.instances.map((instance) => [instance.id, instance.colour]));
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = Math.max(1, size / 3);
  for (const [x, y, instance, newest] of step.clicks) {
    const radius = newest ? size * 1.5 : size;
    const colour = instance ? colours.get(instance) : "#000000";
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.strokeStyle = "#fff";
    context.fill();
    context.stroke();
    if (instance) {
      context.fillStyle = onColour(colour);
      context.font = `${Math.max(7, radius * 1.4)}px sans-serif`;
      context.fillText(instance, x, y);
    } else {
      const arm = radius * 0.45;
      context.beginPath();
      context.moveTo(x - arm, y - arm);
      context.lineTo(x + arm, y + arm);
      context.moveTo(x - arm, y + arm);
      context.lineTo(x + arm, y - arm);
      context.stroke();
    }
  }
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function describe(step, index) {
  find("caption").textContent = step.caption;
  find("changes").textContent = step.changes;
  find("count").textContent = `${index} / ${steps.length - 1}`;
  const rows = step.instances.map((instance) => {
    const row = document.createElement("li");
    const swatch = element("span", String(instance.id), "swatch");
    swatch.style.setProperty("background", instance.colour);
    swatch.style.setProperty("color", onColour(instance.colour));
    const area = instance.area.toLocaleString("en").replaceAll(",", "\u202f");
    row.append(swatch, element("span", instance.name), element("span", `${area} px`));
    return row;
  });
  find("instances").replaceChildren(...rows);
  find("first").disabled = find("back").disabled = index === 0;
  find("next").disabled = index === steps.length - 1;
}

function show(diffs) {
  const index = Number(slider.value);
  goTo(index, diffs);
  const context = overlay.getContext("2d");
  paintMasks(context, steps[index]);
  paintClicks(context, steps[index]);
  describe(steps[index], index);
  root.dataset.step = String(index);
}

function stop() {
  clearInterval(timer);
  timer = 0;
  find("play").textContent = "▶";
  find("play").setAttribute("aria-label", "play");
}

function setUp(diffs) {
  const move = (to) => {
    slider.value = String(Math.min(Math.max(to, 0), steps.length - 1));
    show(diffs);
  };
  const by = (change) => {
    stop();
    move(Number(slider.value) + change);
  };
  const play = () => {
    if (timer) return stop();
    if (Number(slider.value) === steps.length - 1) move(0);
    find("play").textContent = "❚❚";
    find("play").setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      move(Number(slider.value) + 1);
      if (Number(slider.value) === steps.length - 1) stop();
    }, story.pace);
  };
  slider.addEventListener("input", () => by(0));
  find("first").addEventListener("click", () => by(-steps.length));
  find("back").addEventListener("click", () => by(-1));
  find("next").addEventListener("click", () => by(1));
  find("play").addEventListener("click", play);
  for (const id of ["opacity", "changed"]) {
    find(id).addEventListener("input", () => show(diffs));
  }
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, button") || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowRight") by(1);
    else if (event.key === "ArrowLeft") by(-1);
    else if (event.key === " ") play();
    else return;
    event.preventDefault();
  });
  move(0);
  root.dataset.ready = "1";
}

async function begin() {
  for (const canvas of [base, overlay]) {
    canvas.width = width;
    canvas.height = height;
  }
  slider.max = String(steps.length - 1);
  const context = base.getContext("2d");
  context.fillStyle = "#606060";
  context.fillRect(0, 0, width, height);
  if (story.picture) {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${story.picture}`;
    await image.decode();
    context.drawImage(image, 0, 0, width, height);
  }
  setUp(parse(await inflate(bytes(story.runs))));
}

begin().catch((error) => {
  find("caption").textContent = `This page could not be shown: ${error.message}`;
  root.dataset.ready = "failed";
});
