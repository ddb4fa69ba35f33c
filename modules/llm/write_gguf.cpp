// A model as a .gguf file: see write_model.h.
#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include "attention/rope_frequencies.h"
#include "config/config_export.h"
#include "config/model_config.h"
#include "formats/quote.h"
#include "llm/family.h"
#include "llm/write_model.h"
#include "text/tokenizer/gguf_vocabulary.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// What a file says whose ids nobody knows the texts of.
const std::pair<std::string, GgufValue> kNoVocabulary = {"tokenizer.ggml.model", std::string("none")};

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
    case DType::iq4_nl: return 25;
    case DType::iq4_xs: return 30;
    case DType::bf16: return 32;
    default: return 1024;  // guessed
  }
}

DType gguf_dtype(const CheckpointTensor& tensor, const Parameter& parameter, DType stored,
                 const ExportOptions& options) {
  if (parameter.is_vector() || stored == DType::f64) return DType::f32;
  if (parameter.kind == Parameter::Kind::position || parameter.kind == Parameter::Kind::router) return DType::f32;
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

// All that a GGUF file says besides: its vocabulary, its licence, keys that nobody here knows. What is written is one
// file, whatever it came from.
void add_other_metadata(GgufMetadata& metadata, const GgufFile& origin) {
  std::unordered_set<std::string> written;
  for (const auto& [key, value] : metadata) written.insert(key);
  for (const auto& [key, value] : origin.metadata())
    if (!written.contains(key) && key != "general.alignment" && !key.starts_with("split."))
      metadata.emplace_back(key, value);
}

// Of tokenizer files. Where they do not say what an id is, the configuration does; a reader would assume the ids of its
// own favourite.
void add_vocabulary(GgufMetadata& metadata, const OutgoingModel& model, std::vector<std::string>& remarks) {
  if (!model.companions.empty()) {
    metadata.emplace_back("general.name", fs::weakly_canonical(model.companions).filename().string());
    const WrittenVocabulary vocabulary = gguf_vocabulary(model.companions, model.config.vocab_size);
    metadata.insert(metadata.end(), vocabulary.metadata.begin(), vocabulary.metadata.end());
    remarks.insert(remarks.end(), vocabulary.remarks.begin(), vocabulary.remarks.end());
  } else {
    metadata.push_back(kNoVocabulary);
  }
  const auto add_id = [&](const char* key, std::optional<int64_t> id) {
    const auto same = [&](const auto& entry) { return entry.first == key; };
    if (id && std::none_of(metadata.begin(), metadata.end(), same)) metadata.emplace_back(key, *id);
  };
  const ModelConfig& c = model.config;
  add_id("tokenizer.ggml.bos_token_id", c.bos_token_id);
  if (!c.eos_token_ids.empty()) add_id("tokenizer.ggml.eos_token_id", c.eos_token_ids[0]);
  add_id("tokenizer.ggml.padding_token_id", c.pad_token_id);
}

GgufMetadata gguf_metadata(const OutgoingModel& model, DType dtype, std::vector<std::string>& remarks) {
  GgufMetadata metadata = to_config_gguf(model.config, family_of(model.config));
  metadata.emplace_back("general.file_type", file_type(dtype));
  if (is_quantised(dtype)) metadata.emplace_back("general.quantization_version", int64_t{2});
  if (model.origin != nullptr && model.origin->gguf)
    add_other_metadata(metadata, *model.origin->gguf);
  else
    add_vocabulary(metadata, model, remarks);
  return metadata;
}

// What the written file does not say as the source did, one line each. Throws Error for what changes the model.
std::vector<std::string> read_back(const OutgoingModel& model, const std::string& written, bool vocabulary) {
  const ModelConfig read = read_config_gguf(*GgufFile::open(written), family_configs());
  std::vector<std::string> remarks = check_config_gguf(model.config, family_of(model.config), read);
  if (!vocabulary) return remarks;
  const std::string text = vocabulary_difference(model.companions, written);
  if (!text.empty()) remarks.push_back("the vocabulary as GGUF has it reads this text as other ids: " + quote(text));
  return remarks;
}

}  // namespace

std::vector<std::string> write_gguf_file(const OutgoingModel& model, const std::string& output,
                                         const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors =
      outgoing_tensors(model, CheckpointFormat::gguf, 0.0,
                       [&](const CheckpointTensor& tensor, const Parameter& parameter, DType stored) {
                         return gguf_dtype(tensor, parameter, stored, options);
                       });
  const DType dtype = most_common(tensors);
  add_rope_factors(tensors, model.config);
  std::vector<std::string> remarks;
  const GgufMetadata metadata = gguf_metadata(model, dtype, remarks);
  const bool files = model.origin == nullptr || !model.origin->gguf;
  const bool vocabulary = files && std::find(metadata.begin(), metadata.end(), kNoVocabulary) == metadata.end();
  // Read again before it has its name: what the format cannot say must not be lost in silence.
  write_gguf(output, metadata, tensors, [&](const std::string& written) {
    const auto more = read_back(model, written, vocabulary);
    remarks.insert(remarks.end(), more.begin(), more.end());
  });
  return remarks;
}

}  // namespace lathe
