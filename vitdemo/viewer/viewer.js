// The viewer: a picture, the words about it, and for each word the map of where the model looked.
// mountViewer(root, payload, ask) draws into an empty element and gives { update, state, destroy }.
// A payload is one of
//   null or { hint }                    nothing yet
//   { message }                         an error, one sentence; with a result: that one stays
//   { picture, writing }                a text that is still being written
//   { picture, written, reason }        a finished text that has no maps, and why
//   { picture, texts, model, ... }      the finished thing; see vitdemo/viewer/build.py
//   { patch, patch_message, patch_busy, id }   an addition to what is on screen; choices stay
// ask(name, detail) sends a request to the server: "check", "look" (a check that nobody asked for),
// "matter" or "methods". It is null where there is none; then the buttons that need the model are
// not shown. `around` are parts of the app's page that belong to the viewer, null where there are
// none: { takes: whether a picture is given here, field(): where, save(): the ways to save,
// experts(): fields that belong into the drawer for experts }; of a side of a comparison it has the
// first two.

class VdViewer {
  /** `host` is the comparison that this viewer is one side of; else null. */
  constructor(root, ask = null, host = null, around = null) {
    this.root = root;
    this.ask = ask;
    this.host = host;
    this.around = around;
    this.texts = [];
    this.picture = null;
    this.payload = {};
    // What the person chose stays as it is from one picture to the next.
    this.chosen = { text: 0, word: -1, method: "", layer: -1, head: -1 };
    this.style = host ? host.style : { style: "glow", colours: "magma", opacity: 0.7,
      squares: false, stretch: true, hide: false };
    this.preview = null;
    this.drawn = null;
    this.build();
    this.endCamera = () => {};
    this.observer = new ResizeObserver(() => {
      if (!this.stage.clientWidth) this.endCamera(); // nobody sees it
      this.paint();
    });
    this.observer.observe(this.stage);
  }

  build() {
    this.empty = vdElement("p", { className: "vd-empty", hidden: true });
    this.message = vdElement("p", { className: "vd-message", role: "alert", hidden: true });
    this.lines = vdElement("div", { className: "vd-texts" });
    this.photo = vdElement("img", { className: "vd-photo", alt: "", draggable: false });
    this.canvas = vdElement("canvas", { className: "vd-map", role: "img" });
    this.marks = vdSvg("svg", { class: "vd-marks", preserveAspectRatio: "none",
      "aria-hidden": "true" });
    this.stage = vdElement("div", { className: "vd-stage" }, this.photo, this.canvas, this.marks);
    this.low = vdElement("span", {});
    this.high = vdElement("span", {});
    this.mark = vdElement("span", { className: "vd-mark", hidden: true });
    this.bar = vdElement("div", { className: "vd-bar" }, this.mark);
    this.readout = vdElement("p", { className: "vd-readout", ariaHidden: "true" });
    this.summary = vdElement("figcaption", { className: "vd-summary", ariaLive: "polite" });
    this.legend = vdElement("div", { className: "vd-legend" },
      vdElement("div", { className: "vd-scale" }, this.low, this.bar, this.high), this.readout);
    this.looks = new VdLookControls(this);
    this.looking = new VdLooking(this);
    this.evidence = new VdEvidence(this);
    this.deeper = new VdDeeper(this);
    this.rivals = new VdRivals(this);
    this.parts = [this.looks, this.evidence, this.deeper, this.looking, this.rivals];
    this.damage = vdElement("p", { className: "vd-note vd-damage", role: "status", hidden: true });
    this.figure = vdElement("figure", { className: "vd-figure" }, this.stage, this.damage);
    this.said = vdElement("div", { className: "vd-said" }, this.message, this.lines, this.summary,
      this.rivals.element, this.evidence.element, this.looking.element);
    this.experts = vdExperts(this.looks.element, this.evidence.trust, this.deeper.element,
      vdElement("div", { className: "vd-actions" }, ...this.looking.buttons), this.legend);
    if (!this.host) this.buildTools();
    this.said.append(this.experts);
    this.root.replaceChildren(this.empty, this.figure, this.said);
    this.photo.addEventListener("load", () => this.paint());
    this.stage.addEventListener("pointermove", (event) => this.point(event));
    this.stage.addEventListener("pointerleave", () => this.point(null));
    if (this.around?.takes) vdTakePictures(this);
  }

  /** What a viewer by itself has and one side of a comparison has not. */
  buildTools() {
    this.styles = new VdStyleControls(this.style, (name) => this.restyle(name));
    this.board = new VdBoard(this);
    this.methods = new VdMethods(this);
    this.about = new VdAbout(this);
    this.parts.push(this.board, this.methods, this.about);
    this.experts.append(this.styles.element, this.board.element, this.methods.element,
      this.about.element);
    this.root.addEventListener("vd-save", () => this.now && vdDownload(this));
  }

  /** Whether the server can be asked for something. */
  can(name) {
    return Boolean(this.ask) && (!this.payload.asks || this.payload.asks.includes(name));
  }

  /** Ask the server about the chosen text and word; `waiting` is shown until it answers. */
  request(name, detail, waiting) {
    const { text, look, word } = this.now;
    this.evidence.wait(waiting, name !== "look");
    this.ask(name, { id: this.payload.id, source: text.source, word, method: look.method,
      ...detail });
  }

  /** Show a payload, whole, or add a patch to what is there; not one of an older turn. */
  update(payload) {
    if (payload?.turn < this.turn) return;
    this.turn = payload?.turn ?? this.turn;
    if (payload && (payload.patch || payload.patch_message !== undefined)) {
      vdPatch(this, payload);
      return;
    }
    this.endCamera();
    this.payload = payload || {};
    const { hint, message, picture, writing, written, texts, reason, unread,
      understood } = this.payload;
    this.preview = null;
    // The one before stays until the new one is here, so that nothing jumps.
    this.picture = picture || (writing === undefined ? null : this.picture);
    this.texts = Array.from(texts || [], vdUnpackText);
    this.model = this.payload.model || "";
    this.empty.textContent = hint || "";
    this.empty.hidden = !hint || Boolean(message);
    this.message.hidden = !message;
    this.message.textContent = message || "";
    this.root.ariaBusy = String(writing !== undefined);
    this.figure.hidden = !this.picture;
    this.experts.hidden = this.summary.hidden = !this.texts.length;
    if (picture) this.showPicture(picture);
    this.lines.replaceChildren();
    if (writing !== undefined || written) this.showWriting(written || writing);
    if (reason) this.lines.append(vdElement("p", { className: "vd-note" }, reason));
    this.evidence.begin();
    this.looking.clear();
    if (this.texts.length) this.showTexts();
    else this.clear();
    for (const [note, name] of [[unread, "missed"], [understood, "understood"]]) {
      const className = `vd-note vd-${name}`;
      if (note) this.lines.append(vdElement("p", { className, role: "status" }, note));
    }
    this.said.hidden = !message && !this.lines.childElementCount;
    const started = writing !== undefined && this.busy !== true;
    const finished = this.busy === true && writing === undefined;
    this.busy = writing !== undefined;
    if (message || started || finished) this.bringIntoView();
  }

  /** Where nothing of the result is in sight, go there; what a person reads never jumps. */
  bringIntoView() {
    if (this.host) return; // the two sides of a comparison would pull at the page
    const first = this.message.hidden ? this.stage : this.message;
    const { top, bottom } = first.getBoundingClientRect();
    if (!first.offsetParent || (bottom > 60 && top < window.innerHeight * 0.7)) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    first.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  }

  showPicture({ url, width, height, note }) {
    this.damage.textContent = note || "";
    this.damage.hidden = !note;
    if (this.photo.getAttribute("src") !== url) this.photo.src = url;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.stage.style.maxWidth = `calc(var(--vd-tall) * ${width / height})`;
    this.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** A text without maps: one that grows, or the only one that the model can give. */
  showWriting(writing) {
    const line = vdElement("p", { className: "vd-writing" }, writing || vdPhrase("viewer.looking"));
    line.classList.toggle("vd-waiting", !writing);
    this.lines.append(line);
  }

  clear() {
    this.drawn = null;
    cancelAnimationFrame(this.frame); // a map on its way to the next one has nowhere to go
    this.now = null;
    this.root.dataset.drawn = "";
    this.marks.replaceChildren();
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.canvas.ariaLabel = vdPhrase("viewer.photo");
    for (const part of this.parts) part.element.hidden = true;
  }

  showTexts() {
    const { source, word: asked, method, layer, head } = this.payload.choose || {};
    const named = this.texts.findIndex((text) => text.source === source);
    this.chosen.text = named < 0 ? this.texts.length - 1 : named;
    // A comparison begins with all words, on the one scale of both sides.
    const word = asked ?? (this.host ? -1 : this.texts[this.chosen.text].first ?? -1);
    this.chosen.word = word < this.texts[this.chosen.text].words.length ? word : -1;
    if (method) this.chosen.method = method;
    if (layer !== undefined) this.chosen.layer = layer;
    if (head !== undefined) this.chosen.head = head;
    this.drawn = null;
    this.texts.forEach((text, index) => this.lines.append(vdTextRow(this, text, index)));
    const { sure, offer } = this.payload;
    if (sure) this.lines.append(vdElement("p", { className: "vd-sure" }, sure));
    if (offer) this.lines.append(vdElement("p", { className: "vd-offer" }, offer));
    this.hint = vdElement("p", { className: "vd-hint" });
    this.lines.append(this.hint);
    const fields = this.around?.experts?.();
    if (fields) this.experts.append(fields);
    this.markWords();
    this.refresh();
  }

  markWords() {
    this.texts.forEach(vdMarkWords);
    this.hint.replaceChildren(...vdWordHint(this.texts));
  }

  choose(change) {
    Object.assign(this.chosen, change);
    const { looks } = this.texts[this.chosen.text];
    if (change.method && !looks[change.method] && this.can("methods")) {
      this.request("methods", { method: change.method }, vdPhrase("viewer.other_ways"));
    }
    this.preview = null;
    this.refresh();
    if (this.host) this.host.chose(this, change);
  }

  peek(target) {
    this.preview = target;
    this.refresh();
  }

  /** After a change of the style: `hide` changes the numbers, the rest only how they look. */
  restyle(name) {
    if (name === "hide" || name === "stretch") this.refresh();
    else {
      this.showScale();
      this.showMarks();
      this.point(null);
      this.paint();
    }
  }

  /** What is chosen (or previewed), as far as the text and its method have it. */
  pick() {
    const { text: index, word } = this.preview || this.chosen;
    const text = this.texts[index];
    const look = text.looks[this.chosen.method] || text.looks[text.method];
    const fits = (value, count) => (count > 1 && value < count ? value : -1);
    const layer = fits(this.chosen.layer, look.layerCount);
    const head = fits(this.chosen.head, look.headCount);
    const hidden = this.style.hide ? look.always : [];
    const { weights, top } = vdReduce(look, layer, head, hidden.length > 0);
    const map = vdMap(look, layer, head, word, hidden.length > 0);
    return { text, look, index, word, layer, head, map, weights, hidden,
      top: this.style.stretch ? map.reduce((a, b) => Math.max(a, b), 0) : top };
  }

  /** Bring everything on screen in line with what is chosen (or previewed). */
  refresh() {
    if (!this.texts.length) return;
    this.now = this.pick();
    if (this.host) this.now.top = this.host.top(this);
    this.texts.forEach((each, i) => each.buttons.forEach((button, j) => {
      const on = this.chosen.text === i && this.chosen.word === j - 1;
      const index = on || (this.chosen.text !== i && j === 0) ? 0 : -1;
      if (button.ariaPressed !== String(on)) button.ariaPressed = String(on);
      if (button.tabIndex !== index) button.tabIndex = index;
    }));
    const [main, rest] = vdSentences({ ...this.now, text: this.now.look });
    const sentence = vdJoined(main, rest);
    // Announced only where the person chose it, not on each hover.
    this.summary.ariaLive = this.preview ? "off" : "polite";
    if (this.summary.textContent !== sentence) {
      this.summary.replaceChildren(vdElement("strong", {}, main), sentence.slice(main.length));
    }
    this.canvas.ariaLabel = sentence;
    this.showScale();
    this.point(null);
    if (!this.preview) {
      for (const part of this.parts) part.refresh();
    }
    this.showMarks();
    this.glide();
  }

  showScale() {
    if (!this.now) return;
    const { low, high } = vdRange(this.now.map, this.now.top, this.style);
    this.low.textContent = vdPercent(low);
    this.high.textContent = vdPercent(high);
    this.bar.style.backgroundImage = vdGradient(vdPalette(this.style));
    this.bar.classList.toggle("vd-clear", ["glow", "spotlight"].includes(this.style.style));
  }

  /** Outlines over the picture: { name, path, dash } in pixels of the original. */
  outlines() {
    const { look, hidden } = this.now;
    const always = hidden.length
      ? [{ name: "always", path: vdOutline(hidden, look.boxes), dash: [2, 4] }] : [];
    return [...always, ...this.evidence.outlines(), ...this.deeper.outlines(),
      ...this.looking.outlines()];
  }

  showMarks() {
    if (!this.now) return;
    this.marks.replaceChildren(...this.outlines().flatMap(({ name, path, dash }) => [
      vdSvg("path", { class: "vd-casing", d: path }),
      vdSvg("path", { class: `vd-line vd-mark-${name}`, d: path,
        "stroke-dasharray": dash.join(" ") })]));
  }

  view(look) {
    return { boxes: look.boxes, grid: look.grid, width: look.width, height: look.height,
      ...this.style };
  }

  /** Move from the map on screen to the chosen one, in a few frames. */
  glide() {
    cancelAnimationFrame(this.frame);
    this.root.dataset.drawn = "";
    const { map, top, look } = this.now;
    const from = this.drawn && this.drawn.boxes === look.boxes && this.drawn;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const start = performance.now();
    const step = (time) => {
      const done = from && !still ? Math.min(1, Math.max(0, time - start) / 160) : 1;
      const mixed = done < 1 ? map.map((value, k) => from.map[k] + done * (value - from.map[k]))
        : map;
      const mixedTop = done < 1 ? from.top + done * (top - from.top) : top;
      this.drawn = { map: mixed, top: mixedTop, boxes: look.boxes, look };
      this.paint();
      if (done < 1) this.frame = requestAnimationFrame(step);
      else this.settle();
    };
    if (from && !still && !document.hidden) this.frame = requestAnimationFrame(step);
    else step(start);
  }

  settle() {
    const { index, word, layer, head, look } = this.now;
    this.root.dataset.method = look.method;
    this.root.dataset.chosen = JSON.stringify(this.state());
    this.root.dataset.drawn = [index, word, layer, head].join(":");
  }

  paint() {
    const wide = this.stage.clientWidth;
    if (!this.drawn || !wide) return;
    const sharp = Math.min(window.devicePixelRatio || 1, 2000 / wide);
    const width = Math.round(wide * sharp);
    const height = Math.round(this.stage.clientHeight * sharp);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    vdPaint(this.canvas.getContext("2d"), width, height, this.drawn.map, this.drawn.top,
      this.view(this.drawn.look));
  }

  /** A pointer event's place in pixels of the original. */
  place(event) {
    const rect = this.stage.getBoundingClientRect();
    const { width, height } = this.now.look;
    return [((event.clientX - rect.left) / rect.width) * width,
      ((event.clientY - rect.top) / rect.height) * height];
  }

  /** Pointing at the picture reads the map there, and tints the words by their share of it. */
  point(event) {
    const { text, look, map, top, weights } = this.now || {};
    const region = event && text && this.texts.length
      ? vdRegionAt(look.boxes, ...this.place(event)) : -1;
    this.mark.hidden = region < 0 || !(top > 0);
    this.readout.textContent = vdScaleHint(look, this.style);
    for (const each of this.texts) {
      for (const button of each.buttons) button.style.removeProperty("--vd-heat");
    }
    if (region < 0) return;
    let mean = 0;
    for (const value of map) mean += value / map.length;
    const { low, high } = vdRange(map, top, this.style);
    const at = (map[region] - low) / (high - low || 1);
    this.mark.style.left = `${100 * Math.min(1, Math.max(0, at))}%`;
    this.readout.textContent = mean > 0 ? vdPhrase("viewer.here_times",
      { share: vdPercent(map[region]), times: (map[region] / mean).toFixed(1) })
      : vdPhrase("viewer.here", { share: vdPercent(map[region]) });
    const here = text.words.map((_, q) => weights[q * look.regionCount + region]);
    const most = here.reduce((a, b) => Math.max(a, b), 0);
    here.forEach((value, q) => text.buttons[q + 1].style.setProperty("--vd-heat",
      most > 0 ? (value / most).toFixed(3) : "0"));
  }

  /** What is chosen, by name: for a link. */
  state() {
    if (!this.now) return {};
    const { text, look, word, layer, head } = this.now;
    return { source: text.source, word, method: look.method, layer, head };
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.endCamera();
    this.observer.disconnect();
    this.root.replaceChildren();
  }
}

/** Draw a viewer into an element. */
function mountViewer(root, payload, ask = null, around = null) {
  const viewer = new VdViewer(root, ask, null, around);
  viewer.update(payload);
  return { update: (next) => viewer.update(next), state: () => viewer.state(),
    destroy: () => viewer.destroy() };
}
