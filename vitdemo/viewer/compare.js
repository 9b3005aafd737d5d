// Two viewers side by side, each in its own contrast or both on one scale, with the difference of
// their maps.
// mountCompare(root, { left, right, title }, ask, field): `left` and `right` are payloads of the
// viewer, each with a `name`. ask(name, detail) is as the viewer's; its detail has `side`, too.
// field(side) is where that side's picture is given, on the app's page; null elsewhere.

const VD_DIFFERENCE_SIDE = 96; // cells on the longest side of the grid of differences
const VD_SAME = 0.01; // share of the attention that lies elsewhere; with less, nothing is drawn

class VdCompare {
  constructor(root, ask = null, field = null) {
    this.root = root;
    this.style = { style: "glow", colours: "magma", opacity: 0.7, squares: false,
      stretch: true, hide: false };
    this.title = vdElement("h2", { className: "vd-comparehead" });
    this.message = vdElement("p", { className: "vd-message", role: "alert", hidden: true });
    this.empty = vdElement("p", { className: "vd-empty", hidden: true });
    this.sides = ["left", "right"].map((side) => {
      const place = vdElement("div", { className: "vd-viewer vd-side" });
      const name = vdElement("h2", { className: "vd-sidehead" });
      const box = vdElement("section", { className: "vd-sidebox" }, name, place);
      const viewer = new VdViewer(place, ask && ((what, detail) => ask(what, { ...detail, side })),
        this, field && { takes: true, field: () => field(side) });
      viewer.side = side;
      return { side, name, place, box, viewer };
    });
    this.styles = new VdStyleControls(this.style, (name) => this.restyle(name));
    this.experts = vdExperts(this.styles.element);
    this.experts.addEventListener("toggle", () => {
      for (const { viewer } of this.sides) viewer.experts.open = this.experts.open;
    });
    this.pair = vdElement("div", { className: "vd-pair" }, ...this.sides.map(({ box }) => box));
    this.difference = new VdDifference(this);
    this.scale = vdElement("p", { className: "vd-hint" });
    this.root.classList.add("vd-viewer", "vd-compare");
    this.root.replaceChildren(this.title, this.message, this.empty, this.pair, this.scale,
      this.difference.element, this.experts);
  }

  update(payload) {
    if (payload?.turn < this.turn) return;
    this.turn = payload?.turn ?? this.turn;
    const { left, right, title, message, hint, patch, patch_message: said, side } = payload || {};
    if (patch || said !== undefined) {
      for (const one of this.sides) {
        if (!side || side === one.side) one.viewer.update(payload);
      }
      return;
    }
    this.title.textContent = title || "";
    this.title.hidden = !title;
    this.message.textContent = message || "";
    this.message.hidden = !message;
    this.empty.textContent = hint || "";
    this.empty.hidden = !hint || Boolean(message);
    this.root.ariaBusy = String(Boolean(payload?.busy));
    this.sides.forEach(({ name, viewer }, i) => {
      const one = [left, right][i] || {};
      name.textContent = one.name || one.model
        || vdPhrase(i ? "viewer.right" : "viewer.left");
      viewer.update(one);
    });
    this.pair.hidden = !left && !right;
    this.both();
  }

  /** The two viewers, where both have maps. */
  ready() {
    return this.sides.every(({ viewer }) => viewer.now);
  }

  /** Draw both sides and their difference. */
  both() {
    const ready = this.ready();
    this.experts.hidden = this.scale.hidden = !ready;
    if (ready) {
      this.busy = true; // each side now knows the other's maps
      for (const { viewer } of this.sides) viewer.refresh();
      this.busy = false;
    }
    this.scale.textContent = vdPhrase(`viewer.sides.${this.style.stretch ? "own" : "shared"}`);
    this.difference.refresh();
  }

  /**
   * The upper end of one side's colour map: its own, or such that the same colour is the same
   * attention per area on both, whose regions may differ in size.
   */
  top(viewer) {
    if (this.style.stretch) return viewer.now.top;
    const dense = this.sides.map(({ viewer: one }) => {
      if (!one.texts.length) return 0;
      const { top, look } = one === viewer ? one.now : one.pick();
      return top / this.regionArea(look);
    });
    return Math.max(...dense) * this.regionArea(viewer.now.look);
  }

  /** Mean area of a region, as a share of the picture. */
  regionArea({ boxes, regionCount, width, height }) {
    let area = 0;
    for (let k = 0; k < regionCount; k++) {
      const [x0, y0, x1, y1] = boxes.slice(4 * k, 4 * k + 4);
      area += Math.max(0, (x1 - x0) * (y1 - y0));
    }
    return area / (regionCount * width * height) || 1;
  }

  /** One side chose: the other follows where it has the same words; the style is shared. */
  chose(viewer, change) {
    if (this.busy) return;
    this.busy = true;
    const other = this.sides.find((one) => one.viewer !== viewer).viewer;
    if (other.now && ("word" in change || "text" in change)) {
      const found = vdSameWord(viewer, other);
      if (found) other.choose(found);
    }
    this.busy = false;
    this.both();
  }

  restyle(name) {
    if (name === "hide" || name === "stretch") this.both();
    else for (const { viewer } of this.sides) viewer.restyle(name);
    this.difference.refresh();
  }

  destroy() {
    for (const { viewer } of this.sides) viewer.destroy();
    this.root.replaceChildren();
  }
}

/** The choice of `other` that shows the same word as `viewer`: in the same place of a text with the
 * same words, else the same word of that kind of text; null where there is none. */
function vdSameWord(viewer, other) {
  const { text, word } = viewer.chosen;
  const mine = viewer.texts[text];
  const there = other.texts.findIndex((one) => one.source === mine.source);
  if (there < 0) return null;
  if (word < 0) return { text: there, word: -1 };
  const plain = (one) => one.words.map((_, q) => vdWordOf(one, q).toLowerCase());
  const [ours, theirs] = [plain(mine), plain(other.texts[there])];
  if (ours.join("\n") === theirs.join("\n")) return { text: there, word };
  // The second "dog" of one text is the second of the other.
  const nth = ours.slice(0, word).filter((one) => one === ours[word]).length;
  const same = theirs.map((one, q) => (one === ours[word] ? q : -1)).filter((q) => q >= 0);
  return same.length > nth ? { text: there, word: same[nth] } : null;
}

/** The right map minus the left one, over the picture that both show. */
class VdDifference {
  constructor(host) {
    this.host = host;
    this.photo = vdElement("img", { className: "vd-photo", alt: "" });
    this.canvas = vdElement("canvas", { className: "vd-map", role: "img" });
    this.stage = vdElement("div", { className: "vd-stage" }, this.photo, this.canvas);
    this.low = vdElement("span", {});
    this.high = vdElement("span", {});
    this.bar = vdElement("div", { className: "vd-bar" });
    this.bar.style.backgroundImage = `linear-gradient(to right, ${[-1, -0.5, 0, 0.5, 1].map(
      (value) => `rgb(${vdDiverging(value).join(", ")})`).join(", ")})`;
    this.summary = vdElement("figcaption", { className: "vd-summary", ariaLive: "polite" });
    this.element = vdElement("figure", { className: "vd-figure vd-difference" },
      vdElement("h2", { className: "vd-sidehead" }, vdPhrase("viewer.difference")),
      this.stage,
      vdElement("div", { className: "vd-legend" }, vdElement("div", { className: "vd-scale" },
        this.low, this.bar, this.high)), this.summary);
  }

  refresh() {
    const [left, right] = this.host.sides.map(({ viewer }) => viewer);
    const same = this.host.ready() && vdSamePicture(left.picture, right.picture);
    this.element.hidden = !same;
    if (!same) return;
    const { url, width, height } = left.picture;
    if (this.photo.getAttribute("src") !== url) this.photo.src = url;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.stage.style.maxWidth = `calc(var(--vd-tall) * ${width / height})`;
    const found = vdDifferenceOf(left.now, right.now, width, height);
    const words = [left, right].map(({ now }) => vdWordOf(now.text, now.word));
    this.summary.textContent = vdDifferenceSentence(found, words);
    this.canvas.ariaLabel = this.summary.textContent;
    this.low.textContent = vdPhrase("viewer.left_more");
    this.high.textContent = vdPhrase("viewer.right_more");
    this.paint(found);
  }

  /** Cells in the diverging palette; the middle of it, no difference, lets the picture through. */
  paint({ cells, columns, rows, most }) {
    const { canvas } = this;
    canvas.width = columns;
    canvas.height = rows;
    const pixels = new ImageData(columns, rows);
    const { opacity } = this.host.style;
    cells.forEach((value, i) => {
      const at = most > 0 ? value / most : 0;
      const seen = opacity * (0.2 + 0.8 * Math.abs(at));
      pixels.data.set([...vdDiverging(at), Math.round(255 * seen)], 4 * i);
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }
}

function vdSamePicture(left, right) {
  return Boolean(left && right) && left.width === right.width && left.height === right.height
    && left.url === right.url;
}

/**
 * Right minus left, each as shares of its attention on the picture: { cells, columns, rows, most,
 * moved, empty }. `most` is the largest difference of a cell, 0 where the two are the same, `moved`
 * the share of the attention that lies elsewhere (half the sum of all differences), `empty` the
 * sides that looked nowhere.
 */
function vdDifferenceOf(left, right, width, height) {
  const scale = VD_DIFFERENCE_SIDE / Math.max(width, height);
  const columns = Math.max(3, Math.round(width * scale));
  const rows = Math.max(3, Math.round(height * scale));
  const sides = [left, right].map(({ map, look }) => {
    const cells = vdResample(map, look, columns, rows);
    const total = cells.reduce((sum, value) => sum + value, 0);
    return { total, cells: total > 0 ? cells.map((value) => value / total) : cells };
  });
  const cells = sides[1].cells.map((value, i) => value - sides[0].cells[i]);
  const most = cells.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
  const moved = cells.reduce((sum, value) => sum + Math.abs(value), 0) / 2;
  return { cells, columns, rows, most: moved < VD_SAME ? 0 : most, moved,
    empty: sides.map(({ total }) => !(total > 0)) };
}

/** Where the two sides differ most, by ninths of the picture. */
function vdDifferenceSentence({ cells, columns, rows, moved, empty }, words) {
  if (empty[0] || empty[1]) {
    return vdPhrase(empty[0] && empty[1] ? "viewer.differs.neither"
      : empty[0] ? "viewer.differs.right_only" : "viewer.differs.left_only");
  }
  const ninths = new Map();
  cells.forEach((value, i) => {
    const place = vdPlace(((i % columns) + 0.5) / columns, (Math.floor(i / columns) + 0.5) / rows);
    ninths.set(place, (ninths.get(place) || 0) + value);
  });
  const sorted = Array.from(ninths).sort((a, b) => a[1] - b[1]);
  const named = (word) => (word ? vdPhrase("viewer.subject.word", { word })
    : vdPhrase("viewer.subject.all_words"));
  const same = words[0].toLowerCase() === words[1].toLowerCase();
  const names = same ? "" : vdPhrase("viewer.differs.words",
    { left: named(words[0]), right: named(words[1]) });
  if (moved < VD_SAME) return vdJoined(vdPhrase("viewer.differs.not"), names);
  const [less, more] = [sorted[0], sorted[sorted.length - 1]];
  return vdJoined(vdPhrase("viewer.differs.moved", { moved: vdWhole(moved), right: more[0],
    right_share: vdWhole(more[1]), left: less[0], left_share: vdWhole(-less[1]) }), names);
}

/** Draw a comparison into an element. */
function mountCompare(root, payload, ask = null, field = null) {
  const compare = new VdCompare(root, ask, field);
  compare.update(payload);
  return { update: (next) => compare.update(next), destroy: () => compare.destroy() };
}
