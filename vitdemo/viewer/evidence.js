// How far a map can be trusted: the check by blurring, what the picture counted, and what changes
// when the strongest regions are blurred. All numbers come from the server.

// A sign and a few words for each verdict, so that no colour has to be told apart.
const VD_VERDICTS = {
  strong: ["✓", "Well supported"],
  some: ["≈", "Partly supported"],
  chance: ["○", "No better than chance"],
  worse: ["✗", "Worse than chance"],
  language: ["…", "The word hardly needs the picture"],
};

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
    "aria-label": `${title}: the word's probability goes from ${vdPercent(points[0]?.[1])} to `
      + `${vdPercent(points[points.length - 1]?.[1])} as more of the picture is blurred.` },
    vdSvg("path", { class: "vd-axes", d: "M40 8V108H230" }), ...level(random, "random"),
    ...level(centre, "centre"), vdSvg("polyline", { class: "vd-curve",
      points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }),
    text(36, 16, vdPercent(top), "end"), text(36, 111, "0%", "end"), text(40, 124, "0%", "start"),
    text(135, 124, "blurred", "middle"), text(230, 124, "100%", "end"));
  return vdElement("figure", { className: "vd-chartbox" }, vdElement("figcaption", {}, title),
    chart);
}

/** The numbers of one word's check: two charts and a table of areas. */
function vdNumbers(one) {
  const random = [vdMean(one.random_deletion), vdMean(one.random_insertion)];
  const area = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");
  const row = (name, ...values) => vdElement("tr", {}, vdElement("th", { scope: "row" }, name),
    ...values.map((value) => vdElement("td", {}, area(value))));
  const head = ["Order of blurring", "Strongest first", "Weakest first"];
  const orders = (one.random_deletion || []).length;
  return [
    vdElement("div", { className: "vd-charts" },
      vdCurveChart("Strongest regions blurred first", one.deletion, random[0],
        one.centre_deletion),
      vdCurveChart("Weakest regions blurred first", one.insertion, random[1],
        one.centre_insertion)),
    vdElement("p", { className: "vd-hint" }, "Line: the word's probability while more and more of "
      + "the picture is blurred. Dashes: the mean height for random orders. Dots: for an order "
      + "from the centre of the picture."),
    vdElement("table", { className: "vd-table" },
      vdElement("caption", {}, "Area under each curve, 0 to 1"),
      vdElement("thead", {}, vdElement("tr", {}, ...head.map((name) => (
        vdElement("th", { scope: "col" }, name))))),
      vdElement("tbody", {}, row("This map", one.deletion.area, one.insertion.area),
        row(`Random (mean of ${orders})`, ...random),
        row("From the centre", one.centre_deletion, one.centre_insertion))),
    vdElement("p", { className: "vd-hint" }, "A good map has a small area in the first column and "
      + "a large one in the second. The word's probability is "
      + `${vdPercent(one.probability)} on the whole picture and ${vdPercent(one.blank)} with all `
      + "of it blurred."),
  ];
}

/** What the model said before and after its strongest regions were blurred. */
function vdMatterResult(matter, text) {
  const what = { question: "Probability of the answer", text: "How well the sentence fits" };
  const subject = what[text.source] || `Probability of “${vdWordOf(text, matter.word)}”`;
  const line = (label, shown, before) => vdElement("div", {}, vdElement("dt", {}, label),
    vdElement("dd", { className: shown === before ? "" : "vd-changed" }, shown));
  const chance = (after) => `${vdPercent(matter.probability)} → ${vdPercent(after)}`;
  const rows = [line("On the whole picture", matter.before, matter.before),
    line("Strongest regions blurred", matter.after, matter.before),
    line("As many random regions blurred", matter.after_random, matter.before)];
  return [
    vdElement("dl", { className: "vd-before" }, ...rows),
    vdElement("p", {}, `${subject}: ${chance(matter.probability_after)} with the `
      + `strongest regions blurred, ${chance(matter.probability_random)} with random ones.`),
    matter.sentence ? vdElement("p", {}, vdElement("strong", {}, matter.sentence)) : "",
    vdElement("p", { className: "vd-hint" }, "On the picture: solid lines around the strongest "
      + "regions, dashed lines around the random ones."),
  ];
}

/** The part below the summary: how much the picture counted, the badge, the buttons. */
class VdEvidence {
  constructor(viewer) {
    this.viewer = viewer;
    this.share = vdElement("p", { className: "vd-share" });
    this.badge = vdElement("p", { className: "vd-badge", ariaLive: "polite" });
    this.check = vdButton("Check this map", () => this.askCheck(), {
      title: "Blur the picture bit by bit and see whether the map names the regions that count" });
    this.matter = vdButton("Does it matter?", () => viewer.request("matter", {},
      "Blurring the strongest regions, and asking again …"), {
      title: "Blur the strongest fifth of the map and see what the model says then" });
    this.status = vdElement("span", { className: "vd-status", role: "status" });
    this.actions = vdElement("div", { className: "vd-actions" }, this.check, this.matter,
      ...viewer.looking.buttons, this.status);
    this.numbers = vdDetails("numbers", "The numbers", () => this.refresh());
    this.result = vdDetails("matter", "Does it matter?", () => viewer.showMarks());
    this.result.addEventListener("toggle", () => viewer.showMarks());
    this.result.open = true;
    this.always = vdElement("p", { className: "vd-always" });
    this.hide = vdCheck("Hide the regions that are hot for every word", (on) => {
      viewer.style.hide = on;
      (viewer.host || viewer).restyle("hide");
    });
    this.element = vdElement("div", { className: "vd-evidence" }, this.share, this.always,
      this.hide.field, this.badge, this.actions, this.numbers, this.result);
  }

  askCheck() {
    const { word } = this.viewer.now;
    if (word < 0) this.viewer.request("check_all", {}, "Checking the map of every word …");
    else this.viewer.request("check", {}, "Checking: the picture is blurred bit by bit …");
  }

  /** Show that the server is at work, or with "" that it is not. */
  wait(text) {
    clearTimeout(this.timer);
    this.status.textContent = text;
    const { looks } = this.viewer;
    for (const button of [this.check, this.matter, looks && looks.more]) {
      if (button) button.disabled = Boolean(text);
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
    this.element.hidden = false;
    this.showShare(text, word);
    this.showAlways(look);
    const all = text.evidence[look.method] || [];
    const one = word >= 0 ? all[word] : null;
    const single = layer >= 0 || head >= 0;
    this.badge.hidden = !one && !all.some(Boolean);
    this.badge.className = `vd-badge vd-${one ? one.verdict : "none"}`;
    this.badge.replaceChildren(...(one ? this.verdict(one, single) : [this.tally(all)]));
    this.numbers.hidden = !one;
    if (one && this.numbers.open) {
      this.numbers.replaceChildren(this.numbers.firstChild, ...vdNumbers(one));
    }
    const unread = Boolean(text.unread[word]);
    const missing = word >= 0 ? !one && !unread
      : all.filter(Boolean).length < text.words.length - vdUnreadCount(text);
    this.check.hidden = !missing || !this.viewer.can(word >= 0 ? "check" : "check_all");
    this.check.textContent = word >= 0 ? "Check this map" : "Check every word";
    const matter = text.matters[`${look.method}:${word}`];
    this.matter.hidden = word < 0 || unread || Boolean(matter) || !this.viewer.can("matter");
    this.result.hidden = !matter;
    if (matter) {
      this.result.replaceChildren(this.result.firstChild,
        ...vdMatterResult(matter, text));
    }
  }

  verdict(one, single) {
    const [sign, label] = VD_VERDICTS[one.verdict] || ["", one.verdict];
    return [vdElement("span", { className: "vd-sign", ariaHidden: "true" }, sign),
      vdElement("span", {}, one.sentence || `${label}.`,
        single ? " This holds for the average of all layers and heads." : "")];
  }

  /** All words: how many have which verdict. */
  tally(all) {
    const found = Object.entries(VD_VERDICTS).map(([name, [sign, label]]) => {
      const count = Array.from(all).filter((one) => one && one.verdict === name).length;
      return count ? `${sign} ${label.charAt(0).toLowerCase()}${label.slice(1)}: ${count}` : "";
    }).filter(Boolean);
    return vdElement("span", {}, vdElement("strong", {},
      `${vdCount(Array.from(all).filter(Boolean).length, "map")} checked. `), found.join(" · "));
  }

  showShare(text, word) {
    const { share } = text;
    this.share.hidden = !share;
    if (!share) return;
    if (word >= 0) {
      this.share.textContent = (share.sentences || [])[word] || "";
    } else {
      const anyway = vdSaidAnyway(text);
      const said = anyway.slice(0, 12).map((q) => `“${vdWordOf(text, q)}”`).join(", ");
      const more = anyway.length > 12 ? " and more" : "";
      this.share.textContent = anyway.length ? "Words the model would have said without the "
        + `picture: ${said}${more}.` : "";
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
    const where = places.size < 4 ? ` (${Array.from(places).join(", ")})` : "";
    const what = `${vdCount(always.length, "region")}${where}`;
    const are = always.length === 1 ? "is" : "are";
    this.always.textContent = this.viewer.style.hide ? `Hidden: ${what} that ${are} hot for every `
      + "word, outlined with dots. All percentages are of the rest."
      : `${what} ${are} hot for every word: that is a habit of the model, and says little about `
      + "one word.";
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
  const { id, patch, patch_message: message, patch_busy: busy } = payload;
  if (id !== viewer.payload.id) return; // of a result that is no longer on the screen
  if (busy) viewer.evidence.wait(message || viewer.evidence.status.textContent || "Checking …");
  else viewer.evidence.say(message || "");
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
  for (const name of ["share", "probabilities"]) {
    if (entry[name]) text[name] = entry[name];
  }
}
