// The forms in which models are published: each golden is rewritten into each of its family's, and into every
// container, and must give the same logits bit for bit. A form of another family is one row of `kForms`.
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "autograd/convert.h"
#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/formats/pytorch_builder.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

using nlohmann::json;

// A checkpoint as it is rewritten.
struct Form {
  NamedTensors tensors;
  json config;

  Tensor* find(const std::string& name) {
    for (auto& [key, tensor] : tensors)
      if (key == name) return &tensor;
    return nullptr;
  }
  void add_for_each_layer(const std::string& before, const std::string& after, const Tensor& tensor) {
    const auto layers = config.value(config.contains("n_layer") ? "n_layer" : "num_hidden_layers", 0);
    for (int layer = 0; layer < layers; ++layer) tensors.emplace_back(before + std::to_string(layer) + after, tensor);
  }
};

std::string bytes_of_tensor(const Tensor& t) { return {static_cast<const char*>(t.raw()), t.bytes()}; }

void add_prefix(Form& form, const std::string& prefix) {
  for (auto& [name, tensor] : form.tensors)
    if (name != "lm_head.weight") name = prefix + name;
}
void remove_prefix(Form& form, const std::string& prefix) {
  for (auto& [name, tensor] : form.tensors)
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
}
// The values of matrices become those that bf16 holds; the norms keep theirs.
void round_matrices(Form& form, bool store) {
  for (auto& [name, tensor] : form.tensors) {
    if (tensor.rank() != 2) continue;
    const Tensor rounded = convert(tensor, DType::bf16);
    tensor = store ? rounded : convert(rounded, DType::f32);
  }
}

// The config that Falcon was first published with: other names for the class, its type and its sizes.
void former_falcon(Form& form, bool decoder_of_40b) {
  json& c = form.config;
  c["architectures"] = {"RWForCausalLM"};
  c["model_type"] = decoder_of_40b ? "RefinedWeb" : "RefinedWebModel";
  const std::pair<const char*, const char*> names[] = {{"num_hidden_layers", "n_layer"},
                                                       {"num_attention_heads", "n_head"}};
  for (const auto& [name, former] : names) c[former] = c[name], c.erase(name);
  if (decoder_of_40b) {
    c["n_head_kv"] = c["num_kv_heads"];
    c.erase("multi_query");
  }
  for (const char* name : {"num_kv_heads", "new_decoder_architecture", "num_ln_in_parallel_attn", "ffn_hidden_size",
                           "rope_parameters", "max_position_embeddings", "activation"})
    c.erase(name);
}

// All experts of a layer in two tensors, as transformers 5 holds them in memory.
void fuse_experts(Form& form) {
  const int64_t experts = form.config.at("num_local_experts");
  NamedTensors kept;
  for (auto& [name, tensor] : form.tensors)
    if (name.find(".experts.") == std::string::npos) kept.emplace_back(name, tensor);
  for (int layer = 0; layer < form.config.at("num_hidden_layers").get<int>(); ++layer) {
    const std::string block = "model.layers." + std::to_string(layer) + ".";
    std::string gate_up, down;
    Shape narrow, wide;
    for (int64_t e = 0; e < experts; ++e) {
      const auto expert = [&](const char* name) {
        return *form.find(block + "block_sparse_moe.experts." + std::to_string(e) + "." + name + ".weight");
      };
      for (const char* name : {"w1", "w3"}) gate_up += bytes_of_tensor(expert(name));
      down += bytes_of_tensor(expert("w2"));
      narrow = expert("w1").shape(), wide = expert("w2").shape();
    }
    const auto add = [&](const char* name, Shape shape, const std::string& bytes) {
      Tensor tensor = Tensor::empty(shape);
      std::memcpy(tensor.raw(), bytes.data(), bytes.size());
      kept.emplace_back(block + "mlp.experts." + name, tensor);
    };
    add("gate_up_proj", {experts, 2 * narrow[0], narrow[1]}, gate_up);
    add("down_proj", {experts, wide[0], wide[1]}, down);
  }
  for (auto& [name, tensor] : kept)
    if (const size_t at = name.find("block_sparse_moe.gate"); at != name.npos) name.replace(at, 21, "mlp.gate");
  form.tensors = std::move(kept);
}

struct Row {
  const char* golden;
  const char* form;
  void (*rewrite)(Form&);
  void (*same)(Form&) = [](Form&) {};  // makes of the golden what the form must equal
};

const Row kForms[] = {
    {"gpt2", "without the transformer. prefix, with attn.bias", [](Form&) {}},
    {"gpt2", "with the prefix", [](Form& f) { add_prefix(f, "transformer."); }},
    {"gpt2", "with attn.masked_bias",
     [](Form& f) { f.add_for_each_layer("h.", ".attn.masked_bias", Tensor::zeros({1})); }},
    {"gpt2", "with the head beside the equal table",
     [](Form& f) { f.tensors.emplace_back("lm_head.weight", *f.find("wte.weight")); }},
    {"llama_untied_gqa", "with rotary_emb.inv_freq",
     [](Form& f) { f.add_for_each_layer("model.layers.", ".self_attn.rotary_emb.inv_freq", Tensor::zeros({4})); }},
    {"llama_tied_llama3_rope", "tied, the head absent", [](Form&) {}},
    {"llama_tied_llama3_rope", "tied, the head there and equal",
     [](Form& f) { f.tensors.emplace_back("lm_head.weight", *f.find("model.embed_tokens.weight")); }},
    {"llama_tied_llama3_rope", "called untied, the head absent",
     [](Form& f) { f.config["tie_word_embeddings"] = false; }},
    {"llama_untied_gqa", "called tied, the head there and different",
     [](Form& f) { f.config["tie_word_embeddings"] = true; }},
    {"llama_tied_llama3_rope", "the bare model, without model.", [](Form& f) { remove_prefix(f, "model."); }},
    {"gpt_neox", "Pythia's, with attention.bias, masked_bias and rotary_emb.inv_freq",
     [](Form& f) {
       f.add_for_each_layer("gpt_neox.layers.", ".attention.bias", Tensor::zeros({1, 1, 4, 4}));
       f.add_for_each_layer("gpt_neox.layers.", ".attention.masked_bias", Tensor::zeros({1}));
       f.add_for_each_layer("gpt_neox.layers.", ".attention.rotary_emb.inv_freq", Tensor::zeros({1}));
     }},
    {"falcon_7b", "RWForCausalLM, RefinedWebModel", [](Form& f) { former_falcon(f, false); }},
    {"falcon_rw", "RWForCausalLM, RefinedWebModel, with ALiBi", [](Form& f) { former_falcon(f, false); }},
    {"falcon_40b", "RWForCausalLM, RefinedWeb, with n_head_kv", [](Form& f) { former_falcon(f, true); }},
    {"mixtral", "per expert", [](Form&) {}},
    {"mixtral", "experts fused", fuse_experts},
    {"llama_untied_gqa", "bf16 with f32 norms", [](Form& f) { round_matrices(f, true); },
     [](Form& f) { round_matrices(f, false); }},
};

Form read(const std::string& golden) {
  const auto folder = source_dir() / "tests/goldens" / golden;
  Form form;
  for (const StoredTensor& t : read_safetensors((folder / "model.safetensors").string()))
    form.tensors.emplace_back(t.name, Tensor::wrap(t.data, Shape(t.shape.begin(), t.shape.end()), *t.dtype, t.file));
  form.config = json::parse(read_file(folder / "config.json"));
  return form;
}

// --- containers

// What torch.save makes of the tensors from `begin` to `end`. One element type is asked of the older form here.
std::string saved(const Form& form, size_t begin, size_t end, bool zip) {
  std::string items;
  std::vector<std::string> storages;
  for (size_t i = begin; i < end; ++i) {
    const auto& [name, tensor] = form.tensors[i];
    std::vector<int32_t> shape(tensor.shape().begin(), tensor.shape().end()), strides(shape.size(), 1);
    for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
    const char* type = tensor.dtype() == DType::bf16 ? "BFloat16Storage" : "FloatStorage";
    items += pickle::text(name) +
             pickle::tensor(pickle::storage(type, std::to_string(i - begin), static_cast<int32_t>(tensor.elements())),
                            0, shape, strides);
    storages.push_back(bytes_of_tensor(tensor));
  }
  const std::string dictionary = pickle::dictionary(items);
  return zip ? zip_form(dictionary, storages) : stream_form(dictionary, storages, 4);
}

void write_in_two(const Form& form, const std::filesystem::path& folder, const std::string& index,
                  const std::function<void(const std::string& file, size_t begin, size_t end)>& write) {
  const size_t half = form.tensors.size() / 2;
  json map;
  for (size_t i = 0; i < form.tensors.size(); ++i) map[form.tensors[i].first] = i < half ? "one" : "two";
  write((folder / "one").string(), 0, half);
  write((folder / "two").string(), half, form.tensors.size());
  write_file(folder / index, json{{"metadata", {{"total_size", 0}}}, {"weight_map", map}}.dump());
}

const char* const kContainers[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                   "pytorch_model.bin, the older form", "pytorch_model.bin.index.json"};

void write(const Form& form, const std::string& container, const std::filesystem::path& folder) {
  write_file(folder / "config.json", form.config.dump());
  const size_t all = form.tensors.size();
  if (container == "model.safetensors")
    write_safetensors((folder / container).string(), form.tensors);
  else if (container == "model.safetensors.index.json")
    write_in_two(form, folder, container, [&](const std::string& file, size_t begin, size_t end) {
      write_safetensors(file, NamedTensors(form.tensors.begin() + static_cast<ptrdiff_t>(begin),
                                           form.tensors.begin() + static_cast<ptrdiff_t>(end)));
    });
  else if (container == "pytorch_model.bin.index.json")
    write_in_two(form, folder, container, [&](const std::string& file, size_t begin, size_t end) {
      write_file(file, saved(form, begin, end, true));
    });
  else
    write_file(folder / "pytorch_model.bin", saved(form, 0, all, container == "pytorch_model.bin"));
}

std::vector<float> logits_of(const Form& form, const std::string& container) {
  const TemporaryDirectory folder;
  write(form, container, folder.path());
  LoadOptions options;
  options.dtype = ComputeDtype::float32;
  const LoadedModel loaded = load_model(folder.path().string(), options);
  const std::vector<int32_t> tokens = {3, 14, 15, 9, 26, 5, 35, 8, 9, 7};
  const Tensor l = all_logits(*loaded.model, tokens, DType::f32);
  return {l.data<float>(), l.data<float>() + l.elements()};
}

bool all_f32(const Form& form) {
  return std::all_of(form.tensors.begin(), form.tensors.end(), [](auto& t) { return t.second.dtype() == DType::f32; });
}

}  // namespace

TEST_CASE("every published form gives the same logits, in every container") {
  for (const Row& row : kForms) {
    Form plain = read(row.golden), form = read(row.golden);
    row.same(plain);
    row.rewrite(form);
    const std::vector<float> want = logits_of(plain, kContainers[0]);
    for (const char* container : kContainers) {
      if (container == kContainers[3] && !all_f32(form)) continue;
      INFO(row.golden << ", " << row.form << ", " << container);
      CHECK(logits_of(form, container) == want);
    }
  }
}
