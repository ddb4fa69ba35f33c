// Four elements share one block of Philox.
#include "kernels/dropout.h"

#include <algorithm>

#include "tensor/profiler.h"
#include "tensor/random.h"
#include "tensor/threads.h"

namespace lathe::kernel {

template <class T>
void dropout(Cpu, T* y, const T* x, int64_t n, double rate, const uint64_t* seed, uint64_t stream) {
  const ProfileScope profile([&] { return ProfiledCall{"dropout", 2 * int64_t{sizeof(T)} * n, 20 * n}; });
  const auto words = [](uint64_t v) { return std::array{static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32)}; };
  const auto key = words(*seed), s = words(stream);
  const auto threshold = static_cast<uint32_t>(rate * 0x1p32);
  const T factor = static_cast<T>(1.0 / (1.0 - rate));
  parallel_for((n + 3) / 4, kGrainElements / 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const auto index = words(static_cast<uint64_t>(block));
      const auto numbers = philox(key, {index[0], index[1], s[0], s[1]});
      const int64_t first = 4 * block, last = std::min(first + 4, n);
      for (int64_t i = first; i < last; ++i)
        y[i] = numbers[static_cast<size_t>(i - first)] < threshold ? T(0) : x[i] * factor;
    }
  });
}

template void dropout(Cpu, float*, const float*, int64_t, double, const uint64_t*, uint64_t);
template void dropout(Cpu, double*, const double*, int64_t, double, const uint64_t*, uint64_t);

}  // namespace lathe::kernel
