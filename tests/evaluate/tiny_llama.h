// A tiny random Llama, without or with a layer that sees 24 keys only, and ids for it.
#pragma once
#include <memory>

#include "llm/causal_lm.h"
#include "tensor/random.h"

namespace lathe::test {

std::unique_ptr<CausalLM> tiny_llama(uint64_t seed, int64_t vocabulary = 97, bool windowed = false);
// With longrope: other rotary frequencies for texts of more than 24 tokens.
std::unique_ptr<CausalLM> tiny_longrope(uint64_t seed);

inline std::vector<int32_t> some_ids(int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<int32_t>(97.0 * random_uniform(7, 0, static_cast<uint64_t>(i))));
  return ids;
}

}  // namespace lathe::test
