// Ties the viewer to a gr.HTML component, which gives `element`, `props` and `watch`.
const vdViewer = mountViewer(element.querySelector(".vd-viewer"), props.value);
watch("value", () => vdViewer.update(props.value));
