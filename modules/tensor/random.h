// Counter-based random numbers: a number is a function of what it is for (seed, stream, index), not of how many were
// drawn before it, so that batch-mates, threads and recomputation change none.
//
// Philox4x32 with 10 rounds: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3 (table 2).
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace lathe {

// Four independent 32-bit numbers for each counter under a key. Words are least significant first.
std::array<uint32_t, 4> philox(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter);

// The stream of what has a name, so that its numbers do not depend on what was named before it.
uint64_t random_stream(std::string_view name);
// Uniform in [0, 1), a multiple of 2^-53.
double random_uniform(uint64_t key, uint64_t stream, uint64_t index);
// Mean 0, variance 1 (Box and Muller 1958).
double random_normal(uint64_t key, uint64_t stream, uint64_t index);

}  // namespace lathe
