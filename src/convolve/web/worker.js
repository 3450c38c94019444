"use strict";

// The model, beside the page: what it says about a picture, and where it sees that. Questions are {id, kind, ...}, answers
// {id, answer} or {id, error}; {id: 0} says that the model is loaded, or why it is not.

import { decode } from "./decode.js";
import { fit } from "./fit.js";

const [FEWEST_CELLS, MOST_CELLS] = [6, 14]; // along a side of the map
const PATIENCE_MS = 1000; // that a map may take, unless FEWEST_CELLS needs more
const COVER_CELLS = 2.5; // side of the cover; neighbors overlap, so that the map is smooth
const TINY = 1e-37; // about the smallest probability in float32

let ort, session, about;
let image = null; // the model's last input: red, green and blue, or gray, of each pixel
const canceled = new Set();
const ready = open();
ready.then(() => postMessage({ id: 0 }), (error) => postMessage({ id: 0, error: error.message }));

onmessage = async ({ data: { id, kind, ...asked } }) => {
  if (kind === "cancel") canceled.add(id);
  else {
    try {
      await ready;
      const answer = kind === "predict" ? await predict(asked) : await explain(id, asked);
      postMessage({ id, answer });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  }
};

// -- the model ----------------------------------------------------------------------------------------------------------

async function open() {
  const weights = file("model.onnx").then((response) => response.arrayBuffer());
  weights.catch(() => {}); // reported below
  about = await (await file("model.json")).json();
  const { script, wasm, digests } = about.runtime;
  if (digests) { // from another server: only the bytes that were tested may run
    const [code, binary] = await Promise.all([file(script, digests.script), file(wasm, digests.wasm)]);
    ort = await import(URL.createObjectURL(new Blob([await code.blob()], { type: "text/javascript" })));
    ort.env.wasm.wasmBinary = await binary.arrayBuffer();
  } else {
    ort = await import(new URL(script, location));
    ort.env.wasm.wasmPaths = { wasm: new URL(wasm, location).href };
  }
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(new Uint8Array(await weights));
}

async function file(name, integrity) {
  const response = await fetch(new URL(name, location), { integrity: integrity ?? "" }).catch(() => null);
  if (!response?.ok) throw new Error(`${name} could not be loaded from its server${response ? ` (${response.status})` : ""}.`);
  return response;
}

// [a Float32Array per image, distances or undefined]
async function answers(images) {
  const { width, height, channels } = about.preprocess;
  const size = width * height * channels;
  const pixels = new Uint8Array(images.length * size);
  images.forEach((each, i) => pixels.set(each, i * size));
  const given = await session.run({ images: new ort.Tensor("uint8", pixels, [images.length, height, width, channels]) });
  const scores = given[about.output].data;
  const each = images.map((_, i) => probabilities(scores.slice(i * about.classes.length, (i + 1) * about.classes.length)));
  if (!each.every((values) => values.every(Number.isFinite))) throw new Error("The model's answer is not a number.");
  return [each, given.distance?.data];
}

function probabilities(scores) {
  if (about.scores === "logarithms") return scores.map(Math.exp);
  if (about.scores === "answers") return scores;
  const largest = scores.reduce((one, other) => Math.max(one, other));
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

// -- what is it? --------------------------------------------------------------------------------------------------------

async function predict({ blob, places }) {
  const made = fit(await decode(blob, about.preprocess.orientation), about.preprocess);
  image = made.data;
  const [[values], distances] = await answers([image]);
  return { ...inWords(values, places), ...certainty(values, distances), fitted: made.fitted, seen: await shown(image) };
}

function inWords(values, places) {
  if (about.target === "number") return { numbers: Object.fromEntries(about.classes.map((name, k) => [name, values[k]])) };
  const found = ranked(values).map((k) => ({ class: about.classes[k], probability: values[k], index: k }));
  if (about.target === "class") return { classes: found.slice(0, places) };
  const said = found.map((each) => ({ ...each, over: each.probability >= Math.fround(about.thresholds[each.index]) }));
  return { classes: said.filter((each, rank) => rank < places || each.over) };
}

function certainty(values, distances) {
  if (!distances) return {};
  const { farthest, least_probability: least, within } = about.confidence;
  const said = { none_of_these: farthest !== null && distances[0] > farthest };
  if (least !== null) said.possible = ranked(values).filter((k) => values[k] >= least).map((k) => about.classes[k]);
  const interval = (name, k) => [name, [values[k] - within[k], values[k] + within[k]]];
  if (within !== null) said.intervals = Object.fromEntries(about.classes.map(interval));
  return said;
}

function ranked(values) {
  return [...values.keys()].sort((one, other) => values[other] - values[one] || one - other);
}

async function shown(data) {
  const { width, height, channels } = about.preprocess;
  const made = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) made.data[4 * i + c] = data[channels * i + (channels === 3 ? c : 0)];
    made.data[4 * i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(made, 0, 0);
  return new FileReaderSync().readAsDataURL(await canvas.convertToBlob());
}

// -- where does it look? ------------------------------------------------------------------------------------------------

// As in convolve.explanation: how far the log-odds of a class fall when the part around a cell is covered.
async function explain(id, { index }) {
  const { width, height } = about.preprocess;
  const whole = image;
  const start = performance.now();
  const before = logOdds((await answers([whole]))[0][0], index);
  const cells = Math.floor(Math.sqrt(PATIENCE_MS / (performance.now() - start)));
  const [rows, columns] = [height, width].map((side) => Math.min(side, Math.max(FEWEST_CELLS, Math.min(MOST_CELLS, cells))));
  const color = meanOf(whole);
  const change = [];
  for (let row = 0; row < rows; row++) {
    await new Promise((resolve) => setTimeout(resolve)); // a newer question may have come
    if (canceled.delete(id)) return { change };
    const down = span(row, rows, height);
    const covers = Array.from({ length: columns }, (_, column) => covered(whole, color, span(column, columns, width), down));
    const [found] = await answers(covers);
    change.push(found.map((values) => before - logOdds(values, index)));
  }
  return { change };
}

function logOdds(values, index) {
  const own = values[index];
  const others = about.target === "classes" ? 1 - own : values.reduce((sum, value, k) => (k === index ? sum : sum + value), 0);
  return Math.log(Math.max(own, TINY)) - Math.log(Math.max(others, TINY));
}

function span(cell, cells, pixels) {
  const [center, half] = [((cell + 0.5) * pixels) / cells, (COVER_CELLS / 2) * (pixels / cells)];
  return [Math.max(Math.round(center - half), 0), Math.min(Math.round(center + half), pixels)];
}

function covered(data, color, [left, right], [top, bottom]) {
  const { width, channels } = about.preprocess;
  const made = data.slice();
  for (let y = top; y < bottom; y++) {
    for (let i = (y * width + left) * channels; i < (y * width + right) * channels; i++) made[i] = color[i % channels];
  }
  return made;
}

function meanOf(data) {
  const { width, height, channels } = about.preprocess;
  const sums = new Float64Array(channels);
  data.forEach((level, i) => { sums[i % channels] += level; });
  return [...sums].map((sum) => Math.round(sum / (width * height)));
}
