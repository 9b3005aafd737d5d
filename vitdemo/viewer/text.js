// The viewer's texts, and small DOM helpers.

/** A sentence of the catalogue (VD_TEXTS), its named values filled in; `count` decides between
 * singular and plural. */
function vdPhrase(key, values = {}) {
  const sentence = VD_TEXTS[key];
  const form = typeof sentence === "string" ? sentence
    : (values.count === 1 && sentence.one) || sentence.other;
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whole sentences, one after the other; those that are empty left out. */
function vdJoined(...sentences) {
  return sentences.filter(Boolean).join(vdPhrase("list.sentences"));
}

/** What a map is made of: only some methods show attention itself. */
function vdStuff(look) {
  return ["cross-attention", "rollout"].includes(look.method) ? "attention" : "map";
}

/** What the scale below the picture says. */
function vdScaleHint(look, style) {
  const stuff = look ? vdStuff(look) : "attention";
  const hint = vdPhrase(`viewer.scale.${style.stretch ? "own" : "shared"}_${stuff}`);
  if (style.style === "contour") return vdJoined(hint, vdPhrase("viewer.scale.contour"));
  return vdJoined(hint, style.style === "glow" ? vdPhrase("viewer.scale.glow") : "");
}

/** A DOM element with properties (or data-/aria- attributes) and children. */
function vdElement(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let vdNamespace = "";

/** An SVG element with attributes and children. */
function vdSvg(tag, settings = {}, ...children) {
  if (!vdNamespace) { // the parser knows it
    const frame = vdElement("div");
    frame.innerHTML = "<svg></svg>";
    vdNamespace = frame.firstChild.namespaceURI;
  }
  const element = document.createElementNS(vdNamespace, tag);
  for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A plain button. */
function vdButton(label, clicked, settings = {}) {
  const button = vdElement("button", { type: "button", className: "vd-button", ...settings },
    label);
  button.addEventListener("click", clicked);
  return button;
}

/** A section that is closed until a person opens it; `opened` is called when it opens. */
function vdDetails(name, title, opened, ...children) {
  const details = vdElement("details", { className: `vd-tool vd-${name}`, hidden: true },
    vdElement("summary", {}, title), ...children);
  details.addEventListener("toggle", () => details.open && opened());
  return details;
}

/** One word of a text as it stands there; empty for all of them. */
function vdWordOf(text, word) {
  if (word < 0) return "";
  return Array.from(text.text).slice(...text.words[word]).join("");
}

/** The word that is shown. */
function vdWord({ text, word }) {
  return vdWordOf(text, word);
}

/** The plain name of a method. */
function vdLabel(look) {
  return look.label || look.method.charAt(0).toUpperCase() + look.method.slice(1);
}

/**
 * What a map ({ text, word, map, hidden } as the viewer holds them) shows, in one or two sentences.
 * `hidden` are regions left out of the map.
 */
function vdSentences({ text, word, map, hidden = [] }) {
  const subject = word < 0 ? vdPhrase(`viewer.subject.${text.source}`)
    : vdPhrase("viewer.subject.word", { word: vdWord({ text, word }) });
  const why = (text.unread || [])[word];
  if (why) return [vdPhrase("viewer.says.unread", { subject, why })];
  const { total, share, area, place, even } = vdSummary(map, text.boxes, text.width, text.height,
    hidden);
  if (!(total > 0)) {
    return [vdPhrase(hidden.length ? "viewer.says.nowhere_else" : "viewer.says.nowhere",
      { subject })];
  }
  const stuff = vdStuff(text);
  const values = { subject, place, share: vdWhole(share), area: vdWhole(area) };
  const kind = `${stuff}${hidden.length ? "_rest" : ""}`;
  const said = even ? vdPhrase(`viewer.says.even.${kind}`, values)
    : vdPhrase(`viewer.says.most.${kind}`, values);
  const part = stuff === "attention" && total < 0.995 && !hidden.length;
  return part ? [said, vdPhrase("viewer.says.part", { share: vdWhole(total) })] : [said];
}

/** How far two maps agree, in words, from Spearman's rank correlation. */
function vdAgreement(value) {
  if (value >= 0.7) return vdPhrase("viewer.agrees.well");
  if (value >= 0.4) return vdPhrase("viewer.agrees.part");
  if (value >= 0.1) return vdPhrase("viewer.agrees.little");
  return vdPhrase(value > -0.1 ? "viewer.agrees.not" : "viewer.agrees.elsewhere");
}
