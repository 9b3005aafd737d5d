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
  const camera = vdButton(vdPhrase("viewer.camera"), () => vdCamera(viewer, taking),
    { title: vdPhrase("viewer.camera_title"), className: "vd-button vd-camera" });
  const hint = vdElement("span", { className: "vd-hint vd-keys" }, vdPhrase("viewer.drop"));
  const taking = vdElement("div", { className: "vd-taking" }, choose, camera, hint);
  viewer.figure.append(taking);
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

/** What this device's camera sees, over the picture, which stays until another one is taken. */
async function vdCamera(viewer, taking) {
  const stream = await navigator.mediaDevices?.getUserMedia(
    { video: { facingMode: "environment" } }).catch(() => null); // the page says why
  if (!stream) return;
  viewer.endCamera();
  const video = vdElement("video", { className: "vd-video", autoplay: true, muted: true,
    playsInline: true, srcObject: stream });
  const shoot = vdButton(vdPhrase("viewer.shoot"), () => {
    const frame = vdElement("canvas", { width: video.videoWidth, height: video.videoHeight });
    frame.getContext("2d").drawImage(video, 0, 0);
    frame.toBlob((blob) => {
      const file = new File([blob], "camera.jpg", { type: "image/jpeg" });
      vdGive(viewer.around.field(), file);
    }, "image/jpeg", 0.95);
    viewer.endCamera();
  });
  const row = vdElement("div", { className: "vd-taking" }, shoot,
    vdButton(vdPhrase("viewer.cancel"), () => viewer.endCamera()));
  viewer.stage.append(video);
  taking.before(row);
  taking.hidden = true;
  viewer.endCamera = () => {
    viewer.endCamera = () => {};
    for (const track of stream.getTracks()) track.stop();
    video.remove();
    row.remove();
    taking.hidden = false;
  };
  video.addEventListener("loadeddata", () => { shoot.disabled = false; });
  shoot.disabled = true; // nothing is seen yet
}
