/** node dist/serve.js [rethined.onnx] [port]: the demo page at 127.0.0.1, isolated so that WebAssembly may use threads. */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const [model = join(root, "../../../src/rethined/assets/rethined.onnx"), port = "8000"] = process.argv.slice(2);
const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url ?? "/", "http://page").pathname);
  const name = path === "/rethined.onnx" ? model : join(root, path === "/" ? "index.html" : path);
  try {
    const body = await readFile(name);
    response.writeHead(200, {
      "Content-Type": types[extname(name)] ?? "application/octet-stream",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(Number(port), "127.0.0.1", () => {
  const address = server.address();
  console.log(`http://127.0.0.1:${typeof address === "object" ? address?.port : port}/`);
});
