// A tiny random Llama, without or with a layer that sees 24 keys only, and ids for it.
#pragma once
#include <memory>

#include "llm/registry.h"
#include "tensor/random.h"

namespace lathe::test {

inline std::unique_ptr<CausalLM> tiny_llama(uint64_t seed, int64_t vocabulary = 97, bool windowed = false) {
  ModelConfig c;
  c.architecture = "LlamaForCausalLM";
  c.model_type = "llama";
  c.hidden_act = "silu";
  c.vocab_size = vocabulary;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.num_key_value_heads = 1;
  c.head_dim = c.rotary_dim = 16;
  c.max_position_embeddings = 2048;
  c.initializer_range = 0.3;  // so that no two logits are nearly equal
  if (windowed) c.layer_window = {24, 0};
  auto model = family_of(c).make(c);
  initialise(*model, seed);
  prepare_for_inference(*model, Arithmetic::f32);
  return model;
}

inline std::vector<int32_t> some_ids(int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<int32_t>(97.0 * random_uniform(7, 0, static_cast<uint64_t>(i))));
  return ids;
}

}  // namespace lathe::test
