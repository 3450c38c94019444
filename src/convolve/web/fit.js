"use strict";

// How an image is prepared for the model: convolve.transforms.preprocess in JavaScript, to within one level
// of 255. Legend: pixels are {data, width, height} with red, green, blue and alpha of each pixel, as ImageData has them.

const MOST_PIXELS = 2 ** 27; // of an image that is resized before it is cropped, as in transforms/scale.py

// {red, green, blue or gray of each pixel, in the model's size; what was done, in words}
export function fit(pixels, preprocess) {
  const { width, height, channels } = preprocess;
  const plan = planned(pixels, preprocess);
  const rgb = plan ? scaled(pixels, plan, preprocess) : opaque(pixels);
  const done = [];
  if (plan) done.push(`${plan.how} from ${pixels.width}x${pixels.height} to ${width}x${height}`);
  const isGray = colorless(pixels.data);
  if (channels === 1 && !isGray) done.push("made gray");
  if (channels === 3 && isGray) done.push("gray repeated in three planes");
  return { data: channels === 1 ? gray(rgb) : rgb, fitted: done.join(", ") };
}

// Which part of the image is resized to which size, and where in that the model's picture begins; null: no resizing.
function planned({ width, height }, preprocess) {
  const { resize, crop_ratio: ratio, size_before_crop: [beforeHeight, beforeWidth] } = preprocess;
  const wanted = { width: preprocess.width, height: preprocess.height };
  const cutsSquare = resize === "square" && wanted.width !== wanted.height;
  if (width === wanted.width && height === wanted.height && ratio === 1 && !cutsSquare) return null;
  let source = { x: 0, y: 0, width, height };
  let full = { width: beforeWidth, height: beforeHeight };
  if (resize === "cover") {
    const factor = Math.max(beforeHeight / height, beforeWidth / width);
    full = {
      width: Math.max(halfToEven(width * factor), beforeWidth), height: Math.max(halfToEven(height * factor), beforeHeight),
    };
  } else if (resize === "square") {
    const side = Math.max(1, Math.floor(Math.min(width, height) * Math.fround(ratio) + 0.5));
    source = { x: Math.floor((width - side) / 2), y: Math.floor((height - side) / 2), width: side, height: side };
    full = wanted;
  } else if (resize === "letterbox") {
    full = wanted.width * height > wanted.height * width
      ? { width: Math.max(1, Math.floor((width * wanted.height) / height + 0.5)), height: wanted.height }
      : { width: wanted.width, height: Math.max(1, Math.floor((height * wanted.width) / width + 0.5)) };
  }
  if (full.width * full.height > MOST_PIXELS) {
    throw new Error(`${width} x ${height} pixels are too narrow to be cut to ${wanted.width} x ${wanted.height}.`);
  }
  const how = ratio < 1 ? "scaled and center-cropped"
    : { squash: "scaled", letterbox: "scaled and padded" }[resize] ?? "scaled and center-cropped";
  return { source, full, how, left: begin(full.width, wanted.width), top: begin(full.height, wanted.height) };
}

// Where a length begins that is centered in another one; negative if it is longer.
function begin(full, wanted) {
  return full >= wanted ? Math.floor((full - wanted) / 2) : -Math.floor((wanted - full) / 2);
}

function scaled(pixels, { source, full, left, top }, preprocess) {
  const { width, height, interpolation, padding_value: padding } = preprocess;
  const shrinks = [full.width / source.width, full.height / source.height].map((factor) => factor <= 1);
  // OpenCV's "area" averages if both sides shrink; otherwise it is linear, with its own weights if one side shrinks.
  const area = shrinks.every(Boolean) ? "area" : full.width >= source.width && full.height >= source.height ? "linear" : "mixed";
  const filter = interpolation === "area" ? area : interpolation;
  const across = weighted(source.width, full.width, left, width, filter);
  const down = weighted(source.height, full.height, top, height, filter);
  const [firstRow, endRow] = [Math.min(...down.first), Math.max(...down.first) + down.taps];
  const rows = squeezed(pixels, source, across, Math.max(0, firstRow), Math.min(source.height, endRow));
  const made = stacked(rows, down, width, source.height, Math.max(0, firstRow), filter in IN_EIGHT_BITS);
  if (padding >= 0) {
    for (let i = 0; i < made.length; i++) {
      const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
      if (x + left < 0 || x + left >= full.width || y + top < 0 || y + top >= full.height) made[i] = padding;
    }
  }
  return made;
}

// Rows firstRow to endRow of the source, each as wide as the model's picture.
function squeezed({ data, width }, source, { first, taps, weights }, firstRow, endRow) {
  const columns = first.length;
  const made = new Float32Array((endRow - firstRow) * columns * 3);
  let at = 0;
  for (let y = firstRow; y < endRow; y++) {
    const row = 4 * ((y + source.y) * width + source.x);
    for (let x = 0; x < columns; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let tap = 0; tap < taps; tap++) {
        const weight = weights[x * taps + tap];
        if (!weight) continue;
        const from = row + 4 * within(first[x] + tap, source.width);
        red += weight * data[from];
        green += weight * data[from + 1];
        blue += weight * data[from + 2];
      }
      made[at++] = red;
      made[at++] = green;
      made[at++] = blue;
    }
  }
  return made;
}

function stacked(rows, { first, taps, weights }, width, sourceHeight, firstRow, inEightBits) {
  const line = 3 * width;
  const made = new Uint8ClampedArray(first.length * line); // rounds to nearest, halves to even
  const sums = new Float64Array(line);
  for (let y = 0; y < first.length; y++) {
    sums.fill(0);
    for (let tap = 0; tap < taps; tap++) {
      const weight = weights[y * taps + tap];
      if (!weight) continue;
      const from = line * (within(first[y] + tap, sourceHeight) - firstRow);
      if (inEightBits) for (let i = 0; i < line; i++) sums[i] += (weight * (rows[from + i] >> 4)) >> 16;
      else for (let i = 0; i < line; i++) sums[i] += weight * rows[from + i];
    }
    made.set(inEightBits ? sums.map((sum) => (sum + 2) >> 2) : sums, y * line);
  }
  return made;
}

const within = (index, length) => Math.min(Math.max(index, 0), length - 1);

// For each of `wanted` output pixels, from number `start` of `full` on: the first input pixel, and the weights.
function weighted(length, full, start, wanted, filter) {
  const scale = filter === "linear_antialiased" ? length / full : 1 / (full / length); // as OpenCV rounds it
  const wide = { area: scale + 2, linear_antialiased: 2 * Math.max(scale, 1) + 2, nearest: 1, cubic: 4, lanczos: 8 };
  const taps = Math.ceil(wide[filter] ?? 2);
  const first = new Int32Array(wanted);
  const weights = new Float64Array(wanted * taps);
  for (let out = 0; out < wanted; out++) {
    const [begins, found] = FILTERS[filter](within(out + start, full), scale, length, taps);
    first[out] = begins;
    weights.set(filter in IN_EIGHT_BITS ? found.map((weight) => halfToEven(ONE * weight)) : found, out * taps);
  }
  return { first, taps, weights };
}

// OpenCV computes these in integers, with weights in units of 1/2048 (opencv: modules/imgproc/src/resize.cpp); where it
// rounds in between changes one pixel in seven.
const IN_EIGHT_BITS = { linear: true, mixed: true };
const ONE = 2048;

// (number of the output pixel, scale, input pixels, taps) -> [number of the first input pixel, weights].
const FILTERS = {
  nearest: (out, scale, length) => [Math.min(Math.floor(out * scale), length - 1), [1]],
  linear: (out, scale) => between(out, scale, 0, (part) => [1 - part, part]),
  cubic: (out, scale) => between(out, scale, 1, (part) => [part + 1, part, 1 - part, 2 - part].map(cubic)),
  lanczos: (out, scale) => between(out, scale, 3, (part) =>
    normal(Array.from({ length: 8 }, (_, tap) => sinc(tap - 3 - part) * sinc((tap - 3 - part) / 4)))),
  // OpenCV's INTER_AREA, if only one side shrinks.
  mixed(out, scale, length) {
    const begins = Math.floor(out * scale);
    const part = Math.fround(out + 1 - (begins + 1) / scale);
    const share = part <= 0 || begins >= length - 1 ? 0 : part - Math.floor(part);
    return [begins, [1 - share, share]];
  },
  // The weight of an input pixel is the part of it that is inside the output pixel.
  area(out, scale, length, taps) {
    const [from, to] = [out * scale, Math.min((out + 1) * scale, length)];
    const begins = Math.floor(from);
    const shares = Array.from({ length: taps }, (_, tap) => {
      const share = Math.min(to, begins + tap + 1) - Math.max(from, begins + tap);
      return share > 1e-3 || share === to - from ? share : 0; // OpenCV drops smaller weights
    });
    return [begins, normal(shares)];
  },
  // As transforms/antialiased.py: a triangle around the center, as wide as the scale where the image shrinks.
  linear_antialiased(out, scale, length, taps) {
    const [center, half] = [(out + 0.5) * scale, Math.max(scale, 1)];
    const begins = Math.max(Math.floor(center - half + 0.5), 0);
    const end = Math.min(Math.floor(center + half + 0.5), length);
    const shares = Array.from({ length: taps }, (_, tap) =>
      begins + tap < end ? Math.max(0, 1 - Math.abs(begins + tap + 0.5 - center) / half) : 0);
    return [begins, normal(shares)];
  },
};

// The pixels around a point between two of them, `before` of which are before the left one.
function between(out, scale, before, weightsOf) {
  const place = Math.fround((out + 0.5) * scale - 0.5);
  const left = Math.floor(place);
  return [left - before, weightsOf(Math.fround(place - left))];
}

function cubic(distance) { // Keys 1981, with OpenCV's slope
  const slope = -0.75;
  if (distance <= 1) return ((slope + 2) * distance - (slope + 3)) * distance ** 2 + 1;
  return ((slope * distance - 5 * slope) * distance + 8 * slope) * distance - 4 * slope;
}

function sinc(x) {
  return Math.abs(x) < 1e-9 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function normal(shares) {
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

function halfToEven(value) { // as Python rounds
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

// -- colors -----------------------------------------------------------------------------------------------------------

function opaque({ data }) {
  const made = new Uint8ClampedArray((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    made[to] = data[from];
    made[to + 1] = data[from + 1];
    made[to + 2] = data[from + 2];
  }
  return made;
}

function gray(rgb) { // OpenCV's cvtColor: 0.299, 0.587 and 0.114 in 15 bits
  return Uint8ClampedArray.from({ length: rgb.length / 3 }, (_, i) =>
    (9798 * rgb[3 * i] + 19235 * rgb[3 * i + 1] + 3735 * rgb[3 * i + 2] + 16384) >> 15);
}

function colorless(data) {
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
  }
  return true;
}
