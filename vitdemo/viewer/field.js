// A map as a field of smooth values, and its contour lines; no DOM here.

/** Middle of each column (or row) of a full grid, from its boxes, in original pixels. */
function vdCentres(boxes, count, step, low, high) {
  return Array.from({ length: count },
    (_, i) => (boxes[4 * i * step + low] + boxes[4 * i * step + high]) / 2);
}

/** For each of `size` pixels between start and end: its four grid neighbours and their weights
 * (Catmull-Rom: exact at the middle of each region, smooth between). */
function vdTaps(size, start, end, centres) {
  const taps = new Float32Array(size * 4);
  const first = new Int32Array(size * 4);
  const last = centres.length - 1;
  for (let p = 0, i = 0; p < size; p++) {
    const at = start + ((p + 0.5) / size) * (end - start);
    while (i < last && centres[i + 1] < at) i++;
    const next = Math.min(i + 1, last);
    const gap = centres[next] - centres[i];
    const t = gap > 0 ? Math.min(1, Math.max(0, (at - centres[i]) / gap)) : 0;
    const weights = [((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2,
      ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2];
    for (let n = 0; n < 4; n++) {
      first[4 * p + n] = Math.min(last, Math.max(0, i - 1 + n));
      taps[4 * p + n] = weights[n];
    }
  }
  return { taps, first };
}

/** A full grid's map as smooth values: Float32Array (height * width), never above the map's top. */
function vdSmooth(map, grid, boxes, width, height) {
  const [rows, columns] = grid;
  const right = boxes[4 * (columns - 1) + 2];
  const below = boxes[4 * (rows - 1) * columns + 3];
  const across = vdTaps(width, boxes[0], right, vdCentres(boxes, columns, 1, 0, 2));
  const down = vdTaps(height, boxes[1], below, vdCentres(boxes, rows, columns, 1, 3));
  let top = 0;
  for (const value of map) if (value > top) top = value;
  const wide = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let n = 4 * x; n < 4 * x + 4; n++) {
        sum += across.taps[n] * map[r * columns + across.first[n]];
      }
      wide[r * width + x] = sum;
    }
  }
  const smooth = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [a, b, c, d] = down.taps.subarray(4 * y, 4 * y + 4);
    const [p, q, r, s] = down.first.subarray(4 * y, 4 * y + 4).map((row) => row * width);
    for (let x = 0; x < width; x++) {
      const sum = a * wide[p + x] + b * wide[q + x] + c * wide[r + x] + d * wide[s + x];
      smooth[y * width + x] = sum < 0 ? 0 : sum > top ? top : sum;
    }
  }
  return smooth;
}


/** Regions that form no full grid as values on a raster: Float32Array (height * width). Where
 * regions overlap, the smallest counts, as it is drawn on top. */
function vdRaster(map, view, width, height) {
  const field = new Float32Array(width * height);
  const order = Array.from(map, (_, k) => k);
  const area = (k) => (view.boxes[4 * k + 2] - view.boxes[4 * k])
    * (view.boxes[4 * k + 3] - view.boxes[4 * k + 1]);
  order.sort((a, b) => area(b) - area(a));
  for (const k of order) {
    const [x0, y0, x1, y1] = view.boxes.slice(4 * k, 4 * k + 4);
    const right = Math.min(width, Math.round((x1 / view.width) * width));
    const below = Math.min(height, Math.round((y1 / view.height) * height));
    for (let y = Math.max(0, Math.round((y0 / view.height) * height)); y < below; y++) {
      field.fill(map[k], y * width + Math.max(0, Math.round((x0 / view.width) * width)),
        y * width + right);
    }
  }
  return field;
}

// For each pattern of the four corners of a square that are above the level (upper left 8, upper
// right 4, lower right 2, lower left 1): the pairs of its sides that a line joins.
const VD_SQUARES = [[], ["LB"], ["BR"], ["LR"], ["TR"], ["LT", "BR"], ["TB"], ["LT"], ["LT"],
  ["TB"], ["TR", "LB"], ["TR"], ["LR"], ["BR"], ["LB"], []];

/**
 * The line where a field crosses a level, by marching squares (Lorensen and Cline 1987, in the
 * plane): a flat list x0, y0, x1, y1, ... with the middle of pixel (0, 0) at (0.5, 0.5).
 */
function vdContour(field, width, height, level) {
  const lines = [];
  const cut = (low, high) => (low === high ? 0.5 : (level - low) / (high - low));
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const i = y * width + x;
      const [a, b, c, d] = [field[i], field[i + 1], field[i + width + 1], field[i + width]];
      let code = (a >= level ? 8 : 0) + (b >= level ? 4 : 0) + (c >= level ? 2 : 0)
        + (d >= level ? 1 : 0);
      if (code === 0 || code === 15) continue;
      // Two opposite corners: which of them are joined, the middle tells.
      if ((code === 5 || code === 10) && (a + b + c + d) / 4 < level) code = 15 - code;
      const at = { T: [x + 0.5 + cut(a, b), y + 0.5], R: [x + 1.5, y + 0.5 + cut(b, c)],
        B: [x + 0.5 + cut(d, c), y + 1.5], L: [x + 0.5, y + 0.5 + cut(a, d)] };
      for (const [from, to] of VD_SQUARES[code]) lines.push(...at[from], ...at[to]);
    }
  }
  return lines;
}
