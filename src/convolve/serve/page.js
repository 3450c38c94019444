"use strict";

// A picture goes to `predict`, which says what it is, and then to `explainClass`, which says where that is seen. Both are in
// asking.js, which is sent with this file: the one in serve/ asks a server, the one in web/ the model beside the page.

const byId = (id) => document.getElementById(id);
const main = document.querySelector("main");
const places = Number(main.dataset.places);
const target = main.dataset.target; // what the model answers: class, classes, number
const drawn = main.classList.contains("drawn");

let picture = null; // the Blob that the answer is about
let asking = new AbortController();
let explaining = new AbortController();

// -- ask ----------------------------------------------------------------------------------------------------------------

async function ask(blob, note) {
  stop();
  picture = blob;
  asking = new AbortController();
  main.dataset.state = "asking";
  try {
    const answer = await predict(blob, asking.signal);
    showAnswer(answer, note);
    if (target === "number") main.dataset.state = "done";
    else await explain(answer.classes[0]);
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error.message);
  }
}

async function explain(found) {
  explaining.abort();
  explaining = new AbortController();
  main.dataset.state = "looking";
  byId("what").textContent = found.class;
  for (const button of byId("classes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.value) === found.index));
  }
  try {
    const { change } = await explainClass(found.index, picture, explaining.signal);
    showMap(change, found.class);
    main.dataset.state = "done";
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error.message);
  }
}

function stop() {
  asking.abort();
  explaining.abort();
}

// -- answer -------------------------------------------------------------------------------------------------------------

function percent(probability) {
  if (probability > 0.999) return ">\u202f99.9\u202f%";
  if (probability < 0.001) return "<\u202f0.1\u202f%";
  return `${(100 * probability).toFixed(1)}\u202f%`;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const LAST_SQUARE = 64; // pixels: smaller pictures are shown without smoothing

// [answer, what is said about it] in large letters.
function headlines({ classes = [], numbers = {}, none_of_these: isNone, possible, intervals }) {
  const short = (value) => String(Number(value.toPrecision(5)));
  const strange = isNone ? [["None of these", "like nothing it was trained on"]] : [];
  if (target === "number") {
    const between = (name) => (intervals ? `${name}, ${intervals[name].map(short).join(" to ")}` : name);
    return [...strange, ...Object.entries(numbers).map(([name, value]) => [short(value), between(name)])];
  }
  if (target === "classes") {
    const said = classes.filter((found) => found.over).map((found) => [found.class, percent(found.probability)]);
    return [...strange, ...(said.length ? said : [["none", "of the classes"]])];
  }
  const [best] = classes;
  const likeness = isNone ? `nearest: ${best.class}, ${percent(best.probability)}` : percent(best.probability);
  return [[isNone ? "None of these" : best.class, likeness + also(isNone, possible)]];
}

function showAnswer(answer, note) {
  const { classes = [], fitted, seen } = answer;
  const large = headlines(answer);
  byId("problem").hidden = true;
  byId("best").replaceChildren(...large.flatMap(([said, of]) => [element("strong", "", said), element("span", "", of)]));
  byId("best").classList.toggle("words", large.length > 1 || large[0][0].length > 3);
  main.classList.toggle("short", classes.every((found) => found.class.length <= 3));
  byId("classes").replaceChildren(...classes.map(row));
  byId("fitted").textContent = note ?? (fitted && `The image was ${fitted}.`);
  byId("spoken").textContent = large.map((pair) => pair.join(", ")).join("; ");
  for (const id of ["seen", "under"]) {
    byId(id).src = seen;
    byId(id).hidden = false;
    byId(id).onload = ({ target }) => target.classList.toggle("pixels", target.naturalWidth <= LAST_SQUARE);
  }
  byId("seen").alt = "The picture as the model sees it";
}

// The other possible classes, if the model has learned how sure it is.
function also(isNone, possible) {
  if (isNone || !possible || possible.length === 1) return "";
  return possible.length ? `, perhaps ${possible.slice(1, 4).join(" or ")}` : ", unsure";
}

function row(found) {
  const button = element("button", "");
  const bar = element("i", "");
  const track = element("span", "track");
  button.type = "button";
  button.value = found.index;
  bar.style.setProperty("--part", `${100 * found.probability}%`);
  track.append(bar);
  button.append(element("span", "name", found.class), track, element("span", "value", percent(found.probability)));
  button.addEventListener("click", () => explain(found));
  const item = element("li", "");
  item.append(button);
  return item;
}

function showProblem(message) {
  showNothing();
  byId("problem").textContent = message[0].toUpperCase() + message.slice(1);
  byId("problem").hidden = false;
  main.dataset.state = "problem";
}

function showNothing() {
  stop();
  const invitation = drawn ? "Draw, and the answer appears here." : "Give a picture, and the answer appears here.";
  main.dataset.state = "empty";
  byId("problem").hidden = true;
  byId("best").replaceChildren(element("span", "", invitation));
  byId("best").classList.remove("words");
  main.classList.toggle("short", drawn);
  byId("classes").replaceChildren(...Array.from({ length: places }, ghost));
  byId("fitted").textContent = byId("spoken").textContent = "";
  byId("what").textContent = "the answer";
  byId("seen").hidden = byId("under").hidden = true;
  byId("map").width = byId("map").width; // empties it
  byId("map").setAttribute("aria-label", "No map yet");
}

function ghost() {
  const item = row({ class: "\u2013", index: -1, probability: 0 });
  item.firstChild.disabled = true;
  item.querySelector(".value").textContent = "";
  item.setAttribute("aria-hidden", "true");
  return item;
}

// -- map ----------------------------------------------------------------------------------------------------------------

const FAINT = 1; // nats of log-odds: if no part changes the answer by this much, the map stays pale
const SMOOTH = 8; // pixels per cell

function showMap(change, name) {
  const rows = change.length;
  const columns = change[0].length;
  const largest = Math.max(FAINT, ...change.flat().map(Math.abs));
  const cells = new OffscreenCanvas(columns, rows);
  const style = getComputedStyle(main);
  const [forIt, against] = ["--for", "--against"].map((key) => style.getPropertyValue(key).trim().split(" "));
  const image = new ImageData(columns, rows);
  change.flat().forEach((value, i) => {
    image.data.set([...(value > 0 ? forIt : against), 235 * Math.abs(value) / largest], 4 * i);
  });
  cells.getContext("2d").putImageData(image, 0, 0);
  const map = byId("map");
  map.width = columns * SMOOTH;
  map.height = rows * SMOOTH;
  const context = map.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(cells, 0, 0, map.width, map.height);
  map.setAttribute("aria-label", `${name} is seen mostly ${strongest(change)}`);
}

function strongest(change) {
  const flat = change.flat();
  const at = flat.indexOf(Math.max(...flat));
  const third = (cell, cells) => Math.floor((3 * cell) / cells);
  const vertical = ["at the top", "in the middle", "at the bottom"][third(Math.floor(at / change[0].length), change.length)];
  const horizontal = [", left", "", ", right"][third(at % change[0].length, change[0].length)];
  return vertical + horizontal;
}

// -- pictures from elsewhere --------------------------------------------------------------------------------------------

function give(file) {
  closeCamera();
  const given = byId("given");
  URL.revokeObjectURL(given.src);
  given.src = URL.createObjectURL(file);
  given.alt = `Your picture ${file.name}`;
  given.hidden = false;
  byId("hint").textContent = "";
  given.onerror = () => { // a format that only the model can read
    given.hidden = true;
    byId("hint").textContent = file.name;
  };
  strokes.length = 0;
  ask(file);
}

function clear() {
  closeCamera();
  byId("given").hidden = true;
  byId("file").value = "";
  strokes.length = 0;
  byId("hint").textContent = drawn ? "Draw here" : "Drop a picture here";
  showNothing();
  paintPaper();
}

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", () => byId("file").files.length && give(byId("file").files[0]));
byId("clear").addEventListener("click", clear);
if (!drawn) byId("field").addEventListener("click", () => byId("file").click());

function offer({ files, types }) {
  if (files.length) give(files[0]);
  else if (types.length) showProblem("That is not an image file. Save the picture first, then choose the file.");
}

document.addEventListener("paste", (event) => offer(event.clipboardData));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    const inside = kind !== "drop" && (kind !== "dragleave" || event.relatedTarget !== null);
    document.body.classList.toggle("dropping", inside);
    if (kind === "drop") offer(event.dataTransfer);
  });
}

// -- camera -------------------------------------------------------------------------------------------------------------

const live = byId("live");

async function takePicture() {
  if (!live.hidden) {
    const canvas = new OffscreenCanvas(live.videoWidth, live.videoHeight);
    canvas.getContext("2d").drawImage(live, 0, 0);
    give(new File([await canvas.convertToBlob()], "from the camera"));
    return;
  }
  clear();
  try {
    live.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await live.play();
  } catch {
    showProblem("There is no camera here, or the browser was not allowed to use it. Choose a file instead.");
    return;
  }
  live.hidden = false;
  byId("hint").textContent = "";
  byId("camera").textContent = "Take the picture";
}

function closeCamera() {
  for (const track of live.srcObject?.getTracks() ?? []) track.stop();
  live.srcObject = null;
  live.hidden = true;
  byId("camera").textContent = "Camera";
}

byId("camera").hidden = !navigator.mediaDevices?.getUserMedia; // there only on loopback and https
byId("camera").addEventListener("click", takePicture);

// -- drawing ------------------------------------------------------------------------------------------------------------

const strokes = []; // each a list of points [x, y], in sides of the paper
const PEN = 2.2 / 28; // width of a stroke in sides: about that of MNIST's digits
const STEP = 0.025; // of an arrow key
const EXPORTED_SIDE = 280;
const CENTERED = "The drawing was scaled and centered, as MNIST\u2019s digits were.";
const paper = byId("paper");
let cursor = null; // the keyboard's pen: {at: [x, y], down}
let soon = 0; // a timer: ask when the hand rests

function paint(context, side, place = (point) => point) {
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    for (const [x, y] of stroke.map(place)) context.lineTo(x * side, y * side);
    const [x, y] = place(stroke[0]);
    if (stroke.length === 1) context.lineTo(x * side + 0.1, y * side); // nothing is drawn of a line without length
    context.stroke();
  }
}

function paintPaper() {
  const side = (paper.width = paper.height = Math.round(paper.clientWidth * devicePixelRatio));
  const context = paper.getContext("2d");
  const ink = getComputedStyle(main).getPropertyValue("--ink");
  context.strokeStyle = ink;
  paint(context, side);
  if (cursor && document.activeElement === paper) {
    context.beginPath();
    context.arc(cursor.at[0] * side, cursor.at[1] * side, 0.03 * side, 0, 7);
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeStyle = getComputedStyle(main).getPropertyValue("--test");
    context.stroke();
  }
}

// As MNIST's digits were made: white on black, 20 of 28 pixels large, the center of mass in the middle.
function exported() {
  const canvas = new OffscreenCanvas(EXPORTED_SIDE, EXPORTED_SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.strokeStyle = "#fff";
  const [low, high] = [Math.min, Math.max].map((least) => [0, 1].map((axis) => least(...strokes.flat().map((p) => p[axis]))));
  const extent = Math.max(high[0] - low[0], high[1] - low[1], 0.05);
  const scale = (20 / 28 - PEN) / extent;
  let center = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  const draw = () => {
    context.fillRect(0, 0, EXPORTED_SIDE, EXPORTED_SIDE);
    paint(context, EXPORTED_SIDE, (point) => point.map((value, axis) => 0.5 + (value - center[axis]) * scale));
  };
  draw();
  const mass = centerOfMass(context.getImageData(0, 0, EXPORTED_SIDE, EXPORTED_SIDE));
  center = center.map((value, axis) => value + (mass[axis] - 0.5) / scale);
  draw();
  return canvas.convertToBlob();
}

function centerOfMass({ data, width, height }) {
  let [total, right, down] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ink = data[4 * (y * width + x)];
      total += ink;
      right += ink * (x + 0.5);
      down += ink * (y + 0.5);
    }
  }
  return [right / total / width, down / total / height];
}

function drawnOn(wait) {
  byId("hint").textContent = "";
  paintPaper();
  clearTimeout(soon);
  soon = setTimeout(async () => strokes.length && ask(await exported(), CENTERED), wait);
}

function pointOf(event) {
  const { left, top, width, height } = paper.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  paper.setPointerCapture(event.pointerId);
  cursor = null;
  clearTimeout(soon);
  strokes.push([pointOf(event)]);
  paintPaper();
});
paper.addEventListener("pointermove", (event) => {
  if (!paper.hasPointerCapture(event.pointerId)) return;
  const parts = event.getCoalescedEvents?.() ?? []; // there only on loopback and https
  for (const part of parts.length ? parts : [event]) strokes.at(-1).push(pointOf(part));
  paintPaper();
});
paper.addEventListener("lostpointercapture", () => drawnOn(150));

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

paper.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault();
  cursor ??= { at: [0.5, 0.2], down: false };
  if (move) {
    cursor.at = cursor.at.map((value, axis) => Math.min(1, Math.max(0, value + STEP * move[axis])));
    if (cursor.down) strokes.at(-1).push(cursor.at);
  } else {
    cursor.down = !cursor.down;
    if (cursor.down) strokes.push([cursor.at]);
    byId("spoken").textContent = cursor.down ? "Pen down" : "Pen up";
  }
  if (cursor.down) drawnOn(400);
  else paintPaper();
});
paper.addEventListener("blur", paintPaper);
addEventListener("resize", paintPaper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintPaper);

clear();
