// Strokes: how they are drawn, and the picture that is sent of an input.

export const SIDE = 280; // units of the drawing area, and pixels of the PNG that is sent
export const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Draw strokes with a context whose unit is that of the drawing area. */
export function drawStrokes(context, strokes, colour) {
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

/** Return where a picture lies on a square of a side: {left, top, width, height}. */
export function placed([width, height], side) {
  const scale = side / Math.max(width, height);
  const [w, h] = [scale * width, scale * height];
  return { left: (side - w) / 2, top: (side - h) / 2, width: w, height: h };
}

/** Draw an input, a picture with strokes over it, on a square of `side` pixels. */
export function drawInput(context, { strokes, picture }, side, colour) {
  if (picture) {
    const { left, top, width, height } = placed(picture.size, side);
    context.drawImage(picture.canvas, left, top, width, height);
  }
  context.scale(side / SIDE, side / SIDE);
  drawStrokes(context, strokes, picture?.ink ?? colour);
}

/** Return what is sent of an input: {url, name, size}, a data: URL and the size in pixels. */
export function toUpload(input) {
  const { strokes, picture } = input;
  if (picture && !strokes.length) return { url: picture.url, name: picture.name, size: picture.sent };
  const canvas = merged(input);
  // toBlob waits for an idle period, which may take a second
  const url = canvas.toDataURL(picture ? "image/jpeg" : "image/png");
  return { url, name: "digit.png", size: [canvas.width, canvas.height] };
}

/** Return an input as a canvas of its picture's size. */
export function merged(input) {
  const [width, height] = input.picture?.size ?? [SIDE, SIDE], side = Math.max(width, height);
  const canvas = newCanvas(width, height), context = whiteContext(canvas);
  context.translate((width - side) / 2, (height - side) / 2);
  drawInput(context, input, side, "black");
  return canvas;
}

/** Return a canvas of rows of grey levels. */
export function imageOf(rows) {
  const canvas = newCanvas(rows[0].length, rows.length), context = canvas.getContext("2d");
  const pixels = rows.flat().flatMap((grey) => [grey, grey, grey, 255]);
  context.putImageData(new ImageData(new Uint8ClampedArray(pixels), canvas.width), 0, 0);
  return canvas;
}

export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function whiteContext(canvas) {
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** Return a small picture of an input as a data: URL. */
export function thumbnail(input, side = 56) {
  const canvas = newCanvas(side, side);
  drawInput(whiteContext(canvas), input, side, "black");
  return canvas.toDataURL();
}
