// Asking the picture: which words looked at this place, and how much of each word's attention falls
// into a box. A person clicks or draws; with the keyboard, a frame is moved over the picture.

const VD_FIRST_WORDS = 10; // so many rows are shown before "Show all"

class VdLooking {
  constructor(viewer) {
    this.viewer = viewer;
    this.box = null; // [x0, y0, x1, y1] in pixels of the original
    this.region = -1; // a place that was clicked
    this.mode = ""; // "box" or "place" while the keyboard (or a touch) sets one
    this.all = false;
    this.pickButton = vdButton(vdPhrase("viewer.pick"), () => this.start("place"),
      { title: vdPhrase("viewer.pick_title") });
    this.boxButton = vdButton(vdPhrase("viewer.box"), () => this.start("box"),
      { title: vdPhrase("viewer.box_title") });
    this.clearButton = vdButton(vdPhrase("viewer.clear"), () => {
      this.clear();
      viewer.refresh();
      this.boxButton.focus();
    });
    this.hint = vdElement("p", { className: "vd-hint vd-modehint", role: "status" });
    this.title = vdElement("p", { className: "vd-lookinghead", ariaLive: "polite" });
    this.list = vdElement("ol", { className: "vd-shares" });
    this.more = vdButton("", () => {
      this.all = !this.all;
      this.refresh();
    });
    this.buttons = [this.pickButton, this.boxButton, this.clearButton]; // others place them
    this.element = vdElement("div", { className: "vd-looking" }, this.hint, this.title, this.list,
      this.more);
    this.listen(viewer.stage);
  }

  listen(stage) {
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", () => { this.from = null; });
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("blur", () => this.end());
  }

  clear() {
    this.box = null;
    this.region = -1;
    this.all = false;
    this.problem = "";
    this.end();
  }

  down(event) {
    if (!this.viewer.now || event.button !== 0) return;
    // A finger scrolls the page, unless a box was asked for.
    this.from = event.pointerType === "mouse" || this.mode === "box"
      ? this.viewer.place(event) : null;
    this.tap = [event.clientX, event.clientY];
    if (this.from) event.preventDefault();
  }

  move(event) {
    if (!this.from || !event.buttons || this.near(event)) return;
    this.viewer.stage.setPointerCapture(event.pointerId);
    this.region = -1;
    this.problem = "";
    this.box = this.cut([...this.from, ...this.viewer.place(event)]);
    this.refresh();
    this.viewer.showMarks();
  }

  up(event) {
    if (!this.viewer.now || !this.tap) return;
    const drawn = this.from && !this.near(event);
    if (!drawn && this.mode === "box") this.setBox([...this.viewer.place(event),
      ...this.viewer.place(event)]);
    else if (!drawn && this.near(event)) this.setPlace(...this.viewer.place(event));
    this.from = this.tap = null;
    if (drawn) this.setBox(this.box);
    this.end();
  }

  near(event) {
    return Math.hypot(event.clientX - this.tap[0], event.clientY - this.tap[1]) < 5;
  }

  cut(box) {
    return vdClip(box, this.viewer.now.look.width, this.viewer.now.look.height);
  }

  /** Ask about a box, in pixels of the original; one of no area is refused with a sentence. */
  setBox(box) {
    const cut = this.cut(box);
    this.region = -1;
    this.all = false;
    const good = cut.every(Number.isFinite) && cut[2] > cut[0] && cut[3] > cut[1];
    this.box = good ? cut : null;
    this.problem = good ? "" : vdPhrase("viewer.no_area");
    this.refresh();
    this.viewer.showMarks();
  }

  /** Ask about a place, in pixels of the original. */
  setPlace(x, y) {
    this.region = vdRegionAt(this.viewer.now.look.boxes, x, y);
    this.box = null;
    this.all = false;
    this.problem = this.region < 0 ? vdPhrase("viewer.not_seen") : "";
    this.refresh();
    this.viewer.showMarks();
  }

  /** Let the keyboard set a box or a place: focus goes to the picture, a frame appears there. */
  start(mode) {
    const { stage } = this.viewer;
    const { width, height } = this.viewer.now.look;
    if (mode === "box") this.setBox(this.box || [width / 3, height / 3, width * 2 / 3,
      height * 2 / 3]);
    else this.setPlace(width / 2, height / 2);
    this.cross = [width / 2, height / 2];
    this.mode = mode;
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.ariaLabel = vdPhrase(mode === "box" ? "viewer.the_box" : "viewer.the_place");
    stage.classList.add("vd-drawing");
    stage.focus({ preventScroll: true });
    stage.scrollIntoView({ block: "nearest" });
    this.hint.textContent = vdPhrase(mode === "box" ? "viewer.box_hint" : "viewer.pick_hint");
  }

  end() {
    const { stage } = this.viewer;
    const back = document.activeElement === stage;
    const button = this.mode === "box" ? this.boxButton : this.pickButton;
    this.mode = "";
    this.hint.textContent = "";
    stage.classList.remove("vd-drawing");
    for (const name of ["tabindex", "role", "aria-label"]) stage.removeAttribute(name);
    if (back) button.focus({ preventScroll: true });
  }

  key(event) {
    if (!this.mode) return;
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      if (event.key === "Escape") this.clear();
      this.end();
      this.viewer.refresh();
      return;
    }
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
      ArrowDown: [0, 1] }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const { width, height } = this.viewer.now.look;
    if (this.mode === "place") this.stepPlace(step);
    else this.stepBox(step[0] * width / 20, step[1] * height / 20, event.shiftKey);
  }

  /** To the next region. */
  stepPlace([right, down]) {
    const { width, height, boxes } = this.viewer.now.look;
    const here = this.region >= 0 ? boxes.slice(4 * this.region, 4 * this.region + 4)
      : [this.cross[0], this.cross[1], this.cross[0], this.cross[1]];
    const x = right ? (right < 0 ? here[0] - 0.5 : here[2] + 0.5) : (here[0] + here[2]) / 2;
    const y = down ? (down < 0 ? here[1] - 0.5 : here[3] + 0.5) : (here[1] + here[3]) / 2;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    this.cross = [x, y];
    this.setPlace(x, y);
  }

  /** Move the box, or its lower right corner, and keep it inside the picture. */
  stepBox(x, y, resize) {
    const { width, height } = this.viewer.now.look;
    const [x0, y0, x1, y1] = this.box || [0, 0, width / 20, height / 20];
    if (resize) {
      this.setBox([x0, y0, Math.max(x0 + width / 20, x1 + x), Math.max(y0 + height / 20, y1 + y)]);
    } else {
      const right = Math.min(width - x1, Math.max(-x0, x));
      const down = Math.min(height - y1, Math.max(-y0, y));
      this.setBox([x0 + right, y0 + down, x1 + right, y1 + down]);
    }
  }

  refresh() {
    const { text, look, weights, hidden } = this.viewer.now;
    this.element.hidden = false;
    const asked = this.box || this.region >= 0;
    this.clearButton.hidden = !asked && !this.problem;
    this.list.hidden = !asked;
    this.title.hidden = !asked && !this.problem;
    this.more.hidden = true;
    this.title.textContent = this.problem || "";
    if (!asked) {
      this.list.replaceChildren();
      return;
    }
    const box = this.box || Array.from(look.boxes.slice(4 * this.region, 4 * this.region + 4));
    const { area, shares } = vdBoxShares(look, weights, box);
    if (this.region >= 0) { // regions may overlap: a place is one of them, whole
      shares.forEach((_, q) => { shares[q] = this.shareOf(look, weights, q); });
    }
    const of = hidden.length ? "rest" : "whole";
    this.title.textContent = this.region >= 0
      ? vdPhrase(`viewer.at.place.${of}`, { area: vdPercent(area) })
      : vdPhrase(`viewer.at.box.${vdStuff(look)}_${of}`);
    const order = text.words.map((_, q) => q).sort((a, b) => shares[b] - shares[a] || a - b);
    const shown = this.all ? order : order.slice(0, VD_FIRST_WORDS);
    const full = this.box ? 1 : shares[order[0]] || 1; // one region holds little: compare there
    this.list.replaceChildren(...shown.map((q) => this.row(text, q, shares[q], area, full)));
    this.more.hidden = order.length <= VD_FIRST_WORDS;
    this.more.textContent = this.all ? vdPhrase("viewer.fewer")
      : vdPhrase("viewer.all_of_words", { number: order.length });
  }

  shareOf({ regionCount }, weights, q) {
    let total = 0;
    for (let k = 0; k < regionCount; k++) total += weights[q * regionCount + k];
    return total > 0 ? weights[q * regionCount + this.region] / total : 0;
  }

  row(text, q, share, area, full) {
    const { viewer } = this;
    const word = vdWordOf(text, q);
    const button = vdElement("button", { type: "button", className: "vd-row" },
      ...(this.box ? [vdPhrase(`viewer.at.word.${vdStuff(viewer.now.look)}`,
        { word, share: vdPercent(share), area: vdPercent(area) })]
        : [vdElement("strong", {}, word), ` ${vdPercent(share)}`]));
    button.style.setProperty("--vd-share", `${((100 * share) / full).toFixed(1)}%`);
    button.dataset.word = q;
    const index = viewer.texts.indexOf(text);
    button.ariaPressed = String(viewer.chosen.text === index && viewer.chosen.word === q);
    button.addEventListener("click", () => {
      viewer.choose({ text: index, word: q });
      const again = this.list.querySelector(`[data-word="${q}"]`);
      if (again) again.focus({ preventScroll: true });
    });
    return vdElement("li", {}, button);
  }

  outlines() {
    const box = this.box || (this.region >= 0 ? this.viewer.now.look.boxes.slice(4 * this.region,
      4 * this.region + 4) : null);
    if (!box) return [];
    const [x0, y0, x1, y1] = box;
    return [{ name: "box", path: `M${x0} ${y0}H${x1}V${y1}H${x0}Z`, dash: [] }];
  }
}
