// See permutation.h.
#include "train/permutation.h"

#include <algorithm>
#include <bit>

#include "tensor/random.h"

namespace lathe {
namespace {

uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

}  // namespace

int64_t permuted(int64_t index, int64_t size, uint64_t seed, uint64_t epoch) {
  const int bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1))),
            half = std::max(1, (bits + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint32_t round = 0; round < 8; ++round) {
      const auto random = philox({low(seed), high(seed)}, {low(right), round, low(epoch), high(epoch)});
      left ^= random[0] & mask;
      std::swap(left, right);
    }
    value = left << half | right;
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

}  // namespace lathe
