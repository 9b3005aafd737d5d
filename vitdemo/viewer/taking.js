// The picture's place is where another one is given, too: chosen, dropped, pasted or taken. The
// field that uploads it is Gradio's own, which is shown only while there is no picture.

/** Put a file into a tab's field, as if it was chosen there. */
function vdGive(field, file) {
  const input = field.querySelector("input[type=file]");
  if (!input) return;
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

/** The first picture among what was dropped or pasted. */
function vdPictureOf(transfer) {
  return Array.from(transfer?.files || []).find((file) => file.type.startsWith("image/"));
}

/** Let a viewer with a field take another picture in its picture's place. */
function vdTakePictures(viewer) {
  const { stage, around } = viewer;
  const choose = vdButton(vdPhrase("viewer.another"), () => (
    around.field()?.querySelector("input[type=file]")?.click()));
  const camera = vdButton(vdPhrase("viewer.camera"), () => vdCamera(around.field()),
    { title: vdPhrase("viewer.camera_title") });
  const hint = vdElement("span", { className: "vd-hint vd-keys" }, vdPhrase("viewer.drop"));
  viewer.figure.append(vdElement("div", { className: "vd-taking" }, choose, camera, hint));
  const over = (on) => stage.classList.toggle("vd-dropping", on);
  stage.addEventListener("dragover", (event) => {
    event.preventDefault(); // else the browser opens the file
    over(true);
  });
  stage.addEventListener("dragleave", () => over(false));
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const file = vdPictureOf(event.dataTransfer);
    if (file && around.field()) vdGive(around.field(), file);
  });
  document.addEventListener("paste", (event) => {
    const file = vdPictureOf(event.clipboardData);
    if (file && stage.offsetParent && around.field()) vdGive(around.field(), file);
  });
}

/** The field takes its place again, with the camera on; what it held goes. */
function vdCamera(field) {
  const press = (name) => {
    const button = field?.querySelector(`button[aria-label="${name}"]`);
    button?.click();
    return Boolean(button);
  };
  press("Remove Image");
  const start = performance.now();
  const wait = () => { // the field shows its sources once it is empty
    if (!press("Capture from camera") && performance.now() - start < 3000) setTimeout(wait, 50);
  };
  setTimeout(wait, 50);
}
