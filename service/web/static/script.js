// The page: sends strokes or a picture to the service and shows its answer.

const SIDE = 280; // width of the drawing area in units, and of the PNG sent in pixels
const DEBOUNCE = 80; // ms without a new point before the drawing is sent
const MAX_WAIT = 400; // ms before it is sent during a continuing stroke
const RETRY_WITH_KEY = 1; // ms until the request is repeated with a key
const RETRY = 1000; // ms until a failed request is repeated
const MODEL_SIDE = 28; // pixels of the image that the model classifies
const KEY_STEP = 8; // units per press of an arrow key
const CERTAIN = 0.99, LIKELY = 0.9, PROBABLE = 0.6; // probabilities, for the wording

const $ = (id) => document.getElementById(id);
const drawing = $("drawing"), ink = drawing.getContext("2d");
const heatmap = $("heatmap"), heat = heatmap.getContext("2d");

let strokes = []; // each {width, points: [[x, y, pressure], …]}
let stroke = null; // the stroke being drawn
let file = null; // the chosen picture, instead of strokes
let cursor = null; // {x, y, stroke}: the pen that is moved by keys
let version = 0; // of the input: a reply to an older version is dropped
let changed = false, busy = false, timer = 0, waitingSince = 0;
let last = null; // reply: a prediction, a number, or the refusal of what is no digit
let answer = null; // the last reply, or the digit of its number that is shown
let known = [...Array(10).keys()]; // the model's classes
let chosen = null; // the digit whose evidence is shown; null: that of the answer

// The drawing area

function drawStrokes(context, scale, colour) {
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.strokeStyle = context.fillStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const { width, points } of strokes) {
    const [first] = points;
    if (points.length === 1) {
      context.beginPath();
      context.arc(first[0], first[1], (width * first[2]) / 2, 0, 2 * Math.PI);
      context.fill();
    }
    // a curve between the midpoints of successive points is smooth and has no gaps
    context.beginPath();
    context.moveTo(first[0], first[1]);
    for (let i = 1; i < points.length; i++) {
      const [x, y, pressure] = points[i];
      const last = i === points.length - 1;
      const to = last ? points[i] : [(x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2];
      context.lineWidth = width * pressure;
      context.quadraticCurveTo(x, y, to[0], to[1]);
      if (last || points[i + 1][2] !== pressure) {
        context.stroke();
        context.beginPath();
        context.moveTo(to[0], to[1]);
      }
    }
  }
}

function paint() {
  const pixels = Math.round(drawing.clientWidth * devicePixelRatio) || SIDE;
  if (drawing.width !== pixels) drawing.width = drawing.height = pixels;
  const style = getComputedStyle(drawing);
  ink.setTransform(1, 0, 0, 1, 0, 0);
  ink.clearRect(0, 0, pixels, pixels);
  drawStrokes(ink, pixels / SIDE, style.color);
  if (cursor && document.activeElement === drawing) {
    ink.beginPath();
    ink.strokeStyle = style.getPropertyValue("--accent");
    ink.lineWidth = 2;
    ink.arc(cursor.x, cursor.y, cursor.stroke ? 5 : 9, 0, 2 * Math.PI);
    ink.stroke();
  }
  const empty = !strokes.length && !file;
  $("hint").hidden = !empty;
  $("undo").disabled = !strokes.length;
  $("clear").disabled = empty;
}

function pointOf(event) {
  const box = drawing.getBoundingClientRect();
  // a mouse has no pressure and reports 0.5
  const pressure = event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1;
  return [
    ((event.clientX - box.left) * SIDE) / box.width,
    ((event.clientY - box.top) * SIDE) / box.height,
    pressure,
  ];
}

function beginStroke(point) {
  if (file) clear();
  stroke = { width: Number($("pen").value), points: [point] };
  strokes.push(stroke);
  inputChanged();
}

function inputChanged() {
  changed = true;
  paint();
  schedule();
}

function clear() {
  strokes = [];
  stroke = cursor = null;
  showPicture(null);
  replaceInput();
}

function undo() {
  strokes.pop();
  stroke = null;
  if (cursor) cursor.stroke = null;
  replaceInput();
}

/** Start a new version of the input, so that replies to the old one are dropped. */
function replaceInput() {
  version++;
  chosen = null;
  if (!strokes.length && !file) showAnswer(null, "No digit yet.");
  inputChanged();
}

function showPicture(picture) {
  file = picture;
  URL.revokeObjectURL($("picture").src);
  $("picture").hidden = !picture;
  if (picture) $("picture").src = URL.createObjectURL(picture);
  else $("picture").removeAttribute("src");
  drawing.hidden = Boolean(picture);
}

function usePicture(picture) {
  if (!picture) return;
  strokes = [];
  stroke = cursor = null;
  showPicture(picture);
  replaceInput();
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
    if (!event.isPrimary || cursor?.stroke) return;
    stroke = null;
    schedule();
    performance.mark("stroke-end");
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

drawing.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    " ": togglePen,
    z: () => strokes.length && undo(),
    c: clear,
    Delete: clear,
    "+": () => ($("pen").value = Number($("pen").value) + 4),
    "-": () => ($("pen").value = Number($("pen").value) - 4),
  };
  const move = MOVES[event.key];
  if (move) moveCursor(...move);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

function moveCursor(right, down) {
  cursor ??= { x: SIDE / 2, y: SIDE / 4, stroke: null };
  const inside = (value) => Math.min(SIDE, Math.max(0, value));
  cursor.x = inside(cursor.x + KEY_STEP * right);
  cursor.y = inside(cursor.y + KEY_STEP * down);
  if (!cursor.stroke) return paint();
  cursor.stroke.points.push([cursor.x, cursor.y, 1]);
  inputChanged();
}

function togglePen() {
  cursor ??= { x: SIDE / 2, y: SIDE / 4, stroke: null };
  if (cursor.stroke) {
    cursor.stroke = stroke = null;
    return paint();
  }
  const { x, y } = cursor;
  beginStroke([x, y, 1]);
  cursor = { x, y, stroke };
}

drawing.addEventListener("blur", paint);
drawing.addEventListener("focus", paint);
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
  if (event.target.matches("input[type=password]") || !strokes.length) return;
  event.preventDefault();
  undo();
});
$("picture").addEventListener("load", () => {
  placeBoxes(); // its size is known
  showDigit(answer);
});
addEventListener("resize", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  paint();
  explain();
});
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", () => {
  usePicture($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => usePicture(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  usePicture(event.dataTransfer.files[0]);
});

// Requests: one at a time, when the pen rests or a stroke takes long

function schedule(delay = DEBOUNCE) {
  const now = performance.now();
  waitingSince ||= now;
  clearTimeout(timer);
  timer = setTimeout(predict, Math.max(0, Math.min(delay, waitingSince + MAX_WAIT - now)));
}

function toPng() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  drawStrokes(context, 1, "black");
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function predict() {
  waitingSince = 0;
  if (busy || !changed) return;
  changed = false;
  if (!strokes.length && !file) return;
  busy = true;
  const sent = version;
  let wait = 0;
  try {
    const picture = file ?? (await toPng());
    let reply = await post(picture), body = await reply.json();
    const several = "n_digits" in body;
    if (several) {
      reply = await post(picture, "&several=1");
      body = await reply.json();
    }
    showCommand(picture, several);
    if (sent === version) wait = await handleReply(reply, body);
  } catch {
    wait = RETRY;
    if (sent === version) showAnswer(last, "The service does not respond; retrying…");
  }
  busy = false;
  if (wait) changed = true;
  if (changed) {
    if (wait) setTimeout(predict, wait);
    else schedule(0);
  }
}

function post(picture, options = "") {
  const key = sessionStorage.getItem("key");
  const form = new FormData();
  form.append("image", picture, "digit");
  return fetch(`predict?explain=1${options}`, {
    method: "POST",
    body: form,
    headers: key ? { Authorization: `Bearer ${key}` } : {},
  });
}

/** Show a reply; return the ms to wait before the request is repeated, or 0. */
async function handleReply(reply, body) {
  if (reply.ok) {
    showAnswer(body, sentenceFor(body));
    performance.mark("bars");
  } else if ("is_digit" in body) showAnswer(body, sentenceForRefusal(body));
  else if (reply.status === 422) showAnswer(null, "No prediction.", body.detail);
  else if (reply.status === 401) return (await askForKey()) ? RETRY_WITH_KEY : 0;
  else if (reply.status >= 500) {
    showAnswer(last, "The service is busy; retrying…");
    return RETRY * (Number(reply.headers.get("Retry-After")) || 1);
  } else showAnswer(null, "Cannot read this picture.", body.detail);
  return 0;
}

/** Ask the user for an API key; return whether one was entered. */
function askForKey() {
  sessionStorage.removeItem("key");
  showAnswer(null, "This service requires an API key.");
  const box = $("ask");
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => {
    const finish = () => {
      const entered = box.returnValue === "use";
      if (entered) sessionStorage.setItem("key", $("key").value);
      $("key").value = "";
      if (entered) showModel();
      resolve(entered);
    };
    box.addEventListener("close", finish, { once: true });
  });
}

// The answer

const withArticle = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

function percent(p) {
  if (p > 0.999) return "> 99.9 %";
  return p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}

function sentenceFor({ number, digit, probability, is_digit = 1, explanation }) {
  if (number) return sentenceForNumber(number, probability);
  const one = withArticle(digit), other = withArticle(explanation.runner_up);
  const doubt = is_digit < CERTAIN ? ` It may be no digit: ${percent(is_digit)} that it is one.` : "";
  if (probability >= CERTAIN) return `Almost certainly ${one}.${doubt}`;
  if (probability >= LIKELY) return `Very likely ${one}.${doubt}`;
  if (probability >= PROBABLE) return `Probably ${one}, possibly ${other}.${doubt}`;
  return `Uncertain: ${one} or ${other}.${doubt}`;
}

function sentenceForNumber(number, probability) {
  if (probability >= CERTAIN) return `Almost certainly ${number}.`;
  if (probability >= LIKELY) return `Very likely ${number}.`;
  return `${probability >= PROBABLE ? "Probably" : "Uncertain: perhaps"} ${number}.`;
}

/** A drawing may be unfinished, so this is no error. */
function sentenceForRefusal({ digit }) {
  const start = file ? "This does not look like a digit" : "Not a digit yet";
  return `${start}. The nearest is ${withArticle(digit)}.`;
}

function setText(id, text) {
  // a screen reader announces every assignment to a live region
  if ($(id).textContent !== text) $(id).textContent = text;
}

function showAnswer(reply, sentence, detail = "") {
  last = reply;
  if (reply === null || reply.number) chosen = null;
  const text = reply?.number ?? (reply?.probabilities ? String(reply.digit) : "?");
  setText("digit", text);
  $("digit").classList.toggle("long", text.length > 1);
  setText("sentence", detail ? `${sentence} ${detail[0].toUpperCase()}${detail.slice(1)}.` : sentence);
  placeBoxes();
  $("digits").replaceChildren(...(reply?.digits ?? []).map(makeDigit));
  showDigit(reply?.digits?.[0] ?? reply);
}

/** Show one digit of a number, or the only one. */
function showDigit(digit) {
  answer = digit;
  (last?.digits ?? []).forEach((each, i) => {
    $("digits").children[i].setAttribute("aria-pressed", each === digit);
    $("boxes").children[i].classList.toggle("shown", each === digit);
  });
  showBars();
  explain();
}

function makeDigit(digit) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = digit.digit;
  button.title = percent(digit.probability);
  button.addEventListener("click", () => {
    chosen = null;
    showDigit(digit);
  });
  return button;
}

/** Place the boxes of a number's digits on the picture, which may leave margins. */
function placeBoxes() {
  const { naturalWidth, naturalHeight } = $("picture");
  const [width, height] = file ? [naturalWidth, naturalHeight] : [SIDE, SIDE];
  const side = Math.max(width, height, 1);
  const boxes = (last?.digits ?? []).map(({ box: [x, y, w, h] }) => {
    const box = document.createElement("span");
    const percents = [(side - width) / 2 + x, (side - height) / 2 + y, w, h];
    ["left", "top", "width", "height"].forEach((name, i) => {
      box.style[name] = `${(100 * percents[i]) / side}%`;
    });
    return box;
  });
  $("boxes").replaceChildren(...boxes);
}

function classes() {
  return last?.classes ?? known;
}

function showBars() {
  const list = $("bars"), probabilities = answer?.probabilities;
  if (list.children.length !== classes().length) {
    list.replaceChildren(...classes().map(makeBar));
  }
  classes().forEach((digit, i) => {
    const bar = list.children[i].firstChild;
    const p = probabilities?.[i] ?? 0;
    const text = probabilities ? percent(p) : "–";
    bar.children[0].textContent = digit;
    bar.children[1].firstChild.style.transform = `scaleX(${p})`;
    bar.children[2].textContent = text;
    bar.disabled = !probabilities;
    bar.classList.toggle("best", Boolean(probabilities) && answer.digit === digit);
    bar.setAttribute("aria-pressed", Boolean(probabilities) && (chosen ?? answer.digit) === digit);
    bar.setAttribute("aria-label", `${digit}: ${text}`);
  });
}

function makeBar(_, i) {
  const item = document.createElement("li");
  const bar = document.createElement("button");
  bar.type = "button";
  bar.append(...["b", "span", "i"].map((kind) => document.createElement(kind)));
  bar.children[1].append(document.createElement("span"));
  bar.addEventListener("click", () => {
    chosen = classes()[i];
    showBars();
    explain();
  });
  item.append(bar);
  return item;
}

// Why: the image that the model classified, and the evidence of each region

function explain() {
  const style = getComputedStyle(heatmap);
  heat.setTransform(1, 0, 0, 1, 0, 0);
  heat.fillStyle = "black";
  heat.fillRect(0, 0, heatmap.width, heatmap.height);
  if (!answer) {
    setText("reason", "The image that the model classifies appears here, with the evidence for its answer.");
    heatmap.setAttribute("aria-label", "No image yet");
    return;
  }
  const { image, regions, logits, bias, answer: best, runner_up, digit_logit, digit_bias } =
    answer.explanation;
  const pixel = heatmap.width / MODEL_SIDE;
  image.forEach((row, y) =>
    row.forEach((grey, x) => {
      heat.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      heat.fillRect(x * pixel, y * pixel, pixel + 0.5, pixel + 0.5);
    }),
  );
  const refused = !answer.probabilities; // then: why it is no digit
  const digit = chosen ?? best;
  const rival = digit === best ? runner_up : best;
  const [k, r] = [digit, rival].map((each) => classes().indexOf(each));
  const [one, other] = refused ? ["a digit", "no digit"] : [digit, rival].map(withArticle);
  const evidence = regions.map((region) =>
    refused ? region.digit_evidence : region.logits[k] - region.logits[r],
  );
  const largest = Math.max(...evidence.map(Math.abs), 1e-9);
  heat.textAlign = "center";
  heat.textBaseline = "middle";
  heat.font = "600 17px system-ui, sans-serif";
  regions.forEach(({ outline }, i) => {
    const share = evidence[i] / largest;
    const colour = style.getPropertyValue(share < 0 ? "--against" : "--for");
    heat.beginPath();
    outline.forEach(([x, y]) => heat.lineTo(x * pixel, y * pixel));
    heat.closePath();
    heat.fillStyle = colour;
    heat.globalAlpha = 0.65 * Math.abs(share);
    heat.fill();
    heat.globalAlpha = 1;
    // many small regions, such as single pixels, leave no room for numbers
    if (regions.length > 16) return;
    const [x, y] = [0, 1].map((axis) => (outline.reduce((sum, at) => sum + at[axis], 0) / 4) * pixel);
    const text = signed(evidence[i]);
    heat.lineWidth = 4;
    heat.strokeStyle = "black";
    heat.strokeText(text, x, y);
    heat.fillStyle = "white";
    heat.fillText(text, x, y);
  });
  const [total, start] = refused ? [digit_logit, digit_bias] : [logits, bias].map((z) => z[k] - z[r]);
  setText(
    "reason",
    `Evidence of each region for ${one} against ${other}. With the bias of ` +
      `${signed(start)} it adds up to ${signed(total)}: ${odds(total, one, other)}.`,
  );
  heatmap.setAttribute("aria-label", `The image that the model classified, with evidence for ${one} against ${other}: ${evidence.map(signed).slice(0, 16).join(", ")}`);
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

function odds(total, one, other) {
  const factor = Math.exp(Math.abs(total));
  const times = factor < 1e6 ? Math.round(factor * 10 ** (factor < 10)) / 10 ** (factor < 10) : 0;
  const [more, less] = total < 0 ? [other, one] : [one, other];
  const often = times ? `${times.toLocaleString("en")} times` : "over a million times";
  return `${more} is ${often} as likely as ${less}`;
}

// About

function showCommand(picture, several) {
  const save = $("save");
  const name = file?.name ?? "digit.png";
  URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(picture);
  save.hidden = Boolean(file);
  const url = several ? `"${new URL("predict?several=1", location)}"` : new URL("predict", location);
  const quoted = /^[\w.-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
  const key = sessionStorage.getItem("key") ? ' -H "Authorization: Bearer $KEY"' : "";
  setText("command", `curl -F image=@${quoted}${key} ${url}`);
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    setText("copy", "Copied");
  } catch {
    getSelection().selectAllChildren($("command"));
    setText("copy", "Selected");
  }
  setTimeout(() => setText("copy", "Copy"), 1500);
});

async function showModel() {
  const key = sessionStorage.getItem("key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const reply = await fetch("model", { headers }).catch(() => null);
  if (!reply?.ok) return;
  const { model, training, evaluation, features, classes } = await reply.json();
  known = classes;
  const facts = [`Model ${model}: logistic regression on ${features}`];
  if (training.data) {
    const { rows = 0, drawn = 0 } = training, count = (n) => n.toLocaleString("en");
    const others = drawn ? ` and ${count(drawn)} synthetic digits` : "";
    facts.push(`, trained on ${count(rows - drawn)} images of ${training.data}${others} for ` +
      `${training.epochs} epochs of gradient descent (learning rate ${training.learning_rate}, batch size ` +
      `${training.batch_size}, seed ${training.seed}, torch ${training.versions?.torch})`);
  }
  if (evaluation.accuracy) {
    facts.push(`. Its accuracy on the ${evaluation.n.toLocaleString("en")} images of ` +
      `${evaluation.data} is ${(100 * evaluation.accuracy).toFixed(2)} %`);
  }
  setText("model", `${facts.join("")}.`);
}

setText("command", `curl -F image=@digit.png ${new URL("predict", location)}`);
paint();
showAnswer(null, "No digit yet.");
// without the key that a service may require this shows nothing; the first prediction asks for it
showModel();
