// Routing on CUDA against the CPU's.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/routing.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct RoutingSize {
  int64_t n, e, k, stride;
};
// One token, fewer experts than lanes, more, and more than a block of add_expert_loads has.
const RoutingSize kRoutings[] = {{1, 1, 1, 1}, {3, 4, 2, 4}, {37, 8, 8, 11}, {9, 33, 5, 33}, {5, 131, 4, 140}};

// Logits with equal ones among them; the choice that the CPU makes of them.
struct Routed {
  RoutingSize s;
  std::vector<float> logits, weights;
  std::vector<int32_t> experts;
  Routed(const RoutingSize& size, bool normalise)
      : s(size),
        logits(random_floats(size.n * size.stride, 5, 2.0f)),
        weights(static_cast<size_t>(size.n * size.k)),
        experts(weights.size()) {
    for (size_t i = 0; i + 3 < logits.size(); i += 5) logits[i + 3] = logits[i];
    for (int64_t i = 0; i < s.e; ++i) logits[static_cast<size_t>(i)] *= 40;  // whose exponentials f32 does not hold
    kernel::choose_experts<float>(Cpu{}, weights.data(), experts.data(), rows(), s.n, s.e, s.k, normalise);
  }
  ConstRows<float> rows() const { return {logits.data(), s.stride}; }
};

// Sums of exponentials within a few ulp, in another order: E + 8 halves of an ulp of the largest value are plenty.
void check_close(const Guarded& found, const Guarded& expected, int64_t n, double ulps) {
  double magnitude = 0, worst = 0;
  for (int64_t i = 0; i < n; ++i) {
    magnitude = std::max(magnitude, std::abs(static_cast<double>(expected[i])));
    worst = worse(worst, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
  }
  CHECK(worst <= ulps * kEpsilon * magnitude);
  CHECK(found.intact());
}

}  // namespace

TEST_CASE("experts are chosen on CUDA as on the CPU, equal ones by their index") {
  for (const RoutingSize& s : kRoutings)
    for (const bool normalise : {false, true}) {
      INFO(s.n << " " << s.e << " " << s.k << normalise);
      const Routed r(s, normalise);
      simt::in_every_schedule([&] {
        Guarded weights(s.n * s.k), expected(s.n * s.k), dlogits(s.n * s.e), expected_dlogits(s.n * s.e);
        std::vector<int32_t> experts(r.experts.size() + 2, -1);
        kernel::choose_experts<float>(kOnDevice, weights.data(), experts.data() + 1, r.rows(), s.n, s.e, s.k,
                                      normalise);
        CHECK(std::vector<int32_t>(experts.begin() + 1, experts.end() - 1) == r.experts);
        CHECK((experts.front() == -1 && experts.back() == -1));
        std::copy(r.weights.begin(), r.weights.end(), expected.data());
        check_close(weights, expected, s.n * s.k, static_cast<double>(s.e + 8));

        const std::vector<float> dweights = random_floats(s.n * s.k, 9);
        for (const bool cuda : {false, true}) {
          float* to = (cuda ? dlogits : expected_dlogits).data();
          if (cuda)
            kernel::choose_experts_backward<float>(kOnDevice, to, dweights.data(), r.weights.data(), r.rows(),
                                                   r.experts.data(), s.n, s.e, s.k, normalise);
          else
            kernel::choose_experts_backward<float>(Cpu{}, to, dweights.data(), r.weights.data(), r.rows(),
                                                   r.experts.data(), s.n, s.e, s.k, normalise);
        }
        // Differences of products: up to k terms of the size of the largest dweight.
        double worst = 0;
        for (int64_t i = 0; i < s.n * s.e; ++i) worst = worse(worst, std::abs(dlogits[i] - expected_dlogits[i]));
        CHECK(worst <= kEpsilon * 4 * static_cast<double>(s.e + s.k + 8));
        CHECK(dlogits.intact());
      });
    }
}

TEST_CASE("a token's experts on CUDA have the same bits alone and among others") {
  const RoutingSize s = kRoutings[2];
  const Routed r(s, false);
  std::vector<float> many(r.weights.size()), one(static_cast<size_t>(s.k));
  std::vector<int32_t> experts(r.experts.size()), chosen(one.size());
  kernel::choose_experts<float>(kOnDevice, many.data(), experts.data(), r.rows(), s.n, s.e, s.k, false);
  kernel::choose_experts<float>(kOnDevice, one.data(), chosen.data(), r.rows().from(20), 1, s.e, s.k, false);
  CHECK(std::equal(one.begin(), one.end(), many.begin() + 20 * s.k));
}

TEST_CASE("CUDA chooses different experts where logits are not numbers") {
  const std::vector<float> logits = {NAN, 1.0f, NAN, -INFINITY, 2.0f};
  std::vector<float> weights(5);
  std::vector<int32_t> experts(5);
  kernel::choose_experts<float>(kOnDevice, weights.data(), experts.data(), {logits.data(), 5}, 1, 5, 5, true);
  CHECK(experts == std::vector<int32_t>{4, 1, 3, 0, 2});
}

TEST_CASE("pairs are sorted by expert on CUDA as on the CPU") {
  // Some experts without a token; more pairs than one warp's part.
  for (const auto& size : {std::array<int64_t, 3>{1, 1, 1}, {5, 7, 2}, {301, 11, 3}, {600, 2, 1}}) {
    const int64_t n = size[0], e = size[1], k = size[2];
    std::vector<int32_t> experts(static_cast<size_t>(n * k));
    for (size_t i = 0; i < experts.size(); ++i) experts[i] = static_cast<int32_t>(i * i % 13 % static_cast<size_t>(e));
    const auto sort = [&](auto on) {
      std::array<std::vector<int32_t>, 3> out = {std::vector<int32_t>(static_cast<size_t>(e + 2), -1),
                                                 std::vector<int32_t>(experts.size() + 1, -1),
                                                 std::vector<int32_t>(experts.size() + 1, -1)};
      kernel::sort_by_expert(on, out[0].data(), out[1].data(), out[2].data(), experts.data(), n, k, e);
      return out;
    };
    simt::in_every_schedule([&] { CHECK(sort(kOnDevice) == sort(Cpu{})); });
  }
}

// One product and one sum each of k terms: k + 1 halves of an ulp of the sum of magnitudes, which is below 4 k here;
// the dot products have C terms.
TEST_CASE("experts are combined on CUDA as on the CPU, and so are their gradients") {
  for (const int64_t c : {1, 5, 64, 132, 131}) {
    const int64_t n = 7, k = 3;
    std::vector<int32_t> places = counted(n * k);
    std::reverse(places.begin(), places.end());
    const std::vector<float> x = random_floats(n * k * c, 1), weights = random_floats(n * k, 2),
                             dy = random_floats(n * c, 3);
    simt::in_every_schedule([&] {
      Guarded y(n * c), y0(n * c), dx(n * k * c), dx0(n * k * c), dw(n * k), dw0(n * k);
      kernel::combine_experts<float>(Cpu{}, y0.data(), x.data(), weights.data(), places.data(), n, k, c);
      kernel::combine_experts<float>(kOnDevice, y.data(), x.data(), weights.data(), places.data(), n, k, c);
      check_close(y, y0, n * c, 4 * k);
      kernel::combine_experts_backward<float>(Cpu{}, dx0.data(), dw0.data(), dy.data(), x.data(), weights.data(),
                                              places.data(), n, k, c);
      kernel::combine_experts_backward<float>(kOnDevice, dx.data(), dw.data(), dy.data(), x.data(), weights.data(),
                                              places.data(), n, k, c);
      CHECK((dx.same_bits(dx0) && dx.intact()));
      double worst = 0;
      for (int64_t i = 0; i < n * k; ++i) worst = worse(worst, std::abs(dw[i] - dw0[i]));
      CHECK(worst <= kEpsilon * 4 * static_cast<double>(c * (c + 1)));
      CHECK(dw.intact());
    });
  }
}

TEST_CASE("loads of experts and the loss that balances them are the CPU's on CUDA") {
  for (const RoutingSize& s : kRoutings) {
    INFO(s.n << " " << s.e << " " << s.k);
    const Routed r(s, false);
    const auto size = static_cast<size_t>(s.e);
    struct Loads {
      std::vector<double> chosen, probability, slope;
      float loss = 0;
      std::vector<float> dlogits;
    };
    const auto run = [&](auto on) {
      Loads l{std::vector<double>(size, 2.0), std::vector<double>(size, 0.5), std::vector<double>(size), 0,
              std::vector<float>(static_cast<size_t>(s.n * s.e))};
      kernel::add_expert_loads<float>(on, l.chosen.data(), l.probability.data(), r.rows(), r.experts.data(), s.n, s.e,
                                      s.k);
      kernel::load_balancing<float>(on, &l.loss, l.slope.data(), l.chosen.data(), l.probability.data(), s.e, s.n);
      const float dloss = 0.7f;
      kernel::load_balancing_backward<float>(on, l.dlogits.data(), &dloss, l.slope.data(), r.rows(), s.n, s.e);
      return l;
    };
    const Loads expected = run(Cpu{});
    simt::in_every_schedule([&] {
      const Loads found = run(kOnDevice);
      CHECK(found.chosen == expected.chosen);
      // Softmaxes in f32 of E exponentials, each row's at most 1: off by (E + 8) halves of an ulp a row.
      const double ulps = kEpsilon * static_cast<double>(s.e + 8);
      for (size_t i = 0; i < size; ++i) {
        CHECK(std::abs(found.probability[i] - expected.probability[i]) <= ulps * static_cast<double>(s.n));
        CHECK(found.slope[i] == expected.slope[i]);
      }
      CHECK(std::abs(found.loss - expected.loss) <= 4 * ulps * std::abs(expected.loss));
      for (size_t i = 0; i < found.dlogits.size(); ++i)
        CHECK(std::abs(found.dlogits[i] - expected.dlogits[i]) <= 4 * ulps * largest(expected.slope));
    });
  }
}
