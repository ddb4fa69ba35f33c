#include "train/parameter_arena.h"

#include <algorithm>

#include "autograd/update.h"
#include "kernels/optimizer.h"
#include "tensor/storage.h"

namespace lathe {
namespace {

// Where a slice begins. What lies between two of them stays zero in every tensor of the arena's form.
int64_t aligned(int64_t begin, int64_t size) {
  const int64_t step = size >= ParameterArena::kLarge ? kStateBlock : 16;
  return (begin + step - 1) / step * step;
}

// 0: matrices, 1: what else decays, 2: the rest.
int group_of(const ParameterArena::Slice& s) { return s.matrix ? 0 : s.decays ? 1 : 2; }

}  // namespace

ParameterArena::ParameterArena(CausalLM& model) {
  for (const NamedParameter& named : all_parameters(model)) {
    const Parameter& p = *named.parameter;
    if (!p.trainable || p.packed) continue;
    check(p.value.defined() && p.value.dtype() == DType::f32, "train", "{} holds {}, training needs f32", named.name,
          p.value);
    slices_.push_back({named.name, &p, 0, p.shape.elements(), 0, p.decays(), p.kind == Parameter::Kind::matrix});
  }
  check(!slices_.empty(), "train", "the model has no weight to train");
  std::stable_sort(slices_.begin(), slices_.end(),
                   [](const Slice& a, const Slice& b) { return group_of(a) < group_of(b); });
  int64_t end = 0;
  for (Slice& s : slices_) {
    s.begin = aligned(end, s.size);
    s.room = aligned(s.size, s.size);
    end = s.begin + s.room;
  }
  const Device device = slices_.front().parameter->device();
  values_ = Tensor::zeros({end}, DType::f32, device);
  gradients_ = Tensor::zeros({end}, DType::f32, device);
  for (const NamedParameter& named : all_parameters(model)) {
    const auto slice =
        std::find_if(slices_.begin(), slices_.end(), [&](const Slice& s) { return s.parameter == named.parameter; });
    if (slice == slices_.end()) continue;
    Parameter& p = *named.parameter;
    const Tensor value = values_of(slice->begin, slice->begin + slice->size).view(p.shape);
    copy(value, p.value.contiguous() ? p.value : p.value.clone());
    p.value = value;
    p.grad = gradients_of(slice->begin, slice->begin + slice->size).view(p.shape);
  }
  if (device.kind == Device::Kind::cpu) StoragePool::trim();  // the blocks of the old values
}

int64_t ParameterArena::trainable_parameters() const {
  int64_t count = 0;
  for (const Slice& s : slices_) count += s.parameter->whole_shape().elements();
  return count;
}

std::vector<std::string> ParameterArena::decayed_names() const {
  std::vector<std::string> names;
  for (const Slice& s : slices_)
    if (s.decays) names.push_back(s.name);
  return names;
}

}  // namespace lathe
