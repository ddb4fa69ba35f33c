// config.json and GGUF metadata of the families with keys of their own: what published files say, in every spelling,
// and tables of broken ones.
#include <cmath>
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
using B = GgufBuilder;

namespace {

struct Broken {
  json changes;
  const char* message;
};
void check_refused(const json& root, const std::vector<Broken>& cases) {
  for (const Broken& c : cases) {
    INFO(c.changes.dump());
    CHECK_THROWS_WITH(parse(root, c.changes), ContainsSubstring(c.message) && ContainsSubstring("config.json"));
  }
  CHECK_NOTHROW(parse(root));
}

B gguf(const std::string& architecture, uint32_t layers) {
  B b;
  b.entry("general.architecture", architecture.c_str())
      .entry((architecture + ".embedding_length").c_str(), 64u)
      .entry((architecture + ".block_count").c_str(), layers)
      .entry((architecture + ".feed_forward_length").c_str(), 256u)
      .entry((architecture + ".attention.head_count").c_str(), 4u)
      .entry((architecture + ".context_length").c_str(), 128u)
      .entry((architecture + ".vocab_size").c_str(), 100u);
  return b;
}

const json kNeox = json::parse(R"({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 100,
  "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu",
  "rotary_pct": 0.25, "rotary_emb_base": 20000, "use_parallel_residual": false, "layer_norm_eps": 1e-06,
  "bos_token_id": 0, "eos_token_id": 0})");
const json kFalcon = json::parse(R"({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "vocab_size": 100,
  "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4})");
const json kOldFalcon = json::parse(R"({"architectures": ["RWForCausalLM"], "model_type": "RefinedWebModel",
  "vocab_size": 100, "hidden_size": 64, "n_layer": 2, "n_head": 4, "multi_query": true, "parallel_attn": true,
  "alibi": false, "bias": false, "apply_residual_connection_post_layernorm": false})");
const json kMpt = json::parse(R"({"architectures": ["MPTForCausalLM"], "model_type": "mpt", "vocab_size": 100,
  "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128, "expansion_ratio": 4, "no_bias": true,
  "logit_scale": null, "learned_pos_emb": true, "attn_config": {"alibi": true, "alibi_bias_max": 16, "clip_qkv": 6,
  "attn_type": "multihead_attention", "attn_impl": "torch", "prefix_lm": false, "qk_ln": false, "softmax_scale": null}})");
const json kGemma = json::parse(R"({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
  "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 7, "num_attention_heads": 4,
  "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 512, "query_pre_attn_scalar": 25,
  "rope_theta": 1000000.0, "rope_local_base_freq": 20000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
  "attn_logit_softcapping": null, "final_logit_softcapping": null, "hidden_activation": "gelu_pytorch_tanh"})");
const json kQwen = json::parse(R"({"architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": 100,
  "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "kv_channels": 16,
  "seq_length": 2048, "max_position_embeddings": 8192, "rotary_emb_base": 10000, "rotary_pct": 1.0, "no_bias": true,
  "use_dynamic_ntk": true, "use_logn_attn": true, "scale_attn_weights": true, "layer_norm_epsilon": 1e-06})");

}  // namespace

TEST_CASE("config.json: GPT-NeoX") {
  const ModelConfig c = parse(kNeox);
  CHECK(c.rotary_dim == 4);
  CHECK(c.rope_theta == 20000.0);
  CHECK_FALSE(c.use_parallel_residual);
  CHECK(c.attention_bias);
  CHECK(c.mlp_bias);
  CHECK(c.norm_eps == 1e-6);
  const json new_spelling = {
      {"rotary_pct", "(absent)"},
      {"rotary_emb_base", "(absent)"},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 20000.0}, {"partial_rotary_factor", 0.25}}}};
  CHECK(parse(kNeox, new_spelling).rotary_dim == 4);
  CHECK(parse(kNeox, new_spelling).rope_theta == 20000.0);
  // A quarter where nothing is said, and parallel.
  CHECK(parse(kNeox, {{"rotary_pct", "(absent)"}}).rotary_dim == 4);
  CHECK(parse(kNeox, {{"use_parallel_residual", "(absent)"}}).use_parallel_residual);
  check_refused(kNeox, {{{{"rotary_pct", 1.5}}, "rotary_pct is '1.5', expected a number above 0 up to 1"},
                        {{{"rotary_pct", 0.2}}, "rotary_dim is 3, expected an even number"},
                        {{{"num_attention_heads", 5}}, "hidden_size 64 is no multiple of num_attention_heads 5"},
                        {{{"use_parallel_residual", 1}}, "use_parallel_residual is '1', expected true or false"},
                        {{{"intermediate_size", "(absent)"}}, "the key intermediate_size is missing"},
                        {{{"rotary_emb_base", -1}}, "rope_theta is -1, expected above 0"},
                        {{{"vocab_size", 0}}, "vocab_size is 0"}});
}

TEST_CASE("config.json: Falcon, its decoders in old and new spelling") {
  const ModelConfig b7 = parse(kFalcon);
  CHECK(b7.num_key_value_heads == 1);
  CHECK(b7.use_parallel_residual);
  CHECK(b7.shared_parallel_norm);
  CHECK(b7.intermediate_size == 256);
  CHECK(b7.tie_word_embeddings);
  const ModelConfig old7 = parse(kOldFalcon);
  CHECK(old7.num_key_value_heads == 1);
  CHECK(old7.shared_parallel_norm);
  CHECK(old7.num_hidden_layers == 2);
  CHECK(parse(kOldFalcon, {{"architectures", nullptr}}).model_type == "falcon");

  const json old40 = {{"model_type", "RefinedWeb"}, {"n_head_kv", 2}, {"multi_query", "(absent)"}};
  const json new40 = {{"new_decoder_architecture", true}, {"num_kv_heads", 2}, {"multi_query", true}};
  for (const ModelConfig& c : {parse(kOldFalcon, old40), parse(kFalcon, new40)}) {
    CHECK(c.num_key_value_heads == 2);
    CHECK(c.use_parallel_residual);
    CHECK_FALSE(c.shared_parallel_norm);
  }
  json falcon2 = new40;
  falcon2["num_ln_in_parallel_attn"] = 1;
  falcon2["ffn_hidden_size"] = 100;
  CHECK(parse(kFalcon, falcon2).shared_parallel_norm);
  CHECK(parse(kFalcon, falcon2).intermediate_size == 100);

  const ModelConfig rw =
      parse(kFalcon, {{"alibi", true}, {"multi_query", false}, {"parallel_attn", false}, {"bias", true}});
  CHECK(rw.num_key_value_heads == 4);
  CHECK_FALSE(rw.use_parallel_residual);
  CHECK(rw.alibi);
  CHECK_FALSE(rw.uses_rope());
  CHECK(rw.attention_bias);
  CHECK(rw.mlp_bias);
  check_refused(kFalcon, {{{{"new_decoder_architecture", true}, {"num_kv_heads", 3}},
                           "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
                          {{{"multi_query", 1}}, "multi_query is '1', expected true or false"},
                          {{{"num_attention_heads", 5}}, "hidden_size 64 is no multiple of num_attention_heads 5"},
                          {{{"hidden_size", "(absent)"}}, "hidden_size is 0"},
                          {{{"activation", "relu"}}, "activation is"},
                          {{{"hidden_size", 60}}, "rotary_dim is 15, expected an even number"},
                          {{{"rope_scaling", {{"type", "linear"}}}}, "the key rope_scaling.factor is missing"},
                          {{{"apply_residual_connection_post_layernorm", true}}, "expected false"}});
}

TEST_CASE("config.json: MPT") {
  const ModelConfig c = parse(kMpt);
  CHECK(c.alibi);
  CHECK(c.alibi_bias_max == 16.0);
  CHECK(c.qkv_clip == 6.0);
  CHECK(c.attention_scale == 0.0);
  CHECK(c.intermediate_size == 256);
  CHECK_FALSE(c.attention_bias);
  CHECK(c.tie_word_embeddings);
  CHECK(parse(kMpt, {{"attn_config", {{"softmax_scale", 0.5}}}}).attention_scale == 0.5);
  CHECK(parse(kMpt, {{"attn_config", {{"attn_pdrop", 0}}}}).extra.at("attn_config.attn_pdrop") == "0");
  check_refused(kMpt, {{{{"attn_config", {{"attn_type", "multiquery_attention"}}}}, "attn_config.attn_type is"},
                       {{{"attn_config", {{"alibi", false}}}}, "attn_config.alibi is 'false', expected true"},
                       {{{"attn_config", {{"qk_ln", true}}}}, "attn_config.qk_ln is 'true', expected false"},
                       {{{"attn_config", {{"clip_qkv", -1}}}}, "qkv_clip is -1, expected at least 0"},
                       {{{"attn_config", {{"alibi_bias_max", 0}}}}, "alibi_bias_max is 0, expected above 0"},
                       {{{"attn_config", 3}}, "attn_config is '3', expected an object or null"},
                       {{{"expansion_ratio", 0}}, "expansion_ratio is '0', expected an integer from 1 to 1024"},
                       {{{"logit_scale", "inv_sqrt_d_model"}}, "logit_scale is"},
                       {{{"no_bias", false}}, "no_bias is 'false', expected true"},
                       {{{"n_heads", 6}}, "hidden_size 64 is no multiple of num_attention_heads 6"},
                       {{{"d_model", "(absent)"}}, "the key d_model is missing"}});
}

TEST_CASE("config.json: Gemma 3, both spellings of layers and rope") {
  const ModelConfig c = parse(kGemma);
  const std::vector<int64_t> windows = {512, 512, 512, 512, 512, 0, 512};
  CHECK(c.layer_window == windows);
  CHECK(c.rope_theta == 1e6);
  CHECK(c.rope_local_theta == 2e4);
  CHECK(c.rope_scaling == RopeScaling::linear);
  CHECK(c.rope_factor == 8.0);
  CHECK(c.rope_kind(0) == 1);
  CHECK(c.rope_kind(5) == 0);
  CHECK(c.attention_scale == 0.2);
  CHECK(c.embedding_scale == 8.0);
  CHECK(c.norm_offset == 1.0);
  CHECK(c.qk_norm);
  CHECK(c.tie_word_embeddings);
  const json types = {"sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention",
                      "sliding_attention", "full_attention",    "sliding_attention"};
  const json ropes = {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}};
  const ModelConfig d = parse(kGemma, {{"rope_theta", "(absent)"},
                                       {"rope_local_base_freq", "(absent)"},
                                       {"rope_scaling", "(absent)"},
                                       {"rope_parameters", ropes},
                                       {"layer_types", types}});
  CHECK(d.layer_window == windows);
  CHECK(d.rope_theta == 1e6);
  CHECK(d.rope_local_theta == 2e4);
  CHECK(d.rope_scaling == RopeScaling::linear);
  CHECK(d.rope_factor == 8.0);
  CHECK(parse(kGemma, {{"sliding_window_pattern", 2}}).layer_window[1] == 0);
  CHECK(parse(kGemma, {{"final_logit_softcapping", 30.0}}).final_logit_softcap == 30.0);
  check_refused(
      kGemma,
      {{{{"layer_types", {"full_attention"}}}, "expected full_attention or sliding_attention for each of 7 layers"},
       {{{"layer_types", {"a", "b", "c", "d", "e", "f", "g"}}},
        "expected full_attention or sliding_attention for each of 7 layers"},
       {{{"sliding_window", 0}}, "sliding_window is '0', expected a number of tokens"},
       {{{"sliding_window", nullptr}}, "sliding_window is 'null', expected a number of tokens"},
       {{{"sliding_window_pattern", 0}}, "sliding_window_pattern is '0', expected 1 or more"},
       {{{"query_pre_attn_scalar", 0}}, "query_pre_attn_scalar is '0', expected a number above 0"},
       {{{"attn_logit_softcapping", 50.0}}, "attn_logit_softcapping is '50.0', expected null"},
       {{{"final_logit_softcapping", -1}}, "final_logit_softcap is -1"},
       {{{"use_bidirectional_attention", true}}, "expected false"},
       {{{"num_key_value_heads", 3}}, "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
       {{{"rope_local_base_freq", -2}}, "rope_local_theta is -2"},
       {{{"rope_parameters", {{"sliding_attention", {{"rope_type", "linear"}, {"factor", 2}}}}}},
        "expected the rope_type default"},
       {{{"rope_parameters", {{"full_attention", 3}}}}, "full_attention is '3', expected an object or null"},
       {{{"hidden_activation", "relu"}}, "hidden_activation is"}});
}

TEST_CASE("config.json: OLMo 2") {
  const json root = json::parse(R"({"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "vocab_size": 100,
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "rms_norm_eps": 1e-06, "rope_theta": 500000, "eos_token_id": 99})");
  const ModelConfig c = parse(root);
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.rope_theta == 5e5);
  CHECK_FALSE(c.qk_norm);  // its norms are not of a head
  check_refused(root, {{{{"num_key_value_heads", 3}}, "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
                       {{{"hidden_size", 66}}, "hidden_size 66 is no multiple of num_attention_heads 4"},
                       {{{"rms_norm_eps", -1}}, "norm_eps is -1"},
                       {{{"num_hidden_layers", 0}}, "num_hidden_layers is 0"},
                       {{{"rope_theta", 0}}, "rope_theta is 0"},
                       {{{"vocab_size", "(absent)"}}, "the key vocab_size is missing"}});
}

TEST_CASE("config.json: Phi-3") {
  const json root = json::parse(R"({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 100,
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "original_max_position_embeddings": 64,
    "sliding_window": 48, "rope_theta": 10000.0, "rope_scaling": null})");
  const ModelConfig c = parse(root);
  CHECK(c.layer_window == std::vector<int64_t>{48, 48});
  CHECK(c.rope_original_max_position == 0);  // nothing is scaled
  CHECK(c.rotary_dim == 16);
  CHECK(c.context_limit() == 512);
  CHECK(parse(root, {{"sliding_window", nullptr}}).layer_window.empty());
  CHECK(parse(root, {{"partial_rotary_factor", 0.75}}).rotary_dim == 12);
  const json ones(8, 1.0), six(6, 1.0);
  for (const char* name : {"longrope", "su", "yarn"}) {
    const ModelConfig scaled =
        parse(root, {{"rope_scaling", {{"type", name}, {"short_factor", ones}, {"long_factor", ones}, {"factor", 8}}}});
    CHECK(scaled.rope_scaling == RopeScaling::longrope);
    CHECK(scaled.rope_original_max_position == 64);
    CHECK(scaled.rope_factor == 8.0);
  }
  check_refused(root, {{{{"num_key_value_heads", 3}}, "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
                       {{{"sliding_window", -1}}, "sliding_window is '-1', expected a number of tokens, or null"},
                       {{{"rope_scaling", {{"type", "longrope"}, {"short_factor", ones}, {"long_factor", six}}}},
                        "rope_long_factor holds 6 values, expected rotary_dim / 2 = 8"},
                       {{{"partial_rotary_factor", 2}}, "partial_rotary_factor is '2', expected a number above 0"},
                       {{{"hidden_size", 66}}, "hidden_size 66 is no multiple of num_attention_heads 4"}});
}

TEST_CASE("gguf: Phi-3 has the divisors of longrope as tensors") {
  const auto file = [](uint32_t original) {
    return gguf("phi3", 2)
        .entry("phi3.rope.dimension_count", 12u)
        .entry("phi3.rope.scaling.original_context_length", original)
        .entry("phi3.attention.sliding_window", 48u)
        .tensor("rope_factors_long.weight", {6}, 0, counting_floats(7).substr(4))
        .tensor("rope_factors_short.weight", {6}, 0, counting_floats(7).substr(4));
  };
  const ModelConfig c = read(file(32));
  CHECK(c.rope_scaling == RopeScaling::longrope);
  CHECK(c.rope_long_factor == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(c.rope_short_factor.size() == 6);
  CHECK(c.rope_factor == 4.0);
  CHECK(c.layer_window == std::vector<int64_t>{48, 48});
  CHECK(read(gguf("phi3", 2)).rope_scaling == RopeScaling::none);
  CHECK_THROWS_WITH(read(file(0)), ContainsSubstring("phi3.rope.scaling.original_context_length' is 0"));
  CHECK_THROWS_WITH(read(gguf("phi3", 2).tensor("rope_factors_long.weight", {3, 2}, 0, counting_floats(6))),
                    ContainsSubstring("rope_factors_long.weight' is of type F32 and rank 2, expected F32 and 1"));
}

TEST_CASE("config.json: Qwen, the first generation") {
  const ModelConfig c = parse(kQwen);
  CHECK(c.intermediate_size == 128);
  CHECK(c.head_dim == 16);
  CHECK(c.rope_scaling == RopeScaling::qwen);
  CHECK(c.rope_original_max_position == 2048);
  CHECK(c.use_logn_attention);
  CHECK(c.attention_bias);
  CHECK_FALSE(c.attention_output_bias);
  CHECK(c.context_limit() == 8192);
  CHECK(parse(kQwen, {{"no_bias", false}}).mlp_bias);
  CHECK(parse(kQwen, {{"use_dynamic_ntk", false}}).rope_scaling == RopeScaling::none);
  check_refused(kQwen, {{{{"intermediate_size", 255}}, "intermediate_size is '255', expected an even number"},
                        {{{"seq_length", 1}}, "use_logn_attention is set, but rope_original_max_position is 1"},
                        {{{"seq_length", 0}}, "rope_original_max_position is 0"},
                        {{{"kv_channels", 15}}, "rotary_dim is 15, expected an even number"},
                        {{{"scale_attn_weights", false}}, "scale_attn_weights is 'false', expected true"},
                        {{{"use_dynamic_ntk", 3}}, "use_dynamic_ntk is '3', expected true or false"},
                        {{{"layer_norm_epsilon", "x"}}, "layer_norm_epsilon is"}});
}

TEST_CASE("config.json: longrope in both spellings") {
  const json llama = json::parse(R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512})");
  const json factors = {{"rope_type", "longrope"},
                        {"original_max_position_embeddings", 64},
                        {"short_factor", {1.0, 1, 1.5, 2}},
                        {"long_factor", {1, 2, 3, 4}}};
  json with_theta = factors, su = factors;
  with_theta["rope_theta"] = 1e4;
  su["type"] = "su";  // as the first files of Phi-3 have it, with the original context beside the settings
  su.erase("rope_type");
  su.erase("original_max_position_embeddings");
  for (const ModelConfig& c :
       {parse(llama, {{"rope_parameters", with_theta}}), parse(llama, {{"rope_scaling", factors}}),
        parse(llama, {{"rope_scaling", su}, {"original_max_position_embeddings", 64}})}) {
    CHECK(c.rope_scaling == RopeScaling::longrope);
    CHECK(c.rope_factor == 8.0);
    CHECK(c.rope_original_max_position == 64);
    CHECK(c.rope_short_factor == std::vector<double>{1, 1, 1.5, 2});
    CHECK(c.rope_long_factor == std::vector<double>{1, 2, 3, 4});
    CHECK(c.context_limit() == 512);
  }
  json two = factors, negative = factors, text = factors;
  two["long_factor"] = {1, 2};
  negative["short_factor"] = {1, 1, 1, -1};
  text["short_factor"] = "1";
  check_refused(llama, {{{{"rope_scaling", two}}, "rope_long_factor holds 2 values, expected rotary_dim / 2 = 4"},
                        {{{"rope_scaling", negative}}, "rope_short_factor is -1, expected above 0"},
                        {{{"rope_scaling", text}}, "expected a list of numbers"}});
}

TEST_CASE("gguf: families with keys of their own") {
  const ModelConfig neox =
      read(gguf("gptneox", 2).entry("gptneox.use_parallel_residual", B::boolean, std::string(1, '\0')));
  CHECK(neox.model_type == "gpt_neox");
  CHECK_FALSE(neox.use_parallel_residual);

  const ModelConfig falcon = read(gguf("falcon", 2).entry("falcon.attention.head_count_kv", 1u));
  CHECK(falcon.num_key_value_heads == 1);
  CHECK(falcon.shared_parallel_norm);

  const ModelConfig mpt =
      read(gguf("mpt", 2).entry("mpt.attention.max_alibi_bias", 8.0f).entry("mpt.attention.clamp_kqv", 6.0f));
  CHECK(mpt.alibi);
  CHECK(mpt.qkv_clip == 6.0);
  CHECK_FALSE(mpt.uses_rope());

  const ModelConfig gemma = read(gguf("gemma3", 7)
                                     .entry("gemma3.attention.sliding_window", 512u)
                                     .entry("gemma3.attention.key_length", 32u)
                                     .entry("gemma3.attention.head_count_kv", 1u)
                                     .entry("gemma3.rope.freq_base", 1e6f));
  CHECK(gemma.model_type == "gemma3_text");
  CHECK(gemma.norm_offset == 0.0);
  CHECK(gemma.layer_window == std::vector<int64_t>{512, 512, 512, 512, 512, 0, 512});
  CHECK(gemma.rope_local_theta == 1e4);
  CHECK(gemma.attention_scale == 0.0);
  CHECK(gemma.embedding_scale == 8.0);
  CHECK(read(gguf("gemma3", 62).entry("gemma3.attention.sliding_window", 512u)).attention_scale == 0.25);

  const ModelConfig qwen = read(gguf("qwen", 2));
  CHECK(qwen.intermediate_size == 128);
  CHECK(qwen.rope_scaling == RopeScaling::none);
  CHECK_FALSE(qwen.use_logn_attention);
}

TEST_CASE("config.json and GGUF: Gemma, Gemma 2 and Granite") {
  const json sizes = {{"vocab_size", 100},      {"hidden_size", 64},        {"intermediate_size", 128},
                      {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                      {"head_dim", 32}};
  json first = sizes, second = sizes, granite = sizes;
  first["model_type"] = "gemma";
  first["hidden_act"] = "gelu";  // as the first files say, and mean its tanh form
  const ModelConfig a = parse(first);
  CHECK(a.architecture == "GemmaForCausalLM");
  CHECK(a.hidden_act == "gelu_pytorch_tanh");
  CHECK(a.embedding_scale == 8.0);
  CHECK(a.norm_offset == 1.0);
  CHECK(a.tie_word_embeddings);
  CHECK(parse(first, {{"hidden_activation", "gelu"}}).hidden_act == "gelu_pytorch_tanh");
  check_refused(first,
                {{{{"hidden_activation", "silu"}}, "expected gelu_pytorch_tanh, as hidden_act has it, or null"}});

  second["model_type"] = "gemma2";
  const ModelConfig b = parse(second);
  CHECK(b.layer_window == std::vector<int64_t>{4096, 0, 4096});
  CHECK(b.attention_softcap == 50.0);
  CHECK(b.final_logit_softcap == 30.0);
  CHECK(b.attention_scale == 1.0 / 16.0);
  CHECK(parse(second, {{"attn_logit_softcapping", nullptr}}).attention_softcap == 0.0);
  CHECK(parse(second, {{"final_logit_softcapping", nullptr}}).final_logit_softcap == 0.0);
  CHECK(parse(second, {{"sliding_window", nullptr}}).layer_window.empty());
  check_refused(second, {{{{"hidden_act", "silu"}}, "or the name hidden_activation"},
                         {{{"use_bidirectional_attention", true}}, "false: nothing else is supported"}});

  const ModelConfig c = read(gguf("gemma2", 46).entry("gemma2.final_logit_softcapping", 20.0f));
  CHECK(c.attention_softcap == 50.0);
  CHECK(c.final_logit_softcap == 20.0);
  CHECK(c.layer_window[44] == 4096);
  CHECK(c.layer_window[45] == 0);
  CHECK(c.attention_scale == 0.25);  // 46 layers are 27B: sqrt(4 / 64)
  CHECK(c.norm_offset == 0.0);
  CHECK(read(gguf("gemma2", 3)).attention_scale == 0.0);
  CHECK(read(gguf("gemma", 3)).embedding_scale == 8.0);

  granite["model_type"] = "granite";
  CHECK(parse(granite).attention_scale == 1.0);
  const ModelConfig d = read(gguf("granite", 2).entry("granite.residual_scale", 0.22f));
  CHECK(d.residual_scale == 0.22);  // and not the nearest 32-bit number to it
  check_refused(granite, {{{{"residual_multiplier", 0}}, "residual_scale is 0, expected above 0"},
                          {{{"logits_scaling", -1}}, "logit_divisor is -1, expected above 0"}});
}
