// The viewer's texts, and small DOM helpers.

const VD_WHOLE = {
  caption: "the whole caption",
  question: "the whole question",
  answer: "the whole answer",
  text: "the whole sentence",
};

const VD_SCALE_HINT = "Share of the attention on one region; the scale is the same for every word.";

const VD_STRETCHED_HINT = "Share of the attention on one region; the scale is this word's own.";

const VD_UNSURE = 0.25; // below this probability a word is marked

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

/** The word that is shown, as it stands in its text; empty for all of them. */
function vdWord({ text, word }) {
  if (word < 0) return "";
  return Array.from(text.text).slice(...text.words[word]).join("");
}

/** What a map ({ text, word, map } as the viewer holds them) shows, in one or two sentences. */
function vdSentences({ text, word, map }) {
  const whole = VD_WHOLE[text.source] || VD_WHOLE.text;
  const subject = word < 0 ? `For ${whole}` : `For “${vdWord({ text, word })}”`;
  const { total, share, area, place, even } = vdSummary(map, text.boxes, text.width, text.height);
  if (!(total > 0)) return [`${subject} the model did not look at the picture.`];
  const rest = total < 0.995 ? [`The picture got ${vdWhole(total)} of all its attention, the text `
    + "the rest."] : [];
  if (even) {
    return [`${subject} the model looked about evenly over the whole picture: even the `
      + `strongest ${vdWhole(area)} of it holds only ${vdWhole(share)} of the attention.`, ...rest];
  }
  return [`${subject} the model looked most ${place}: ${vdWhole(share)} of its attention lies `
    + `in ${vdWhole(area)} of the picture.`, ...rest];
}
