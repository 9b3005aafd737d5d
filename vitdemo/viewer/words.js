// The texts as rows of words that a person chooses from.

// What stands at a word without a space, and on one line with it. A hyphen may end a line.
const VD_OPENING = /([\p{Ps}\p{Pi}"']*)$/u;
const VD_CLOSING = /^[\p{Pe}\p{Pf}\p{Po}]*/u;
const VD_PLAY_PACE = 1400; // milliseconds that a word is shown

/** One text as a row of word buttons; only one of them can be reached with Tab. */
function vdTextRow(viewer, text, index) {
  const label = vdElement("span", { className: "vd-label" }, text.title);
  const group = vdElement("div", { className: "vd-words", role: "group", dir: "auto",
    lang: text.language, ariaLabel: vdPhrase("viewer.word_by_word", { title: text.title }) });
  const characters = Array.from(text.text); // word spans count code points
  let at = 0;
  text.buttons = [];
  text.words.forEach(([start, end], word) => {
    const next = characters.slice(end, text.words[word + 1]?.[0]).join("");
    const [, open] = characters.slice(at, start).join("").match(VD_OPENING);
    const [close] = next.match(VD_CLOSING);
    group.append(characters.slice(at, start - Array.from(open).length).join(""));
    const button = vdWordButton(viewer, text, index, word, characters.slice(start, end).join(""));
    group.append(vdElement("span", { className: "vd-unit" }, open, button, close));
    at = end + Array.from(close).length;
  });
  group.append(characters.slice(at).join(""));
  const all = vdWordButton(viewer, text, index, -1, vdPhrase("viewer.all_words"));
  const row = vdElement("div", { className: `vd-text vd-${text.source}` },
    vdElement("div", { className: "vd-head" }, label, all,
      ...(viewer.host ? [] : [vdPlayButton(viewer, text, index)])), group);
  row.addEventListener("keydown", (event) => vdWordKey(viewer, event, text, index));
  return row;
}

function vdWordButton(viewer, text, index, word, shown) {
  const button = vdElement("button", { type: "button", className: "vd-word" }, shown);
  if (word < 0) button.className = "vd-all";
  text.buttons[word + 1] = button;
  button.addEventListener("click", () => viewer.choose({ text: index, word }));
  button.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") viewer.peek({ text: index, word });
  });
  button.addEventListener("pointerleave", () => viewer.peek(null));
  return button;
}

/** A button that goes from word to word by itself, until the last one or until a person chooses. */
function vdPlayButton(viewer, text, index) {
  const button = vdButton(vdPhrase("viewer.play"), () => step(timer ? Infinity : 0),
    { className: "vd-play", title: vdPhrase("viewer.play_title") });
  let timer = 0;
  const step = (word) => {
    clearTimeout(timer);
    const { chosen } = viewer;
    const left = word > 0 && (chosen.text !== index || chosen.word !== word - 1);
    const on = word < text.words.length && !left && button.isConnected;
    button.textContent = vdPhrase(on ? "viewer.stop" : "viewer.play");
    timer = on ? setTimeout(() => step(word + 1), VD_PLAY_PACE) : 0;
    if (on) viewer.choose({ text: index, word });
  };
  return button;
}

function vdWordKey(viewer, event, text, index) {
  const at = text.buttons.indexOf(document.activeElement);
  const last = text.buttons.length - 1;
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
    Home: Math.min(1, last), End: last, Escape: 0 }[event.key];
  if (at < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const word = Math.min(last, Math.max(0, next)) - 1;
  viewer.choose({ text: index, word });
  text.buttons[word + 1].focus();
}

/** The words that the model wrote and would have written without the picture. */
function vdSaidAnyway(text) {
  if (!text.share || !["caption", "answer"].includes(text.source)) return [];
  return text.words.map((_, word) => word).filter((word) => (text.share.anyway || [])[word]);
}

/** Mark the words that the model was unsure of, would have said anyway, or has not read. */
function vdMarkWords(text) {
  text.words.forEach((_, word) => {
    const button = text.buttons[word + 1];
    const sure = text.probabilities[word];
    const anyway = vdSaidAnyway(text).includes(word);
    const titles = [];
    if (text.unread[word]) titles.push(vdPhrase("viewer.unread", { why: text.unread[word] }));
    if (sure !== undefined) titles.push(vdPhrase("viewer.sure", { probability: vdPercent(sure) }));
    if (anyway) titles.push(vdPhrase("viewer.anyway"));
    button.title = vdJoined(...titles);
    button.classList.toggle("vd-unsure", text.unsure.includes(word));
    button.classList.toggle("vd-anyway", anyway);
    button.classList.toggle("vd-unread", Boolean(text.unread[word]));
  });
}

/** What the model might have written in place of the chosen word. */
class VdRivals {
  constructor(viewer) {
    this.viewer = viewer;
    this.list = vdElement("ol");
    this.element = vdDetails("rivals", vdPhrase("viewer.rivals.title"), () => {}, this.list,
      vdElement("p", { className: "vd-hint" }, vdPhrase("viewer.rivals.hint")));
  }

  refresh() {
    const { text, word } = this.viewer.now;
    const rivals = Array.from((text.rivals || [])[word] || []);
    this.element.hidden = !rivals.length;
    this.list.replaceChildren(...rivals.map(([shown, probability]) => vdElement("li", {},
      vdElement("bdi", { lang: text.language }, shown || vdPhrase("viewer.rivals.end")), " ",
      vdElement("span", {}, vdPercent(probability)))));
  }
}

/** What a person can do with the words, and what their marks mean. */
function vdWordHint(texts) {
  const unsure = texts.some((text) => text.unsure.length);
  const anyway = texts.some((text) => vdSaidAnyway(text).length);
  const unread = texts.some(vdUnreadCount);
  return [
    vdPhrase("viewer.hint.choose"),
    ...[unsure ? "viewer.hint.unsure" : "", anyway ? "viewer.hint.anyway" : "",
      unread ? "viewer.hint.unread" : ""].filter(Boolean).map((key) => ` ${vdPhrase(key)}`)];
}
