// config.json of Mistral, Mixtral, Qwen2, Qwen3 and Qwen3-MoE: what their files say and leave out, and what is refused;
// and that every published size of the families with Llama's keys reads the same in both spellings of the rope
// settings.
#include <filesystem>
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

// Four layers of `architecture`; the keys that every published file has.
json file_of(const char* architecture, const json& changes = {}) {
  json root = {{"architectures", {architecture}},
               {"vocab_size", 128},
               {"hidden_size", 64},
               {"intermediate_size", 96},
               {"num_hidden_layers", 4},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"rms_norm_eps", 1e-6},
               {"max_position_embeddings", 256},
               {"hidden_act", "silu"},
               {"tie_word_embeddings", false}};
  root.update(changes.is_null() ? json::object() : changes);
  return root;
}
json mistral(const json& changes = {}) { return file_of("MistralForCausalLM", changes); }
json mixtral(const json& changes = {}) { return file_of("MixtralForCausalLM", changes); }
json qwen2(const json& changes = {}) { return file_of("Qwen2ForCausalLM", changes); }
json qwen3(const json& changes = {}) { return file_of("Qwen3ForCausalLM", changes); }
json qwen3_moe(const json& changes = {}) { return file_of("Qwen3MoeForCausalLM", changes); }

using Layers = std::vector<int64_t>;

}  // namespace

TEST_CASE("Mistral: a window in all layers, unless the file says null") {
  CHECK(parse(mistral()).layer_window == Layers{4096, 4096, 4096, 4096});
  CHECK(parse(mistral({{"sliding_window", 8}})).layer_window == Layers{8, 8, 8, 8});
  CHECK(parse(mistral({{"sliding_window", nullptr}})).layer_window.empty());
  CHECK(parse(mistral({{"head_dim", 32}})).head_dim == 32);
  CHECK(parse(mistral({{"head_dim", nullptr}})).head_dim == 16);
  CHECK(parse(mistral({{"num_key_value_heads", nullptr}})).num_key_value_heads == 4);
  json without = mistral({{"num_attention_heads", 16}});
  without.erase("num_key_value_heads");
  CHECK(parse(without).num_key_value_heads == 8);
}

TEST_CASE("Mixtral: experts, whose weights are always normalised, and no window unless the file names one") {
  const ModelConfig c =
      parse(mixtral({{"num_local_experts", 4}, {"num_experts_per_tok", 3}, {"router_aux_loss_coef", 0.02}}));
  CHECK(c.num_experts == 4);
  CHECK(c.num_experts_per_tok == 3);
  CHECK(c.moe_intermediate_size == 96);
  CHECK(c.norm_topk_prob);
  CHECK(c.router_aux_loss_coef == 0.02);
  CHECK(c.layer_window.empty());
  CHECK(c.has_experts(0));
  CHECK(parse(mixtral()).num_experts == 8);
  CHECK(parse(mixtral()).rope_theta == 1e6);
  CHECK(parse(mixtral({{"sliding_window", 8}})).layer_window == Layers{8, 8, 8, 8});
}

TEST_CASE("Qwen2 and Qwen3: windows in the layers that the file means") {
  for (const auto& make : {qwen2, qwen3}) {
    CHECK(parse(make({{"sliding_window", 8}, {"max_window_layers", 2}})).layer_window.empty());
    CHECK(parse(make({{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 2}})).layer_window ==
          Layers{0, 0, 8, 8});
    CHECK(parse(make({{"use_sliding_window", true}, {"sliding_window", nullptr}})).layer_window.empty());
    // layer_types, where it is there, says it anew.
    const json types = {"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
    CHECK(parse(make({{"use_sliding_window", true},
                      {"sliding_window", 8},
                      {"max_window_layers", 2},
                      {"layer_types", types}}))
              .layer_window == Layers{8, 0, 0, 8});
  }
  CHECK(parse(qwen2()).attention_bias);
  CHECK_FALSE(parse(qwen2()).attention_output_bias);
  CHECK_FALSE(parse(qwen2()).qk_norm);
  CHECK(parse(qwen3()).qk_norm);
  CHECK(parse(qwen3()).head_dim == 128);
  CHECK(parse(qwen3({{"attention_bias", true}})).attention_output_bias);
}

TEST_CASE("Qwen3-MoE: which layers have experts, and both names of their number") {
  const ModelConfig c =
      parse(qwen3_moe({{"num_experts", 16}, {"moe_intermediate_size", 24}, {"norm_topk_prob", true}}));
  CHECK(c.num_experts == 16);
  CHECK(c.num_experts_per_tok == 8);
  CHECK(c.moe_intermediate_size == 24);
  CHECK(c.norm_topk_prob);
  CHECK(c.mlp_only_layers.empty());
  CHECK(c.qk_norm);
  CHECK(c.head_dim == 16);  // the file names none
  CHECK_FALSE(parse(qwen3_moe()).norm_topk_prob);
  CHECK(parse(qwen3_moe({{"num_local_experts", 16}})).num_experts == 16);
  CHECK(parse(qwen3_moe({{"decoder_sparse_step", 2}})).mlp_only_layers == Layers{0, 2});
  CHECK(parse(qwen3_moe({{"decoder_sparse_step", 2}, {"mlp_only_layers", {3}}})).mlp_only_layers == Layers{0, 2, 3});
  CHECK_FALSE(parse(qwen3_moe({{"mlp_only_layers", {1}}})).has_experts(1));
  CHECK(
      parse(qwen3_moe({{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 2}})).layer_window ==
      Layers{8, 8, 8, 8});
}

TEST_CASE("Llama's relatives: what is wrong is named") {
  struct Case {
    json root;
    const char* message;
  };
  const json one_type = {"full_attention"};
  const json types = {"full_attention", "full_attention", "full_attention", "sliding_attention"};
  const Case cases[] = {
      {mistral({{"sliding_window", 0}}), "sliding_window is '0', expected a number of tokens, or null"},
      {mistral({{"sliding_window", "wide"}}), "sliding_window is"},
      {mistral({{"hidden_size", 65}}), "hidden_size 65 is no multiple of num_attention_heads 4"},
      {mistral({{"num_key_value_heads", 3}}), "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
      {mistral({{"head_dim", 15}}), "rotary_dim is 15, expected an even number from 0 to head_dim 15"},
      {mixtral({{"num_local_experts", -1}}), "num_experts is -1"},
      {mixtral({{"num_local_experts", 2}, {"num_experts_per_tok", 3}}),
       "num_experts_per_tok is 3, expected 1 to num_experts 2"},
      {mixtral({{"num_experts_per_tok", 0}}), "num_experts_per_tok is 0"},
      {mixtral({{"router_aux_loss_coef", -1}}), "router_aux_loss_coef is -1"},
      {mixtral({{"num_local_experts", 65537}}), "num_experts is 65537, expected 1 to 65536"},
      {qwen2({{"use_sliding_window", 1}}), "use_sliding_window is '1', expected true or false"},
      {qwen2({{"use_sliding_window", true}, {"max_window_layers", "all"}}), "max_window_layers is"},
      {qwen2({{"layer_types", one_type}}), "expected full_attention for each of 4 layers"},
      {qwen2({{"layer_types", types}}), "expected full_attention for each of 4 layers"},  // and no window to slide
      {qwen2({{"layer_types", 3}, {"use_sliding_window", true}}),
       "expected full_attention or sliding_attention for each"},
      {qwen2({{"num_hidden_layers", 1000000}, {"use_sliding_window", true}, {"max_window_layers", 0}}),
       "num_hidden_layers is 1000000"},
      {qwen3({{"head_dim", 0}, {"num_attention_heads", 3}}), "hidden_size 64 is no multiple of num_attention_heads 3"},
      {qwen3({{"vocab_size", 0}}), "vocab_size is 0"},
      {qwen3_moe({{"moe_intermediate_size", -4}}), "moe_intermediate_size is -4"},
      {qwen3_moe({{"mlp_only_layers", {4}}}), "mlp_only_layers holds 4, expected 0 to 3"},
      {qwen3_moe({{"mlp_only_layers", {0, 1, 2, 3, 3}}}), "mlp_only_layers holds 5 values, the model has 4 layers"},
      {qwen3_moe({{"mlp_only_layers", 1}}), "mlp_only_layers is '1', expected a list of integers"},
      {qwen3_moe({{"decoder_sparse_step", 0}}), "decoder_sparse_step is '0', expected 1 or more"},
      {qwen3_moe({{"num_experts", 4}}), "num_experts_per_tok is 8, expected 1 to num_experts 4"},
  };
  for (const Case& c : cases) {
    INFO(c.message);
    try {
      parse(c.root);
      CHECK(false);
    } catch (const Error& e) {
      CHECK_THAT(e.what(), ContainsSubstring(c.message));
      CHECK_THAT(e.what(), ContainsSubstring("config.json"));
    }
  }
}

TEST_CASE("every published size reads the same from config.json, in both spellings of the rope settings") {
  size_t compared = 0;
  for (const char* family : {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"})
    for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "configs" / family)) {
      INFO(entry.path().string());
      if (is_recipe(entry.path())) continue;
      const ModelConfig c = read_config_yaml(entry.path().string(), family_configs());
      json root = {{"architectures", {c.architecture}},
                   {"model_type", c.model_type},
                   {"vocab_size", c.vocab_size},
                   {"hidden_size", c.hidden_size},
                   {"intermediate_size", c.intermediate_size},
                   {"num_hidden_layers", c.num_hidden_layers},
                   {"num_attention_heads", c.num_attention_heads},
                   {"num_key_value_heads", c.num_key_value_heads},
                   {"head_dim", c.head_dim},
                   {"max_position_embeddings", c.max_position_embeddings},
                   {"rms_norm_eps", c.norm_eps},
                   {"tie_word_embeddings", c.tie_word_embeddings},
                   {"torch_dtype", c.dtype},
                   {"bos_token_id", *c.bos_token_id},
                   {"eos_token_id", c.eos_token_ids[0]},
                   {"sliding_window", c.layer_window.empty() ? json() : json(c.layer_window[0])},
                   {"note", "kept"}};
      if (c.num_experts > 0) {
        root[c.model_type == "mixtral" ? "num_local_experts" : "num_experts"] = c.num_experts;
        root["num_experts_per_tok"] = c.num_experts_per_tok;
        root["router_aux_loss_coef"] = c.router_aux_loss_coef;
        if (c.model_type == "qwen3_moe") root["norm_topk_prob"] = c.norm_topk_prob;
        if (c.model_type == "qwen3_moe") root["moe_intermediate_size"] = c.moe_intermediate_size;
      }
      json scaling = {{"rope_type", "llama3"},
                      {"factor", c.rope_factor},
                      {"original_max_position_embeddings", c.rope_original_max_position},
                      {"low_freq_factor", c.rope_low_freq_factor},
                      {"high_freq_factor", c.rope_high_freq_factor}};
      if (c.rope_scaling == RopeScaling::linear) scaling = {{"rope_type", "linear"}, {"factor", c.rope_factor}};
      if (c.rope_scaling == RopeScaling::none) scaling = {{"rope_type", "default"}};
      json before = root, now = root;
      before["rope_theta"] = c.rope_theta;
      if (c.rope_scaling != RopeScaling::none) before["rope_scaling"] = scaling;
      scaling["rope_theta"] = c.rope_theta;
      now["rope_parameters"] = scaling;
      for (const ModelConfig& other : {parse(before), parse(now)}) {
        CHECK(other.architecture == c.architecture);
        CHECK(other.vocab_size == c.vocab_size);
        CHECK(other.num_key_value_heads == c.num_key_value_heads);
        CHECK(other.head_dim == c.head_dim);
        CHECK(other.rotary_dim == c.rotary_dim);
        CHECK(other.tie_word_embeddings == c.tie_word_embeddings);
        CHECK(other.norm_eps == c.norm_eps);
        CHECK(other.attention_bias == c.attention_bias);
        CHECK(other.qk_norm == c.qk_norm);
        CHECK(other.layer_window == c.layer_window);
        CHECK(other.num_experts == c.num_experts);
        CHECK(other.num_experts_per_tok == c.num_experts_per_tok);
        CHECK(other.moe_intermediate_size == c.moe_intermediate_size);
        CHECK(other.norm_topk_prob == c.norm_topk_prob);
        CHECK(other.mlp_only_layers == c.mlp_only_layers);
        CHECK(other.rope_scaling == c.rope_scaling);
        CHECK(other.rope_theta == c.rope_theta);
        CHECK(other.rope_factor == c.rope_factor);
        CHECK(other.dtype == c.dtype);
        CHECK(other.extra.at("note") == "\"kept\"");
      }
      ++compared;
    }
  CHECK(compared > 50);
}
