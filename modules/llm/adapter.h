// Adapters: changes of low rank to the weights of a frozen model (LoRA, Hu et al. 2021), under the names that PEFT
// (huggingface/peft, version 0.21) gives modules: those of transformers, "model.layers.0.self_attn.q_proj".
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "autograd/low_rank.h"
#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

struct AdapterConfig {
  int64_t rank = 8;
  double alpha = 16.0;           // a change is multiplied by alpha / rank
  double dropout = 0.0;          // of what A multiplies, in training
  bool rank_stabilised = false;  // by alpha / sqrt(rank) in its place (Kalajdzievski 2023)
  // The modules that have a change: names, or their ends ("q_proj", "0.self_attn.q_proj"); or a regular expression that
  // whole names match; or the word all-linear: every linear layer but the head.
  std::vector<std::string> targets = {};
  std::string pattern = {};
  // Experts, which transformers keep as parameters of one module: "experts.gate_up_proj", "experts.down_proj".
  std::vector<std::string> parameters = {};
  // Modules that are left out, in the same two forms; and the only layers, empty for all, where the number of a layer
  // follows one of these names, empty for any.
  std::vector<std::string> excluded = {};
  std::string excluded_pattern = {};
  std::vector<int64_t> layers = {};
  std::vector<std::string> layer_names = {};
  // Rank and alpha of modules whose name, or its end behind a dot, matches a regular expression; the first one holds.
  std::vector<std::pair<std::string, int64_t>> rank_pattern = {};
  std::vector<std::pair<std::string, double>> alpha_pattern = {};
  bool bare = false;  // names lack what the headless model's lack: "layers.0.self_attn.q_proj"
};

// A module of a model that may have a change.
struct AdaptableModule {
  enum class Kind : uint8_t { linear, table, experts };
  std::string name;         // of experts: with that of the parameter, "model.layers.0.mlp.experts.down_proj"
  std::string tensor = {};  // of its weight in files of the family; empty for experts and the head of a tied model
  Kind kind = Kind::linear;
  bool is_head = false;
  bool transposed = false;  // files have (in, out): GPT-2's Conv1D
  std::vector<NamedParameter> weights =
      {};  // whose rows it holds: one; q, k and v where files fuse them; of all experts
};
// How the family's files hold a model's weights, as transformers writes them one by one.
WeightMapping mapping_of_modules(const CausalLM& model);
// In the order of the model. The head of a tied model is one beside the table that it is tied to.
std::vector<AdaptableModule> adaptable_modules(CausalLM& model);

struct AdaptedModule {
  AdaptableModule module;
  std::vector<Parameter> a;      // one; of experts one an expert: (r, in), of a table (rows, r)
  std::vector<Parameter> b;      // one a weight: (out, r)
  std::vector<LowRank> changes;  // one a weight: what it points to
  std::string a_name(size_t i) const;
  std::string b_name(size_t i) const;
};

// What CausalLM::adapter holds.
struct Adapter {
  AdapterConfig config;
  std::vector<AdaptedModule> modules;
};

// An adapter beside its model, which stays as it is: the changes hold for the sequences that want them
// (BatchSequence::changes), those of several adapters and of none in one batch. Of linear layers alone.
struct RequestAdapter {
  Adapter adapter;
  LowRankChanges changes;  // by the model's weights
};

// Gives the modules that `config` names a change each, without values yet. Throws Error where a target matches no
// module, with the names that the model has; `source` says where the targets stand. A model takes one adapter.
void attach_adapter(CausalLM& model, const AdapterConfig& config, const std::string& source);
// Takes the model's adapter from it. Throws Error, naming `source`, where it changes what is no linear layer of a
// block: an embedding table, a head, experts.
std::shared_ptr<RequestAdapter> detach_adapter(CausalLM& model, const std::string& source);
// Values of a change that changes nothing yet, as PEFT's by default: A uniform in +-1 / sqrt(in), B 0; of tables A 0, B
// normal. By seed and name, in f32.
void initialise_adapter(CausalLM& model, uint64_t seed);

// A and B of every change of the model: none without an adapter.
std::vector<NamedParameter> adapter_parameters(const CausalLM& model);
std::vector<NamedParameter> adapter_parameters(Adapter& adapter);
// value (rows, columns) f32 += s B A, of a table s A B^T.
void add_change(const Tensor& value, const LowRank& change, bool of_table);

}  // namespace lathe
