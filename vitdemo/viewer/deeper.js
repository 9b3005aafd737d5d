// In the drawer: the smallest part of the picture that is enough for the chosen word.

class VdDeeper {
  constructor(viewer) {
    this.viewer = viewer;
    this.find = vdButton(vdPhrase("viewer.smallest.find"), () => viewer.request("smallest", {},
      vdPhrase("viewer.smallest.busy")), { title: vdPhrase("viewer.smallest.find_title") });
    this.smallest = vdDetails("smallest", vdPhrase("viewer.smallest.title"), () => {});
    this.smallest.addEventListener("toggle", () => viewer.showMarks());
    this.smallest.open = true;
    this.element = vdElement("div", { className: "vd-trust" },
      vdElement("div", { className: "vd-actions" }, this.find), this.smallest);
  }

  refresh() {
    const { text, word } = this.viewer.now;
    const part = text.smallest[word];
    this.find.hidden = word < 0 || Boolean(text.unread[word]) || Boolean(part)
      || !this.viewer.can("smallest");
    this.smallest.hidden = !part;
    if (part) {
      this.smallest.replaceChildren(this.smallest.firstChild, vdElement("p", {}, part.sentence));
    }
  }

  /** Around the smallest part, while its result is open. */
  outlines() {
    const { text, word } = this.viewer.now;
    const part = text.smallest[word];
    if (!part || !this.smallest.open) return [];
    return [{ name: "needed", path: part.needed, dash: [5, 5] },
      { name: "enough", path: part.enough, dash: [] }];
  }
}
