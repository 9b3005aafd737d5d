// Ties a comparison to a gr.HTML component, which gives `element`, `props`, `watch` and `trigger`.
// A request is the component's event "ask", with its name in the detail.
const vdCompare = mountCompare(element.querySelector(".vd-compare"), props.value,
  (name, detail) => trigger("ask", { ...detail, name }));
watch("value", () => vdCompare.update(props.value));
