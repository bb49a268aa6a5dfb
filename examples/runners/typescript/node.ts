/** node dist/node.js rethined.onnx photo.ppm mask.pgm filled.ppm: binary PPM and PGM; white in the mask is filled. */

import { readFileSync, writeFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { inpaint, onnxCore } from "./rethined.js";

/** Pixels of a binary PPM or PGM of 8 bits, without comments. */
function read(path: string, kind: "P5" | "P6") {
  const bytes = readFileSync(path);
  const [magic, width, height, peak] = bytes.toString("latin1", 0, 64).split(/\s+/);
  if (magic !== kind || peak !== "255") throw new Error(`${path} is not a binary ${kind === "P6" ? "PPM" : "PGM"} of 8 bits`);
  const size = Number(width) * Number(height) * (kind === "P6" ? 3 : 1);
  return { data: new Uint8Array(bytes.subarray(bytes.length - size)), width: Number(width), height: Number(height) };
}

const [core, photo, mask, out] = process.argv.slice(2);
if (!core || !photo || !mask || !out) throw new Error("usage: node.js rethined.onnx photo.ppm mask.pgm filled.ppm");
const session = await InferenceSession.create(core);
const image = read(photo, "P6"), holes = read(mask, "P5");
if (holes.width !== image.width) throw new Error(`mask is ${holes.width} wide, image ${image.width}`);
const result = await inpaint(onnxCore(Tensor, session), image, holes.data.map((value) => Number(value >= 128)));
writeFileSync(out, Buffer.concat([Buffer.from(`P6\n${image.width} ${image.height}\n255\n`), Buffer.from(result.buffer)]));
