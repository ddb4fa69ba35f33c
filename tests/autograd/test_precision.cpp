// Mixed precision: products of operands rounded to bf16, and nothing else.
#include <cmath>

#include "autograd/precision.h"
#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;

namespace {

Tensor rounded(const Tensor& x) { return convert(convert(x, DType::bf16), DType::f32); }

struct Result {
  std::vector<double> y, dx, dw, db;
};

// y = x W^T + b, and the gradients of sum(y scaled by `seed`).
Result product(const Tensor& x_, const Parameter& w, const Parameter& b, const Tensor& seed) {
  Parameter factors(Parameter::Kind::matrix, {1, seed.elements()});
  factors.value = seed.view(factors.shape);
  factors.trainable = false;
  Tape tape;
  Tensor x = x_, y, loss;
  {
    const Tape::Scope scope(tape);
    Tape::watch(x);
    y = linear(x, {&w, &b});
    const Precision exact(Arithmetic::f32);
    loss = linear(y.view(factors.shape), {&factors, nullptr});
  }
  w.grad = b.grad = {};
  tape.backward(loss);
  return {values_in_double(y), values_in_double(tape.gradient_of(x)), values_in_double(w.grad),
          values_in_double(b.grad)};
}

}  // namespace

TEST_CASE("under Precision bf16, products take operands rounded to bf16; biases and sums are f32") {
  const Tensor x = random_tensor({5, 48}, 1, DType::f32);
  Parameter w(Parameter::Kind::matrix, {7, 48}), b(Parameter::Kind::bias, {7});
  w.value = random_tensor({7, 48}, 2, DType::f32);
  b.value = random_tensor({7}, 3, DType::f32);
  const Tensor seed = rounded(random_tensor({5, 7}, 4, DType::f32));
  const Tensor raw_x = x.clone(), raw_w = w.value.clone();
  Result mixed, exact;
  {
    const Precision precision(Arithmetic::bf16);
    mixed = product(x, w, b, seed);
  }
  CHECK(values_in_double(w.value) == values_in_double(raw_w));
  w.value = rounded(w.value);
  exact = product(rounded(x), w, b, seed);  // what is rounded already multiplies exactly
  const auto close = [](const std::vector<double>& a, const std::vector<double>& expected) {
    REQUIRE(a.size() == expected.size());
    // Sums of up to 48 products of a few units each, in f32, in another order.
    for (size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - expected[i]) <= 48 * 0x1p-24 * 100);
  };
  close(mixed.y, exact.y);
  close(mixed.dx, exact.dx);
  close(mixed.dw, exact.dw);
  close(mixed.db, exact.db);
  // It made a difference, and does so no longer.
  w.value = raw_w;
  const Result plain = product(raw_x, w, b, seed);
  double most = 0;
  for (size_t i = 0; i < plain.y.size(); ++i) most = std::max(most, std::abs(plain.y[i] - mixed.y[i]));
  CHECK(most > 1e-3);
  CHECK(Precision::products() == Arithmetic::f32);
}

TEST_CASE("Precision leaves double precision alone") {
  const Tensor x = random_tensor({3, 8}, 1);
  const Parameter w = random_parameter({4, 8}, 2);
  const std::vector<double> exact = values_in_double(linear(x, {&w, nullptr}));
  const Precision precision(Arithmetic::bf16);
  CHECK(values_in_double(linear(x, {&w, nullptr})) == exact);
}
