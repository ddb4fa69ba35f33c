// Products of groups of rows on CUDA, with the tile of gemm_tiles.h. A block finds its group by bisection (groups.h).
//
// Version 1. FLOPs 2 rows N K, in tiles of 64 or 128 rows of one group each: few rows a group leave work unused. The
// gradient of a weight has its group's rows for K, which one block walks: the largest group decides. Derived limit for
// 8 experts of 4096 x 14336 and 65,536 rows in bf16: 9.7 ms (790 TFLOP/s). Not measured yet: no GPU has run it.
#include <algorithm>

#include "kernels/cuda/gemm_tiles.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/groups.h"
#include "kernels/grouped.h"

namespace lathe::kernel {
namespace {

struct Weights {
  const float *b[kGroupsAtOnce], *bias[kGroupsAtOnce];
};

template <int kTile, bool kBf16, bool kAlongB>
__global__ void __launch_bounds__(2 * kTile)
    grouped_kernel(const tiles::Product whole, const Weights weights, const int32_t* starts, int groups) {
  GroupTile tile;
  if (!find_group(tile, starts, groups, blockIdx.y, kTile)) return;
  tiles::Product p = whole;
  p.b.x = weights.b[tile.group];
  p.bias = weights.bias[tile.group];
  p.m = static_cast<int>(tile.end);
  tiles::multiply_tile<kTile, kBf16, true, kAlongB, false>(p, static_cast<int>(tile.row),
                                                           static_cast<int>(blockIdx.x) * kTile);
}

struct Gradients {
  float *dw[kGroupsAtOnce], *db[kGroupsAtOnce];
};

template <int kTile, bool kBf16>
__global__ void __launch_bounds__(2 * kTile)
    grouped_backward_kernel(const tiles::Product whole, const Gradients gradients, const int32_t* starts) {
  const int group = static_cast<int>(blockIdx.z);
  const int start = starts[group], end = starts[group + 1], n0 = static_cast<int>(blockIdx.x) * kTile;
  tiles::Product p = whole;
  p.c = gradients.dw[group];
  p.row_sums = gradients.db[group];
  if (start == end || (p.c == nullptr && (p.row_sums == nullptr || n0 > 0))) return;
  if (p.c == nullptr) p.n = 0;  // the sums alone
  p.a.x += start * p.a.stride;
  p.b.x += start * p.b.stride;
  p.k = end - start;
  tiles::multiply_tile<kTile, kBf16, false, false, false>(p, static_cast<int>(blockIdx.y) * kTile, n0);
}

// f(tile, bf16) as integral constants.
template <class F>
void with_shape(bool large, Arithmetic arithmetic, F&& f) {
  const auto with_tile = [&](auto bf16) {
    if (large) return f(std::integral_constant<int, 128>{}, bf16);
    f(std::integral_constant<int, 64>{}, bf16);
  };
  if (arithmetic == Arithmetic::f32) return with_tile(std::false_type{});
  with_tile(std::true_type{});
}

}  // namespace

template <>
void grouped_gemm(Cuda on, Rows<float> c, ConstRows<float> a, const float* const* b, int64_t b_stride, bool transpose_b,
                  const float* const* biases, const int32_t* starts, int64_t groups, int64_t rows, int64_t n, int64_t k,
                  bool accumulate, Arithmetic arithmetic) {
  if (rows == 0 || n == 0) return;
  const tiles::Product p{c.data,
                         c.stride,
                         {a.data, a.stride},
                         {nullptr, b_stride},
                         static_cast<int>(rows),
                         static_cast<int>(n),
                         static_cast<int>(k),
                         accumulate};
  const bool large = rows >= 128 * groups && rows / 128 * ceil_divide(n, 128) >= tiles::kMultiprocessors;
  for (int64_t base = 0; base < groups; base += kGroupsAtOnce) {
    const int64_t count = std::min<int64_t>(kGroupsAtOnce, groups - base);
    Weights weights{};
    std::copy_n(b + base, count, weights.b);
    if (biases != nullptr) std::copy_n(biases + base, count, weights.bias);
    with_shape(large, arithmetic, [&](auto tile, auto bf16) {
      constexpr int kTile = decltype(tile)::value;
      const dim3 grid(blocks_of(n, kTile), static_cast<unsigned>(group_slots(rows, count, kTile)));
      const auto launch = [&](auto along_b) {
        LAUNCH((grouped_kernel<kTile, decltype(bf16)::value, decltype(along_b)::value>), grid, dim3(2 * kTile), 0,
               on.stream, p, weights, starts + base, static_cast<int>(count));
      };
      if (transpose_b) return launch(std::true_type{});
      launch(std::false_type{});
    });
  }
}

template <>
void grouped_gemm_weights_backward(Cuda on, float* const* dw, int64_t dw_stride, float* const* db, ConstRows<float> dy,
                                   ConstRows<float> x, const int32_t* starts, int64_t groups, int64_t out, int64_t in,
                                   Arithmetic arithmetic) {
  const tiles::Product p{
      nullptr, dw_stride, {dy.data, dy.stride}, {x.data, x.stride}, static_cast<int>(out), static_cast<int>(in),
      0,       true};
  for (int64_t base = 0; base < groups; base += kGroupsAtOnce) {
    const int64_t count = std::min<int64_t>(kGroupsAtOnce, groups - base);
    Gradients gradients{};
    std::copy_n(dw + base, count, gradients.dw);
    if (db != nullptr) std::copy_n(db + base, count, gradients.db);
    const bool large = ceil_divide(out, 128) * ceil_divide(in, 128) * count >= tiles::kMultiprocessors;
    with_shape(large, arithmetic, [&](auto tile, auto bf16) {
      constexpr int kTile = decltype(tile)::value;
      const dim3 grid(blocks_of(in, kTile), blocks_of(out, kTile), static_cast<unsigned>(count));
      LAUNCH((grouped_backward_kernel<kTile, decltype(bf16)::value>), grid, dim3(2 * kTile), 0, on.stream, p, gradients,
             starts + base);
    });
  }
}

}  // namespace lathe::kernel
