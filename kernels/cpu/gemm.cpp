// Products by blocks, as Goto and van de Geijn 2008 cut them: some depth of K and some columns of B are packed by the
// whole team, then its members take blocks of rows, pack them and multiply. Doubles, which are for oracles alone, are
// plain loops.
#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

constexpr int64_t kBlockDepth = 256;     // a strip of B is then 32 KB, which stays in the first-level cache
constexpr int64_t kBlockColumns = 1024;  // most of B: 1 MB, for the second-level cache; A is packed anew for each
constexpr int64_t kBlockRows = 96;       // most of A, a multiple of every tile's height: 100 KB

int64_t divided(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Memory for a packed block of B.
float* packed_columns(const cpu::GemmKernels& kernels) {
  const int64_t strips = divided(kBlockColumns, kernels.tile_columns);
  return cpu::scratch(cpu::ScratchOf::product, strips * kernels.strip_floats(kBlockDepth, kernels.tile_columns));
}

void pack_b(const cpu::GemmKernels& kernels, float* to, const cpu::GemmOperand& b) {
  constexpr int64_t kRun = 16;  // of steps: what the packing turns at a time
  const int64_t strips = divided(b.count, kernels.tile_columns), steps = kernels.steps(b.depth);
  const int64_t runs = divided(steps, kRun), grain = divided(kGrainElements, kRun * kernels.tile_columns);
  if (b.rows_of_k)
    parallel_for(runs, divided(grain, strips), [&](int64_t begin, int64_t end) {
      kernels.pack_b(to, b, {0, strips, begin * kRun, std::min(end * kRun, steps)}, nullptr);
    });
  else
    parallel_for(strips, divided(grain, runs), [&](int64_t begin, int64_t end) {
      kernels.pack_b(to, b, {begin, end, 0, steps}, nullptr);
    });
}

// Strips of A [strip0, strip1) packed and multiplied with strips of packed B from `column` on.
struct Block {
  const cpu::GemmKernels& kernels;
  const cpu::GemmOperand& a;
  const float* b;
  const cpu::GemmOutput& out;
  float* row_sums;

  void multiply(int64_t strip0, int64_t strip1, int64_t column, int64_t columns) const {
    alignas(64) float packed[kBlockRows * (kBlockDepth + 16)];
    const int64_t row = strip0 * kernels.tile_rows, rows = std::min(a.count, strip1 * kernels.tile_rows) - row;
    cpu::GemmOperand part = a;
    part.data += a.rows_of_k ? row : row * a.ld;
    part.count = rows;
    kernels.pack_a(packed, part, {0, strip1 - strip0, 0, kernels.steps(a.depth)},
                   row_sums != nullptr && column == 0 ? row_sums + row : nullptr);
    const cpu::GemmOutput corner{out.c + row * out.ldc + column, out.ldc,
                                 out.bias != nullptr ? out.bias + column : nullptr, out.accumulate};
    kernels.multiply(corner, packed,
                     b + column / kernels.tile_columns * kernels.strip_floats(a.depth, kernels.tile_columns), rows,
                     columns, a.depth);
  }
};

// Blocks of rows, as even as tiles allow, and where they are few also of columns: some for each member of the team.
void multiply_blocks(const Block& block, int64_t columns) {
  const int64_t tiles = divided(block.a.count, block.kernels.tile_rows), members = thread_team().size();
  const int64_t rows_each = kBlockRows / block.kernels.tile_rows;
  const int64_t row_blocks = std::min(tiles, divided(divided(tiles, rows_each), members) * members);
  const int64_t strips = divided(columns, block.kernels.tile_columns);
  const int64_t parts = std::min(strips, divided(members, row_blocks));
  parallel(row_blocks * parts, [&](int64_t unit) {
    const int64_t i = unit % row_blocks, part = unit / row_blocks;
    const int64_t first = strips * part / parts * block.kernels.tile_columns;
    const int64_t last = std::min(columns, strips * (part + 1) / parts * block.kernels.tile_columns);
    block.multiply(tiles * i / row_blocks, tiles * (i + 1) / row_blocks, first, last - first);
  });
}

}  // namespace

template <>
void gemm(Cpu, Rows<float> c, ConstRows<float> a, bool transpose_a, ConstRows<float> b, bool transpose_b, int64_t m,
          int64_t n, int64_t k, bool accumulate, const GemmOptions<float>& options) {
  const ProfileScope profile([&] { return ProfiledCall{"gemm", 4 * (m * k + k * n + m * n), 2 * m * n * k}; });
  const cpu::GemmTable& table = cpu::training_kernels().gemm;
  const cpu::GemmKernels& kernels = options.arithmetic == Arithmetic::bf16 ? table.bf16 : table.floats;
  if (m == 0 || n == 0) return;
  float* const packed = packed_columns(kernels);
  const int64_t even = divided(divided(n, divided(n, kBlockColumns)), kernels.tile_columns) * kernels.tile_columns;
  for (int64_t column = 0; column < n; column += even) {
    const int64_t columns = std::min(even, n - column);
    for (int64_t first = 0; first == 0 || first < k; first += kBlockDepth) {
      const int64_t depth = std::min(kBlockDepth, k - first);
      const cpu::GemmOperand a_part{transpose_a ? a[first] : a.data + first, a.stride, transpose_a, m, depth};
      const cpu::GemmOperand b_part{transpose_b ? b[column] + first : b[first] + column, b.stride, !transpose_b,
                                    columns, depth};
      const cpu::GemmOutput out{c.data + column, c.stride, options.bias != nullptr ? options.bias + column : nullptr,
                                accumulate || first > 0};
      pack_b(kernels, packed, b_part);
      multiply_blocks({kernels, a_part, packed, out, column == 0 ? options.row_sums : nullptr}, columns);
    }
  }
}

// ---- in double ----

template <>
void gemm(Cpu, Rows<double> c, ConstRows<double> a, bool transpose_a, ConstRows<double> b, bool transpose_b, int64_t m,
          int64_t n, int64_t k, bool accumulate, const GemmOptions<double>& options) {
  const ProfileScope profile([&] { return ProfiledCall{"gemm", 8 * (m * k + k * n + m * n), 2 * m * n * k}; });
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
}

}  // namespace lathe::kernel
