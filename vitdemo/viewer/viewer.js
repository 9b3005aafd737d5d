// The viewer: a picture, the words about it, and for each word the map of where the model looked.
// mountViewer(root, payload) draws into an empty element and returns { update, destroy }.
// A payload is one of
//   null or { hint }                    nothing yet
//   { message }                         an error, one sentence
//   { picture, writing }                a text that is still being written
//   { picture, written, reason }        a finished text that has no maps, and why
//   { picture, texts, model }           the finished thing; see vitdemo/viewer/__init__.py

class VdViewer {
  constructor(root) {
    this.root = root;
    this.texts = [];
    this.picture = null;
    // What the person chose stays as it is from one picture to the next.
    this.chosen = { text: 0, word: -1, layer: -1, head: -1 };
    this.style = { colours: "cividis", opacity: 0.65, squares: false, stretch: false };
    this.preview = null;
    this.drawn = null;
    this.build();
    this.observer = new ResizeObserver(() => this.paint());
    this.observer.observe(this.stage);
  }

  build() {
    this.empty = vdElement("p", { className: "vd-empty", hidden: true });
    this.message = vdElement("p", { className: "vd-message", role: "alert", hidden: true });
    this.lines = vdElement("div", { className: "vd-texts" });
    this.photo = vdElement("img", { className: "vd-photo", alt: "" });
    this.canvas = vdElement("canvas", { className: "vd-map", role: "img" });
    this.stage = vdElement("div", { className: "vd-stage" }, this.photo, this.canvas);
    this.low = vdElement("span", {}, "0%");
    this.high = vdElement("span", {});
    this.mark = vdElement("span", { className: "vd-mark", hidden: true });
    this.bar = vdElement("div", { className: "vd-bar" }, this.mark);
    this.readout = vdElement("p", { className: "vd-readout", ariaHidden: "true" });
    this.summary = vdElement("figcaption", { className: "vd-summary", ariaLive: "polite" });
    this.legend = vdElement("div", { className: "vd-legend" },
      vdElement("div", { className: "vd-scale" }, this.low, this.bar, this.high), this.readout);
    this.figure = vdElement("figure", { className: "vd-figure" }, this.stage, this.summary,
      this.legend);
    this.controls = this.buildControls();
    this.note = vdElement("p", { className: "vd-note" });
    this.root.replaceChildren(this.empty, this.message, this.lines, this.figure, this.controls,
      this.note);
    this.photo.addEventListener("load", () => this.paint());
    this.stage.addEventListener("pointermove", (event) => this.point(event));
    this.stage.addEventListener("pointerleave", () => this.point(null));
  }

  buildControls() {
    const select = (name, label, title, changed) => {
      this[name] = vdElement("select", { title });
      this[name].addEventListener("change", () => changed(this[name].value));
      return vdElement("label", { className: "vd-field" }, vdElement("span", {}, label),
        this[name]);
    };
    this.strength = vdElement("input", { type: "range", min: 0, max: 100,
      value: String(100 * this.style.opacity) });
    this.strength.addEventListener("input", () => this.restyle({
      opacity: this.strength.value / 100 }));
    this.squares = vdElement("input", { type: "checkbox" });
    this.squares.addEventListener("change", () => this.restyle({
      squares: this.squares.checked }));
    this.stretch = vdElement("input", { type: "checkbox" });
    this.stretch.addEventListener("change", () => {
      this.style.stretch = this.stretch.checked;
      this.refresh();
    });
    this.save = vdElement("button", { type: "button", className: "vd-save" }, "Download PNG");
    this.save.addEventListener("click", () => this.download());
    const controls = vdElement("div", { className: "vd-controls" },
      select("layerSelect", "Layer", "The model looks at the picture in several steps, its layers",
        (value) => this.choose({ layer: Number(value) })),
      select("headSelect", "Head", "In each layer several heads look, each for itself",
        (value) => this.choose({ head: Number(value) })),
      select("colourSelect", "Colours", "The colours of the map", (value) => this.restyle({
        colours: value })),
      vdElement("label", { className: "vd-field" }, vdElement("span", {}, "Map strength"),
        this.strength),
      vdElement("label", { className: "vd-check" }, this.squares, "Show the model's grid"),
      vdElement("label", { className: "vd-check" }, this.stretch, "Full contrast for each word"),
      this.save);
    for (const [value, label] of Object.entries(VD_COLOUR_NAMES)) {
      this.colourSelect.append(vdElement("option", { value }, label));
    }
    return controls;
  }

  /** Show a payload, whole. */
  update(payload) {
    const { hint, message, picture, writing, written, texts, reason } = payload || {};
    this.preview = null;
    this.picture = picture || null;
    this.texts = (texts || []).map(vdUnpack);
    this.model = (payload && payload.model) || "";
    this.empty.textContent = hint || "";
    this.empty.hidden = !hint || Boolean(message);
    this.message.hidden = !message;
    this.message.textContent = message || "";
    this.root.ariaBusy = String(writing !== undefined);
    this.figure.hidden = !picture;
    this.controls.hidden = this.summary.hidden = this.legend.hidden = !this.texts.length;
    if (picture) this.showPicture(picture);
    this.note.textContent = reason || "";
    this.lines.replaceChildren();
    if (writing !== undefined || written) this.showWriting(written || writing);
    if (this.texts.length) this.showTexts();
    else this.clear();
    const started = writing !== undefined && this.busy !== true;
    const finished = this.busy === true && writing === undefined;
    this.busy = writing !== undefined;
    if (message || started || finished) this.bringIntoView();
  }

  /** On a small screen the result is below the fields: go there when something happens. */
  bringIntoView() {
    const { top } = this.root.getBoundingClientRect();
    if (!this.root.offsetParent || (top > -40 && top < window.innerHeight * 0.5)) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.root.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  }

  showPicture({ url, width, height }) {
    if (this.photo.getAttribute("src") !== url) this.photo.src = url;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.stage.style.maxWidth = `calc(var(--vd-tall) * ${width / height})`;
  }

  /** A text without maps: one that grows, or the only one that the model can give. */
  showWriting(writing) {
    const line = vdElement("p", { className: "vd-writing" }, writing || "Looking …");
    line.classList.toggle("vd-waiting", !writing);
    this.lines.append(line);
  }

  clear() {
    this.drawn = null;
    this.root.dataset.drawn = "";
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.canvas.ariaLabel = "The picture you gave";
  }

  showTexts() {
    this.chosen.text = this.texts.length - 1;
    this.chosen.word = -1;
    this.drawn = null;
    this.texts.forEach((text, index) => this.lines.append(this.buildText(text, index)));
    this.lines.append(this.buildHint());
    this.fillChoices();
    this.refresh();
  }

  buildHint() {
    const unsure = this.texts.some((text) => text.probabilities.some((p) => p < VD_UNSURE));
    return vdElement("p", { className: "vd-hint" },
      "Choose a word to see where the model looked for it.",
      vdElement("span", { className: "vd-keys" }, " The arrow keys go from word to word."),
      unsure ? " A dotted line marks a word the model was less than a quarter sure of." : "");
  }

  /** One text as a row of word buttons; only one of them can be reached with Tab. */
  buildText(text, index) {
    const label = vdElement("span", { className: "vd-label" }, text.title);
    const group = vdElement("div", { className: "vd-words", role: "group", lang: text.language,
      ariaLabel: `${text.title}, word by word` });
    const characters = Array.from(text.text); // word spans count code points
    let at = 0;
    text.buttons = [];
    text.words.forEach(([start, end], word) => {
      group.append(characters.slice(at, start).join(""));
      group.append(this.buildWord(text, index, word, characters.slice(start, end).join("")));
      at = end;
    });
    group.append(characters.slice(at).join(""));
    const all = this.buildWord(text, index, -1, "All words");
    const row = vdElement("div", { className: `vd-text vd-${text.source}` },
      vdElement("div", { className: "vd-head" }, label, all), group);
    row.addEventListener("keydown", (event) => this.key(event, text, index));
    return row;
  }

  buildWord(text, index, word, shown) {
    const button = vdElement("button", { type: "button", className: "vd-word" }, shown);
    const sure = word < 0 ? undefined : text.probabilities[word];
    if (word < 0) button.className = "vd-all";
    if (sure !== undefined) {
      button.title = `The model was ${vdPercent(sure)} sure of this word`;
      button.classList.toggle("vd-unsure", sure < VD_UNSURE);
    }
    text.buttons[word + 1] = button;
    button.addEventListener("click", () => {
      const again = this.chosen.text === index && this.chosen.word === word;
      this.choose({ text: index, word: again ? -1 : word });
    });
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.peek({ text: index, word });
    });
    button.addEventListener("pointerleave", () => this.peek(null));
    return button;
  }

  key(event, text, index) {
    const at = text.buttons.indexOf(document.activeElement);
    const last = text.buttons.length - 1;
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: Math.min(1, last), End: last, Escape: 0 }[event.key];
    if (at < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const word = Math.min(last, Math.max(0, next)) - 1;
    this.choose({ text: index, word });
    text.buttons[word + 1].focus();
  }

  /** The layer and head lists of the chosen text. */
  fillChoices() {
    const text = this.texts[this.chosen.text];
    const fill = (select, all, names, value) => {
      const options = [all, ...names].map((name, i) => vdElement("option", { value: i - 1 }, name));
      select.replaceChildren(...options);
      select.value = value;
      select.disabled = names.length < 2;
    };
    if (this.chosen.layer >= text.layerCount) this.chosen.layer = -1;
    if (this.chosen.head >= text.headCount) this.chosen.head = -1;
    fill(this.layerSelect, "Average of all", text.layers, this.chosen.layer);
    fill(this.headSelect, "Average of all", Array.from({ length: text.headCount },
      (_, i) => `Head ${i + 1}`), this.chosen.head);
    const gates = text.gates.map((gate, i) => `${text.layers[i]} ${gate.toFixed(2)}`);
    this.note.textContent = [text.note, VD_LAYER_HINT, gates.length ? "Gate, how much the picture "
      + `counts against the text, from 0 (not at all) to ±1: ${gates.join(", ")}.` : ""].join(" ");
  }

  choose(change) {
    const before = this.chosen.text;
    Object.assign(this.chosen, change);
    this.preview = null;
    if (this.chosen.text !== before) this.fillChoices();
    this.refresh();
  }

  peek(target) {
    this.preview = target;
    this.refresh();
  }

  restyle(change) {
    Object.assign(this.style, change);
    this.showScale();
    this.paint();
  }

  /** Bring everything on screen in line with what is chosen (or previewed). */
  refresh() {
    if (!this.texts.length) return;
    const { text: index, word } = this.preview || this.chosen;
    const text = this.texts[index];
    const layer = Math.min(this.chosen.layer, text.layerCount - 1);
    const head = Math.min(this.chosen.head, text.headCount - 1);
    this.texts.forEach((each, i) => each.buttons.forEach((button, j) => {
      const on = this.chosen.text === i && this.chosen.word === j - 1;
      button.ariaPressed = String(on);
      button.tabIndex = on || (this.chosen.text !== i && j === 0) ? 0 : -1;
    }));
    const map = vdMap(text, layer, head, word);
    this.now = { text, index, word, layer, head, map,
      top: this.style.stretch ? Math.max(...map) : vdReduce(text, layer, head).top };
    const [main, rest] = vdSentences(this.now);
    const sentence = rest ? `${main} ${rest}` : main;
    // Announced only where the person chose it, not on each hover.
    this.summary.ariaLive = this.preview ? "off" : "polite";
    if (this.summary.textContent !== sentence) {
      this.summary.replaceChildren(vdElement("strong", {}, main), rest ? ` ${rest}` : "");
    }
    this.canvas.ariaLabel = sentence;
    this.showScale();
    this.point(null);
    this.glide();
  }

  showScale() {
    if (this.now) this.high.textContent = vdPercent(this.now.top);
    this.bar.style.backgroundImage = vdGradient(this.style.colours);
    this.bar.classList.toggle("vd-clear", this.style.colours === "spotlight");
  }

  view(text) {
    return { boxes: text.boxes, grid: text.grid, width: text.width, height: text.height,
      ...this.style };
  }

  /** Move from the map on screen to the chosen one, in a few frames. */
  glide() {
    cancelAnimationFrame(this.frame);
    this.root.dataset.drawn = "";
    const { map, top, text } = this.now;
    const from = this.drawn && this.drawn.boxes === text.boxes && this.drawn;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const start = performance.now();
    const step = (time) => {
      const done = from && !still ? Math.min(1, Math.max(0, time - start) / 160) : 1;
      const mixed = done < 1 ? map.map((value, k) => from.map[k] + done * (value - from.map[k]))
        : map;
      const mixedTop = done < 1 ? from.top + done * (top - from.top) : top;
      this.drawn = { map: mixed, top: mixedTop, boxes: text.boxes, text };
      this.paint();
      if (done < 1) this.frame = requestAnimationFrame(step);
      else this.settle();
    };
    if (from && !still && !document.hidden) this.frame = requestAnimationFrame(step);
    else step(start);
  }

  settle() {
    const { index, word, layer, head } = this.now;
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
      this.view(this.drawn.text));
  }

  /** Pointing at the picture reads the map there, and tints the words by their share of it. */
  point(event) {
    const { text, map, top, layer, head } = this.now || {};
    const rect = this.stage.getBoundingClientRect();
    const region = event && text && this.texts.length ? vdRegionAt(text.boxes,
      ((event.clientX - rect.left) / rect.width) * text.width,
      ((event.clientY - rect.top) / rect.height) * text.height) : -1;
    this.mark.hidden = region < 0 || !(top > 0);
    this.readout.textContent = this.style.stretch ? VD_STRETCHED_HINT : VD_SCALE_HINT;
    for (const each of this.texts) {
      for (const button of each.buttons) button.style.removeProperty("--vd-heat");
    }
    if (region < 0) return;
    let mean = 0;
    for (const value of map) mean += value / map.length;
    this.mark.style.left = `${(100 * map[region]) / (top || 1)}%`;
    this.readout.textContent = `Here: ${vdPercent(map[region])}`
      + (mean > 0 ? `, ${(map[region] / mean).toFixed(1)} times the average.` : ".");
    const { weights } = vdReduce(text, layer, head);
    const here = text.words.map((_, q) => weights[q * text.regionCount + region]);
    const most = Math.max(...here);
    here.forEach((value, q) => text.buttons[q + 1].style.setProperty("--vd-heat",
      most > 0 ? (value / most).toFixed(3) : "0"));
  }

  download() {
    const { text, word, layer, head, map, top } = this.now;
    const shown = vdWord(this.now);
    const details = [shown ? `Word: “${shown}”` : "All words",
      layer < 0 ? "average of all layers" : text.layers[layer],
      head < 0 ? "average of all heads" : `head ${head + 1}`, this.model].filter(Boolean);
    const poster = vdPoster(this.photo, map, top, this.view(text), { title: text.text,
      summary: vdSentences(this.now).join(" "), details: details.join(" · "), low: "0%",
      high: vdPercent(top) });
    const name = (shown || text.source).replace(/[^\p{L}\p{N}-]+/gu, "-");
    poster.toBlob((blob) => {
      const link = vdElement("a", { href: URL.createObjectURL(blob),
        download: `vitdemo-${name}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    }, "image/png");
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.root.replaceChildren();
  }
}

/** Draw a viewer into an element. */
function mountViewer(root, payload) {
  const viewer = new VdViewer(root);
  viewer.update(payload);
  return { update: (next) => viewer.update(next), destroy: () => viewer.destroy() };
}
