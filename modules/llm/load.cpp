#include "llm/load.h"

#include <algorithm>
#include <cstring>

#include "autograd/convert.h"
#include "config/model_config.h"
#include "formats/most_common.h"
#include "formats/quote.h"
#include "llm/adapter_file.h"
#include "llm/family.h"
#include "llm/tensor_parallel.h"
#include "tensor/cpu_features.h"
#include "tensor/device_memory.h"

namespace lathe {
namespace {

// What the file calls the embedding table and an output head of its own; empty where the model has none.
struct EndNames {
  std::string embedding, head;
};

EndNames end_names(const Family& family, const Checkpoint& checkpoint, const WeightMapping& mapping) {
  ModelConfig untied = *checkpoint.config;
  untied.tie_word_embeddings = false;
  const std::unique_ptr<CausalLM> model = family.make(untied);
  EndNames names;
  for (const NamedParameter& p : named_parameters(*model)) {
    const bool is_table = p.parameter->kind == Parameter::Kind::embedding;
    if (!is_table && p.parameter != model->head().weight) continue;
    const auto match = mapping.rule_for(p.name);
    (is_table ? names.embedding : names.head) = match ? fill_name(match->rule->sources[0], match->numbers) : p.name;
  }
  return names;
}

const StoredTensor* find_tensor(const Checkpoint& checkpoint, const std::string& name) {
  for (const StoredTensor& t : checkpoint.tensors)
    if (t.name == name) return &t;
  return nullptr;
}

bool equal(const StoredTensor& a, const StoredTensor& b) {
  return a.type_name == b.type_name && a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes) == 0;
}

// Gives the tensors of a bare base model the prefix that the mapping expects; returns it, or nothing where they have
// it.
std::string add_base_prefix(Checkpoint& checkpoint, const std::string& prefix, const std::string& head) {
  const auto has = [&](const StoredTensor& t) { return t.name.starts_with(prefix); };
  if (prefix.empty() || std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), has)) return {};
  for (StoredTensor& t : checkpoint.tensors)
    if (t.name != head) t.name = prefix + t.name;
  return prefix;
}

void set_tied(Checkpoint& c, bool tied) {
  ModelConfig config = *c.config;
  config.tie_word_embeddings = tied;
  c.config = std::make_shared<const ModelConfig>(std::move(config));
}

// Whether the head is tied: by what the config says and what the file holds, together.
void decide_head(LoadedModel& loaded, WeightMapping& mapping, const EndNames& ends) {
  Checkpoint& c = loaded.checkpoint;
  const StoredTensor* head = find_tensor(c, ends.head);
  const StoredTensor* table = find_tensor(c, ends.embedding);
  if (head == nullptr) {
    if (!c.config->tie_word_embeddings)
      loaded.warnings.push_back(c.path + ": no output head is stored; the embedding table serves as head");
    set_tied(c, true);
  } else if (c.config->tie_word_embeddings) {
    if (table != nullptr && equal(*head, *table)) {
      mapping.skip(head->name);
    } else {
      loaded.warnings.push_back(c.path + ": the config ties the head to the embedding table, but the stored head " +
                                "differs from it; the stored head is used");
      set_tied(c, false);
    }
  }
}

// What weights of a stored type are computed with: no kernel multiplies f64.
DType used_dtype(DType stored) { return stored == DType::f64 ? DType::f32 : stored; }

void prepare(const NamedParameter& named, const LoadOptions& options, bool is_head) {
  Parameter& p = *named.parameter;
  using Place = WeightPlacement::Place;
  const auto [place, dtype] = placement_of(p, p.value.dtype(), options, is_head);
  const bool prepared = !options.trainable && place != Place::file, wide = p.value.dtype() == DType::f64;
  if (options.trainable)
    p.value = p.value.dtype() == DType::f32 ? p.value.clone() : convert(p.value, DType::f32, named.name);
  else if (prepared && (wide || (place == Place::packed && dtype != p.value.dtype())))
    p.value = convert(p.value, dtype, named.name);
  p.value = p.value.to(options.device);
  if (prepared) p.prepare_for_inference(arithmetic_of(p.value.dtype(), options.dtype, options.device));
}

// The adapter that the options name, on `model`, which has no weights yet. One that was trained on others is only
// warned of.
void attach_stored_adapter(LoadedModel& loaded, CausalLM& model, const std::string& folder) {
  const std::vector<NamedParameter> parameters = named_parameters(model);
  const ParameterReader reader(parameters, loaded.checkpoint.tensors, loaded.mapping, loaded.checkpoint.path);
  const std::string fingerprint = loaded.checkpoint.fingerprint();
  const AdapterBase base = read_adapter(model, folder, [&](const std::string& name) {
    const auto found = std::find_if(parameters.begin(), parameters.end(), [&](auto& p) { return p.name == name; });
    const auto tied = found == parameters.end() ? parameters.begin() : found;  // the head of the embedding table
    loaded.checkpoint.unpack();
    return convert(reader.read(static_cast<size_t>(tied - parameters.begin())), DType::f32, tied->name);
  });
  for (const NamedParameter& named : adapter_parameters(model)) named.parameter->trainable = false;
  if (!base.fingerprint.empty() && base.fingerprint != fingerprint)
    loaded.warnings.push_back(fmt::format("{} was trained on other weights than {}: on {}", folder,
                                          loaded.checkpoint.path, quote(base.name)));
}

// So that a token's bits do not depend on its neighbours'; tables are looked up as they are.
void prepare_adapter(Adapter& adapter, Device device) {
  for (const NamedParameter& named : adapter_parameters(adapter)) {
    named.parameter->value = named.parameter->value.to(device);
    if (!named.parameter->is_table()) named.parameter->prepare_for_inference(Arithmetic::f32);
  }
}

// int8 and int16 were asked for by name, so that is what must be computed.
void check_integers(const LoadedModel& loaded, const LoadOptions& options) {
  if (options.dtype != ComputeDtype::int8 && options.dtype != ComputeDtype::int16) return;
  const std::string_view wanted = options.dtype == ComputeDtype::int8 ? "int8" : "int16";
  check(options.device.kind != Device::Kind::cuda, "dtype", "{} is arithmetic of the CPU, found a CUDA device", wanted);
  check(is_quantised(loaded.weight_dtype), "dtype",
        "{} is for quantised weights, those of {} are {}: --quantize q8_0 makes them so on load", wanted,
        loaded.checkpoint.path, name(loaded.weight_dtype));
}

}  // namespace

std::optional<DType> block_format_for(DType wanted, int64_t columns) {
  if (columns % info(wanted).block_size != 0)
    wanted = wanted == DType::q4_k     ? DType::q5_0
             : wanted == DType::q5_k   ? DType::q5_1
             : wanted == DType::iq4_xs ? DType::iq4_nl
                                       : DType::q8_0;
  return columns % info(wanted).block_size == 0 ? std::optional(wanted) : std::nullopt;
}

WeightPlacement placement_of(const Parameter& p, DType stored, const LoadOptions& options, bool is_head) {
  using Place = WeightPlacement::Place;
  if (p.is_vector()) return {Place::plain, DType::f32};
  if (p.is_table() && !is_head && stored != DType::f64) return {Place::file, stored};
  stored = used_dtype(stored);
  if (p.is_table() && !is_head) return {Place::packed, stored};
  if (p.kind == Parameter::Kind::router) return {Place::packed, stored};
  const auto format = options.quantize ? block_format_for(*options.quantize, p.shape[-1]) : std::nullopt;
  return {Place::packed, format.value_or(stored)};
}

ComputeDtype parse_compute_dtype(const std::string& name) {
  if (name == "auto") return ComputeDtype::automatic;
  if (name == "float32") return ComputeDtype::float32;
  if (name == "bfloat16") return ComputeDtype::bfloat16;
  if (name == "float16") return ComputeDtype::float16;
  if (name == "int16") return ComputeDtype::int16;
  if (name == "int8") return ComputeDtype::int8;
  throw UsageError(fmt::format("dtype: expected auto, float32, bfloat16, float16, int16 or int8, found \"{}\"", name));
}

std::optional<DType> parse_stored_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "float32") return DType::f32;
  if (name == "bfloat16") return DType::bf16;
  if (name == "float16") return DType::f16;
  throw UsageError(fmt::format("dtype: expected auto, float32, bfloat16 or float16, found \"{}\"", name));
}

DType parse_cache_dtype(const std::string& name) {
  if (name == "float32") return DType::f32;
  if (name == "float16") return DType::f16;
  if (name == "bfloat16") return DType::bf16;
  if (name == "q8_0") return DType::q8_0;
  throw UsageError(fmt::format("kv-cache-dtype: expected float32, float16, bfloat16 or q8_0, found \"{}\"", name));
}

std::optional<DType> parse_quantize(const std::string& text) {
  if (text.empty()) return std::nullopt;
  for (const DType t : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k,
                        DType::q6_k, DType::iq4_nl, DType::iq4_xs})
    if (name(t) == text) return t;
  throw UsageError(fmt::format(
      "quantize: expected q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, iq4_nl or iq4_xs, found \"{}\"", text));
}

Arithmetic arithmetic_of(DType weight, ComputeDtype dtype, Device device) {
  switch (dtype) {
    case ComputeDtype::float32:
    case ComputeDtype::float16: return Arithmetic::f32;  // no CPU here multiplies in float16: the wider one is exact
    case ComputeDtype::bfloat16: return Arithmetic::bf16;
    case ComputeDtype::automatic:
    case ComputeDtype::int16:
    case ComputeDtype::int8: break;
  }
  if (is_quantised(weight)) return dtype == ComputeDtype::int16 ? Arithmetic::int16 : Arithmetic::int8;
  // These multiply pairs of bf16, most of them faster than f32; float16 weights would lose bits in it.
  const bool fast = device.kind == Device::Kind::cuda || multiplies_bf16(cpu_isa());
  return weight == DType::bf16 && fast ? Arithmetic::bf16 : Arithmetic::f32;
}

DType cache_dtype_of(DType weight, ComputeDtype dtype, Device device) {
  switch (dtype) {
    case ComputeDtype::float32: return DType::f32;
    case ComputeDtype::bfloat16: return DType::bf16;
    case ComputeDtype::float16: return DType::f16;
    case ComputeDtype::automatic:
    case ComputeDtype::int16:
    case ComputeDtype::int8: break;
  }
  if (weight == DType::f32 || weight == DType::bf16) return weight;
  // Beside int8 activations the cache may be as coarse as bf16, where attention has tiles for it: in AMX, on CUDA.
  const bool tiles = device.kind == Device::Kind::cuda || cpu_isa() == CpuIsa::amx;
  return is_quantised(weight) && tiles ? DType::bf16 : DType::f16;
}

LoadedModel open_model(const std::string& model, const LoadOptions& options) {
  LoadedModel loaded;
  if (options.trainable && options.quantize)
    throw Error(fmt::format("load: quantize {} and trainable exclude each other", name(*options.quantize)),
                "gradients need weights in float32");
  if (options.trainable && options.dtype != ComputeDtype::automatic && options.dtype != ComputeDtype::float32)
    throw Error("load: trainable weights are computed in float32, found another dtype", "leave the dtype out");
  loaded.checkpoint = open_checkpoint(model, family_configs());
  Checkpoint& checkpoint = loaded.checkpoint;
  const Family& family = family_of(*checkpoint.config);
  for (const auto& [key, nearest] : checkpoint.config->misspelt)
    loaded.warnings.push_back(
        fmt::format("{}: the key {} is not known: did you mean {}?", checkpoint.config->source, quote(key), nearest));
  loaded.mapping = family.weight_mapping(*checkpoint.config, checkpoint.format);
  const EndNames ends = end_names(family, checkpoint, loaded.mapping);
  loaded.missing_prefix = add_base_prefix(checkpoint, loaded.mapping.base_prefix, ends.head);
  loaded.mapping.choose_alternatives(checkpoint.tensors);
  decide_head(loaded, loaded.mapping, ends);
  loaded.weight_dtype =
      options.quantize.value_or(most_common(checkpoint.tensors, DType::f32, [](const StoredTensor& t) {
        return std::pair(used_dtype(t.dtype.value_or(DType::f32)), t.dtype ? t.bytes : 0);
      }));
  check_integers(loaded, options);
  loaded.cache_dtype = cache_dtype_of(loaded.weight_dtype, options.dtype, options.device);

  loaded.model = make_rank_model(family, *checkpoint.config, *options.ranks, options.trainable);
  // For its report: what comes next may take long, or ask whether the weights fit.
  const ParameterReader report(named_parameters(*loaded.model), checkpoint.tensors, loaded.mapping, checkpoint.path);
  for (const auto& [name, folder] : options.request_adapters) {
    check(options.adapter.empty() && !options.trainable, "adapter", "{} is for requests, and {} changes the model",
          folder, options.trainable ? "training" : options.adapter);
    check(options.ranks->alone(), "adapter",
          "{} is for requests, which several processes that share a model out do "
          "not take",
          folder);
    attach_stored_adapter(loaded, *loaded.model, folder);
    loaded.request_adapters[name] = detach_adapter(*loaded.model, folder);
  }
  if (options.adapter.empty()) return loaded;
  if (options.ranks->alone()) {
    attach_stored_adapter(loaded, *loaded.model, options.adapter);
  } else {
    const std::unique_ptr<CausalLM> whole = family.make(*checkpoint.config);
    attach_stored_adapter(loaded, *whole, options.adapter);
    share_adapter(*loaded.model, *whole);
  }
  return loaded;
}

LoadedModel load_weights(LoadedModel loaded, const LoadOptions& options, LoadProgress* progress) {
  Checkpoint& checkpoint = loaded.checkpoint;
  LoadProgress unseen;
  LoadProgress& p = progress != nullptr ? *progress : unseen;
  p.bytes_total = checkpoint.stored_bytes();
  checkpoint.unpack();
  const Parameter* head = loaded.model->head().weight;
  load_parameters(named_parameters(*loaded.model), checkpoint.tensors, loaded.mapping, checkpoint.path,
                  [&](const NamedParameter& named) {
                    check(!p.interrupted, "load", "{}: interrupted", checkpoint.path);
                    p.bytes_read += named.parameter->value.bytes();
                    prepare(named, options, named.parameter == head);
                  });
  if (!options.adapter.empty() && !options.trainable) prepare_adapter(*loaded.model->adapter, options.device);
  for (const auto& [name, adapter] : loaded.request_adapters) prepare_adapter(adapter->adapter, options.device);
  checkpoint.tensors.clear();
  // The copies that weights were prepared by, of sizes that running has no use for.
  trim_storage(Device{});
  if (options.device != Device{}) trim_storage(options.device);
  return loaded;
}

std::shared_ptr<const LowRankChanges> LoadedModel::changes_of(const std::string& request_adapter) const {
  const std::shared_ptr<RequestAdapter>& adapter = request_adapters.at(request_adapter);
  return {adapter, &adapter->changes};
}

LoadedModel load_model(const std::string& model, const LoadOptions& options) {
  return load_weights(open_model(model, options), options);
}

NamedTensors as_stored(const LoadedModel& loaded, const NamedTensors& by_parameter) {
  NamedTensors stored = to_checkpoint(by_parameter, loaded.mapping);
  for (auto& [name, tensor] : stored)
    if (name.starts_with(loaded.missing_prefix)) name.erase(0, loaded.missing_prefix.size());
  return stored;
}

}  // namespace lathe
