// Maps and saved pictures on a canvas. A "view" is { boxes, grid, width, height, style, colours,
// opacity, squares }: boxes and size in pixels of the original.

const VD_FINE = 256; // longest side on which a smooth map is worked out, in pixels
const VD_RIM = 0.4; // of a glow's scale: where it has a rim
const VD_LINES = [0.2, 0.4, 0.6, 0.8]; // of the scale's upper end: where contour lines run

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

/** The colours that a view draws in: the spotlight is black that gets thinner, and a glow is the
 * bright half of a colour map that gets denser. */
function vdPalette(view) {
  if (view.style === "spotlight") return "spotlight";
  return view.style === "glow" ? `glow ${view.colours}` : view.colours;
}

/**
 * The values at the ends of the colours. A glow begins at the map's mean, so that what got no more
 * than that stays the photograph as it is, and ends at twice the mean or more. `strength` is below
 * 1 for a glow over a map that is nearly even: there is little to light up. In maps of plain
 * pictures the lowest quarter has at least 0.6 of the mean, in words' maps of photographs mostly
 * less than 0.4.
 */
function vdRange(map, top, view) {
  if (view.style !== "glow" || !(top > 0)) return { low: 0, high: top, strength: 1 };
  const sorted = Float64Array.from(map).sort();
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  if (!(mean > 0)) return { low: 0, high: top, strength: 1 };
  const quarter = sorted[Math.floor((sorted.length - 1) / 4)] / mean;
  return { low: mean, high: Math.max(top, 2 * mean),
    strength: Math.min(1, Math.max(0, (1 - quarter) / 0.6)) };
}

/** Draw a map over a cleared canvas context; `top` is the value of the colour map's upper end. */
function vdPaint(context, width, height, map, top, view) {
  const lut = vdLut(vdPalette(view));
  const { low, high, strength } = vdRange(map, top, view);
  const scale = high > low ? 255 / (high - low) : 0;
  const shade = (value) => Math.min(255, Math.max(0, Math.round((value - low) * scale)));
  context.clearRect(0, 0, width, height);
  context.globalAlpha = view.opacity * strength;
  if (view.style === "contour") {
    context.globalAlpha = Math.min(1, 1.5 * view.opacity); // thin lines need more of it
    vdPaintLines(context, width, height, map, VD_LINES.map((share) => [share, share * top]), view);
    if (view.squares) vdPaintGrid(context, width, height, view);
  } else if (view.grid[0] > 0 && !view.squares) {
    const [x, y, w, h] = vdGridRect(view, width, height);
    const shrink = Math.min(1, VD_FINE / Math.max(w, h, 1));
    const patch = document.createElement("canvas");
    patch.width = Math.max(1, Math.round(w * shrink));
    patch.height = Math.max(1, Math.round(h * shrink));
    const smooth = vdSmooth(map, view.grid, view.boxes, patch.width, patch.height);
    const pixels = new ImageData(patch.width, patch.height);
    const target = new Uint32Array(pixels.data.buffer);
    const source = new Uint32Array(lut.buffer);
    for (let i = 0; i < smooth.length; i++) {
      const level = (smooth[i] - low) * scale + 0.5; // rounds, as `shade` does
      target[i] = source[level > 255 ? 255 : level < 0 ? 0 : level | 0];
    }
    patch.getContext("2d").putImageData(pixels, 0, 0);
    context.drawImage(patch, x, y, w, h);
    if (view.style === "glow" && strength > 0.5) {
      context.globalAlpha = Math.min(1, view.opacity * 1.3);
      vdPaintLines(context, width, height, map, [[1, low + VD_RIM * (high - low)]], view);
    }
  } else {
    vdPaintBoxes(context, width, height, map, shade, lut, view);
    if (view.squares) vdPaintGrid(context, width, height, view);
  }
  context.globalAlpha = 1;
}

/** A map as lines of equal height: [share of the colour map, value] for each. */
function vdPaintLines(context, width, height, map, levels, view) {
  if (!levels.every(([, value]) => value > 0)) return;
  const full = view.grid[0] > 0;
  const [x, y, w, h] = full ? vdGridRect(view, width, height) : [0, 0, width, height];
  const shrink = Math.min(1, 160 / Math.max(w, h, 1));
  const columns = Math.max(2, Math.round(w * shrink));
  const rows = Math.max(2, Math.round(h * shrink));
  const field = full ? vdSmooth(map, view.grid, view.boxes, columns, rows)
    : vdRaster(map, view, columns, rows);
  const lut = vdLut(view.colours);
  context.lineCap = context.lineJoin = "round";
  for (const [share, value] of levels) {
    const lines = vdContour(field, columns, rows, value);
    context.beginPath();
    for (let i = 0; i < lines.length; i += 4) {
      context.moveTo(x + (lines[i] * w) / columns, y + (lines[i + 1] * h) / rows);
      context.lineTo(x + (lines[i + 2] * w) / columns, y + (lines[i + 3] * h) / rows);
    }
    const j = 4 * Math.round(255 * share);
    const thick = Math.max(1.5, width / 400) * (0.7 + share);
    // A light line in a dark one, or the reverse, shows on any picture.
    context.strokeStyle = lut[j] + lut[j + 1] + lut[j + 2] > 380 ? "#000" : "#fff";
    context.lineWidth = thick * 2;
    context.stroke();
    context.strokeStyle = `rgb(${lut[j]}, ${lut[j + 1]}, ${lut[j + 2]})`;
    context.lineWidth = thick;
    context.stroke();
  }
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
}

/** The borders of all regions. */
function vdPaintGrid(context, width, height, view) {
  const x = width / view.width;
  const y = height / view.height;
  context.globalAlpha = 0.55;
  context.strokeStyle = "#fff";
  context.lineWidth = Math.max(1, width / 900);
  for (let k = 0; 4 * k < view.boxes.length; k++) {
    const left = Math.round(view.boxes[4 * k] * x);
    const up = Math.round(view.boxes[4 * k + 1] * y);
    context.strokeRect(left + 0.5, up + 0.5, Math.round(view.boxes[4 * k + 2] * x) - left - 1,
      Math.round(view.boxes[4 * k + 3] * y) - up - 1);
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
 * `strip` is { title, summary, details, low, high }: plain texts. `marks` are outlines as
 * `vdMarks` gives them.
 */
function vdPoster(photo, map, top, view, strip, marks) {
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
  vdPosterMarks(context, marks, width / view.width, height / view.height);
  vdPosterScale(context, vdPalette(view), strip, edge, height + edge, width - 2 * edge, size);
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

/** Outlines over a saved picture; `x` and `y` are canvas pixels for one of the original. */
function vdPosterMarks(context, marks, x, y) {
  for (const { path, dash } of marks) {
    const line = new Path2D();
    line.addPath(new Path2D(path), new DOMMatrix([x, 0, 0, y, 0, 0]));
    for (const [colour, thick] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.setLineDash(colour === "#fff" ? dash : []);
      context.stroke(line);
    }
  }
  context.setLineDash([]);
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
