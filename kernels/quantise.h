// Rows in the storage dtypes: what files and conversions read and write, on the host; what weights on a device need,
// there.
#pragma once
#include <cstdint>

#include "kernels/device.h"
#include "tensor/dtype.h"

namespace lathe {

// Row-major `columns` values of one row, widened to f32 exactly (GGUF blocks for quantised dtypes). Any dtype but f64,
// i32.
void dequantise_row(float* y, const void* row, DType dtype, int64_t columns);
// The other way: q8_0 (scale amax / 127), q4_0 (scale max / -8), q4_1 (min and (max - min) / 15), q5_0 and q5_1, as
// ggml writes them; q4_k, q5_k, q6_k, iq4_nl and iq4_xs by a search (quantise_k.cpp); bf16 and f16 to nearest even.
// Throws Error for q2_k and q3_k, which are only read.
void quantise_row(void* row, const float* x, DType dtype, int64_t columns);
// Whether `row`, made of the values `x` by quantise_row, holds them: in a narrower format than f32 neither a value nor
// a scale or minimum is anything but finite.
bool row_holds(const void* row, const float* x, DType dtype, int64_t columns);

namespace kernel {

// As dequantise_row and quantise_row, on contiguous rows of `columns` elements; the latter to bf16 and f16 only. Where
// `lost` (1, on the device) is not null, it becomes the lesser of what it was and the first row that row_holds would
// refuse.
void dequantise_rows(Cuda, float* y, const void* x, DType dtype, int64_t rows, int64_t columns);
void quantise_rows(Cuda, void* y, const float* x, DType dtype, int64_t rows, int64_t columns, int32_t* lost);

}  // namespace kernel

}  // namespace lathe
