// See merge_adapter.h.
#include "llm/merge_adapter.h"

#include <cmath>

#include "autograd/convert.h"
#include "config/model_config.h"
#include "llm/adapter.h"

namespace lathe {
namespace {

const LowRank* change_of_values(const Parameter& p) { return p.is_table() ? p.row_low_rank : p.low_rank; }

Tensor with_change(const Tensor& base, const LowRank& change, bool of_table, const std::string& name) {
  Tensor value = convert(base, DType::f32, name).clone();
  add_change(value, change, of_table);
  return value;
}

// What a block format makes of changes: with d the change and q what is left of it between the two quantised weights,
// the share sum(q d) / sum(d d) that is kept.
class KeptChange {
 public:
  void take(const Tensor& base, const Tensor& merged, DType format) {
    const Tensor q_base = convert(convert(base, format), DType::f32);
    const Tensor q_merged = convert(convert(merged, format), DType::f32);
    for (int64_t i = 0; i < base.elements(); ++i) {
      const double d = static_cast<double>(merged.host<float>()[i]) - base.host<float>()[i];
      const double q = static_cast<double>(q_merged.host<float>()[i]) - q_base.host<float>()[i];
      products_ += q * d, squares_ += d * d, errors_ += (q - d) * (q - d);
    }
  }
  std::string describe(DType format) const {
    const double kept = squares_ > 0.0 ? products_ / squares_ : 1.0;
    const double noise = squares_ > 0.0 ? std::sqrt(errors_ / squares_) : 0.0;
    return fmt::format(
        "{} keeps {:.1f}% of what the adapter changes and erases {:.1f}%; its rounding is {:.2f} times "
        "the change",
        name(format), 100.0 * kept, 100.0 * std::max(0.0, 1.0 - kept), noise);
  }

 private:
  double products_ = 0.0, squares_ = 0.0, errors_ = 0.0;
};

std::string kept_in(const WeightSource& base, DType quantize) {
  KeptChange kept;
  for (size_t i = 0; i < base.parameters.size(); ++i) {
    const std::string& name = base.parameters[i].name;
    const Parameter* parameter = base.parameters[i].parameter;
    const LowRank* change = change_of_values(*parameter);
    const auto format = block_format_for(quantize, parameter->shape[-1]);
    if (change == nullptr || !format) continue;
    const Tensor value = convert(base.read(i), DType::f32, name);
    kept.take(value, with_change(value, *change, parameter->is_table(), name), *format);
  }
  return kept.describe(quantize);
}

}  // namespace

MergedWeights merge_adapter(CausalLM& model, WeightSource base, std::optional<DType> quantize) {
  MergedWeights merged;
  merged.tied = model.config.tie_word_embeddings;
  if (quantize) merged.remarks.push_back(kept_in(base, *quantize));

  const Parameter* head = model.head().weight;
  const auto own_head = std::make_shared<Parameter>(Parameter::Kind::matrix, head->shape);
  WeightSource source = base;
  size_t table = base.parameters.size();  // the number of the one that the head is tied to
  if (merged.tied && (head->low_rank || head->row_low_rank)) {
    for (size_t i = 0; i < base.parameters.size(); ++i)
      if (base.parameters[i].parameter == head) table = i;
    own_head->low_rank = head->low_rank;
    source.parameters.push_back({"lm_head.weight", own_head.get()});
    merged.tied = false;
    merged.remarks.push_back("the adapter changes the embedding table and the head apart: they are tied no longer");
  }
  const auto origin = [table](size_t i, size_t count) { return i < count ? i : table; };
  source.dtype = [base, parameters = source.parameters, origin](size_t i) {
    return change_of_values(*parameters[i].parameter) ? DType::f32 : base.dtype(origin(i, base.parameters.size()));
  };
  source.read = [base, parameters = source.parameters, origin, own_head](size_t i) {
    const Parameter& parameter = *parameters[i].parameter;
    const Tensor value = base.read(origin(i, base.parameters.size()));
    const LowRank* change = change_of_values(parameter);
    return change == nullptr ? value : with_change(value, *change, parameter.is_table(), parameters[i].name);
  };
  merged.weights = std::move(source);
  return merged;
}

}  // namespace lathe
