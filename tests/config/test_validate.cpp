// What makes a configuration valid, field by field.
#include <limits>

#include "config/model_config.h"
#include "config/nearest_name.h"
#include "tensor/errors.h"
#include "tests/catch.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

ModelConfig valid() {
  ModelConfig c;
  c.architecture = "LlamaForCausalLM";
  c.vocab_size = 128;
  c.hidden_size = 64;
  c.intermediate_size = 128;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = c.rotary_dim = 16;
  c.max_position_embeddings = 256;
  c.hidden_act = "silu";
  return c;
}

}  // namespace

TEST_CASE("validate names the field and its value") {
  constexpr double infinite = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    void (*change)(ModelConfig&);
    const char* message;
  };
  const Case cases[] = {
      {[](auto& c) { c.vocab_size = 0; }, "vocab_size is 0, expected 1 to"},
      {[](auto& c) { c.hidden_size = -64; }, "hidden_size is -64"},
      {[](auto& c) { c.intermediate_size = 0; }, "intermediate_size is 0"},
      {[](auto& c) { c.num_hidden_layers = 10001; }, "num_hidden_layers is 10001, expected 1 to 10000"},
      {[](auto& c) { c.num_attention_heads = 0; }, "num_attention_heads is 0"},
      {[](auto& c) { c.num_key_value_heads = 3; }, "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
      {[](auto& c) { c.head_dim = int64_t{1} << 40; }, "head_dim is 1099511627776"},
      {[](auto& c) { c.max_position_embeddings = 0; }, "max_position_embeddings is 0"},
      {[](auto& c) { c.vocab_size = c.hidden_size = 2147483647; }, "the sizes describe"},
      {[](auto& c) { c.rotary_dim = 15; }, "rotary_dim is 15, expected an even number from 0 to head_dim 16"},
      {[](auto& c) { c.rotary_dim = 18; }, "rotary_dim is 18"},
      {[](auto& c) { c.rope_theta = 0; }, "rope_theta is 0, expected above 0"},
      {[](auto& c) { c.rope_theta = nan; }, "rope_theta is nan"},
      {[](auto& c) { c.rope_factor = infinite; }, "rope_factor is inf, expected at least 1"},
      {[](auto& c) { c.rope_scaling = RopeScaling::llama3; }, "rope_original_max_position is 0"},
      {[](auto& c) { c.rope_scaling = RopeScaling::linear, c.rotary_dim = 0; },
       "rope_scaling is set, but rotary_dim is 0"},
      {[](auto& c) { c.rope_frequency_factors = {1}; },
       "rope_frequency_factors holds 1 values, expected rotary_dim / 2 = 8"},
      {[](auto& c) { c.rope_frequency_factors.assign(8, 0); }, "a value of rope_frequency_factors is 0"},
      {[](auto& c) { c.hidden_act = "relu6"; }, "hidden_act is 'relu6', expected one of silu, gelu, gelu_new"},
      {[](auto& c) { c.norm_eps = -1; }, "norm_eps is -1"},
      {[](auto& c) { c.norm_offset = nan; }, "norm_offset is nan"},
      {[](auto& c) { c.embedding_scale = 0; }, "embedding_scale is 0, expected above 0"},
      {[](auto& c) { c.attention_scale = -1; }, "attention_scale is -1, expected at least 0"},
      {[](auto& c) { c.attention_softcap = infinite; }, "attention_softcap is inf"},
      {[](auto& c) { c.final_logit_softcap = -30; }, "final_logit_softcap is -30"},
      {[](auto& c) { c.qkv_clip = nan; }, "qkv_clip is nan"},
      {[](auto& c) { c.alibi = true; }, "alibi is set, but rotary_dim is 16"},
      {[](auto& c) { c.alibi = true, c.rotary_dim = 0, c.alibi_bias_max = 0; },
       "alibi_bias_max is 0, expected above 0"},
      {[](auto& c) { c.use_logn_attention = true; }, "use_logn_attention is set, but rope_original_max_position is 0"},
      {[](auto& c) { c.rope_local_theta = -1; }, "rope_local_theta is -1, expected at least 0"},
      {[](auto& c) { c.rope_scaling = RopeScaling::qwen; }, "rope_original_max_position is 0"},
      {[](auto& c) { c.rope_scaling = RopeScaling::longrope, c.rope_original_max_position = 64; },
       "rope_short_factor holds 0 values, expected rotary_dim / 2 = 8"},
      {[](auto& c) { c.initializer_range = nan; }, "initializer_range is nan"},
      {[](auto& c) { c.layer_window = {8}; }, "layer_window holds 1 values, expected num_hidden_layers = 2"},
      {[](auto& c) {
         c.layer_window = {8, -1};
       },
       "layer_window holds -1"},
      {[](auto& c) { c.bos_token_id = -1; }, "bos_token_id is -1"},
      {[](auto& c) {
         c.eos_token_ids = {2, -7};
       },
       "eos_token_ids holds -7"},
  };
  for (const Case& c : cases) {
    ModelConfig config = valid();
    c.change(config);
    INFO(c.message);
    CHECK_THROWS_WITH(validate(config), ContainsSubstring(c.message));
  }
  CHECK_NOTHROW(validate(valid()));
}

TEST_CASE("validate: the settings of each rope scaling") {
  ModelConfig c = valid();
  c.rope_original_max_position = 64;
  c.rope_scaling = RopeScaling::llama3;
  CHECK_NOTHROW(validate(c));
  c.rope_high_freq_factor = c.rope_low_freq_factor;
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("rope_high_freq_factor is 1, expected above 1"));
  c.rope_scaling = RopeScaling::yarn;
  CHECK_NOTHROW(validate(c));
  c.rope_attention_factor = -1;
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("rope_attention_factor is -1"));
  c.rope_beta_fast = 0.5;
  CHECK_THROWS_WITH(validate(c), ContainsSubstring("rope_beta_fast is 0.5, expected above 1"));
}

TEST_CASE("validate: an end of text outside the vocabulary is let through") {
  ModelConfig c = valid();
  c.eos_token_ids = {50256};
  CHECK_NOTHROW(validate(c));
}

TEST_CASE("nearest name") {
  const std::vector<std::string> names = {"vocab_size", "hidden_size", "head_dim"};
  CHECK(nearest_name("vocab_siz", names) == "vocab_size");
  CHECK(nearest_name("hiden_sise", names) == "hidden_size");
  CHECK(nearest_name("headdim", names) == "head_dim");
  CHECK_FALSE(nearest_name("temperature", names));
  CHECK_FALSE(nearest_name("", names));
  CHECK_FALSE(nearest_name(std::string(100000, 'a'), names));
}
