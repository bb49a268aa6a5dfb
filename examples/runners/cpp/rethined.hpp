// Fills holes in photographs of any size with a rethined core, whatever runs that: C++17, the standard library alone.
//
// To be read beside rethined/search.py and rethined/upscale.py, which do the same in Python. Choices depend on integers
// alone, so that sources are the same everywhere; where floats are rounded to integers, the casts to and from double
// keep compilers from rounding otherwise.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace rethined {

using Bytes = std::vector<std::uint8_t>;
using Ints = std::vector<int>;
using Floats = std::vector<float>;

// What the network sees of a photo.
struct Small {
    int scale, h, w;
    Floats image;   // (3, h, w) in [0, 1], 0 in holes
    Floats mask;    // (h, w), 1 = hole
    Floats detail;  // (6, h / 8, w / 8)
};

// What it answers: low (3, h / 4, w / 4), query and key (32, h / 8, w / 8).
struct Answer {
    Floats low, query, key;
};

using Core = std::function<Answer(const Small&)>;

namespace detail {

constexpr int STRIDE = 32;   // of the network: both sides of its image are multiples of this
constexpr int PATCH = 8;     // side of what a query and a key describe, in low-resolution pixels
constexpr int CELL = 4;      // side of what is copied at a time, in low-resolution pixels
constexpr int CHANNELS = 5;  // of a cell: R, G, B, differences across, differences down
constexpr int KEYS = 32;     // width of a query or a key
constexpr int WHITE = 120;   // what 1 is in colours
constexpr int UNIT = 127;    // what 1 is in queries and keys
constexpr std::array WEIGHTS = {8, 4, 2, 1};  // what a cell counts in a comparison, by its depth in the hole
constexpr int AFFINITY = 5, LEAST_AFFINITY = 6;  // what query and key count: in sixteenths of all compared, and beside
constexpr int SEAM = 100;  // what it costs that a neighbour does not go on with the same source
constexpr std::array<std::array<int, 4>, 4> JUMPS = {{{8, 4, 2, 1}, {2, 1}, {2, 1}, {2, 1}}};  // of each round; 0: none
constexpr std::array GUESSES = {3, 6, 12};    // by level, finest first
constexpr std::array INHERITED = {3, 6, 0};   // by level: how deep in the hole the coarser level has its say
constexpr int DECISION = 8;                   // how strongly votes prefer what fits
constexpr std::array<std::array<int, 2>, 9> NEARBY = {
    {{0, 0}, {0, -1}, {0, 1}, {-1, 0}, {1, 0}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}}};
constexpr float TRUST = 0.02f, RELAXATION = 1.7f;  // of `correction`
constexpr int SWEEPS = 20;
constexpr int DEEPEST = 7;  // depths beyond are treated alike

inline int padded(int side, int scale) { return (side + scale * STRIDE - 1) / (scale * STRIDE) * STRIDE; }

// Means of boxes of scale x scale pixels on a grid of h x w, 0 in holes and beyond the border; and what they hold.
inline Small boxes(const std::uint8_t* image, const std::uint8_t* hole, int height, int width, int scale, int h, int w) {
    Small small{scale, h, w, Floats(3 * h * w), Floats(h * w, 1), Floats(6 * (h / PATCH) * (w / PATCH))};
    const int half = scale / 2, patches = w / PATCH, size = h / PATCH * patches;
    const float gain = float(1.0 / (double(scale) * scale * 255));
    const float share = gain * float(scale) / float(std::max(2 * half, 1));
    for (int y = 0; y < std::min(h, height / scale); y++) {
        for (int x = 0; x < std::min(w, width / scale); x++) {
            std::array<int, 3> sums{}, across{}, down{};
            bool any = false;
            for (int v = 0; v < scale && !any; v++) {
                const std::size_t begin = std::size_t(y * scale + v) * width + x * scale;
                const int vertical = v < half ? 1 : v >= scale - half ? -1 : 0;
                for (int u = 0; u < scale; u++) {
                    any = any || hole[begin + u];
                    const int horizontal = u < half ? 1 : u >= scale - half ? -1 : 0;
                    for (int c = 0; c < 3; c++) {
                        const int value = image[(begin + u) * 3 + c];
                        sums[c] += value, across[c] += horizontal * value, down[c] += vertical * value;
                    }
                }
            }
            if (any) continue;
            small.mask[y * w + x] = 0;
            const int patch = y / PATCH * patches + x / PATCH;
            for (int c = 0; c < 3; c++) {
                small.image[(c * h + y) * w + x] = float(sums[c]) * gain;
                const float a = float(across[c]) * share, b = float(down[c]) * share;
                small.detail[c * size + patch] += a * a, small.detail[(c + 3) * size + patch] += b * b;
            }
        }
    }
    for (float& value : small.detail) value = std::sqrt(value / (PATCH * PATCH));
    return small;
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
    std::vector<std::int8_t> query, key;  // (h / 2, w / 2, KEYS) at the finest level, (h, w, KEYS) at others
    bool finest;

    int patch(int y, int x) const { return (finest ? y / 2 * (w / 2) + x / 2 : y * w + x) * KEYS; }
};

// floor(a * b + 0.5) in single precision, never fused into one operation.
inline int rounded(float a, float b) { return int(std::floor(float(double(float(double(a) * b)) + 0.5))); }

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
    const int h = small.h / CELL, w = small.w / CELL, cells = h * w, area = small.h * small.w;
    Level level{h, w, Bytes(cells * CHANNELS), Bytes(cells), {}, {}, {}, true};
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
        const int patches = cells / 4;
        std::vector<std::int8_t> result(patches * KEYS);
        for (int d = 0; d < KEYS; d++)
            for (int i = 0; i < patches; i++)  // halves to even
                result[i * KEYS + d] = std::int8_t(std::nearbyint(vectors[d * patches + i] * float(UNIT)));
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
    Level result{h, w, means(level.values, h, w, CHANNELS), Bytes(h * w), {}, level.query, level.key, false};
    for (int cell = 0; cell < h * w; cell++) {
        const std::uint8_t* at = &level.known[cell / w * 4 * w + cell % w * 2];
        result.known[cell] = at[0] & at[1] & at[2 * w] & at[2 * w + 1];
    }
    result.depth = depths(result.known, h, w);
    if (!level.finest) {
        result.query = means(level.query, h, w, KEYS);
        result.key = means(level.key, h, w, KEYS);
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
        : level(level), number(number), h(level.h), w(level.w), valid(h * w), place(h * w, -1) {
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
            source.push_back(choices[hash(cell, 64 * 64 + number) * 17364 % 65521 * std::int64_t(choices.size()) / 65521]);
        radius = std::max(h, w) / (above ? 4 : 1);
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
    int radius = 0;

    bool inside(int y, int x) const { return y >= 0 && y < h && x >= 0 && x < w; }

    bool beside(int cell) const {
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                const int y = cell / w + dy, x = cell % w + dx;
                if (inside(y, x) && !level.known[y * w + x]) return true;
            }
        return false;
    }

    // Of which both pseudo-random numbers of a cell are made: times 17364 and 31337, modulo 65521.
    static std::int64_t hash(int cell, int number) {
        return (std::int64_t(cell) * 7919 + std::int64_t(number) * 104729 + 12345) % 65521;
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
            const auto seams = [&](int offer) {
                return affinity * SEAM * int(4 - std::count(beside.begin(), beside.end(), offer - cell));
            };
            int best = source[i], bare = cost[i], least = fresh ? INT32_MAX : bare + seams(best), reach = radius;
            for (int candidate = fresh ? -1 : 0; candidate < (jump ? 8 + guesses : 0); candidate++) {
                int sy = best / w, sx = best % w;
                if (candidate >= 0 && candidate < 8) {
                    const int n = candidate < 4 ? candidate : candidate + 1;
                    const int dy = (n / 3 - 1) * jump, dx = (n % 3 - 1) * jump;
                    if (!inside(y0 + dy, x0 + dx) || place[(y0 + dy) * w + x0 + dx] < 0) continue;
                    const int there = source[place[(y0 + dy) * w + x0 + dx]];
                    sy = there / w - dy, sx = there % w - dx;
                } else if (candidate >= 8) {
                    const std::int64_t a = hash(cell, counter * 16 + candidate - 8);
                    sy += int(a * 17364 % 65521 % (2 * reach + 1)) - reach;
                    sx += int(a * 31337 % 65521 % (2 * reach + 1)) - reach;
                    reach = std::max(1, reach / 2);
                }
                if (!inside(sy, sx) || !valid[sy * w + sx]) continue;
                if (sy * w + sx == best && candidate >= 0) continue;
                const std::int8_t* offered = &level.key[level.patch(sy, sx)];
                int product = 0;
                for (int d = 0; d < KEYS; d++) product += asked[d] * offered[d];
                const int extra = seams(sy * w + sx);
                int price = affinity * (UNIT * UNIT - product) + extra;
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

// For every cell the cell it copies, known ones themselves; empty where there is nothing to copy.
inline Ints find(Level level) {
    Level middle = coarser(level), coarsest = coarser(middle);
    std::optional<Found> found;
    Level* levels[] = {&level, &middle, &coarsest};
    for (const int number : {2, 1, 0}) {
        Search search(*levels[number], number, found ? &*found : nullptr);
        if (search.found) found = search.found;
    }
    Ints result;
    if (!found) return result;
    for (int cell = 0; cell < level.h * level.w; cell++)
        result.push_back(level.known[cell] ? cell : found->source[found->place[cell]]);
    return result;
}

// What copied cells lack (h, w, 3) of a low band in which what is copied from different places joins: it has the
// differences between neighbours that copies have, and in part the network's colours. A screened Poisson equation,
// solved by over-relaxation, in each sweep first the cells of even row plus column, then the others.
inline Floats correction(const Floats& low, const Ints& source, const Level& level) {
    const int h = level.h, w = level.w, cells = h * w;
    Floats colours(cells * 3), wanted(cells * 3), share(cells);
    for (int i = 0; i < cells * 3; i++) colours[i] = low[i % 3 * cells + i / 3];
    if (source.empty()) return colours;
    Floats joined(colours);
    const auto neighbours = [&](int cell, auto&& visit) {
        const int y = cell / w, x = cell % w;
        if (y > 0) visit(-w);
        if (x > 0) visit(-1);
        if (x < w - 1) visit(1);
        if (y < h - 1) visit(w);
    };
    for (int cell = 0; cell < cells; cell++) {
        if (level.known[cell]) continue;
        const float near = std::clamp((4 - level.depth[cell]) / 2.5f, 0.0f, 1.0f), trust = 4 * near * near + TRUST;
        const int own = source[cell];
        share[cell] = trust;
        for (int c = 0; c < 3; c++) wanted[cell * 3 + c] = trust * colours[cell * 3 + c];
        neighbours(cell, [&](int step) {
            const int other = source[cell + step];
            share[cell] += 1;
            for (int c = 0; c < 3; c++) {
                const float here = colours[own * 3 + c] - colours[(own + step) * 3 + c];
                const float there = colours[(other - step) * 3 + c] - colours[other * 3 + c];
                wanted[cell * 3 + c] += level.known[cell + step] ? here : (here + there) / 2;
            }
        });
    }
    for (int sweep = 0; sweep < 2 * SWEEPS; sweep++) {
        for (int cell = 0; cell < cells; cell++) {
            if (level.known[cell] || (cell / w + cell % w) % 2 != sweep % 2) continue;
            for (int c = 0; c < 3; c++) {
                float total = wanted[cell * 3 + c], &here = joined[cell * 3 + c];
                neighbours(cell, [&](int step) { total += joined[(cell + step) * 3 + c]; });
                here += RELAXATION * (total / share[cell] - here);
            }
        }
    }
    for (int i = 0; i < cells * 3; i++) joined[i] -= colours[source[i / 3] * 3 + i % 3];
    return joined;
}

// Hole pixels of `target`, each heard from its own cell of `side` pixels and the nearest neighbours in both directions,
// through squared-sine windows twice as wide, each continuing what it copies; plus `lacking`, enlarged.
inline void copy(Bytes& target, const std::uint8_t* image, const std::uint8_t* hole, int height, int width,
                 const Ints& source, const Level& level, const Floats& lacking, int side) {
    const int h = level.h, w = level.w, half = side / 2;
    Floats ramp(2 * side);
    for (int i = 0; i < 2 * side; i++) ramp[i] = float(std::pow(std::sin(3.14159265358979323846 * (i + 0.5) / (2 * side)), 2));
    for (int y = 0; y < height; y++) {
        const int cy = y / side, v = y % side, vertical = v < half ? -1 : 1;
        const float above = (y + 0.5f) / side - 0.5f, fy = above - std::floor(above);
        const int y0 = std::max(0, int(std::floor(above))), y1 = std::min(h - 1, int(std::floor(above)) + 1);
        for (int x = 0; x < width; x++) {
            const std::size_t pixel = std::size_t(y) * width + x;
            if (!hole[pixel]) continue;
            const int cx = x / side, u = x % side, horizontal = u < half ? -1 : 1;
            std::array<float, 3> total{};
            float norm = 0;
            for (int entry = 0; entry < 4 && !source.empty(); entry++) {
                const int dy = entry & 2 ? vertical : 0, dx = entry & 1 ? horizontal : 0;
                if (cy + dy < 0 || cy + dy >= h || cx + dx < 0 || cx + dx >= w) continue;
                const int cell = (cy + dy) * w + cx + dx;
                if (level.known[cell]) continue;
                const int sy = source[cell] / w - dy, sx = source[cell] % w - dx;
                if (sy < 0 || sy >= h || sx < 0 || sx >= w || !level.known[sy * w + sx]) continue;
                const float share = ramp[half + v - dy * side] * ramp[half + u - dx * side];
                const std::uint8_t* there = image + (std::size_t(sy * side + v) * width + sx * side + u) * 3;
                norm += share;
                for (int c = 0; c < 3; c++) total[c] += share * there[c];
            }
            const float left = (x + 0.5f) / side - 0.5f, fx = left - std::floor(left);
            const int x0 = std::max(0, int(std::floor(left))), x1 = std::min(w - 1, int(std::floor(left)) + 1);
            for (int c = 0; c < 3; c++) {
                const auto column = [&](int x) {
                    return lacking[(y0 * w + x) * 3 + c] * (1 - fy) + lacking[(y1 * w + x) * 3 + c] * fy;
                };
                const float value = total[c] / std::max(norm, 1e-4f) + (column(x0) * (1 - fx) + column(x1) * fx) * 255;
                target[pixel * 3 + c] = std::uint8_t(std::clamp(value, 0.0f, 255.0f) + 0.5f);
            }
        }
    }
}

}  // namespace detail

// What the network is given of `image` (height, width, 3) RGB, where `hole` (height, width) is 0: with a core of any
// size on a grid of about 512 x 512, with one of a fixed size on that, h x w.
inline Small shrink(const Bytes& image, const Bytes& hole, int height, int width, int h = 0, int w = 0) {
    const std::size_t pixels = std::size_t(height) * width;
    if (height < 1 || width < 1 || image.size() != 3 * pixels) throw std::invalid_argument("image is not of the size given");
    if (hole.size() != pixels) throw std::invalid_argument("mask is not of the image's size");
    int scale;
    if (h && w) {
        scale = std::max((height + h - 1) / h, (width + w - 1) / w);
    } else {  // the smallest integer factor whose grid, padded to the stride, is not larger
        for (scale = std::max(1, int(std::ceil(std::sqrt(double(height) * width) / 512)));; scale++) {
            h = detail::padded(height, scale), w = detail::padded(width, scale);
            if (double(h) * w <= 1.2 * 512 * 512 || std::min(h, w) == detail::STRIDE) break;
        }
    }
    return detail::boxes(image.data(), hole.data(), height, width, scale, h, w);
}

// `image` filled where `hole` is not 0, from what the network answered to `small`.
inline Bytes complete(const Bytes& image, const Bytes& hole, int height, int width, const Small& small, const Answer& answer) {
    Bytes result(image);
    const detail::Level level = detail::finest(small, answer);
    const Ints source = detail::find(level);
    const Floats lacking = detail::correction(answer.low, source, level);
    detail::copy(result, image.data(), hole.data(), height, width, source, level, lacking, small.scale * detail::CELL);
    return result;
}

// Both, with `core` between.
inline Bytes inpaint(const Core& core, const Bytes& image, const Bytes& hole, int height, int width) {
    const Small small = shrink(image, hole, height, width);
    if (std::all_of(hole.begin(), hole.end(), [](int bit) { return bit == 0; })) return image;
    return complete(image, hole, height, width, small, core(small));
}

}  // namespace rethined
