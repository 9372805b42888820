// The page: its input and the history of it, and when the input is sent.

import { $, LIKELY, make, say, sentenceFor, setText, showBars, showBoxes, showDigits, textOf, withArticle } from "./answer.js";
import { NoReply, classify, correct, curlCommand, describeModel, forgetKey, hasKey, saveKey, storage } from "./client.js";
import { beginCrop, cropping, endCrop } from "./crop.js";
import { ARROWS, SIDE, drawInput, imageOf, merged, placed, thumbnail, toUpload } from "./drawing.js";
import { explain } from "./evidence.js";
import { examples } from "./examples.js";
import { Refusal, cropped, openPicture } from "./pictures.js";

const DEBOUNCE = 80; // ms without a new point before an unfinished stroke is sent
const MAX_WAIT = 400; // ms before it is sent during a continuing stroke
const RETRY = 1000, MAX_RETRY = 60_000; // ms until a failed request is repeated
const KEY_STEP = 8; // units per press of an arrow key
const RECENT = 10; // answers that are kept in this tab
const EMPTY = { strokes: [], picture: null };
const LARGE = 400; // pixels of the longer side: a digit may be a small part of the picture
const ADVICE = " If the digit is a small part of the picture, crop to it.";
const NOTHING = "No digit yet. Draw one, or choose a picture.";

const drawing = $("drawing"), ink = drawing.getContext("2d");

// An input is {strokes, picture, example, drawn}: each stroke {width, points: [[x, y, pressure], …]}.
// An input is replaced, and only its last stroke grows while the pen is down.
let input = EMPTY;
let past = [], future = []; // inputs, to undo and to redo
let stroke = null; // the stroke being drawn
let cursor = null; // {x, y, stroke}: the pen that is moved by keys
let version = 0; // of the input: a reply to an older version is dropped
let changed = false, timer = 0, waitingSince = 0;
let notBefore = 0; // time of a retry
let inFlight = null; // AbortController of the request
let last = null; // {reply, upload} shown
let keeps = false; // corrections
let shown = null; // the reply, or the digit of its number whose bars are shown
let chosen = null; // the digit whose evidence is shown; null: that of the answer
let known = [...Array(10).keys()]; // the model's classes
let recent = []; // {input, text}: earlier answers, the newest first

// The input and its history

const isEmpty = ({ strokes, picture }) => !strokes.length && !picture;

/** Replace the input, so that replies to the old one are dropped. */
function replace(next) {
  version++;
  inFlight?.abort();
  inFlight = stroke = chosen = null;
  if (cursor) cursor.stroke = null;
  input = next;
  if (cropping()) closeCrop();
  $("crop").classList.remove("advised");
  const waits = notBefore > performance.now();
  showAnswer(null, isEmpty(input) ? NOTHING : waits ? "Waiting for the service…" : "Reading…");
  inputChanged();
}

/** Replace the input so that it can be undone. */
function commit(next) {
  remember();
  record();
  replace(next);
}

/** Record the input, which is about to change, to undo the change. */
function record() {
  setText("note", "");
  past.push(input.example ? EMPTY : input);
  future = [];
}

function step(from, to) {
  if (!from.length) return;
  to.push(input);
  replace(from.pop());
}

const undo = () => step(past, future), redo = () => step(future, past);

function clear() {
  if (input.example) replace(EMPTY); // there is nothing to undo
  else if (!isEmpty(input)) commit(EMPTY);
}

function beginStroke(point) {
  const { strokes, picture } = input.example ? EMPTY : input;
  const started = { width: Number($("pen").value), points: [point] };
  const next = { strokes: [...strokes, started], picture, drawn: !picture };
  record();
  if (input.example) replace(next);
  else {
    input = next;
    inputChanged();
  }
  stroke = started;
}

function inputChanged() {
  changed = true;
  dim();
  paint();
  schedule();
}

/** Dim an answer to earlier strokes. */
const dim = () => $("answer").classList.toggle("stale", changed && !isEmpty(input));

function paint() {
  const pixels = Math.round(drawing.clientWidth * devicePixelRatio) || SIDE;
  if (drawing.width !== pixels) drawing.width = drawing.height = pixels;
  const style = getComputedStyle(drawing);
  ink.reset();
  drawInput(ink, input, pixels, input.example ? style.getPropertyValue("--faint") : style.color);
  if (cursor && document.activeElement === drawing) {
    ink.beginPath();
    ink.strokeStyle = style.getPropertyValue("--pen");
    ink.lineWidth = 2;
    ink.arc(cursor.x, cursor.y, cursor.stroke ? 5 : 9, 0, 2 * Math.PI);
    ink.stroke();
  }
  $("hint").hidden = !isEmpty(input) && !input.example;
  setText("hint", input.example ? "An example. Draw your own." : "Draw here");
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  $("clear").disabled = isEmpty(input);
  $("crop").hidden = !input.picture;
  drawing.ariaLabel = `Drawing area${input.picture ? ` with ${input.picture.name}` : ""}`;
}

// The pen: pointers and keys

function pointOf(event) {
  const box = drawing.getBoundingClientRect();
  // a mouse has no pressure and reports 0.5
  const pressure = event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1;
  const at = [event.clientX - box.left, event.clientY - box.top];
  return [(at[0] * SIDE) / box.width, (at[1] * SIDE) / box.height, pressure];
}

drawing.addEventListener("pointerdown", (event) => {
  if (event.button > 0 || !event.isPrimary) return;
  drawing.setPointerCapture(event.pointerId);
  beginStroke(pointOf(event));
});
drawing.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary || cursor?.stroke) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const each of events.length ? events : [event]) stroke.points.push(pointOf(each));
  inputChanged();
});
for (const end of ["pointerup", "pointercancel"]) {
  drawing.addEventListener(end, (event) => {
    if (!stroke || !event.isPrimary || cursor?.stroke) return;
    stroke = null;
    schedule(0);
  });
}

const WIDER = 4; // units per press of + and -
const wider = () => $("pen").stepUp(WIDER), thinner = () => $("pen").stepDown(WIDER);
const KEYS = { " ": togglePen, z: undo, Z: redo, y: redo, c: clear, Delete: clear, "+": wider, "-": thinner };

drawing.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const move = ARROWS[event.key];
  if (move) moveCursor(...move);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
});

const placeCursor = () => (cursor ??= { x: SIDE / 2, y: SIDE / 4, stroke: null });

function moveCursor(right, down) {
  placeCursor();
  const inside = (value) => Math.min(SIDE, Math.max(0, value));
  cursor.x = inside(cursor.x + KEY_STEP * right);
  cursor.y = inside(cursor.y + KEY_STEP * down);
  if (!cursor.stroke) return paint();
  cursor.stroke.points.push([cursor.x, cursor.y, 1]);
  inputChanged();
}

function togglePen() {
  placeCursor();
  if (cursor.stroke) {
    cursor.stroke = stroke = null;
    return paint();
  }
  beginStroke([cursor.x, cursor.y, 1]);
  cursor.stroke = stroke;
}

addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=password]")) return;
  if (key === "z" && !event.shiftKey) undo();
  else if (key === "y" || key === "z") redo();
  else return;
  event.preventDefault();
});
drawing.onblur = drawing.onfocus = paint;
addEventListener("resize", paint);
$("undo").onclick = undo;
$("redo").onclick = redo;
$("clear").onclick = clear;

// Pictures that are brought

/** Show and classify each file in turn; all but the last end in the list of answers. */
async function bring(files) {
  const all = [...files].slice(0, RECENT);
  let n = 0;
  for (const [i, file] of all.entries()) {
    if (!(await open(file))) return;
    if (input.picture) n++;
    if (i < all.length - 1 && !(await answered())) return;
  }
  if (all.length > 1) setText("note", `${files.length} files: ${n} read, the last one shown.`);
}

/** Open a file as the input; return whether it is still the newest. */
async function open(file) {
  commit(EMPTY);
  const opening = version;
  say("Opening the picture…");
  try {
    const picture = await openPicture(file);
    if (opening !== version) return false;
    replace({ strokes: [], picture });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (opening !== version) return false;
    if (isEmpty(past.at(-1))) past.pop(); // nothing has changed
    paint();
    showAnswer(null, error.message);
  }
  return true;
}

/** Wait until the input is answered; return false if it is replaced before. */
async function answered() {
  const awaited = version;
  while (version === awaited && (changed || inFlight)) await new Promise((go) => setTimeout(go, 50));
  return version === awaited;
}

function receive(transfer, event) {
  if (event.target.matches?.("input[type=password]")) return;
  event.preventDefault();
  if (transfer?.files.length) bring(transfer.files);
  else if (transfer?.types.length) setText("note", "That is text. Paste or drop a picture, such as a PNG or a JPEG.");
}

for (const id of ["file", "photo"]) {
  $(id).addEventListener("change", async () => {
    const files = [...$(id).files];
    $(id).value = ""; // so that the same file can be chosen again
    await bring(files);
    if (id === "photo" && input.picture) startCrop();
  });
}
addEventListener("paste", (event) => receive(event.clipboardData, event));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  document.body.classList.remove("dragging");
  receive(event.dataTransfer, event);
});

function startCrop() {
  beginCrop(placed(input.picture.size, 1));
  $("cropping").hidden = false;
  $("tools").hidden = true;
}

function closeCrop() {
  $("cropping").hidden = true;
  $("tools").hidden = false;
  return endCrop();
}

function stopCrop(use) {
  const { picture } = input, box = closeCrop();
  if (use) commit({ strokes: [], picture: cropped({ ...picture, canvas: merged(input) }, box) });
  drawing.focus();
}

$("crop").onclick = startCrop;
$("crop-use").onclick = () => stopCrop(true);
$("crop-cancel").onclick = () => stopCrop(false);
$("frame").addEventListener("keydown", ({ key }) => {
  if (key === "Enter" || key === "Escape") stopCrop(key === "Enter");
});

// Requests: one at a time, when the pen rests or a stroke takes long

function schedule(delay = DEBOUNCE) {
  const now = performance.now();
  waitingSince ||= now;
  clearTimeout(timer);
  timer = setTimeout(predict, Math.max(0, notBefore - now, Math.min(delay, waitingSince + MAX_WAIT - now)));
}

async function predict() {
  waitingSince = 0;
  if (inFlight || !changed) return;
  changed = false;
  store();
  if (isEmpty(input)) return;
  const sent = version, request = new AbortController();
  inFlight = request;
  let wait = 0;
  try {
    const upload = toUpload(input);
    const reply = await classify(upload.url, request.signal, (share) => showProgress(sent, share));
    if (sent !== version) return;
    wait = await handle(reply, upload);
  } catch (error) {
    if (sent !== version) return;
    if (!(error instanceof NoReply)) throw error;
    wait = RETRY;
    say("The service does not respond; retrying…");
  }
  if (sent !== version) return;
  inFlight = null;
  notBefore = wait && performance.now() + wait;
  if (wait) changed = true;
  if (changed) schedule(wait);
}

function showProgress(sent, share) {
  if (sent !== version) return;
  if (share < 1) say(`Sending the picture: ${Math.round(100 * share)} %…`);
  else if (!last) say("Reading…");
}

/** Show a reply; return the ms to wait before the request is repeated, or 0. */
async function handle({ status, body, retryAfter, several }, upload) {
  showCommand(upload, several);
  if (status === 401) return (await askForKey()) ? 1 : 0;
  if (status >= 500 || status === 429) {
    say("The service is busy; retrying…");
    return Math.min(MAX_RETRY, RETRY * Math.max(1, retryAfter || 1));
  }
  const { detail, is_digit: isDigit = 1, probability } = body, refused = status === 422;
  const doubtful = refused || (status === 200 && probability * isDigit < LIKELY);
  const advised = doubtful && Boolean(input.picture) && Math.max(...upload.size) > LARGE;
  const answer = status === 200 || body.explanation ? body : null;
  let sentence = `${refused ? "No prediction" : "Cannot read this picture"}. ${detail?.[0].toUpperCase()}${detail?.slice(1)}.`;
  if (answer) sentence = refused ? sentenceForRefusal(body) : sentenceFor(body);
  $("crop").classList.toggle("advised", advised);
  showAnswer(answer, sentence + (advised ? ADVICE : ""), upload);
  return 0;
}

/** A drawing may be unfinished, so this is no error. */
function sentenceForRefusal({ digit }) {
  const start = input.drawn ? "Not a digit yet" : "This does not look like a digit";
  return `${start}; the nearest is ${withArticle(digit)}.`;
}

/** Ask the user for an API key; return whether one was entered. */
function askForKey() {
  const wrong = hasKey();
  forgetKey();
  showAnswer(null, "This service requires an API key.");
  if (input.example) return false; // nobody has asked for anything yet
  setText("ask-title", wrong ? "This key is not valid" : "This service requires an API key");
  const box = $("ask");
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => {
    const finish = () => {
      const entered = box.returnValue === "use" && $("key").value.trim();
      if (entered) saveKey($("key").value);
      $("key").value = "";
      if (entered) showModel();
      resolve(Boolean(entered));
    };
    box.addEventListener("close", finish, { once: true });
  });
}

$("cancel").onclick = () => $("ask").close("");

function showAnswer(reply, sentence, upload = null) {
  last = reply && { reply, upload };
  if (!reply || reply.number) chosen = null;
  dim();
  const text = textOf(reply), digits = reply?.digits ?? [];
  setText("digit", text);
  $("digit").classList.toggle("long", text.length > 1);
  say(input.example && reply ? `An example: ${sentence[0].toLowerCase()}${sentence.slice(1)}` : sentence);
  if (digits.length) showBoxes(digits, upload.size);
  else $("boxes").replaceChildren();
  showDigits(digits, (digit) => {
    chosen = null;
    showDigit(digit);
  });
  showDigit(digits[0] ?? reply);
  // while an answer is awaited, nothing moves
  if (reply || upload || isEmpty(input)) $("explanation").hidden = !reply;
}

function showDigit(digit) {
  shown = digit;
  (last?.reply.digits ?? []).forEach((each, i) => {
    $("digits").children[i].ariaPressed = each === digit;
    $("boxes").children[i].classList.toggle("shown", each === digit);
  });
  showEvidence();
}

function showEvidence() {
  const classes = last?.reply.classes ?? known;
  showBars(shown, classes, chosen, (digit) => {
    chosen = digit;
    showEvidence();
  }, keeps);
  explain(shown, chosen, classes);
  $("correction").hidden = !keeps || !last || input.example;
  const read = shown?.probabilities && shown.digit;
  $("correct").hidden = chosen === null || chosen === read;
  $("none").hidden = !shown?.probabilities; // else the answer says so
  $("correct").disabled = $("none").disabled = false;
  setText("correct", `No, it is ${withArticle(chosen)}`);
  setText("kept", "Wrong? Choose the right digit. The service then keeps the picture, the answer and the correction.");
}

async function sendCorrection(digit) {
  const corrected = shown, bar = chosen;
  $("correct").disabled = $("none").disabled = true;
  // of a digit of a number, the image that the model classified
  const one = last.reply.number && imageOf(corrected.explanation.image);
  const said = await correct(one ? one.toDataURL() : last.upload.url, digit);
  if (corrected === shown && bar === chosen) setText("kept", said);
}

$("correct").onclick = () => sendCorrection(chosen);
$("none").onclick = () => sendCorrection("none");

$("numbers").addEventListener("toggle", showEvidence);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  paint();
  showEvidence();
});

// Recent answers and examples

function remember() {
  // not an answer to earlier strokes
  if (!last || changed || inFlight || input.example || isEmpty(input)) return;
  recent = [{ input, text: textOf(last.reply) }, ...recent.filter((each) => each.input !== input)].slice(0, RECENT);
  $("recent").replaceChildren(...recent.map((each) => makeThumbnail(each.input, `${each.text}, earlier`, each.text)));
  $("recent-title").hidden = false;
}

/** Return a button with a small picture of an input, which brings it back. */
function makeThumbnail(content, label, text) {
  const item = make("li"), button = make("button"), image = make("img");
  image.src = thumbnail(content);
  image.alt = "";
  button.ariaLabel = label;
  button.append(image, text);
  button.onclick = () => commit({ ...content });
  item.append(button);
  return item;
}

const EXAMPLES = examples(SIDE);
$("examples").replaceChildren(
  ...EXAMPLES.map(({ name, strokes }) => makeThumbnail({ strokes, picture: null }, `Example: ${name}`, "")),
);

// What a reload keeps: the strokes

function store() {
  storage.removeItem("strokes");
  if (input.example || input.picture) return;
  try {
    storage.setItem("strokes", JSON.stringify(input.strokes));
  } catch {} // too many
}

function restore() {
  try {
    const strokes = JSON.parse(storage.getItem("strokes") ?? "[]");
    if (strokes.length) return { ...EMPTY, strokes };
  } catch {} // not what a page stores
  return { ...EMPTY, strokes: EXAMPLES[0].strokes, example: true };
}

function showCommand(upload, several) {
  const save = $("save");
  save.href = upload.url;
  save.download = upload.name;
  save.textContent = `Save as ${upload.name}`;
  save.hidden = false;
  setText("command", curlCommand(upload.name, several));
}

$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    setText("copy", "Copied");
  } catch {
    getSelection().selectAllChildren($("command"));
    setText("copy", "Selected");
  }
  setTimeout(() => setText("copy", "Copy"), 1500);
};

async function showModel() {
  const described = await describeModel();
  if (!described) return;
  const { model, training, evaluation, features, classes } = described;
  known = classes;
  keeps = described.feedback;
  const { n, data, accuracy } = evaluation;
  const source = training.data ? `, trained on ${training.data} by gradient descent` : "";
  const share = `${(100 * accuracy).toFixed(2)} %`;
  const test = accuracy ? ` Accuracy on the ${n.toLocaleString("en")} images of ${data}: ${share}.` : "";
  setText("model", `Model ${model}: logistic regression on ${features}${source}.${test}`);
}

setText("command", curlCommand("digit.png", false));
replace(restore());
showModel();
