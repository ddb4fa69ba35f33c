// A config written from its fields is read back with the same ones.
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/config_export.h"
#include "llm/family.h"
#include "llm/registry.h"
#include "tensor/errors.h"
#include "tests/catch.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

const char* const kLlama = R"("architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
  "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
  "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "eos_token_id": [2, 7])";

const GgufValue* find(const GgufMetadata& metadata, const std::string& key) {
  for (const auto& [name, value] : metadata)
    if (name == key) return &value;
  return nullptr;
}

std::string to_config_json(const ModelConfig& c) { return lathe::to_config_json(c, family_of(c)); }
GgufMetadata to_config_gguf(const ModelConfig& c) { return lathe::to_config_gguf(c, family_of(c)); }

}  // namespace

TEST_CASE("config export: config.json says every field again") {
  // to_config_json reads its text back and compares each field; it throws where one differs.
  const std::string llama = kLlama;
  for (const std::string& text :
       {"{" + llama + "}",
        "{" + llama + R"(, "rope_theta": 500000.0, "tie_word_embeddings": true, "attention_bias": true})",
        "{" + llama + R"(, "rope_scaling": {"rope_type": "linear", "factor": 2.0}})",
        "{" + llama + R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})",
        "{" + llama + R"(, "bos_token_id": null, "torch_dtype": "bfloat16"})",
        std::string(R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 64,
          "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "rotary_pct": 0.5, "rotary_emb_base": 500})"),
        "{" + llama + R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}})",
        "{" + llama + R"(, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.1,
          "original_max_position_embeddings": 64, "truncate": false}})",
        "{" + llama + R"(, "rope_scaling": {"rope_type": "longrope", "factor": 4.0, "attention_factor": 1.2,
          "original_max_position_embeddings": 64, "short_factor": [1, 1, 1, 1, 1, 1.1, 1.2, 1.3],
          "long_factor": [1, 1, 2, 2, 3, 3, 4, 4]}})",
        std::string(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 64, "n_embd": 64,
          "n_layer": 2, "n_head": 4, "n_positions": 32, "eos_token_id": null})"),
        std::string(R"({"architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": 64, "hidden_size": 64,
          "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "kv_channels": 16,
          "seq_length": 128, "use_logn_attn": false, "no_bias": true})")}) {
    INFO(text);
    const ModelConfig c = parse_config_json(text, "source", family_configs());
    CHECK_NOTHROW(to_config_json(c));
  }
  ModelConfig c = parse_config_json("{" + llama + "}", "source", family_configs());
  c.rope_frequency_factors.assign(8, 2.0f);
  CHECK_THROWS_WITH(to_config_json(c), ContainsSubstring("a divisor each"));
  c.rope_frequency_factors.clear();
  c.layer_window = {0, 16};
  c.qk_norm = true;
  CHECK_THROWS_WITH(to_config_json(c),
                    ContainsSubstring("config.json of a llama cannot say 2 fields: qk_norm is true and "
                                      "would be read as false; layer_window is [0,16] and"));
}

TEST_CASE("config export: Gemma 3 as its reference wants it") {
  // The reference's class takes an integer for query_pre_attn_scalar alone, and divides by any cap but null. Scales
  // come from GGUF as 0 (1 / sqrt(D)) or, of 27B, as sqrt(Hq / C) = 1 / sqrt(168), whose inverse square is
  // 167.99999999999997.
  const std::string gemma = R"("architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 64,
    "hidden_size": 5376, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 32, "head_dim": 128,
    "num_key_value_heads": 16, "sliding_window": 32, "layer_types": ["sliding_attention", "full_attention",
    "sliding_attention", "full_attention"])";
  ModelConfig c = parse_config_json("{" + gemma + "}", "source", family_configs());
  const auto written = [&] { return nlohmann::json::parse(to_config_json(c)); };
  c.attention_scale = 0.0;
  CHECK(written()["query_pre_attn_scalar"].is_number_integer());
  CHECK(written()["query_pre_attn_scalar"] == 128);
  c.attention_scale = std::sqrt(32.0 / 5376.0);
  CHECK(written()["query_pre_attn_scalar"].is_number_integer());
  CHECK(written()["query_pre_attn_scalar"] == 168);
  CHECK(written()["final_logit_softcapping"].is_null());
  CHECK(written()["sliding_window"] == 32);
  CHECK(written()["layer_types"][1] == "full_attention");
  c.final_logit_softcap = 30.0;
  CHECK(written()["final_logit_softcapping"] == 30.0);

  GgufMetadata metadata = to_config_gguf(c);
  CHECK(*find(metadata, "gemma3.attention.sliding_window_pattern") == GgufValue(int64_t{2}));
  CHECK(*find(metadata, "gemma3.final_logit_softcapping") == GgufValue(30.0));
  c.layer_window = {32, 32, 32, 32};  // the first four of a period of six, which is what a file without one means
  metadata = to_config_gguf(c);
  CHECK(find(metadata, "gemma3.attention.sliding_window_pattern") == nullptr);
}

TEST_CASE("config export: MPT's slope of ALiBi is the integer that its reference asks for") {
  ModelConfig c = parse_config_json(R"({"architectures": ["MptForCausalLM"], "vocab_size": 64, "d_model": 64,
    "n_layers": 2, "n_heads": 4, "attn_config": {"alibi": true, "alibi_bias_max": 6}})",
                                    "source", family_configs());
  CHECK(nlohmann::json::parse(to_config_json(c))["attn_config"]["alibi_bias_max"].is_number_integer());
  c.alibi_bias_max = 6.5;
  CHECK(nlohmann::json::parse(to_config_json(c))["attn_config"]["alibi_bias_max"] == 6.5);
}

TEST_CASE("config export: a window that is none is written as null") {
  // Without the key, the reference's Mistral has one of 4096 tokens.
  const std::string mistral = R"("architectures": ["MistralForCausalLM"], "vocab_size": 64, "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2)";
  for (const char* window : {"null", "7"}) {
    const ModelConfig c =
        parse_config_json("{" + mistral + ", \"sliding_window\": " + window + "}", "source", family_configs());
    CHECK(nlohmann::json::parse(to_config_json(c))["sliding_window"] == nlohmann::json::parse(window));
  }
}

TEST_CASE("config export: GGUF keys are set, replaced and taken out") {
  GgufMetadata metadata = {{"a.x", int64_t{1}}};
  GgufKeys keys(metadata, "a");
  keys.set("y", true);
  keys.set("x", 2.5);
  CHECK(metadata == GgufMetadata{{"a.x", 2.5}, {"a.y", true}});
  keys.erase("x");
  keys.erase("z");
  CHECK(metadata == GgufMetadata{{"a.y", true}});
}

TEST_CASE("config export: GGUF metadata") {
  const ModelConfig c = parse_config_json("{" + std::string(kLlama) + R"(, "rope_scaling": {"rope_type": "linear",
    "factor": 2.0}})",
                                          "source", family_configs());
  const GgufMetadata metadata = to_config_gguf(c);
  CHECK(metadata.front() == std::pair<std::string, GgufValue>("general.architecture", std::string("llama")));
  CHECK(*find(metadata, "llama.attention.head_count_kv") == GgufValue(int64_t{2}));
  CHECK(*find(metadata, "llama.attention.layer_norm_rms_epsilon") == GgufValue(1e-6));
  CHECK(*find(metadata, "llama.rope.scaling.type") == GgufValue(std::string("linear")));
  CHECK(*find(metadata, "llama.rope.scaling.factor") == GgufValue(2.0));
}
