// The inference linears over groups of tokens on CUDA; their kernels are in packed_tiles.h.
//
// Version 1. Up to 8 rows: the packed bytes of the weights that have rows, once, as in packed_linear.cu. More: a block
// for every 64 rows of a group (128 where groups are large), so that a group of few rows leaves most of its tensor
// cores' work unused, but reads its weight once. Not measured yet: no GPU has run it.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/packed_tiles.h"
#include "kernels/grouped.h"

namespace lathe::kernel {

size_t grouped_packed_linear_scratch_bytes(Cuda, const PackedMatrix* weights, int64_t groups, int64_t rows,
                                           Arithmetic arithmetic) {
  bool rounds = false;
  for (int64_t e = 0; e < groups; ++e)
    rounds = rounds || packed::effective(arithmetic, weights[e].dtype) == Arithmetic::bf16;
  return packed::scratch_bytes(rows, weights[0].columns, rounds);
}

void grouped_packed_linear(Cuda on, Rows<float> y, ConstRows<float> x, const PackedMatrix* weights,
                           const float* const* biases, const int32_t* starts, int64_t groups, int64_t rows,
                           Arithmetic arithmetic, void* scratch) {
  if (rows <= 0) return;
  const bool rounds = grouped_packed_linear_scratch_bytes(on, weights, groups, rows, arithmetic) > 0;
  const packed::Walk walk = packed::start_walk(on, x, rows, weights[0].columns, y.stride, scratch, rounds);
  for (int64_t base = 0; base < groups; base += kGroupsAtOnce) {
    const int64_t count = std::min<int64_t>(kGroupsAtOnce, groups - base);
    // A launch has the groups of one dtype.
    for (int64_t first = 0; first < count; ++first) {
      const DType dtype = weights[base + first].dtype;
      packed::GroupJobs jobs{};
      bool before = false;
      for (int64_t e = 0; e < count; ++e) {
        if (weights[base + e].dtype != dtype) continue;
        before = before || e < first;
        jobs.weight[e] = weights[base + e].data;
        jobs.bias[e] = biases != nullptr ? biases[base + e] : nullptr;
      }
      if (before) continue;
      jobs.y = y.data;
      jobs.rows = static_cast<int>(weights[0].rows);
      jobs.starts = starts + base;
      jobs.groups = static_cast<int>(count);
      cpu::with_stored(dtype, [&](auto type) {
        packed::multiply<decltype(type)::value>(
            on, jobs, walk, rows, rows >= 128 * groups, packed::effective(arithmetic, dtype),
            [&](int64_t at_once) { return static_cast<unsigned>(group_slots(rows, count, at_once)); },
            [&](int64_t outputs) { return blocks_of(jobs.rows, outputs); });
      });
    }
  }
}

}  // namespace lathe::kernel
