// What is looked into on an emulated device: every tap and every gradient, brought to the host.
#include <cmath>

#include "llm/trace.h"
#include "tests/catch.h"
#include "tests/device/device.h"
#include "tests/support.h"
#include "tests/train/goldens.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// A tap is some sums of a hundred products behind others: some tens of roundings of its largest value.
void check_same(const NamedTensors& device, const NamedTensors& cpu) {
  REQUIRE(!cpu.empty());
  REQUIRE(device.size() == cpu.size());
  for (size_t i = 0; i < cpu.size(); ++i) {
    INFO(cpu[i].first);
    REQUIRE(device[i].first == cpu[i].first);
    const std::vector<float> found = values(device[i].second), expected = values(cpu[i].second);
    REQUIRE(found.size() == expected.size());
    float largest = 1.0f, worst = 0.0f;
    for (size_t k = 0; k < found.size(); ++k) {
      largest = std::max(largest, std::abs(expected[k]));
      worst = std::max(worst, std::abs(found[k] - expected[k]));
    }
    CHECK(worst <= 2e-5f * largest);
  }
}

}  // namespace

TEST_CASE("taps, attention maps, loss and gradients of a device are those of the CPU") {
  const std::vector<int32_t> tokens = {3, 14, 15, 9, 26, 5, 35};
  for (const char* name : {"llama_untied_gqa", "mixtral", "mpt"}) {
    INFO(name);
    const LoadedModel cpu = trainable_golden(name), device = trainable_golden(name, kCudaDevice);
    check_same(trace(*device.model, tokens, "*"), trace(*cpu.model, tokens, "*"));
    check_same(loss_and_gradients(device, tokens), loss_and_gradients(cpu, tokens));
  }
}
