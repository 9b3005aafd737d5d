// Numbers about regions, boxes and heads; no DOM here. vitdemo/attention/regions.py has the same
// formulas, and tests/test_browser_looking.py holds the two together.

/** A box [x0, y0, x1, y1] cut off at the picture's edges, its corners in order. */
function vdClip(box, width, height) {
  const within = (value, most) => Math.min(most, Math.max(0, value));
  return [within(Math.min(box[0], box[2]), width), within(Math.min(box[1], box[3]), height),
    within(Math.max(box[0], box[2]), width), within(Math.max(box[1], box[3]), height)];
}

/**
 * For a box: `area`, the share of the picture that it covers, and `shares`, for each word the share
 * of its attention on the picture that falls inside, all 0..1. A region that is partly inside
 * counts by its area; a word that did not look at the picture has 0. `weights` is (Q * K).
 */
function vdBoxShares(look, weights, box) {
  const { boxes, width, height, wordCount, regionCount } = look;
  const [x0, y0, x1, y1] = vdClip(box, width, height);
  const inside = new Float64Array(regionCount);
  const solid = new Uint8Array(regionCount);
  for (let k = 0; k < regionCount; k++) {
    const [a, b, c, d] = boxes.slice(4 * k, 4 * k + 4);
    const area = (c - a) * (d - b);
    if (!(area > 0)) continue;
    solid[k] = 1;
    inside[k] = Math.max(0, Math.min(c, x1) - Math.max(a, x0))
      * Math.max(0, Math.min(d, y1) - Math.max(b, y0)) / area;
  }
  const shares = Array.from({ length: wordCount }, (_, q) => {
    let sum = 0;
    let total = 0;
    for (let k = 0; k < regionCount; k++) {
      const weight = weights[q * regionCount + k];
      sum += weight * inside[k];
      total += weight * solid[k];
    }
    return total > 0 ? Math.min(1, sum / total) : 0;
  });
  const size = width * height;
  return { area: size > 0 ? ((x1 - x0) * (y1 - y0)) / size : 0, shares };
}

/** Jensen-Shannon divergence of two distributions over K regions, in bits: 0..1. */
function vdDivergence(first, second) {
  let sum = 0;
  for (let k = 0; k < first.length; k++) {
    const mean = (first[k] + second[k]) / 2;
    if (first[k] > 0) sum += 0.5 * first[k] * Math.log2(first[k] / mean);
    if (second[k] > 0) sum += 0.5 * second[k] * Math.log2(second[k] / mean);
  }
  return Math.max(0, sum);
}

/** One head's map of one word as a distribution over the regions; all zero stays zero. */
function vdHeadMap(look, layer, head, word) {
  const { values, headCount, wordCount, regionCount } = look;
  const table = vdLevels(look.bits);
  const start = ((layer * headCount + head) * wordCount + word) * regionCount;
  const map = new Float64Array(regionCount);
  let total = 0;
  for (let k = 0; k < regionCount; k++) total += map[k] = table[values[start + k]];
  if (total > 0) for (let k = 0; k < regionCount; k++) map[k] /= total;
  return map;
}

/**
 * How specific each head is to a word: the Jensen-Shannon divergence between the word's map and
 * the mean of that head's maps over all words, each map adding up to 1. A head that shows every
 * word the same place has 0. With word -1, the mean over the words. Gives { layer, head, value },
 * the most specific first.
 */
function vdSpecificity(look, word) {
  const found = [];
  for (let layer = 0; layer < look.layerCount; layer++) {
    for (let head = 0; head < look.headCount; head++) {
      const each = vdHeadSpecificity(look, layer, head);
      const value = word >= 0 ? each[word] : each.reduce((sum, one) => sum + one, 0) / each.length;
      found.push({ layer, head, value });
    }
  }
  return found.sort((a, b) => b.value - a.value || a.layer - b.layer || a.head - b.head);
}

/** The specificity of one head to each of the Q words; kept, as it does not change. */
function vdHeadSpecificity(look, layer, head) {
  look.specific = look.specific || new Map();
  const key = layer * look.headCount + head;
  if (!look.specific.has(key)) {
    const maps = look.words.map((_, q) => vdHeadMap(look, layer, head, q));
    const looked = maps.filter((map) => map.some((value) => value > 0));
    const mean = new Float64Array(look.regionCount);
    for (const map of looked) map.forEach((value, k) => { mean[k] += value / looked.length; });
    look.specific.set(key, maps.map((map) => (looked.includes(map) ? vdDivergence(map, mean) : 0)));
  }
  return look.specific.get(key);
}

/** Ranks from 0; equal values share the mean of their ranks. */
function vdRanks(values) {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const ranks = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j < order.length && values[order[j]] === values[order[i]]) j++;
    for (let n = i; n < j; n++) ranks[order[n]] = (i + j - 1) / 2;
    i = j;
  }
  return ranks;
}

/** Spearman's rank correlation of two maps, -1..1; 0 where one of them is flat. */
function vdSpearman(first, second) {
  const a = vdRanks(first);
  const b = vdRanks(second);
  const middle = (a.length - 1) / 2;
  let both = 0;
  let one = 0;
  let other = 0;
  for (let i = 0; i < a.length; i++) {
    both += (a[i] - middle) * (b[i] - middle);
    one += (a[i] - middle) ** 2;
    other += (b[i] - middle) ** 2;
  }
  return one > 0 && other > 0 ? both / Math.sqrt(one * other) : 0;
}

/** A map spread by area over a plain grid of rows x columns cells: what each cell holds. */
function vdResample(map, look, columns, rows) {
  const cells = new Float64Array(columns * rows);
  const wide = look.width / columns;
  const high = look.height / rows;
  for (let k = 0; k < map.length; k++) {
    const [x0, y0, x1, y1] = look.boxes.slice(4 * k, 4 * k + 4);
    const area = (x1 - x0) * (y1 - y0);
    if (!(area > 0) || !(map[k] > 0)) continue;
    const last = [Math.min(columns, Math.ceil(x1 / wide)), Math.min(rows, Math.ceil(y1 / high))];
    for (let r = Math.max(0, Math.floor(y0 / high)); r < last[1]; r++) {
      const tall = Math.max(0, Math.min(y1, (r + 1) * high) - Math.max(y0, r * high));
      for (let c = Math.max(0, Math.floor(x0 / wide)); c < last[0]; c++) {
        const broad = Math.max(0, Math.min(x1, (c + 1) * wide) - Math.max(x0, c * wide));
        cells[r * columns + c] += (map[k] * tall * broad) / area;
      }
    }
  }
  return cells;
}

/**
 * The outline of a set of regions as an SVG path in pixels of the original: sides that two of them
 * share are left out.
 */
function vdOutline(regions, boxes) {
  const sides = new Map();
  const flip = (key, side) => (sides.has(key) ? sides.delete(key) : sides.set(key, side));
  for (const k of regions) {
    const [x0, y0, x1, y1] = Array.from(boxes.slice(4 * k, 4 * k + 4),
      (value) => Math.round(value * 10) / 10);
    for (const side of [[x0, y0, x1, y0], [x0, y1, x1, y1], [x0, y0, x0, y1], [x1, y0, x1, y1]]) {
      flip(side.join(" "), side);
    }
  }
  return Array.from(sides.values(), ([x0, y0, x1, y1]) => `M${x0} ${y0}L${x1} ${y1}`).join("");
}
