// Every key of config.json that the reference acts on is used, or refused by name where two contradict; what nobody
// reads is named with the key that it may have been meant to be.
#include <nlohmann/json.hpp>

#include "config/config_values.h"
#include "config/model_config.h"
#include "llm/family.h"
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

json root_of(const char* architecture, const char* model_type) {
  return {{"architectures", {architecture}},
          {"model_type", model_type},
          {"vocab_size", 100},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 64}};
}
const json kOlmo = root_of("Olmo2ForCausalLM", "olmo2");
const json kQwen3 = root_of("Qwen3ForCausalLM", "qwen3");
const json kNeoxKeys = root_of("GPTNeoXForCausalLM", "gpt_neox");
const json kFalconKeys = root_of("FalconForCausalLM", "falcon");
const json kGemmaKeys = root_of("Gemma3ForCausalLM", "gemma3_text");
const json kMixtral = root_of("MixtralForCausalLM", "mixtral");

}  // namespace

TEST_CASE("config.json: rope_scaling decides beside rope_parameters, and the two may not contradict") {
  const json linear = {{"rope_type", "linear"}, {"factor", 2.0}};
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"original_max_position_embeddings", 16},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0}};
  const json unscaled = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  for (const json& root : {kOlmo, kQwen3}) {
    const ModelConfig both = parse(root, {{"rope_scaling", llama3}, {"rope_parameters", unscaled}});
    CHECK(both.rope_scaling == RopeScaling::llama3);
    CHECK(both.rope_factor == 8.0);
    CHECK(both.rope_original_max_position == 16);
    CHECK(both.rope_theta == 10000.0);
    CHECK(parse(root, {{"rope_scaling", linear}, {"rope_parameters", linear}}).rope_factor == 2.0);
    // An empty object says nothing.
    CHECK(parse(root, {{"rope_scaling", json::object()}, {"rope_parameters", linear}}).rope_factor == 2.0);
    // rope_scaling brings no base, so the reference falls back to the family's or the one beside it.
    const json other_base = {{"rope_type", "default"}, {"rope_theta", 300.0}};
    std::string hint;
    CHECK_THAT(refusal(root, {{"rope_scaling", linear}, {"rope_parameters", other_base}}, &hint),
               ContainsSubstring("rope_parameters.rope_theta is '300.0'") && ContainsSubstring("rope_scaling"));
    CHECK(hint == "delete rope_scaling or rope_parameters");
    CHECK(parse(root, {{"rope_theta", 300.0}, {"rope_scaling", linear}, {"rope_parameters", other_base}}).rope_theta ==
          300.0);
    CHECK_THAT(refusal(root, {{"rope_scaling", linear}, {"rope_parameters", llama3}}),
               ContainsSubstring("rope_parameters.rope_type is '\"llama3\"'"));
    CHECK_THAT(refusal(root, {{"rope_scaling", unscaled}, {"rope_parameters", linear}}),
               ContainsSubstring("rope_parameters.rope_type is '\"linear\"'"));
  }
  // Gemma 3's rope_scaling is of the layers that see everything, whose other settings stand in rope_parameters.
  const json by_type = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 3e6}}},
                        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}};
  const ModelConfig gemma = parse(kGemmaKeys, {{"rope_scaling", linear}, {"rope_parameters", by_type}});
  CHECK(gemma.rope_scaling == RopeScaling::linear);
  CHECK(gemma.rope_theta == 3e6);
  CHECK(gemma.rope_local_theta == 2e4);
  CHECK_THAT(refusal(kGemmaKeys, {{"rope_parameters", linear}}),
             ContainsSubstring("full_attention and sliding_attention"));
}

TEST_CASE("config.json: the rotated share, the original context and the base under several names") {
  // The reference reads rotary_pct and the share in a block, a quarter where neither is.
  CHECK(parse(kNeoxKeys, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}}).rotary_dim == 4);
  CHECK(parse(kNeoxKeys, {{"rope_parameters", {{"rope_theta", 500.0}}}}).rotary_dim == 4);
  CHECK(parse(kNeoxKeys, {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}).rotary_dim == 8);
  CHECK(parse(kNeoxKeys, {{"rotary_pct", 0.5}, {"partial_rotary_factor", 0.5}}).rotary_dim == 8);
  CHECK_THAT(refusal(kNeoxKeys, {{"rotary_pct", 0.5}, {"partial_rotary_factor", 1.0}}),
             ContainsSubstring("partial_rotary_factor is '1.0', expected 0.5 as the rest"));
  CHECK_THAT(refusal(kNeoxKeys, {{"partial_rotary_factor", 0.5}}),
             ContainsSubstring("partial_rotary_factor is '0.5', expected 0.25"));
  CHECK_THAT(refusal(kNeoxKeys, {{"rope_theta", 500.0}}), ContainsSubstring("rope_theta is '500.0', expected 10000"));
  CHECK(parse(kNeoxKeys, {{"rotary_emb_base", 500.0}, {"rope_theta", 500.0}}).rope_theta == 500.0);
  const json linear = {{"rope_type", "linear"}, {"factor", 2.0}};
  const auto beside = [&](double share) {
    return json{{"rope_scaling", linear}, {"rope_parameters", {{"partial_rotary_factor", share}}}};
  };
  CHECK(parse(kNeoxKeys, beside(0.25)).rotary_dim == 4);
  CHECK_THAT(refusal(kNeoxKeys, beside(0.5)), ContainsSubstring("rope_parameters.partial_rotary_factor is '0.5'"));
  // Families that rotate whole heads.
  for (const json& root : {kOlmo, kFalconKeys, kGemmaKeys})
    CHECK_THAT(refusal(root, {{"partial_rotary_factor", 0.5}}), ContainsSubstring("rotates whole heads"));
  CHECK(parse(kOlmo, {{"rotary_pct", 0.5}}).rotary_dim == 16);  // no key of the family, nor of the reference
  CHECK(parse(kOlmo, {{"rotary_pct", 0.5}}).extra.count("rotary_pct") == 1);

  json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  CHECK_THAT(refusal(kOlmo, {{"rope_parameters", yarn}, {"original_max_position_embeddings", 32}}),
             ContainsSubstring("original_max_position_embeddings is 32, but 16"));
  CHECK(parse(kOlmo, {{"rope_parameters", yarn}, {"original_max_position_embeddings", 16}}).context_limit() == 64);
  yarn["rope_type"] = "dynamic";
  CHECK_THAT(refusal(kOlmo, {{"rope_parameters", yarn}}), ContainsSubstring("expected max_position_embeddings 64"));
}

TEST_CASE("config.json: two names of one setting, and what null means") {
  CHECK(parse(kMixtral, {{"num_experts", 6}}).num_experts == 6);
  CHECK_THAT(refusal(kMixtral, {{"num_experts", 6}, {"num_local_experts", 4}}),
             ContainsSubstring("num_experts is '6', expected 4 as num_local_experts has it"));
  CHECK_THAT(refusal(kFalconKeys, {{"n_embed", 32}}), ContainsSubstring("n_embed is '32', expected 64 as hidden_size"));
  const json mpt = {{"model_type", "mpt"},
                    {"vocab_size", 100},
                    {"hidden_size", 64},
                    {"num_hidden_layers", 3},
                    {"num_attention_heads", 8}};
  CHECK(parse(mpt, json::object()).num_hidden_layers == 3);
  CHECK(parse(mpt, {{"d_model", 64}}).num_attention_heads == 8);
  CHECK_THAT(refusal(mpt, {{"n_heads", 4}}), ContainsSubstring("num_attention_heads is '8', expected 4 as n_heads"));

  // Missing, these mean true; null is false in the reference.
  CHECK(parse(kFalconKeys, json::object()).use_parallel_residual);
  CHECK_FALSE(parse(kFalconKeys, {{"parallel_attn", nullptr}}).use_parallel_residual);
  CHECK(parse(kFalconKeys, json::object()).num_key_value_heads == 1);
  CHECK(parse(kFalconKeys, {{"multi_query", nullptr}}).num_key_value_heads == 4);
  CHECK(parse(kGemmaKeys, json::object()).pad_token_id == 0);
  CHECK_FALSE(parse(kGemmaKeys, {{"pad_token_id", nullptr}}).pad_token_id);
  CHECK(parse(kMixtral, {{"num_key_value_heads", nullptr}}).num_key_value_heads == 4);
  CHECK_THAT(refusal(kGemmaKeys, {{"hidden_act", "silu"}}), ContainsSubstring("or the name hidden_activation"));
}

TEST_CASE("config.json: a key that looks misspelt is told with the known one, a missing one with what the file has") {
  const ModelConfig c = parse(kGemmaKeys, {{"final_logit_softcaping", 30.0},
                                           {"query_preattn_scalar", 9},
                                           {"sep_token_id", 3},
                                           {"attention_dropout", 0.0},
                                           {"use_cache", true}});
  CHECK(c.misspelt == std::map<std::string, std::string>{{"final_logit_softcaping", "final_logit_softcapping"},
                                                         {"query_preattn_scalar", "query_pre_attn_scalar"}});
  const json unknown = unknown_keys(c, family_of(c));
  CHECK(unknown.size() == 5);
  CHECK(unknown["query_preattn_scalar"] == "query_pre_attn_scalar");
  CHECK(unknown["use_cache"].is_null());
  // A name that the file has as well was not meant.
  CHECK(parse(kQwen3, {{"head_dims", 16}, {"head_dim", 16}}).misspelt.empty());
  CHECK(parse(kOlmo, {{"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"atention_factor", 2}}}}).misspelt ==
        std::map<std::string, std::string>{{"rope_scaling.atention_factor", "attention_factor"}});
  const json mpt = {{"model_type", "mpt"}, {"vocab_size", 100}, {"d_model", 64}, {"n_layers", 2}, {"n_heads", 8}};
  CHECK(parse(mpt, {{"attn_config", {{"clip_qvk", 6}}}}).misspelt.at("attn_config.clip_qvk") == "clip_qkv");

  json lacking = kQwen3;
  lacking["intermediate_sise"] = lacking["intermediate_size"];
  lacking.erase("intermediate_size");
  std::string hint;
  CHECK_THAT(refusal(lacking, json::object(), &hint), ContainsSubstring("the key intermediate_size is missing"));
  CHECK(hint == "the file has 'intermediate_sise'");
}

TEST_CASE("YAML: config.json's name of a field is told, and values that no config.json gives are refused") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.yaml").string();
  const auto refused = [&](const std::string& text, std::string* hint) {
    write_file(path, text);
    try {
      read_config_yaml(path, family_configs());
      return std::string();
    } catch (const Error& e) {
      *hint = e.hint();
      return std::string(e.what());
    }
  };
  std::string text = read_file(source_dir() / "configs/gemma3/270m.yaml"), hint;
  const std::pair<const char*, const char*> names[] = {{"query_pre_attn_scalar", "attention_scale"},
                                                       {"final_logit_softcapping", "final_logit_softcap"},
                                                       {"rope_local_base_freq", "rope_local_theta"},
                                                       {"hidden_activation", "hidden_act"},
                                                       {"rms_norm_eps", "norm_eps"}};
  for (const auto& [name, field] : names) {
    CHECK_THAT(refused(text + name + ": 4\n", &hint), ContainsSubstring("is not known"));
    CHECK(hint == "this is config.json's name: here it is " + std::string(field));
  }
  // What the family always has.
  for (const char* field : {"embedding_scale", "norm_offset", "qk_norm"}) {
    INFO(field);
    std::string without = text;
    const size_t line = without.find("\n" + std::string(field) + ":");
    if (line == std::string::npos) {
      without += std::string(field) + ": " + (field == std::string("qk_norm") ? "false\n" : "3.5\n");
    } else {
      without.erase(line, without.find('\n', line + 1) - line);
      without += std::string(field) + ": " + (field == std::string("qk_norm") ? "false\n" : "3.5\n");
    }
    CHECK_THAT(refused(without, &hint), ContainsSubstring(std::string(field) + " is") &&
                                            ContainsSubstring("config.json of a gemma3_text cannot say"));
  }
}

TEST_CASE("config values: every field that differs from its default is shown") {
  const json shown =
      config_values(parse(kGemmaKeys, {{"final_logit_softcapping", 20.0}, {"query_pre_attn_scalar", 25}}));
  CHECK(shown["attention_scale"] == 0.2);
  CHECK(shown["final_logit_softcap"] == 20.0);
  CHECK(shown["embedding_scale"] == 8.0);
  CHECK(shown["norm_offset"] == 1.0);
  CHECK(shown["qk_norm"] == true);
  CHECK(shown["layer_window"] == json({4096, 4096}));
  CHECK(shown["context_limit"] == 64);
  CHECK_FALSE(shown.contains("qkv_clip"));
  CHECK_FALSE(config_values(parse(kOlmo, json::object())).contains("attention_scale"));
}
