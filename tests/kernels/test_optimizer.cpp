// Optimizer steps against their formulas in double; the laws of bits.
#include <cmath>

#include "kernels/optimizer.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// More than a grain of the team, with a rest; g spans many magnitudes.
constexpr int64_t kElements = 40'011;

struct State {
  std::vector<float> w = random_floats(kElements, 1), m = random_floats(kElements, 2, 0.1f),
                     v = random_floats(kElements, 3, 0.1f), g = random_floats(kElements, 4);
  State() {
    for (float& x : v) x *= x;
    for (size_t i = 0; i < g.size(); ++i) g[i] *= std::pow(10.0f, static_cast<float>(i % 9) - 6);
  }
  bool operator==(const State&) const = default;
};

const AdamwStep kAdamw{.learning_rate = 3e-3,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .epsilon = 1e-8,
                       .weight_decay = 0.1,
                       .bias_correction1 = 1 - std::pow(0.9, 3),
                       .bias_correction2 = 1 - std::pow(0.95, 3),
                       .gradient_scale = 0.37};
constexpr SgdStep kSgd{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.01, .gradient_scale = 0.37};

// Runs `step` on a fresh state: the same bits on every instruction set and on two threads as on one.
template <class F>
State stepped(F&& step) {
  State first;
  bool known = false;
  for_each_isa([&](CpuIsa) {
    for (const int members : {1, 2, 3}) {
      const Threads threads(members);
      State s;
      step(s);
      if (known)
        CHECK(s == first);
      else
        first = s;
      known = true;
    }
  });
  return first;
}

}  // namespace

TEST_CASE("adamw_step is the formula of AdamW") {
  const State before;
  const State after = stepped(
      [](State& s) { kernel::adamw_step(Cpu{}, s.w.data(), s.m.data(), s.v.data(), s.g.data(), kElements, kAdamw); });
  const AdamwStep& f = kAdamw;
  for (size_t i = 0; i < before.w.size(); ++i) {
    const double g = before.g[i] * f.gradient_scale;
    const double m = f.beta1 * before.m[i] + (1 - f.beta1) * g, v = f.beta2 * before.v[i] + (1 - f.beta2) * g * g;
    const double update = f.learning_rate / f.bias_correction1 * m / (std::sqrt(v / f.bias_correction2) + f.epsilon);
    const double w = before.w[i] * (1 - f.learning_rate * f.weight_decay) - update;
    // Each of some eight roundings, that of a factor included, is half an ulp of an operand.
    CHECK(std::abs(after.m[i] - m) <= 4 * kEpsilon * (std::abs(before.m[i]) + std::abs(g)));
    CHECK(std::abs(after.v[i] - v) <= 8 * kEpsilon * v);
    const double spread = f.learning_rate / f.bias_correction1 * (std::abs(before.m[i]) + std::abs(g)) /
                          (std::sqrt(v / f.bias_correction2) + f.epsilon);
    CHECK(std::abs(after.w[i] - w) <= 4 * kEpsilon * std::abs(before.w[i]) + 16 * kEpsilon * spread);
    CHECK(after.g[i] == before.g[i]);
  }
}

TEST_CASE("sgd_step is the formula of SGD with momentum, and without") {
  const State before;
  const State after =
      stepped([](State& s) { kernel::sgd_step(Cpu{}, s.w.data(), s.m.data(), s.g.data(), kElements, kSgd); });
  SgdStep plain_step = kSgd;
  plain_step.momentum = 0;
  const State plain =
      stepped([&](State& s) { kernel::sgd_step(Cpu{}, s.w.data(), nullptr, s.g.data(), kElements, plain_step); });
  for (size_t i = 0; i < before.w.size(); ++i) {
    const double g = before.g[i] * kSgd.gradient_scale + kSgd.weight_decay * before.w[i];
    const double m = kSgd.momentum * before.m[i] + g;
    const double spread = std::abs(before.g[i]) + std::abs(before.w[i]) + std::abs(before.m[i]);
    CHECK(std::abs(after.m[i] - m) <= 6 * kEpsilon * spread);
    CHECK(std::abs(after.w[i] - (before.w[i] - kSgd.learning_rate * m)) <= 6 * kEpsilon * spread);
    CHECK(std::abs(plain.w[i] - (before.w[i] - kSgd.learning_rate * g)) <= 6 * kEpsilon * spread);
    CHECK(plain.m[i] == before.m[i]);
  }
}

TEST_CASE("steps clear the gradient where they are asked to, and change nothing else") {
  AdamwStep adamw = kAdamw;
  SgdStep sgd = kSgd;
  adamw.clear_gradient = sgd.clear_gradient = true;
  const std::vector<float> zeros(static_cast<size_t>(kElements));
  State kept, cleared;
  kernel::adamw_step(Cpu{}, kept.w.data(), kept.m.data(), kept.v.data(), kept.g.data(), kElements, kAdamw);
  kernel::adamw_step(Cpu{}, cleared.w.data(), cleared.m.data(), cleared.v.data(), cleared.g.data(), kElements, adamw);
  CHECK(cleared.g == zeros);
  cleared.g = kept.g;
  CHECK(cleared == kept);
  kernel::sgd_step(Cpu{}, kept.w.data(), kept.m.data(), kept.g.data(), kElements, kSgd);
  kernel::sgd_step(Cpu{}, cleared.w.data(), cleared.m.data(), cleared.g.data(), kElements, sgd);
  CHECK(cleared.g == zeros);
  cleared.g = kept.g;
  CHECK(cleared == kept);
}

TEST_CASE("adamw_step gives the same bits in one call or in several") {
  const auto step = [](State& s, int64_t begin, int64_t end) {
    kernel::adamw_step(Cpu{}, s.w.data() + begin, s.m.data() + begin, s.v.data() + begin, s.g.data() + begin,
                       end - begin, kAdamw);
  };
  State whole, parts;
  step(whole, 0, kElements);
  step(parts, 0, 7);
  step(parts, 7, 20'000);
  step(parts, 20'000, kElements);
  CHECK(parts == whole);
}

TEST_CASE("sum_of_squares is exact to double, the same bits on any number of threads and instruction set") {
  for (const int64_t n : {0, 1, 15, 16, 17, 4096, 4097, 40'011, 1'200'011}) {
    const std::vector<float> x = random_floats(n, 5, 1e3f);
    long double exact = 0;
    for (const float v : x) exact += static_cast<long double>(v) * v;
    double first = -1;
    for_each_isa([&](CpuIsa) {
      for (const int members : {1, 2, 3}) {
        const Threads threads(members);
        const double sum = kernel::sum_of_squares(Cpu{}, x.data(), n);
        if (first < 0) first = sum;
        CHECK(sum == first);
      }
    });
    // A term passes through at most n / 16 + 16 + 256 additions, each off by 2^-53 of its result.
    CHECK(std::abs(static_cast<double>(first - exact)) <=
          static_cast<double>(exact) * static_cast<double>(n / 16 + 272) * 0x1p-53);
  }
  const float large[] = {1e30f, -1e30f, 3e38f};
  CHECK(std::abs(kernel::sum_of_squares(Cpu{}, large, 3) - 9e76) < 1e71);
  const float infinite[] = {1.0f, INFINITY};
  CHECK(std::isinf(kernel::sum_of_squares(Cpu{}, infinite, 2)));
  const float nan[] = {1.0f, NAN};
  CHECK(std::isnan(kernel::sum_of_squares(Cpu{}, nan, 2)));
}
