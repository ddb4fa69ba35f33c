// See adapter.h.
#include "llm/adapter.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "config/model_config.h"
#include "llm/adapter_targets.h"
#include "llm/family.h"
#include "llm/registry.h"
#include "tensor/random.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

using Kind = AdaptableModule::Kind;

const std::string kWeight = ".weight", kExperts = ".mlp.experts.";

// Of an expert's matrix, the parameter that holds those of all experts in transformers; empty for other names.
std::string experts_parameter(const std::string& name) {
  const size_t at = name.find(kExperts);
  if (at == name.npos) return {};
  const bool is_down = name.ends_with(".down_proj" + kWeight);
  return name.substr(0, at + kExperts.size()) + (is_down ? "down_proj" : "gate_up_proj");
}

// Where files of the family have a weight, and whether they have it turned.
std::pair<std::string, bool> place_in_files(const WeightMapping& mapping, const std::string& name) {
  const auto match = mapping.rule_for(name);
  if (!match) return {name, false};
  return {fill_name(match->rule->sources[0], match->numbers), match->rule->transposed};
}

AdaptedModule make_changes(AdaptableModule module, const AdapterConfig& config) {
  AdaptedModule m{std::move(module), {}, {}, {}};
  const std::vector<NamedParameter>& weights = m.module.weights;
  const bool is_table = m.module.kind == Kind::table;
  const int64_t rank = rank_of(config, m.module.name);
  const double alpha = alpha_of(config, m.module.name), r = static_cast<double>(rank);
  const Shape& first = weights[0].parameter->shape;
  // Weights that files hold in one matrix share A.
  const size_t sharing =
      m.module.kind == Kind::experts ? (m.module.name.ends_with("gate_up_proj") ? 2 : 1) : weights.size();
  for (size_t i = 0; i < weights.size() / sharing; ++i)
    m.a.emplace_back(is_table ? Parameter::Kind::embedding : Parameter::Kind::matrix,
                     is_table ? Shape{first[0], rank} : Shape{rank, first[1]});
  for (const NamedParameter& w : weights)
    m.b.emplace_back(Parameter::Kind::matrix, Shape{w.parameter->shape[is_table ? 1 : 0], rank});
  for (size_t i = 0; i < weights.size(); ++i)
    m.changes.push_back({&m.a[i / sharing], &m.b[i], alpha / (config.rank_stabilised ? std::sqrt(r) : r),
                         config.dropout, random_stream(m.a_name(i / sharing))});
  for (size_t i = 0; i < weights.size(); ++i)
    (is_table ? weights[i].parameter->row_low_rank : weights[i].parameter->low_rank) = &m.changes[i];
  return m;
}

}  // namespace

std::string AdaptedModule::a_name(size_t i) const {
  return module.name + ".lora_A" + (a.size() > 1 ? fmt::format(".{}", i) : "") + kWeight;
}
std::string AdaptedModule::b_name(size_t i) const {
  return module.name + ".lora_B" + (b.size() > 1 ? fmt::format(".{}", i) : "") + kWeight;
}

WeightMapping mapping_of_modules(const CausalLM& model) {
  WeightMapping mapping = family_of(model.config).weight_mapping(model.config, CheckpointFormat::hugging_face);
  mapping.choose_alternatives({});
  return mapping;
}

std::vector<AdaptableModule> adaptable_modules(CausalLM& model) {
  const WeightMapping mapping = mapping_of_modules(model);
  const Parameter* head = model.head().weight;
  bool is_tied = true;
  std::vector<AdaptableModule> modules;
  std::map<std::string, size_t> number_of;
  for (const NamedParameter& named : named_parameters(model)) {
    const Parameter& p = *named.parameter;
    if (p.is_vector() || p.kind == Parameter::Kind::router) continue;
    AdaptableModule m{.name = experts_parameter(named.name), .kind = Kind::experts};
    if (m.name.empty()) {
      std::tie(m.tensor, m.transposed) = place_in_files(mapping, named.name);
      if (!m.tensor.ends_with(kWeight)) continue;
      m.name = m.tensor.substr(0, m.tensor.size() - kWeight.size());
      m.kind = p.is_table() ? Kind::table : Kind::linear;
      m.is_head = !p.is_table() && &p == head;
      if (m.is_head) m.name = "lm_head", is_tied = false;  // transformers' name in every family
    }
    const auto [found, is_new] = number_of.try_emplace(m.name, modules.size());
    if (is_new) modules.push_back(std::move(m));
    modules[found->second].weights.push_back(named);
  }
  if (is_tied)
    modules.push_back(
        {.name = "lm_head", .is_head = true, .weights = {{"lm_head.weight", const_cast<Parameter*>(head)}}});
  return modules;
}

void attach_adapter(CausalLM& model, const AdapterConfig& config, const std::string& source) {
  check(model.adapter == nullptr, "adapter", "the model has one already");
  check(config.dropout == 0.0 || config.parameters.empty(), "adapter", "{}: a dropout of {}, experts have none", source,
        config.dropout);
  std::vector<AdaptableModule> modules = adaptable_modules(model);
  const std::string prefix = mapping_of_modules(model).base_prefix;
  for (AdaptableModule& m : modules)
    if (config.bare && m.name.starts_with(prefix)) m.name.erase(0, prefix.size());
  modules = targeted_modules(modules, config, source);
  auto adapter = std::make_unique<Adapter>();
  adapter->config = config;
  adapter->modules.reserve(modules.size());  // parameters point into it
  for (AdaptableModule& m : modules) adapter->modules.push_back(make_changes(std::move(m), config));
  model.adapter = std::move(adapter);
}

std::shared_ptr<RequestAdapter> detach_adapter(CausalLM& model, const std::string& source) {
  auto detached = std::make_shared<RequestAdapter>(RequestAdapter{std::move(*model.adapter), {}});
  model.adapter.reset();
  const AdaptedModule* other = nullptr;  // than a linear layer of a block
  for (const AdaptedModule& m : detached->adapter.modules) {
    if (m.module.kind != Kind::linear || m.module.is_head) other = &m;
    for (size_t i = 0; i < m.changes.size(); ++i) {
      Parameter& weight = *m.module.weights[i].parameter;
      (m.module.kind == Kind::table ? weight.row_low_rank : weight.low_rank) = nullptr;
      detached->changes.emplace(&weight, &m.changes[i]);
    }
  }
  if (other)
    throw Error(fmt::format("adapter: {} changes {}, adapters by request change linear layers of blocks alone", source,
                            other->module.name),
                "--adapter DIR, without a name, changes the whole model");
  return detached;
}

void initialise_adapter(CausalLM& model, uint64_t seed) {
  for (AdaptedModule& m : model.adapter->modules) {
    const bool is_table = m.module.kind == Kind::table;
    const auto fill = [&](Parameter& p, const std::string& name, bool is_random) {
      p.value = Tensor::zeros(p.shape);
      const double bound = 1.0 / std::sqrt(static_cast<double>(p.shape[1]));
      for (int64_t i = 0; is_random && i < p.shape.elements(); ++i) {
        const auto index = static_cast<uint64_t>(i);
        p.value.host<float>()[i] =
            static_cast<float>(is_table ? random_normal(seed, random_stream(name), index)
                                        : bound * (2.0 * random_uniform(seed, random_stream(name), index) - 1.0));
      }
    };
    for (size_t i = 0; i < m.a.size(); ++i) fill(m.a[i], m.a_name(i), !is_table);
    for (size_t i = 0; i < m.b.size(); ++i) fill(m.b[i], m.b_name(i), is_table);
  }
}

std::vector<NamedParameter> adapter_parameters(const CausalLM& model) {
  return model.adapter == nullptr ? std::vector<NamedParameter>{} : adapter_parameters(*model.adapter);
}

std::vector<NamedParameter> adapter_parameters(Adapter& adapter) {
  std::vector<NamedParameter> list;
  for (AdaptedModule& m : adapter.modules) {
    for (size_t i = 0; i < m.a.size(); ++i) list.push_back({m.a_name(i), &m.a[i]});
    for (size_t i = 0; i < m.b.size(); ++i) list.push_back({m.b_name(i), &m.b[i]});
  }
  return list;
}

void add_change(const Tensor& value, const LowRank& change, bool of_table) {
  // left (rows, r), right (r, columns): B and A, or A and B^T.
  const Parameter &left = of_table ? *change.a : *change.b, &right = of_table ? *change.b : *change.a;
  const int64_t rows = value.dim(0), columns = value.dim(1), rank = left.shape[1];
  const auto* l = left.value.host<float>();
  const auto* r = right.value.host<float>();
  constexpr int64_t kGrain = 16;  // rows
  parallel_for(rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < columns; ++column) {
        double sum = 0.0;
        for (int64_t k = 0; k < rank; ++k)
          sum += static_cast<double>(l[row * rank + k]) * (of_table ? r[column * rank + k] : r[k * columns + column]);
        value.host<float>()[row * columns + column] += static_cast<float>(change.scale * sum);
      }
  });
}

}  // namespace lathe
