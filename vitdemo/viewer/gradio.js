// Ties the viewer to a gr.HTML component, which gives `element`, `props`, `watch` and `trigger`.
// A request is the component's event "ask", with its name in the detail.
const vdViewer = mountViewer(element.querySelector(".vd-viewer"), props.value,
  (name, detail) => trigger("ask", { ...detail, name }));
watch("value", () => vdViewer.update(props.value));
