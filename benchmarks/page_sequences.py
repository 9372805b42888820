"""Random sequences of actions on the page, and the answers that belong to none of them."""

import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import FilePayload, Page

from benchmarks.browser import draw
from benchmarks.handwriting import Stroke, strokes_of

SEVEN: list[Stroke] = [[(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)]]
N_EXAMPLES = 6
MIN_STEPS, MAX_STEPS = 2, 6  # of a sequence
PAUSED, MAX_PAUSE = 0.7, 120  # share of steps with a pause after them; ms
SETTLED, NEVER = 0.15, 20.0  # seconds without a change; seconds for an answer to appear
DELAYS = {"request": 50, "reply": 150, "lost": 0.02}  # ms, ms at most; share of the replies
# Requests are sent late and replies are received late, so that they overtake each other, also
# after the page has aborted them; some are lost. An observer sees every change of the answer:
# one that is not dimmed has to belong to the picture that is shown. `expected` has the answers
# to each picture by a page without delays. The same seed draws the same delays
# (mulberry32, by T. Ettinger).
WATCH = """({ request, reply, lost, seed }) => {
  const random = () => {
    let t = (seed = (seed + 0x6d2b79f5) | 0);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  Object.assign(window, { expected: null, stale: [], late: 0 });
  const after = (most, act) => {
    window.late++;
    setTimeout(() => { window.late--; act(); }, window.expected ? most * random() : 0);
  };
  const { addEventListener: listen, send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.send = function (body) {
    after(request, () => this.readyState === 1 && send.call(this, body));
  };
  XMLHttpRequest.prototype.addEventListener = function (name, handler) {
    const late = () => after(reply, () => {
      if (window.expected && random() < lost) this.dispatchEvent(new Event("error"));
      else handler.call(this, new Event("load"));
    });
    return listen.call(this, name, name === "load" ? late : handler);
  };
  addEventListener("DOMContentLoaded", () => {
    const [digit, sentence, answer, drawing] =
      ["digit", "sentence", "answer", "drawing"].map((id) => document.getElementById(id));
    window.shown = () => {
      const copy = new OffscreenCanvas(drawing.width, drawing.height)
        .getContext("2d", { willReadFrequently: true });
      copy.drawImage(drawing, 0, 0);
      const { data } = copy.getImageData(0, 0, drawing.width, drawing.height);
      let hash = 0;
      for (const value of new Uint32Array(data.buffer)) hash = (31 * hash + value) | 0;
      const dimmed = answer.classList.contains("stale");
      return [String(hash), digit.textContent, sentence.textContent, dimmed];
    };
    new MutationObserver(() => {
      const [picture, text, said, dimmed] = window.shown();
      const right = window.expected?.[picture];
      if (right && !dimmed && text !== "?" && text !== right[0])
        window.stale.push(`${text} (${said}) is shown beside the picture of ${right[0]}`);
    }).observe(answer, { subtree: true, childList: true, attributes: true, characterData: true });
  });
}"""


def stale_answers(page: Page, url: str, n_sequences: int, seed: int = 0) -> Iterator[str]:
    """Play random sequences; yield each answer that does not belong to the picture shown.

    Raises RuntimeError if a picture alone has no answer, or two.
    """
    page.add_init_script(f"({WATCH})({json.dumps({**DELAYS, 'seed': seed})})")
    page.goto(url)
    hand = _Hand(page, np.random.default_rng(seed))
    hand.learn()
    page.evaluate("(expected) => { window.expected = expected; }", hand.expected)
    for i in range(n_sequences):
        n_steps = int(hand.generator.integers(MIN_STEPS, MAX_STEPS, endpoint=True))
        steps = [hand.step() for _ in range(n_steps)]
        found = [*page.evaluate("window.stale.splice(0)"), *hand.settle()]
        yield from (f"sequence {i}, {', '.join(steps)}: {each}" for each in found)


class _Hand:
    """What a person does on the page, and the answers to each picture that it makes."""

    def __init__(self, page: Page, generator: np.random.Generator) -> None:
        self.page, self.generator = page, generator
        self.files = {"5": _png(strokes_of(5, 0)), "1": _png([[(0.5, 0.25), (0.5, 0.75)]])}
        self.expected: dict[str, tuple[str, str]] = {}  # picture → digit and sentence
        self.bare: set[str] = set()  # pictures without strokes over them
        self.whole: set[str] = set()  # of these, pictures that are not cropped

    def learn(self) -> None:
        """Make every picture, alone and with strokes over it, and wait for its answer."""
        self._note(self.bare)
        for name in self.files:
            self._learn(partial(self._bring, name), self.bare, self.whole)
            self._learn(self._crop, self.bare)
        for i in range(N_EXAMPLES):
            self._learn(partial(self._example, i), self.bare)
        self._learn(partial(self._click, "#clear"), self.bare)

    def _learn(self, make: Callable[[], None], *kinds: set[str]) -> None:
        make()
        self._note(*kinds)
        draw(self.page, SEVEN)
        self._note()
        self._click("#undo")
        self._note()

    def _note(self, *kinds: set[str]) -> None:
        """Wait for an answer without a change, and record it."""
        before, end = None, time.monotonic() + NEVER
        while True:
            self.page.wait_for_timeout(1000 * SETTLED)
            picture, digit, sentence, dimmed = self.page.evaluate("window.shown()")
            now = (picture, digit, sentence, self.page.evaluate("window.late"))
            if now == before and not dimmed and not sentence.endswith("…"):
                break
            if time.monotonic() > end:
                raise RuntimeError(f"no answer within {NEVER:g} s: {digit} ({sentence})")
            before = now
        if self.expected.setdefault(picture, (digit, sentence)) != (digit, sentence):
            raise RuntimeError(f"two answers to one picture: {self.expected[picture]}, {digit}")
        for kind in kinds:
            kind.add(picture)

    def step(self) -> str:
        """Do something at random; return what."""
        name = str(self.generator.choice([*STEPS]))
        STEPS[name](self)
        if self.generator.random() < PAUSED:
            self.page.wait_for_timeout(int(self.generator.integers(0, MAX_PAUSE, endpoint=True)))
        return name

    def settle(self) -> Iterator[str]:
        """Wait for the answer to what is shown; yield a description of any other."""
        before, since, end = None, 0.0, time.monotonic() + NEVER
        while time.monotonic() < end:
            now = self.page.evaluate("[...window.shown(), window.late]")
            if now != before:
                before, since = now, time.monotonic()
            picture, digit, sentence, dimmed, n_late = now
            right = self.expected.get(picture, ("", ""))
            # beside an empty area the sentence may be about a file that cannot be shown
            said = sentence == right[1] or (digit == right[0] == "?" and sentence[-1] != "…")
            belongs = digit == right[0] and said and not dimmed and not n_late
            if belongs and time.monotonic() - since > SETTLED:
                return
            self.page.wait_for_timeout(30)
        yield f"{digit} ({sentence}; dimmed: {dimmed}) stays beside the picture of {right[0]}"

    def _click(self, selector: str) -> None:
        self.page.evaluate("(selector) => document.querySelector(selector).click()", selector)

    def _bring(self, *names: str) -> None:
        files = [_file(f"{name}.png", self.files[name]) for name in names]
        self.page.locator("#file").set_input_files(files)

    def _choose(self) -> None:
        self._bring(str(self.generator.choice([*self.files])))

    def _draw(self) -> None:
        if self.page.evaluate("window.shown()")[0] in self.bare:
            draw(self.page, SEVEN)

    def _crop(self) -> None:
        if self.page.evaluate("window.shown()")[0] in self.whole:
            self._click("#crop")
            self.page.keyboard.press("Enter")

    def _example(self, i: int) -> None:
        self._click(f"#examples li:nth-child({i + 1}) button")

    def _earlier(self) -> None:
        self.page.evaluate(
            """(share) => {
                const all = document.querySelectorAll("#recent button");
                all[Math.floor(share * all.length)]?.click();
            }""",
            self.generator.random(),
        )

    def _text(self) -> None:
        self.page.locator("#file").set_input_files(_file("a.txt", b"seven"))


STEPS: dict[str, Callable[[_Hand], None]] = {
    "draw": _Hand._draw,
    "clear": lambda hand: hand._click("#clear"),
    "undo": lambda hand: hand.page.keyboard.press("Control+z"),
    "redo": lambda hand: hand.page.keyboard.press("Control+Shift+Z"),
    "choose a picture": _Hand._choose,
    "choose two": lambda hand: hand._bring("5", "1"),
    "choose a text": _Hand._text,
    "crop": _Hand._crop,
    "an example": lambda hand: hand._example(int(hand.generator.integers(N_EXAMPLES))),
    "an earlier one": _Hand._earlier,
}


def _file(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def _png(strokes: list[Stroke]) -> bytes:
    """Return a picture of strokes."""
    image = Image.new("L", (300, 240), 255)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        pen.line([(30 + 240 * x, 240 * y) for x, y in stroke], 0, 14, joint="curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
