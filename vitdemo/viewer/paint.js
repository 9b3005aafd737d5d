// Maps and saved pictures on a canvas. A "view" is { boxes, grid, width, height, colours, opacity,
// squares }: boxes and size in pixels of the original.

/** The rectangle that a full grid covers, on a canvas of the given size. */
function vdGridRect(view, width, height) {
  const [rows, columns] = view.grid;
  const x = width / view.width;
  const y = height / view.height;
  const right = view.boxes[4 * (columns - 1) + 2];
  const below = view.boxes[4 * (rows - 1) * columns + 3];
  return [view.boxes[0] * x, view.boxes[1] * y, (right - view.boxes[0]) * x,
    (below - view.boxes[1]) * y];
}

/** Draw a map over a cleared canvas context; `top` is the value of the colour map's upper end. */
function vdPaint(context, width, height, map, top, view) {
  const lut = vdLut(view.colours);
  const shade = (value) => (top > 0 ? Math.min(255, Math.round((255 * value) / top)) : 0);
  context.clearRect(0, 0, width, height);
  context.globalAlpha = view.opacity;
  if (view.grid[0] > 0 && !view.squares) {
    const [x, y, w, h] = vdGridRect(view, width, height);
    const shrink = Math.min(1, 512 / Math.max(w, h, 1));
    const patch = document.createElement("canvas");
    patch.width = Math.max(1, Math.round(w * shrink));
    patch.height = Math.max(1, Math.round(h * shrink));
    const smooth = vdSmooth(map, view.grid, view.boxes, patch.width, patch.height);
    const pixels = new ImageData(patch.width, patch.height);
    const target = new Uint32Array(pixels.data.buffer);
    const source = new Uint32Array(lut.buffer);
    for (let i = 0; i < smooth.length; i++) target[i] = source[shade(smooth[i])];
    patch.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(patch, x, y, w, h);
  } else {
    vdPaintBoxes(context, width, height, map, shade, lut, view);
  }
  context.globalAlpha = 1;
}

/** Every region as a plain box; large ones first, so that small ones stay on top. */
function vdPaintBoxes(context, width, height, map, shade, lut, view) {
  const x = width / view.width;
  const y = height / view.height;
  const boxes = Array.from(map, (value, k) => {
    const left = Math.round(view.boxes[4 * k] * x);
    const up = Math.round(view.boxes[4 * k + 1] * y);
    return { value, left, up, wide: Math.round(view.boxes[4 * k + 2] * x) - left,
      high: Math.round(view.boxes[4 * k + 3] * y) - up };
  });
  boxes.sort((a, b) => b.wide * b.high - a.wide * a.high);
  for (const box of boxes) {
    const j = 4 * shade(box.value);
    context.fillStyle = `rgba(${lut[j]}, ${lut[j + 1]}, ${lut[j + 2]}, ${lut[j + 3] / 255})`;
    context.fillRect(box.left, box.up, box.wide, box.high);
  }
  if (!view.squares) return;
  context.globalAlpha = 0.55;
  context.strokeStyle = "#fff";
  context.lineWidth = Math.max(1, width / 900);
  for (const box of boxes) {
    context.strokeRect(box.left + 0.5, box.up + 0.5, box.wide - 1, box.high - 1);
  }
}

const VD_PIECES = /[\u3400-\u9fff\uff00-\uffef]|[^\s\u3400-\u9fff\uff00-\uffef]+\s*|\s+/g;

/** Break a text into lines that fit; Chinese may break anywhere. */
function vdWrap(context, text, width) {
  const lines = [];
  let line = "";
  for (const piece of text.match(VD_PIECES) || []) {
    if (line && context.measureText((line + piece).trimEnd()).width > width) {
      lines.push(line.trimEnd());
      line = "";
    }
    line += piece;
  }
  if (line.trim()) lines.push(line.trimEnd());
  return lines;
}

/**
 * The picture with its map and a strip below that says what it shows, as a new canvas.
 * `strip` is { title, summary, details, low, high }: plain texts.
 */
function vdPoster(photo, map, top, view, strip) {
  const width = Math.max(photo.naturalWidth, 720);
  const height = Math.round((photo.naturalHeight * width) / photo.naturalWidth);
  const size = Math.max(14, Math.round(width / 48));
  const edge = Math.round(size * 1.2);
  const fonts = { title: `600 ${Math.round(size * 1.25)}px system-ui, sans-serif`,
    plain: `${size}px system-ui, sans-serif` };
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const lines = [];
  for (const [text, font] of [[strip.title, fonts.title], [strip.summary, fonts.plain],
    [strip.details, fonts.plain]]) {
    context.font = font;
    for (const line of vdWrap(context, text, width - 2 * edge)) lines.push([line, font]);
  }
  canvas.width = width;
  canvas.height = height + edge * 3 + Math.round(size * 1.6 * lines.length) + size;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const layer = document.createElement("canvas");
  layer.width = width;
  layer.height = height;
  vdPaint(layer.getContext("2d"), width, height, map, top, view);
  context.drawImage(photo, 0, 0, width, height);
  context.drawImage(layer, 0, 0);
  vdPosterScale(context, view.colours, strip, edge, height + edge, width - 2 * edge, size);
  let y = height + edge * 2 + size * 1.4;
  context.textAlign = "left";
  for (const [line, font] of lines) {
    context.font = font;
    context.fillStyle = font === fonts.title ? "#111827" : "#374151";
    context.fillText(line, edge, y + size);
    y += size * 1.6;
  }
  return canvas;
}

/** The colour bar of a saved picture, with the numbers at its ends. */
function vdPosterScale(context, colours, strip, x, y, width, size) {
  const lut = vdLut(colours);
  context.font = `${size}px system-ui, sans-serif`;
  const left = x + context.measureText(strip.low).width + size * 0.6;
  const right = x + width - context.measureText(strip.high).width - size * 0.6;
  const line = document.createElement("canvas");
  line.width = 256;
  line.height = 1;
  line.getContext("2d").putImageData(new ImageData(lut, 256, 1), 0, 0);
  context.drawImage(line, left, y, right - left, size * 0.8);
  context.fillStyle = "#374151";
  context.textAlign = "left";
  context.fillText(strip.low, x, y + size * 0.75);
  context.fillText(strip.high, right + size * 0.6, y + size * 0.75);
}
