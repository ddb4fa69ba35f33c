// A permutation for each seed and epoch, one element at a time and without a table.
#pragma once
#include <cstdint>

namespace lathe {

// Where `index` of [0, size) goes: a Feistel network of eight rounds over an even number of bits, applied again until
// it lands below `size` (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4), with Philox for
// the round function. Fewer than four applications on average.
int64_t permuted(int64_t index, int64_t size, uint64_t seed, uint64_t epoch);

}  // namespace lathe
