// See weight_source.h.
#include "llm/weight_source.h"

#include <unordered_map>

#include "autograd/convert.h"
#include "config/model_config.h"
#include "formats/most_common.h"
#include "llm/family.h"
#include "tensor/interruption.h"

namespace lathe {
namespace {

// The values of a form's tensors, parameter by parameter.
class TensorValues {
 public:
  TensorValues(const OutgoingModel& model, CheckpointFormat format, double norm_offset)
      : weights_(model.weights),
        mapping_(family_of(model.config).weight_mapping(model.config, format)),
        norm_difference_(static_cast<float>(model.config.norm_offset - norm_offset)) {
    for (size_t i = 0; i < weights_.parameters.size(); ++i) number_of_[weights_.parameters[i].name] = i;
  }

  std::vector<CheckpointTensor> tensors() const {
    std::vector<std::pair<std::string, Shape>> shapes;
    for (const NamedParameter& p : weights_.parameters) shapes.emplace_back(p.name, p.parameter->shape);
    return checkpoint_tensors(shapes, mapping_);
  }
  size_t number_of(const std::string& name) const { return number_of_.at(name); }

  // The last ones are kept: the experts of a layer are tensors of one parameter.
  const std::vector<Tensor>& of(const CheckpointTensor& tensor, DType dtype) {
    if (held_ != tensor.parameters) {
      held_values_.clear();
      for (const std::string& name : tensor.parameters) held_values_.push_back(value(number_of(name), dtype));
      held_ = tensor.parameters;
    }
    return held_values_;
  }

 private:
  Tensor value(size_t i, DType dtype) const {
    const NamedParameter& named = weights_.parameters[i];
    Tensor stored = weights_.read(i);
    if (norm_difference_ == 0.0f || named.parameter->kind != Parameter::Kind::norm)
      return convert(stored, dtype, named.name);
    stored = convert(stored, DType::f32, named.name).clone();
    for (int64_t n = 0; n < stored.elements(); ++n) stored.host<float>()[n] += norm_difference_;
    return convert(stored, dtype, named.name);
  }

  WeightSource weights_;
  WeightMapping mapping_;
  float norm_difference_ = 0.0f;
  std::unordered_map<std::string, size_t> number_of_;
  std::vector<std::string> held_;
  std::vector<Tensor> held_values_;
};

}  // namespace

WeightSource checkpoint_weights(std::shared_ptr<LoadedModel> opened) {
  opened->checkpoint.unpack();
  WeightSource source;
  source.parameters = named_parameters(*opened->model);
  const auto reader = std::make_shared<ParameterReader>(source.parameters, opened->checkpoint.tensors, opened->mapping,
                                                        opened->checkpoint.path);
  source.dtype = [reader](size_t i) { return reader->dtype(i); };
  source.read = [reader, opened](size_t i) { return reader->read(i); };
  return source;
}

WeightSource memory_weights(CausalLM& model) {
  WeightSource source;
  source.parameters = named_parameters(model);
  const auto value = [parameters = source.parameters](size_t i) -> const Tensor& {
    const NamedParameter& named = parameters[i];
    check(named.parameter->value.defined(), "convert",
          "{} has no value that could be written: it is packed, or not set", named.name);
    return named.parameter->value;
  };
  source.dtype = [value](size_t i) { return value(i).dtype(); };
  source.read = [value](size_t i) { return value(i).to(Device{}); };
  return source;
}

std::vector<OutgoingTensor> outgoing_tensors(const OutgoingModel& model, CheckpointFormat format, double norm_offset,
                                             const DTypeFor& dtype_for) {
  const auto values = std::make_shared<TensorValues>(model, format, norm_offset);
  std::vector<OutgoingTensor> out;
  for (CheckpointTensor& t : values->tensors()) {
    const size_t first = values->number_of(t.parameters[0]);
    const DType dtype = dtype_for(t, *model.weights.parameters[first].parameter, model.weights.dtype(first));
    out.push_back({t.name, dtype, t.shape, [values, t, dtype] {
                     Interruption::point();
                     return t.assemble(values->of(t, dtype));
                   }});
  }
  return out;
}

DType most_common(const std::vector<OutgoingTensor>& tensors) {
  return most_common(tensors, DType::f32, [](const OutgoingTensor& t) { return std::pair(t.dtype, t.bytes()); });
}

}  // namespace lathe
