// Attention of one new token over pages of 16 keys and values, with 2 query heads a key-value head and heads of 128;
// each sequence's pages are shared out to `splits` blocks, whose softmaxes a second kernel merges (flash decoding).
// Half a warp takes a token at a time: 16 lanes of 8 elements.
#include "tests/simt/examples/examples.h"

namespace lathe::kernel {
namespace {

constexpr int kHeadSize = 128, kPage = 16, kGroup = 2, kHalves = 8;  // half warps in a block

__global__ void __launch_bounds__(128)
    paged_decode_kernel(float* __restrict__ part, float2* __restrict__ part_sum, const bf16* __restrict__ q,
                        const bf16* __restrict__ keys, const bf16* __restrict__ values, const int* __restrict__ tables,
                        const int* __restrict__ lengths, int max_pages, float scale) {
  SHARED_ARRAY(float, out, [kHalves][kGroup][kHeadSize]);
  SHARED_ARRAY(float2, sum, [kHalves][kGroup]);  // the maximum of scores, the sum of their exponentials
  const int splits = gridDim.x, heads = gridDim.y, head = blockIdx.y, sequence = blockIdx.z;
  const int half = threadIdx.x / 16, lane = threadIdx.x % 16;
  const int length = lengths[sequence], pages = (length + kPage - 1) / kPage;
  const int share = (pages + splits - 1) / splits, first = blockIdx.x * share, last = min(pages, first + share);
  float query[kGroup][8], v_sum[kGroup][8] = {}, maximum[kGroup], total[kGroup] = {};
  for (int g = 0; g < kGroup; ++g) {
    maximum[g] = -INFINITY;
    const size_t row = (static_cast<size_t>(sequence) * heads + head) * kGroup + g;
    const Pack<bf16> pack = load_pack(q + row * kHeadSize + lane * 8);
    for (int j = 0; j < 8; ++j) query[g][j] = to_float(pack.v[j]) * scale;
  }
  for (int page = first; page < last; ++page)
    for (int turn = 0; turn < kPage / kHalves; ++turn) {
      const int token = turn * kHalves + half;
      const bool there = page * kPage + token < length;
      const size_t number = tables[static_cast<size_t>(sequence) * max_pages + page];
      const size_t at = ((number * heads + head) * kPage + token) * kHeadSize + lane * 8;
      Pack<bf16> k{}, v{};
      if (there) {  // what is read
        k = load_pack(keys + at);
        v = load_pack(values + at);
      }
      for (int g = 0; g < kGroup; ++g) {
        float score = 0;
        for (int j = 0; j < 8; ++j) score += query[g][j] * to_float(k.v[j]);
        for (int distance = 8; distance > 0; distance /= 2) score += __shfl_xor_sync(kAllLanes, score, distance, 16);
        if (there) {
          const float higher = fmaxf(maximum[g], score), decay = __expf(maximum[g] - higher),
                      p = __expf(score - higher);
          maximum[g] = higher;
          total[g] = total[g] * decay + p;
          for (int j = 0; j < 8; ++j) v_sum[g][j] = v_sum[g][j] * decay + p * to_float(v.v[j]);
        }
      }
    }
  for (int g = 0; g < kGroup; ++g) {
    for (int j = 0; j < 8; ++j) out[half][g][lane * 8 + j] = v_sum[g][j];
    if (lane == 0) sum[half][g] = make_float2(maximum[g], total[g]);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kGroup * kHeadSize; i += blockDim.x) {
    const int g = i / kHeadSize, c = i % kHeadSize;
    float highest = -INFINITY, exponentials = 0, o = 0;
    for (int h = 0; h < kHalves; ++h) highest = fmaxf(highest, sum[h][g].x);
    for (int h = 0; h < kHalves; ++h) {
      const float weight = sum[h][g].y > 0 ? __expf(sum[h][g].x - highest) : 0;
      exponentials += weight * sum[h][g].y;
      o += weight * out[h][g][c];
    }
    const size_t at = ((static_cast<size_t>(sequence) * heads + head) * kGroup + g) * splits + blockIdx.x;
    part[at * kHeadSize + c] = o;
    if (c == 0) part_sum[at] = make_float2(highest, exponentials);
  }
}

__global__ void __launch_bounds__(kHeadSize) merge_splits_kernel(bf16* __restrict__ out, const float* __restrict__ part,
                                                                 const float2* __restrict__ part_sum, int splits) {
  const size_t head = blockIdx.x;
  float highest = -INFINITY, exponentials = 0, o = 0;
  for (int s = 0; s < splits; ++s) highest = fmaxf(highest, part_sum[head * splits + s].x);
  for (int s = 0; s < splits; ++s) {
    const float2 of_split = part_sum[head * splits + s];
    if (of_split.y > 0) {
      const float weight = __expf(of_split.x - highest);
      exponentials += weight * of_split.y;
      o += weight * part[(head * splits + s) * kHeadSize + threadIdx.x];
    }
  }
  out[head * kHeadSize + threadIdx.x] = to_bf16(o / exponentials);
}

}  // namespace

void example_paged_decode(Cuda cuda, bf16* out, float* part, float2* part_sum, const bf16* q, const bf16* keys,
                          const bf16* values, const int* tables, const int* lengths, int sequences, int heads,
                          int splits, int max_pages, float scale) {
  LAUNCH(paged_decode_kernel, dim3(splits, heads, sequences), dim3(128), 0, cuda.stream, part, part_sum, q, keys,
         values, tables, lengths, max_pages, scale);
  LAUNCH(merge_splits_kernel, dim3(sequences * heads * kGroup), dim3(kHeadSize), 0, cuda.stream, out, part, part_sum,
         splits);
}

}  // namespace lathe::kernel
