// The table that the four bits of iq4_nl and iq4_xs point into (kernels/cpu/packed_layout.h), on a CUDA device: in
// words, looked up by permutations of bytes, four at a time.
#pragma once
#include "kernels/cpu/packed_layout.h"
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

// Four of its numbers, 128 added to each, a byte each.
constexpr uint32_t table_word(int i) {
  uint32_t word = 0;
  for (int j = 0; j < 4; ++j) word |= static_cast<uint32_t>(cpu::kIq4Table[4 * i + j]) << (8 * j);
  return word;
}
inline constexpr uint32_t kTableWord0 = table_word(0), kTableWord1 = table_word(1), kTableWord2 = table_word(2),
                          kTableWord3 = table_word(3);

// What the low four nibbles of `q` stand for there, a byte each: looked up in either half of the table, of which the
// high bit of each nibble then takes one.
__device__ __forceinline__ uint32_t look_up_four(uint32_t q) {
  const uint32_t in_half = q & 0x7777u;
  const uint32_t lower = __byte_perm(kTableWord0, kTableWord1, in_half),
                 upper = __byte_perm(kTableWord2, kTableWord3, in_half);
  return __byte_perm(lower, upper, 0x3210u | (q & 0x8888u) >> 1);
}

}  // namespace lathe::kernel
