// Goldens to be trained, and how far two runs are apart.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace lathe::test {

inline LoadedModel trainable_golden(const std::string& name, Device device = {}) {
  LoadOptions options;
  options.device = device;
  options.dtype = ComputeDtype::float32;
  options.trainable = true;
  return load_model(golden_path(name), options);
}

inline std::vector<float> values(const Tensor& t) {
  const Tensor on_host = t.to(Device{});
  return {on_host.host<float>(), on_host.host<float>() + t.elements()};
}

// The largest |a - b| / |b|.
inline double worst_relative(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return worst;
}

}  // namespace lathe::test
