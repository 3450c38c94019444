"use strict";

// A file -> its pixels as stored: colors are not converted, transparency is dropped and not blended. The image is turned as
// the model expects it. All browsers turn JPEG and PNG as EXIF says, but not all turn WebP: so the orientation is removed from
// the file, and the image turned here. Every reader turns AVIF and TIFF, where the orientation is a part of the image.

const MOST_PIXELS = 2 ** 26; // as in formats/decode.py

export async function decode(blob, orientation) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (!bytes.length) throw new Error("The file is empty.");
  const { turn, parts } = withoutExif(bytes);
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob(parts), options).catch(() => {
    throw new Error("This browser cannot show that file as a picture. Give a JPEG, PNG, WebP or AVIF image.");
  });
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    throw new Error(`The picture has ${bitmap.width} x ${bitmap.height} pixels, more than ${MOST_PIXELS}. Make it smaller.`);
  }
  const pixels = pixelsOf(bitmap);
  bitmap.close();
  return orientation === "stored" || turn === 1 ? pixels : upright(pixels, turn);
}

// A canvas keeps colors multiplied by opacity; if that is not 1, WebGL gives the colors themselves.
function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  for (let i = 3; i < data.length; i += 4) {
    if (data[i] !== 255) return { data: unblended(bitmap) ?? data, width, height };
  }
  return { data, width, height };
}

function unblended(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension("WEBGL_lose_context")?.loseContext(); // browsers allow only few contexts
  return data;
}

// -- EXIF ---------------------------------------------------------------------------------------------------------------

// {orientation from 1 to 8, the file without it}
function withoutExif(bytes) {
  const view = new DataView(bytes.buffer);
  const letters = (at, count) => String.fromCharCode(...bytes.subarray(at, at + count));
  const cut = { turn: 1, parts: [bytes] };
  try {
    if (view.getUint16(0) === 0xffd8) return jpeg(bytes, view, letters) ?? cut;
    if (letters(1, 3) === "PNG") return png(bytes, view, letters) ?? cut;
    if (letters(0, 4) === "RIFF" && letters(8, 4) === "WEBP") return webp(bytes, view, letters) ?? cut;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a cut off file: the decoder decides
  }
  return cut;
}

function jpeg(bytes, view, letters) {
  let at = 2;
  while (bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    if (bytes[at + 1] === 0xff) at += 1; // fill bytes
    else {
      const end = at + 2 + view.getUint16(at + 2);
      if (bytes[at + 1] === 0xe1 && letters(at + 4, 6) === "Exif\0\0") {
        return { turn: turnOf(view, at + 10), parts: [bytes.subarray(0, at), bytes.subarray(end)] };
      }
      at = end;
    }
  }
  return null;
}

function png(bytes, view, letters) {
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
    if (letters(at + 4, 4) === "eXIf") {
      const end = at + 12 + view.getUint32(at);
      return { turn: turnOf(view, at + 8), parts: [bytes.subarray(0, at), bytes.subarray(end)] };
    }
  }
  return null;
}

function webp(bytes, view, letters) {
  for (let at = 12; at + 8 <= bytes.length; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) % 2)) {
    if (letters(at, 4) === "EXIF") {
      const turn = turnOf(view, letters(at + 8, 6) === "Exif\0\0" ? at + 14 : at + 8);
      return { turn, parts: [bytes.subarray(0, at), new TextEncoder().encode("none"), bytes.subarray(at + 4)] };
    }
  }
  return null;
}

// EXIF has the form of a TIFF file; the orientation is its tag 0x112.
function turnOf(view, start) {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
    const at = directory + 2 + 12 * entry;
    if (view.getUint16(at, little) === 0x112) {
      const turn = view.getUint16(at + 8, little);
      return turn >= 1 && turn <= 8 ? turn : 1;
    }
  }
  return 1;
}

// The pixels, turned from how they are stored to how they are shown, by EXIF's orientation.
function upright({ data, width, height }, turn) {
  const onItsSide = turn >= 5;
  const [columns, rows] = onItsSide ? [height, width] : [width, height];
  const from = new Uint32Array(data.buffer, data.byteOffset, width * height);
  const to = new Uint32Array(width * height);
  const mirrored = [2, 3, 6, 7].includes(turn);
  const upsideDown = [3, 4, 7, 8].includes(turn);
  for (let y = 0; y < rows; y++) {
    const row = upsideDown ? rows - 1 - y : y;
    for (let x = 0; x < columns; x++) {
      const column = mirrored ? columns - 1 - x : x;
      to[y * columns + x] = onItsSide ? from[column * width + row] : from[row * width + column];
    }
  }
  return { data: new Uint8Array(to.buffer), width: columns, height: rows };
}
