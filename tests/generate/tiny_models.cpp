#include "tests/generate/tiny_models.h"

#include <cstring>

#include "config/model_config.h"
#include "kernels/packed_linear.h"
#include "kernels/quantise.h"
#include "llm/family.h"
#include "llm/registry.h"
#include "tensor/random.h"
#include "tests/byte_level_tokenizer.h"

namespace lathe::test {
namespace {

ModelConfig tiny(const char* architecture, const char* model_type) {
  ModelConfig c;
  c.architecture = architecture;
  c.model_type = model_type;
  c.vocab_size = 257;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 16;
  c.max_position_embeddings = 512;
  c.initializer_range = 0.3;  // so that no two logits are nearly equal
  return c;
}

ModelConfig llama() {
  ModelConfig c = tiny("LlamaForCausalLM", "llama");
  c.hidden_act = "silu";
  c.rotary_dim = c.head_dim;
  return c;
}

ModelConfig windowed_llama() {
  ModelConfig c = llama();
  c.layer_window = {24, 0};
  return c;
}

ModelConfig wide_llama() {
  ModelConfig c = llama();
  c.hidden_size = c.intermediate_size = 256;
  c.head_dim = c.rotary_dim = 256 / c.num_attention_heads;
  return c;
}

ModelConfig gpt2() {
  ModelConfig c = tiny("GPT2LMHeadModel", "gpt2");
  c.num_key_value_heads = c.num_attention_heads;
  c.hidden_act = "gelu_new";
  c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
  c.tie_word_embeddings = true;
  return c;
}

ModelConfig qwen3() {
  ModelConfig c = llama();
  c.architecture = "Qwen3ForCausalLM";
  c.model_type = "qwen3";
  c.qk_norm = true;
  return c;
}

ModelConfig qwen3_moe() {
  ModelConfig c = qwen3();
  c.architecture = "Qwen3MoeForCausalLM";
  c.model_type = "qwen3_moe";
  c.num_experts = 4;
  c.num_experts_per_tok = 2;
  c.moe_intermediate_size = 32;
  return c;
}

ModelConfig gpt_neox() {
  ModelConfig c = tiny("GPTNeoXForCausalLM", "gpt_neox");
  c.num_key_value_heads = c.num_attention_heads;
  c.hidden_act = "gelu";
  c.rotary_dim = c.head_dim / 4;
  c.use_parallel_residual = c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
  return c;
}

ModelConfig mpt() {
  ModelConfig c = tiny("MptForCausalLM", "mpt");
  c.num_attention_heads = c.num_key_value_heads = 6;
  c.hidden_act = "gelu";
  c.alibi = c.tie_word_embeddings = true;
  c.qkv_clip = 2.0;
  return c;
}

ModelConfig gemma3() {
  ModelConfig c = tiny("Gemma3ForCausalLM", "gemma3_text");
  c.hidden_act = "gelu_pytorch_tanh";
  c.rotary_dim = c.head_dim;
  c.layer_window = {24, 0};
  c.rope_theta = 1e6;
  c.rope_local_theta = 1e4;
  c.qk_norm = c.tie_word_embeddings = true;
  c.norm_offset = 1.0;
  c.embedding_scale = 8.0;
  c.attention_scale = 0.3;
  c.final_logit_softcap = 30.0;
  return c;
}

ModelConfig qwen1() {
  ModelConfig c = llama();
  c.architecture = "QWenLMHeadModel";
  c.model_type = "qwen";
  c.rope_scaling = RopeScaling::qwen;
  c.rope_original_max_position = 100;
  c.attention_bias = c.use_logn_attention = true;
  return c;
}

}  // namespace

const ModelConfig& tiny_llama() {
  static const ModelConfig config = llama();
  return config;
}
const ModelConfig& tiny_windowed_llama() {
  static const ModelConfig config = windowed_llama();
  return config;
}
const ModelConfig& tiny_wide_llama() {
  static const ModelConfig config = wide_llama();
  return config;
}
const ModelConfig& tiny_gpt2() {
  static const ModelConfig config = gpt2();
  return config;
}
const ModelConfig& tiny_qwen3() {
  static const ModelConfig config = qwen3();
  return config;
}
const ModelConfig& tiny_qwen3_moe() {
  static const ModelConfig config = qwen3_moe();
  return config;
}
const ModelConfig& tiny_gpt_neox() {
  static const ModelConfig config = gpt_neox();
  return config;
}
const ModelConfig& tiny_mpt() {
  static const ModelConfig config = mpt();
  return config;
}
const ModelConfig& tiny_gemma3() {
  static const ModelConfig config = gemma3();
  return config;
}
const ModelConfig& tiny_qwen1() {
  static const ModelConfig config = qwen1();
  return config;
}

std::vector<std::reference_wrapper<const ModelConfig>> tiny_models() {
  using Model = std::reference_wrapper<const ModelConfig>;
  const Model all[] = {tiny_llama(),     tiny_windowed_llama(), tiny_gpt2(), tiny_qwen3(),
                       tiny_qwen3_moe(), tiny_gpt_neox(),       tiny_mpt(),  tiny_gemma3()};
  return tried<Model>(all, 2);
}

std::unique_ptr<CausalLM> make_tiny(const ModelConfig& config, DType weights, Arithmetic arithmetic, Device device) {
  std::unique_ptr<CausalLM> model = family_of(config).make(config);
  initialise(*model, 1);
  for (const NamedParameter& named : named_parameters(*model)) {
    Parameter& p = *named.parameter;
    const bool is_matrix = p.kind == Parameter::Kind::matrix || p.kind == Parameter::Kind::embedding;
    if (!is_matrix || weights == DType::f32) continue;
    const Tensor stored = Tensor::empty(p.shape, weights);
    const int64_t columns = p.shape[1];
    for (int64_t row = 0; row < p.shape[0]; ++row)
      quantise_row(static_cast<uint8_t*>(stored.raw()) + bytes_of(weights, row * columns),
                   p.value.data<float>() + row * columns, weights, columns);
    p.value = stored;
  }
  move_weights(*model, device);
  prepare_for_inference(*model, arithmetic);
  return model;
}

std::shared_ptr<const Tokenizer> byte_tokenizer() { return byte_level_tokenizer(single_bytes(), {"<|im_end|>"}); }

std::vector<int32_t> random_tokens(int64_t count, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(256.0 * random_uniform(seed, 0, static_cast<uint64_t>(i))));
  return tokens;
}

void feed(const CausalLM& model, KVCache& cache, const std::vector<HandFed*>& sequences,
          const std::vector<int64_t>& counts) {
  const int64_t longest = model.sizes.max_position_embeddings;
  const auto rope = RopeTables(model.config, longest).of(longest);
  std::vector<BatchSequence> parts;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (counts[i] == 0) continue;
    const HandFed& s = *sequences[i];
    BatchSequence& b = parts.emplace_back();
    b.tokens = std::span(s.tokens).subspan(static_cast<size_t>(s.cached), static_cast<size_t>(counts[i]));
    b.cached = s.cached;
    b.pages.assign(cache.groups(), s.pages);
    b.rope = rope.get();
  }
  const Tensor rows = logits(model, make_batch(parts, &cache));  // (R, V)
  const float* row = rows.data<float>();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t elements = counts[i] * model.sizes.vocab_size;
    sequences[i]->logits.insert(sequences[i]->logits.end(), row, row + elements);
    sequences[i]->cached += counts[i];
    row += elements;
  }
}

KVCache poisoned_cache(const CausalLM& model, DType dtype, int64_t pages) {
  KVCache cache(model.sizes, dtype, std::vector<int64_t>(layer_groups(model.sizes).size(), pages));
  for (size_t g = 0; g < cache.groups(); ++g) std::memset(cache.pages(g).raw(), 0xff, cache.pages(g).bytes());
  return cache;
}

}  // namespace lathe::test
