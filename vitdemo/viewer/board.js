// Sections that a person opens: all layers and heads as small maps, the methods side by side, how
// the maps were made. And the picture that is saved.

const VD_FIRST_HEADS = 24; // so many small maps are shown before "Show all"
const VD_SUGGESTED = 3;

/** A small canvas with a map in full contrast. */
function vdThumbnail(map, top, look, colours, photo) {
  const width = 132;
  const height = Math.max(24, Math.min(220, Math.round((width * look.height) / look.width)));
  const canvas = vdElement("canvas", { width, height, ariaHidden: "true" });
  const context = canvas.getContext("2d");
  vdPaint(context, width, height, map, top, { boxes: look.boxes, grid: look.grid, width: look.width,
    height: look.height, style: "heat", colours, opacity: photo ? 0.75 : 1, squares: false });
  if (photo && photo.complete && photo.naturalWidth) {
    context.globalCompositeOperation = "destination-over";
    context.drawImage(photo, 0, 0, width, height);
    context.globalCompositeOperation = "source-over";
  }
  return canvas;
}

/** The largest value of a map, 0 or more. */
function vdTop(map) {
  return map.reduce((most, value) => Math.max(most, value), 0);
}

/** Arrow keys, Home and End go from button to button of a group. */
function vdRove(event, buttons) {
  const at = buttons.indexOf(document.activeElement);
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0,
    End: buttons.length - 1 }[event.key];
  if (at < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  buttons[Math.min(buttons.length - 1, Math.max(0, next))].focus();
}

/** All layers and heads for the chosen word, the most specific first. */
class VdBoard {
  constructor(viewer) {
    this.viewer = viewer;
    this.all = false;
    this.hint = vdElement("p", { className: "vd-hint" });
    this.grid = vdElement("div", { className: "vd-board", role: "group" });
    this.grid.addEventListener("keydown", (event) => vdRove(event,
      Array.from(this.grid.children)));
    this.more = vdButton("", () => {
      this.all = !this.all;
      this.refresh();
    });
    this.element = vdDetails("heads", vdPhrase("viewer.heads"), () => this.refresh(), this.hint,
      this.grid, this.more);
  }

  /** The maps that have several layers and heads: the chosen ones, or else the text's own. */
  look() {
    const { look, text } = this.viewer.now;
    return [look, ...Object.values(text.looks)].find((one) => (
      one.layerCount * one.headCount > 1));
  }

  refresh() {
    const look = this.look();
    this.element.hidden = !look;
    clearTimeout(this.timer); // many small maps: only once the large one is drawn
    if (look && this.element.open) this.timer = setTimeout(() => this.draw(look), 0);
  }

  draw(look) {
    if (!this.viewer.now) return;
    const { text, word, layer, head } = this.viewer.now;
    const focused = this.grid.contains(document.activeElement)
      ? document.activeElement.dataset.head : null;
    const order = vdSpecificity(look, word);
    this.hint.textContent = word < 0 ? vdPhrase("viewer.heads_hint.all")
      : vdPhrase("viewer.heads_hint.word", { word: vdWordOf(text, word) });
    const shown = this.all ? order : order.slice(0, VD_FIRST_HEADS);
    this.grid.replaceChildren(...shown.map((one, rank) => this.thumbnail(look, word, one,
      rank < VD_SUGGESTED && one.value > 1e-6)));
    const buttons = Array.from(this.grid.children);
    const chosen = buttons.find((button) => button.ariaPressed === "true");
    for (const button of buttons) button.tabIndex = button === (chosen || buttons[0]) ? 0 : -1;
    if (focused) (buttons.find((button) => button.dataset.head === focused) || buttons[0]).focus();
    this.more.hidden = order.length <= VD_FIRST_HEADS;
    this.more.textContent = this.all ? vdPhrase("viewer.fewer")
      : vdPhrase("viewer.all_of", { number: order.length });
    this.grid.dataset.shown = [word, layer, head].join(":");
  }

  thumbnail(look, word, { layer, head, value }, suggested) {
    const { viewer } = this;
    const map = word >= 0 ? vdHeadMap(look, layer, head, word)
      : look.words.reduce((sum, _, q) => {
        vdHeadMap(look, layer, head, q).forEach((one, k) => { sum[k] += one; });
        return sum;
      }, new Float64Array(look.regionCount));
    const name = vdPhrase("viewer.layer_and_head", { layer: look.layers[layer], head: head + 1 });
    const button = vdElement("button", { type: "button", className: "vd-thumb" },
      vdThumbnail(map, vdTop(map), look, viewer.style.colours),
      vdElement("span", {}, name),
      vdElement("span", { className: "vd-specific" }, 
        vdPhrase("viewer.specific", { value: value.toFixed(2) })));
    if (suggested) button.append(vdElement("span", { className: "vd-suggested" },
      vdPhrase("viewer.suggested")));
    const { now } = viewer;
    const [mine, my] = [look.layerCount > 1 ? layer : -1, look.headCount > 1 ? head : -1];
    button.ariaPressed = String(now.look === look && now.layer === mine && now.head === my);
    button.dataset.head = `${layer}:${head}`;
    button.addEventListener("click", () => {
      const on = button.ariaPressed === "true"; // once more: back to the average
      viewer.choose({ method: look.method, layer: on ? -1 : layer, head: on ? -1 : head });
    });
    return button;
  }
}

/** One small map for each method, all on one scale, and how far they agree with the chosen one. */
class VdMethods {
  constructor(viewer) {
    this.viewer = viewer;
    this.hint = vdElement("p", { className: "vd-hint" });
    this.grid = vdElement("div", { className: "vd-board", role: "group" });
    this.grid.addEventListener("keydown", (event) => vdRove(event,
      Array.from(this.grid.children)));
    this.element = vdDetails("methods", vdPhrase("viewer.side_by_side"), () => this.open(),
      this.hint, this.grid);
  }

  /** Those that are still to be worked out are asked for now. */
  open() {
    const { viewer } = this;
    if (viewer.can("methods") && vdLacking(viewer.now.text, viewer.payload.methods).length) {
      viewer.request("methods", { method: "" }, vdPhrase("viewer.other_ways"));
    }
    this.refresh();
  }

  refresh() {
    const { text } = this.viewer.now;
    const looks = Object.values(text.looks);
    this.element.hidden = looks.length < 2 && !(this.viewer.can("methods")
      && vdLacking(text, this.viewer.payload.methods).length);
    clearTimeout(this.timer);
    if (looks.length > 1 && this.element.open) this.timer = setTimeout(() => this.draw(), 0);
  }

  draw() {
    if (!this.viewer.now) return;
    const { text, look, word, layer, head } = this.viewer.now;
    const looks = Object.values(text.looks);
    const shares = looks.map((one) => {
      const map = one === look ? vdMap(one, layer, head, word) : vdMap(one, -1, -1, word);
      const total = map.reduce((sum, value) => sum + value, 0);
      return total > 0 ? map.map((value) => value / total) : map;
    });
    const top = Math.max(...shares.map(vdTop));
    const mine = shares[looks.indexOf(look)];
    this.hint.textContent = vdPhrase("viewer.agrees.hint", { method: vdLabel(look) });
    const focused = this.grid.contains(document.activeElement)
      ? document.activeElement.dataset.method : null;
    this.grid.replaceChildren(...looks.map((one, i) => this.thumbnail(one, shares[i], top, mine)));
    const buttons = Array.from(this.grid.children);
    for (const button of buttons) button.tabIndex = button.ariaPressed === "true" ? 0 : -1;
    if (focused) buttons.find((button) => button.dataset.method === focused)?.focus();
  }

  thumbnail(look, map, top, mine) {
    const { viewer } = this;
    const chosen = viewer.now.look === look;
    const value = vdSpearman(map, mine);
    const said = vdTop(map) <= 0 ? vdPhrase("viewer.agrees.nowhere")
      : chosen ? vdPhrase("viewer.agrees.chosen")
        : vdPhrase("viewer.agrees.value", { value: value.toFixed(2), how: vdAgreement(value) });
    const button = vdElement("button", { type: "button", className: "vd-thumb",
      ariaPressed: String(chosen) },
      vdThumbnail(map, top, look, viewer.style.colours, viewer.photo),
      vdElement("span", {}, vdLabel(look)), vdElement("span", { className: "vd-specific" }, said));
    button.dataset.method = look.method;
    button.addEventListener("click", () => viewer.choose({ method: look.method }));
    return button;
  }
}

/** How the map was made, what it cannot say, and the settings. */
class VdAbout {
  constructor(viewer) {
    this.viewer = viewer;
    this.note = vdElement("p", { className: "vd-note" });
    this.rest = vdDetails("made", vdPhrase("viewer.made"), () => {});
    this.rest.hidden = false;
    this.element = vdElement("div", { className: "vd-about" }, this.note, this.rest);
  }

  refresh() {
    const { look } = this.viewer.now;
    const { settings, caveats } = this.viewer.payload;
    const { model } = this.viewer;
    this.element.hidden = false;
    this.note.textContent = look.note;
    this.note.hidden = !look.note;
    const gates = look.gates.map((gate, i) => [look.layers[i], gate])
      .filter(([, gate]) => Number.isFinite(gate))
      .map(([layer, gate]) => `${layer} ${gate.toFixed(2)}`);
    const facts = [vdPhrase("viewer.made_by", { method: vdLabel(look) }),
      model ? vdPhrase("viewer.made_with", { model }) : "",
      look.grid[0] > 0 ? vdPhrase("viewer.grid_of", { count: look.regionCount,
        rows: look.grid[0], columns: look.grid[1] })
        : vdPhrase("viewer.regions", { count: look.regionCount }),
      vdPhrase("viewer.saw_whole"),
      look.layerCount > 1 ? vdPhrase("viewer.layers_hint") : "",
      gates.length ? vdPhrase("viewer.gates", { gates: gates.join(vdPhrase("list.join")) }) : "",
      vdPhrase("viewer.not_why")].filter(Boolean);
    this.rest.replaceChildren(this.rest.firstChild,
      ...facts.map((fact) => vdElement("p", {}, fact)),
      ...(caveats ? [vdElement("ul", {}, ...Array.from(caveats, (one) => (
        vdElement("li", {}, one))))] : []),
      ...(settings ? [vdElement("dl", { className: "vd-settings" },
        ...Object.entries(settings).map(([name, value]) => vdElement("div", {},
          vdElement("dt", {}, name), vdElement("dd", {}, String(value)))))] : []));
  }
}

/** Save the picture with its map, its outlines and a strip that says what it shows. */
function vdDownload(viewer) {
  const { text, look, word, layer, head, map, top } = viewer.now;
  const shown = vdWordOf(text, word);
  const details = [
    shown ? vdPhrase("viewer.saved.word", { word: shown }) : vdPhrase("viewer.all_words"),
    vdLabel(look),
    layer < 0 ? (look.layerCount > 1 ? vdPhrase("viewer.saved.layers") : "") : look.layers[layer],
    head < 0 ? (look.headCount > 1 ? vdPhrase("viewer.saved.heads") : "")
      : vdPhrase("viewer.head_number", { number: head + 1 }),
    viewer.model].filter(Boolean);
  const range = vdRange(map, top, viewer.style);
  const poster = vdPoster(viewer.photo, map, top, viewer.view(look), { title: text.text,
    summary: vdSentences({ ...viewer.now, text: look }).join(" "), details: details.join(" · "),
    low: vdPercent(range.low), high: vdPercent(range.high) }, viewer.outlines());
  const name = (shown || text.source).replace(/[^\p{L}\p{N}-]+/gu, "-");
  poster.toBlob((blob) => {
    const link = vdElement("a", { href: URL.createObjectURL(blob),
      download: `vitdemo-${name}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }, "image/png");
}
