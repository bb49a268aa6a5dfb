// Fills holes in photographs of any size with a rethined core, whatever runs that: C++17, the standard library alone.
//
// To be read beside rethined/windows.py, rethined/rim.py, rethined/search.py and rethined/upscale.py, which do the same
// in Python. Choices depend on integers alone, so that sources are the same everywhere; where floats are rounded to
// integers, the casts to and from double keep compilers from rounding otherwise. Pixels are computed in the order of
// Python's, too, and come out the same where no product is added unrounded: build with -ffp-contract=off.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace rethined {

using Bytes = std::vector<std::uint8_t>;
using Ints = std::vector<int>;
using Floats = std::vector<float>;

// Rows `top` to `bottom` and columns `left` to `right`.
struct Box {
    int top, bottom, left, right;
};

// What the network sees of a window.
struct Small {
    Box shown;
    int halves, h, w;  // halves of a pixel to one of the grid of h x w
    Floats image;   // (3, h, w) in [0, 1], 0 in holes
    Floats mask;    // (h, w), 1 = hole
    Floats detail;  // (6, h / 8, w / 8)
    Bytes spared;   // (h, w): where nothing is mended
};

// What it answers: low (3, h / 4, w / 4), query and key (width, h / 8, w / 8), of whatever width.
struct Answer {
    Floats low, query, key;
};

using Core = std::function<Answer(const Small&)>;

// A part of the photo, how it meets the network, and whose holes it fills.
struct Window {
    Box shown;  // in pixels
    int halves, rows, columns;  // halves of a pixel to one of the grid of rows x columns
    Box holes;  // what it fills for good, in pixels
};

namespace detail {

constexpr int STRIDE = 32;   // of the network: both sides of its image are multiples of this
constexpr int GRID = 44 << 13;        // pixels that the grids of any photo may hold together
constexpr int GRID_GROWTH = 6 << 13;  // and for each unit of the factor, where that is more
constexpr int WHOLE = 4;     // from this factor on there is no half
constexpr int BLOCK = 16;    // side, in pixels, of the blocks that holes are put into boxes by
constexpr int MARGIN = 16, CROSSING = 32;  // grid pixels: seen around a box, at least; of hole that a cut may cross
constexpr int LEVELS = 5;    // cuts in a row
constexpr int EXTRA = 1 << 12;  // grid pixels that another window is counted as beside its own
constexpr int LEAST = 2;     // strides that a grid has a side, at least, where the photo has them
constexpr int THIN = 10;     // grid pixels a side of a square that no thin hole fills
constexpr double THIN_FROM = 2.5;  // factor from which on thin holes have windows of their own
constexpr int SOURCE = 20;   // grid pixels a side of a square that is all known, as the surroundings of a source are
constexpr int SCARCE = 20;   // known blocks for each such square, at most, or they are in too small pieces to be copied
constexpr int BAR = 80;      // THIN behind a fence: what is thicker would be cut into windows that see nothing known
constexpr int THIN_LEVELS = 8, THIN_SHARE = 12;  // cuts of these; how many times the whole photo's grid theirs may hold
constexpr int PATCH = 8;     // side of what a query and a key describe, in low-resolution pixels
constexpr int CELL = 4;      // side of what is copied at a time, in low-resolution pixels
constexpr int CHANNELS = 5;  // of a cell: R, G, B, differences across, differences down
constexpr int RIM = 6, FAR = 2;  // what is marked in rings: the hole, and the ring that all within are compared with
constexpr int ARC = 16;      // side of the blocks that rings are compared in, three by three, in low-resolution pixels
constexpr int WHITE = 120;   // what 1 is in colours
constexpr int UNIT = 127;    // what 1 is in queries and keys
constexpr std::array WEIGHTS = {8, 4, 2, 1};  // what a cell counts in a comparison, by its depth in the hole
constexpr int AFFINITY = 5, LEAST_AFFINITY = 6;  // what query and key count: in sixteenths of all compared, and beside
constexpr int SEAM = 100;  // what it costs that a neighbour does not go on with the same source
constexpr int REPEAT = 60;  // what each other cell of the same source costs
constexpr int OFTEN = 4;  // how many cost so
constexpr int FAIR = 8, CROWD = 4, MOST = 8;  // beyond FAIR times the mean MOST others cost CROWD times as much each
constexpr std::array<std::array<int, 4>, 4> JUMPS = {{{8, 4, 2, 1}, {2, 1}, {1}, {1}}};  // of each round; 0: none
constexpr std::array GUESSES = {1, 2, 4};     // by level, finest first
constexpr int STRAIGHT = 12, ALIKE = 13;      // numbers of further draws: a place in the same row and column, and another cell
constexpr std::array INHERITED = {3, 6, 0};   // by level: how deep in the hole the coarser level has its say
constexpr int DECISION = 8;                   // how strongly votes prefer what fits
constexpr std::array<std::array<int, 2>, 9> NEARBY = {
    {{0, 0}, {0, -1}, {0, 1}, {-1, 0}, {1, 0}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}}};
constexpr int NUDGE = 3, NUDGES = 3;  // how far regions are moved, in low-resolution pixels, and how often
constexpr int MOVES = 2 * NUDGE + 1;  // places tried along each axis
constexpr int STAY = 600;             // what each pixel of a move costs beside one border of a cell
constexpr int FINE = 64;              // parts of a low-resolution pixel in which moves are counted
constexpr float TRUST = 0.005f, SMOOTH = 0.0012f, EDGE = 0.00032f, RELAXATION = 1.9f;  // of `correction`
constexpr int SWEEPS = 30;
// What pixels count in means around one, by squared distance.
constexpr std::array BESIDE = {128, 64, 16, 0, 4, 3, 0, 0, 1};
constexpr std::array MENDED = {8, 4};  // tenths of their difference that it is moved by: where a known one touches it
constexpr int DEEPEST = 7;  // depths beyond are treated alike

// a / b, rounded up; neither is negative.
inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The factor after another, in halves.
inline int next(int halves) { return halves + (halves < 2 * WHOLE ? 1 : 2); }

// What of a photo is hole, in blocks, and the windows around it.
class Holes {
public:
    Holes(const Bytes& hole, int height, int width)
        : height(height), width(width), down(ceil_div(height, BLOCK)), across(ceil_div(width, BLOCK)), blocks(down * across),
          full(down * across) {
        Ints count(blocks.size());  // of the hole's pixels in every fourth line
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                if (hole[std::size_t(y) * width + x]) {
                    const int at = y / BLOCK * across + x / BLOCK;
                    blocks[at] = 1, count[at] += y % 4 == 0;
                }
        for (std::size_t n = 0; n < full.size(); n++) full[n] = count[n] == 4 * BLOCK;
    }

    // With the smallest factor at which the grid of one around all is no larger than h x w; then with as much around it.
    Window window(int h, int w) const {
        for (int halves = 2;; halves = next(halves)) {
            const Window one = leaves({0, down, 0, across}, 0, halves).second[0];
            if (one.rows <= h && one.columns <= w) return leaves({0, down, 0, across}, 0, halves, h, w).second[0];
        }
    }

    // With the smallest factor at which their grids together hold no more pixels than the whole photo's would; where that
    // is large, around thin holes first, with a smaller one.
    std::vector<Window> windows() const {
        const auto pixels = [&](int halves) -> std::int64_t {
            const int h = ceil_div(2 * height, halves * STRIDE) * STRIDE, w = ceil_div(2 * width, halves * STRIDE) * STRIDE;
            const std::int64_t size = std::int64_t(h) * w;
            return 2 * size <= std::max(2 * GRID, GRID_GROWTH * halves) || std::min(h, w) == STRIDE ? size : 0;
        };
        int halves = 2;
        while (!pixels(halves)) halves = next(halves);
        const std::int64_t budget = pixels(halves);
        const std::vector<Window> all = finest(LEVELS, budget);
        const int coarse = all[0].halves;
        Bytes open(blocks);
        std::size_t known = 0;
        for (std::uint8_t& block : open) known += block = !block;
        // Where next to nothing could be copied.
        const bool fenced = coarse > 2 && squares(open, SOURCE * coarse / 2 / BLOCK + 1).size() * SCARCE < known;
        if (coarse < 2 * THIN_FROM && !fenced) return all;
        Holes bulky(*this), slight(*this);
        bulky.blocks = thick((fenced ? BAR : THIN) * coarse / 2 / BLOCK);
        for (std::size_t n = 0; n < blocks.size(); n++) slight.blocks[n] &= ~bulky.blocks[n];
        if (!slight.any({0, down, 0, across})) return all;
        slight.most = budget, slight.thickest = THIN * coarse / 2 / BLOCK * BLOCK;
        std::vector<Window> found = slight.finest(THIN_LEVELS, THIN_SHARE * budget);
        if (found[0].halves >= coarse) return all;
        if (bulky.any({0, down, 0, across})) {
            const std::vector<Window> rest = bulky.finest(LEVELS, budget);
            found.insert(found.end(), rest.begin(), rest.end());
        }
        return found;
    }

private:
    const int height, width, down, across;
    Bytes blocks, full;
    // Grid pixels that a window holds at most, where it can be cut; and how thick its hole is at most, in pixels.
    std::int64_t most = INT64_MAX;
    int thickest = INT32_MAX;

    bool any(const Box& box) const {
        for (int y = box.top; y < box.bottom; y++)
            for (int x = box.left; x < box.right; x++)
                if (blocks[y * across + x]) return true;
        return false;
    }

    // Which blocks hang together, by sides or corners, with a square of `side` x `side` that are full.
    Bytes thick(int side) const {
        Bytes found(blocks.size());
        Ints queue;
        const auto take = [&](int y, int x) {
            const int at = y * across + x;
            if (blocks[at] && !found[at]) found[at] = 1, queue.push_back(at);
        };
        for (const int at : squares(full, side)) take(at / across, at % across);
        while (!queue.empty()) {
            const int row = queue.back() / across, column = queue.back() % across;
            queue.pop_back();
            for (int y = std::max(row - 1, 0); y <= std::min(row + 1, down - 1); y++)
                for (int x = std::max(column - 1, 0); x <= std::min(column + 1, across - 1); x++) take(y, x);
        }
        return found;
    }

    // The first blocks of squares of `side` x `side` of `some`.
    Ints squares(const Bytes& some, int side) const {
        Ints found;
        const auto square = [&](int top, int left) {
            for (int y = top; y < top + side; y++)
                for (int x = left; x < left + side; x++)
                    if (!some[y * across + x]) return false;
            return true;
        };
        for (int y = 0; y <= down - side; y++)
            for (int x = 0; x <= across - side; x++)
                if (square(y, x)) found.push_back(y * across + x);
        return found;
    }

    // With the smallest factor at which their grids hold no more than `total` pixels; every second one first.
    std::vector<Window> finest(int levels, std::int64_t total) const {
        for (int halves = 2;; halves = next(halves)) {
            const auto [cost, found] = leaves({0, down, 0, across}, levels, halves);
            if (cost > total) continue;
            std::vector<Window> ordered;
            for (std::size_t first : {0, 1}) {
                for (std::size_t n = first; n < found.size(); n += 2) ordered.push_back(found[n]);
            }
            return ordered;
        }
    }

    // What the cheapest windows cost, in pixels of grids, around what of a box is hole, with at most `levels` cuts in a
    // row; and these. Grids are at least `h` x `w`.
    std::pair<std::int64_t, std::vector<Window>> leaves(Box box, int levels, int halves, int h = 0, int w = 0) const {
        auto& [top, bottom, left, right] = box;
        while (!any({top, top + 1, left, right})) top++;
        while (!any({bottom - 1, bottom, left, right})) bottom--;
        while (!any({top, bottom, left, left + 1})) left++;
        while (!any({top, bottom, right - 1, right})) right--;
        const bool tall = bottom - top >= right - left;
        const int count = tall ? bottom - top : right - left, wide = tall ? right - left : bottom - top;
        // Of lines across the longer side.
        const std::uint8_t* corner = &blocks[top * across + left];
        const auto at = [&](int line, int n) { return corner[tall ? line * across + n : n * across + line]; };
        int area = 0;
        for (int line = 0; line < count; line++)
            for (int n = 0; n < wide; n++) area += at(line, n);
        const int thickness = std::min(area * BLOCK / count, thickest);  // the hole's area by its length
        const int margin = std::max(MARGIN * halves / 2, thickness);
        const Box holes{top * BLOCK, std::min(bottom * BLOCK, height), left * BLOCK, std::min(right * BLOCK, width)};
        const auto [first, last, rows] = around(holes.top, holes.bottom, height, margin, halves, h);
        const auto [begin, end, columns] = around(holes.left, holes.right, width, margin, halves, w);
        const std::int64_t cost = std::int64_t(rows) * columns;
        const std::vector<Window> whole{{{first, last, begin, end}, halves, rows, columns, holes}};
        if (cost <= EXTRA || !levels || count * BLOCK <= 2 * MARGIN) return {cost, whole};
        // Where least of the hole is cut through, of the middle half of lines; there, the most central.
        int cut = 0, least = INT32_MAX;
        const int edge = std::max(count / 4, 1);
        for (int line = edge; line <= count - edge; line++) {
            int crossing = 0;
            for (int n = 0; n < wide; n++) crossing += at(line - 1, n) & at(line, n);
            const bool central = std::abs(2 * line - count) < std::abs(2 * cut - count);
            if (crossing < least || (crossing == least && central)) least = crossing, cut = line;
        }
        if (2 * least * BLOCK > CROSSING * halves && cost <= most) return {cost, whole};
        Box half(box), rest(box);
        if (tall) half.bottom = rest.top = top + cut;
        else half.right = rest.left = left + cut;
        auto one = leaves(half, levels - 1, halves), other = leaves(rest, levels - 1, halves);
        one.first += other.first + EXTRA;
        one.second.insert(one.second.end(), other.second.begin(), other.second.end());
        return one.first < cost || cost > most ? one : std::pair{cost, whole};
    }

    // Where a window begins and ends, and the side of its grid: the hole from `first` to `last` with a margin, rounded up
    // to a multiple of the network's stride, or to `least` grid pixels, where the photo, of `length`, has as much.
    static std::array<int, 3> around(int first, int last, int length, int margin, int halves, int least) {
        const int begin = std::max(first - margin, 0), wanted = std::min(last + margin, length) - begin;
        const int multiple = STRIDE * halves / 2, most = ceil_div(length, multiple);
        const int count = std::max({ceil_div(wanted, multiple), std::min(LEAST, most), least / STRIDE});
        const int size = std::min(count * multiple, length);
        const int moved = std::min(std::max(begin - (size - wanted) / 2, 0), length - size);
        return {moved, moved + size, count * STRIDE};
    }
};

// Means of boxes on a window's grid, 0 in holes and beyond the border; and what they hold. `image` and `hole` are what it
// shows.
inline Small boxes(const Bytes& image, const Bytes& hole, const Window& window) {
    const auto& [shown, halves, h, w, holes] = window;
    const int height = shown.bottom - shown.top, width = shown.right - shown.left;
    Small small{shown, halves, h, w, Floats(3 * h * w), Floats(h * w, 1), Floats(6 * (h / PATCH) * (w / PATCH)), {}};
    const int halved = halves % 2, scale = halved ? halves : halves / 2;  // of half pixels, or of pixels
    const int half = scale / 2, patches = w / PATCH, size = h / PATCH * patches;
    const float gain = float(1.0 / (double(scale) * scale * 255));
    std::vector<double> energy(small.detail.size());
    for (int y = 0; y < std::min(h, (height << halved) / scale); y++) {
        for (int x = 0; x < std::min(w, (width << halved) / scale); x++) {
            std::array<int, 3> sums{}, across{}, down{};
            bool any = false;
            for (int v = 0; v < scale && !any; v++) {
                const std::size_t row = std::size_t((y * scale + v) >> halved) * width;
                const int vertical = v < half ? 1 : v >= scale - half ? -1 : 0;
                for (int u = 0; u < scale; u++) {
                    const std::size_t at = row + ((x * scale + u) >> halved);
                    any = any || hole[at];
                    const int horizontal = u < half ? 1 : u >= scale - half ? -1 : 0;
                    for (int c = 0; c < 3; c++) {
                        const int value = image[at * 3 + c];
                        sums[c] += value, across[c] += horizontal * value, down[c] += vertical * value;
                    }
                }
            }
            if (any) continue;
            small.mask[y * w + x] = 0;
            const int patch = y / PATCH * patches + x / PATCH;
            for (int c = 0; c < 3; c++) {
                small.image[(c * h + y) * w + x] = float(sums[c]) * gain;
                energy[c * size + patch] += double(across[c]) * across[c];
                energy[(c + 3) * size + patch] += double(down[c]) * down[c];
            }
        }
    }
    // Squares of whole numbers: in whatever order they are summed, the same.
    const double divisor = std::max(half * 2.0 * scale * 255 * PATCH, 1.0);
    for (std::size_t i = 0; i < energy.size(); i++) small.detail[i] = float(std::sqrt(energy[i]) / divisor);
    return small;
}

// floor(a * b + 0.5) in single precision, never fused into one operation.
inline int rounded(float a, float b) { return int(std::floor(float(double(float(double(a) * b)) + 0.5))); }

// R + G + B of one of `pixels`, of white 765.
inline int grey_of(const float* image, int at, int pixels) {
    return rounded(image[at] + image[pixels + at] + image[2 * pixels + at], 255);
}

// `bits` (h, w), and what is beside one of them, or diagonally.
inline Bytes dilated(const Bytes& bits, int h, int w) {
    Bytes rows(bits), result(bits.size());
    for (int i = 0; i < h * w; i++) rows[i] |= (i >= w ? bits[i - w] : 0) | (i < (h - 1) * w ? bits[i + w] : 0);
    for (int i = 0; i < h * w; i++)
        result[i] = rows[i] | (i % w > 0 ? rows[i - 1] : 0) | (i % w < w - 1 ? rows[i + 1] : 0);
    return result;
}

// Makes part of the hole what a tight mask leaves of a thing around it.
//
// Each known pixel near a hole is compared with the mean of those beside it that are one farther. Where these
// differences, averaged over an arc, are for one of the inner three rings much more than for the fourth, that, the next
// and all within are the rim.
inline void hide(Small& small) {
    const int h = small.h, w = small.w, down = h / ARC, across = w / ARC;
    Bytes near(small.mask.begin(), small.mask.end()), grown(near), rim(h * w);
    for (int turn = 1; turn < RIM; turn++) {
        grown = dilated(grown, h, w);
        for (int i = 0; i < h * w; i++) near[i] += grown[i];
    }
    struct Block {
        int sum, count;
    };
    std::vector<Block> blocks(RIM * down * across);
    for (int y = 0; y < h; y++) {
        for (int x = y & 1; x < w; x += 2) {  // every second one
            const int at = y * w + x, own = near[at];
            if (own < FAR || own >= RIM) continue;
            int count = 0, total = 0;
            const auto look = [&](bool inside, int other) {
                if (inside && near[other] == own - 1) count++, total += grey_of(small.image.data(), other, h * w);
            };
            look(y > 0, at - w), look(x > 0, at - 1), look(x < w - 1, at + 1), look(y < h - 1, at + w);
            if (!count) continue;
            Block& block = blocks[(own * down + y / ARC) * across + x / ARC];
            block.sum += std::abs(grey_of(small.image.data(), at, h * w) - (2 * total + count) / (2 * count)), block.count++;
        }
    }
    for (int row = 0; row < down; row++) {
        for (int column = 0; column < across; column++) {
            const auto arc = [&](int ring) {
                Block all{};
                for (int y = std::max(0, row - 1); y <= std::min(down - 1, row + 1); y++)
                    for (int x = std::max(0, column - 1); x <= std::min(across - 1, column + 1); x++) {
                        const Block& block = blocks[(ring * down + y) * across + x];
                        all.sum += block.sum, all.count += block.count;
                    }
                return all;
            };
            const auto mean = [&](int ring) { const Block all = arc(ring); return 4 * all.sum / std::max(1, all.count); };
            if (!arc(FAR).count) continue;
            const int most = 5 * mean(FAR) + 72;
            int ring = FAR + 1;
            while (ring < RIM && 2 * mean(ring) <= most) ring++;
            if (ring == RIM) continue;
            for (int y = row * ARC; y < (row + 1) * ARC; y++)
                for (int at = y * w + column * ARC; at < y * w + (column + 1) * ARC; at++)
                    rim[at] = near[at] >= ring - 1 && near[at] < RIM;
        }
    }
    const int patches = w / PATCH, size = h / PATCH * patches;
    for (int at = 0; at < h * w; at++) {
        if (!rim[at]) continue;
        small.mask[at] = 1;
        for (int c = 0; c < 3; c++) small.image[c * h * w + at] = 0;
        for (int c = 0; c < 6; c++) small.detail[c * size + at / w / PATCH * patches + at % w / PATCH] = 0;
    }
    small.spared = dilated(rim, h, w);
}

inline Bytes depths(const Bytes& known, int h, int w) {
    Bytes depth(known.size());
    for (std::size_t i = 0; i < known.size(); i++) depth[i] = known[i] ? 0 : DEEPEST;
    const auto pass = [&](int y, int x, int step) {
        std::uint8_t& here = depth[y * w + x];
        if (y + step >= 0 && y + step < h) here = std::min<int>(here, depth[(y + step) * w + x] + 1);
        if (x + step >= 0 && x + step < w) here = std::min<int>(here, depth[y * w + x + step] + 1);
    };
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) pass(y, x, -1);
    for (int y = h - 1; y >= 0; y--)
        for (int x = w - 1; x >= 0; x--) pass(y, x, 1);
    return depth;
}

// The picture at one size, of h x w cells; everything is an integer.
struct Level {
    int h, w;
    Bytes values;  // (h, w, CHANNELS), guesses in the hole; searching redraws these
    Bytes known;
    Bytes depth;  // (h, w): city-block distance to the nearest known cell, DEEPEST at most
    std::vector<std::int8_t> query, key;  // (h / 2, w / 2, keys) at the finest level, (h, w, keys) at others
    int keys;     // width of a query or a key
    bool finest;

    int patch(int y, int x) const { return (finest ? y / 2 * (w / 2) + x / 2 : y * w + x) * keys; }
};

// Differences within unknown cells: the rounded mean of the smallest block of 2^n x 2^n cells that knows any.
inline void texture(Bytes& values, const Bytes& known, int h, int w) {
    Bytes open(known.size());
    for (std::size_t i = 0; i < known.size(); i++) open[i] = !known[i];
    bool left = true;
    for (int shift = 1; left && ((h - 1) >> (shift - 1) || (w - 1) >> (shift - 1)); shift++) {
        const int columns = ((w - 1) >> shift) + 1;
        std::vector<std::array<std::int64_t, 3>> sums(std::size_t(columns) * (((h - 1) >> shift) + 1));
        const auto block = [&](int cell) -> auto& { return sums[((cell / w) >> shift) * columns + ((cell % w) >> shift)]; };
        for (int cell = 0; cell < h * w; cell++) {
            if (!known[cell]) continue;
            auto& sum = block(cell);
            sum[0] += values[cell * CHANNELS + 3], sum[1] += values[cell * CHANNELS + 4], sum[2]++;
        }
        left = false;
        for (int cell = 0; cell < h * w; cell++) {
            if (!open[cell]) continue;
            const auto& sum = block(cell);
            if (sum[2] == 0) { left = true; continue; }
            for (int c = 0; c < 2; c++)
                values[cell * CHANNELS + 3 + c] = std::uint8_t((2 * sum[c] + sum[2]) / (2 * sum[2]));
            open[cell] = 0;
        }
    }
}

inline Level finest(const Small& small, const Answer& answer) {
    const int h = small.h / CELL, w = small.w / CELL, cells = h * w, area = small.h * small.w, patches = cells / 4;
    const int keys = int(answer.key.size()) / patches;
    const auto is = [](const Floats& values, int size) { return values.size() == std::size_t(size); };
    if (!is(answer.low, 3 * cells) || !keys || !is(answer.query, keys * patches) || !is(answer.key, keys * patches)) {
        const auto shape = [](int h, int w) { return std::to_string(h) + ", " + std::to_string(w) + ")"; };
        throw std::invalid_argument("the core does not answer with low (3, " + shape(h, w) +
                                    ", and query and key (width, " + shape(h / 2, w / 2));
    }
    Level level{h, w, Bytes(cells * CHANNELS), Bytes(cells), {}, {}, {}, keys, true};
    const Floats& image = small.image;
    const auto grey = [&](int at) { return image[at] + image[area + at] + image[2 * area + at]; };
    for (int cell = 0; cell < cells; cell++) {
        bool whole = true;
        std::array<float, 3> sums{};
        float across = 0, down = 0;
        for (int y = 0; y < CELL; y++) {
            for (int x = 0; x < CELL; x++) {
                const int at = (cell / w * CELL + y) * small.w + cell % w * CELL + x;
                whole = whole && small.mask[at] == 0;
                for (int c = 0; c < 3; c++) sums[c] += image[c * area + at];
                if (x < CELL - 1) across += std::abs(grey(at) - grey(at + 1));
                if (y < CELL - 1) down += std::abs(grey(at) - grey(at + small.w));
            }
        }
        level.known[cell] = whole;
        std::uint8_t* values = &level.values[cell * CHANNELS];
        for (int c = 0; c < 3; c++) {
            values[c] = std::uint8_t(whole ? rounded(sums[c], WHITE / 16.0f)
                                           : rounded(std::clamp(answer.low[c * cells + cell], 0.0f, 1.0f), WHITE));
        }
        if (!whole) continue;
        values[3] = std::uint8_t(std::min(WHITE, rounded(across, WHITE * 2 / 36.0f)));
        values[4] = std::uint8_t(std::min(WHITE, rounded(down, WHITE * 2 / 36.0f)));
    }
    texture(level.values, level.known, h, w);
    level.depth = depths(level.known, h, w);
    const auto quantised = [&](const Floats& vectors) {
        std::vector<std::int8_t> result(patches * keys);
        for (int d = 0; d < keys; d++)
            for (int i = 0; i < patches; i++)  // halves to even
                result[i * keys + d] = std::int8_t(std::nearbyint(vectors[d * patches + i] * float(UNIT)));
        return result;
    };
    level.query = quantised(answer.query), level.key = quantised(answer.key);
    return level;
}

template <typename T>
std::vector<T> means(const std::vector<T>& from, int h, int w, int channels) {  // h, w of the result
    std::vector<T> to(std::size_t(h) * w * channels);
    const int row = 2 * w * channels;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++) {
                const T* at = &from[2 * y * row + 2 * x * channels + c];
                to[(y * w + x) * channels + c] = T((at[0] + at[channels] + at[row] + at[row + channels] + 2) >> 2);
            }
    return to;
}

inline Level coarser(const Level& level) {
    const int h = level.h / 2, w = level.w / 2;
    Level result{h, w, means(level.values, h, w, CHANNELS), Bytes(h * w), {}, level.query, level.key, level.keys, false};
    for (int cell = 0; cell < h * w; cell++) {
        const std::uint8_t* at = &level.known[cell / w * 4 * w + cell % w * 2];
        result.known[cell] = at[0] & at[1] & at[2 * w] & at[2 * w + 1];
    }
    result.depth = depths(result.known, h, w);
    if (!level.finest) {
        result.query = means(level.query, h, w, level.keys);
        result.key = means(level.key, h, w, level.keys);
    }
    return result;
}

// What was found at a level: the places of hole cells, and of those beside, in a list, -1 of others; their sources.
struct Found {
    int w;
    Ints place, source;
};

// PatchMatch at one level, whose values it redraws; nothing where no cell's surroundings are known.
class Search {
public:
    Search(Level& level, int number, const Found* above)
        : level(level), number(number), h(level.h), w(level.w), valid(h * w), place(h * w, -1), uses(h * w) {
        for (int y = 2; y < h - 2; y++)
            for (int x = 2; x < w - 2; x++) {
                bool all = true;
                for (int dy = -2; dy <= 2; dy++)
                    for (int dx = -2; dx <= 2; dx++) all = all && level.known[(y + dy) * w + x + dx];
                valid[y * w + x] = all;
            }
        Ints choices;
        for (int cell = 0; cell < h * w; cell++) {
            if (valid[cell]) choices.push_back(cell);
            if (!level.known[cell]) hole.push_back(cell);
            if (beside(cell)) place[cell] = int(targets.size()), targets.push_back(cell);
        }
        if (choices.empty() || hole.empty()) return;
        for (const int cell : targets)
            source.push_back(choices[pseudo_random(cell, 64 * 64 + number).first * std::int64_t(choices.size()) / 65521]);
        radius = std::max(h, w) / (above ? 4 : 1);
        fair = std::max(OFTEN, int(FAIR * targets.size() / choices.size()));
        cost.resize(targets.size());
        if (above) {
            inherit(*above);
            improve(0, 0, 0, true);
            Ints deep;
            for (const int cell : hole)
                if (level.depth[cell] >= INHERITED[number]) deep.push_back(cell);
            draw(deep);
        }
        for (int turn = 0; turn < int(JUMPS.size()); turn++) {
            std::fill(uses.begin(), uses.end(), 0);
            for (const int cell : source) uses[cell]++;
            for (int step = 0; step < 4 && JUMPS[turn][step]; step++)
                improve(JUMPS[turn][step], GUESSES[number], (number * 8 + turn) * 8 + step, step == 0);
            if (turn + 1 < int(JUMPS.size())) draw(hole);
        }
        found = Found{w, place, source};
    }

    std::optional<Found> found;

private:
    Level& level;
    const int number, h, w;
    Bytes valid;
    Ints place, hole, targets, source, cost;
    Ints uses;  // how many copy a cell, when a round begins
    int radius = 0, fair = OFTEN;

    bool inside(int y, int x) const { return y >= 0 && y < h && x >= 0 && x < w; }

    bool beside(int cell) const {
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                const int y = cell / w + dy, x = cell % w + dx;
                if (inside(y, x) && !level.known[y * w + x]) return true;
            }
        return false;
    }

    // Two numbers in 0..65520 for every cell, another pair for every `number`.
    static std::pair<std::int64_t, std::int64_t> pseudo_random(int cell, int number) {
        const std::int64_t x = (std::int64_t(cell) * 7919 + std::int64_t(number) * 104729 + 12345) % 65521;
        return {x * 17364 % 65521, x * 31337 % 65521};
    }

    // Deep in the hole begin with what the level above copies there, or beside it.
    void inherit(const Found& above) {
        for (std::size_t n = 0; n < targets.size(); n++) {
            const int cell = targets[n], y = cell / w, x = cell % w, there = above.place[y / 2 * above.w + x / 2];
            if (level.depth[cell] < INHERITED[number] || there < 0) continue;
            const int sy = above.source[there] / above.w * 2 + y % 2, sx = above.source[there] % above.w * 2 + x % 2;
            for (const auto& [dy, dx] : NEARBY) {
                if (!inside(sy + dy, sx + dx) || !valid[(sy + dy) * w + sx + dx]) continue;
                source[n] = (sy + dy) * w + sx + dx;
                break;
            }
        }
    }

    // One step: every target takes the cheapest of its own source, the neighbours' at `jump`, and some guesses.
    void improve(int jump, int guesses, int counter, bool fresh) {
        Ints better(source), lower(cost);
        std::array<int, 25 * CHANNELS> mine{}, share{};
        for (std::size_t i = 0; i < targets.size(); i++) {
            const int cell = targets[i], y0 = cell / w, x0 = cell % w;
            int total = 0;
            for (int n = 0; n < 25; n++) {
                const int y = y0 + n / 5 - 2, x = x0 + n % 5 - 2;
                const int weight = inside(y, x) ? WEIGHTS[std::min<int>(level.depth[y * w + x], 3)] : 0;
                total += weight;
                for (int c = 0; c < CHANNELS; c++) {
                    mine[n * CHANNELS + c] = inside(y, x) ? level.values[(y * w + x) * CHANNELS + c] : 0;
                    share[n * CHANNELS + c] = weight;
                }
            }
            const int affinity = (total * AFFINITY + 8) / 16 + LEAST_AFFINITY;
            const std::int8_t* asked = &level.query[level.patch(y0, x0)];
            // How far the sources of the four neighbours are from them; 0, as never here, if they copy nothing.
            const auto away = [&](bool inside, int there) {
                return inside && place[there] >= 0 ? source[place[there]] - there : 0;
            };
            const std::array beside = {away(x0 > 0, cell - 1), away(x0 < w - 1, cell + 1), away(y0 > 0, cell - w),
                                       away(y0 < h - 1, cell + w)};
            const int own = source[i];
            // What seams and repeats cost.
            const auto apart = [&](int offer) {
                const int alone = int(4 - std::count(beside.begin(), beside.end(), offer - cell));
                const int others = uses[offer] - (offer == own);
                const int crowded = std::clamp(others, 0, OFTEN) + CROWD * std::clamp(others - fair, 0, MOST);
                return affinity * (SEAM * alone + REPEAT * crowded);
            };
            int best = own, bare = cost[i], least = fresh ? INT32_MAX : bare + apart(best);
            int reach = counter % 2 ? std::max(1, radius / 4) : radius;  // every second step looks nearer
            for (int candidate = fresh ? -1 : 0; candidate < (jump ? 11 + guesses : 0); candidate++) {
                int sy = best / w, sx = best % w;
                if (candidate >= 0 && candidate < 8) {
                    const int n = candidate < 4 ? candidate : candidate + 1;
                    const int dy = (n / 3 - 1) * jump, dx = (n % 3 - 1) * jump;
                    if (!inside(y0 + dy, x0 + dx) || place[(y0 + dy) * w + x0 + dx] < 0) continue;
                    const int there = source[place[(y0 + dy) * w + x0 + dx]];
                    sy = there / w - dy, sx = there % w - dx;
                } else if (candidate == 8) {
                    sy = y0, sx = int(pseudo_random(cell, counter * 16 + STRAIGHT).first % w);
                } else if (candidate == 9) {
                    sy = int(pseudo_random(cell, counter * 16 + STRAIGHT).second % h), sx = x0;
                } else if (candidate == 10) {
                    const std::int64_t n = pseudo_random(cell, counter * 16 + ALIKE).first * std::int64_t(targets.size()) / 65521;
                    sy = source[n] / w - targets[n] / w + y0, sx = source[n] % w - targets[n] % w + x0;
                } else if (candidate > 10) {
                    const auto [a, b] = pseudo_random(cell, counter * 16 + candidate - 11);
                    sy += int(a % (2 * reach + 1)) - reach, sx += int(b % (2 * reach + 1)) - reach;
                    reach = std::max(1, reach / 2);
                }
                if (!inside(sy, sx) || !valid[sy * w + sx]) continue;
                if (sy * w + sx == best && candidate >= 0) continue;
                const std::int8_t* offered = &level.key[level.patch(sy, sx)];
                int product = 0;
                for (int d = 0; d < level.keys; d++) product += asked[d] * offered[d];
                const int extra = apart(sy * w + sx);
                int price = affinity * std::max(UNIT * UNIT - product, 0) + extra;
                for (int r = 0; r < 5 && price < least; r++) {
                    const std::uint8_t* row = &level.values[((sy + r - 2) * w + sx - 2) * CHANNELS];
                    for (int t = 0; t < 25; t++) {
                        const int difference = row[t] - mine[r * 25 + t];
                        price += share[r * 25 + t] * difference * difference;
                    }
                }
                if (price < least) least = price, bare = price - extra, best = sy * w + sx;
            }
            better[i] = best, lower[i] = bare;
        }
        source = better, cost = lower;
    }

    // Draws `some` cells as the means of what those around copy to there; the cheaper the more they say.
    void draw(const Ints& some) {
        std::int64_t sum = 0;
        for (const int price : cost) sum += price;
        const std::int64_t mean = std::max<std::int64_t>(1, sum / std::int64_t(cost.size()));
        std::vector<std::int64_t> votes;
        for (const int price : cost) votes.push_back(std::int64_t(1) << (16 - std::min<std::int64_t>(16, std::int64_t(price) * DECISION / mean)));
        Bytes drawn(level.values);
        for (const int cell : some) {
            const int y0 = cell / w, x0 = cell % w;
            std::int64_t total = 0;
            std::array<std::int64_t, CHANNELS> sums{};
            for (int y = std::max(0, y0 - 2); y < std::min(h, y0 + 3); y++)
                for (int x = std::max(0, x0 - 2); x < std::min(w, x0 + 3); x++) {
                    const int n = place[y * w + x];
                    if (n < 0) continue;
                    total += votes[n];
                    const std::uint8_t* there = &level.values[(source[n] - (y - y0) * w - (x - x0)) * CHANNELS];
                    for (int c = 0; c < CHANNELS; c++) sums[c] += votes[n] * there[c];
                }
            for (int c = 0; c < CHANNELS; c++) drawn[cell * CHANNELS + c] = std::uint8_t((2 * sums[c] + total) / (2 * total));
        }
        level.values = drawn;
    }
};

// a / b, rounded down; b > 0.
template <typename T>
T floor_div(T a, T b) { return a / b - (a % b < 0); }

struct Place {
    int y, x;
};

// How far beside their sources cells copy, down and to the right, in low-resolution pixels / FINE. A region, hole cells
// side by side of one shift (never 0; 0 where known), moves as a whole, to where what its source has beyond its border
// differs least from what lies there: first from known cells alone, then from what other regions copy after their move
// before. Parts of a pixel are those of the parabola through the costs.
class Alignment {
public:
    std::vector<Place> moves;  // of every cell

    Alignment(const Small& small, const Ints& shift)
        : moves(shift.size(), {0, 0}), shift(shift), w(small.w / CELL), columns(small.w), region(shift.size(), -1) {
        const int size = small.h * small.w;
        const float* image = small.image.data();
        for (int i = 0; i < size; i++)
            grey.push_back(std::int16_t(grey_of(image, i, size)));
        for (int cell = 0; cell < int(shift.size()); cell++)
            if (shift[cell] != 0 && region[cell] < 0) flood(cell);
        std::vector<Place> at(regions.size(), {0, 0});
        for (int turn = 0; turn < NUDGES; turn++) {
            const std::vector<Place> before(at);
            for (std::size_t r = 0; r < regions.size(); r++) at[r] = move(regions[r], before[r], turn, before);
        }
        for (std::size_t cell = 0; cell < shift.size(); cell++) {
            if (shift[cell] == 0) continue;
            const Place whole = at[region[cell]], part = regions[region[cell]].fine;
            moves[cell] = {whole.y * FINE + part.y, whole.x * FINE + part.x};
        }
    }

private:
    using Costs = std::array<std::int64_t, MOVES * MOVES>;

    struct Region {
        int own;      // shift
        Ints beyond;  // the cells on the other side of its border
        Costs alone;  // what known cells say
        Place fine;
    };

    const Ints& shift;
    const int w, columns;
    Ints region;
    std::vector<Region> regions;
    std::vector<std::int16_t> grey;

    // The region of `cell`.
    void flood(int cell) {
        Region found{shift[cell], {}, {}, {}};
        Ints open{cell};
        region[cell] = int(regions.size());
        while (!open.empty()) {
            const int p = open.back(), x = p % w;
            open.pop_back();
            const auto visit = [&](bool inside, int q) {
                if (!inside) return;
                if (shift[q] != found.own) found.beyond.push_back(q);
                else if (region[q] < 0) region[q] = int(regions.size()), open.push_back(q);
            };
            visit(p >= w, p - w), visit(x > 0, p - 1), visit(x < w - 1, p + 1), visit(p + w < int(shift.size()), p + w);
        }
        for (int i = 0; i < MOVES * MOVES; i++) {
            const int away = std::abs(i / MOVES - NUDGE) + std::abs(i % MOVES - NUDGE);
            found.alone[i] = STAY * std::int64_t(found.beyond.size()) * away;
        }
        regions.push_back(std::move(found));
    }

    // Where a region moves from `now`, the place it has in `before`, and what of a pixel is left.
    Place move(Region& of, Place now, int turn, const std::vector<Place>& before) {
        Costs costs(of.alone);
        for (const int q : of.beyond) {
            if ((shift[q] == 0) != (turn == 0)) continue;
            const int there = q + of.own, copied = q + shift[q];
            const Place moved = turn ? before[region[q]] : Place{0, 0};
            compare(costs, (there / w * CELL - NUDGE) * columns + there % w * CELL - NUDGE,
                    (copied / w * CELL + moved.y) * columns + copied % w * CELL + moved.x);
        }
        if (turn == 0) of.alone = costs;
        int best = (now.y + NUDGE) * MOVES + now.x + NUDGE;
        for (int i = 0; i < MOVES * MOVES; i++)
            if (costs[i] < costs[best]) best = i;
        const auto part = [&](int place, int step) {
            if (place == 0 || place == MOVES - 1) return 0;
            const std::int64_t lower = costs[best - step] - costs[best], upper = costs[best + step] - costs[best];
            return lower > 0 && upper > 0 ? int(floor_div((lower - upper) * (FINE / 2), lower + upper)) : 0;
        };
        of.fine = {part(best / MOVES, MOVES), part(best % MOVES, 1)};
        return {best / MOVES - NUDGE, best % MOVES - NUDGE};
    }

    // Adds to `costs` how much a cell, from pixel `at` on, differs from that at `from` on, and all within MOVES.
    void compare(Costs& costs, int from, int at) const {
        for (int i = 0; i < MOVES; i++, from += columns) {
            std::array<int, MOVES + 1> sums{};  // one more than needed, as many as fill a vector register
            for (int v = 0; v < CELL; v++) {
                for (int u = 0; u < CELL; u++) {
                    const std::int16_t wanted = grey[at + v * columns + u], *row = &grey[from + v * columns + u];
                    for (int t = 0; t < MOVES + 1; t++) {
                        const auto difference = std::int16_t(row[t] - wanted);
                        sums[t] += difference * difference;
                    }
                }
            }
            for (int t = 0; t < MOVES; t++) costs[i * MOVES + t] += sums[t];
        }
    }
};

// For every cell where in the photo what it copies begins; empty where there is nothing to copy.
inline std::vector<Place> find(Level level, const Small& small) {
    Level middle = coarser(level), coarsest = coarser(middle);
    std::optional<Found> found;
    Level* levels[] = {&level, &middle, &coarsest};
    for (const int number : {2, 1, 0}) {
        Search search(*levels[number], number, found ? &*found : nullptr);
        if (search.found) found = search.found;
    }
    std::vector<Place> result;
    if (!found) return result;
    Ints shift;
    for (int cell = 0; cell < level.h * level.w; cell++)
        shift.push_back(level.known[cell] ? 0 : found->source[found->place[cell]] - cell);
    const Alignment alignment(small, shift);
    const auto pixels = [&](int cells, int move) {
        return cells * (CELL * small.halves / 2) + floor_div(move * small.halves + FINE, 2 * FINE);
    };
    for (int cell = 0; cell < level.h * level.w; cell++) {
        const int from = cell + shift[cell];
        const Place move = alignment.moves[cell];
        result.push_back({pixels(from / level.w, move.y), pixels(from % level.w, move.x)});
    }
    return result;
}

// What copied cells lack (h, w, 3) of a low band in which what is copied from different places joins: it has the
// differences between neighbours that copies have, and in part the network's colours, the less the smoother their
// source is. A screened Poisson equation, solved by over-relaxation, in each sweep first the cells of even row plus
// column, then the others. `begin` is what `find` found, `side` a cell's in pixels.
inline Floats correction(const Floats& low, const std::vector<Place>& begin, const Level& level, int side) {
    const int h = level.h, w = level.w, cells = h * w;
    Floats colours(cells * 3), wanted(cells * 3), share(cells);
    for (int i = 0; i < cells * 3; i++) colours[i] = low[i % 3 * cells + i / 3];
    if (begin.empty()) return colours;
    Floats joined(colours), copied(colours);
    // The low band, bilinear, `dy` and `dx` cells beside where a cell copies.
    const auto sample = [&](int cell, int dy, int dx) {
        const float y = float(begin[cell].y) / side + dy, x = float(begin[cell].x) / side + dx;
        const int top = int(y), left = int(x);
        const float fy = y - top, fx = x - left;
        const float* upper = &colours[(top * w + left) * 3];
        const float* lower = fy > 0 ? upper + 3 * w : upper;
        const int right = fx > 0 ? 3 : 0;
        std::array<float, 3> result;
        for (int c = 0; c < 3; c++) {
            result[c] = upper[c] * ((1 - fx) * (1 - fy)) + upper[right + c] * (fx * (1 - fy)) + lower[c] * ((1 - fx) * fy)
                + lower[right + c] * (fx * fy);
        }
        return result;
    };
    for (int cell = 0; cell < cells; cell++) {
        if (level.known[cell]) continue;
        const auto there = sample(cell, 0, 0);
        std::copy(there.begin(), there.end(), &copied[cell * 3]);
    }
    const auto neighbours = [&](int cell, auto&& visit) {
        const int y = cell / w, x = cell % w;
        if (y > 0) visit(-w);
        if (x > 0) visit(-1);
        if (x < w - 1) visit(1);
        if (y < h - 1) visit(w);
    };
    for (int cell = 0; cell < cells; cell++) {
        if (level.known[cell]) continue;
        const float near = std::clamp((4 - level.depth[cell]) / 2.5f, 0.0f, 1.0f);
        float rough = 0;
        neighbours(cell, [&](int step) {
            const int other = cell + step, dy = step / w, dx = step % w;
            const auto onward = sample(cell, dy, dx);
            const auto back = level.known[other] ? onward : sample(other, -dy, -dx);  // not used there
            share[cell] += 1;
            const auto network = [&](int n) {
                const int y = std::clamp(cell / w + n * dy, 0, h - 1), x = std::clamp(cell % w + n * dx, 0, w - 1);
                return &colours[(y * w + x) * 3];
            };
            const float *before = network(-2), *after = network(3);
            std::array<float, 3> mean, jump;
            float squares = 0, size = 0, seen = 0;
            for (int c = 0; c < 3; c++) {
                const float here = copied[cell * 3 + c] - onward[c], there = back[c] - copied[other * 3 + c];
                mean[c] = level.known[other] ? here : (here + there) / 2;
                jump[c] = level.known[other] ? 0 : copied[cell * 3 + c] - copied[other * 3 + c] - mean[c];
                squares += here * here;
                size += jump[c] * jump[c];
                seen += (before[c] - after[c]) * jump[c];
            }
            rough += squares;
            // Neither source has an edge where they meet: it is kept where the network shows one.
            const float part = std::clamp(2 * seen, 0.0f, size) * size / (size * size + EDGE);
            for (int c = 0; c < 3; c++) wanted[cell * 3 + c] += mean[c] + part * jump[c];
        });
        const float trust = (4 * near * near + TRUST) * (rough / (rough + SMOOTH));
        share[cell] += trust;
        for (int c = 0; c < 3; c++) wanted[cell * 3 + c] += trust * colours[cell * 3 + c];
    }
    for (int sweep = 0; sweep < 2 * SWEEPS; sweep++) {
        for (int cell = 0; cell < cells; cell++) {
            if (level.known[cell] || (cell / w + cell % w) % 2 != sweep % 2) continue;
            const float gain = RELAXATION / share[cell];
            for (int c = 0; c < 3; c++) {
                float around = 0, &here = joined[cell * 3 + c];
                neighbours(cell, [&](int step) { around += joined[(cell + step) * 3 + c]; });
                here = (1 - RELAXATION) * here + gain * (wanted[cell * 3 + c] + around);
            }
        }
    }
    for (int i = 0; i < cells * 3; i++) joined[i] -= copied[i];
    return joined;
}

// Hole pixels of `target`, each heard from its own cell of `side` pixels and the nearest neighbours in both directions,
// through triangular windows twice as wide, each continuing what it copies; plus `lacking`, enlarged.
inline void copy(Bytes& target, const std::uint8_t* image, const std::uint8_t* hole, int height, int width,
                 const std::vector<Place>& begin, const Level& level, const Floats& lacking, int side) {
    const int h = level.h, w = level.w, half = side / 2;
    Floats ramp(2 * side);
    for (int i = 0; i < 2 * side; i++) ramp[i] = float(2 * side - std::abs(2 * i + 1 - 2 * side));  // whole: sums are exact
    // The two of `length` cells that a pixel lies between, and what the second counts.
    const auto between = [&](int at, int length) {
        const int first = floor_div(2 * at + 1 - side, 2 * side), rest = 2 * at + 1 - side - 2 * side * first;
        return std::tuple(std::max(first, 0), std::min(first + 1, length - 1), float(rest) / (2 * side));
    };
    for (int y = 0; y < height; y++) {
        const int cy = y / side, v = y % side, vertical = v < half ? -1 : 1;
        const auto [y0, y1, fy] = between(y, h);
        for (int x = 0; x < width; x++) {
            const std::size_t pixel = std::size_t(y) * width + x;
            if (!hole[pixel]) continue;
            const int cx = x / side, u = x % side, horizontal = u < half ? -1 : 1;
            std::array<float, 3> total{};
            float norm = 0;
            for (int entry = 0; entry < 4 && !begin.empty(); entry++) {
                const int dy = entry & 2 ? vertical : 0, dx = entry & 1 ? horizontal : 0;
                if (cy + dy < 0 || cy + dy >= h || cx + dx < 0 || cx + dx >= w) continue;
                const int cell = (cy + dy) * w + cx + dx;
                if (level.known[cell]) continue;
                const int top = begin[cell].y - dy * side, left = begin[cell].x - dx * side;  // continued from there
                const int sy = floor_div(top + half, side), sx = floor_div(left + half, side);  // the nearest cell
                if (sy < 0 || sy >= h || sx < 0 || sx >= w || !level.known[sy * w + sx]) continue;
                const float share = ramp[half + v - dy * side] * ramp[half + u - dx * side];
                const std::uint8_t* there = image + (std::size_t(top + v) * width + left + u) * 3;
                norm += share;
                for (int c = 0; c < 3; c++) total[c] += share * there[c];
            }
            const auto [x0, x1, fx] = between(x, w);
            for (int c = 0; c < 3; c++) {
                const float* left = &lacking[x0 * 3 + c];
                const float* right = &lacking[x1 * 3 + c];
                const float above = left[y0 * w * 3] * 255 * (1 - fx) + right[y0 * w * 3] * 255 * fx;
                const float below = left[y1 * w * 3] * 255 * (1 - fx) + right[y1 * w * 3] * 255 * fx;
                const float value = total[c] / std::max(norm, 1e-4f) + (above * (1 - fy) + below * fy);
                target[pixel * 3 + c] = std::uint8_t(std::clamp(value, 0.0f, 255.0f) + 0.5f);
            }
        }
    }
}

// Brings hole pixels of `target` nearer to the known ones beside them, so that no edge is seen there; but for those
// that are spared, beside a rim.
inline void mend(Bytes& target, const Bytes& hole, int height, int width, const Small& small) {
    const Bytes before = target;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const std::size_t pixel = std::size_t(y) * width + x;
            if (!hole[pixel] || small.spared[2 * y / small.halves * small.w + 2 * x / small.halves]) continue;
            std::array<std::int64_t, 4> known{}, own{};  // weighted sums, and of the weights
            int k = MENDED[1];
            for (int v = std::max(0, y - 2); v <= std::min(height - 1, y + 2); v++) {
                for (int u = std::max(0, x - 2); u <= std::min(width - 1, x + 2); u++) {
                    const std::size_t other = std::size_t(v) * width + u;
                    const int distance = (v - y) * (v - y) + (u - x) * (u - x), share = BESIDE[distance];
                    if (hole[other] && distance > 2) continue;
                    auto& sums = hole[other] ? own : known;
                    for (int c = 0; c < 3; c++) sums[c] += share * before[other * 3 + c];
                    sums[3] += share;
                    if (!hole[other] && distance <= 2) k = MENDED[0];
                }
            }
            if (!known[3]) continue;
            const std::int64_t pairs = known[3] * own[3];
            for (int c = 0; c < 3; c++) {
                const std::int64_t moved = k * (known[c] * own[3] - own[c] * known[3]);
                const std::int64_t value = ((10 * before[pixel * 3 + c] + 5) * pairs + moved) / (10 * pairs);
                target[pixel * 3 + c] = std::uint8_t(std::clamp<std::int64_t>(value, 0, 255));
            }
        }
    }
}

}  // namespace detail

// Around the holes, in the order in which they are to be filled; each pixel of `hole` (height, width) that is not 0, at
// least one, is in the `holes` of one.
inline std::vector<Window> windows(const Bytes& hole, int height, int width) {
    return detail::Holes(hole, height, width).windows();
}

// The one window around all holes whose grid is h x w, for a core that takes no other.
inline Window window(const Bytes& hole, int height, int width, int h, int w) {
    return detail::Holes(hole, height, width).window(h, w);
}

namespace detail {

inline void check(const Bytes& image, const Bytes& hole, int height, int width) {
    const std::size_t pixels = std::size_t(height) * width;
    if (height < 1 || width < 1 || image.size() != 3 * pixels) throw std::invalid_argument("image is not of the size given");
    if (hole.size() != pixels) throw std::invalid_argument("mask is not of the image's size");
}

// What a box shows of a picture `width` pixels wide, of so many channels.
inline Bytes cut(const Bytes& picture, int width, int channels, const Box& box) {
    Bytes part;
    for (int y = box.top; y < box.bottom; y++) {
        const auto line = picture.begin() + std::ptrdiff_t(y) * width * channels;
        part.insert(part.end(), line + box.left * channels, line + box.right * channels);
    }
    return part;
}

inline void fill(Bytes& image, const Bytes& hole, int width, const Small& small, const Answer& answer) {
    const auto [top, bottom, left, right] = small.shown;
    const Bytes part = cut(image, width, 3, small.shown), part_hole = cut(hole, width, 1, small.shown);
    const int h = bottom - top, w = right - left, side = small.halves * CELL / 2;
    Bytes filled(part);
    const Level level = finest(small, answer);
    const std::vector<Place> begin = find(level, small);
    const Floats lacking = correction(answer.low, begin, level, side);
    copy(filled, part.data(), part_hole.data(), h, w, begin, level, lacking, side);
    mend(filled, part_hole, h, w, small);
    for (int y = 0; y < h; y++)
        std::copy_n(&filled[std::size_t(y) * w * 3], w * 3, &image[(std::size_t(top + y) * width + left) * 3]);
}

}  // namespace detail

// What the network is given of a window of `image` (height, width, 3) RGB, where `hole` (height, width) is 0.
inline Small shrink(const Bytes& image, const Bytes& hole, int height, int width, const Window& window) {
    detail::check(image, hole, height, width);
    const Bytes part = detail::cut(image, width, 3, window.shown), part_hole = detail::cut(hole, width, 1, window.shown);
    Small small = detail::boxes(part, part_hole, window);
    detail::hide(small);
    return small;
}

// `image` filled where `hole` is not 0 in the window of `small`, from what the network answered to that.
inline Bytes complete(const Bytes& image, const Bytes& hole, int height, int width, const Small& small, const Answer& answer) {
    detail::check(image, hole, height, width);
    Bytes result(image);
    detail::fill(result, hole, width, small, answer);
    return result;
}

// `image` (height, width, 3) RGB filled where `hole` (height, width) is not 0, with a core of any size, window by window; or with
// one that takes a grid of h x w alone, by that.
inline Bytes inpaint(const Core& core, const Bytes& image, const Bytes& hole, int height, int width, int h = 0, int w = 0) {
    detail::check(image, hole, height, width);
    Bytes result(image), open(hole);
    if (std::all_of(hole.begin(), hole.end(), [](int bit) { return bit == 0; })) return result;
    for (const Window& window : h ? std::vector{window(hole, height, width, h, w)} : windows(hole, height, width)) {
        const Small small = shrink(result, open, height, width, window);
        detail::fill(result, open, width, small, core(small));
        const Box& holes = window.holes;
        for (int y = holes.top; y < holes.bottom; y++)  // what one window has filled is known to the next
            std::fill_n(&open[std::size_t(y) * width + holes.left], holes.right - holes.left, 0);
    }
    return result;
}

}  // namespace rethined
