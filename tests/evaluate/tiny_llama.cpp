#include "tests/evaluate/tiny_llama.h"

#include "config/model_config.h"
#include "llm/family.h"
#include "llm/registry.h"

namespace lathe::test {

namespace {

ModelConfig config(int64_t vocabulary) {
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
  return c;
}

std::unique_ptr<CausalLM> fresh(const ModelConfig& c, uint64_t seed) {
  auto model = family_of(c).make(c);
  initialise(*model, seed);
  prepare_for_inference(*model, Arithmetic::f32);
  return model;
}

}  // namespace

std::unique_ptr<CausalLM> tiny_llama(uint64_t seed, int64_t vocabulary, bool windowed) {
  ModelConfig c = config(vocabulary);
  if (windowed) c.layer_window = {24, 0};
  return fresh(c, seed);
}

std::unique_ptr<CausalLM> tiny_longrope(uint64_t seed) {
  ModelConfig c = config(97);
  c.rope_scaling = RopeScaling::longrope;
  c.rope_factor = 4.0;
  c.rope_original_max_position = 24;
  c.rope_short_factor.assign(8, 1.0);
  c.rope_long_factor = {1, 2, 3, 5, 8, 13, 21, 34};
  return fresh(c, seed);
}

}  // namespace lathe::test
