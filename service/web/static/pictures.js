// Pictures that are brought: decoded by the browser, scaled, and encoded to be sent.

import { encode, newCanvas } from "./drawing.js";

const MAX_SIDE = 1600; // pixels of the longer side that is sent
const MAX_BYTES = 300 * 1024; // that are sent
const DARK = 100; // mean grey level below which strokes over a picture are white
const SMALLER = 0.7; // the scale of the next try where the encoded picture is too large
const UNSIZED = 1000; // pixels of the side of an SVG without a size

// formats by their first bytes, as a pattern of characters; those that the service reads
const FORMATS = [
  [/^\x89PNG/, "PNG"],
  [/^\xff\xd8\xff/, "JPEG"],
  [/^GIF8/, "GIF"],
  [/^BM/, "BMP"],
  [/^RIFF[^]{4}WEBP/, "WEBP"],
  [/^[^]{4}ftypavi[fs]/, "AVIF"],
  [/^[^]{4}ftyp(hei|hev|mif|msf)/, "HEIC"],
  [/^(II\*\0|MM\0\*)/, "TIFF"],
  [/^%PDF/, "PDF"],
  [/^\s*(<\?xml[^]*)?(<!--[^]*)?<svg/i, "SVG"],
];
const SENT_UNCHANGED = ["PNG", "JPEG", "GIF", "BMP", "WEBP"];
const LOSSY = ["JPEG", "HEIC", "BMP"]; // without transparency, so that JPEG can hold them
const ADVICE = {
  HEIC: "Save it as JPEG, or take a screenshot of it.",
  PDF: "Take a screenshot of the page.",
};

/** A file that cannot be shown; its message is a sentence for the user. */
export class Refusal extends Error {}

/** Open a file as a picture {name, canvas, size, blob, sent, ink}; throw a Refusal.
 *
 * `blob` is what is sent, of `sent` pixels: the file itself if it is small, else the
 * picture at 1,600 pixels at most. `ink` is the colour of strokes over it.
 */
export async function openPicture(file) {
  if (!file.size) throw new Refusal(`${named(file)} is empty. Choose another picture.`);
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 256).arrayBuffer()));
  const format = FORMATS.find(([pattern]) => pattern.test(head))?.[1];
  const image = await decode(file);
  if (!image) throw new Refusal(refusalOf(file, format, head));
  const natural = [image.naturalWidth || UNSIZED, image.naturalHeight || UNSIZED];
  const scale = Math.min(1, MAX_SIDE / Math.max(...natural));
  const picture = scaled(image, natural, scale, named(file));
  const small = scale === 1 && file.size <= MAX_BYTES && SENT_UNCHANGED.includes(format);
  if (small) return { ...picture, blob: file, sent: natural };
  return { ...picture, ...compressed(picture.canvas, LOSSY.includes(format)) };
}

/** Return a part [left, top, width, height] of a picture, in its pixels, as a picture. */
export function cropped({ name, canvas }, [left, top, width, height]) {
  const part = newCanvas(Math.max(1, Math.round(width)), Math.max(1, Math.round(height)));
  part.getContext("2d").drawImage(canvas, -Math.round(left), -Math.round(top));
  const size = [part.width, part.height];
  return { ...scaled(part, size, 1, name), ...compressed(part, false) };
}

const named = (file) => file.name || "the picture";

async function decode(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode(); // upright: browsers apply the orientation of EXIF
    return image;
  } catch {
    return null;
  } finally {
    // the decoded pixels stay with the image
    URL.revokeObjectURL(image.src);
  }
}

function scaled(source, [width, height], scale, name) {
  const side = (length) => Math.max(1, Math.round(scale * length));
  const canvas = newCanvas(side(width), side(height)), context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return { name, canvas, size: [canvas.width, canvas.height], ink: inkOn(canvas) };
}

/** Return the colour, black or white, that shows on a picture. */
function inkOn(canvas) {
  const small = newCanvas(8, 8), context = small.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, 8, 8);
  context.drawImage(canvas, 0, 0, 8, 8);
  const levels = context.getImageData(0, 0, 8, 8).data.filter((_, i) => i % 4 < 3);
  return levels.reduce((sum, level) => sum + level, 0) / levels.length < DARK ? "white" : "black";
}

/** Return {blob, sent}: a canvas encoded in at most MAX_BYTES, at a smaller size if need be. */
function compressed(canvas, lossy) {
  // WEBP keeps transparency; a browser that cannot write it writes PNG
  const blob = encode(canvas, lossy ? "image/jpeg" : "image/webp");
  const size = [canvas.width, canvas.height];
  if (blob.size <= MAX_BYTES || Math.max(...size) < 2) return { blob, sent: size };
  return compressed(scaled(canvas, size, SMALLER, "").canvas, lossy);
}

function refusalOf(file, format, head) {
  if (!format) {
    const kind = /^[\t\n\r\x20-\x7e]*$/.test(head) ? "text" : "no picture that this browser knows";
    return `${named(file)} is ${kind}. Choose a picture, such as a PNG or a JPEG.`;
  }
  if (SENT_UNCHANGED.includes(format)) return `${named(file)} is damaged: its ${format} data cannot be decoded.`;
  const advice = ADVICE[format] ?? "Save it as PNG or JPEG.";
  const article = /^[AH]/.test(format) && format !== "HEIC" ? "an" : "a";
  return `${named(file)} is ${article} ${format} file, which this browser cannot open. ${advice}`;
}
