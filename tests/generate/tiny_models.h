// Tiny random models, a byte tokenizer for them, and passes over them by hand.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "llm/registry.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe::test {

// Two layers of width 64 over a vocabulary of 257: the bytes and one special token. The windowed one has a layer that
// sees 24 keys and one that sees all, so two page tables.
const ModelConfig& tiny_llama();
const ModelConfig& tiny_windowed_llama();
const ModelConfig& tiny_wide_llama();  // rows of 256, for the K formats
const ModelConfig& tiny_gpt2();
const ModelConfig& tiny_qwen3();      // norms over heads
const ModelConfig& tiny_qwen3_moe();  // and two of four experts for each token
const ModelConfig& tiny_gpt_neox();   // attention and feed-forward net in parallel, a quarter of each head rotated
const ModelConfig& tiny_mpt();        // ALiBi over six heads, clamped projections
const ModelConfig& tiny_gemma3();     // two bases of rope, two windows, norms before and after
const ModelConfig& tiny_qwen1();      // queries that grow with their position
// One of each form, for laws that hold for every model.
std::vector<std::reference_wrapper<const ModelConfig>> tiny_models();  // under a sanitizer every second

// How a model is computed: what its weights are stored as and multiplied with, and what the cache holds.
struct Setting {
  DType weights;
  Arithmetic arithmetic;
  DType cache;
};

// Fresh weights, the matrices rounded or quantised to `weights` and packed for `arithmetic`.
std::unique_ptr<CausalLM> make_tiny(const ModelConfig& config, DType weights = DType::f32,
                                    Arithmetic arithmetic = Arithmetic::f32, Device device = {});

inline constexpr int32_t kEndToken = 256;
// Token b is the byte b; kEndToken is the special token "<|im_end|>".
std::shared_ptr<const Tokenizer> byte_tokenizer();

// `count` pseudo-random ids below 256.
std::vector<int32_t> random_tokens(int64_t count, uint64_t seed);

// One sequence that is fed by hand, piece by piece, through pages of one's choice.
struct HandFed {
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;  // of the positions from 0, in every layer group
  int64_t cached = 0;
  std::vector<float> logits;  // (cached, V): of every token so far
};
// One pass in which sequence i brings its next counts[i] tokens (none for 0); appends their logits.
void feed(const CausalLM& model, KVCache& cache, const std::vector<HandFed*>& sequences,
          const std::vector<int64_t>& counts);
// A cache whose every byte is 0xff (NaN in each dtype), so that nothing unwritten can be read unnoticed.
KVCache poisoned_cache(const CausalLM& model, DType dtype, int64_t pages);

}  // namespace lathe::test
