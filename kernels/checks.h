// What kernels refuse on the host. Without the library's errors, so that nvcc need not read them. All throw Error.
#pragma once
#include "kernels/packed_linear.h"

namespace lathe {

void check_packable(DType dtype, int64_t rows, int64_t columns);
void check_unpacked_rows(const PackedMatrix& w, int64_t first, int64_t count);  // rows [first, first + count)

inline constexpr int kMaxParts = 8;  // of one packed_linear
void check_parts(int count);

void check_cache(const char* where, DType dtype);

inline constexpr int kMaxHeadDim = 256;  // of attention on CUDA
void check_cuda_head_dim(const char* where, int64_t head_dim);

}  // namespace lathe
