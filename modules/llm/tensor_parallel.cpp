#include "llm/tensor_parallel.h"

#include <algorithm>
#include <map>

#include "config/model_config.h"
#include "llm/adapter.h"
#include "llm/registry.h"

namespace lathe {
namespace {

// Where the part of a rank begins of `count` that ranks share as evenly as they divide; `rank` == `ranks`: the end.
int64_t border(int64_t count, int rank, int ranks) {
  constexpr int64_t kPanel = 16;  // rows that kernels lay side by side
  const int64_t unit = count % kPanel == 0 && count / kPanel >= ranks ? kPanel : 1;
  return count / unit * rank / ranks * unit;
}

std::vector<int64_t> borders(int64_t count, int ranks) {
  std::vector<int64_t> all;
  for (int r = 0; r <= ranks; ++r) all.push_back(border(count, r, ranks));
  return all;
}

// The heads of a rank, those of a key-value head together, and its widths inside the nets.
ModelConfig rank_config(const ModelConfig& whole, int rank, int ranks) {
  ModelConfig c = whole;
  const int64_t kv_heads = whole.num_key_value_heads, group = whole.num_attention_heads / kv_heads;
  const int64_t first = kv_heads * rank / ranks, end = kv_heads * (rank + 1) / ranks;
  c.num_key_value_heads = end - first;
  c.num_attention_heads = group * (end - first);
  c.heads_before = group * first;
  c.heads_behind = group * (kv_heads - end);
  for (const auto width : {&ModelConfig::intermediate_size, &ModelConfig::moe_intermediate_size})
    c.*width = border(whole.*width, rank + 1, ranks) - border(whole.*width, rank, ranks);
  return c;
}

// `count` of what the model has.
void check_enough(const ModelConfig& c, int64_t count, const std::string& what, int ranks) {
  if (count >= ranks) return;
  throw Error(fmt::format("tensor parallel: {} of {} cannot be shared out among {} processes", what, c.source, ranks),
              count > 1 ? fmt::format("start at most {} processes", count) : "start one process");
}

void check_shareable(const ModelConfig& c, int ranks) {
  const int64_t heads = c.num_key_value_heads;
  check_enough(c, heads, fmt::format("{} key-value head{}", heads, heads == 1 ? "" : "s"), ranks);
  const int64_t width = c.num_experts > 0 ? c.moe_intermediate_size : c.intermediate_size;
  check_enough(c, width, fmt::format("nets of width {}", width), ranks);
  check_enough(c, std::min(c.vocab_size, c.hidden_size), "a vocabulary or a width", ranks);
}

std::vector<Shape> shapes_of(CausalLM& model) {
  std::vector<Shape> shapes;
  for (const NamedParameter& p : named_parameters(model)) shapes.push_back(p.parameter->shape);
  return shapes;
}

void share_rows(Parameter& p, Shard shard) {
  Shape own{shard.count()};
  for (int i = 1; i < p.shape.rank(); ++i) own.append(p.shape[i]);
  p.shape = own;
  p.shard = std::move(shard);
}

// Notes what this rank has of a parameter whose shapes, by rank, are smaller than the whole one.
void share(const NamedParameter& named, const Shape& whole, const std::vector<Shape>& parts, Communicator& ranks) {
  Parameter& p = *named.parameter;
  if (p.shape == whole) return;
  const bool rows = p.shape[0] != whole[0];
  std::vector<int64_t> cut = {0};
  bool fits = whole.rank() == 1 || (whole.rank() == 2 && rows != (p.shape[1] != whole[1]));
  for (const Shape& part : parts) {
    fits = fits && part.rank() == whole.rank();
    cut.push_back(cut.back() + part[rows ? 0 : -1]);
  }
  check(fits && cut.back() == whole[rows ? 0 : -1], "tensor parallel",
        "{} {} cannot be shared out: of it the first rank has {}, the last {}", named.name, whole, parts.front(),
        parts.back());
  p.shape = whole;
  if (p.kind == Parameter::Kind::norm)  // over columns that ranks have: it divides by the mean of all of them
    p.shard = Shard{&ranks, std::move(cut)};
  else if (rows)
    share_rows(p, {&ranks, std::move(cut)});
  else
    share_rows(p, {&ranks, borders(whole[0], ranks.size()), std::move(cut)});
}

}  // namespace

std::unique_ptr<CausalLM> make_rank_model(const Family& family, const ModelConfig& config, Communicator& ranks,
                                          bool trains) {
  std::unique_ptr<CausalLM> own = family.make(config);
  if (ranks.alone()) return own;
  check_shareable(config, ranks.size());
  const std::vector<Shape> whole = shapes_of(*own);
  std::vector<std::vector<Shape>> parts;  // by rank
  for (int r = 0; r < ranks.size(); ++r) {
    std::unique_ptr<CausalLM> model = family.make(rank_config(config, r, ranks.size()));
    parts.push_back(shapes_of(*model));
    if (r == ranks.rank()) own = std::move(model);
  }
  const std::vector<NamedParameter> parameters = named_parameters(*own);
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::vector<Shape> of_ranks;
    for (const std::vector<Shape>& shapes : parts) of_ranks.push_back(shapes[i]);
    share(parameters[i], whole[i], of_ranks, ranks);
    // The bias of a Linear, behind its weight, has as many rows.
    Parameter& p = *parameters[i].parameter;
    const auto& before = i > 0 ? parameters[i - 1].parameter->shard : p.shard;
    if (p.kind == Parameter::Kind::bias && !p.shard && before && !before->columns.empty()) share_rows(p, *before);
  }
  // The output head, or the table that serves as one.
  const Head head = own->head();
  for (const NamedParameter& named : parameters)
    if (named.parameter == head.weight || named.parameter == head.bias ||
        (trains && named.parameter->kind == Parameter::Kind::embedding))
      share_rows(*named.parameter, {&ranks, borders(config.vocab_size, ranks.size())});
  own->ranks = &ranks;
  own->whole_config = std::make_unique<const ModelConfig>(config);
  return own;
}

void sum_head_gradients(CausalLM& own) {
  if (own.ranks->alone()) return;
  std::vector<Tensor> gradients;
  std::vector<float> all;  // in one message
  for (const NamedParameter& named : named_parameters(own)) {
    const Parameter& p = *named.parameter;
    if (p.kind != Parameter::Kind::norm || named.part != ModelPart::attention || p.shard || !p.trainable) continue;
    gradients.push_back(p.gradient());
    const Tensor g = p.gradient().to(Device{});
    all.insert(all.end(), g.host<float>(), g.host<float>() + g.elements());
  }
  own.ranks->all_reduce_sum(all);
  const float* sums = all.data();
  for (const Tensor& g : gradients) {
    g.copy_from(Tensor::of<float>(g.shape(), sums));
    sums += g.elements();
  }
}

Tensor gather_rows(const Parameter& p, const Tensor& rows) {
  if (!p.is_part()) return rows.to(Device{});
  const Shard& shard = *p.shard;
  const Tensor own = rows.to(Device{});
  Tensor all = shard.ranks->is_first() ? Tensor::empty(p.whole_shape()) : Tensor::empty({0});
  std::vector<int64_t> elements;
  for (const int64_t row : shard.rows) elements.push_back(row * (rows.elements() / shard.count()));
  shard.ranks->gather(own.host<float>(), all.host<float>(), elements);
  return all;
}

std::unique_ptr<CausalLM> gather_model(CausalLM& own) {
  std::unique_ptr<CausalLM> whole = family_of(*own.whole_config).make(*own.whole_config);
  const std::vector<NamedParameter> parts = named_parameters(own), wholes = named_parameters(*whole);
  for (size_t i = 0; i < parts.size(); ++i)
    wholes[i].parameter->value = gather_rows(*parts[i].parameter, parts[i].parameter->value);
  return own.ranks->is_first() ? std::move(whole) : nullptr;
}

void share_adapter(CausalLM& own, CausalLM& whole) {
  std::map<const Parameter*, Parameter*> part_of;
  const std::vector<NamedParameter> parts = named_parameters(own), wholes = named_parameters(whole);
  for (size_t i = 0; i < parts.size(); ++i) part_of[wholes[i].parameter] = parts[i].parameter;
  own.adapter = std::move(whole.adapter);
  for (AdaptedModule& m : own.adapter->modules) {
    const bool is_table = m.module.kind == AdaptableModule::Kind::table;
    for (size_t i = 0; i < m.changes.size(); ++i) {
      Parameter& p = *part_of.at(m.module.weights[i].parameter);
      m.module.weights[i].parameter = &p;
      (is_table ? p.row_low_rank : p.low_rank) = &m.changes[i];
      if (is_table || !p.shard) continue;
      const int64_t first = p.shard->first();
      m.b[i].value = m.b[i].value.row_range(first, first + p.shard->count()).clone();
      m.b[i].shape = m.b[i].value.shape();
    }
  }
}

}  // namespace lathe
