// Inference linears: y = x W^T (+ bias) over weights repacked for the vector units, and the packing itself.
//
// On the CPU a packed matrix holds groups of 16 output rows, one vector lane a row, so that an output has one
// accumulator, K runs in one order and no horizontal sum exists. GEMV is the tile of height one: a token's outputs are
// the same bits alone or among many, with one thread or several (threads split rows and tokens, never K).
//
// On CUDA it holds what the lanes of a warp give to mma.sync (kernels/cuda/packed_layout.h). K is cut into at most 16
// segments whose borders depend on K alone; a segment's terms have one order, and segments are added in theirs. GEMV
// and tiles are the same instructions on the same fragments, so again a token's outputs are the same bits in any batch.
//
// Shapes: M tokens, N output rows, K input columns. Pointers are not null unless said; kernels never allocate.
#pragma once
#include <cstddef>

#include "kernels/device.h"
#include "tensor/dtype.h"

namespace lathe {

// What the activations are rounded to before they meet the weights.
//   f32:  nothing is rounded; any weight is widened to f32 exactly and multiplied with fma.
//   bf16: activations and weights are rounded to bfloat16; sums in f32.
//   int8: activations are quantised to int8 per 32 columns (scale amax / 127); quantised weights only. CUDA computes
//         them as bf16.
//   int16: the same, and what that leaves is quantised to int8 once more and multiplied as well: 2^-16 of a block's
//         largest is lost in place of 2^-8. CUDA computes them as bf16.
enum class Arithmetic : uint8_t { f32, bf16, int8, int16 };
inline constexpr bool is_integer(Arithmetic a) { return a == Arithmetic::int8 || a == Arithmetic::int16; }

// A weight of N rows and K columns in the device's packed layout (kernels/cpu/packed_layout.h,
// kernels/cuda/packed_layout.h). Owns nothing.
struct PackedMatrix {
  DType dtype = DType::f32;       // of the weights as stored: any but f64 and i32
  int64_t rows = 0;               // N, any number >= 1 (padded to 16 inside)
  int64_t columns = 0;            // K; a multiple of the dtype's block size
  const uint8_t* data = nullptr;  // 64-byte aligned
};

// One of the weights that share an input: q, k and v, or gate and up. Their dtypes may differ.
struct LinearPart {
  PackedMatrix weight;
  const float* bias = nullptr;  // (N) or null
  float* y = nullptr;           // first output element of token 0; token stride `ldy`
};

namespace kernel {

// Bytes of the packed form, a multiple of 64.
size_t packed_bytes(Cpu, DType dtype, int64_t rows, int64_t columns);
size_t packed_bytes(Cuda, DType dtype, int64_t rows, int64_t columns);
// Packs row-major `source` (rows x columns, GGUF blocks for quantised dtypes) into `packed`. Runs on the thread team.
void pack(Cpu, uint8_t* packed, const void* source, DType dtype, int64_t rows, int64_t columns);
void pack(Cuda, uint8_t* packed, const void* source, DType dtype, int64_t rows, int64_t columns);  // both on the device
// Rows [first, first + count) widened to f32, exactly: y (count, K). The gradients of frozen weights read this.
void unpack_rows(Cpu, float* y, const PackedMatrix& w, int64_t first, int64_t count);
void unpack_rows(Cuda, float* y, const PackedMatrix& w, int64_t first, int64_t count);

// Bytes of 64-byte aligned scratch for the call below.
size_t packed_linear_scratch_bytes(Cpu, const LinearPart* parts, int part_count, int64_t m, Arithmetic arithmetic);
size_t packed_linear_scratch_bytes(Cuda, const LinearPart* parts, int part_count, int64_t m, Arithmetic arithmetic);
// For every part p, of 1 to 8: p.y[t * ldy + r] = bias[r] + sum_k w[r, k] x[t, k].    x (M, K) f32, K the same in all
// parts. All parts are one parallel region; x is rounded or quantised once. Parts whose weights are not quantised are
// computed in f32 where the arithmetic is int8 or int16.
void packed_linear(Cpu, const LinearPart* parts, int part_count, int64_t ldy, ConstRows<float> x, int64_t m,
                   Arithmetic arithmetic, void* scratch);
void packed_linear(Cuda, const LinearPart* parts, int part_count, int64_t ldy, ConstRows<float> x, int64_t m,
                   Arithmetic arithmetic, void* scratch);

}  // namespace kernel
}  // namespace lathe
