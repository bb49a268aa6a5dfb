/**
 * Fills holes in photographs of any size with a rethined core, in browsers and in Node.
 *
 * Everything but the network is plain loops over typed arrays. To be read beside `rethined/windows.py`,
 * `rethined/rim.py`, `rethined/search.py` and `rethined/upscale.py`, which do the same in Python. Choices depend on
 * integers alone, so that sources are the same on every machine; where floats are rounded to integers, `Math.fround`
 * makes them those of single precision.
 */

import type { InferenceSession, TensorConstructor } from "onnxruntime-common";

/** Pixels in reading order, 3 (RGB) or 4 (RGBA) bytes each: an `ImageData` is one. */
export interface Picture {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/**
 * The network, called for one window after another: image (3, h, w) in [0, 1], mask (h, w), 1 = hole, detail (6, h / 8, w / 8).
 * It answers low (3, h / 4, w / 4), query and key (width, h / 8, w / 8), of whatever width.
 */
export interface Core {
  (image: Float32Array, mask: Float32Array, detail: Float32Array, height: number, width: number):
    Promise<{ low: Float32Array; query: Float32Array; key: Float32Array }>;
  /** Rows and columns of the only grid that it takes; none: of any. */
  readonly size?: Size | undefined;
}
type Size = readonly [rows: number, columns: number];

const STRIDE = 32; // of the network: both sides of its image are multiples of this
const GRID = 44 * 2 ** 13; // pixels that the grids of any photo may hold together
const GRID_GROWTH = 6 * 2 ** 13; // and for each unit of the factor, where that is more
const WHOLE = 4; // from this factor on there is no half
const BLOCK = 16; // side, in pixels, of the blocks that holes are put into boxes by
const MARGIN = 16, CROSSING = 32; // grid pixels: seen around a box, at least; of hole that a cut through it may cross
const LEVELS = 5; // cuts in a row
const EXTRA = 2 ** 12; // grid pixels that another window is counted as beside its own
const LEAST = 2; // strides that a grid has a side, at least, where the photo has them
const THIN = 10, THIN_FROM = 2.5; // grid pixels a side of a square that no thin hole fills; from which factor on they are apart
const SOURCE = 20; // grid pixels a side of a square that is all known, as the surroundings of a source are
const SCARCE = 20; // known blocks for each such square, at most, or they are in too small pieces to be copied
const BAR = 80; // THIN behind a fence: what is thicker would be cut into windows that see nothing known
const THIN_LEVELS = 8, THIN_SHARE = 12; // cuts of thin holes; how many times the grid of the whole photo theirs may hold
const PATCH = 8; // side of what a query and a key describe, in low-resolution pixels
const CELL = 4; // side of what is copied at a time, in low-resolution pixels
const CHANNELS = 5; // of a cell: R, G, B, differences across, differences down
const RIM = 6, FAR = 2; // what is marked in rings: the hole, and the ring that all within are compared with
const ARC = 16; // side of the blocks that rings are compared in, three by three, in low-resolution pixels
const WHITE = 120; // what 1 is in colours
const UNIT = 127; // what 1 is in queries and keys
const WEIGHTS = [8, 4, 2, 1]; // what a cell counts in a comparison, by its depth in the hole
const AFFINITY = 5, LEAST_AFFINITY = 6; // what query and key count: in sixteenths of all compared, and beside that
const SEAM = 100; // what it costs that a neighbour does not go on with the same source
const REPEAT = 60; // what each other cell of the same source costs
const OFTEN = 4; // how many cost so
const FAIR = 8, CROWD = 4, MOST = 8; // beyond FAIR times the mean MOST others cost CROWD times as much each
const JUMPS = [[8, 4, 2, 1], [2, 1], [1], [1]]; // of each round
const GUESSES = [1, 2, 4]; // by level, finest first
const STRAIGHT = 12, ALIKE = 13; // numbers of further draws: a place in the same row and column, and another cell
const INHERITED = [3, 6]; // by level: how deep in the hole the coarser level has its say
const DECISION = 8; // how strongly votes prefer what fits
const NEARBY = [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0], [-1, -1], [-1, 1], [1, -1], [1, 1]] as const;
const NUDGE = 3, NUDGES = 3; // how far regions are moved, in low-resolution pixels, and how often
const MOVES = 2 * NUDGE + 1; // places tried along each axis
const STAY = 600; // what each pixel of a move costs beside one border of a cell
const FINE = 64; // parts of a low-resolution pixel in which moves are counted
const TRUST = 0.005, SMOOTH = 0.0012, EDGE = 0.00032, RELAXATION = 1.9, SWEEPS = 30; // of `correction`
const BESIDE = [128, 64, 16, 0, 4, 3, 0, 0, 1]; // what pixels count in means around one, by squared distance
const MENDED = [8, 4] as const; // tenths of their difference that it is moved by: where a known one touches it, and elsewhere
const DEEPEST = 7; // depths beyond are treated alike

const f = Math.fround;

/** The core in a session of onnxruntime-web or onnxruntime-node, whose class `Tensor` is the first argument. */
export function onnxCore(Tensor: TensorConstructor, session: InferenceSession): Core {
  const input = session.inputMetadata.find(({ name }) => name === "image");
  const [rows, columns] = input?.isTensor ? input.shape.slice(2) : [];
  const size: Size | undefined = typeof rows === "number" && typeof columns === "number" ? [rows, columns] : undefined;
  const asks = session.inputNames.includes("detail"); // networks may be trained without
  const run: Core = async (image, mask, detail, h, w) => {
    const results = await session.run({
      image: new Tensor("float32", image, [1, 3, h, w]),
      mask: new Tensor("float32", mask, [1, 1, h, w]),
      ...(asks && { detail: new Tensor("float32", detail, [1, 6, h / PATCH, w / PATCH]) }),
    });
    const take = (name: string): Float32Array => {
      const tensor = results[name];
      if (!tensor) throw new Error(`the model has no output ${name}; export it with rethined`);
      return tensor.data as Float32Array;
    };
    return { low: take("low"), query: take("query"), key: take("key") };
  };
  return Object.assign(run, { size });
}

/** `image` filled where `hole` (one byte a pixel) is not 0; a new array of the same layout. Alpha stays. */
export async function inpaint<P extends Picture>(core: Core, image: P, hole: Uint8Array): Promise<Uint8ClampedArray<ArrayBuffer>> {
  const pixels = image.width * image.height;
  const depth = image.data.length / pixels;
  if (depth !== 3 && depth !== 4) throw new RangeError(`image has ${depth} bytes a pixel; give 3 or 4`);
  if (hole.length !== pixels) throw new RangeError(`mask has ${hole.length} pixels, image ${pixels}`);
  const result = new Uint8ClampedArray(image.data);
  if (!hole.includes(1) && !hole.some((value) => value !== 0)) return result;
  const open = hole.slice();
  for (const window of windows(open, image.height, image.width, core.size)) {
    const { top, left, height, width, scale, rows, columns, holes } = window;
    const shown = { data: new Uint8ClampedArray(height * width * depth), width, height };
    const shownHole = new Uint8Array(height * width);
    const lines = Array.from({ length: height }, (_, y) => ({ from: (top + y) * image.width + left, to: y * width }));
    for (const { from, to } of lines) {
      shown.data.set(result.subarray(from * depth, (from + width) * depth), to * depth);
      shownHole.set(open.subarray(from, from + width), to);
    }
    const filled = await fill(core, shown, shownHole, scale, rows, columns);
    for (const { from, to } of lines) result.set(filled.subarray(to * depth, (to + width) * depth), from * depth);
    // What one window has filled is known to the next.
    for (let y = holes.top; y < holes.bottom; y++) open.fill(0, y * image.width + holes.left, y * image.width + holes.right);
  }
  return result;
}

/** What one window shows, filled, by way of a grid of h x w; a new array. */
async function fill(core: Core, image: Picture, hole: Uint8Array, scale: number, h: number, w: number): Promise<Uint8ClampedArray> {
  const result = new Uint8ClampedArray(image.data);
  const { small, holes, detail } = shrink(image, hole, scale, h, w);
  const spared = hide(small, holes, detail, h, w);
  const { low, query, key } = await core(small, holes, detail, h, w);
  const finest = levelOf(small, holes, low, query, key, h, w);
  const begin = find(finest, small, scale);
  const lacking = correction(low, begin, finest, scale * CELL);
  const depth = image.data.length / hole.length;
  copy(result, image, hole, depth, begin, finest, lacking, scale * CELL);
  mend(result, hole, image.height, image.width, depth, spared, 2 * scale, w);
  return result;
}

/** Rows `top` to `bottom` and columns `left` to `right`. */
interface Box {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** A part of the photo, in pixels, how it meets the network, and whose holes it fills. */
export interface Window {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
  /** Full-resolution pixels to one of the grid's; a multiple of a half. */
  readonly scale: number;
  /** Of the grid, as `columns` a multiple of STRIDE. */
  readonly rows: number;
  readonly columns: number;
  /** What it fills for good, in pixels. */
  readonly holes: Box;
}

/** Windows of a box, and what they cost in pixels of grids. */
interface Leaves {
  readonly cost: number;
  readonly found: readonly Window[];
}

/** Grid pixels that a window holds at most, where it can be cut; and how thick its hole is at most, in pixels. */
interface Limits {
  readonly most: number;
  readonly thickest: number;
}

/**
 * Around the holes, with the smallest factor at which their grids together hold no more pixels than the whole photo's
 * would; where that is large, around thin holes first, with a smaller one. In the order in which they are to be filled;
 * each pixel of `hole`, at least one, is in the `holes` of one. Where the grid must be of a `size`, one around all, with
 * the smallest factor at which that is enough.
 */
export function windows(hole: Uint8Array, height: number, width: number, size?: Size): readonly Window[] {
  const down = Math.ceil(height / BLOCK), across = Math.ceil(width / BLOCK);
  const blocks = new Uint8Array(down * across), full = new Uint8Array(down * across);
  const count = new Uint8Array(across); // of the hole's pixels in every fourth line of a block
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / BLOCK) * across;
    if (y % BLOCK === 0) count.fill(0);
    for (let x = 0; x < width; x++) {
      if (!hole[y * width + x]) continue;
      blocks[row + Math.floor(x / BLOCK)] = 1;
      if (y % 4 === 0) count[Math.floor(x / BLOCK)]!++;
    }
    if (y % BLOCK === BLOCK - 4) for (let x = 0; x < across; x++) full[row + x] = Number(count[x] === 4 * BLOCK);
  }
  const everything = { top: 0, bottom: down, left: 0, right: across };
  for (let halves = 2; size; halves = next(halves)) {
    const { found } = leaves(blocks, everything, 0, halves, size);
    if (found[0]!.rows === size[0] && found[0]!.columns === size[1]) return found;
  }
  const padded = (side: number, halves: number) => Math.ceil((2 * side) / (halves * STRIDE)) * STRIDE;
  let most = 0;
  for (let halves = 2; !most; halves = next(halves)) { // of the whole photo
    const h = padded(height, halves), w = padded(width, halves);
    if (2 * h * w <= Math.max(2 * GRID, GRID_GROWTH * halves) || Math.min(h, w) === STRIDE) most = h * w;
  }
  const all = finest(blocks, LEVELS, most), coarse = all[0]!.scale;
  const inBlocks = (side: number) => Math.floor((side * coarse) / BLOCK);
  const open = blocks.map((block) => 1 - block), known = open.reduce((sum, block) => sum + block, 0);
  // Where next to nothing could be copied.
  const fenced = coarse > 1 && squares(open, inBlocks(SOURCE) + 1, down, across).length * SCARCE < known;
  if (coarse < THIN_FROM && !fenced) return all;
  const bulky = thick(blocks, full, inBlocks(fenced ? BAR : THIN), down, across);
  const slight = blocks.map((block, n) => block & ~bulky[n]!);
  if (!slight.includes(1)) return all;
  const fine = finest(slight, THIN_LEVELS, THIN_SHARE * most, { most, thickest: inBlocks(THIN) * BLOCK });
  if (fine[0]!.scale >= coarse) return all;
  return bulky.includes(1) ? [...fine, ...finest(bulky, LEVELS, most)] : fine;

  /** With the smallest factor at which their grids hold no more than `total` pixels; every second one first. */
  function finest(blocks: Uint8Array, levels: number, total: number, limits?: Limits): readonly Window[] {
    for (let halves = 2; ; halves = next(halves)) {
      const { cost, found } = leaves(blocks, everything, levels, halves, [0, 0], limits);
      if (cost <= total) return [0, 1].flatMap((first) => found.filter((_, n) => n % 2 === first));
    }
  }

  /** The factor after another, in halves. */
  function next(halves: number): number {
    return halves + (halves < 2 * WHOLE ? 1 : 2);
  }

  /**
   * What the cheapest windows cost, in pixels of grids, around what of a box, in `blocks`, is hole, with at most `levels`
   * cuts in a row; and these, with grids of at least `h` x `w`, within `limits`.
   */
  function leaves(
    blocks: Uint8Array, { top, bottom, left, right }: Box, levels: number, halves: number, [h, w]: Size = [0, 0],
    limits: Limits = { most: Infinity, thickest: Infinity },
  ): Leaves {
    const any = (t: number, b: number, l: number, r: number) => {
      for (let y = t; y < b; y++) for (let x = l; x < r; x++) if (blocks[y * across + x]) return true;
      return false;
    };
    while (!any(top, top + 1, left, right)) top++;
    while (!any(bottom - 1, bottom, left, right)) bottom--;
    while (!any(top, bottom, left, left + 1)) left++;
    while (!any(top, bottom, right - 1, right)) right--;
    const tall = bottom - top >= right - left;
    const count = tall ? bottom - top : right - left, wide = tall ? right - left : bottom - top;
    /** Of lines across the longer side. */
    const at = (line: number, n: number) => blocks[tall ? (top + line) * across + left + n : (top + n) * across + left + line]!;
    let area = 0;
    for (let line = 0; line < count; line++) for (let n = 0; n < wide; n++) area += at(line, n);
    const thickness = Math.min(Math.floor((area * BLOCK) / count), limits.thickest); // the hole's area by its length
    const margin = Math.max(MARGIN * halves / 2, thickness), multiple = STRIDE * halves / 2;
    const holes = {
      top: top * BLOCK, bottom: Math.min(bottom * BLOCK, height), left: left * BLOCK, right: Math.min(right * BLOCK, width),
    };
    const y = around(holes.top, holes.bottom, height, margin, multiple, h);
    const x = around(holes.left, holes.right, width, margin, multiple, w);
    const window = {
      top: y.begin, left: x.begin, height: y.size, width: x.size, scale: halves / 2, rows: y.grid, columns: x.grid, holes,
    };
    const whole = { cost: y.grid * x.grid, found: [window] };
    if (whole.cost <= EXTRA || !levels || count * BLOCK <= 2 * MARGIN) return whole;
    // Where least of the hole is cut through, of the middle half of lines; there, the most central.
    let cut = 0, least = Infinity;
    const first = Math.max(count >> 2, 1);
    for (let line = first; line <= count - first; line++) {
      let crossing = 0;
      for (let n = 0; n < wide; n++) crossing += at(line - 1, n) & at(line, n);
      const central = Math.abs(2 * line - count) < Math.abs(2 * cut - count);
      if (crossing < least || (crossing === least && central)) least = crossing, cut = line;
    }
    const must = whole.cost > limits.most;
    if (2 * least * BLOCK > CROSSING * halves && !must) return whole;
    const half = tall ? { top, bottom: top + cut, left, right } : { top, bottom, left, right: left + cut };
    const rest = tall ? { top: top + cut, bottom, left, right } : { top, bottom, left: left + cut, right };
    const further = (part: Box) => leaves(blocks, part, levels - 1, halves, [0, 0], limits);
    const one = further(half), other = further(rest);
    const cost = one.cost + other.cost + EXTRA;
    return cost < whole.cost || must ? { cost, found: [...one.found, ...other.found] } : whole;
  }
}

/** Which of the `blocks` hang together, by sides or corners, with a square of `side` x `side` that are `full`. */
function thick(blocks: Uint8Array, full: Uint8Array, side: number, down: number, across: number): Uint8Array {
  const found = new Uint8Array(blocks.length), queue: number[] = [];
  const take = (at: number) => {
    if (blocks[at] && !found[at]) found[at] = 1, queue.push(at);
  };
  squares(full, side, down, across).forEach(take);
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    const row = Math.floor(at / across), column = at % across;
    for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, down - 1); y++) {
      for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, across - 1); x++) take(y * across + x);
    }
  }
  return found;
}

/** The first blocks of squares of `side` x `side` of the `blocks`. */
function squares(blocks: Uint8Array, side: number, down: number, across: number): readonly number[] {
  const found: number[] = [];
  const square = (top: number, left: number) => {
    for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) if (!blocks[y * across + x]) return false;
    return true;
  };
  for (let y = 0; y <= down - side; y++) {
    for (let x = 0; x <= across - side; x++) if (square(y, x)) found.push(y * across + x);
  }
  return found;
}

/**
 * A hole with a margin, rounded up to a multiple, or to `least` grid pixels, where the photo, of `length`, has as much; and
 * the side of its grid.
 */
function around(first: number, last: number, length: number, margin: number, multiple: number, least: number) {
  const begin = Math.max(first - margin, 0), end = Math.min(last + margin, length);
  const count = Math.max(Math.ceil((end - begin) / multiple), Math.min(LEAST, Math.ceil(length / multiple)), least / STRIDE);
  const size = Math.min(count * multiple, length);
  const moved = Math.max(begin - Math.floor((size - (end - begin)) / 2), 0);
  return { begin: Math.min(moved, length - size), size, grid: count * STRIDE };
}

/** Means of boxes, 0 in holes and beyond the border; holes; and how much detail the boxes of each patch hold. */
function shrink(image: Picture, hole: Uint8Array, factor: number, h: number, w: number) {
  const halved = factor % 1 ? 1 : 0, scale = factor * (1 + halved); // boxes of half pixels, or of pixels
  const small = new Float32Array(3 * h * w), holes = new Float32Array(h * w).fill(1);
  const patches = w / PATCH, energy = new Float64Array(6 * (h / PATCH) * patches);
  const depth = image.data.length / (image.width * image.height), half = scale >> 1;
  const gain = f(1 / (scale * scale * 255));
  const sums = new Int32Array(3), across = new Int32Array(3), down = new Int32Array(3);
  for (let y = 0; (y + 1) * scale <= image.height << halved && y < h; y++) {
    for (let x = 0; (x + 1) * scale <= image.width << halved && x < w; x++) {
      sums.fill(0), across.fill(0), down.fill(0);
      let any = 0;
      for (let v = 0; v < scale && !any; v++) {
        const vertical = v < half ? 1 : v >= scale - half ? -1 : 0;
        const row = ((y * scale + v) >> halved) * image.width;
        for (let u = 0; u < scale; u++) {
          const at = row + ((x * scale + u) >> halved);
          any |= hole[at]!;
          const horizontal = u < half ? 1 : u >= scale - half ? -1 : 0;
          for (let c = 0; c < 3; c++) {
            const value = image.data[at * depth + c]!;
            sums[c]! += value, across[c]! += horizontal * value, down[c]! += vertical * value;
          }
        }
      }
      if (any) continue;
      holes[y * w + x] = 0;
      const patch = (y >> 3) * patches + (x >> 3), size = (h / PATCH) * patches;
      for (let c = 0; c < 3; c++) {
        small[(c * h + y) * w + x] = sums[c]! * gain;
        energy[c * size + patch]! += across[c]! ** 2;
        energy[(c + 3) * size + patch]! += down[c]! ** 2;
      }
    }
  }
  // Squares of whole numbers: in whatever order they are summed, the same.
  const detail = Float32Array.from(energy, (sum) => Math.sqrt(sum) / Math.max(half * 2 * scale * 255 * PATCH, 1));
  return { small, holes, detail };
}

/**
 * Makes part of the hole, in all that `shrink` returned, what a tight mask leaves of a thing around it; which pixels of
 * the grid are that or beside it.
 *
 * Each known pixel near a hole is compared with the mean of those beside it that are one farther. Where these
 * differences, averaged over an arc, are for one of the inner three rings much more than for the fourth, that, the next
 * and all within are the rim.
 */
function hide(small: Float32Array, holes: Float32Array, detail: Float32Array, h: number, w: number): Uint8Array {
  const near = new Uint8Array(holes);
  let grown: Uint8Array = near;
  for (let turn = 1; turn < RIM; turn++) {
    grown = dilated(grown, h, w);
    for (let i = 0; i < near.length; i++) near[i]! += grown[i]!;
  }
  const down = h / ARC, across = w / ARC, blocks = down * across;
  const sums = new Int32Array(RIM * blocks), counts = new Int32Array(RIM * blocks);
  const grey = (at: number) => greyOf(small, at, h * w);
  for (let y = 0; y < h; y++) {
    for (let x = y & 1; x < w; x += 2) { // every second one
      const at = y * w + x, own = near[at]!;
      if (own < FAR || own >= RIM) continue;
      let count = 0, total = 0;
      const look = (inside: boolean, other: number) => {
        if (inside && near[other] === own - 1) count++, total += grey(other);
      };
      look(y > 0, at - w), look(x > 0, at - 1), look(x < w - 1, at + 1), look(y < h - 1, at + w);
      if (!count) continue;
      const block = own * blocks + Math.floor(y / ARC) * across + Math.floor(x / ARC);
      sums[block]! += Math.abs(grey(at) - Math.floor((2 * total + count) / (2 * count))), counts[block]!++;
    }
  }
  /** Of a ring in the 3 x 3 blocks around one. */
  const arc = (values: Int32Array, ring: number, row: number, column: number) => {
    let total = 0;
    for (let y = Math.max(0, row - 1); y <= Math.min(down - 1, row + 1); y++) {
      for (let x = Math.max(0, column - 1); x <= Math.min(across - 1, column + 1); x++) total += values[ring * blocks + y * across + x]!;
    }
    return total;
  };
  const rim = new Uint8Array(h * w);
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      if (!arc(counts, FAR, row, column)) continue;
      const mean = (ring: number) => Math.floor(4 * arc(sums, ring, row, column) / Math.max(1, arc(counts, ring, row, column)));
      const most = 5 * mean(FAR) + 72;
      let ring = FAR + 1;
      while (ring < RIM && 2 * mean(ring) <= most) ring++;
      if (ring === RIM) continue;
      for (let y = row * ARC; y < (row + 1) * ARC; y++) {
        for (let at = y * w + column * ARC; at < y * w + (column + 1) * ARC; at++) rim[at] = +(near[at]! >= ring - 1 && near[at]! < RIM);
      }
    }
  }
  const patches = w / PATCH, size = (h / PATCH) * patches;
  for (let at = 0; at < h * w; at++) {
    if (!rim[at]) continue;
    holes[at] = 1;
    for (let c = 0; c < 3; c++) small[c * h * w + at] = 0;
    const patch = Math.floor(at / w / PATCH) * patches + Math.floor((at % w) / PATCH);
    for (let c = 0; c < 6; c++) detail[c * size + patch] = 0;
  }
  return dilated(rim, h, w);
}

/** `bits`, and what is beside one of them, or diagonally. */
function dilated(bits: Uint8Array, h: number, w: number): Uint8Array {
  const rows = bits.slice(), result = new Uint8Array(h * w);
  for (let i = 0; i < h * w; i++) rows[i]! |= (bits[i - w] ?? 0) | (bits[i + w] ?? 0);
  for (let y = 0; y < h; y++) {
    for (let x = 0, i = y * w; x < w; x++, i++) result[i] = rows[i]! | (x > 0 ? rows[i - 1]! : 0) | (x < w - 1 ? rows[i + 1]! : 0);
  }
  return result;
}

/** R + G + B of one of `pixels`, of white 765. */
function greyOf(small: Float32Array, at: number, pixels: number): number {
  return rounded(f(f(small[at]! + small[pixels + at]!) + small[2 * pixels + at]!), 255);
}

/** The picture at one size, of h x w cells; everything is an integer. */
interface Level {
  readonly h: number;
  readonly w: number;
  /** (h, w, CHANNELS), guesses in the hole; searching redraws these. */
  values: Uint8Array;
  readonly known: Uint8Array;
  /** (h, w): city-block distance to the nearest known cell, DEEPEST at most. */
  readonly depth: Uint8Array;
  /** (h / 2, w / 2, keys) at the finest level, (h, w, keys) at others. */
  readonly query: Int8Array;
  readonly key: Int8Array;
  /** Width of a query or a key. */
  readonly keys: number;
  readonly finest: boolean;
}

function levelOf(
  small: Float32Array, holes: Float32Array, low: Float32Array, query: Float32Array, key: Float32Array, lh: number, lw: number,
): Level {
  const h = lh / CELL, w = lw / CELL, cells = h * w, patches = cells / 4, keys = Math.floor(key.length / patches);
  if (low.length !== 3 * cells || !keys || [query, key].some(({ length }) => length !== keys * patches)) {
    throw new RangeError(`the core does not answer with low (3, ${h}, ${w}), and query and key (width, ${h / 2}, ${w / 2})`);
  }
  const values = new Uint8Array(cells * CHANNELS), known = new Uint8Array(cells);
  const grey = (y: number, x: number) => {
    const at = y * lw + x;
    return f(f(small[at]! + small[lh * lw + at]!) + small[2 * lh * lw + at]!);
  };
  for (let cell = 0; cell < cells; cell++) {
    const top = CELL * Math.floor(cell / w), left = CELL * (cell % w);
    let whole = 1, across = 0, down = 0;
    const sums = [0, 0, 0];
    for (let y = top; y < top + CELL; y++) {
      for (let x = left; x < left + CELL; x++) {
        if (holes[y * lw + x]) whole = 0;
        for (let c = 0; c < 3; c++) sums[c] = f(sums[c]! + small[(c * lh + y) * lw + x]!);
        if (x < left + CELL - 1) across = f(across + Math.abs(f(grey(y, x) - grey(y, x + 1))));
        if (y < top + CELL - 1) down = f(down + Math.abs(f(grey(y, x) - grey(y + 1, x))));
      }
    }
    known[cell] = whole;
    const at = cell * CHANNELS;
    for (let c = 0; c < 3; c++) {
      values[at + c] = whole
        ? rounded(sums[c]!, f(WHITE / 16))
        : rounded(Math.min(1, Math.max(0, low[c * cells + cell]!)), WHITE);
    }
    if (!whole) continue;
    values[at + 3] = Math.min(WHITE, rounded(across, f((WHITE * 2) / 36)));
    values[at + 4] = Math.min(WHITE, rounded(down, f((WHITE * 2) / 36)));
  }
  texture(values, known, h, w);
  const quantised = (vectors: Float32Array) => {
    const result = new Int8Array(patches * keys);
    for (let d = 0; d < keys; d++) {
      for (let i = 0; i < patches; i++) {
        // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, halves to even.
        result[i * keys + d] = f(f(f(vectors[d * patches + i]! * UNIT) + 12582912) - 12582912);
      }
    }
    return result;
  };
  return { h, w, values, known, depth: depths(known, h, w), query: quantised(query), key: quantised(key), keys, finest: true };
}

/** floor(a * b + 0.5) in single precision. */
const rounded = (a: number, b: number): number => Math.floor(f(f(a * b) + 0.5));

/** Differences within unknown cells: the rounded mean of the smallest block of 2^n x 2^n cells that knows any. */
function texture(values: Uint8Array, known: Uint8Array, h: number, w: number): void {
  const open = known.map((bit) => 1 - bit);
  for (let shift = 1, left = open.includes(1); left && (h - 1) >> (shift - 1) | (w - 1) >> (shift - 1); shift++) {
    const columns = ((w - 1) >> shift) + 1, blocks = (((h - 1) >> shift) + 1) * columns;
    const sums = new Float64Array(blocks * 3); // across, down, number of known cells
    const block = (cell: number) => (Math.floor(cell / w) >> shift) * columns + ((cell % w) >> shift);
    for (let cell = 0; cell < known.length; cell++) {
      if (!known[cell]) continue;
      const at = 3 * block(cell);
      sums[at]! += values[cell * CHANNELS + 3]!, sums[at + 1]! += values[cell * CHANNELS + 4]!, sums[at + 2]!++;
    }
    left = false;
    for (let cell = 0; cell < known.length; cell++) {
      if (!open[cell]) continue;
      const at = 3 * block(cell), count = sums[at + 2]!;
      if (!count) { left = true; continue; }
      for (let c = 0; c < 2; c++) values[cell * CHANNELS + 3 + c] = Math.floor((2 * sums[at + c]! + count) / (2 * count));
      open[cell] = 0;
    }
  }
}

function coarser(level: Level): Level {
  const { h, w } = { h: level.h / 2, w: level.w / 2 };
  const means = <T extends Uint8Array | Int8Array>(from: T, to: T, channels: number): T => {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const at = (2 * y * 2 * w + 2 * x) * channels, row = 2 * w * channels;
        for (let c = 0; c < channels; c++) {
          const i = at + c;
          to[(y * w + x) * channels + c] = (from[i]! + from[i + channels]! + from[i + row]! + from[i + row + channels]! + 2) >> 2;
        }
      }
    }
    return to;
  };
  const values = means(level.values, new Uint8Array(h * w * CHANNELS), CHANNELS);
  const known = new Uint8Array(h * w);
  for (let i = 0; i < h * w; i++) {
    const at = 2 * Math.floor(i / w) * 2 * w + 2 * (i % w);
    known[i] = level.known[at]! & level.known[at + 1]! & level.known[at + 2 * w]! & level.known[at + 2 * w + 1]!;
  }
  const { keys } = level;
  const of = (vectors: Int8Array) => (level.finest ? vectors : means(vectors, new Int8Array(h * w * keys), keys));
  return { h, w, values, known, depth: depths(known, h, w), query: of(level.query), key: of(level.key), keys, finest: false };
}

/** What was found at a level: the places of hole cells, and of those beside, in a list, -1 of others; their sources. */
interface Found {
  readonly place: Int32Array;
  readonly source: Int32Array;
}

/** For every cell where in the photo what it copies begins, row and column; null where there is nothing to copy. */
function find(finest: Level, small: Float32Array, scale: number): Int32Array | null {
  const middle = coarser(finest);
  let found = search(coarser(middle), 2, null, 0);
  found = search(middle, 1, found, middle.w / 2) ?? found;
  found = search(finest, 0, found, middle.w);
  if (!found) return null;
  const { place, source } = found;
  const shift = place.map((n, cell) => (finest.known[cell] ? 0 : source[n]! - cell));
  const moves = align(small, shift, finest.h, finest.w);
  return moves.map((move, i) => {
    const from = (i >> 1) + shift[i >> 1]!, corner = i & 1 ? from % finest.w : Math.floor(from / finest.w);
    return corner * CELL * scale + Math.floor((move * scale + FINE / 2) / FINE);
  });
}

/** Cells all of whose 5 x 5 surroundings are inside the picture and known. */
function interior(known: Uint8Array, h: number, w: number): Uint8Array {
  const result = new Uint8Array(h * w);
  for (let y = 2; y < h - 2; y++) {
    for (let x = 2; x < w - 2; x++) {
      let all = 1;
      for (let dy = -2; dy <= 2; dy++) for (let dx = -2; dx <= 2; dx++) all &= known[(y + dy) * w + x + dx]!;
      result[y * w + x] = all;
    }
  }
  return result;
}

function depths(known: Uint8Array, h: number, w: number): Uint8Array {
  const depth = known.map((bit) => (bit ? 0 : DEEPEST));
  const pass = (cell: number, x: number, row: number, column: number) => {
    const above = depth[cell + row], beside = x + column >= 0 && x + column < w ? depth[cell + column] : undefined;
    depth[cell] = Math.min(depth[cell]!, (above ?? DEEPEST) + 1, (beside ?? DEEPEST) + 1);
  };
  for (let cell = 0; cell < h * w; cell++) pass(cell, cell % w, -w, -1);
  for (let cell = h * w - 1; cell >= 0; cell--) pass(cell, cell % w, w, 1);
  return depth;
}

/** Two numbers in 0..65520 for every cell, another pair for every `number`. */
function pseudoRandom(cell: number, number: number): [number, number] {
  const x = (cell * 7919 + number * 104729 + 12345) % 65521;
  return [(x * 17364) % 65521, (x * 31337) % 65521];
}

/** PatchMatch at one level, whose `values` it redraws; null where no cell's surroundings are known. */
function search(level: Level, number: number, above: Found | null, columnsAbove: number): Found | null {
  const { h, w, known, depth, query, key, keys } = level;
  const cells = h * w, valid = interior(known, h, w);
  const choices = Int32Array.from({ length: cells }, (_, i) => i).filter((cell) => valid[cell]);
  const hole = Int32Array.from({ length: cells }, (_, i) => i).filter((cell) => !known[cell]);
  if (!choices.length || !hole.length) return null;
  const beside = new Uint8Array(cells);
  for (const cell of hole) {
    const y0 = Math.floor(cell / w), x0 = cell % w;
    for (let y = Math.max(0, y0 - 1); y <= Math.min(h - 1, y0 + 1); y++) {
      for (let x = Math.max(0, x0 - 1); x <= Math.min(w - 1, x0 + 1); x++) beside[y * w + x] = 1;
    }
  }
  const targets = Int32Array.from({ length: cells }, (_, i) => i).filter((cell) => beside[cell]);
  const place = new Int32Array(cells).fill(-1);
  targets.forEach((cell, n) => (place[cell] = n));
  let source = targets.map((cell) => choices[Math.floor(pseudoRandom(cell, 64 * 64 + number)[0] * choices.length / 65521)]!);
  if (above) inherit();

  const weights = depth.map((d) => WEIGHTS[Math.min(d, 3)]!);
  const patch = level.finest
    ? (y: number, x: number) => ((y >> 1) * (w >> 1) + (x >> 1)) * keys
    : (y: number, x: number) => (y * w + x) * keys;
  const radius = Math.floor(Math.max(h, w) / (above ? 4 : 1));
  const fair = Math.max(OFTEN, Math.floor(FAIR * targets.length / choices.length));
  let cost = new Int32Array(targets.length);
  const uses = new Int32Array(cells); // how many copy a cell, when a round begins
  const mine = new Int32Array(25 * CHANNELS), share = new Int32Array(25 * CHANNELS);

  if (above) {
    improve(0, 0, 0, true);
    draw(hole.filter((cell) => depth[cell]! >= INHERITED[number]!));
  }
  JUMPS.forEach((jumps, turn) => {
    uses.fill(0);
    for (const cell of source) uses[cell]!++;
    jumps.forEach((jump, step) => improve(jump, GUESSES[number]!, (number * 8 + turn) * 8 + step, step === 0));
    if (turn < JUMPS.length - 1) draw(hole);
  });
  return { place, source };

  /** Deep in the hole begin with what the level above copies there, or beside it. */
  function inherit(): void {
    targets.forEach((cell, n) => {
      const y = Math.floor(cell / w), x = cell % w;
      const there = above!.place[(y >> 1) * columnsAbove + (x >> 1)]!;
      if (depth[cell]! < INHERITED[number]! || there < 0) return;
      const from = above!.source[there]!;
      const sy = 2 * Math.floor(from / columnsAbove) + (y & 1), sx = 2 * (from % columnsAbove) + (x & 1);
      for (const [dy, dx] of NEARBY) {
        if (sy + dy < 0 || sy + dy >= h || sx + dx < 0 || sx + dx >= w) continue;
        const offer = (sy + dy) * w + sx + dx;
        if (valid[offer]) { source[n] = offer; return; }
      }
    });
  }

  /** One step: every target takes the cheapest of its own source, the neighbours' at `jump`, and some guesses. */
  function improve(jump: number, guesses: number, counter: number, fresh: boolean): void {
    const better = source.slice(), lower = cost.slice(), values = level.values;
    for (let i = 0; i < targets.length; i++) {
      const cell = targets[i]!, y0 = Math.floor(cell / w), x0 = cell % w;
      let total = 0;
      for (let r = 0, t = 0; r < 5; r++) {
        for (let c = 0; c < 5; c++) {
          const y = y0 + r - 2, x = x0 + c - 2, inside = y >= 0 && y < h && x >= 0 && x < w;
          const weight = inside ? weights[y * w + x]! : 0, at = (y * w + x) * CHANNELS;
          total += weight;
          for (let k = 0; k < CHANNELS; k++, t++) mine[t] = inside ? values[at + k]! : 0, share[t] = weight;
        }
      }
      const affinity = ((total * AFFINITY + 8) >> 4) + LEAST_AFFINITY, asked = patch(y0, x0);
      // How far the sources of the four neighbours are from them; 0, as never here, if they copy nothing.
      const away = (inside: boolean, there: number) => (inside && place[there]! >= 0 ? source[place[there]!]! - there : 0);
      const left = away(x0 > 0, cell - 1), right = away(x0 < w - 1, cell + 1);
      const up = away(y0 > 0, cell - w), below = away(y0 < h - 1, cell + w);
      const own = source[i]!;
      /** What seams and repeats cost. */
      const apart = (offer: number) => {
        const here = offer - cell, others = uses[offer]! - Number(offer === own);
        const alone = Number(here !== left) + Number(here !== right) + Number(here !== up) + Number(here !== below);
        const crowded = Math.max(0, Math.min(OFTEN, others)) + CROWD * Math.max(0, Math.min(MOST, others - fair));
        return affinity * (SEAM * alone + REPEAT * crowded);
      };
      let best = own, bare = cost[i]!, least = fresh ? Infinity : bare + apart(best);
      let reach = counter % 2 ? Math.max(1, radius >> 2) : radius; // every second step looks nearer
      for (let candidate = fresh ? -1 : 0; candidate < (jump ? 11 + guesses : 0); candidate++) {
        let sy = Math.floor(best / w), sx = best % w;
        if (candidate >= 0 && candidate < 8) {
          const n = candidate < 4 ? candidate : candidate + 1;
          const dy = (Math.floor(n / 3) - 1) * jump, dx = ((n % 3) - 1) * jump, y = y0 + dy, x = x0 + dx;
          if (y < 0 || y >= h || x < 0 || x >= w || place[y * w + x]! < 0) continue;
          const there = source[place[y * w + x]!]!;
          sy = Math.floor(there / w) - dy, sx = (there % w) - dx;
        } else if (candidate === 8) {
          sy = y0, sx = pseudoRandom(cell, counter * 16 + STRAIGHT)[0] % w;
        } else if (candidate === 9) {
          sy = pseudoRandom(cell, counter * 16 + STRAIGHT)[1] % h, sx = x0;
        } else if (candidate === 10) {
          const n = Math.floor((pseudoRandom(cell, counter * 16 + ALIKE)[0] * targets.length) / 65521);
          const other = targets[n]!, there = source[n]!;
          sy = Math.floor(there / w) - Math.floor(other / w) + y0, sx = (there % w) - (other % w) + x0;
        } else if (candidate > 10) {
          const [a, b] = pseudoRandom(cell, counter * 16 + candidate - 11), span = 2 * reach + 1;
          sy += (a % span) - reach, sx += (b % span) - reach;
          reach = Math.max(1, reach >> 1);
        }
        if (sy < 0 || sy >= h || sx < 0 || sx >= w) continue;
        const offer = sy * w + sx;
        if (!valid[offer] || (offer === best && candidate >= 0)) continue;
        const offered = patch(sy, sx);
        let product = 0;
        for (let d = 0; d < keys; d++) product += query[asked + d]! * key[offered + d]!;
        const extra = apart(offer);
        let price = affinity * Math.max(UNIT * UNIT - product, 0) + extra;
        for (let r = 0, t = 0; r < 5 && price < least; r++) {
          for (let at = ((sy + r - 2) * w + sx - 2) * CHANNELS, end = at + 25; at < end; at++, t++) {
            const difference = values[at]! - mine[t]!;
            price += share[t]! * difference * difference;
          }
        }
        if (price < least) least = price, bare = price - extra, best = offer;
      }
      better[i] = best, lower[i] = bare;
    }
    source = better, cost = lower;
  }

  /** Draws `some` cells as the means of what those around copy to there; the cheaper the more they say. */
  function draw(some: Int32Array): void {
    const mean = Math.max(1, Math.floor(cost.reduce((sum, value) => sum + value, 0) / cost.length));
    const votes = cost.map((value) => 2 ** (16 - Math.min(16, Math.floor((value * DECISION) / mean))));
    const values = level.values, drawn = values.slice(), sums = new Float64Array(CHANNELS);
    for (const cell of some) {
      const y0 = Math.floor(cell / w), x0 = cell % w;
      let total = 0;
      sums.fill(0);
      for (let y = Math.max(0, y0 - 2); y < Math.min(h, y0 + 3); y++) {
        for (let x = Math.max(0, x0 - 2); x < Math.min(w, x0 + 3); x++) {
          const n = place[y * w + x]!;
          if (n < 0) continue;
          total += votes[n]!;
          const at = (source[n]! - (y - y0) * w - (x - x0)) * CHANNELS;
          for (let k = 0; k < CHANNELS; k++) sums[k]! += votes[n]! * values[at + k]!;
        }
      }
      for (let k = 0; k < CHANNELS; k++) drawn[cell * CHANNELS + k] = Math.floor((2 * sums[k]! + total) / (2 * total));
    }
    level.values = drawn;
  }
}

/**
 * How far beside their sources cells copy (h, w, 2), down and to the right, in low-resolution pixels / FINE.
 *
 * A region, hole cells side by side of one `shift` (never 0; 0 where known), moves as a whole, to where what its source
 * has beyond its border differs least from what lies there: first from known cells alone, then from what other regions
 * copy after their move before. Parts of a pixel are those of the parabola through the costs.
 */
function align(small: Float32Array, shift: Int32Array, h: number, w: number): Int32Array {
  const columns = CELL * w, size = CELL * h * columns;
  const grey = new Int16Array(size);
  for (let i = 0; i < size; i++) grey[i] = greyOf(small, i, size);
  const region = new Int32Array(h * w).fill(-1);
  const regions: { readonly own: number; readonly beyond: number[] }[] = []; // shift; cells on the border's other side
  for (let cell = 0; cell < h * w; cell++) {
    if (!shift[cell] || region[cell]! >= 0) continue;
    const own = shift[cell]!, beyond: number[] = [], open = [cell];
    region[cell] = regions.length;
    for (let p = open.pop(); p !== undefined; p = open.pop()) {
      const x = p % w;
      for (const q of [p >= w ? p - w : -1, x > 0 ? p - 1 : -1, x < w - 1 ? p + 1 : -1, p + w < h * w ? p + w : -1]) {
        if (q < 0) continue;
        if (shift[q] !== own) beyond.push(q);
        else if (region[q]! < 0) region[q] = regions.length, open.push(q);
      }
    }
    regions.push({ own, beyond });
  }
  const alone = regions.map(({ beyond }) => Float64Array.from({ length: MOVES * MOVES }, (_, i) => (
    STAY * beyond.length * (Math.abs(Math.floor(i / MOVES) - NUDGE) + Math.abs(i % MOVES - NUDGE))
  )));
  const fine = new Int32Array(2 * regions.length);
  let moves = new Int32Array(2 * regions.length);
  for (let turn = 0; turn < NUDGES; turn++) {
    const after = moves.slice();
    regions.forEach(({ own, beyond }, r) => {
      const costs = turn ? alone[r]!.slice() : alone[r]!;
      for (const q of beyond) {
        if ((shift[q] === 0) !== (turn === 0)) continue;
        const there = q + own, top = CELL * Math.floor(there / w) - NUDGE, left = CELL * (there % w) - NUDGE;
        const copied = q + shift[q]!, other = 2 * region[q]!;
        const y = CELL * Math.floor(copied / w) + (turn ? moves[other]! : 0);
        const x = CELL * (copied % w) + (turn ? moves[other + 1]! : 0);
        compare(costs, top * columns + left, y * columns + x);
      }
      let best = (moves[2 * r]! + NUDGE) * MOVES + moves[2 * r + 1]! + NUDGE;
      for (let i = 0; i < costs.length; i++) if (costs[i]! < costs[best]!) best = i;
      const least = costs[best]!;
      [Math.floor(best / MOVES), best % MOVES].forEach((place, n) => {
        const step = n ? 1 : MOVES;
        after[2 * r + n] = place - NUDGE, fine[2 * r + n] = 0;
        if (place === 0 || place === MOVES - 1) return;
        const lower = costs[best - step]! - least, upper = costs[best + step]! - least;
        if (lower > 0 && upper > 0) fine[2 * r + n] = Math.floor(((lower - upper) * FINE) / 2 / (lower + upper));
      });
    });
    moves = after;
  }
  return Int32Array.from({ length: 2 * h * w }, (_, i) => {
    const r = 2 * region[i >> 1]! + (i & 1);
    return r < 0 ? 0 : moves[r]! * FINE + fine[r]!;
  });

  /** Adds to `costs` how much a cell, from pixel `at` on, differs from that at `from` on, and all within MOVES. */
  function compare(costs: Float64Array, from: number, at: number): void {
    for (let v = 0; v < CELL; v++, at += columns, from += columns) {
      const a = grey[at]!, b = grey[at + 1]!, c = grey[at + 2]!, d = grey[at + 3]!;
      for (let i = 0, row = from; i < MOVES * MOVES; row += columns) {
        let p = grey[row]!, q = grey[row + 1]!, r = grey[row + 2]!;
        for (let end = i + MOVES, last = row + 3; i < end; i++, last++) {
          const s = grey[last]!;
          costs[i]! += Math.imul(p - a, p - a) + Math.imul(q - b, q - b) + Math.imul(r - c, r - c) + Math.imul(s - d, s - d);
          p = q, q = r, r = s;
        }
      }
    }
  }
}

/**
 * What copied cells lack (h, w, 3) of a low band in which what is copied from different places joins: it has the
 * differences between neighbours that copies have, and in part the network's colours, the less the smoother their
 * source is. A screened Poisson equation, solved by over-relaxation, in each sweep first the cells of even row plus
 * column, then the others. `begin` is what `find` found, `side` a cell's in pixels.
 */
function correction(
  low: Float32Array, begin: Int32Array | null, { h, w, known, depth }: Level, side: number,
): Float32Array {
  const cells = h * w, joined = new Float32Array(cells * 3);
  for (let i = 0; i < joined.length; i++) joined[i] = low[(i % 3) * cells + Math.floor(i / 3)]!;
  if (!begin) return joined;
  const colours = joined.slice();
  const hole = Int32Array.from({ length: cells }, (_, i) => i).filter((cell) => !known[cell]);
  const wanted = new Float32Array(cells * 3), share = new Float32Array(cells);
  const copied = colours.slice();
  for (const cell of hole) sample(cell, 0, 0, copied, cell * 3);
  const onward = new Float32Array(3), back = new Float32Array(3), mean = new Float32Array(3), jump = new Float32Array(3);
  for (const cell of hole) {
    const near = f(Math.min(1, Math.max(0, (4 - depth[cell]!) / 2.5)));
    let rough = 0;
    const y = Math.floor(cell / w), x = cell % w;
    for (const [dy, dx] of [[-1, 0], [0, -1], [0, 1], [1, 0]] as const) {
      if (y + dy < 0 || y + dy >= h || x + dx < 0 || x + dx >= w) continue;
      const other = cell + dy * w + dx;
      share[cell]!++;
      sample(cell, dy, dx, onward, 0);
      if (!known[other]) sample(other, -dy, -dx, back, 0);
      const before = network(y - 2 * dy, x - 2 * dx), after = network(y + 3 * dy, x + 3 * dx);
      let squares = 0, size = 0, seen = 0;
      for (let c = 0; c < 3; c++) {
        const own = copied[cell * 3 + c]!, its = copied[other * 3 + c]!;
        const here = f(own - onward[c]!), there = f(back[c]! - its);
        mean[c] = known[other] ? here : f(here + there) / 2;
        jump[c] = known[other] ? 0 : f(own - its) - mean[c]!;
        squares = f(squares + f(here * here));
        size = f(size + f(jump[c]! * jump[c]!));
        seen = f(seen + f(f(colours[before + c]! - colours[after + c]!) * jump[c]!));
      }
      rough = f(rough + squares);
      // Neither source has an edge where they meet: it is kept where the network shows one.
      const part = f(f(Math.min(Math.max(2 * seen, 0), size) * size) / f(f(size * size) + f(EDGE)));
      for (let c = 0; c < 3; c++) wanted[cell * 3 + c]! += f(mean[c]! + f(part * jump[c]!));
    }
    const trust = f(f(4 * f(near * near) + f(TRUST)) * f(rough / f(rough + f(SMOOTH))));
    share[cell]! += trust;
    for (let c = 0; c < 3; c++) wanted[cell * 3 + c]! += f(trust * colours[cell * 3 + c]!);
  }
  const gain = share.map((value) => f(RELAXATION) / value), rest = f(1 - f(RELAXATION));
  for (let sweep = 0; sweep < 2 * SWEEPS; sweep++) {
    for (const cell of hole) {
      const y = Math.floor(cell / w), x = cell - y * w;
      if ((y + x) % 2 !== sweep % 2) continue;
      for (let c = 0, i = cell * 3; c < 3; c++, i++) {
        let around = y > 0 ? joined[i - 3 * w]! : 0;
        if (x > 0) around = f(around + joined[i - 3]!);
        if (x < w - 1) around = f(around + joined[i + 3]!);
        if (y < h - 1) around = f(around + joined[i + 3 * w]!);
        joined[i] = f(rest * joined[i]!) + f(gain[cell]! * f(wanted[i]! + around));
      }
    }
  }
  for (let i = 0; i < joined.length; i++) joined[i]! -= copied[i]!;
  return joined;

  /** Where the low band of the cell nearest to `y`, `x` begins. */
  function network(y: number, x: number): number {
    return 3 * (Math.min(Math.max(y, 0), h - 1) * w + Math.min(Math.max(x, 0), w - 1));
  }

  /** The low band, bilinear, `dy` and `dx` cells beside where a cell copies: three numbers, to `to` from `at` on. */
  function sample(cell: number, dy: number, dx: number, to: Float32Array, at: number): void {
    const y = f(f(begin![2 * cell]! / side) + dy), x = f(f(begin![2 * cell + 1]! / side) + dx);
    const top = Math.floor(y), left = Math.floor(x), fy = f(y - top), fx = f(x - left);
    const upper = (top * w + left) * 3, lower = fy ? upper + 3 * w : upper, right = fx ? 3 : 0;
    const shares = [f(f(1 - fx) * f(1 - fy)), f(fx * f(1 - fy)), f(f(1 - fx) * fy), f(fx * fy)] as const;
    for (let c = 0; c < 3; c++) {
      const first = f(f(colours[upper + c]! * shares[0]) + f(colours[upper + right + c]! * shares[1]));
      const second = f(first + f(colours[lower + c]! * shares[2]));
      to[at + c] = second + f(colours[lower + right + c]! * shares[3]);
    }
  }
}

/**
 * Hole pixels of `target`, each heard from its own cell of `side` pixels and the nearest neighbours in both
 * directions, through triangular windows twice as wide, each continuing what it copies; plus `lacking`, enlarged.
 */
function copy(
  target: Uint8ClampedArray, image: Picture, hole: Uint8Array, depth: number,
  begin: Int32Array | null, { h, w, known }: Level, lacking: Float32Array, side: number,
): void {
  const ramp = Float32Array.from({ length: 2 * side }, (_, i) => 2 * side - Math.abs(2 * i + 1 - 2 * side)); // whole: sums are exact
  const coarse = lacking.map((value) => value * 255);
  /** The two of `length` cells that a pixel lies between, and what the second counts. */
  const between = (at: number, length: number) => {
    const place = 2 * at + 1 - side, first = Math.floor(place / (2 * side));
    return [Math.max(0, first), Math.min(length - 1, first + 1), f((place - 2 * side * first) / (2 * side))] as const;
  };
  const half = side / 2, total = new Float64Array(3);
  for (let y = 0; y < image.height; y++) {
    const cy = Math.floor(y / side), v = y - cy * side, vertical = v < half ? -1 : 1;
    const [y0, y1, fy] = between(y, h);
    for (let x = 0; x < image.width; x++) {
      const pixel = y * image.width + x;
      if (!hole[pixel]) continue;
      const cx = Math.floor(x / side), u = x - cx * side, horizontal = u < half ? -1 : 1;
      let norm = 0;
      total.fill(0);
      for (let entry = 0; entry < 4 && begin; entry++) {
        const dy = entry & 2 ? vertical : 0, dx = entry & 1 ? horizontal : 0;
        if (cy + dy < 0 || cy + dy >= h || cx + dx < 0 || cx + dx >= w) continue;
        const cell = (cy + dy) * w + cx + dx;
        if (known[cell]) continue;
        const top = begin[2 * cell]! - dy * side, left = begin[2 * cell + 1]! - dx * side; // continued from there
        const sy = Math.floor((top + half) / side), sx = Math.floor((left + half) / side); // the nearest cell
        if (sy < 0 || sy >= h || sx < 0 || sx >= w || !known[sy * w + sx]) continue;
        const share = ramp[half + v - dy * side]! * ramp[half + u - dx * side]!;
        const at = ((top + v) * image.width + left + u) * depth;
        norm += share;
        for (let c = 0; c < 3; c++) total[c]! += share * image.data[at + c]!;
      }
      const [x0, x1, fx] = between(x, w);
      for (let c = 0; c < 3; c++) {
        const line = (y: number) =>
          f(f(coarse[(y * w + x0) * 3 + c]! * f(1 - fx)) + f(coarse[(y * w + x1) * 3 + c]! * fx));
        const low = f(f(line(y0) * f(1 - fy)) + f(line(y1) * fy));
        const value = f(f(total[c]! / Math.max(norm, 1e-4)) + low);
        target[pixel * depth + c] = Math.floor(f(Math.min(255, Math.max(0, value)) + 0.5));
      }
    }
  }
}

/**
 * Brings hole pixels of `target` nearer to the known ones beside them, so that no edge is seen there; but for those in
 * `spared`, of a grid of so many half pixels and columns: they are beside a rim.
 */
function mend(
  target: Uint8ClampedArray, hole: Uint8Array, height: number, width: number, depth: number,
  spared: Uint8Array, halves: number, columns: number,
): void {
  const before = target.slice();
  const known = new Float64Array(4), own = new Float64Array(4); // weighted sums, and of the weights
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const pixel = y * width + x;
      if (!hole[pixel] || spared[Math.floor(2 * y / halves) * columns + Math.floor(2 * x / halves)]) continue;
      let k: number = MENDED[1];
      known.fill(0);
      own.fill(0);
      for (let v = Math.max(0, y - 2); v <= Math.min(height - 1, y + 2); v++) {
        for (let u = Math.max(0, x - 2); u <= Math.min(width - 1, x + 2); u++) {
          const other = v * width + u, distance = (v - y) ** 2 + (u - x) ** 2;
          if (hole[other] && distance > 2) continue;
          const sums = hole[other] ? own : known, share = BESIDE[distance]!;
          for (let c = 0; c < 3; c++) sums[c]! += share * before[other * depth + c]!;
          sums[3]! += share;
          if (!hole[other] && distance <= 2) k = MENDED[0];
        }
      }
      if (!known[3]) continue;
      const pairs = known[3]! * own[3]!;
      for (let c = 0; c < 3; c++) {
        const moved = k * (known[c]! * own[3]! - own[c]! * known[3]!);
        target[pixel * depth + c] = Math.floor(((10 * before[pixel * depth + c]! + 5) * pairs + moved) / (10 * pairs));
      }
    }
  }
}
