/** node dist/node.js rethined.onnx photo.ppm mask.pgm filled.ppm: binary PPM and PGM; white in the mask is filled. */

import { readFileSync, writeFileSync } from "node:fs";
import { inpaint, onnxCore } from "./rethined.js";

process.env.ORT_DISABLE_TELEMETRY = "1"; // else it reports its use over the network; read as it loads
const { InferenceSession, Tensor } = await import("onnxruntime-node");

/** Pixels of a binary PPM or PGM of 8 bits; what follows them is not read. */
function read(path: string, kind: "PPM" | "PGM") {
  const bytes = readFileSync(path);
  const number = String.raw`(?:\s|#[^\n]*\n)+([1-9]\d{0,8})`;
  const header = bytes.toString("latin1", 0, 2 ** 16).match(`^${kind === "PPM" ? "P6" : "P5"}${number.repeat(3)}\\s`);
  if (header?.[3] !== "255") throw new Error(`${path} is not a binary ${kind} of 8 bits`);
  const [begin, width, height] = [header[0].length, Number(header[1]), Number(header[2])];
  const size = width * height * (kind === "PPM" ? 3 : 1);
  const data = new Uint8Array(bytes.subarray(begin, begin + size));
  if (data.length < size) throw new Error(`${path} is cut short`);
  return { data, width, height };
}

try {
  const [core, photo, mask, out] = process.argv.slice(2);
  if (!core || !photo || !mask || !out) throw new Error("usage: node node.js rethined.onnx photo.ppm mask.pgm filled.ppm");
  const image = read(photo, "PPM"), holes = read(mask, "PGM");
  const [given, wanted] = [holes, image].map(({ width, height }) => `${width}x${height}`);
  if (given !== wanted) throw new Error(`mask is ${given}, image ${wanted}`);
  const session = await InferenceSession.create(core);
  const { inputMetadata, outputNames } = session, inputs = inputMetadata.map(({ name }) => name).join();
  const fits = inputMetadata.every((input) => input.isTensor && input.type === "float32" && input.shape.length === 4);
  const answers = ["low", "query", "key"].every((name) => outputNames.includes(name));
  if (!fits || !answers || !["image,mask", "image,mask,detail"].includes(inputs)) {
    throw new Error(`${core} is not a rethined core that searches; give one written by \`rethined export onnx\``);
  }
  const result = await inpaint(onnxCore(Tensor, session), image, holes.data.map((value) => Number(value >= 128)));
  writeFileSync(out, Buffer.concat([Buffer.from(`P6\n${image.width} ${image.height}\n255\n`), Buffer.from(result.buffer)]));
} catch (error) {
  console.error((error as Error).message.split("\n", 1)[0]);
  process.exitCode = 2;
}
