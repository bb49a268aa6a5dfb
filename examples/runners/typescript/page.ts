/** The demo page: a photo, a brush, and one click. worker.ts computes, so that the page answers meanwhile. */

import type { Answer, Request } from "./worker.js";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const file = element<HTMLInputElement>("file"), button = element<HTMLButtonElement>("fill");
const said = element<HTMLOutputElement>("said");
const [photo, hole] = ["photo", "hole"].map((id) => element<HTMLCanvasElement>(id).getContext("2d", { willReadFrequently: true })!);

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

/** The worker's answer; it is asked one thing at a time. */
function ask(request: Request): Promise<Answer> {
  return new Promise((answered, failed) => {
    worker.onmessage = ({ data }: MessageEvent<Answer | { error: string }>) => "error" in data ? failed(new Error(data.error)) : answered(data);
    worker.onerror = (event) => failed(new Error(event.message || "the worker does not start"));
    worker.postMessage(request);
  });
}

/** Say what went wrong, here and in the console. */
function fail(error: unknown): never {
  said.value = `Failed: ${error instanceof Error ? error.message : error}`;
  throw error;
}

// Import maps do not reach into workers.
const { threads } = await ask({ runtime: import.meta.resolve("onnxruntime-web/wasm") }).catch(fail);
said.value = `Ready, ${threads} threads.`;

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
  if (!event.buttons || file.disabled) return;
  const { canvas } = hole!, scale = canvas.width / canvas.clientWidth;
  hole!.strokeStyle = "red", hole!.lineCap = "round", hole!.lineWidth = 30 * scale;
  hole!.beginPath();
  hole!.moveTo((event.offsetX - event.movementX) * scale, (event.offsetY - event.movementY) * scale);
  hole!.lineTo(event.offsetX * scale, event.offsetY * scale);
  hole!.stroke();
});

button.addEventListener("click", async () => {
  const { width, height } = photo!.canvas, begin = performance.now();
  const [image, painted] = [photo!, hole!].map((canvas) => canvas.getImageData(0, 0, width, height));
  file.disabled = button.disabled = true; // the answer belongs to this photo and these strokes
  said.value = "Filling ...";
  try {
    const { filled } = await ask({ image: image!, painted: painted! }).catch(fail);
    photo!.putImageData(filled!, 0, 0);
    hole!.clearRect(0, 0, width, height);
    said.value = `Filled in ${Math.round(performance.now() - begin)} ms`;
  } finally {
    file.disabled = button.disabled = false;
  }
});
