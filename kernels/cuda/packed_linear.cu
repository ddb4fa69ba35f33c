// The inference linears on CUDA; their kernels are in packed_tiles.h.
//
// Version 1. GEMV: bytes of the packed weight, once; derived limit at 3.0 TB/s: 0.7 us for 1024 x 1024 in bf16, 0.2 us
// in q4_0. Tiles: 2 M N K FLOPs at 790 TFLOP/s, of which mma.sync reaches some 60%; a weight is dequantised once for
// every 64 tokens, in registers. Not measured yet: no GPU has run it.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/packed_tiles.h"
#include "kernels/packed_linear.h"

namespace lathe::kernel {
namespace {

bool rounds_tokens(const LinearPart* parts, int part_count, Arithmetic arithmetic) {
  for (int p = 0; p < part_count; ++p)
    if (packed::effective(arithmetic, parts[p].weight.dtype) == Arithmetic::bf16) return true;
  return false;
}

}  // namespace

size_t packed_linear_scratch_bytes(Cuda, const LinearPart* parts, int part_count, int64_t m, Arithmetic arithmetic) {
  return packed::scratch_bytes(m, parts[0].weight.columns, rounds_tokens(parts, part_count, arithmetic));
}

void packed_linear(Cuda on, const LinearPart* parts, int part_count, int64_t ldy, ConstRows<float> x, int64_t m,
                   Arithmetic arithmetic, void* scratch) {
  check_parts(part_count);
  if (m <= 0) return;
  const packed::Walk walk =
      packed::start_walk(on, x, m, parts[0].weight.columns, ldy, scratch, rounds_tokens(parts, part_count, arithmetic));
  // A launch has the parts of one dtype.
  for (int first = 0; first < part_count; ++first) {
    const DType dtype = parts[first].weight.dtype;
    packed::PartJobs jobs{};
    bool before = false;
    for (int p = 0; p < part_count; ++p) {
      if (parts[p].weight.dtype != dtype) continue;
      before = before || p < first;
      jobs.add({parts[p].weight.data, parts[p].bias, parts[p].y, static_cast<int>(parts[p].weight.rows), 0});
    }
    if (before) continue;
    jobs.tokens = static_cast<int>(m);
    cpu::with_stored(dtype, [&](auto type) {
      packed::multiply<decltype(type)::value>(
          on, jobs, walk, m, m > 64, packed::effective(arithmetic, dtype),
          [&](int64_t at_once) { return blocks_of(m, at_once); },
          [&](int outputs) { return jobs.count_blocks(outputs); });
    });
  }
}

}  // namespace lathe::kernel
