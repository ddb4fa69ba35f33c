// Mixtures of experts: gradients against central differences, the choice and its ties, groups of rows against single
// products, the balancing loss against its formula.
#include <cmath>
#include <limits>

#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<LinearWeight> weights_of(const Parameters& p) {
  std::vector<LinearWeight> weights;
  for (const Parameter& w : p) weights.push_back({&w, nullptr});
  return weights;
}

std::vector<int32_t> integers(const Tensor& t) { return {t.data<int32_t>(), t.data<int32_t>() + t.elements()}; }

}  // namespace

TEST_CASE("gradients of a router's weights") {
  for (const bool normalise : {true, false})
    for (const int64_t k : {1, 3, 5}) {
      check_case({"route_experts", {{4, 5}}, {}, [=](const Inputs& in, const Parameters&) {
                    return route_experts(in[0], k, normalise).weights;
                  }});
      check_case({"route_experts of a slice", {{4, 8}}, {}, [=](const Inputs& in, const Parameters&) {
                    return route_experts(slice_columns(in[0], 2, 5), k, normalise).weights;
                  }});
    }
}

TEST_CASE("gradients of products by group") {
  check_case({"grouped_linear", {{6, 3}}, {{4, 3}, {4, 3}, {4, 3}}, [](const Inputs& in, const Parameters& p) {
                return grouped_linear(in[0], ids_of({0, 4, 4, 6}), weights_of(p));
              }});
  check_case({"grouped_linear of two parts",
              {{5, 7}},
              {{2, 3}, {4, 3}, {3, 3}, {3, 3}},
              [](const Inputs& in, const Parameters& p) {
                return grouped_linear(slice_columns(in[0], 3, 3), ids_of({0, 1, 5}), weights_of(p));
              }});
}

TEST_CASE("gradients of the weighted sum of experts") {
  for (const bool normalise : {true, false})
    check_case({"combine_experts", {{8, 3}, {4, 5}}, {}, [=](const Inputs& in, const Parameters&) {
                  return combine_experts(in[0], route_experts(in[1], 2, normalise));
                }});
  check_case({"a mixture", {{4, 3}, {4, 3}}, {{2, 3}, {2, 3}, {2, 3}}, [](const Inputs& in, const Parameters& p) {
                const ExpertRoutes routes = route_experts(in[1], 2, true);
                return combine_experts(grouped_linear(select_rows(in[0], routes.rows), routes.starts, weights_of(p)),
                                       routes);
              }});
}

TEST_CASE("gradients of the balancing loss") {
  check_case({"load_balancing_loss", {{5, 4}, {3, 4}}, {}, [](const Inputs& in, const Parameters&) {
                return load_balancing_loss(in, 2);
              }});
}

TEST_CASE("the largest logits are chosen, of equal ones the lowest index") {
  const float infinite = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const float rows[] = {1,         3,         3,         0,         3,          //
                        -infinite, -infinite, -infinite, -infinite, -infinite,  //
                        nan,       nan,       2,         nan,       nan};
  const ExpertRoutes routes = route_experts(Tensor::of<float>({3, 5}, rows), 3, true);
  const std::vector<int32_t> chosen = integers(routes.experts);
  CHECK(std::vector<int32_t>(chosen.begin(), chosen.begin() + 6) == std::vector<int32_t>{1, 2, 4, 0, 1, 2});
  for (int token = 0; token < 3; ++token)  // whatever the logits are, the experts are different ones
    for (int j = 1; j < 3; ++j)
      CHECK(chosen[static_cast<size_t>(3 * token + j)] != chosen[static_cast<size_t>(3 * token)]);
  for (int j = 0; j < 3; ++j) CHECK(routes.weights.data<float>()[j] == Catch::Approx(1.0 / 3));
}

TEST_CASE("places are sorted by expert, then by token") {
  const float rows[] = {0, 9, 5,  //
                        9, 0, 5,  //
                        5, 9, 0};
  const ExpertRoutes routes = route_experts(Tensor::of<float>({3, 3}, rows), 2, false);
  CHECK(integers(routes.experts) == std::vector<int32_t>{1, 2, 0, 2, 1, 0});
  CHECK(integers(routes.starts) == std::vector<int32_t>{0, 2, 4, 6});
  CHECK(integers(routes.rows) == std::vector<int32_t>{1, 2, 0, 2, 0, 1});
  CHECK(integers(routes.places) == std::vector<int32_t>{2, 4, 0, 5, 3, 1});
  const double sum = std::exp(9.0) + std::exp(5.0) + 1;  // over all three, not over the chosen
  CHECK(routes.weights.data<float>()[1] == Catch::Approx(std::exp(5.0) / sum));
}

TEST_CASE("a group's rows are the product with its own weights alone, packed or not") {
  Parameters p = {random_parameter({6, 32}, 1), random_parameter({6, 32}, 2), random_parameter({6, 32}, 3)};
  for (Parameter& w : p) w.value = convert(w.value, DType::f32);
  const Tensor x = random_tensor({7, 32}, 4, DType::f32);
  for (const bool packed : {false, true}) {
    for (Parameter& w : p)
      if (packed) w.prepare_for_inference(Arithmetic::f32);
    const Tensor y = grouped_linear(x, ids_of({0, 3, 3, 7}), weights_of(p));
    const Tensor first = linear(x.row_range(0, 3), {&p[0], nullptr}),
                 last = linear(x.row_range(3, 7), {&p[2], nullptr});
    CHECK(std::memcmp(y.raw(), first.raw(), first.bytes()) == 0);
    CHECK(std::memcmp(y.data<float>() + 3 * 6, last.raw(), last.bytes()) == 0);
  }
}

TEST_CASE("the balancing loss is the number of choices when tokens are spread evenly, and more otherwise") {
  const float even[] = {5, 0, 0, 5}, uneven[] = {5, 0, 5, 0};
  const Tensor balanced[] = {Tensor::of<float>({2, 2}, even)}, unbalanced[] = {Tensor::of<float>({2, 2}, uneven)};
  CHECK(load_balancing_loss(balanced, 1).data<float>()[0] == Catch::Approx(1.0));
  // f = (1, 0), P = (sigmoid(5), ...), E = 2.
  CHECK(load_balancing_loss(unbalanced, 1).data<float>()[0] == Catch::Approx(2.0 / (1.0 + std::exp(-5.0))));
}

TEST_CASE("mixtures refuse what does not fit by name") {
  const Tensor logits = random_tensor({4, 3}, 1, DType::f32), x = random_tensor({5, 2}, 2, DType::f32);
  const Parameters p = {random_parameter({2, 2}, 3), random_parameter({3, 2}, 4)};
  CHECK_THROWS_WITH(route_experts(logits, 4, true), ContainsSubstring("route_experts: a token goes to 4 of 3 experts"));
  CHECK_THROWS_WITH(combine_experts(x, route_experts(logits, 2, true)), ContainsSubstring("combine_experts"));
  CHECK_THROWS_WITH(grouped_linear(x, ids_of({0, 2, 4}), weights_of(p)), ContainsSubstring("found 0 to 4"));
  CHECK_THROWS_WITH(grouped_linear(x, ids_of({0, 6, 5}), weights_of(p)),
                    ContainsSubstring("ends at 5 before its start 6"));
  CHECK_THROWS_WITH(grouped_linear(x, ids_of({0, 2, 5}), weights_of(p)), ContainsSubstring("group 1 gives 3"));
  CHECK_THROWS_WITH(load_balancing_loss({}, 1), ContainsSubstring("load_balancing_loss"));
}
