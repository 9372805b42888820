// The answer: its sentence, the bars of probabilities, the digits of a number.

const CERTAIN = 0.99, PROBABLE = 0.6; // probabilities, for the wording
export const LIKELY = 0.9;
const SPEAK = 700; // ms without a change before a screen reader hears the answer

export const make = (kind) => document.createElement(kind);
export const $ = (id) => document.getElementById(id);
export const withArticle = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

export function percent(p) {
  if (p > 0.999) return "> 99.9 %";
  return p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;
}

export function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

let speaking = 0;

/** Show a sentence; a screen reader hears only the last of a quick succession. */
export function say(sentence) {
  setText("sentence", sentence);
  clearTimeout(speaking);
  speaking = setTimeout(() => setText("spoken", sentence), SPEAK);
}

/** Return the sentence for a prediction or a number. */
export function sentenceFor({ number, digit, probability, is_digit: isDigit = 1, explanation }) {
  if (number) return `${hedged(number, probability)}.`;
  const rival = probability < LIKELY ? `, possibly ${withArticle(explanation.runner_up)}` : "";
  const none = isDigit < LIKELY ? ` It may not be a digit: P(digit) is ${percent(isDigit)}.` : "";
  return `${hedged(withArticle(digit), probability * isDigit)}${rival}.${none}`;
}

function hedged(what, p) {
  if (p >= CERTAIN) return `Almost certainly ${what}`;
  if (p >= LIKELY) return `Very likely ${what}`;
  return `${p >= PROBABLE ? "Probably" : "Uncertain: perhaps"} ${what}`;
}

/** Return the text of a reply: its number or digit, or "?". */
export function textOf(reply) {
  return reply?.number ?? (reply?.probabilities ? String(reply.digit) : "?");
}

/** Show the bars of an answer; `pick` is called with the digit of a bar; `keeps`: also of a refusal. */
export function showBars(answer, classes, shown, pick, keeps) {
  const list = $("bars"), probabilities = answer?.probabilities;
  if (list.children.length !== classes.length) list.replaceChildren(...classes.map(makeBar));
  classes.forEach((digit, i) => {
    const bar = list.children[i].firstChild;
    const p = probabilities?.[i] ?? 0;
    const text = probabilities ? percent(p) : "–";
    bar.onclick = () => pick(digit);
    bar.children[0].textContent = digit;
    bar.children[1].firstChild.style.transform = `scaleX(${p})`;
    bar.children[2].textContent = text;
    bar.disabled = !probabilities && !(answer && keeps);
    bar.classList.toggle("best", Boolean(probabilities) && answer.digit === digit);
    bar.ariaPressed = Boolean(answer) && (shown ?? (probabilities && answer.digit)) === digit;
    bar.ariaLabel = `${digit}: ${text}`;
  });
}

function makeBar() {
  const item = make("li"), bar = make("button");
  bar.append(...["b", "span", "i"].map(make));
  bar.children[1].append(make("span"));
  item.append(bar);
  return item;
}

/** Show the digits of a number as buttons; `pick` is called with the one that is clicked. */
export function showDigits(digits, pick) {
  $("digits").replaceChildren(
    ...digits.map((digit) => {
      const button = make("button");
      button.textContent = digit.digit;
      button.title = percent(digit.probability);
      button.onclick = () => pick(digit);
      return button;
    }),
  );
}

/** Place the boxes of a number's digits on the drawing area, on which a picture of `size` lies. */
export function showBoxes(digits, [width, height]) {
  const side = Math.max(width, height);
  $("boxes").replaceChildren(
    ...digits.map(({ box: [x, y, w, h] }) => {
      const box = make("span");
      const percents = [(side - width) / 2 + x, (side - height) / 2 + y, w, h];
      ["left", "top", "width", "height"].forEach((name, i) => {
        box.style[name] = `${(100 * percents[i]) / side}%`;
      });
      return box;
    }),
  );
}
