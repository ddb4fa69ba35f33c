// Loading a model whole: checkpoint, family, weights, preparation.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "llm/registry.h"
#include "load_model/checkpoint.h"

namespace lathe {

struct RequestAdapter;  // llm/adapter.h

// What `--dtype` asks for; the arithmetic and the cache follow from it and from the file.
enum class ComputeDtype : uint8_t { automatic, float32, bfloat16, float16, int16, int8 };
// These throw UsageError naming the known ones.
ComputeDtype parse_compute_dtype(const std::string& name);
// What weights are written as for the same names; empty for "auto": as they are stored.
std::optional<DType> parse_stored_dtype(const std::string& name);
DType parse_cache_dtype(const std::string& name);
// A block format that weights can be made into; empty for an empty text.
std::optional<DType> parse_quantize(const std::string& text);

struct LoadOptions {
  ComputeDtype dtype = ComputeDtype::automatic;
  // Unpacked f32 weights that the tape can follow, in memory of their own, instead of packed ones for inference. With
  // `quantize`, or another dtype than float32, an Error.
  bool trainable = false;
  // Matrices are quantised to this block format on load. Rows that are no multiple of 256 take the next larger format
  // of 32 columns in place of one of 256 (q4_k: q5_0, q5_k: q5_1, q6_k: q8_0, iq4_xs: iq4_nl, as llama.cpp does); rows
  // that are no multiple of 32 stay as they are.
  std::optional<DType> quantize = {};
  Device device = {};  // where the weights go, and with them all that is computed
  // The folder of an adapter (llm/adapter_file.h) that is attached, its A and B in f32; empty: none.
  std::string adapter = {};
  // Folders of adapters by the names that requests want them by; none with `adapter`, `trainable` or several ranks.
  std::map<std::string, std::string> request_adapters = {};
  // Share the weights out, each with a part (llm/tensor_parallel.h). With several, `request_adapters` are an Error.
  Communicator* ranks = &Communicator::one();
};

struct LoadedModel {
  std::unique_ptr<CausalLM> model;
  Checkpoint checkpoint;       // its tensors are released once they are loaded
  WeightMapping mapping;       // as it was applied; to_checkpoint reads it backwards
  std::string missing_prefix;  // what the file's names lack of the mapping's (bare base models); empty: nothing
  std::vector<std::string> warnings;
  std::map<std::string, std::shared_ptr<RequestAdapter>> request_adapters;
  // Of one of them, which lives as long.
  std::shared_ptr<const LowRankChanges> changes_of(const std::string& request_adapter) const;
  DType cache_dtype = DType::f32;
  DType weight_dtype = DType::f32;  // of most of the weights' bytes, as stored
};

// `wanted`, or what takes its place where a row of `columns` is no multiple of its block (see LoadOptions::quantize);
// empty when nothing does.
std::optional<DType> block_format_for(DType wanted, int64_t columns);

// Where inference keeps a weight, and as what.
struct WeightPlacement {
  enum class Place : uint8_t {
    packed,  // in the layout of the kernels
    plain,   // norms and biases
    file,    // tables that are only looked up: their rows are read from the mapped file, one by one
  };
  Place place;
  DType dtype;
};
// Of a parameter that the file has as `stored` (f64 is used as f32); `is_head`: whether the output head multiplies by
// it.
WeightPlacement placement_of(const Parameter& parameter, DType stored, const LoadOptions& options, bool is_head);

// What other threads see of a load, and how they end it.
struct LoadProgress {
  std::atomic<size_t> bytes_read = 0;     // of bytes_total, the checkpoint's
  std::atomic<size_t> bytes_total = 0;    // 0: not begun
  std::atomic<bool> interrupted = false;  // set from outside: load_weights throws Error before the next weight
};

// Everything that loading decides before it reads a weight: the checkpoint with its tensors, the mapping, the head, the
// model, whose parameters have no value yet. `model` as on the command line. Throws Error with the one report of
// missing, unexpected and misshapen tensors. No head in the file: the embedding table is used. A head beside a tied
// config: ignored where it equals the table, used where it differs.
LoadedModel open_model(const std::string& model, const LoadOptions& options = {});
// Reads and prepares the weights of what open_model returned, with the same options.
LoadedModel load_weights(LoadedModel opened, const LoadOptions& options, LoadProgress* progress = nullptr);
// One after the other.
LoadedModel load_model(const std::string& model, const LoadOptions& options = {});

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
// Weights or gradients under the model's names, turned into the names and shapes of the checkpoint that was loaded.
NamedTensors as_stored(const LoadedModel& loaded, const NamedTensors& by_parameter);

// What the weights of a dtype are multiplied with under `dtype`, on a device.
Arithmetic arithmetic_of(DType weight, ComputeDtype dtype, Device device = {});
// The cache's dtype where nobody says otherwise.
DType cache_dtype_of(DType weight, ComputeDtype dtype, Device device = {});

}  // namespace lathe
