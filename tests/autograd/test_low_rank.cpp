// Changes of low rank beside weights: gradients against central differences, and results against the sum spelt out.
#include <cmath>
#include <deque>

#include "autograd/low_rank.h"
#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Changed {
  Parameter weight;
  LowRank change;
};

// A frozen weight with a change of `a` and `b`; recorded by address, so it stays.
const Parameter& changed(Shape shape, uint64_t seed, const Parameter& a, const Parameter& b, double dropout = 0.0) {
  static std::deque<Changed> alive;
  Changed& c = alive.emplace_back();
  c.weight = random_parameter(shape, seed);
  c.weight.value = here(convert(c.weight.value, a.value.dtype()));
  c.weight.trainable = false;
  c.change = {&a, &b, 0.7, dropout, 5};
  (a.shape[0] == shape[0] ? c.weight.row_low_rank : c.weight.low_rank) = &c.change;
  return c.weight;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = values_in_double(a), y = values_in_double(b);
  REQUIRE(x.size() == y.size());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
  return worst;
}

}  // namespace

TEST_CASE("gradients of a product with a change of low rank") {
  check_case({"low_rank", {{5, 6}}, {{2, 6}, {4, 2}}, [](const Inputs& in, const Parameters& p) {
                return linear(in[0], {&changed({4, 6}, 70, p[0], p[1]), nullptr});
              }});
  check_case({"low_rank of two parts that share A, one without",
              {{5, 9}},
              {{2, 6}, {4, 2}, {3, 2}, {5, 6}},
              [](const Inputs& in, const Parameters& p) {
                const LinearWeight parts[] = {{&changed({4, 6}, 70, p[0], p[1]), nullptr},
                                              {&p[3], nullptr},
                                              {&changed({3, 6}, 71, p[0], p[2]), nullptr}};
                return linear(slice_columns(in[0], 2, 6), parts);
              }});
  check_case(
      {"low_rank of experts", {{6, 3}}, {{1, 3}, {4, 1}, {1, 3}, {4, 1}}, [](const Inputs& in, const Parameters& p) {
         const LinearWeight parts[] = {{&changed({4, 3}, 70, p[0], p[1]), nullptr},
                                       {&changed({4, 3}, 71, p[2], p[3]), nullptr}};
         return grouped_linear(in[0], ids_of({0, 2, 6}), parts);
       }});
}

TEST_CASE("gradients of a change of low rank behind dropout") {
  LowRankDropout seed{dropout_seed(31)};
  const LowRankDropout::Scope dropping(seed);
  check_case({"low_rank with dropout", {{5, 6}}, {{2, 6}, {4, 2}}, [](const Inputs& in, const Parameters& p) {
                return linear(in[0], {&changed({4, 6}, 70, p[0], p[1], 0.4), nullptr});
              }});
}

TEST_CASE("gradients of a change of a table's rows") {
  check_case({"low_rank rows", {}, {{5, 2}, {3, 2}}, [](const Inputs&, const Parameters& p) {
                return embedding(changed({5, 3}, 70, p[0], p[1]), ids_of({4, 0, 4, 1}));
              }});
}

TEST_CASE("gradients of a head with a change of low rank, in chunks of the vocabulary") {
  for (const double softcap : {0.0, 1.5}) {
    check_case({"low_rank loss", {{4, 5}}, {{2, 5}, {7, 2}}, [=](const Inputs& in, const Parameters& p) {
                  const Head head{&changed({7, 5}, 70, p[0], p[1]), nullptr, 0.8, softcap};
                  return linear_cross_entropy(in[0], head, ids_of({6, kIgnoredTarget, 2, 0}), 0.0, 3);
                }});
    check_case({"low_rank log-probabilities", {{4, 5}}, {{2, 5}, {7, 2}}, [=](const Inputs& in, const Parameters& p) {
                  const Head head{&changed({7, 5}, 70, p[0], p[1]), nullptr, 0.8, softcap};
                  return linear_log_probabilities(in[0], head, ids_of({6, kIgnoredTarget, 2, 0}), 3);
                }});
  }
  check_case({"log-probabilities", {{4, 5}}, {{7, 5}, {7}}, [](const Inputs& in, const Parameters& p) {
                return linear_log_probabilities(in[0], Head{&p[0], &p[1]}, ids_of({6, 1, kIgnoredTarget, 0}), 2);
              }});
}

TEST_CASE("log-probabilities of a head are those of its logits") {
  const Tensor hidden = random_tensor({4, 5}, 1);
  const Parameter w = random_parameter({7, 5}, 2);
  const std::vector<int32_t> targets = {6, kIgnoredTarget, 2, 0};
  const Tensor got = linear_log_probabilities(hidden, Head{&w}, ids_of(targets), 3),
               logits = apply_head(hidden, Head{&w});
  for (size_t row = 0; row < targets.size(); ++row) {
    const double* l = logits.data<double>() + row * 7;
    double sum = 0;
    for (int v = 0; v < 7; ++v) sum += std::exp(l[v]);
    const double want = targets[row] < 0 ? 0.0 : l[targets[row]] - std::log(sum);
    CHECK(got.data<double>()[row] == Catch::Approx(want).epsilon(1e-14));
  }
}

// Both sides sum products of a few terms in double in other orders.
TEST_CASE("a change adds s B A x, trainable weights keep their gradients") {
  const Tensor x0 = random_tensor({5, 6}, 1);
  Parameter w = random_parameter({4, 6}, 2), a = random_parameter({2, 6}, 3), b = random_parameter({4, 2}, 4);
  const LowRank change{&a, &b, 0.7};
  std::vector<Tensor> results, gradients;
  for (const bool spelt_out : {false, true}) {
    for (const Parameter* p : {&w, &a, &b}) p->grad = {};
    w.low_rank = spelt_out ? nullptr : &change;
    Tensor x = x0.clone();
    Tape tape;
    Tensor y;
    {
      const Tape::Scope recording(tape);
      Tape::watch(x);
      y = linear(x, {&w, nullptr});
      if (spelt_out) y = add(y, scale(linear(linear(x, {&a, nullptr}), {&b, nullptr}), 0.7));
    }
    results.push_back(y);
    tape.backward({{y, random_tensor({5, 4}, 9)}});
    gradients.push_back(tape.gradient_of(x));
    for (const Parameter* p : {&w, &a, &b}) gradients.push_back(p->gradient().clone());
  }
  CHECK(largest_difference(results[0], results[1]) < 1e-14);
  for (size_t i = 0; i < 4; ++i) CHECK(largest_difference(gradients[i], gradients[4 + i]) < 1e-13);
}

TEST_CASE("packed weights and packed changes give a token the same bits alone and among others") {
  const Tensor x = random_tensor({9, 32}, 1, DType::f32);
  Parameter w = random_parameter({20, 32}, 2), a = random_parameter({3, 32}, 3), b = random_parameter({20, 3}, 4);
  const LowRank change{&a, &b, 0.7};
  for (Parameter* p : {&w, &a, &b}) p->value = convert(p->value, DType::f32);
  w.low_rank = &change;
  const Tensor plain = linear(x, {&w, nullptr});
  for (Parameter* p : {&w, &a, &b}) p->prepare_for_inference(Arithmetic::f32);
  const Tensor packed = linear(x, {&w, nullptr});
  // Sums of 32 products of the order of 1 in f32.
  CHECK(largest_difference(plain, packed) < 1e-4);
  for (int64_t i = 0; i < 9; ++i)
    CHECK(largest_difference(linear(x.row_range(i, i + 1), {&w, nullptr}), packed.row_range(i, i + 1)) == 0.0);
}
