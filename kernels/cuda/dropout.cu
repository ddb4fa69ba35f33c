// Dropout on a CUDA device: the choice of the CPU, a block of Philox (tensor/random.h) for four elements, a thread
// each.
//
// Limit derived at 3.0 TB/s: 8 bytes an element. Ten rounds are some 80 instructions for four elements: memory binds.
// Not measured yet: no GPU has run it.
#include "kernels/cuda/over_grid.h"
#include "kernels/dropout.h"

namespace lathe::kernel {
namespace {

struct Words {
  uint32_t w[4];
};

// As lathe::philox, which is the host's.
__device__ __forceinline__ Words philox_words(uint32_t key0, uint32_t key1, Words counter) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter.w[0], b = uint64_t{0xCD9E8D57u} * counter.w[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter.w[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter.w[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

template <bool kVector, class T>
struct Dropout {
  T* y;
  const T* x;
  int64_t n;
  const uint64_t* seed;
  uint64_t stream;
  uint32_t threshold;
  float factor;

  __device__ void operator()(int64_t, int64_t item) const {
    const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
    const uint64_t index = static_cast<uint64_t>(item), key = *seed;
    const Words numbers =
        philox_words(low(key), low(key >> 32), {low(index), low(index >> 32), low(stream), low(stream >> 32)});
    const int64_t i = 4 * item;
    Four v = load_four<kVector>(x + i, n - i);
#pragma unroll
    for (int j = 0; j < 4; ++j) v.v[j] = numbers.w[j] < threshold ? 0.0f : v.v[j] * factor;
    store_four<kVector>(y + i, v, n - i);
  }
};

}  // namespace

template <class T>
void dropout(Cuda on, T* y, const T* x, int64_t n, double rate, const uint64_t* seed, uint64_t stream) {
  const auto threshold = static_cast<uint32_t>(rate * 0x1p32);
  const auto factor = static_cast<float>(1.0 / (1.0 - rate));
  if (fours_aligned(y) && fours_aligned(x))
    over_grid(on, 1, ceil_divide(n, 4), Dropout<true, T>{y, x, n, seed, stream, threshold, factor});
  else
    over_grid(on, 1, ceil_divide(n, 4), Dropout<false, T>{y, x, n, seed, stream, threshold, factor});
}

template void dropout(Cuda, float*, const float*, int64_t, double, const uint64_t*, uint64_t);

}  // namespace lathe::kernel
