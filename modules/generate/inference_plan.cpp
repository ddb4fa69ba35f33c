// The loader walked through with a forecast of the pool, and steps of the engine run on the plan device.
#include "generate/inference_plan.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <unordered_map>

#include "generate/block_manager.h"
#include "generate/decode_graphs.h"
#include "generate/engine.h"
#include "generate/kv_memory.h"
#include "llm/family.h"
#include "tensor/device_memory.h"
#include "tensor/storage_forecast.h"

namespace lathe {
namespace {

constexpr int64_t kFloat = 4;  // bytes
constexpr Device kPlan{Device::Kind::plan};

size_t size(int64_t n) { return static_cast<size_t>(n); }

using Place = WeightPlacement::Place;

// ---- loading ----

// What is known of a parameter before it is loaded.
struct PlannedParameter {
  const Parameter* parameter;
  DType stored;
  WeightPlacement to;
  size_t source_bytes;  // of the checkpoint tensor that it is a part of
  bool copied, transposed, last_of_source;
  double share;  // of tokens that meet it
  size_t packed_bytes = 0;
};

std::vector<PlannedParameter> planned_parameters(const LoadedModel& opened, const LoadOptions& options) {
  std::unordered_map<std::string, DType> stored;
  for (const StoredTensor& t : opened.checkpoint.tensors) stored.emplace(t.name, t.dtype.value_or(DType::f32));
  const std::vector<NamedParameter> parameters = named_parameters(*opened.model);
  std::unordered_map<std::string, int64_t> elements;
  for (const NamedParameter& named : parameters) elements[named.name] = named.parameter->shape.elements();

  const Parameter* head = opened.model->head().weight;
  std::vector<PlannedParameter> planned;
  for (const NamedParameter& named : parameters) {
    const auto match = opened.mapping.rule_for(named.name);
    const MappingRule* rule = match ? match->rule : nullptr;
    const auto found = stored.find(rule != nullptr ? fill_name(rule->sources[0], match->numbers) : named.name);
    check(found != stored.end(), "plan", "{}: the checkpoint has no tensor for {}", opened.checkpoint.path, named.name);
    const DType dtype = found->second;
    int64_t source_elements = named.parameter->shape.elements();
    if (rule != nullptr) {
      source_elements = 0;
      for (const std::string& target : rule->targets) source_elements += elements[fill_name(target, match->numbers)];
    }
    const bool transposed = rule != nullptr && rule->transposed;
    planned.push_back({named.parameter, dtype, placement_of(*named.parameter, dtype, options, named.parameter == head),
                       bytes_of(dtype, source_elements),
                       rule != nullptr && (rule->sources.size() > 1 || rule->source_row || transposed), transposed,
                       rule == nullptr || match->target + 1 == rule->targets.size(), named.parameter->share});
  }
  return planned;
}

// The loader's steps for one parameter (load_model/load_parameters.cpp, llm/load.cpp): its part of the file is read,
// copied where its rows are not in order, quantised by way of f32, and packed.
void forecast_loading(const PlannedParameter& p, StorageForecast& pool, size_t& from_file) {
  if (p.to.place == Place::file) return;
  const int64_t elements = p.parameter->shape.elements();
  const size_t value_bytes = bytes_of(p.stored, elements);
  const size_t read = std::min(p.transposed ? p.source_bytes : value_bytes, p.source_bytes - from_file);
  pool.add_outside(read);
  from_file += read;
  std::vector<StorageForecast::Block> temporary;
  if (p.transposed) temporary.push_back(pool.take(p.source_bytes));
  if (p.copied && !(p.transposed && p.source_bytes == value_bytes)) temporary.push_back(pool.take(value_bytes));
  if (p.to.place == Place::packed) {
    if (p.to.dtype != p.stored) {
      const size_t wide_bytes = p.stored == DType::f32 ? 0 : size(elements * kFloat);
      const StorageForecast::Block wide = pool.take(wide_bytes);
      temporary.push_back(pool.take(bytes_of(p.to.dtype, elements)));
      pool.give(wide);
    }
    pool.take(p.packed_bytes);
  } else {
    pool.take(size(elements * kFloat));
  }
  for (const StorageForecast::Block& block : temporary) pool.give(block);
  if (!p.last_of_source) return;
  pool.remove_outside(from_file);
  from_file = 0;
}

// The same of a device's memory: what is stored, or was made of it on the host, is copied there as it is, and prepared.
void forecast_moving(const PlannedParameter& p, StorageForecast& pool) {
  const int64_t elements = p.parameter->shape.elements();
  const StorageForecast::Block moved =
      pool.take(bytes_of(p.to.place == Place::packed ? p.to.dtype : p.stored, elements));
  if (p.to.place == Place::file) return;
  pool.take(p.to.place == Place::packed ? p.packed_bytes : size(elements * kFloat));
  pool.give(moved);
}

// ---- a step ----

// A model on the plan device, its weights where the loader would put them; notes the bytes of those that are packed.
std::unique_ptr<CausalLM> planned_model(const LoadedModel& opened, std::vector<PlannedParameter>& planned,
                                        ComputeDtype dtype) {
  std::unique_ptr<CausalLM> model = family_of(opened.model->config).make(opened.model->config);
  const std::vector<NamedParameter> parameters = named_parameters(*model);
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& p = *parameters[i].parameter;
    p.shape = planned[i].parameter->shape;
    p.shard = planned[i].parameter->shard;
    p.value = Tensor::empty(p.shape, planned[i].to.dtype, kPlan);
    if (planned[i].to.place != Place::file) p.prepare_for_inference(arithmetic_of(planned[i].to.dtype, dtype));
    if (p.packed) planned[i].packed_bytes = p.packed->storage.bytes();
  }
  return model;
}

// One step of the engine over `tokens` new tokens of `sequences`, as evenly as they divide, logits for the last of
// each.
void run_step(const CausalLM& model, RopeTable* rope, DType cache_dtype, int64_t tokens, int64_t sequences) {
  sequences = std::min(sequences, tokens);
  const std::vector<LayerGroup> groups = layer_groups(model.sizes);
  const std::vector<int32_t> ids(size(tokens)), pages(size(tokens / kPageTokens + 1));
  std::vector<BatchSequence> batch;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t count = tokens / sequences + (s < tokens % sequences);
    batch.push_back({std::span(ids).first(size(count)), 0, {groups.size(), pages}, rope, count - 1});
  }
  // The cache itself is counted by its pages.
  const auto elsewhere = StorageForecast::make();
  KVCache cache = [&] {
    const Active<StorageForecast> active(elsewhere.get());
    return KVCache(model.sizes, cache_dtype, std::vector<int64_t>(groups.size(), 1), kPlan);
  }();
  logits(model, make_batch(batch, &cache));
}

// ---- tables that are only looked up ----

// Each look-up faults in a window of the file of 64 KiB (the kernel's fault_around_bytes); the expected bytes of
// windows that `lookups` random ones touch.
size_t resident_of_lookups(size_t bytes, int64_t lookups, size_t row_bytes) {
  constexpr double kWindow = 65536;
  const double windows = std::max(1.0, static_cast<double>(bytes) / kWindow);
  const double each = 1.0 + static_cast<double>(row_bytes) / kWindow;  // a row may reach into the next window
  const double touched = windows * -std::expm1(static_cast<double>(lookups) * each * std::log1p(-1.0 / windows));
  return std::min(bytes, static_cast<size_t>(windows > 1 ? touched * kWindow : static_cast<double>(bytes)));
}

// What a table that is left in the file takes of memory: a token's row lies anywhere in it, and positions are its first
// rows, whatever the sequence.
size_t resident_of_table(const PlannedParameter& p, int64_t batch, int64_t context) {
  const Shape& shape = p.parameter->shape;
  const size_t bytes = bytes_of(p.stored, shape.elements()), row_bytes = bytes_of(p.stored, shape[1]);
  if (p.parameter->kind == Parameter::Kind::position) return std::min(bytes, size(context) * row_bytes);
  return resident_of_lookups(bytes, batch * context, row_bytes);
}

// The loader's way through all parameters; notes the bytes of those that are packed.
WeightPlan place_weights(const LoadedModel& opened, std::vector<PlannedParameter>& planned, const LoadOptions& options,
                         int64_t batch, int64_t context) {
  WeightPlan plan;
  {
    const auto elsewhere = StorageForecast::make(options.device);  // weights are counted while they are loaded
    const Active<StorageForecast> active(elsewhere.get());
    plan.model = planned_model(opened, planned, options.dtype);
  }
  plan.pool = StorageForecast::make(options.device);
  size_t from_file = 0;
  for (const PlannedParameter& p : planned) {
    if (options.device.kind == Device::Kind::cuda) {
      forecast_moving(p, *plan.pool);
      continue;
    }
    forecast_loading(p, *plan.pool, from_file);
    if (p.to.place == Place::file) plan.tables += resident_of_table(p, batch, context);
  }
  plan.loading = plan.pool->peak();
  plan.pool->trim();
  plan.weights = plan.pool->resident();
  return plan;
}

// What the decoding steps hold that are recorded for these sequences while they grow: the graphs' own streams keep
// their blocks apart.
size_t graph_bytes(const CausalLM& model, RopeTable* rope, const PlanRequest& r) {
  const auto pool = StorageForecast::make(r.load.device);
  const Active<StorageForecast> active(pool.get());
  const auto elsewhere = StorageForecast::make(r.load.device);  // the cache is counted by its pages
  KVCache cache = [&] {
    const Active<StorageForecast> outside(elsewhere.get());
    return KVCache(model.sizes, r.cache_dtype, std::vector<int64_t>(layer_groups(model.sizes).size(), 1), kPlan);
  }();
  const int64_t most = DecodeGraphs::bucket_rows(EngineOptions().max_sequences), V = model.head().weight->shape[0];
  const Tensor shared = Tensor::empty({most, V}, DType::f32, kPlan);
  pool->record();
  std::vector<std::unique_ptr<DecodeBatch>> batches;
  for (int64_t context = DecodeGraphs::bucket_context(1);; context *= 2) {
    batches.push_back(std::make_unique<DecodeBatch>(DecodeGraphs::bucket_rows(std::min(r.batch, most)),
                                                    std::min(context, r.context), cache, rope));
    logits(model, batches.back()->batch());
    if (context >= r.context) return pool->resident();
  }
}

size_t cache_bytes(const ModelSizes& config, const PlanRequest& r) {
  size_t bytes = 0;
  for (const LayerGroup& g : layer_groups(config)) {
    const size_t page = KVCache::page_bytes(config, g, r.cache_dtype);
    const int64_t pages = r.batch * peak_pages(g.window, r.context, r.step_tokens);
    // The engine's cache may be larger than what is touched of it.
    bytes += r.load.device.kind == Device::Kind::cuda
                 ? device_block_bytes(size(pages) * page)
                 : StoragePool::resident_bytes(size(pages) * page * 2, size(pages) * page);
  }
  return bytes;
}

}  // namespace

int64_t InferencePlan::attention_operations(const ModelSizes& c, int64_t context) const {
  int64_t keys = 0;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    keys += c.window(layer) > 0 ? std::min(c.window(layer), context + 1) : context + 1;
  return 4 * c.num_attention_heads * c.head_dim * keys;
}

WeightPlan plan_weights(const LoadedModel& opened, const LoadOptions& options, int64_t batch, int64_t context) {
  std::vector<PlannedParameter> planned = planned_parameters(opened, options);
  return place_weights(opened, planned, options, batch, context);
}

InferencePlan plan_inference(const LoadedModel& opened, const PlanRequest& r) {
  const ModelSizes& config = opened.model->sizes;
  InferencePlan plan;
  const Parameter* head = opened.model->head().weight;
  std::vector<PlannedParameter> planned = planned_parameters(opened, r.load);
  const WeightPlan placed = place_weights(opened, planned, r.load, r.batch, r.context);
  plan.weights = placed.weights, plan.tables = placed.tables, plan.loading = placed.loading;
  for (const PlannedParameter& p : planned) {
    const int64_t elements = p.parameter->shape.elements();
    if (p.to.place == Place::packed) {
      const auto bytes = static_cast<double>(p.packed_bytes);
      const double read = 1.0 - std::pow(1.0 - p.share, static_cast<double>(r.batch));  // by any of the sequences
      plan.weight_bytes_read += static_cast<size_t>(read * bytes);
      const double operations = 2.0 * p.share * static_cast<double>(elements);
      (p.parameter == head ? plan.head_operations : plan.linear_operations) += static_cast<int64_t>(operations);
    } else if (p.to.place != Place::file) {
      plan.weight_bytes_read += size(elements * kFloat);
    }
  }
  for (const LayerGroup& g : layer_groups(config))
    plan.cache_bytes_per_token += KVCache::page_bytes(config, g, r.cache_dtype) / size(kPageTokens);
  plan.cache = cache_bytes(config, r);
  const int64_t all = r.batch * r.context, tokens = std::min(r.step_tokens, all), rest = all % tokens;
  // Whole steps of the prompt, the rest, and decoding: each leaves blocks of its own sizes in the pool.
  const Active<StorageForecast> active(placed.pool.get());
  const auto rope = RopeTables(opened.model->config, r.context, DType::f32, kPlan).of(r.context);
  const bool graphs = r.load.device.kind == Device::Kind::cuda;
  for (const int64_t n : {tokens, rest, graphs ? 0 : std::min(r.batch, tokens)})
    if (n > 0) run_step(*placed.model, rope.get(), r.cache_dtype, n, r.batch);
  plan.activations = placed.pool->resident() - plan.weights;  // what the pool keeps stays resident
  if (graphs) plan.graphs = graph_bytes(*placed.model, rope.get(), r);
  return plan;
}

std::optional<DType> fitting_format(const LoadedModel& opened, PlanRequest request, size_t memory) {
  for (const DType format : {DType::q8_0, DType::q6_k, DType::q5_0, DType::q4_0}) {
    request.load.quantize = format;
    if (bytes_of(format, 256) < bytes_of(opened.weight_dtype, 256) && plan_inference(opened, request).peak() <= memory)
      return format;
  }
  return std::nullopt;
}

void check_memory(const LoadedModel& opened, const PlanRequest& request, size_t available) {
  if (available == 0) return;
  const bool inference = !request.load.trainable;
  const size_t needed =
      inference ? plan_inference(opened, request).peak() : size(2 * kFloat * count_parameters(*opened.model));
  if (needed <= available) return;
  const auto megabytes = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  const auto format = inference ? fitting_format(opened, request, available) : std::nullopt;
  throw Error(fmt::format("load: {} needs {:.1f} MB of memory for {}, expected at most the {:.1f} MB that are free",
                          opened.checkpoint.path, megabytes(needed),
                          inference ? fmt::format("{} tokens", request.context) : "weights in f32 and their gradients",
                          megabytes(available)),
              format ? fmt::format("it would fit with --quantize {}", name(*format))
                     : "a smaller model would fit; lathe plan shows what takes how much");
}

void check_memory(const LoadedModel& opened, DType cache_dtype, const LoadOptions& options) {
  const int64_t step = PlanRequest().step_tokens, tokens = std::min(step, opened.model->sizes.context_limit());
  check_memory(opened, {tokens, 1, step, cache_dtype, options}, available_memory(options.device));
}

LoadedModel describe_config(const std::shared_ptr<const ModelConfig>& config, const LoadOptions& options) {
  const std::map<std::string, DType> dtypes = {
      {"float32", DType::f32}, {"bfloat16", DType::bf16}, {"float16", DType::f16}};
  const Family& family = family_of(*config);
  LoadedModel described;
  described.model = family.make(*config);
  const ModelSizes& sizes = described.model->sizes;
  const auto dtype = dtypes.find(sizes.dtype);
  check(dtype != dtypes.end(), "plan", "{}: dtype is \"{}\", expected float32, bfloat16 or float16", sizes.source,
        sizes.dtype);
  described.checkpoint.path = sizes.source;
  described.checkpoint.config = config;
  described.mapping = family.weight_mapping(*config, CheckpointFormat::hugging_face);
  described.weight_dtype = options.quantize.value_or(dtype->second);
  described.cache_dtype = cache_dtype_of(described.weight_dtype, options.dtype, options.device);
  for (const NamedParameter& named : named_parameters(*described.model)) {
    const auto match = described.mapping.rule_for(named.name);
    StoredTensor tensor;
    tensor.name = match ? fill_name(match->rule->sources[0], match->numbers) : named.name;
    tensor.dtype = dtype->second;
    described.checkpoint.tensors.push_back(tensor);
  }
  return described;
}

double measure_linear_rate(DType dtype, Arithmetic arithmetic, int64_t rows, int64_t columns, int64_t tokens) {
  Parameter weight(Parameter::Kind::matrix, {rows, columns});
  weight.value = Tensor::zeros(weight.shape, dtype);  // what is multiplied takes no time off
  weight.prepare_for_inference(arithmetic);
  Tensor x = Tensor::empty({tokens, columns});
  std::fill_n(x.host<float>(), x.elements(), 1.0f);
  using Clock = std::chrono::steady_clock;
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(50);
  while (Clock::now() < end) {
    const auto start = Clock::now();
    linear(x, LinearWeight{&weight});
    const std::chrono::duration<double> seconds = Clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(tokens * rows * columns) / seconds.count());
  }
  return best;
}

}  // namespace lathe
