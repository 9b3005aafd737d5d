// How far a map can be trusted: the check by blurring, what the picture counted, and what changes
// when the strongest regions are blurred. All numbers come from the server.

// A sign for each verdict, so that no colour has to be told apart.
const VD_VERDICTS = { strong: "✓", some: "≈", shared: "∩", chance: "○", worse: "✗",
  language: "…" };

/** The mean of numbers, those that are none left out; nan where none is left. */
function vdMean(values) {
  const good = Array.from(values || []).filter(Number.isFinite);
  return good.length ? good.reduce((sum, value) => sum + value, 0) / good.length : NaN;
}

/** One curve with its two rivals as a small chart. */
function vdCurveChart(title, curve, random, centre) {
  const points = Array.from(curve.hidden, (x, i) => [x, curve.probability[i]])
    .filter((point) => point.every(Number.isFinite));
  const top = Math.min(1, 1.08 * Math.max(1e-6, ...points.map((point) => point[1]),
    ...[random, centre].filter(Number.isFinite)));
  const x = (value) => 40 + 190 * value;
  const y = (value) => 108 - 96 * Math.min(1, value / top);
  const level = (value, name) => (Number.isFinite(value) ? [vdSvg("line", { class: `vd-${name}`,
    x1: x(0), x2: x(1), y1: y(value), y2: y(value) })] : []);
  const text = (at, up, shown, anchor) => vdSvg("text", { x: at, y: up, "text-anchor": anchor },
    shown);
  const chart = vdSvg("svg", { viewBox: "0 0 240 130", class: "vd-chart", role: "img",
    "aria-label": vdPhrase("viewer.chart.says", { title, from: vdPercent(points[0]?.[1]),
      to: vdPercent(points[points.length - 1]?.[1]) }) },
    vdSvg("path", { class: "vd-axes", d: "M40 8V108H230" }), ...level(random, "random"),
    ...level(centre, "centre"), vdSvg("polyline", { class: "vd-curve",
      points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }),
    text(36, 16, vdPercent(top), "end"), text(36, 111, "0%", "end"), text(40, 124, "0%", "start"),
    text(135, 124, vdPhrase("viewer.chart.blurred"), "middle"), text(230, 124, "100%", "end"));
  return vdElement("figure", { className: "vd-chartbox" }, vdElement("figcaption", {}, title),
    chart);
}

/** The numbers of one word's check: two charts and a table of areas. */
function vdNumbers(one) {
  const random = [vdMean(one.random_deletion), vdMean(one.random_insertion)];
  const area = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");
  const row = (name, ...values) => vdElement("tr", {}, vdElement("th", { scope: "row" }, name),
    ...values.map((value) => vdElement("td", {}, area(value))));
  const head = ["order", "strongest", "weakest"].map((key) => vdPhrase(`viewer.areas.${key}`));
  const orders = (one.random_deletion || []).length;
  return [
    vdElement("div", { className: "vd-charts" },
      vdCurveChart(vdPhrase("viewer.chart.strongest"), one.deletion, random[0],
        one.centre_deletion),
      vdCurveChart(vdPhrase("viewer.chart.weakest"), one.insertion, random[1],
        one.centre_insertion)),
    vdElement("p", { className: "vd-hint" }, vdPhrase("viewer.chart.hint")),
    vdElement("table", { className: "vd-table" },
      vdElement("caption", {}, vdPhrase("viewer.areas.title")),
      vdElement("thead", {}, vdElement("tr", {}, ...head.map((name) => (
        vdElement("th", { scope: "col" }, name))))),
      vdElement("tbody", {}, 
        row(vdPhrase("viewer.areas.map"), one.deletion.area, one.insertion.area),
        row(vdPhrase("viewer.areas.random", { number: orders }), ...random),
        row(vdPhrase("viewer.areas.centre"), one.centre_deletion, one.centre_insertion),
        ...Array.from(one.others || [], (other) => (
          row(vdPhrase("viewer.areas.other", { word: other.text }), other.deletion,
            other.insertion))))),
    vdElement("p", { className: "vd-hint" }, vdPhrase("viewer.areas.hint",
      { whole: vdPercent(one.probability), blank: vdPercent(one.blank) })),
  ];
}

/** What the model said before and after its strongest regions were blurred. */
function vdMatterResult(matter, text) {
  const subject = ["question", "text"].includes(text.source)
    ? vdPhrase(`viewer.matters.of.${text.source}`)
    : vdPhrase("viewer.matters.of.word", { word: vdWordOf(text, matter.word) });
  const line = (label, shown, before) => vdElement("div", {}, vdElement("dt", {}, label),
    vdElement("dd", { className: shown === before ? "" : "vd-changed" }, shown));
  const [before, after, random] = [matter.probability, matter.probability_after,
    matter.probability_random].map(vdPercent);
  const rows = [line(vdPhrase("viewer.matters.whole"), matter.before, matter.before),
    line(vdPhrase("viewer.matters.strongest"), matter.after, matter.before),
    line(vdPhrase("viewer.matters.random"), matter.after_random, matter.before)];
  return [
    vdElement("dl", { className: "vd-before" }, ...rows),
    vdElement("p", {}, vdPhrase("viewer.matters.says", { subject, before, after, random })),
    matter.sentence ? vdElement("p", {}, vdElement("strong", {}, matter.sentence)) : "",
    vdElement("p", { className: "vd-hint" }, vdPhrase("viewer.matters.hint")),
  ];
}

const VD_PAUSE = 600; // milliseconds that a word is chosen before it is checked unasked

/** The part below the summary: the badge, the buttons, and what they found. `trust` is for the
 * drawer: how much the picture counted, what is hot for every word, the numbers. */
class VdEvidence {
  constructor(viewer) {
    this.viewer = viewer;
    this.share = vdElement("p", { className: "vd-share" });
    this.badge = vdElement("p", { className: "vd-badge", ariaLive: "polite" });
    this.check = vdButton(vdPhrase("viewer.check"), () => viewer.request("check", {},
      vdPhrase("viewer.check_busy")), { title: vdPhrase("viewer.check_title") });
    this.matter = vdButton(vdPhrase("viewer.matter"), () => viewer.request("matter", {},
      vdPhrase("viewer.matter_busy")), { title: vdPhrase("viewer.matter_title") });
    this.save = vdButton(vdPhrase("viewer.save"), () => this.openSave(),
      { title: vdPhrase("viewer.save_title") });
    this.status = vdElement("span", { className: "vd-status", role: "status" });
    this.saving = vdElement("div", { className: "vd-saving", hidden: true });
    this.actions = vdElement("div", { className: "vd-actions" }, this.check, this.matter,
      ...(viewer.host ? [] : [this.save]), this.status);
    this.numbers = vdDetails("numbers", vdPhrase("viewer.numbers"), () => this.refresh());
    this.result = vdDetails("matter", vdPhrase("viewer.matter"), () => viewer.showMarks());
    this.result.addEventListener("toggle", () => viewer.showMarks());
    this.result.open = true;
    this.always = vdElement("p", { className: "vd-always" });
    this.hide = vdCheck(vdPhrase("viewer.always.hide"), (on) => {
      viewer.style.hide = on;
      (viewer.host || viewer).restyle("hide");
    });
    this.element = vdElement("div", { className: "vd-evidence" }, this.badge, this.actions,
      this.saving, this.result);
    this.trust = vdElement("div", { className: "vd-trust" }, this.share, this.always,
      this.hide.field, this.numbers);
  }

  /** A new result: whether it is checked, and what is under way for it. */
  begin() {
    const { checking } = this.viewer.payload;
    clearTimeout(this.later);
    this.asked = new Set();
    this.wait(checking && this.viewer.ask ? vdPhrase("viewer.checking") : "", false);
    this.underWay = Boolean(checking); // the server checks the first word by itself
  }

  /** Open or close the ways to save, where the page has several; else save the picture. */
  openSave() {
    const panel = this.viewer.around?.save();
    if (!panel) {
      vdDownload(this.viewer);
      return;
    }
    this.saving.append(panel); // beside the button that opens it
    this.saving.hidden = !this.saving.hidden;
    this.save.ariaExpanded = String(!this.saving.hidden);
  }

  /** Where maps are checked unasked, the chosen word's comes next: once, and only where a person
   * stays with it. */
  checkLater() {
    clearTimeout(this.later);
    const { text, look, word } = this.viewer.now;
    const key = [text.source, look.method, word].join();
    if (!this.viewer.payload.checking || this.underWay || word < 0 || text.unread[word]
      || text.evidence[look.method]?.[word] || this.asked.has(key)) return;
    this.later = setTimeout(() => {
      this.asked.add(key);
      this.viewer.request("look", {}, vdPhrase("viewer.checking"));
    }, VD_PAUSE);
  }

  /** Show that the server is at work, or with "" that it is not; `asked` says that a person waits
   * for it, who cannot ask for more meanwhile. */
  wait(text, asked = true) {
    clearTimeout(this.timer);
    this.status.textContent = text;
    for (const button of [this.check, this.matter, this.viewer.deeper.find]) {
      button.disabled = Boolean(text) && asked;
    }
    // A server that never answers must not leave dead buttons.
    if (text) this.timer = setTimeout(() => this.wait(""), 120000);
  }

  /** A sentence of the server: an error, or how far it is. */
  say(text) {
    this.wait("");
    this.status.textContent = text;
  }

  refresh() {
    const { text, look, word, layer, head } = this.viewer.now;
    this.element.hidden = this.trust.hidden = false;
    this.showShare(text, word);
    this.showAlways(look);
    const all = text.evidence[look.method] || [];
    const one = word >= 0 ? all[word] : null;
    const single = layer >= 0 || head >= 0;
    this.badge.hidden = !one;
    this.badge.className = `vd-badge vd-${one ? one.verdict : "none"}`;
    this.badge.replaceChildren(...(one ? this.verdict(one, single) : []));
    this.numbers.hidden = !one;
    if (one && this.numbers.open) {
      this.numbers.replaceChildren(this.numbers.firstChild, ...vdNumbers(one));
    }
    const unread = Boolean(text.unread[word]);
    this.check.hidden = word < 0 || Boolean(one) || unread || !this.viewer.can("check")
      || Boolean(this.viewer.payload.checking);
    this.checkLater();
    const matter = text.matters[`${look.method}:${word}`];
    this.matter.hidden = word < 0 || unread || Boolean(matter) || !this.viewer.can("matter");
    this.result.hidden = !matter;
    if (matter) {
      this.result.replaceChildren(this.result.firstChild,
        ...vdMatterResult(matter, text));
    }
  }

  verdict(one, single) {
    return [vdElement("span", { className: "vd-sign", ariaHidden: "true" },
      VD_VERDICTS[one.verdict] || ""),
    vdElement("span", {}, vdJoined(one.sentence,
      single ? vdPhrase("viewer.verdict.average") : ""))];
  }

  showShare(text, word) {
    const { share } = text;
    this.share.hidden = !share;
    if (!share) return;
    if (word >= 0) {
      this.share.textContent = (share.sentences || [])[word] || "";
    } else {
      const anyway = vdSaidAnyway(text);
      const words = anyway.slice(0, 12).map((q) => `“${vdWordOf(text, q)}”`);
      if (anyway.length > 12) words.push("…");
      this.share.textContent = anyway.length ? vdPhrase("viewer.said_anyway",
        { words: words.join(vdPhrase("list.join")) }) : "";
    }
    this.share.hidden = !this.share.textContent;
  }

  showAlways(look) {
    const { always } = look;
    this.always.hidden = this.hide.field.hidden = !always.length;
    this.hide.box.checked = this.viewer.style.hide;
    const places = new Set(always.map((k) => vdPlace(
      (look.boxes[4 * k] + look.boxes[4 * k + 2]) / 2 / look.width,
      (look.boxes[4 * k + 1] + look.boxes[4 * k + 3]) / 2 / look.height)));
    const values = { count: always.length,
      where: Array.from(places).slice(0, 3).join(vdPhrase("list.join")) };
    this.always.textContent = vdPhrase(this.viewer.style.hide ? "viewer.always.hidden"
      : "viewer.always.shown", values);
  }

  /** Outlines of what was blurred, while its result is open. */
  outlines() {
    const { text, look, word } = this.viewer.now;
    const matter = text.matters[`${look.method}:${word}`];
    if (!matter || !this.result.open) return [];
    return [{ name: "random", path: vdOutline(matter.random || [], look.boxes), dash: [5, 5] },
      { name: "hidden", path: vdOutline(matter.hidden || [], look.boxes), dash: [] }];
  }
}

/** Add to the texts on screen what the server found; what the person chose stays. */
function vdPatch(viewer, payload) {
  const { id, patch, patch_message: message, patch_busy: busy, unasked } = payload;
  if (id !== viewer.payload.id) return; // of a result that is no longer on the screen
  const { evidence } = viewer;
  if (busy) {
    evidence.wait(message || evidence.status.textContent || vdPhrase("viewer.checking"), !unasked);
  } else if (!unasked || !evidence.matter.disabled) evidence.say(message || "");
  if (!busy) evidence.underWay = false;
  if (!patch || !viewer.texts.length) return;
  for (const entry of patch) {
    const text = viewer.texts.find((one) => one.source === entry.source
      && vdSameText(one, entry));
    if (text) vdMerge(text, entry);
  }
  viewer.markWords();
  viewer.looks.key = "";
  viewer.refresh();
  if (viewer.host) viewer.host.chose(viewer, {});
}

/** Whether a patch is about this text: the picture may have been changed since it was asked for. */
function vdSameText(text, entry) {
  const letters = (given) => given.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  return entry.text === undefined || letters(entry.text) === letters(text.text);
}

function vdMerge(text, entry) {
  for (const other of entry.others || []) vdAddLook(text, other);
  for (const [method, words] of Object.entries(entry.evidence || {})) {
    const known = Array.from(text.evidence[method] || text.words, (one) => (
      one && one.verdict ? one : null));
    Array.from(words).forEach((one, q) => { known[q] = one || known[q] || null; });
    text.evidence[method] = known;
  }
  Object.assign(text.always_on, entry.always_on || {});
  vdMarkAlways(text);
  for (const look of Object.values(text.looks)) look.reduced.clear();
  if (entry.matter) text.matters[`${entry.matter.method}:${entry.matter.word}`] = entry.matter;
  if (entry.smallest) text.smallest[entry.smallest.word] = entry.smallest;
  for (const name of ["share", "probabilities"]) {
    if (entry[name]) text[name] = entry[name];
  }
}
