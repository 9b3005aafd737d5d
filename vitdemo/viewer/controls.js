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

/** Which map: the method, layer and head. `viewer` is told of every change. */
class VdLookControls {
  constructor(viewer) {
    this.viewer = viewer;
    this.method = vdSelect("Way of looking", "How the map is made",
      (value) => viewer.choose({ method: value }));
    this.layer = vdSelect("Layer", "The model looks at the picture in several steps, its layers",
      (value) => viewer.choose({ layer: Number(value) }));
    this.head = vdSelect("Head", "In each layer several heads look, each for itself",
      (value) => viewer.choose({ head: Number(value) }));
    this.method.field.classList.add("vd-wide");
    this.more = vdButton("More ways to look", () => viewer.request("methods", { method: "" },
      "Working out more ways to look …"), { title: "The model makes its maps in other ways, too" });
    this.element = vdElement("div", { className: "vd-looks" }, this.method.field, this.layer.field,
      this.head.field, this.more);
  }

  /** Bring the lists in line with a text and what is chosen of it. */
  refresh() {
    const { text, look, layer, head } = this.viewer.now;
    const looks = Object.values(text.looks);
    const known = this.viewer.payload.methods;
    // Those that are still to be worked out can be chosen, too.
    const missing = this.viewer.can("methods")
      ? Array.from(known || [], (pair) => Array.from(pair)).filter(([name]) => !text.looks[name])
      : [];
    const more = this.viewer.can("methods") && (known ? missing.length > 0 : looks.length < 2);
    const key = [looks.map((one) => one.method), missing, look.method, text.source].join();
    if (this.key !== key) {
      this.key = key;
      vdFill(this.method.select, [...looks.map((one) => [one.method, vdLabel(one)]),
        ...missing.map(([name, label]) => [name, `${label} …`])], look.method);
      this.fill(this.layer, look.layers);
      this.fill(this.head, Array.from({ length: look.headCount }, (_, i) => `Head ${i + 1}`));
    }
    this.method.field.hidden = looks.length + missing.length < 2;
    this.more.hidden = !more;
    this.method.select.value = look.method;
    this.layer.select.value = layer;
    this.head.select.value = head;
    this.element.hidden = this.method.field.hidden && !more && this.layer.field.hidden
      && this.head.field.hidden;
  }

  fill({ field, select }, names) {
    vdFill(select, ["Average of all", ...names].map((name, i) => [i - 1, name]), -1);
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
    this.kind = vdSelect("Style", "How the map is drawn", set("style"));
    this.colours = vdSelect("Colours", "The colours of the map", set("colours"));
    vdFill(this.kind.select, Object.entries(VD_STYLE_NAMES), style.style);
    vdFill(this.colours.select, Object.entries(VD_COLOUR_NAMES), style.colours);
    this.strength = vdElement("input", { type: "range", min: 0, max: 100,
      value: String(100 * style.opacity) });
    this.strength.addEventListener("input", () => set("opacity")(this.strength.value / 100));
    this.squares = vdCheck("Show the model's grid", set("squares"));
    this.stretch = vdCheck("Full contrast for each word", set("stretch"));
    this.stretch.box.checked = style.stretch;
    this.seen = vdCheck("Outline what the model saw", set("seen"));
    this.element = vdElement("div", { className: "vd-controls" }, this.kind.field,
      this.colours.field, vdElement("label", { className: "vd-field" },
        vdElement("span", {}, "Map strength"), this.strength),
      this.squares.field, this.stretch.field, this.seen.field);
    this.refresh();
  }

  refresh() {
    this.colours.field.hidden = this.style.style === "spotlight";
  }
}
