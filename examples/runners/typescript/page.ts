/** The demo page: a photo, a brush, and `inpaint` on one click. It blocks the page while it computes; use a worker. */

import * as ort from "onnxruntime-web/wasm";
import { inpaint, onnxCore } from "./rethined.js";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const file = element<HTMLInputElement>("file"), button = element<HTMLButtonElement>("fill");
const said = element<HTMLOutputElement>("said");
const [photo, hole] = ["photo", "hole"].map((id) => element<HTMLCanvasElement>(id).getContext("2d", { willReadFrequently: true })!);

// Threads need a page that is isolated: the headers that serve.ts sends.
ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
const session = await ort.InferenceSession.create("rethined.onnx");
const core = onnxCore(ort.Tensor, session);
said.value = `Ready, ${ort.env.wasm.numThreads} threads.`;

file.addEventListener("change", async () => {
  const chosen = file.files?.[0];
  if (!chosen) return;
  const bitmap = await createImageBitmap(chosen);
  for (const { canvas } of [photo!, hole!]) [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  photo!.drawImage(bitmap, 0, 0);
  button.disabled = false;
  said.value = `${bitmap.width} x ${bitmap.height}`;
});

hole!.canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  const { canvas } = hole!, scale = canvas.width / canvas.clientWidth;
  hole!.strokeStyle = "red", hole!.lineCap = "round", hole!.lineWidth = 30 * scale;
  hole!.beginPath();
  hole!.moveTo((event.offsetX - event.movementX) * scale, (event.offsetY - event.movementY) * scale);
  hole!.lineTo(event.offsetX * scale, event.offsetY * scale);
  hole!.stroke();
});

button.addEventListener("click", async () => {
  const { width, height } = photo!.canvas, image = photo!.getImageData(0, 0, width, height);
  const painted = hole!.getImageData(0, 0, width, height).data;
  const begin = performance.now();
  const result = await inpaint(core, image, Uint8Array.from({ length: width * height }, (_, i) => Number(painted[4 * i + 3]! > 0)));
  said.value = `Filled in ${Math.round(performance.now() - begin)} ms`;
  photo!.putImageData(new ImageData(result, width, height), 0, 0);
  hole!.clearRect(0, 0, width, height);
});
