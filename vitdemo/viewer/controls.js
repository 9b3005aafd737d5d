// The fields below the picture: which map is shown, and how it is drawn.

// Each viewer of a page runs this file for itself, so a count alone would give ids twice.
const VD_FIELDS = `vd-field-${Math.random().toString(36).slice(2, 10)}`;
let vdFields = 0; // so many labels were tied to their lists

/** A labelled list to choose from. The label does not hold the list, whose entries would else be
 * part of its name. */
function vdSelect(label, title, changed) {
  vdFields += 1;
  const select = vdElement("select", { title, id: `${VD_FIELDS}-${vdFields}` });
  select.addEventListener("change", () => changed(select.value));
  const field = vdElement("div", { className: "vd-field" },
    vdElement("label", { htmlFor: select.id }, label), select);
  return { field, select };
}

/** A labelled box to tick. */
function vdCheck(label, changed) {
  const box = vdElement("input", { type: "checkbox" });
  box.addEventListener("change", () => changed(box.checked));
  return { field: vdElement("label", { className: "vd-check" }, box, label), box };
}

/** Fill a list with [value, label] pairs. */
function vdFill(select, options, value) {
  select.replaceChildren(...options.map(([one, label]) => vdElement("option", { value: one },
    label)));
  select.value = value;
}

/** The [name, label] of the ways to make a map that a text's map was not yet made in. */
function vdLacking(text, known) {
  return Array.from(known || [], (pair) => Array.from(pair)).filter(([name]) => !text.looks[name]);
}

const VD_OPENED = "vitdemo-experts"; // where a browser keeps whether the drawer was open

/** The one drawer with all that a first look does without; it stays as it was left. */
function vdExperts(...parts) {
  const drawer = vdDetails("experts", vdPhrase("viewer.experts"), () => {}, ...parts);
  try { // a page without an address of its own has no storage
    drawer.open = localStorage.getItem(VD_OPENED) === "open";
    drawer.addEventListener("toggle", () => {
      localStorage.setItem(VD_OPENED, drawer.open ? "open" : "");
    });
  } catch { /* then it begins closed each time */ }
  return drawer;
}

/** Which map: the method, layer and head. `viewer` is told of every change. */
class VdLookControls {
  constructor(viewer) {
    this.viewer = viewer;
    this.method = vdSelect(vdPhrase("viewer.method"), vdPhrase("viewer.method_title"),
      (value) => viewer.choose({ method: value }));
    this.layer = vdSelect(vdPhrase("viewer.layer"), vdPhrase("viewer.layer_title"),
      (value) => viewer.choose({ layer: Number(value) }));
    this.head = vdSelect(vdPhrase("viewer.head"), vdPhrase("viewer.head_title"),
      (value) => viewer.choose({ head: Number(value) }));
    this.method.field.classList.add("vd-wide");
    this.element = vdElement("div", { className: "vd-looks" }, this.method.field, this.layer.field,
      this.head.field);
  }

  /** Bring the lists in line with a text and what is chosen of it. */
  refresh() {
    const { text, look, layer, head } = this.viewer.now;
    const looks = Object.values(text.looks);
    // Those that are still to be worked out can be chosen, too.
    const missing = this.viewer.can("methods") ? vdLacking(text, this.viewer.payload.methods) : [];
    const key = [looks.map((one) => one.method), missing, look.method, text.source].join();
    if (this.key !== key) {
      this.key = key;
      vdFill(this.method.select, [...looks.map((one) => [one.method, vdLabel(one)]),
        ...missing.map(([name, label]) => [name, `${label} …`])], look.method);
      this.fill(this.layer, look.layers);
      this.fill(this.head, Array.from({ length: look.headCount }, (_, i) => (
        vdPhrase("viewer.head_number", { number: i + 1 }))));
    }
    this.method.field.hidden = looks.length + missing.length < 2;
    this.method.select.value = look.method;
    this.layer.select.value = layer;
    this.head.select.value = head;
    this.element.hidden = this.method.field.hidden && this.layer.field.hidden
      && this.head.field.hidden;
  }

  fill({ field, select }, names) {
    vdFill(select, [vdPhrase("viewer.average"), ...names].map((name, i) => [i - 1, name]), -1);
    field.hidden = names.length < 2;
  }
}

/** How a map is drawn. `style` is changed in place; `changed` is called after each change. */
class VdStyleControls {
  constructor(style, changed) {
    this.style = style;
    const set = (name) => (value) => {
      style[name] = value;
      this.refresh();
      changed(name);
    };
    this.kind = vdSelect(vdPhrase("viewer.style"), vdPhrase("viewer.style_title"), set("style"));
    this.colours = vdSelect(vdPhrase("viewer.colours"), vdPhrase("viewer.colours_title"),
      set("colours"));
    const named = (names) => names.map((name) => [name, vdPhrase(`viewer.drawn.${name}`)]);
    vdFill(this.kind.select, named(VD_STYLE_NAMES), style.style);
    vdFill(this.colours.select, named(VD_COLOUR_NAMES), style.colours);
    this.strength = vdElement("input", { type: "range", min: 0, max: 100,
      value: String(100 * style.opacity) });
    this.strength.addEventListener("input", () => set("opacity")(this.strength.value / 100));
    this.squares = vdCheck(vdPhrase("viewer.grid"), set("squares"));
    this.stretch = vdCheck(vdPhrase("viewer.contrast"), set("stretch"));
    this.stretch.box.checked = style.stretch;
    this.element = vdElement("div", { className: "vd-controls" }, this.kind.field,
      this.colours.field, vdElement("label", { className: "vd-field" },
        vdElement("span", {}, vdPhrase("viewer.strength")), this.strength),
      this.squares.field, this.stretch.field);
    this.refresh();
  }

  refresh() {
    this.colours.field.hidden = this.style.style === "spotlight";
  }
}
