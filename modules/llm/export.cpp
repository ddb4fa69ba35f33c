// See export.h.
#include "llm/export.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "attention/rope_frequencies.h"
#include "autograd/convert.h"
#include "config/config_export.h"
#include "formats/atomic_file.h"
#include "formats/byte_count.h"
#include "formats/quote.h"
#include "formats/safetensors.h"
#include "llm/family.h"
#include "tensor/interruption.h"
#include "text/tokenizer/gguf_vocabulary.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// A model that is open for reading, and the way its parameters take into the tensors of another form.
class Source {
 public:
  // `edited`: the same model with the values to write in memory, in f32; null: those of the checkpoint.
  explicit Source(const std::string& model, CausalLM* edited = nullptr)
      : loaded_(open_unpacked(model)),
        parameters_(named_parameters(*loaded_.model)),
        reader_(parameters_, loaded_.checkpoint.tensors, loaded_.mapping, loaded_.checkpoint.path) {
    for (size_t i = 0; i < parameters_.size(); ++i) number_of_[parameters_[i].name] = i;
    if (edited != nullptr) edited_ = named_parameters(*edited);
  }
  const LoadedModel& loaded() const { return loaded_; }
  const Checkpoint& checkpoint() const { return loaded_.checkpoint; }
  const ModelConfig& config() const { return loaded_.model->config; }

  // The tensors of the form; `dtype_for` chooses what a parameter becomes, by the tensor's name and its stored type.
  // Norms are written so that a reader who adds `norm_offset` to them has what they are.
  template <class DTypeFor>
  std::vector<OutgoingTensor> tensors(CheckpointFormat format, double norm_offset, const DTypeFor& dtype_for) {
    norm_difference_ = static_cast<float>(config().norm_offset - norm_offset);
    mapping_ = family_of(config()).weight_mapping(config(), format);
    std::vector<std::pair<std::string, Shape>> shapes;
    for (const NamedParameter& p : parameters_) shapes.emplace_back(p.name, p.parameter->shape);
    std::vector<OutgoingTensor> out;
    for (CheckpointTensor& t : checkpoint_tensors(shapes, mapping_)) {
      const size_t first = number_of_.at(t.parameters[0]);
      const DType stored = edited_.empty() ? reader_.dtype(first) : DType::f32;
      const DType dtype = dtype_for(t, *parameters_[first].parameter, stored);
      out.push_back({t.name, dtype, t.shape, [this, t, dtype] {
                       Interruption::point();
                       return t.assemble(values(t, dtype));
                     }});
    }
    return out;
  }

 private:
  static LoadedModel open_unpacked(const std::string& model) {
    LoadedModel loaded = open_model(model);
    loaded.checkpoint.unpack();
    return loaded;
  }
  // The last ones are kept: the experts of a layer are tensors of one parameter.
  const std::vector<Tensor>& values(const CheckpointTensor& tensor, DType dtype) {
    if (held_ != tensor.parameters) {
      held_values_.clear();
      for (const std::string& name : tensor.parameters) held_values_.push_back(value(number_of_.at(name), dtype));
      held_ = tensor.parameters;
    }
    return held_values_;
  }

  Tensor value(size_t i, DType dtype) const {
    const std::string& name = parameters_[i].name;
    Tensor stored = edited_.empty() ? reader_.read(i) : edited_[i].parameter->value;
    if (norm_difference_ == 0.0f || parameters_[i].parameter->kind != Parameter::Kind::norm)
      return convert(stored, dtype, name);
    stored = convert(stored, DType::f32, name).clone();
    for (int64_t n = 0; n < stored.elements(); ++n) stored.data<float>()[n] += norm_difference_;
    return convert(stored, dtype, name);
  }

  LoadedModel loaded_;
  float norm_difference_ = 0.0f;
  std::vector<NamedParameter> parameters_, edited_;  // the same ones
  ParameterReader reader_;
  WeightMapping mapping_;
  std::unordered_map<std::string, size_t> number_of_;
  std::vector<std::string> held_;
  std::vector<Tensor> held_values_;
};

std::string dtype_name(DType dtype) {
  return dtype == DType::bf16  ? "bfloat16"
         : dtype == DType::f16 ? "float16"
         : dtype == DType::f64 ? "float64"
                               : "float32";
}

// The type of most of the bytes.
DType most_common(const std::vector<OutgoingTensor>& tensors) {
  ByteCount<DType> types;
  for (const OutgoingTensor& t : tensors) types.add(t.dtype, t.bytes());
  return types.most(DType::f32);
}

// --- Hugging Face

// GGUF holds Llama 3's scaling as a divisor for each frequency. The published models differ in the factor alone.
void recognise_llama3(ModelConfig& c) {
  if (c.rope_frequency_factors.empty() || c.rope_scaling != RopeScaling::none) return;
  ModelConfig scaled = c;
  scaled.rope_frequency_factors.clear();
  scaled.rope_scaling = RopeScaling::llama3;
  scaled.rope_factor = *std::max_element(c.rope_frequency_factors.begin(), c.rope_frequency_factors.end());
  scaled.rope_original_max_position = 8192;
  const std::vector<float> wanted = rope_frequencies(c, 1).inverse, got = rope_frequencies(scaled, 1).inverse;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (std::abs(wanted[i] - got[i]) > 1e-5f * wanted[i]) return;
  c = scaled;
}

// What a family's Hugging Face files add to the weights of norms.
double folder_norm_offset(const ModelConfig& c) { return family_of(c).defaults.norm_offset; }

// The model's own config.json with what the export changes, every other key as it was; one written from the
// configuration where the model brought none.
std::string config_text(const Source& source, DType dtype) {
  ModelConfig config = source.config();
  config.dtype = dtype_name(dtype);
  if (source.checkpoint().gguf) {
    recognise_llama3(config);
    config.norm_offset = folder_norm_offset(config);
    return to_config_json(config, family_of(config));
  }
  const auto file = MappedFile::open((fs::path(source.checkpoint().folder) / "config.json").string());
  Json root = Json::parse(file->bytes());  // in its own order; it has been read strictly when the model was opened
  const bool old_spelling = root.contains("torch_dtype");
  root[old_spelling ? "torch_dtype" : "dtype"] = config.dtype;
  root.erase("quantization_config");
  root["tie_word_embeddings"] = config.tie_word_embeddings;
  return root.dump(2) + "\n";
}

std::vector<std::string> copy_companions(const Source& source, const std::string& folder) {
  if (source.checkpoint().gguf)
    return {"the vocabulary of a GGUF file is not turned into tokenizer files: the folder has none"};
  for (const auto& entry : fs::directory_iterator(source.checkpoint().folder))
    if (entry.is_regular_file() && is_companion(entry.path().filename().string())) {
      if (entry.file_size() > 0) MappedFile::open(entry.path().string());  // throws where it is a git-lfs pointer
      fs::copy_file(entry.path(), fs::path(folder) / entry.path().filename());
    }
  return {};
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

// Whole tensors in the order of the model, as many to a shard as its size allows.
std::vector<std::vector<OutgoingTensor>> into_shards(std::vector<OutgoingTensor> tensors, size_t most) {
  std::vector<std::vector<OutgoingTensor>> shards(1);
  size_t bytes = 0;
  for (OutgoingTensor& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes() > most) shards.emplace_back(), bytes = 0;
    bytes += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

void write_weights(const fs::path& folder, std::vector<OutgoingTensor> tensors, size_t shard_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};  // transformers asks for it
  const auto shards = into_shards(std::move(tensors), shard_bytes);
  if (shards.size() == 1) return write_safetensors((folder / "model.safetensors").string(), shards[0], metadata);
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  size_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const OutgoingTensor& tensor : shards[i]) {
      index["weight_map"].push_back({tensor.name, name});
      total += tensor.bytes();
    }
    write_safetensors((folder / name).string(), shards[i], metadata);
  }
  index["metadata"]["total_size"] = total;
  write_text((folder / "model.safetensors.index.json").string(), index.dump(2) + "\n");
}

std::vector<OutgoingTensor> hugging_face_tensors(Source& source, const ExportOptions& options) {
  check(!options.quantize, "convert", "safetensors has no type {}; block formats go into a .gguf file",
        name(options.quantize.value_or(DType::f32)));
  return source.tensors(CheckpointFormat::hugging_face, folder_norm_offset(source.config()),
                        [&](const CheckpointTensor&, const Parameter&, DType stored) {
                          return options.dtype.value_or(is_quantised(stored) ? DType::f32 : stored);
                        });
}

std::vector<std::string> write_folder(Source& source, const std::string& output, const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors = hugging_face_tensors(source, options);
  AtomicFolder folder(output);
  write_text(folder.path() + "/config.json", config_text(source, most_common(tensors)));
  std::vector<std::string> remarks = copy_companions(source, folder.path());
  write_weights(folder.path(), std::move(tensors), options.shard_bytes);
  folder.commit();
  return remarks;
}

std::vector<std::string> write_file(Source& source, const std::string& output, const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors = hugging_face_tensors(source, options);
  const fs::path config = fs::path(output).parent_path() / "config.json";
  if (fs::exists(config)) {
    write_safetensors(output, std::move(tensors), {{"format", "pt"}});
    return {fmt::format("{} is left as it is", config.string())};
  }
  const std::string text = config_text(source, most_common(tensors));  // what it cannot say, before anything is written
  write_safetensors(output, std::move(tensors), {{"format", "pt"}});
  write_text(config.string(), text);
  return {};
}

// --- GGUF

// What `general.file_type` calls a file of mostly this type (llama.h, `llama_ftype`).
int64_t file_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return 0;
    case DType::f16: return 1;
    case DType::q4_0: return 2;
    case DType::q4_1: return 3;
    case DType::q8_0: return 7;
    case DType::q5_0: return 8;
    case DType::q5_1: return 9;
    case DType::q4_k: return 14;
    case DType::q5_k: return 16;
    case DType::q6_k: return 18;
    case DType::bf16: return 32;
    default: return 1024;  // guessed
  }
}

DType gguf_dtype(const CheckpointTensor& tensor, const Parameter& parameter, DType stored,
                 const ExportOptions& options) {
  const bool vector = parameter.kind == Parameter::Kind::norm || parameter.kind == Parameter::Kind::bias;
  if (vector || stored == DType::f64) return DType::f32;
  if (tensor.name.starts_with("position_embd") || parameter.kind == Parameter::Kind::router) return DType::f32;
  const auto blocks = options.quantize ? block_format_for(*options.quantize, tensor.shape.back()) : std::nullopt;
  return blocks.value_or(options.dtype.value_or(stored));
}

// Llama 3's scaling is a tensor in GGUF: what each frequency is divided by.
void add_rope_factors(std::vector<OutgoingTensor>& tensors, const ModelConfig& c) {
  std::vector<float> factors = c.rope_frequency_factors;
  if (c.rope_scaling == RopeScaling::llama3) {
    ModelConfig plain = c;
    plain.rope_scaling = RopeScaling::none;
    const std::vector<float> unscaled = rope_frequencies(plain, 1).inverse, scaled = rope_frequencies(c, 1).inverse;
    factors.resize(scaled.size());
    for (size_t i = 0; i < scaled.size(); ++i) factors[i] = unscaled[i] / scaled[i];
  }
  if (factors.empty()) return;
  const auto count = static_cast<int64_t>(factors.size());
  tensors.push_back(
      {"rope_freqs.weight", DType::f32, {count}, [=] { return Tensor::of<float>({count}, factors.data()); }});
}

GgufMetadata gguf_metadata(const Source& source, DType dtype, std::vector<std::string>& remarks) {
  GgufMetadata metadata = to_config_gguf(source.config(), family_of(source.config()));
  const std::string folder = source.checkpoint().folder;
  metadata.emplace_back("general.file_type", file_type(dtype));
  if (is_quantised(dtype)) metadata.emplace_back("general.quantization_version", int64_t{2});
  if (source.checkpoint().gguf) {
    // All that the file says besides: its vocabulary, its licence, keys that nobody here knows. What is written is one
    // file, whatever it came from.
    std::unordered_map<std::string, bool> written;
    for (const auto& [key, value] : metadata) written[key] = true;
    for (const auto& [key, value] : source.checkpoint().gguf->metadata())
      if (!written.contains(key) && key != "general.alignment" && !key.starts_with("split."))
        metadata.emplace_back(key, value);
    return metadata;
  }
  metadata.emplace_back("general.name", fs::weakly_canonical(folder).filename().string());
  const WrittenVocabulary vocabulary = gguf_vocabulary(folder, source.config().vocab_size);
  metadata.insert(metadata.end(), vocabulary.metadata.begin(), vocabulary.metadata.end());
  // Where the vocabulary does not say, the configuration does; a reader would assume the ids of its own favourite.
  const auto add_id = [&](const char* key, std::optional<int64_t> id) {
    const auto same = [&](const auto& entry) { return entry.first == key; };
    if (id && std::none_of(metadata.begin(), metadata.end(), same)) metadata.emplace_back(key, *id);
  };
  const ModelConfig& c = source.config();
  add_id("tokenizer.ggml.bos_token_id", c.bos_token_id);
  if (!c.eos_token_ids.empty()) add_id("tokenizer.ggml.eos_token_id", c.eos_token_ids[0]);
  add_id("tokenizer.ggml.padding_token_id", c.pad_token_id);
  remarks.insert(remarks.end(), vocabulary.remarks.begin(), vocabulary.remarks.end());
  return metadata;
}

// What the written file does not say as the source did, one line each. Throws Error for what changes the model.
std::vector<std::string> read_back(const Source& source, const std::string& written, bool vocabulary) {
  const ModelConfig read = read_config_gguf(*GgufFile::open(written), family_configs());
  std::vector<std::string> remarks = check_config_gguf(source.config(), family_of(source.config()), read);
  if (!vocabulary) return remarks;
  const std::string text = vocabulary_difference(source.checkpoint().folder, written);
  if (!text.empty()) remarks.push_back("the vocabulary as GGUF has it reads this text as other ids: " + quote(text));
  return remarks;
}

std::vector<std::string> write_gguf_file(Source& source, const std::string& output, const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors = source.tensors(
      CheckpointFormat::gguf, 0.0, [&](const CheckpointTensor& tensor, const Parameter& parameter, DType stored) {
        return gguf_dtype(tensor, parameter, stored, options);
      });
  const DType dtype = most_common(tensors);
  add_rope_factors(tensors, source.config());
  std::vector<std::string> remarks;
  const GgufMetadata metadata = gguf_metadata(source, dtype, remarks);
  const auto none = std::pair<std::string, GgufValue>("tokenizer.ggml.model", std::string("none"));
  const bool vocabulary =
      !source.checkpoint().gguf && std::find(metadata.begin(), metadata.end(), none) == metadata.end();
  // Read again before it has its name: what the format cannot say must not be lost in silence.
  write_gguf(output, metadata, tensors, [&](const std::string& written) {
    const auto more = read_back(source, written, vocabulary);
    remarks.insert(remarks.end(), more.begin(), more.end());
  });
  return remarks;
}

std::vector<std::string> write(Source& source, const std::string& output, const ExportOptions& options) {
  check_not_input(output, source.checkpoint().files);
  std::vector<std::string> remarks = source.loaded().warnings;
  const std::vector<std::string> more = output.ends_with(".gguf")          ? write_gguf_file(source, output, options)
                                        : output.ends_with(".safetensors") ? write_file(source, output, options)
                                                                           : write_folder(source, output, options);
  remarks.insert(remarks.end(), more.begin(), more.end());
  return remarks;
}

}  // namespace

std::vector<std::string> export_model(const std::string& model, const std::string& output,
                                      const ExportOptions& options) {
  Source source(model);
  return write(source, output, options);
}

std::vector<std::string> export_model(const LoadedModel& loaded, const std::string& output,
                                      const ExportOptions& options) {
  const std::vector<NamedParameter> parameters = named_parameters(*loaded.model);
  const bool packed = std::any_of(parameters.begin(), parameters.end(), [](auto& p) { return p.parameter->packed; });
  Source source(loaded.checkpoint.path, packed ? nullptr : loaded.model.get());
  return write(source, output, options);
}

}  // namespace lathe
