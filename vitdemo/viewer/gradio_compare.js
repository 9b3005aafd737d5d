// Ties a comparison to a gr.HTML component, which gives `element`, `props`, `watch` and `trigger`.
// A request is the component's event "ask", with its name in the detail.
const vdTab = element.closest(".vt-compare");
const vdField = (side) => vdTab.querySelector(`#compare-${side}`) // there may be one for both
  ?? vdTab.querySelector("#compare-left");
const vdCompare = mountCompare(element.querySelector(".vd-compare"), props.value,
  (name, detail) => trigger("ask", { ...detail, name }), vdTab && vdField);
watch("value", () => vdCompare.update(props.value));
