// Why: the image that the model classified, and the evidence of each region of it.

import { $, setText, withArticle } from "./answer.js";
import { imageOf } from "./drawing.js";

const MODEL_SIDE = 28; // pixels of the image that the model classifies
const MOST = 0.6; // of the evidence for an answer, that the regions named first add up to
const NAMED = 3; // regions, at most
const NOTABLE = 0.15; // of the evidence for an answer: less against it is not mentioned
const LABELLED = 16; // regions: more leave no room for names and numbers
const NO_DIGIT = "something else";

const canvas = $("heatmap"), heat = canvas.getContext("2d");
const pixel = canvas.width / MODEL_SIDE;
const ROWS = ["top", "", "bottom"], COLUMNS = ["left", "", "right"];

const middle = (outline, axis) => outline.reduce((sum, at) => sum + at[axis], 0) / outline.length;

/** Return the name of each region by where it lies among them: "top left", "centre". */
function namesOf(outlines) {
  const third = (axis) => {
    const at = outlines.map((outline) => middle(outline, axis));
    const low = Math.min(...at), span = Math.max(...at) - low || 1;
    return at.map((value) => Math.min(2, Math.floor((3 * (value - low)) / span)));
  };
  const [x, y] = [third(0), third(1)];
  return outlines.map((_, i) => `${ROWS[y[i]]} ${COLUMNS[x[i]]}`.trim() || "centre");
}

/** Return "the top, the centre and the bottom left". */
function listed(names) {
  const all = names.map((name) => `the ${name}`);
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all.at(-1)}` : all[0];
}

/** Return the question that the evidence answers: {one, other, evidence, total, start}. */
function question(answer, digit, classes) {
  const { regions, logits, bias, answer: best, runner_up: runnerUp } = answer.explanation;
  if (!answer.probabilities) {
    const { digit_logit: total, digit_bias: start } = answer.explanation;
    const evidence = regions.map((region) => region.digit_evidence);
    return { one: "a digit", other: NO_DIGIT, evidence, total, start };
  }
  const shown = digit ?? best, rival = shown === best ? runnerUp : best;
  const [k, r] = [shown, rival].map((each) => classes.indexOf(each));
  const [total, start] = [logits, bias].map((z) => z[k] - z[r]);
  const evidence = regions.map((region) => region.logits[k] - region.logits[r]);
  return { one: withArticle(shown), other: withArticle(rival), evidence, total, start };
}

/** Return the indices of the fewest regions whose evidence adds up to more than `least`. */
function fewest(evidence, least) {
  const order = evidence.map((_, i) => i).sort((i, j) => evidence[j] - evidence[i]);
  let sum = 0, n = 0;
  while (n < order.length && evidence[order[n]] > 0 && sum <= least) sum += evidence[order[n++]];
  return sum > least ? order.slice(0, n) : null;
}

/** Return the evidence in words. */
function inWords({ one, other, evidence, total }, names) {
  if (names.length < 2 || names.length > LABELLED) return "";
  // an answer is looked at from the side that won
  const [winner, loser] = total < 0 ? [other, one] : [one, other];
  const towards = evidence.map((value) => (total < 0 ? -value : value));
  const positive = towards.filter((value) => value > 0).reduce((a, b) => a + b, 0);
  const sentences = [], at = (regions) => listed(regions.map((i) => names[i]));
  const pro = (fewest(towards, MOST * positive) ?? []).slice(0, NAMED);
  // as the colours: for and against `one`
  let most = `for ${winner}, not ${loser}`, rest = total < 0 ? `for ${loser}` : "against it";
  if (winner === NO_DIGIT) [most, rest] = ["against a digit", "for one"];
  if (pro.length) sentences.push(`The strokes at ${at(pro)} speak ${most}.`);
  else sentences.push(`No region speaks for ${winner} rather than ${loser}: the bias decides.`);
  const against = towards
    .map((_, i) => i)
    .filter((i) => -towards[i] > NOTABLE * positive)
    .sort((i, j) => towards[i] - towards[j])
    .slice(0, NAMED - 1);
  if (against.length) sentences.push(`Those at ${at(against)} speak ${rest}.`);
  const turn = fewest(towards, Math.abs(total));
  if (turn && turn.length <= NAMED) sentences.push(`Without the strokes at ${at(turn)}, ${loser} would be more likely.`);
  return sentences.join(" ");
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

function odds(total, one, other) {
  const factor = Math.exp(Math.abs(total));
  const times = Number(factor.toFixed(factor < 10 ? 1 : 0)).toLocaleString("en");
  const [more, less] = total < 0 ? [other, one] : [one, other];
  return `${more} is ${factor < 1e6 ? times : "over a million"} times as likely as ${less}`;
}

/** Explain an answer, as `digit` if given. */
export function explain(answer, digit, classes) {
  heat.fillStyle = "black";
  heat.fillRect(0, 0, canvas.width, canvas.height);
  if (!answer) {
    for (const id of ["words", "reason"]) setText(id, "");
    canvas.ariaLabel = "No image yet";
    return;
  }
  const asked = question(answer, digit, classes), { one, other, evidence, total, start } = asked;
  const outlines = answer.explanation.regions.map((region) => region.outline);
  heat.imageSmoothingEnabled = false;
  heat.drawImage(imageOf(answer.explanation.image), 0, 0, canvas.width, canvas.height);
  drawEvidence(outlines, evidence);
  setText("words", inWords(asked, namesOf(outlines)));
  setText(
    "reason",
    `Evidence of each region for ${one} against ${other}. With the bias of ` +
      `${signed(start)} it adds up to ${signed(total)}: ${odds(total, one, other)}.`,
  );
  const numbers = evidence.map(signed).slice(0, LABELLED).join(", ");
  canvas.ariaLabel = `The image that the model classified, with evidence for ${one} against ${other}: ${numbers}`;
}

function drawEvidence(outlines, evidence) {
  const style = getComputedStyle(canvas);
  const largest = Math.max(...evidence.map(Math.abs), 1e-9);
  const numbered = $("numbers").open && outlines.length <= LABELLED;
  heat.textAlign = "center";
  heat.textBaseline = "middle";
  heat.font = "600 17px system-ui, sans-serif";
  outlines.forEach((outline, i) => {
    const share = evidence[i] / largest;
    heat.beginPath();
    outline.forEach(([x, y]) => heat.lineTo(x * pixel, y * pixel));
    heat.closePath();
    heat.fillStyle = style.getPropertyValue(share < 0 ? "--against" : "--for");
    heat.globalAlpha = 0.65 * Math.abs(share);
    heat.fill();
    heat.globalAlpha = 1;
    if (!numbered) return;
    const [x, y] = [0, 1].map((axis) => middle(outline, axis) * pixel);
    heat.lineWidth = 4;
    heat.strokeStyle = "black";
    heat.strokeText(signed(evidence[i]), x, y);
    heat.fillStyle = "white";
    heat.fillText(signed(evidence[i]), x, y);
  });
}
