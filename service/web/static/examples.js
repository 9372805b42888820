// Examples to click, as strokes: x,y in hundredths of the drawing area.

const WIDTH = 20; // units of the pen

const EXAMPLES = {
  "a four": "36,20 29,44 27,53 40,52 72,48|60,26 55,82",
  "a crossed seven": "30,24 55,22 70,21 62,38 54,55 48,80|36,51 66,49",
  "a two": "32,35 36,24 48,19 60,23 63,35 57,48 31,78 45,77 70,77",
  "a five": "65,22 52,22 40,23 36,46 47,42 60,46 67,58 62,72 50,80 34,76",
  "a number": "13,40 18,36 23,37 24,44 19,53 12,61 19,61 26,60|40,37 34,42 33,52 37,61 43,59 46,50 44,40 40,37|54,37 53,44 52,50 58,50 65,49|62,42 60,62|78,37 73,41 76,47 84,57 79,63 73,58 83,45 83,39 78,37",
  "a letter": "30,80 46,36 50,22 55,38 70,80|38,58 60,57",
};

/** Return the examples by name: each a list of strokes {width, points: [[x, y, 1], …]}. */
export function examples(side) {
  return Object.entries(EXAMPLES).map(([name, text]) => {
    const strokes = text.split("|").map((stroke) => ({
      width: name === "a number" ? WIDTH / 2 : WIDTH,
      points: stroke.split(" ").map((point) => [...point.split(",").map((n) => (Number(n) * side) / 100), 1]),
    }));
    return { name, strokes };
  });
}
