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
    const std::string element = first_not_finite(x.contiguous() ? x : x.clone());
    if (!element.empty()) found = fmt::format("the activation {} is {}", name, element);
  }
  bool wants(const std::string&) const override { return false; }

  std::string found;
};

}  // namespace

std::string first_not_finite(const Tensor& x, int64_t first) {
  const float* elements = x.host<float>();
  for (int64_t i = 0; i < x.elements(); ++i)
    if (!std::isfinite(elements[i])) return fmt::format("{} at element {}", elements[i], first + i);
  return {};
}

std::string first_not_finite_activation(const CausalLM& model, const Batch& batch) {
  const Tape::Pause pause;
  FirstNotFinite observer;
  const Observer::Scope watching(observer);
  model.hidden(batch);
  return observer.found;
}

}  // namespace lathe
