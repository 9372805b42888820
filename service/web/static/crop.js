// The crop box: a part of a picture, chosen by dragging, pinching or keys.

import { $ } from "./answer.js";
import { ARROWS } from "./drawing.js";

const FIRST = 0.15; // of the surface, left out on each side at first
const STEP = 0.02, LEAST = 0.04; // of the surface: of a key press, and of a side
const GRIP = 0.07; // of the surface: how near to a corner a pointer holds it

const frame = $("frame");
let box = null; // [left, top, right, bottom] as shares of the surface; null: no cropping
let limits = null; // the box of the picture on the surface
const fingers = new Map(); // pointer → [x, y]
let start = null; // {at, box}: where a drag began; box: null for a new one; null: no drag yet

export const cropping = () => box !== null;

/** Begin to crop a picture that lies at {left, top, width, height} on the unit square. */
export function beginCrop({ left, top, width, height }) {
  limits = [left, top, left + width, top + height];
  box = limits.map((edge, i) => edge + (i < 2 ? FIRST : -FIRST) * (i % 2 ? height : width));
  start = null;
  frame.hidden = false;
  show();
  frame.focus();
}

/** End cropping; return the box as shares of the picture: [left, top, right, bottom]. */
export function endCrop() {
  const shares = box.map((edge, i) => (edge - limits[i % 2]) / (limits[2 + (i % 2)] - limits[i % 2]));
  box = null;
  frame.hidden = true;
  fingers.clear();
  return shares;
}

function show() {
  const [left, top, right, bottom] = box.map((share) => `${100 * share}%`);
  const hole = $("hole");
  Object.assign(hole.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
}

const inside = (value, axis) => Math.min(limits[axis + 2], Math.max(limits[axis], value));

/** Set the box that two corners span. */
function span(a, b) {
  const corners = [0, 1].map((axis) => [a[axis], b[axis]].map((value) => inside(value, axis)).sort((p, q) => p - q));
  for (const [axis, pair] of corners.entries()) {
    if (pair[1] - pair[0] >= LEAST) continue;
    pair[0] = Math.max(limits[axis], Math.min(pair[0], limits[axis + 2] - LEAST));
    pair[1] = pair[0] + LEAST;
  }
  box = [corners[0][0], corners[1][0], corners[0][1], corners[1][1]];
  show();
}

/** Move the box, and keep its size. */
function move([left, top, right, bottom], dx, dy) {
  const x = Math.min(limits[2] - right, Math.max(limits[0] - left, dx));
  const y = Math.min(limits[3] - bottom, Math.max(limits[1] - top, dy));
  box = [left + x, top + y, right + x, bottom + y];
  show();
}

function placeOf(event) {
  const { left, top, width, height } = frame.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}

frame.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  frame.setPointerCapture(event.pointerId);
  const at = placeOf(event);
  fingers.set(event.pointerId, at);
  const within = at.every((value, i) => value > box[i] && value < box[i + 2]);
  // the corner opposite to the nearest one
  const far = at.map((value, i) => (2 * value < box[i] + box[i + 2] ? box[i + 2] : box[i]));
  const held = at.every((value, i) => Math.abs(value - (box[i] + box[i + 2] - far[i])) < GRIP);
  // the first drag makes a new box, though the pointer is within the first one
  start = held ? { at: far } : { at, box: start && within ? box : null };
});
frame.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return;
  const at = placeOf(event);
  fingers.set(event.pointerId, at);
  if (fingers.size > 1) span(...fingers.values());
  else if (start.box) move(start.box, at[0] - start.at[0], at[1] - start.at[1]);
  else span(start.at, at);
});
for (const end of ["pointerup", "pointercancel"]) {
  frame.addEventListener(end, (event) => {
    fingers.delete(event.pointerId);
    const [rest] = fingers.values();
    if (rest) start = { at: rest, box };
  });
}

frame.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [dx, dy] = arrow.map((step) => step * STEP), [left, top, right, bottom] = box;
  // with shift, the lower right corner moves
  if (event.shiftKey) span([left, top], [Math.max(right + dx, left + LEAST), Math.max(bottom + dy, top + LEAST)]);
  else move(box, dx, dy);
});
