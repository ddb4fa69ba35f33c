// Kernels that do not keep the promise on bits: what it costs is what they are faster. They do the same work on the
// same packed data as the kernels of inference, but in an order that suits the moment. For measuring only.
#pragma once
#include <cstdint>

#include "kernels/packed_linear.h"
#include "kernels/paged_attention.h"
#include "tensor/cpu_features.h"

namespace lathe::bench {

struct FreeForms {
  // y = W x for one token, row groups [group0, group1): four sums an output, a quarter of the columns or blocks each.
  // x as the tiles have it: f32, or int8 words with their blocks. Rows are a multiple of 16.
  void (*multiply_f16)(float* y, const PackedMatrix& w, const float* x, int64_t group0, int64_t group1);
  void (*multiply_q4_1)(float* y, const PackedMatrix& w, const int32_t* words, const void* blocks, int64_t group0,
                        int64_t group1);
  // Attention of one token over pages [page0, page1) of an f16 cache as one piece, however long: for `rows` (3) query
  // heads q (rows, D) of one key-value head, out (rows, D + 16) not divided, then maximum and sum. `scores`: scratch of
  // rows * 16 floats a page. D is a multiple of 64; all tokens of the pages are seen.
  void (*attend_f16)(float* out, const float* q, const uint16_t* const* keys, const uint16_t* const* values,
                     int64_t pages, int64_t head_dim, float scale, float* scores);
};

// For cpu_isa(), or the next below it; null where there is none.
const FreeForms* free_forms();

const FreeForms& free_forms_avx2();
const FreeForms& free_forms_avx512();
const FreeForms& free_forms_avx512_vnni();

}  // namespace lathe::bench
