// Products of training on CUDA; the tile itself is in gemm_tiles.h.
//
// Tiles of 128 x 128, or of 64 x 64 where those would leave most of the GPU idle; both give the same bits. Nothing
// splits K: the gradient of a small weight over many tokens is bound by the number of its tiles.
//
// Version 1. FLOPs 2 M N K; bytes 4 (M K + K N + M N) at least, each operand read N / 128 or M / 128 times through L2.
// 8192^3: derived limit 1.4 ms in bf16 (790 TFLOP/s; mma.sync reaches some 60% of what wgmma does on sm_90), 16.4 ms in
// f32 (67 TFLOP/s); bytes 0.27 ms at 3.0 TB/s. Not measured yet: no GPU has run it.
#include "kernels/cuda/gemm_tiles.h"
#include "kernels/cuda/gpu.h"
#include "kernels/gemm.h"

namespace lathe::kernel {
namespace {

template <int kTile, bool kBf16, bool kAlongA, bool kAlongB, bool kActivated>
__global__ void __launch_bounds__(2 * kTile) gemm_kernel(tiles::Product p) {
  tiles::multiply_tile<kTile, kBf16, kAlongA, kAlongB, kActivated>(p, static_cast<int>(blockIdx.y) * kTile,
                                                                   static_cast<int>(blockIdx.x) * kTile);
}

tiles::Operand operand(ConstRows<float> x, const std::optional<GemmActivated<float>>& activated) {
  if (!activated) return {x.data, x.stride};
  return {x.data, x.stride, activated->up.data, activated->up.stride, activated->f, true};
}

}  // namespace

template <>
void gemm(Cuda on, Rows<float> c, ConstRows<float> a, bool transpose_a, ConstRows<float> b, bool transpose_b, int64_t m,
          int64_t n, int64_t k, bool accumulate, const GemmOptions<float>& options) {
  if (m == 0 || n == 0) return;
  tiles::Product p{c.data,
                   c.stride,
                   operand(a, options.activated_a),
                   operand(b, options.activated_b),
                   static_cast<int>(m),
                   static_cast<int>(n),
                   static_cast<int>(k),
                   accumulate,
                   options.bias,
                   options.row_sums};
  if (const auto& s = options.slope)
    p.slope = {s->x.data, s->up.data, s->dup.data, s->x.stride, s->up.stride, s->dup.stride, s->f};
  const auto launch = [&](auto tile, auto bf16, auto activated) {
    constexpr int kTile = decltype(tile)::value;
    const dim3 grid(blocks_of(n, kTile), blocks_of(m, kTile));
    tiles::with_layouts(transpose_a, transpose_b, [&](auto along_a, auto along_b) {
      LAUNCH((gemm_kernel<kTile, decltype(bf16)::value, decltype(along_a)::value, decltype(along_b)::value,
                          decltype(activated)::value>),
             grid, dim3(2 * kTile), 0, on.stream, p);
    });
  };
  const auto choose = [&](auto bf16, auto activated) {
    if (ceil_divide(m, 128) * ceil_divide(n, 128) >= tiles::kMultiprocessors)
      launch(std::integral_constant<int, 128>{}, bf16, activated);
    else
      launch(std::integral_constant<int, 64>{}, bf16, activated);
  };
  const auto with = [&](auto bf16) {
    if (options.activated_a || options.activated_b) return choose(bf16, std::true_type{});
    choose(bf16, std::false_type{});
  };
  if (options.arithmetic == Arithmetic::f32) return with(std::false_type{});
  with(std::true_type{});
}

bool gemm_multiplies_bf16(Cuda) { return true; }

}  // namespace lathe::kernel
