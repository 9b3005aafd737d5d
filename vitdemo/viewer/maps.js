// The numbers behind the maps; no DOM here.
// L layers, H heads, Q words, K regions. Boxes are x0, y0, x1, y1 in pixels of the original.

const VD_LEVELS = {};

/** Squares of q / levels for every stored value q: weights are stored as square roots. */
function vdLevels(bits) {
  if (!VD_LEVELS[bits]) {
    const top = 2 ** bits - 1;
    const table = new Float32Array(top + 1);
    for (let q = 0; q <= top; q++) table[q] = (q / top) ** 2;
    VD_LEVELS[bits] = table;
  }
  return VD_LEVELS[bits];
}

/** One text of the payload, its weights unpacked, ready for vdReduce. */
function vdUnpack(text) {
  const bytes = Uint8Array.from(atob(text.weights), (c) => c.charCodeAt(0));
  const [layers, heads, words, regions] = text.shape;
  const values = text.bits === 16 ? new Uint16Array(bytes.buffer) : bytes;
  if (values.length !== layers * heads * words * regions) throw new Error("weights cut off");
  return { ...text, values, layerCount: layers, headCount: heads, wordCount: words,
    regionCount: regions, reduced: new Map() };
}

/** Mean over the chosen layers and heads: Float32Array (Q * K). -1 stands for all of them. */
function vdReduce(text, layer, head) {
  const key = `${layer}:${head}`;
  if (text.reduced.has(key)) return text.reduced.get(key);
  const { values, layerCount, headCount, wordCount, regionCount } = text;
  const table = vdLevels(text.bits);
  const size = wordCount * regionCount;
  const sum = new Float32Array(size);
  let count = 0;
  for (let l = 0; l < layerCount; l++) {
    if (layer >= 0 && l !== layer) continue;
    for (let h = 0; h < headCount; h++) {
      if (head >= 0 && h !== head) continue;
      const start = (l * headCount + h) * size;
      for (let i = 0; i < size; i++) sum[i] += table[values[start + i]];
      count++;
    }
  }
  const factor = text.scale / count;
  let top = 0;
  for (let i = 0; i < size; i++) {
    sum[i] *= factor;
    if (sum[i] > top) top = sum[i];
  }
  const result = { weights: sum, top };
  if (text.reduced.size > 64) text.reduced.clear();
  text.reduced.set(key, result);
  return result;
}

/** The map of one word, or with word -1 the mean over all words: Float32Array (K). */
function vdMap(text, layer, head, word) {
  const { weights } = vdReduce(text, layer, head);
  const regions = text.regionCount;
  if (word >= 0) return weights.slice(word * regions, (word + 1) * regions);
  const mean = new Float32Array(regions);
  for (let i = 0; i < weights.length; i++) mean[i % regions] += weights[i] / text.wordCount;
  return mean;
}

/** Which ninth of the picture a point (0..1, 0..1) lies in, in words. */
function vdPlace(x, y) {
  const column = x < 1 / 3 ? 0 : x < 2 / 3 ? 1 : 2;
  const row = y < 1 / 3 ? 0 : y < 2 / 3 ? 1 : 2;
  return [["in the upper left", "at the top", "in the upper right"],
    ["on the left", "in the middle", "on the right"],
    ["in the lower left", "at the bottom", "in the lower right"]][row][column];
}

/**
 * What a map says. `total` is the attention on the picture (0..1); `share` of it lies in the
 * strongest regions, which cover `area` of the picture (both 0..1) and lie around `place`;
 * `even` marks a map with no strong spot.
 */
function vdSummary(map, boxes, width, height) {
  const regions = [];
  let total = 0;
  let covered = 0;
  for (let k = 0; k < map.length; k++) {
    const [x0, y0, x1, y1] = boxes.slice(4 * k, 4 * k + 4);
    const area = Math.max(0, (x1 - x0) * (y1 - y0));
    if (area > 0) {
      regions.push({ weight: map[k], area, x: (x0 + x1) / 2 / width, y: (y0 + y1) / 2 / height });
    }
    total += map[k];
    covered += area;
  }
  if (!(total > 0) || !(covered > 0)) return { total: 0 };
  regions.sort((a, b) => b.weight / b.area - a.weight / a.area);
  let weight = 0;
  let area = 0;
  let count = 0;
  for (const region of regions) {
    // About a twelfth of the picture, but never less than one region.
    if (count && area + region.area / 2 > covered / 12) break;
    count++;
    weight += region.weight;
    area += region.area;
  }
  return { total, share: weight / total, area: Math.min(1, area / (width * height)),
    place: vdStrongPlace(regions, count), even: weight / total < 1.5 * (area / covered) };
}

/**
 * Where the strongest regions lie. `regions` come densest first; `count` of them are spoken of.
 * Of these, the ones almost as dense as the densest count; on a plateau, all of it does.
 */
function vdStrongPlace(regions, count) {
  const density = (one) => one.weight / one.area;
  const peak = density(regions[0]);
  const flat = density(regions[count - 1]) >= 0.9 * peak;
  const least = (flat ? 0.9 : 0.7) * peak;
  const strong = (flat ? regions : regions.slice(0, count)).filter((one) => density(one) >= least);
  const middle = vdMiddle(strong);
  const away = (one, place) => Math.hypot(one.x - place.x, one.y - place.y);
  const nearest = regions.reduce((best, one) => (
    away(one, middle) < away(best, middle) ? one : best));
  if (density(nearest) >= least) return vdPlace(middle.x, middle.y);
  // Two spots far apart have their middle where nothing is: then the strongest spot counts.
  const { x, y } = vdMiddle(strong.filter((one) => away(one, regions[0]) < 0.25));
  return vdPlace(x, y);
}

/** Centre of mass of regions, each coordinate 0..1 of the picture. */
function vdMiddle(regions) {
  let x = 0;
  let y = 0;
  let sum = 0;
  for (const one of regions) {
    x += one.x * one.weight;
    y += one.y * one.weight;
    sum += one.weight;
  }
  return { x: x / sum, y: y / sum };
}

/** 0.123 -> "12%", 0.0042 -> "0.4%", never "0%" for something. */
function vdPercent(value) {
  const percent = 100 * value;
  if (percent <= 0) return "0%";
  if (percent < 0.1) return "under 0.1%";
  if (percent < 9.95) return `${percent.toFixed(1).replace(/\.0$/, "")}%`;
  return `${Math.round(percent)}%`;
}

/** As vdPercent, but whole from 1% on: for sentences. */
function vdWhole(value) {
  return value >= 0.00995 ? `${Math.round(100 * value)}%` : vdPercent(value);
}

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
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let n = 4 * y; n < 4 * y + 4; n++) sum += down.taps[n] * wide[down.first[n] * width + x];
      smooth[y * width + x] = Math.min(top, Math.max(0, sum));
    }
  }
  return smooth;
}

/** The region under a point of the original, smallest first; -1 where there is none. */
function vdRegionAt(boxes, x, y) {
  let found = -1;
  let least = Infinity;
  for (let k = 0; 4 * k < boxes.length; k++) {
    const [x0, y0, x1, y1] = boxes.slice(4 * k, 4 * k + 4);
    const area = (x1 - x0) * (y1 - y0);
    if (x >= x0 && x < x1 && y >= y0 && y < y1 && area < least) {
      found = k;
      least = area;
    }
  }
  return found;
}
