// Configurations out of YAML and GGUF: the published sizes, and the same values from every kind of file.
#include <filesystem>

#include "config/model_config.h"
#include "formats/gguf.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/formats/gguf_builder.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using B = GgufBuilder;

namespace {

int64_t parameters(const ModelConfig& c) {
  const int64_t C = c.hidden_size, F = c.intermediate_size, L = c.num_hidden_layers, V = c.vocab_size;
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t head = c.tie_word_embeddings ? 0 : V * C;
  if (c.model_type == "gpt2") {
    const int64_t attention = 4 * C * C + 4 * C, feed_forward = 2 * C * F + F + C, norms = 4 * C;
    return V * C + c.max_position_embeddings * C + L * (attention + feed_forward + norms) + 2 * C + head;
  }
  // The families that are Llama but for options.
  const int64_t biases = c.attention_bias ? q + 2 * kv : 0, head_norms = c.qk_norm ? 2 * c.head_dim : 0;
  const int64_t experts = c.num_experts * (3 * C * c.moe_intermediate_size + C);
  const int64_t feed_forward = c.num_experts > 0 ? experts : 3 * C * F;
  return V * C + L * (2 * q * C + 2 * kv * C + biases + head_norms + feed_forward + 2 * C) + C + head;
}

std::string yaml_refusal(const std::string& text, std::string* hint = nullptr) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "a.yaml";
  write_file(path, text);
  try {
    read_config_yaml(path.string());
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

ModelConfig read(const B& b) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "a.gguf";
  write_file(path, b.build());
  return read_config_gguf(*GgufFile::open(path.string()));
}

}  // namespace

TEST_CASE("yaml: every published size has its published number of parameters") {
  const std::map<std::string, int64_t> published = {
      {"gpt2/124m", 124439808},
      {"gpt2/355m", 354823168},
      {"gpt2/774m", 774030080},
      {"gpt2/1558m", 1557611200},
      {"llama/2-7b", 6738415616},
      {"llama/2-13b", 13015864320},
      {"llama/2-70b", 68976648192},
      {"llama/3-8b", 8030261248},
      {"llama/3-70b", 70553706496},
      {"llama/3.1-8b", 8030261248},
      {"llama/3.1-70b", 70553706496},
      {"llama/3.1-405b", 405853388800},
      {"llama/3.2-1b", 1235814400},
      {"llama/3.2-3b", 3212749824},
      {"llama/codellama-7b", 6738546688},
      {"llama/codellama-13b", 13016028160},
      {"llama/codellama-34b", 33743970304},
      {"llama/codellama-70b", 68976910336},
      {"llama/smollm2-135m", 134515008},
      {"llama/smollm2-360m", 361821120},
      {"llama/smollm2-1.7b", 1711376384},
      {"llama/tinyllama-1.1b", 1100048384},
      {"llama/stories260k", 260032},
      {"mistral/7b-v0.1", 7241732096},
      {"mistral/7b-v0.2", 7241732096},
      {"mistral/7b-v0.3", 7248023552},
      {"mistral/ministral-8b", 8019808256},
      {"mistral/nemo-12b", 12247782400},
      {"mistral/small-22b", 22247282688},
      {"mistral/small-24b", 23572403200},
      {"mistral/large-123b", 122610069504},
      {"mixtral/8x7b", 46702792704},
      {"mixtral/8x22b", 140620634112},
      {"qwen2/1.5-0.5b", 463987712},
      {"qwen2/1.5-1.8b", 1836828672},
      {"qwen2/1.5-4b", 3950369280},
      {"qwen2/1.5-7b", 7721324544},
      {"qwen2/1.5-14b", 14167290880},
      {"qwen2/1.5-32b", 32512218112},
      {"qwen2/1.5-72b", 72287920128},
      {"qwen2/1.5-110b", 111209914368},
      {"qwen2/2-0.5b", 494032768},
      {"qwen2/2-1.5b", 1543714304},
      {"qwen2/2-7b", 7615616512},
      {"qwen2/2-72b", 72706203648},
      {"qwen2/2.5-0.5b", 494032768},
      {"qwen2/2.5-1.5b", 1543714304},
      {"qwen2/2.5-3b", 3085938688},
      {"qwen2/2.5-7b", 7615616512},
      {"qwen2/2.5-14b", 14770033664},
      {"qwen2/2.5-32b", 32763876352},
      {"qwen2/2.5-72b", 72706203648},
      {"qwen3/0.6b", 596049920},
      {"qwen3/1.7b", 1720574976},
      {"qwen3/4b", 4022468096},
      {"qwen3/4b-2507", 4022468096},
      {"qwen3/8b", 8190735360},
      {"qwen3/14b", 14768307200},
      {"qwen3/32b", 32762123264},
      {"qwen3_moe/30b-a3b", 30532122624},
      {"qwen3_moe/30b-a3b-2507", 30532122624},
      {"qwen3_moe/235b-a22b", 235093634560},
      {"qwen3_moe/235b-a22b-2507", 235093634560},
      {"qwen3_moe/coder-480b-a35b", 480154875392},
  };
  const auto root = source_dir() / "configs";
  size_t found = 0;
  for (const auto& folder : std::filesystem::directory_iterator(root))
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string family = folder.path().filename().string(), name = family + "/" + entry.path().stem().string();
      INFO(name);
      const ModelConfig c = read_config_yaml(entry.path().string());
      CHECK(c.model_type == family);
      REQUIRE(published.contains(name));
      CHECK(parameters(c) == published.at(name));
      if (family == "llama" || family == "gpt2") CHECK(c.head_dim * c.num_attention_heads == c.hidden_size);
      CHECK(c.eos_token_ids.size() == 1);
      ++found;
    }
  CHECK(found == published.size());
}

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
  wrong_pattern.entry("llama.attention.sliding_window", 32u).entry("llama.attention.sliding_window_pattern", 6u);
  CHECK_THROWS_WITH(read(wrong_pattern), ContainsSubstring("must hold one boolean for each of 2 layers"));
  B values = llama_gguf();
  values.entry("llama.attention.key_length", 32u).entry("llama.attention.value_length", 16u);
  CHECK_THROWS_WITH(read(values), ContainsSubstring("keys have 32 components and values 16"));
}

TEST_CASE("config.json, GGUF and YAML give the same values for the same model") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto folder = *shared / "models/stories260K";
  const ModelConfig json = read_config_json((folder / "hf/config.json").string());
  const ModelConfig gguf = read_config_gguf(*GgufFile::open((folder / "gguf/stories260K-f32.gguf").string()));
  const ModelConfig yaml = read_config_yaml((source_dir() / "configs/llama/stories260k.yaml").string());
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
