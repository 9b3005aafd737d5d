// The numbers behind the maps; no DOM here.
// L layers, H heads, Q words, K regions. Boxes are x0, y0, x1, y1 in pixels of the original.
// A "look" is one text read by one method, unpacked: the text's own fields and the method's.

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
  return { ...text, values, scale: Number.isFinite(text.scale) ? text.scale : 0,
    layerCount: layers, headCount: heads, wordCount: words, regionCount: regions,
    reduced: new Map(), always: [] };
}

/** A text of the payload with all its methods: `looks` by name, the text's own one first. */
function vdUnpackText(text) {
  const boxes = Float64Array.from(text.boxes); // one array for all methods: maps then glide
  const plain = { ...text, boxes, words: Array.from(text.words, (span) => Array.from(span)),
    probabilities: Array.from(text.probabilities || []), unread: Array.from(text.unread || []),
    unsure: Array.from(text.unsure || []),
    evidence: { ...text.evidence },
    always_on: { ...text.always_on }, others: Array.from(text.others || []), matters: {},
    smallest: {} };
  plain.looks = {};
  for (const one of [text, ...plain.others]) vdAddLook(plain, one);
  vdMarkAlways(plain);
  return plain;
}

/** Add the maps of one method to a text; maps over other words or regions are left out. */
function vdAddLook(text, one) {
  if (one.shape[2] !== text.words.length || 4 * one.shape[3] !== text.boxes.length) return;
  const { source, title, language, words, boxes, grid, width, height, probabilities,
    unread } = text;
  text.looks[one.method] = vdUnpack({ source, title, language, text: text.text, words, boxes, grid,
    width, height, probabilities, unread, method: one.method, label: one.label, shape: one.shape,
    bits: one.bits, scale: one.scale, weights: one.weights, layers: Array.from(one.layers),
    gates: Array.from(one.gates || []), note: one.note || "" });
}

/** Tell each method of a text which regions are hot for every word. */
function vdMarkAlways(text) {
  for (const [method, look] of Object.entries(text.looks)) {
    look.always = Array.from(text.always_on[method] || []).filter((k) => k < look.regionCount);
  }
}

/**
 * Mean over the chosen layers and heads: Float32Array (Q * K). -1 stands for all of them. With
 * `hide`, the regions that are hot for every word count as zero.
 */
function vdReduce(text, layer, head, hide = false) {
  const key = `${layer}:${head}:${hide}`;
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
  if (hide) {
    for (const k of text.always) {
      for (let i = k; i < size; i += regionCount) sum[i] = 0;
    }
  }
  const factor = text.scale / Math.max(1, count);
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

/** How many words of a text were not read. */
function vdUnreadCount(text) {
  return (text.unread || []).filter(Boolean).length;
}

/** The map of one word, or with word -1 the mean over all words: Float32Array (K). */
function vdMap(text, layer, head, word, hide = false) {
  const { weights } = vdReduce(text, layer, head, hide);
  const regions = text.regionCount;
  if (word >= 0) return weights.slice(word * regions, (word + 1) * regions);
  const mean = new Float32Array(regions);
  const read = text.wordCount - vdUnreadCount(text); // what was not read has no map
  for (let i = 0; i < weights.length; i++) mean[i % regions] += weights[i] / Math.max(1, read);
  return mean;
}

/** Which ninth of the picture a point (0..1, 0..1) lies in, in words. */
function vdPlace(x, y) {
  const column = x < 1 / 3 ? 0 : x < 2 / 3 ? 1 : 2;
  const row = y < 1 / 3 ? 0 : y < 2 / 3 ? 1 : 2;
  const name = [["upper_left", "top", "upper_right"], ["left", "middle", "right"],
    ["lower_left", "bottom", "lower_right"]][row][column];
  return vdPhrase(`viewer.place.${name}`);
}

/**
 * What a map says. `total` is the attention on the picture (0..1); `share` of it lies in the
 * strongest regions, which cover `area` of the picture (both 0..1) and lie around `place`;
 * `even` marks a map with no strong spot. Regions in `left` are left out of everything.
 */
function vdSummary(map, boxes, width, height, left = []) {
  const regions = [];
  let total = 0;
  let covered = 0;
  for (let k = 0; k < map.length; k++) {
    if (left.includes(k)) continue;
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

/** 0.123 -> "12%", 0.0042 -> "0.4%", never "0%" for something; "–" for what is no number. */
function vdPercent(value) {
  if (typeof value !== "number" || Number.isNaN(value)) return "–";
  const percent = 100 * value;
  if (percent <= 0) return "0%";
  if (percent < 0.1) return vdPhrase("viewer.under_01");
  if (percent < 9.95) return `${percent.toFixed(1).replace(/\.0$/, "")}%`;
  return `${Math.round(percent)}%`;
}

/** As vdPercent, but whole from 1% on: for sentences. */
function vdWhole(value) {
  return value >= 0.00995 ? `${Math.round(100 * value)}%` : vdPercent(value);
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
