/** The demo's worker: loads the model when told where the runtime is, then fills one picture after the other. */

import { inpaint, onnxCore, type Core } from "./rethined.js";

/** First where onnxruntime-web is; then pictures, to be filled where `painted` is not transparent. */
export type Request = { runtime: string } | { image: ImageData; painted: ImageData };
/** To the first request how many threads compute, to others the picture. */
export type Answer = { threads: number; filled?: never } | { filled: ImageData; threads?: never };

let core: Core;

async function answer(request: Request): Promise<Answer> {
  if ("runtime" in request) {
    const ort = await import(request.runtime) as typeof import("onnxruntime-web/wasm");
    // Threads need a page that is isolated: the headers that serve.ts sends.
    const threads = ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
    core = onnxCore(ort.Tensor, await ort.InferenceSession.create("../rethined.onnx"));
    return { threads };
  }
  const { image, painted } = request, { width, height } = image;
  const hole = new Uint8Array(width * height);
  for (let i = 0; i < hole.length; i++) hole[i] = Number(painted.data[4 * i + 3]! > 0);
  return { filled: new ImageData(await inpaint(core, image, hole), width, height) };
}

addEventListener("message", async ({ data }: MessageEvent<Request>) => {
  try {
    postMessage(await answer(data));
  } catch (error) { // a rejected promise would not reach the page
    postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
});
