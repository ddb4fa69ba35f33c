// Configurations out of YAML and GGUF: the same values from every kind of file.
#include "config/model_config.h"
#include "llm/registry.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/config/parsing.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using B = GgufBuilder;

namespace {

std::string yaml_refusal(const std::string& text, std::string* hint = nullptr) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "a.yaml";
  write_file(path, text);
  try {
    read_config_yaml(path.string(), family_configs());
    return {};
  } catch (const Error& e) {
    if (hint) *hint = e.hint();
    return e.what();
  }
}

const std::string kYaml =
    "architecture: LlamaForCausalLM\nvocab_size: 128\nhidden_size: 64\nintermediate_size: 128\n"
    "num_hidden_layers: 2\nnum_attention_heads: 4\n";

B llama_gguf() {
  B b;
  b.entry("general.architecture", "llama").entry("llama.embedding_length", 64u).entry("llama.block_count", 2u);
  b.list("llama.feed_forward_length", B::i32, {B::bytes_of(128), B::bytes_of(128)});
  b.entry("llama.attention.head_count", 4u)
      .entry("llama.attention.head_count_kv", 2u)
      .entry("llama.context_length", 256u);
  b.entry("llama.attention.layer_norm_rms_epsilon", 1e-5f).entry("llama.rope.freq_base", 500000.0f);
  b.list("tokenizer.ggml.tokens", B::string, {"a", "b", "c"});
  b.entry("tokenizer.ggml.bos_token_id", 1u)
      .entry("tokenizer.ggml.eos_token_id", 2u)
      .entry("tokenizer.ggml.eot_token_id", 0u);
  return b;
}

}  // namespace

TEST_CASE("yaml: what is left out follows, what is wrong is named with its line") {
  std::string hint;
  CHECK(yaml_refusal(kYaml).empty());
  CHECK_THAT(yaml_refusal(kYaml + "hiden_act: silu\n", &hint),
             ContainsSubstring("a.yaml:7: the key 'hiden_act' is not known"));
  CHECK(hint == "did you mean hidden_act?");
  CHECK_THAT(yaml_refusal(kYaml + "mlp_bias: 3\n"),
             ContainsSubstring("a.yaml:7: mlp_bias is '3', expected true or false"));
  CHECK_THAT(yaml_refusal(kYaml + "head_dim: wide\n"), ContainsSubstring("head_dim is 'wide', expected an integer"));
  CHECK_THAT(yaml_refusal(kYaml + "norm_eps: [1]\n"), ContainsSubstring("norm_eps is a list, expected a number"));
  CHECK_THAT(yaml_refusal(kYaml + "eos_token_ids: 3\n"), ContainsSubstring("expected a list of integers"));
  CHECK_THAT(yaml_refusal(kYaml + "rope_scaling: foo\n"),
             ContainsSubstring("rope_scaling is 'foo', expected one of default"));
  CHECK_THAT(yaml_refusal(kYaml + "vocab_size: 64\n"),
             ContainsSubstring("a.yaml:7: the key 'vocab_size' appears twice"));
  CHECK_THAT(yaml_refusal("vocab_size: 64\n"), ContainsSubstring("the key architecture is missing"));
  CHECK_THAT(yaml_refusal("architecture: Foo\n"), ContainsSubstring("the architecture 'Foo' is not known"));
  CHECK_THAT(yaml_refusal("- 1\n"), ContainsSubstring("expected keys and values"));
  CHECK_THAT(yaml_refusal("a: b: c\n"), ContainsSubstring("a.yaml:1"));
  CHECK_THAT(yaml_refusal(kYaml + "num_key_value_heads: 3\n"),
             ContainsSubstring("no multiple of num_key_value_heads 3"));
  CHECK_THAT(yaml_refusal(std::string(20000, '[')), ContainsSubstring("a.yaml:1"));
  CHECK_THAT(yaml_refusal(kYaml + "hidden_size: 99999999999999999999\n"), ContainsSubstring("appears twice"));
}

TEST_CASE("gguf: metadata becomes a configuration") {
  const ModelConfig c = read(llama_gguf());
  CHECK(c.architecture == "LlamaForCausalLM");
  CHECK(c.vocab_size == 3);
  CHECK(c.hidden_size == 64);
  CHECK(c.intermediate_size == 128);
  CHECK(c.num_key_value_heads == 2);
  CHECK(c.head_dim == 16);
  CHECK(c.rotary_dim == 16);
  CHECK(c.norm_eps == 1e-5);  // as config.json says it, not the 32-bit float beside it
  CHECK(c.rope_theta == 500000.0);
  CHECK(c.tie_word_embeddings);
  CHECK_FALSE(c.attention_bias);
  CHECK(c.bos_token_id == 1);
  CHECK(c.eos_token_ids == std::vector<int64_t>{2, 0});
}

TEST_CASE("gguf: the tensors tell the head, the biases and the divisors of the frequencies") {
  B b = llama_gguf();
  b.tensor("rope_freqs.weight", {8}, 0, B::bytes_of(1.0f) + counting_floats(8).substr(4));
  b.tensor("output.weight", {64, 3}, 1, std::string(64 * 3 * 2, '\0'));
  b.tensor("blk.0.attn_q.bias", {64}, 0, counting_floats(64));
  const ModelConfig c = read(b);
  CHECK_FALSE(c.tie_word_embeddings);
  CHECK(c.attention_bias);
  CHECK_FALSE(c.attention_output_bias);
  CHECK(c.rope_frequency_factors == std::vector<float>{1, 1, 2, 3, 4, 5, 6, 7});
  CHECK(c.dtype == "float16");

  B wrong = llama_gguf();
  wrong.tensor("rope_freqs.weight", {3}, 0, counting_floats(3));
  CHECK_THROWS_WITH(read(wrong),
                    ContainsSubstring("rope_frequency_factors holds 3 values, expected rotary_dim / 2 = 8"));
}

TEST_CASE("gguf: an architecture with experts is another family") {
  B b = llama_gguf();
  b.entry("llama.expert_count", 4u).entry("llama.expert_used_count", 2u);
  b.tensor("blk.1.ffn_gate_inp.weight", {64, 4}, 0, counting_floats(256));
  const ModelConfig c = read(b);
  CHECK(c.architecture == "MixtralForCausalLM");
  CHECK(c.num_experts == 4);
  CHECK(c.num_experts_per_tok == 2);
  CHECK(c.moe_intermediate_size == 128);
  CHECK(c.norm_topk_prob);
  CHECK(c.mlp_only_layers == std::vector<int64_t>{0});  // it has no router
}

TEST_CASE("gguf: sliding windows, in all layers or in some") {
  B b = llama_gguf();
  b.entry("llama.attention.sliding_window", 32u);
  CHECK(read(b).layer_window == std::vector<int64_t>{32, 32});
  b.list("llama.attention.sliding_window_pattern", B::boolean, {B::bytes_of(uint8_t{0}), B::bytes_of(uint8_t{1})});
  CHECK(read(b).layer_window == std::vector<int64_t>{0, 32});
  CHECK(read(b).model_type == "llama");
  for (const uint32_t period : {1u, 2u, 3u, 4000000000u}) {
    B p = llama_gguf();
    p.entry("llama.attention.sliding_window", 32u).entry("llama.attention.sliding_window_pattern", period);
    CHECK(read(p).layer_window == std::vector<int64_t>{period == 1 ? 0 : 32, period <= 2 ? 0 : 32});
  }
}

TEST_CASE("gguf: of the families that share an architecture, Mistral is the one with a window everywhere") {
  CHECK(read(llama_gguf()).model_type == "llama");
  B b = llama_gguf();
  b.entry("llama.attention.sliding_window", 32u);
  CHECK(read(b).model_type == "mistral");
  CHECK(read(b).architecture == "MistralForCausalLM");
}

TEST_CASE("gguf: rope scaling") {
  B linear = llama_gguf();
  linear.entry("llama.rope.scaling.type", "linear").entry("llama.rope.scaling.factor", 4.0f);
  CHECK(read(linear).rope_scaling == RopeScaling::linear);
  CHECK(read(linear).context_limit() == 1024);
  B yarn = llama_gguf();
  yarn.entry("llama.rope.scaling.type", "yarn").entry("llama.rope.scaling.factor", 4.0f);
  yarn.entry("llama.rope.scaling.original_context_length", 64u);
  CHECK(read(yarn).rope_original_max_position == 64);
  CHECK(read(yarn).context_limit() == 256);
}

TEST_CASE("gguf: what is missing or not supported is named") {
  B none;
  CHECK_THROWS_WITH(read(none), ContainsSubstring("'general.architecture' is missing"));
  B other;
  other.entry("general.architecture", "mamba");
  CHECK_THROWS_WITH(read(other),
                    ContainsSubstring("the architecture 'mamba' is not known, expected one of llama, gpt2"));
  B short_one;
  short_one.entry("general.architecture", "llama").entry("llama.vocab_size", 3u);
  CHECK_THROWS_WITH(read(short_one), ContainsSubstring("'llama.embedding_length' is missing"));
  B experts = llama_gguf();
  experts.entry("llama.expert_count", 8u);
  CHECK_THROWS_WITH(read(experts), ContainsSubstring("'llama.expert_used_count' is missing"));
  B wrong_pattern = llama_gguf();
  wrong_pattern.entry("llama.attention.sliding_window", 32u).entry("llama.attention.sliding_window_pattern", "all");
  B no_period = llama_gguf();
  no_period.entry("llama.attention.sliding_window", 32u).entry("llama.attention.sliding_window_pattern", 0u);
  CHECK_THROWS_WITH(read(no_period), ContainsSubstring("sliding_window_pattern' is 0, expected 1 or more"));
  CHECK_THROWS_WITH(read(wrong_pattern), ContainsSubstring("must hold one boolean for each of 2 layers"));
  B values = llama_gguf();
  values.entry("llama.attention.key_length", 32u).entry("llama.attention.value_length", 16u);
  CHECK_THROWS_WITH(read(values), ContainsSubstring("keys have 32 components and values 16"));
}

TEST_CASE("config.json, GGUF and YAML give the same values for the same model") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto folder = *shared / "models/stories260K";
  const ModelConfig json = read_config_json((folder / "hf/config.json").string(), family_configs());
  const ModelConfig gguf =
      read_config_gguf(*GgufFile::open((folder / "gguf/stories260K-f32.gguf").string()), family_configs());
  const ModelConfig yaml =
      read_config_yaml((source_dir() / "configs/llama/stories260k.yaml").string(), family_configs());
  for (const ModelConfig* other : {&gguf, &yaml}) {
    INFO(other->source);
    CHECK(other->architecture == json.architecture);
    CHECK(other->vocab_size == json.vocab_size);
    CHECK(other->hidden_size == json.hidden_size);
    CHECK(other->intermediate_size == json.intermediate_size);
    CHECK(other->num_hidden_layers == json.num_hidden_layers);
    CHECK(other->num_attention_heads == json.num_attention_heads);
    CHECK(other->num_key_value_heads == json.num_key_value_heads);
    CHECK(other->head_dim == json.head_dim);
    CHECK(other->rotary_dim == json.rotary_dim);
    CHECK(other->max_position_embeddings == json.max_position_embeddings);
    CHECK(other->tie_word_embeddings == json.tie_word_embeddings);
    CHECK(other->hidden_act == json.hidden_act);
    CHECK(other->norm_eps == json.norm_eps);
    CHECK(other->rope_theta == json.rope_theta);
    CHECK(other->bos_token_id == json.bos_token_id);
    CHECK(other->eos_token_ids == json.eos_token_ids);
    CHECK(other->dtype == json.dtype);
  }
}
