// Optimizer steps against their formulas in double; the laws of bits.
#include <cmath>

#include "kernels/optimizer.h"
#include "tensor/random.h"
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

namespace {

constexpr int64_t kBlocks = 37;
constexpr int64_t kCodedElements = kBlocks * kStateBlock;

struct Coded {
  std::vector<int8_t> codes = std::vector<int8_t>(static_cast<size_t>(kCodedElements));
  std::vector<float> scales = std::vector<float>(static_cast<size_t>(kBlocks));
  CodedState view(int64_t block = 0) { return {codes.data() + block * kStateBlock, scales.data() + block}; }
  bool operator==(const Coded&) const = default;
};

// What a code stands for, in double.
double value_of(int code, float scale, StateMap map) {
  const double x = map == StateMap::any_sign ? code / 127.0 : (code + 128) / 255.0;
  return static_cast<double>(scale) * std::copysign(x * x * x * x, x);
}

// Values over eight magnitudes, with a block of zeros; not negative where the map has no sign.
std::vector<float> state_values(StateMap map, uint32_t seed) {
  std::vector<float> x = random_floats(kCodedElements, seed);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] *= std::pow(10.0f, -static_cast<float>(i % 9)) * std::pow(2.0f, static_cast<float>(i / kStateBlock % 40) - 30);
    if (map == StateMap::positive) x[i] = std::abs(x[i]);
    if (i / kStateBlock == 5) x[i] = 0.0f;
  }
  return x;
}

}  // namespace

TEST_CASE("a coded state is one of the two codes beside each value, chosen by Philox, on every instruction set") {
  const StateDraws draws{7, 11, 1000};
  for (const StateMap map : {StateMap::any_sign, StateMap::positive}) {
    const std::vector<float> x = state_values(map, 1);
    Coded first;
    bool known = false;
    for_each_isa([&](CpuIsa) {
      for (const int members : {1, 2, 3}) {
        const Threads threads(members);
        Coded coded;
        kernel::encode_state(Cpu{}, coded.view(), x.data(), kCodedElements, map, draws);
        if (known)
          CHECK(coded == first);
        else
          first = coded;
        known = true;
      }
    });
    Coded parts;  // in two calls
    const int64_t cut = 12 * kStateBlock;
    kernel::encode_state(Cpu{}, parts.view(), x.data(), cut, map, draws);
    kernel::encode_state(Cpu{}, parts.view(12), x.data() + cut, kCodedElements - cut, map, {7, 11, 1012});
    CHECK(parts == first);
    std::vector<float> decoded(x.size());
    kernel::decode_state(Cpu{}, decoded.data(), first.view(), kCodedElements, map);
    const int lowest = map == StateMap::any_sign ? 0 : -127;
    for (int64_t i = 0; i < kCodedElements; ++i) {
      const auto at = static_cast<size_t>(i);
      const float scale = first.scales[static_cast<size_t>(i / kStateBlock)];
      int exponent = 0;
      CHECK(std::frexp(scale, &exponent) == 0.5f);  // a power of two
      const int code = first.codes[at];
      const double value = value_of(code, scale, map), exact = static_cast<double>(x[at]);
      CHECK(std::abs(decoded[at] - value) <= 4 * kEpsilon * std::abs(value));
      // By magnitude: the code below, or the one above it where the draw is below the share of the way between.
      const int magnitude = map == StateMap::any_sign ? std::abs(code) : code;
      int below = lowest;
      while (below < 127 && value_of(below + 1, scale, map) <= std::abs(exact)) ++below;
      const double low = value_of(below, scale, map), high = value_of(below + 1, scale, map);
      const double share = (std::abs(exact) - low) / (high - low);
      const auto counter = static_cast<uint32_t>((1000 + i / kStateBlock) * 64 + i % 64);
      const uint32_t word = philox({7, 0}, {counter, 0, 11, 0})[static_cast<size_t>(i % kStateBlock / 64)];
      const double draw = ((word & 0xffff) + 0.5) / 65536;
      // f32 errs by 4 epsilon of a value, which is at most 255 / 4 of a step.
      if (std::abs(share - draw) > 256 * kEpsilon) CHECK(magnitude == below + (draw < share));
      if (code != 0 && map == StateMap::any_sign) CHECK((code < 0) == (exact < 0));
    }
  }
}

TEST_CASE("coded states keep the mean of what they round, and a drift far below a step") {
  // 4,000 draws of a value between two codes: the mean is within 5 deviations, sqrt(p (1 - p) / 4000) steps.
  std::vector<float> x(static_cast<size_t>(kStateBlock), 0.3137f), mean(x.size()), decoded(x.size());
  x[0] = 1.0f;
  Coded coded;
  double sum = 0.0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    kernel::encode_state(Cpu{}, coded.view(), x.data(), kStateBlock, StateMap::any_sign,
                         {3, static_cast<uint64_t>(i), 0});
    kernel::decode_state(Cpu{}, decoded.data(), coded.view(), kStateBlock, StateMap::any_sign);
    sum += static_cast<double>(decoded[77]);
  }
  const double step = 4 * std::pow(0.3137, 0.75) / 127;
  CHECK(std::abs(sum / kDraws - 0.3137) < 5 * 0.5 * step / std::sqrt(kDraws));
  // v = 0.999 v + 0.001 g^2 with g = 1 and 0.5 from 0.05: after 3,000 steps 95% of the way, by rounding to the nearest
  // code it would not have moved. The mean of 255 elements, whose variance is half a step each: within 5 deviations.
  std::vector<float> v(x.size(), 0.05f);
  Coded second;
  kernel::encode_state(Cpu{}, second.view(), v.data(), kStateBlock, StateMap::positive, {4, 0, 0});
  constexpr int kSteps = 3000;
  for (int n = 1; n <= kSteps; ++n) {
    kernel::decode_state(Cpu{}, v.data(), second.view(), kStateBlock, StateMap::positive);
    for (size_t i = 0; i < v.size(); ++i) v[i] = 0.999f * v[i] + 0.001f * (i == 0 ? 1.0f : 0.25f);
    kernel::encode_state(Cpu{}, second.view(), v.data(), kStateBlock, StateMap::positive,
                         {4, static_cast<uint64_t>(n), 0});
  }
  const double expected = 0.25 + (0.05 - 0.25) * std::pow(0.999, kSteps);
  double average = 0.0;
  for (size_t i = 1; i < v.size(); ++i) average += static_cast<double>(v[i]) / 255;
  const double spacing = 4 * std::pow(expected, 0.75) / 255;  // of codes there, scales being 1
  CHECK(std::abs(average - expected) < 5 * std::sqrt(spacing * expected / 2 / 255));
}

TEST_CASE("a scale stays while the largest value is above a quarter of it") {
  std::vector<float> x(static_cast<size_t>(kStateBlock));
  Coded coded;
  const auto scale_of = [&](float largest) {
    x[100] = -largest;
    kernel::encode_state(Cpu{}, coded.view(), x.data(), kStateBlock, StateMap::any_sign, {1, 1, 0});
    return coded.scales[0];
  };
  CHECK(scale_of(0.0f) == 0x1p-90f);
  CHECK(scale_of(0.75f) == 1.0f);
  CHECK(scale_of(0.26f) == 1.0f);
  CHECK(scale_of(0.25f) == 0.25f);
  CHECK(scale_of(0.2501f) == 0.5f);
  CHECK(scale_of(3e38f) == INFINITY);  // the next power of two is none
  CHECK(scale_of(1.0f) == 1.0f);
}

TEST_CASE("steps with coded states are the steps of f32 between decoding and coding") {
  const StateDraws draws{9, 5, 3};
  const auto floats = [](uint32_t seed, float spread) { return random_floats(kCodedElements, seed, spread); };
  const std::vector<float> w0 = floats(1, 1.0f), g0 = floats(2, 1e-2f);
  Coded m0, v0;
  kernel::encode_state(Cpu{}, m0.view(), state_values(StateMap::any_sign, 3).data(), kCodedElements, StateMap::any_sign,
                       {1, 1, 0});
  kernel::encode_state(Cpu{}, v0.view(), state_values(StateMap::positive, 4).data(), kCodedElements, StateMap::positive,
                       {1, 1, 0});
  for (const bool adamw : {true, false}) {
    std::vector<float> w = w0, g = g0, m(w.size()), v(w.size());
    Coded m1 = m0, v1 = v0;
    kernel::decode_state(Cpu{}, m.data(), m1.view(), kCodedElements, StateMap::any_sign);
    kernel::decode_state(Cpu{}, v.data(), v1.view(), kCodedElements, StateMap::positive);
    if (adamw)
      kernel::adamw_step(Cpu{}, w.data(), m.data(), v.data(), g.data(), kCodedElements, kAdamw);
    else
      kernel::sgd_step(Cpu{}, w.data(), m.data(), g.data(), kCodedElements, kSgd);
    kernel::encode_state(Cpu{}, m1.view(), m.data(), kCodedElements, StateMap::any_sign, draws);
    for_each_isa([&](CpuIsa) {
      for (const int members : {1, 2, 3}) {
        const Threads threads(members);
        std::vector<float> w2 = w0, g2 = g0;
        Coded m2 = m0, v2 = v0;
        if (adamw)
          kernel::adamw_step(Cpu{}, w2.data(), m2.view(), v2.view(), g2.data(), kCodedElements, kAdamw, draws);
        else
          kernel::sgd_step(Cpu{}, w2.data(), m2.view(), g2.data(), kCodedElements, kSgd, draws);
        CHECK(w2 == w);
        CHECK(m2 == m1);
        if (!adamw) continue;
        std::vector<float> after(w.size());
        kernel::decode_state(Cpu{}, after.data(), v2.view(), kCodedElements, StateMap::positive);
        for (size_t i = 0; i < v.size(); ++i) {  // within a step of the code, or what a code can be at least
          const double scale = v2.scales[i / kStateBlock], x = v[i] / scale;
          const double step = (std::pow(std::pow(x, 0.25) + 1.0 / 255, 4) - x) * scale;
          CHECK(std::abs(after[i] - v[i]) <= 1.001 * step);
        }
      }
    });
  }
}
