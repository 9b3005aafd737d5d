// The viewer's texts, and small DOM helpers.

const VD_WHOLE = {
  caption: "the whole caption",
  question: "the whole question",
  answer: "the whole answer",
  text: "the whole sentence",
};

/** What a map is made of: only some methods show attention itself. */
function vdStuff(look) {
  return ["cross-attention", "rollout"].includes(look.method) ? "attention" : "map";
}

/** What the scale below the picture says. */
function vdScaleHint(look, style) {
  return `Share of the ${look ? vdStuff(look) : "attention"} on one region; the scale is `
    + `${style.stretch ? "this word's own" : "the same for every word"}.`
    + (style.style === "contour" ? VD_LINES_HINT : style.style === "glow" ? VD_GLOW_HINT : "");
}

const VD_LINES_HINT = " Lines run at 20, 40, 60 and 80% of the scale.";

const VD_GLOW_HINT = " It begins at the average: where the model looked less, nothing is drawn.";

const VD_LAYER_HINT = "A layer is one step of the model; in each layer several heads look at the "
  + "picture, each for itself.";

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

/** "1 region", "3 regions". */
function vdCount(number, one) {
  return `${number} ${one}${number === 1 ? "" : "s"}`;
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
  const whole = VD_WHOLE[text.source] || VD_WHOLE.text;
  const subject = word < 0 ? `For ${whole}` : `For “${vdWord({ text, word })}”`;
  const unread = (text.unread || [])[word];
  if (unread) return [`${subject} there is no map: ${unread}.`];
  const { total, share, area, place, even } = vdSummary(map, text.boxes, text.width, text.height,
    hidden);
  if (!(total > 0)) {
    return [hidden.length ? `${subject} the model looked nowhere else in the picture.`
      : `${subject} the model did not look at the picture.`];
  }
  const own = vdStuff(text) === "attention";
  const rest = own && total < 0.995 && !hidden.length ? [`The picture got ${vdWhole(total)} of all `
    + "its attention, the text the rest."] : [];
  const what = own ? "its attention" : "the map";
  const of = hidden.length ? `the rest of ${what}` : what;
  if (even) {
    const evenly = own ? "the model looked about evenly" : "the map lies about evenly";
    return [`${subject} ${evenly} over the whole picture: even the strongest ${vdWhole(area)} of `
      + `it holds only ${vdWhole(share)} of ${of.replace("its", "the")}.`, ...rest];
  }
  return [`${subject} ${own ? "the model looked most" : "the map is strongest"} ${place}: `
    + `${vdWhole(share)} of ${of} lies in ${vdWhole(area)} of the picture.`, ...rest];
}

/** How far two maps agree, in words, from Spearman's rank correlation. */
function vdAgreement(value) {
  if (value >= 0.7) return "agrees well";
  if (value >= 0.4) return "agrees in part";
  if (value >= 0.1) return "agrees a little";
  return value > -0.1 ? "does not agree" : "points elsewhere";
}
