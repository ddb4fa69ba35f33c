// What running a model takes, before any weight is read: memory, and the bytes and operations of a token.
//
// Weights, cache and activations are counted as the code allocates them: the loader and one step of the engine are
// walked through with a stand-in for the storage pool (tensor/storage.h), which keeps and reuses blocks by size class
// as the pool does. What no formula knows, the program with its libraries and its tokenizer, is for the caller to
// measure.
//
// Shape letters: docs/shapes.md. Operations: a multiplication and an addition are two (Kaplan et al. 2020, section 2.1,
// without its approximations).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "llm/load.h"

namespace lathe {

class StorageForecast;

struct PlanRequest {
  int64_t context = 0;        // tokens of each sequence, prompt and answer
  int64_t batch = 1;          // sequences at once
  int64_t step_tokens = 512;  // most new tokens of a step (EngineOptions::max_batch_tokens)
  DType cache_dtype = DType::f16;
  LoadOptions load;
};

struct InferencePlan {
  // Resident bytes; of the device's memory where the model is to run on one.
  size_t weights = 0;      // packed for the kernels; norms and biases in f32
  size_t tables = 0;       // of the mapped file: rows of embeddings that are only looked up
  size_t cache = 0;        // keys and values of all sequences at full length
  size_t activations = 0;  // the pool's blocks at the end of the widest step
  size_t graphs = 0;       // on a CUDA device: what the recorded decoding steps keep
  size_t loading = 0;      // most while loading: the weights so far, and what preparing the next takes
  size_t running() const { return weights + tables + cache + activations + graphs; }
  size_t peak() const { return loading > running() ? loading : running(); }

  // Of one token.
  size_t cache_bytes_per_token = 0;
  size_t weight_bytes_read = 0;   // by a decoding step; only experts depend on its number of sequences
  int64_t linear_operations = 0;  // 2 x the elements of the matrices of the blocks that a token meets
  int64_t head_operations = 0;    // 2 V C, for tokens whose logits are wanted
  // 4 x sum over layers of Hq D x keys seen, for a token after `context` others.
  int64_t attention_operations(const ModelSizes& config, int64_t context) const;
};

// The weights of a model where the loader would put them, on the plan device. Bytes as of InferencePlan.
struct WeightPlan {
  std::unique_ptr<CausalLM> model;
  size_t weights = 0, tables = 0, loading = 0;
  std::shared_ptr<StorageForecast> pool = {};  // that holds the weights, and where they were prepared
};
// For `batch` sequences of `context` tokens, whose rows of tables are looked up.
WeightPlan plan_weights(const LoadedModel& opened, const LoadOptions& options, int64_t batch, int64_t context);

// `opened`: by open_model or describe_config, nothing loaded.
InferencePlan plan_inference(const LoadedModel& opened, const PlanRequest& request);

// The block format that takes the most, of q8_0 q6_k q5_0 q4_0, with which the plan's peak is at most `memory` bytes;
// only those that are smaller than the stored weights.
std::optional<DType> fitting_format(const LoadedModel& opened, PlanRequest request, size_t memory);
// Throws Error where the request needs more than `available` bytes: both numbers, and what would fit. For weights that
// the tape can follow, what counts is these in f32 and their gradients. 0 bytes: unknown, and all is well.
void check_memory(const LoadedModel& opened, const PlanRequest& request, size_t available);
// The same for the tokens of one step and what this process may still take: the engine makes its cache no larger than
// there is room.
void check_memory(const LoadedModel& opened, DType cache_dtype, const LoadOptions& options);

// A model that has no checkpoint yet, as its published files would be: every tensor in the config's dtype. Throws Error
// where that is none that checkpoints have.
LoadedModel describe_config(const std::shared_ptr<const ModelConfig>& config, const LoadOptions& options);

// Operations per second of the inference linears on this machine, with all threads: `tokens` tokens times a matrix of
// (rows, columns) in `dtype`; the best of some rounds, about 50 ms.
double measure_linear_rate(DType dtype, Arithmetic arithmetic, int64_t rows, int64_t columns, int64_t tokens);

}  // namespace lathe
