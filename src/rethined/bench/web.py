"""The core in a browser: onnxruntime-web (WebAssembly) in Chromium, served by this machine to itself alone."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from rethined.errors import BackendError
from rethined.export.core import INPUTS, Arrays

RUNNER = Path("examples/runners/typescript")
"""Folder of a checkout in which npm installs onnxruntime-web."""
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
PAGE = """<!doctype html>
<script type="module">
  // ONNX Runtime's memory only ever grows: its size is its peak.
  const memories = [];
  WebAssembly.Memory = class extends WebAssembly.Memory {
    constructor(...given) { super(...given); memories.push(this); }
  };
  const ort = await import("./ort.wasm.min.mjs");
  let session, feeds, results;
  window.load = async (threads) => {
    ort.env.wasm.numThreads = threads;
    session = await ort.InferenceSession.create("core.onnx");
  };
  window.give = (arrays) => {
    feeds = {};
    for (const [name, [text, shape]] of Object.entries(arrays)) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      feeds[name] = new ort.Tensor("float32", new Float32Array(bytes.buffer), shape);
    }
  };
  window.run = async () => {
    const start = performance.now();
    results = await session.run(feeds);
    return performance.now() - start;
  };
  window.results = () => session.outputNames.map((name) => {
    const bytes = new Uint8Array(results[name].data.slice().buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return [btoa(text), results[name].dims];
  });
  window.mib = () => memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0) / 2 ** 20;
</script>
"""
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class WebCore:
    """A core in a page: a `rethined.export.core.Run`."""

    def __init__(self, page: Any, system: Any) -> None:
        self._page = page
        self._system = system

    def __call__(self, inputs: Arrays) -> Arrays:
        self.give(inputs)
        self.milliseconds()
        results = self._page.evaluate("results()")
        return tuple(np.frombuffer(base64.b64decode(text), np.float32).reshape(shape) for text, shape in results)

    def give(self, inputs: Arrays) -> None:
        """Hand over what `milliseconds` runs on."""
        arrays = {
            name: (base64.b64encode(value.tobytes()).decode(), value.shape)
            for name, value in zip(INPUTS, inputs, strict=True)
        }
        self._page.evaluate("(arrays) => give(arrays)", arrays)

    def milliseconds(self) -> float:
        """Run once; how long it took from array to array, by the page's clock."""
        return float(self._page.evaluate("run()"))

    def peak_mib(self) -> float:
        """Size of WebAssembly's memory."""
        return float(self._page.evaluate("mib()"))

    def cpu_seconds(self) -> float:
        """Processor time that the browser has used so far."""
        return float(sum(one["cpuTime"] for one in self._system.send("SystemInfo.getProcessInfo")["processInfo"]))


def missing() -> list[str]:
    """What `opened` needs and is not there, with what installs it."""
    absent = []
    if not (_package() / "package.json").is_file():
        absent.append(f"onnxruntime-web; run npm ci --ignore-scripts in {RUNNER} and start from its checkout")
    if importlib.util.find_spec("playwright") is None:
        absent.append("playwright; run pip install playwright")
    elif not _chromium():
        absent.append("Chromium; run playwright install chromium")
    return absent


def versions() -> dict[str, str]:
    """Of onnxruntime-web."""
    return {"onnxruntime-web": json.loads((_package() / "package.json").read_text())["version"]}


@contextmanager
def opened(core: Path, threads: int) -> Iterator[WebCore]:
    """Chromium with a page that has loaded the ONNX file `core` and runs it in `threads` threads.

    Raises:
        BackendError: the page cannot load it, or has no threads.
    """
    from playwright.sync_api import Error, sync_playwright

    with _served(core) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=_chromium(), args=FLAGS)
        try:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function("'mib' in window")
            if not page.evaluate("crossOriginIsolated"):
                raise BackendError("this Chromium gives the page no threads; install a newer one")
            page.evaluate("(threads) => load(threads)", threads)
            yield WebCore(page, browser.new_browser_cdp_session())
        except Error as error:
            raise BackendError(f"onnxruntime-web failed in Chromium: {error.message.splitlines()[0]}") from error
        finally:
            browser.close()


@contextmanager
def _served(core: Path) -> Iterator[str]:
    """The page, `core` and onnxruntime-web at an address of this machine, isolated so that there may be threads."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            file = core if name == "core.onnx" else _package() / "dist" / Path(name).name
            body = PAGE.encode() if not name else file.read_bytes() if file.is_file() else None
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", TYPES.get(file.suffix if name else ".html", "application/octet-stream"))
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _package() -> Path:
    return RUNNER / "node_modules" / "onnxruntime-web"


def _chromium() -> str | None:
    """The system's Chromium, or playwright's."""
    from playwright.sync_api import sync_playwright

    if found := shutil.which("chromium"):
        return found
    with sync_playwright() as play:
        own = play.chromium.executable_path
    return own if Path(own).exists() else None
