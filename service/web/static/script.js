// The page: takes strokes or a picture, asks the service, shows what it answers.

const SIDE = 280; // units of the sheet, and pixels of what is sent
const DEBOUNCE = 80; // ms without a new point after which the sheet is sent
const PATIENCE = 400; // ms after which it is sent while a stroke goes on
const SOON = 1; // ms until it is asked again with a key
const AGAIN = 1000; // ms until a service that is away is asked again
const MODEL_SIDE = 28; // pixels of what the model sees
const KEY_STEP = 8; // units that an arrow key moves the pen
const SURE = 0.99, LIKELY = 0.9, OPEN = 0.6;

const $ = (id) => document.getElementById(id);
const sheet = $("drawing"), pen = sheet.getContext("2d");
const sight = $("sight"), view = sight.getContext("2d");

let strokes = []; // each {width, points: [[x, y, pressure], …]}
let stroke = null; // the one that is being drawn
let file = null; // the picture that was brought, in place of strokes
let cursor = null; // {x, y, stroke} of who draws by keys
let edition = 0; // of what is on the sheet: replies to another one are dropped
let changed = false, busy = false, timer = 0, waitsSince = 0;
let answer = null; // the last reply
let chosen = null; // the digit whose evidence is shown, or null for the answer

// The sheet

function drawStrokes(context, scale, ink) {
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.strokeStyle = context.fillStyle = ink;
  context.lineCap = context.lineJoin = "round";
  for (const { width, points } of strokes) {
    const [first] = points;
    if (points.length === 1) {
      context.beginPath();
      context.arc(first[0], first[1], (width * first[2]) / 2, 0, 2 * Math.PI);
      context.fill();
    }
    // a curve from middle to middle of the points: smooth, and without gaps
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
  const pixels = Math.round(sheet.clientWidth * devicePixelRatio) || SIDE;
  if (sheet.width !== pixels) sheet.width = sheet.height = pixels;
  const style = getComputedStyle(sheet);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, pixels, pixels);
  drawStrokes(pen, pixels / SIDE, style.color);
  if (cursor && document.activeElement === sheet) {
    pen.beginPath();
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 2;
    pen.arc(cursor.x, cursor.y, cursor.stroke ? 5 : 9, 0, 2 * Math.PI);
    pen.stroke();
  }
  const empty = !strokes.length && !file;
  $("hint").hidden = !empty;
  $("undo").disabled = !strokes.length;
  $("clear").disabled = empty;
}

function place(event) {
  const box = sheet.getBoundingClientRect();
  // a mouse has no pressure, and says 0.5
  const pressure = event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1;
  return [
    ((event.clientX - box.left) * SIDE) / box.width,
    ((event.clientY - box.top) * SIDE) / box.height,
    pressure,
  ];
}

function begin(point) {
  if (file) clear();
  stroke = { width: Number($("pen").value), points: [point] };
  strokes.push(stroke);
  change();
}

function change() {
  changed = true;
  paint();
  schedule();
}

function clear() {
  strokes = [];
  stroke = cursor = null;
  show(null);
  renew();
}

function undo() {
  strokes.pop();
  stroke = null;
  if (cursor) cursor.stroke = null;
  renew();
}

/** Put something else on the sheet: replies to what was there come too late. */
function renew() {
  edition++;
  chosen = null;
  if (!strokes.length && !file) tell(null, "No digit here yet.");
  change();
}

function show(picture) {
  file = picture;
  URL.revokeObjectURL($("picture").src);
  $("picture").hidden = !picture;
  if (picture) $("picture").src = URL.createObjectURL(picture);
  else $("picture").removeAttribute("src");
  sheet.hidden = Boolean(picture);
}

function bring(picture) {
  if (!picture) return;
  strokes = [];
  stroke = cursor = null;
  show(picture);
  renew();
}

sheet.addEventListener("pointerdown", (event) => {
  if (event.button > 0 || !event.isPrimary) return;
  sheet.setPointerCapture(event.pointerId);
  begin(place(event));
});
sheet.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary || cursor?.stroke) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const each of events.length ? events : [event]) stroke.points.push(place(each));
  change();
});
for (const end of ["pointerup", "pointercancel"]) {
  sheet.addEventListener(end, (event) => {
    if (!event.isPrimary || cursor?.stroke) return;
    stroke = null;
    schedule();
    performance.mark("stroke-end");
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

sheet.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    " ": toggle,
    z: () => strokes.length && undo(),
    c: clear,
    Delete: clear,
    "+": () => ($("pen").value = Number($("pen").value) + 4),
    "-": () => ($("pen").value = Number($("pen").value) - 4),
  };
  const move = MOVES[event.key];
  if (move) go(...move);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

function go(right, down) {
  cursor ??= { x: SIDE / 2, y: SIDE / 4, stroke: null };
  const inside = (value) => Math.min(SIDE, Math.max(0, value));
  cursor.x = inside(cursor.x + KEY_STEP * right);
  cursor.y = inside(cursor.y + KEY_STEP * down);
  if (!cursor.stroke) return paint();
  cursor.stroke.points.push([cursor.x, cursor.y, 1]);
  change();
}

function toggle() {
  cursor ??= { x: SIDE / 2, y: SIDE / 4, stroke: null };
  if (cursor.stroke) {
    cursor.stroke = stroke = null;
    return paint();
  }
  const { x, y } = cursor;
  begin([x, y, 1]);
  cursor = { x, y, stroke };
}

sheet.addEventListener("blur", paint);
sheet.addEventListener("focus", paint);
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
  if (event.target.matches("input[type=password]") || !strokes.length) return;
  event.preventDefault();
  undo();
});
addEventListener("resize", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  paint();
  explain();
});
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", () => {
  bring($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => bring(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  bring(event.dataTransfer.files[0]);
});

// The question: at most one at a time, when the pen rests or a stroke takes long

function schedule(delay = DEBOUNCE) {
  const now = performance.now();
  waitsSince ||= now;
  clearTimeout(timer);
  timer = setTimeout(ask, Math.max(0, Math.min(delay, waitsSince + PATIENCE - now)));
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

async function ask() {
  waitsSince = 0;
  if (busy || !changed) return;
  changed = false;
  if (!strokes.length && !file) return;
  busy = true;
  const asked = edition;
  let wait = 0;
  try {
    const picture = file ?? (await toPng());
    offer(picture);
    const reply = await post(picture);
    if (asked === edition) wait = await take(reply);
  } catch {
    wait = AGAIN;
    if (asked === edition) tell(answer, "The service does not answer; asking again…");
  }
  busy = false;
  if (wait) changed = true;
  if (changed) {
    if (wait) setTimeout(ask, wait);
    else schedule(0);
  }
}

function post(picture) {
  const key = sessionStorage.getItem("key");
  const form = new FormData();
  form.append("image", picture, "digit");
  return fetch("predict?explain=1", {
    method: "POST",
    body: form,
    headers: key ? { Authorization: `Bearer ${key}` } : {},
  });
}

/** Show a reply; give the ms after which to ask again, or 0. */
async function take(reply) {
  const body = await reply.json();
  if (reply.ok) {
    tell(body, sentenceOf(body));
    performance.mark("bars");
  } else if (reply.status === 422) tell(null, "No digit here.", body.detail);
  else if (reply.status === 401) return (await askForKey()) ? SOON : 0;
  else if (reply.status >= 500) {
    tell(answer, "The service is busy; asking again…");
    return AGAIN * (Number(reply.headers.get("Retry-After")) || 1);
  } else tell(null, "That cannot be read.", body.detail);
  return 0;
}

/** Have a key typed; tell whether one was. */
function askForKey() {
  sessionStorage.removeItem("key");
  tell(null, "This service wants a key.");
  const box = $("ask");
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => {
    const use = () => {
      const typed = box.returnValue === "use";
      if (typed) sessionStorage.setItem("key", $("key").value);
      $("key").value = "";
      if (typed) learn();
      resolve(typed);
    };
    box.addEventListener("close", use, { once: true });
  });
}

// The answer

const named = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

function percent(p) {
  if (p > 0.999) return "> 99.9 %";
  return p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}

function sentenceOf({ digit, probability, explanation }) {
  const other = named(explanation.runner_up);
  if (probability >= SURE) return `Surely ${named(digit)}.`;
  if (probability >= LIKELY) return `Very likely ${named(digit)}.`;
  if (probability >= OPEN) return `${named(digit).replace("a", "A")}, perhaps ${other}.`;
  return `Hard to say: ${named(digit)}, or ${other}.`;
}

function write(id, text) {
  // a live region speaks of every change
  if ($(id).textContent !== text) $(id).textContent = text;
}

function tell(reply, sentence, detail = "") {
  answer = reply;
  if (reply === null) chosen = null;
  write("digit", reply ? String(reply.digit) : "?");
  write("sentence", detail ? `${sentence} ${detail[0].toUpperCase()}${detail.slice(1)}.` : sentence);
  showBars();
  explain();
}

function classes() {
  return answer?.classes ?? [...Array(10).keys()];
}

function showBars() {
  const list = $("bars");
  if (list.children.length !== classes().length) {
    list.replaceChildren(...classes().map(makeBar));
  }
  classes().forEach((digit, i) => {
    const bar = list.children[i].firstChild;
    const p = answer ? answer.probabilities[i] : 0;
    const text = answer ? percent(p) : "–";
    bar.children[0].textContent = digit;
    bar.children[1].firstChild.style.transform = `scaleX(${p})`;
    bar.children[2].textContent = text;
    bar.disabled = !answer;
    bar.classList.toggle("best", answer?.digit === digit);
    bar.setAttribute("aria-pressed", Boolean(answer) && (chosen ?? answer.digit) === digit);
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

// Why: the image the model saw, and what each region of it adds

function explain() {
  const style = getComputedStyle(sight);
  view.setTransform(1, 0, 0, 1, 0, 0);
  view.fillStyle = "black";
  view.fillRect(0, 0, sight.width, sight.height);
  if (!answer) {
    write("reason", "What the model sees will be here, and what in it speaks for the answer.");
    sight.setAttribute("aria-label", "Nothing has been looked at yet");
    return;
  }
  const { image, regions, logits, bias, answer: best, runner_up } = answer.explanation;
  const pixel = sight.width / MODEL_SIDE;
  image.forEach((row, y) =>
    row.forEach((grey, x) => {
      view.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      view.fillRect(x * pixel, y * pixel, pixel + 0.5, pixel + 0.5);
    }),
  );
  const digit = chosen ?? best;
  const rival = digit === best ? runner_up : best;
  const [k, r] = [digit, rival].map((each) => classes().indexOf(each));
  const evidence = regions.map((region) => region.logits[k] - region.logits[r]);
  const most = Math.max(...evidence.map(Math.abs), 1e-9);
  view.textAlign = "center";
  view.textBaseline = "middle";
  view.font = "600 17px system-ui, sans-serif";
  regions.forEach(({ outline }, i) => {
    const share = evidence[i] / most;
    const colour = style.getPropertyValue(share < 0 ? "--against" : "--for");
    view.beginPath();
    outline.forEach(([x, y]) => view.lineTo(x * pixel, y * pixel));
    view.closePath();
    view.fillStyle = colour;
    view.globalAlpha = 0.65 * Math.abs(share);
    view.fill();
    view.globalAlpha = 1;
    // many small regions, such as those of pixels, have no room for numbers
    if (regions.length > 16) return;
    const [x, y] = [0, 1].map((axis) => (outline.reduce((sum, at) => sum + at[axis], 0) / 4) * pixel);
    const text = signed(evidence[i]);
    view.lineWidth = 4;
    view.strokeStyle = "black";
    view.strokeText(text, x, y);
    view.fillStyle = "white";
    view.fillText(text, x, y);
  });
  const total = logits[k] - logits[r], start = bias[k] - bias[r];
  write(
    "reason",
    `What each region adds for ${named(digit)} against ${named(rival)}. With ${signed(start)} to ` +
      `start from, all add up to ${signed(total)}: ${odds(total, digit, rival)}.`,
  );
  sight.setAttribute("aria-label", `The digit as the model saw it, with evidence for ${digit} against ${rival}: ${evidence.map(signed).slice(0, 16).join(", ")}`);
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

function odds(total, digit, rival) {
  const factor = Math.exp(Math.abs(total));
  const times = factor < 1e6 ? Math.round(factor * 10 ** (factor < 10)) / 10 ** (factor < 10) : 0;
  const [more, less] = total < 0 ? [rival, digit] : [digit, rival];
  const often = times ? `${times.toLocaleString("en")} times` : "over a million times";
  return `${often} as likely ${named(more)} as ${named(less)}`;
}

// About

function offer(picture) {
  const save = $("save");
  const name = file?.name ?? "digit.png";
  URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(picture);
  save.hidden = Boolean(file);
  const quoted = /^[\w.-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
  const key = sessionStorage.getItem("key") ? ' -H "Authorization: Bearer $KEY"' : "";
  write("command", `curl -F image=@${quoted}${key} ${new URL("predict", location)}`);
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    write("copy", "Copied");
  } catch {
    getSelection().selectAllChildren($("command"));
    write("copy", "Selected");
  }
  setTimeout(() => write("copy", "Copy"), 1500);
});

async function learn() {
  const key = sessionStorage.getItem("key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const reply = await fetch("model", { headers }).catch(() => null);
  if (!reply?.ok) return;
  const { model, training, evaluation, features } = await reply.json();
  const facts = [`Model ${model}: logistic regression on ${features}`];
  if (training.data) {
    facts.push(`, trained on ${training.rows?.toLocaleString("en")} digits of ${training.data} by ` +
      `${training.epochs} epochs of gradient descent (rate ${training.learning_rate}, batches of ` +
      `${training.batch_size}, seed ${training.seed}, torch ${training.versions?.torch})`);
  }
  if (evaluation.accuracy) {
    facts.push(`. It reads ${(100 * evaluation.accuracy).toFixed(2)} % of the ` +
      `${evaluation.n.toLocaleString("en")} digits of ${evaluation.data}`);
  }
  write("model", `${facts.join("")}.`);
}

write("command", `curl -F image=@digit.png ${new URL("predict", location)}`);
paint();
tell(null, "No digit here yet.");
// a page that wants a key asks for it when there is something to ask about
learn();
