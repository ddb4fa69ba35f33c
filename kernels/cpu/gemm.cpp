// Products by blocks, as Goto and van de Geijn 2008 cut them: some k and some columns of B are packed by the whole
// team, then its members take blocks of rows, pack them and multiply. What else is computed of an operand or of C is
// computed a block at a time, while the block is in the second-level cache. Doubles, which are for oracles alone, are
// plain loops.
#include "kernels/gemm.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// At most, of the parts of A and B that are packed and multiplied together. With less depth B's strips would stay in
// the first-level cache, but C would pass more often: 512 is 3 to 8% faster than 256 where C exceeds the second-level
// cache.
constexpr int64_t kPartDepth = 512;
constexpr int64_t kPartColumns = 768;  // of B: 1.5 MB; A is packed anew for each
constexpr int64_t kPartRows = 48;      // of A: 100 KB; a multiple of every tile's height
constexpr int64_t kPackedRows = 32;    // of B that are activated at a time

int64_t divided(int64_t n, int64_t by) { return (n + by - 1) / by; }
// The size of equal parts of n, as few as there must be of `most` each; a multiple of `unit`.
int64_t even_part(int64_t n, int64_t most, int64_t unit) {
  return std::max(unit, divided(divided(n, std::max<int64_t>(1, divided(n, most))), unit) * unit);
}

// An operand as it is stored, from some row and column on, and what is computed of its elements.
struct Source {
  ConstRows<float> x;
  std::optional<GemmActivated<float>> activated;

  Source from(int64_t row, int64_t column) const {
    Source s = *this;
    s.x.data += row * x.stride + column;
    if (activated && activated->up.data != nullptr) s.activated->up.data += row * activated->up.stride + column;
    return s;
  }
  // The values of its first rows and columns: where they are, or computed into memory for as many.
  ConstRows<float> values(float* memory, int64_t rows, int64_t columns) const {
    if (!activated) return x;
    const ConstRows<float>& up = activated->up;
    cpu::kernels().rows.activation(memory, x.data, x.stride, up.data, up.stride, rows, columns, activated->f);
    return {memory, columns};
  }
};

// A packing of B: some k and some columns of a product.
struct Part {
  const cpu::GemmKernels& kernels;
  Source a, b;  // from its first k and column on
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  cpu::GemmOutput out;
  float* row_sums;
  std::optional<GemmSlope<float>> slope;  // in the last of k
  float* packed;

  int64_t strips() const { return divided(n, kernels.tile_columns); }
  int64_t strip_floats(int width) const { return kernels.strip_floats(k, width); }

  void pack() const {
    constexpr int64_t kRun = 16;  // of steps: what the packing turns at a time
    const int64_t steps = kernels.steps(k), runs = divided(steps, kRun);
    const int64_t grain = divided(kGrainElements, kRun * kernels.tile_columns);
    if (transpose_b)
      parallel_for(strips(), divided(grain, runs), [&](int64_t begin, int64_t end) {
        kernels.pack_b(packed, {b.x.data, b.x.stride, false, n, k}, {begin, end, 0, steps}, nullptr);
      });
    else
      parallel_for(runs, divided(grain, strips()),
                   [&](int64_t begin, int64_t end) { pack_rows_of_k(begin * kRun, std::min(end * kRun, steps)); });
  }

  void pack_rows_of_k(int64_t step0, int64_t step1) const {
    alignas(64) float memory[kPackedRows * kPartColumns];
    const int64_t some = b.activated ? kPackedRows / kernels.step : step1 - step0;
    for (int64_t step = step0; step < step1; step += some) {
      const int64_t row = step * kernels.step, next = std::min(step1, step + some);
      const ConstRows<float> x = b.from(row, 0).values(memory, std::min(k, next * kernels.step) - row, n);
      kernels.pack_b(packed, {x.data, x.stride, true, n, k}, {0, strips(), step, next}, nullptr);
    }
  }

  // Strips of A [strip0, strip1) times strips of B [column0, column1).
  void multiply(int64_t strip0, int64_t strip1, int64_t column0, int64_t column1) const {
    alignas(64) float packed_a[kPartRows * (kPartDepth + 16)], memory[kPartRows * kPartDepth];
    const int64_t row = strip0 * kernels.tile_rows, rows = std::min(m, strip1 * kernels.tile_rows) - row;
    const int64_t column = column0 * kernels.tile_columns,
                  columns = std::min(n, column1 * kernels.tile_columns) - column;
    const Source corner = transpose_a ? a.from(0, row) : a.from(row, 0);
    const ConstRows<float> x = transpose_a ? corner.values(memory, k, rows) : corner.values(memory, rows, k);
    kernels.pack_a(packed_a, {x.data, x.stride, transpose_a, rows, k}, {0, strip1 - strip0, 0, kernels.steps(k)},
                   row_sums != nullptr && column == 0 ? row_sums + row : nullptr);
    float* const c = out.c + row * out.ldc + column;
    kernels.multiply({c, out.ldc, out.bias != nullptr ? out.bias + column : nullptr, out.accumulate}, packed_a,
                     packed + column0 * strip_floats(kernels.tile_columns), rows, columns, k);
    if (slope) apply_slope(c, row, column, rows, columns);
  }

  void apply_slope(float* c, int64_t row, int64_t column, int64_t rows, int64_t columns) const {
    const auto at = [&](const auto& x) { return x.data != nullptr ? x[row] + column : nullptr; };
    cpu::training_kernels().rows.activation({c, out.ldc, at(slope->dup), slope->dup.stride}, c, out.ldc,
                                            {at(slope->x), slope->x.stride, at(slope->up), slope->up.stride}, rows,
                                            columns, slope->f);
  }

  // Blocks of rows, as even as tiles allow, and where they are few also of columns: some for each member of the team.
  void multiply() const {
    const int64_t tiles = divided(m, kernels.tile_rows), members = thread_team().size();
    const int64_t fewest = divided(tiles, kPartRows / kernels.tile_rows);
    const int64_t row_blocks = std::min(tiles, divided(fewest, members) * members);
    const int64_t column_blocks = std::min(strips(), divided(members, row_blocks));
    parallel(row_blocks * column_blocks, [&](int64_t unit) {
      const int64_t i = unit % row_blocks, j = unit / row_blocks;
      multiply(tiles * i / row_blocks, tiles * (i + 1) / row_blocks, strips() * j / column_blocks,
               strips() * (j + 1) / column_blocks);
    });
  }
};

}  // namespace

template <>
void gemm(Cpu, Rows<float> c, ConstRows<float> a, bool transpose_a, ConstRows<float> b, bool transpose_b, int64_t m,
          int64_t n, int64_t k, bool accumulate, const GemmOptions<float>& options) {
  const ProfileScope profile([&] { return ProfiledCall{"gemm", 4 * (m * k + k * n + m * n), 2 * m * n * k}; });
  const cpu::GemmTable& table = cpu::training_kernels().gemm;
  const cpu::GemmKernels& kernels = options.arithmetic == Arithmetic::bf16 ? table.bf16 : table.floats;
  if (m == 0 || n == 0) return;
  const int64_t columns = even_part(n, kPartColumns, kernels.tile_columns), depth = even_part(k, kPartDepth, 32);
  float* const packed = cpu::scratch(
      cpu::ScratchOf::product, columns / kernels.tile_columns * kernels.strip_floats(depth, kernels.tile_columns));
  const Source whole_a{a, options.activated_a}, whole_b{b, options.activated_b};
  for (int64_t column = 0; column < n; column += columns)
    for (int64_t first = 0; first == 0 || first < k; first += depth) {
      const Part part{
          kernels,
          transpose_a ? whole_a.from(first, 0) : whole_a.from(0, first),
          transpose_b ? whole_b.from(column, first) : whole_b.from(first, column),
          transpose_a,
          transpose_b,
          m,
          std::min(columns, n - column),
          std::min(depth, k - first),
          {c.data + column, c.stride, options.bias != nullptr ? options.bias + column : nullptr,
           accumulate || first > 0},
          column == 0 ? options.row_sums : nullptr,
          first + depth >= k && options.slope ? options.slope->from_column(column) : std::optional<GemmSlope<float>>{},
          packed};
      part.pack();
      part.multiply();
    }
}

bool gemm_multiplies_bf16(Cpu) { return cpu::training_kernels().gemm.bf16.step == 2; }

// ---- in double ----

namespace {

// An operand of `rows` rows as they are stored, its values where something is computed of them.
struct WideSource {
  std::vector<double> memory;
  ConstRows<double> x;
  WideSource(ConstRows<double> x, const std::optional<GemmActivated<double>>& activated, int64_t rows, int64_t n)
      : x(x) {
    if (!activated) return;
    memory.resize(static_cast<size_t>(rows * n));
    if (activated->up.data != nullptr)
      gated_activation<double>(Cpu{}, memory.data(), x, activated->up, rows, n, activated->f);
    else
      activation<double>(Cpu{}, memory.data(), x, rows, n, activated->f);
    this->x = {memory.data(), n};
  }
};

void apply_slope(Rows<double> c, const GemmSlope<double>& slope, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i) {
    const std::vector<double> dy(c[i], c[i] + n);
    if (slope.up.data != nullptr)
      gated_activation_backward<double>(Cpu{}, c.from(i), slope.dup.from(i), dy.data(), slope.x.from(i),
                                        slope.up.from(i), 1, n, slope.f);
    else
      activation_backward<double>(Cpu{}, c[i], dy.data(), slope.x.from(i), 1, n, slope.f);
  }
}

}  // namespace

template <>
void gemm(Cpu, Rows<double> c, ConstRows<double> a_, bool transpose_a, ConstRows<double> b_, bool transpose_b,
          int64_t m, int64_t n, int64_t k, bool accumulate, const GemmOptions<double>& options) {
  const ProfileScope profile([&] { return ProfiledCall{"gemm", 8 * (m * k + k * n + m * n), 2 * m * n * k}; });
  const WideSource wide_a(a_, options.activated_a, transpose_a ? k : m, transpose_a ? m : k);
  const WideSource wide_b(b_, options.activated_b, transpose_b ? n : k, transpose_b ? k : n);
  const ConstRows<double>&a = wide_a.x, &b = wide_b.x;
  parallel_for(m, divided(kSerialProducts, n * k + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < n && !accumulate; ++j) c[i][j] = options.bias != nullptr ? options.bias[j] : 0.0;
      for (int64_t l = 0; l < k; ++l) {
        const double value = transpose_a ? a[l][i] : a[i][l];
        const double* row = transpose_b ? b.data + l : b[l];
        const int64_t step = transpose_b ? b.stride : 1;
        for (int64_t j = 0; j < n; ++j) c[i][j] += value * row[j * step];
        if (options.row_sums != nullptr) options.row_sums[i] += value;
      }
    }
  });
  if (options.slope) apply_slope(c, *options.slope, m, n);
}

}  // namespace lathe::kernel
