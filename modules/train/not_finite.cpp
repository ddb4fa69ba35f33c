#include "train/not_finite.h"

#include <fmt/core.h>

#include <cmath>

#include "autograd/tape.h"
#include "common/observer.h"

namespace lathe {
namespace {

class FirstNotFinite : public Observer {
 public:
  void observe(const std::string& name, const Tensor& x) override {
    if (!found.empty() || x.dtype() != DType::f32) return;
    const Tensor whole = (x.contiguous() ? x : x.clone()).to(Device{});
    const float* elements = whole.host<float>();
    for (int64_t i = 0; i < whole.elements() && found.empty(); ++i)
      if (!std::isfinite(elements[i]))
        found = fmt::format("the activation {} is {} at element {}", name, elements[i], i);
  }
  bool wants(const std::string&) const override { return false; }

  std::string found;
};

}  // namespace

std::string first_not_finite_activation(const CausalLM& model, const Batch& batch) {
  const Tape::Pause pause;
  FirstNotFinite observer;
  const Observer::Scope watching(observer);
  model.hidden(batch);
  return observer.found;
}

}  // namespace lathe
