"""What is said where the camera cannot be used."""

import gradio as gr

from vitdemo.ui import markup
from vitdemo.ui.components import html_output

# Gradio says nothing where a person, a rule or the device refuses the camera.
CAMERA = """
const line = element.querySelector("p");
const devices = navigator.mediaDevices;
const said = (error) => {
  const why = line.dataset[error?.name] || line.dataset.other;
  line.textContent = why;
  line.hidden = false;
  clearTimeout(line.away);
  line.away = setTimeout(() => { line.hidden = true; }, 15000);
};
if (devices?.getUserMedia) {
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (wanted) => ask(wanted).catch((error) => {
    said(error);
    throw error;
  });
} else document.addEventListener("click", (event) => {
  const camera = event.target.closest('.vd-camera, [aria-label="Capture from camera"]');
  if (camera) said({ name: "Insecure" });
});
"""


def camera_notice() -> gr.HTML:
    """Lay out what tells a person that there is no camera, and what to do."""
    reasons = "".join(
        f' data-{name}="{markup.said(f"camera.{key}")}"' for name, key in
        (("-not-allowed-error", "refused"), ("-not-found-error", "none"),
         ("-insecure", "insecure"), ("other", "other")))
    return html_output(f'<p class="vt-error vt-camera" role="alert" hidden{reasons}></p>',
                       js_on_load=CAMERA)
