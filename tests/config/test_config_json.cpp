// config.json: both families, both spellings of the rope settings, and what is refused.
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "llm/registry.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/config/parsing.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

json llama() {
  return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128,
    "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-05, "hidden_act": "silu"})");
}
json gpt2() {
  return json::parse(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 128, "n_embd": 64,
    "n_head": 4, "n_layer": 2, "n_positions": 96, "n_ctx": 32, "layer_norm_epsilon": 1e-06,
    "activation_function": "gelu_new", "bos_token_id": 1, "eos_token_id": [2, 3]})");
}

}  // namespace

TEST_CASE("config.json: llama") {
  const ModelConfig c = parse(llama());
  CHECK(c.architecture == "LlamaForCausalLM");
  CHECK(c.model_type == "llama");
  CHECK(c.vocab_size == 128);
  CHECK(c.hidden_size == 64);
  CHECK(c.intermediate_size == 172);
  CHECK(c.num_hidden_layers == 2);
  CHECK(c.num_attention_heads == 4);
  CHECK(c.num_key_value_heads == 2);
  CHECK(c.head_dim == 16);
  CHECK(c.rotary_dim == 16);
  CHECK(c.norm_eps == 1e-5);
  CHECK(c.rope_theta == 10000.0);
  CHECK_FALSE(c.tie_word_embeddings);
  CHECK_FALSE(c.attention_bias);
  CHECK(c.context_limit() == 256);
  CHECK(c.source == "config.json");
}

TEST_CASE("config.json: what a llama file leaves out is what the reference assumes") {
  json root = llama();
  for (const char* key :
       {"num_key_value_heads", "rms_norm_eps", "hidden_act", "max_position_embeddings", "architectures"})
    root.erase(key);
  const ModelConfig c = parse(root);
  CHECK(c.architecture == "LlamaForCausalLM");
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.norm_eps == 1e-6);
  CHECK(c.hidden_act == "silu");
  CHECK(c.max_position_embeddings == 2048);
  CHECK(c.bos_token_id == 1);
  CHECK(c.eos_token_ids == std::vector<int64_t>{2});
  CHECK(c.dtype == "float32");
}

TEST_CASE("config.json: options of llama") {
  const ModelConfig c = parse(llama(), {{"head_dim", 32},
                                        {"attention_bias", true},
                                        {"mlp_bias", true},
                                        {"torch_dtype", "torch.bfloat16"},
                                        {"tie_word_embeddings", true},
                                        {"rope_theta", 5e5},
                                        {"bos_token_id", nullptr},
                                        {"eos_token_id", nullptr},
                                        {"pad_token_id", -1},
                                        {"initializer_range", 0.01},
                                        {"rope_scaling", nullptr},
                                        {"quantization_config", nullptr}});
  CHECK(c.head_dim == 32);
  CHECK(c.rotary_dim == 32);
  CHECK(c.attention_bias);
  CHECK(c.attention_output_bias);
  CHECK(c.mlp_bias);
  CHECK(c.tie_word_embeddings);
  CHECK(c.dtype == "bfloat16");
  CHECK(c.rope_theta == 5e5);
  CHECK_FALSE(c.bos_token_id);
  CHECK(c.eos_token_ids.empty());
  CHECK_FALSE(c.pad_token_id);
  CHECK(c.initializer_range == 0.01);
  CHECK(c.extra.empty());
}

TEST_CASE("config.json: gpt2") {
  const ModelConfig c = parse(gpt2());
  CHECK(c.hidden_size == 64);
  CHECK(c.intermediate_size == 256);  // four times the width where n_inner is absent or null
  CHECK(parse(gpt2(), {{"n_inner", nullptr}}).intermediate_size == 256);
  CHECK(parse(gpt2(), {{"n_inner", 100}}).intermediate_size == 100);
  CHECK(c.max_position_embeddings == 96);
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.norm_eps == 1e-6);
  CHECK(c.hidden_act == "gelu_new");
  CHECK(c.tie_word_embeddings);
  CHECK(c.attention_bias);
  CHECK(c.attention_output_bias);
  CHECK(c.mlp_bias);
  CHECK_FALSE(c.uses_rope());
  CHECK(c.eos_token_ids == std::vector<int64_t>{2, 3});
  CHECK(parse(gpt2(), {{"architectures", {"GPT2Model"}}}).architecture == "GPT2Model");
}

TEST_CASE("config.json: the rope settings in both spellings mean the same") {
  const json settings[] = {
      {{"rope_type", "linear"}, {"factor", 2.0}},
      {{"rope_type", "dynamic"}, {"factor", 4.0}},
      {{"rope_type", "yarn"},
       {"factor", 2.0},
       {"original_max_position_embeddings", 128},
       {"beta_fast", 30},
       {"beta_slow", 2},
       {"attention_factor", 1.5},
       {"truncate", false}},
      {{"rope_type", "llama3"},
       {"factor", 8.0},
       {"original_max_position_embeddings", 64},
       {"low_freq_factor", 1.0},
       {"high_freq_factor", 4.0}},
  };
  const std::pair<RopeScaling, int64_t> expected[] = {
      {RopeScaling::linear, 512}, {RopeScaling::dynamic, 1024}, {RopeScaling::yarn, 256}, {RopeScaling::llama3, 256}};
  for (size_t i = 0; i < std::size(settings); ++i) {
    INFO(settings[i].dump());
    json with_theta = settings[i], with_type = settings[i];
    with_theta["rope_theta"] = 7e4;
    with_type["type"] = with_type["rope_type"];
    with_type.erase("rope_type");
    const ModelConfig a = parse(llama(), {{"rope_theta", 7e4}, {"rope_scaling", settings[i]}});
    for (const ModelConfig& b : {parse(llama(), {{"rope_parameters", with_theta}}),
                                 parse(llama(), {{"rope_theta", 7e4}, {"rope_scaling", with_type}})}) {
      CHECK(b.rope_scaling == a.rope_scaling);
      CHECK(b.rope_factor == a.rope_factor);
      CHECK(b.rope_theta == 7e4);
      CHECK(b.rope_original_max_position == a.rope_original_max_position);
      CHECK(b.rope_beta_fast == a.rope_beta_fast);
      CHECK(b.rope_attention_factor == a.rope_attention_factor);
      CHECK(b.rope_truncate == a.rope_truncate);
    }
    CHECK(a.rope_scaling == expected[i].first);
    CHECK(a.context_limit() == expected[i].second);
  }
  const ModelConfig plain = parse(llama(), {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 3e4}}}});
  CHECK(plain.rope_scaling == RopeScaling::none);
  CHECK(plain.rope_theta == 3e4);
  // Without a factor, yarn's is the ratio of the two contexts.
  CHECK(parse(llama(), {{"rope_scaling", {{"type", "yarn"}, {"original_max_position_embeddings", 64}}}}).rope_factor ==
        4.0);
  // Without an original context, it is the one of the training.
  CHECK(parse(llama(), {{"rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}}}).context_limit() == 512);
}

TEST_CASE("config.json: unknown keys are kept") {
  const ModelConfig c = parse(llama(), {{"use_cache", true},
                                        {"note", {{"a", {1, 2}}}},
                                        {"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"finetuned", true}}}});
  CHECK(c.extra == std::map<std::string, std::string>{
                       {"use_cache", "true"}, {"note", R"({"a":[1,2]})"}, {"rope_scaling.finetuned", "true"}});
}

TEST_CASE("config.json: what is missing, wrong or not supported is named") {
  struct Case {
    json root, changes;
    const char* message;
  };
  const Case cases[] = {
      {llama(),
       {{"architectures", {"MambaForCausalLM"}}},
       "the architecture 'MambaForCausalLM' is not known, expected one of LlamaForCausalLM, GPT2LMHeadModel, "
       "GPT2Model"},
      {llama(), {{"architectures", "LlamaForCausalLM"}}, "expected a list of class names"},
      {llama(),
       {{"architectures", nullptr}, {"model_type", "mamba"}},
       "the model type 'mamba' is not known, expected one of llama, gpt2"},
      {llama(), {{"architectures", nullptr}, {"model_type", nullptr}}, "neither the architecture nor the model type"},
      {llama(), {{"hidden_size", nullptr}}, "the key hidden_size is missing"},
      {gpt2(), {{"n_embd", nullptr}}, "the key n_embd is missing"},
      {llama(), {{"hidden_size", "64"}}, R"(hidden_size is '"64"', expected an integer)"},
      {llama(), {{"hidden_size", 64.5}}, "hidden_size is '64.5', expected an integer"},
      {llama(), {{"hidden_size", 18446744073709551615u}}, "expected an integer up to 2^53"},
      {llama(), {{"mlp_bias", 1}}, "mlp_bias is '1', expected true or false"},
      {llama(), {{"rms_norm_eps", "small"}}, "expected a number"},
      {llama(), {{"hidden_act", "relu6"}}, R"(hidden_act is '"relu6"', expected one of silu)"},
      {gpt2(), {{"activation_function", "relu"}}, "activation_function is"},
      {llama(), {{"eos_token_id", "x"}}, "expected an integer, a list of integers or null"},
      {llama(), {{"quantization_config", {{"quant_method", "gptq"}}}}, "quantization_config is"},
      {llama(),
       {{"rope_scaling", {{"type", "foo"}, {"factor", 2}}}},
       "rope_scaling.type is 'foo', expected one of default, linear"},
      {llama(), {{"rope_scaling", {{"type", "linear"}}}}, "the key rope_scaling.factor is missing"},
      {llama(),
       {{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8}}}},
       "rope_parameters.original_max_position_embeddings is missing"},
      {llama(),
       {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}},
       "rope_parameters.full_attention is"},
      {llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", "2"}}}}, "rope_scaling.factor is"},
      {llama(), {{"rope_scaling", 3}}, "expected an object or null"},
      {llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}}}, "rope_factor is 0.5, expected at least 1"},
      {llama(), {{"partial_rotary_factor", 1.5}}, "expected a number above 0 up to 1"},
      {llama(), {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is '0.5', expected 1: llama rotates whole"},
      {llama(), {{"is_causal", false}}, "is_causal is 'false', expected true"},
      {gpt2(), {{"per_layer_config", {{"0", {{"n_head", 2}}}}}}, "per_layer_config is"},
      {gpt2(), {{"hidden_size", 32}}, "hidden_size is '32', expected 64 as n_embd has it"},
      {llama(), {{"num_attention_heads", 7}}, "hidden_size 64 is no multiple of num_attention_heads 7"},
      {gpt2(), {{"n_head", 5}}, "hidden_size 64 is no multiple of num_attention_heads 5"},
      {gpt2(),
       {{"scale_attn_by_inverse_layer_idx", true}},
       "scale_attn_by_inverse_layer_idx is 'true', expected false"},
      {gpt2(), {{"scale_attn_weights", false}}, "scale_attn_weights is 'false', expected true"},
      {gpt2(), {{"add_cross_attention", true}}, "add_cross_attention is 'true', expected false"},
  };
  for (const Case& c : cases) {
    INFO(c.changes.dump());
    const std::string message = refusal(c.root, c.changes);
    CHECK_THAT(message, ContainsSubstring(c.message));
    CHECK_THAT(message, ContainsSubstring("config.json"));
  }
  CHECK(refusal(gpt2(), {{"reorder_and_upcast_attn", true}}).empty());
  const std::pair<std::string, std::string> texts[] = {{"", "parse error"},
                                                       {"[]", "expected an object, found array"},
                                                       {"{\"a\":1,\"a\":2}", "the key 'a' appears twice"},
                                                       {std::string(100000, '['), "nested deeper"},
                                                       {"{\"a\":\"\xff\"}", "json"}};
  for (const auto& [text, expected] : texts) {
    INFO(text.substr(0, 40));
    CHECK_THROWS_WITH(parse_config_json(text, "config.json", family_configs()), ContainsSubstring(expected));
  }
}

TEST_CASE("config.json: real files") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const ModelConfig c = read_config_json((*shared / "models/stories260K/hf/config.json").string(), family_configs());
  CHECK(c.head_dim == 8);
  CHECK(c.tie_word_embeddings);
  CHECK_THROWS_WITH(read_config_json((*shared / "none.json").string(), family_configs()),
                    ContainsSubstring("No such file"));
}
