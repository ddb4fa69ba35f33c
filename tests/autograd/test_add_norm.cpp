// A residual sum and its norm: one pass without a tape, two operations with one, the same values either way.
#include <cstring>

#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

using Inputs = std::vector<Tensor>;
using Parameters = std::vector<Parameter>;

// Both results count, so that a gradient that one of them loses is missed.
Tensor both(const AddNorm& y) { return add(y.sum, scale(y.normal, 0.7)); }

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace

TEST_CASE("a sum and its norm are the operations one by one, bit for bit, recorded or not") {
  const Tensor a = random_tensor({5, 37}, 1, DType::f32), b = random_tensor({5, 37}, 2, DType::f32);
  Parameter w = random_parameter({37}, 3, Parameter::Kind::norm),
            bias = random_parameter({37}, 4, Parameter::Kind::bias);
  w.value = convert(w.value, DType::f32);
  bias.value = convert(bias.value, DType::f32);
  const Tensor sum = add(a, b), rms = rms_norm(sum, w, 1e-5, 1.0), layer = layer_norm(sum, w, &bias, 1e-5);
  const auto check_results = [&] {
    const AddNorm r = add_rms_norm(a, b, w, 1e-5, 1.0), l = add_layer_norm(a, b, w, &bias, 1e-5);
    CHECK((same_bits(r.sum, sum) && same_bits(l.sum, sum)));
    CHECK(same_bits(r.normal, rms));
    CHECK(same_bits(l.normal, layer));
    CHECK(same_bits(add_layer_norm(a, b, w, nullptr, 1e-5).normal, layer_norm(sum, w, nullptr, 1e-5)));
  };
  check_results();
  Tape tape;
  const Tape::Scope recording(tape);
  check_results();
  CHECK(tape.entries() > 0);
}

TEST_CASE("gradients of a sum and its norm pass the central differences") {
  const Case cases[] = {
      {"add_rms_norm",
       {{4, 7}, {4, 7}},
       {{7}},
       [](const Inputs& in, const Parameters& p) { return both(add_rms_norm(in[0], in[1], p[0], 1e-3, 1.0)); }},
      {"add_layer_norm", {{4, 7}, {4, 7}}, {{7}, {7}}, [](const Inputs& in, const Parameters& p) {
         return both(add_layer_norm(in[0], in[1], p[0], &p[1], 1e-3));
       }}};
  for (const Case& c : cases) {
    check_central_differences(c);
    check_single_against_double(c);
  }
}

TEST_CASE("a sum and its norm of what does not fit is an error that names the shapes") {
  const Tensor a = random_tensor({2, 3}, 1, DType::f32), b = random_tensor({2, 4}, 2, DType::f32);
  Parameter w = random_parameter({4}, 3, Parameter::Kind::norm);
  w.value = convert(w.value, DType::f32);
  CHECK_THROWS_WITH(add_rms_norm(a, b, w, 1e-5), ContainsSubstring("(2, 3)") && ContainsSubstring("(2, 4)"));
  CHECK_THROWS_WITH(add_rms_norm(a, a, w, 1e-5), ContainsSubstring("(4,)"));
}
