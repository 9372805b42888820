// Pictures that are brought: decoded by the browser, scaled, and encoded to be sent.

import { newCanvas } from "./drawing.js";

const MAX_SIDE = 1600; // pixels of the longer side that is sent
const MAX_URL = 299_000; // bytes of a picture as a data: URL, as it is sent
const DARK = 100; // mean grey level below which strokes over a picture are white
const SMALLER = 0.9; // of the scale at which an encoded picture should have MAX_URL
const SVG_SIDE = 1000; // pixels of the longer side of an SVG, which has none of its own

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
  [/^[\xef\xbb\xbf\s]*(<[?!][^]*)?<svg/i, "SVG"],
];
const SENT_UNCHANGED = ["PNG", "JPEG", "GIF", "BMP", "WEBP"];

/** A file that cannot be shown; its message is a sentence for the user. */
export class Refusal extends Error {}

/** Open a file as a picture {name, canvas, size, url, sent, ink}; throw a Refusal.
 *
 * `url` is what is sent, of `sent` pixels: the file itself if it is small, else the
 * picture at 1,600 pixels at most. `ink` is the colour of strokes over it.
 */
export async function openPicture(file) {
  if (!file.size) throw new Refusal(`${named(file)} is empty. Choose another picture.`);
  const head = await headOf(file);
  const format = FORMATS.find(([pattern]) => pattern.test(head))?.[1];
  const image = await decode(format === "SVG" ? new Blob([file], { type: "image/svg+xml" }) : file);
  if (!image) throw new Refusal(refusalOf(file, format, head));
  const natural = [image.naturalWidth || SVG_SIDE, image.naturalHeight || SVG_SIDE];
  const side = Math.max(...natural);
  const scale = format === "SVG" ? SVG_SIDE / side : Math.min(1, MAX_SIDE / side);
  if (Math.min(...natural) * scale < 1 && scale < 1) {
    throw new Refusal(`${named(file)} has ${natural.join(" x ")} pixels: too narrow to show a digit.`);
  }
  const small = scale === 1 && file.size < 0.7 * MAX_URL && SENT_UNCHANGED.includes(format);
  try {
    const picture = scaled(image, natural, scale, named(file));
    return { ...picture, ...(small ? { url: await urlOf(file), sent: natural } : compressed(picture.canvas)) };
  } catch {
    throw new Refusal(refusalOf(file, format, head)); // HTML in an SVG
  }
}

async function headOf(file) {
  try {
    return String.fromCharCode(...new Uint8Array(await file.slice(0, 256).arrayBuffer()));
  } catch {
    throw new Refusal(`${named(file)} cannot be read. Of a folder, choose the pictures in it.`);
  }
}

/** Return a part of a picture, [left, top, right, bottom] as shares of it, as a picture. */
export function cropped({ name, canvas, size: whole }, shares) {
  const [left, top, right, bottom] = shares.map((share, i) => Math.round(share * whole[i % 2]));
  const part = newCanvas(Math.max(1, right - left), Math.max(1, bottom - top));
  part.getContext("2d").drawImage(canvas, -left, -top);
  const size = [part.width, part.height];
  return { ...scaled(part, size, 1, name), ...compressed(part) };
}

const named = (file) => file.name || "the picture";

async function decode(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode(); // upright: browsers apply EXIF's orientation
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
  const [grey, alpha] = meansOf(canvas);
  // light ink on a clear picture shows on black
  const dark = alpha < 0.5 ? grey > DARK : grey * alpha + 255 * (1 - alpha) < DARK;
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = dark ? "black" : "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return { name, canvas, size: [canvas.width, canvas.height], ink: dark ? "white" : "black" };
}

/** Return the mean grey level of what is not transparent, and the mean opacity, at most 1. */
function meansOf(canvas) {
  const small = newCanvas(8, 8), context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  let sum = 0, total = 0;
  for (let i = 0; i < data.length; i += 4) {
    sum += (data[i + 3] * (data[i] + data[i + 1] + data[i + 2])) / 3;
    total += data[i + 3];
  }
  return [total && sum / total, total / (64 * 255)];
}

function urlOf(file) {
  const reader = new FileReader();
  reader.readAsDataURL(file);
  return new Promise((resolve) => (reader.onloadend = () => resolve(reader.result)));
}

/** Return {url, sent}: a canvas encoded in at most MAX_URL, at a smaller size if need be. */
function compressed(canvas) {
  const url = canvas.toDataURL("image/jpeg"), sent = [canvas.width, canvas.height];
  if (url.length <= MAX_URL) return { url, sent };
  return compressed(scaled(canvas, sent, SMALLER * Math.sqrt(MAX_URL / url.length), "").canvas);
}

function refusalOf(file, format, head) {
  if (!format) {
    const kind = /[\0-\x08\x0e-\x1a]/.test(head) ? "no picture that this browser knows" : "text";
    return `${named(file)} is ${kind}. Choose a picture, such as a PNG or a JPEG.`;
  }
  if (SENT_UNCHANGED.includes(format)) return `${named(file)} is damaged: its ${format} data cannot be decoded.`;
  const advice = format === "PDF" ? "Take a screenshot of the page." : "Save it as PNG or JPEG.";
  const article = /^[AS]/.test(format) ? "an" : "a";
  return `${named(file)} is ${article} ${format} file, which this browser cannot open. ${advice}`;
}
