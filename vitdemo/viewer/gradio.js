// Ties the viewer to a gr.HTML component, which gives `element`, `props`, `watch` and `trigger`.
// A request is the component's event "ask", or "look" for what nobody asked for, with its name in
// the detail.
const vdTab = element.closest(".vt-tab");
const vdPanel = (kind) => document.getElementById(
  element.closest("[id$='-view']")?.id.replace(/view$/, kind));
const vdAround = { takes: Boolean(vdTab), field: () => vdTab.querySelector(".vt-field"),
  save: () => vdPanel("save"), experts: () => vdPanel("experts") };
const vdViewer = mountViewer(element.querySelector(".vd-viewer"), props.value,
  (name, detail) => trigger(name === "look" ? "look" : "ask", { ...detail, name }),
  vdAround);
watch("value", () => vdViewer.update(props.value));
