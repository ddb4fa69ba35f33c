#include "kernels/checks.h"

#include "kernels/paged_attention.h"
#include "tensor/errors.h"

namespace lathe {

void check_packable(DType dtype, int64_t rows, int64_t columns) {
  check(dtype != DType::f64 && dtype != DType::i32, "pack", "{} weights have no packed form", name(dtype));
  check(rows >= 1 && columns >= 1, "pack", "weight is ({}, {}), expected at least one row and one column", rows,
        columns);
  check(columns % info(dtype).block_size == 0, "pack", "{} weight has {} columns, expected a multiple of {}",
        name(dtype), columns, info(dtype).block_size);
}

void check_unpacked_rows(const PackedMatrix& w, int64_t first, int64_t count) {
  check(first >= 0 && count >= 0 && first <= w.rows - count, "unpack_rows", "rows [{}, {}) wanted, weight has {}",
        first, first + count, w.rows);
}

void check_parts(int count) {
  check(count >= 1 && count <= kMaxParts, "packed_linear", "{} parts, expected 1 to {}", count, kMaxParts);
}

void check_cache(const char* where, DType dtype) {
  check(is_cache_dtype(dtype), where, "cache is {}, expected f32, f16, bf16 or q8_0", name(dtype));
}

void check_cuda_head_dim(const char* where, int64_t head_dim) {
  check(head_dim <= kMaxHeadDim, where, "heads have {} components, expected at most {} on CUDA", head_dim, kMaxHeadDim);
}

}  // namespace lathe
