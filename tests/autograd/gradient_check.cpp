// See the header.
#include "tests/autograd/gradient_check.h"

#include <algorithm>
#include <cmath>

#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace lathe::test {
namespace {

// Inputs and parameters of a case, made from its seeds in one dtype.
struct Arguments {
  std::vector<Tensor> inputs;
  std::vector<Parameter> parameters;
};

Device device_here;  // where a case is evaluated

Arguments arguments_of(const Case& c, DType dtype) {
  Arguments a;
  uint64_t seed = 1;
  for (const Shape& shape : c.inputs) a.inputs.push_back(here(random_tensor(shape, seed++, dtype)));
  for (const Shape& shape : c.parameters) {
    a.parameters.push_back(random_parameter(shape, seed++));
    a.parameters.back().value = here(convert(a.parameters.back().value, dtype));
  }
  return a;
}

// sum of y times fixed random weights, as a product with a frozen row: (1, 1).
Tensor weighted_sum(const Tensor& y) {
  Parameter weights = random_parameter({1, y.elements()}, 999);
  weights.value = here(convert(weights.value, y.dtype()));
  weights.trainable = false;
  static thread_local std::vector<Parameter> alive;  // recorded by address until backward has run
  alive.clear();
  alive.push_back(std::move(weights));
  const Tensor flat = (y.contiguous() ? y : scale(y, 1.0)).view({1, y.elements()});
  return linear(flat, LinearWeight{&alive.back(), nullptr});
}

double loss_of(const Case& c, const Arguments& a) {
  return values_in_double(weighted_sum(c.function(a.inputs, a.parameters)))[0];
}

double largest(const std::vector<double>& values) {
  double m = 0;
  for (const double v : values) m = std::max(m, std::abs(v));
  return m;
}

void check_close(const std::string& what, const std::vector<double>& found, const std::vector<double>& expected,
                 double tolerance) {
  INFO(what);
  REQUIRE(found.size() == expected.size());
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double difference = std::abs(found[i] - expected[i]);
    if (difference > worst || std::isnan(difference)) worst = difference, at = i;
  }
  INFO("worst component " << at << ": found " << (found.empty() ? 0 : found[at]) << ", expected "
                          << (found.empty() ? 0 : expected[at]));
  CHECK(worst <= tolerance);
}

}  // namespace

Tensor random_tensor(Shape shape, uint64_t seed, DType dtype) {
  Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = random_normal(seed, 0, static_cast<uint64_t>(i));
  return convert(t, dtype);
}

Parameter random_parameter(Shape shape, uint64_t seed, Parameter::Kind kind) {
  Parameter p(kind, shape);
  p.value = random_tensor(shape, seed);
  return p;
}

Tensor ids_of(const std::vector<int32_t>& values) {
  return here(Tensor::of<int32_t>({static_cast<int64_t>(values.size())}, values.data()));
}

Tensor here(const Tensor& x) { return x.to(device_here); }

std::vector<double> values_in_double(const Tensor& t) {
  const Tensor d = convert(t.to(Device{}), DType::f64);
  return {d.data<double>(), d.data<double>() + d.elements()};
}

Evaluation evaluate(const Case& c, DType dtype, Device device) {
  device_here = device;
  Arguments a = arguments_of(c, dtype);
  Tape tape;
  Evaluation e;
  Tensor loss;
  {
    Tape::Scope scope(tape);
    for (Tensor& x : a.inputs) Tape::watch(x);
    const Tensor y = c.function(a.inputs, a.parameters);
    e.result = values_in_double(y);
    loss = weighted_sum(y);
  }
  e.loss = values_in_double(loss)[0];
  tape.backward(loss);
  for (const Tensor& x : a.inputs) e.gradients.push_back(values_in_double(tape.gradient_of(x)));
  for (const Parameter& p : a.parameters) e.gradients.push_back(values_in_double(p.gradient()));
  device_here = Device{};
  return e;
}

// h = 1e-5. The truncation is f''' h^2 / 6 = 2e-11 f''', the rounding of a loss of some tens with an ulp of 1e-15, each
// some ten operations wrong, 1e-14 / 2h = 1e-9 and a few of them. 2e-8 times the largest component (at least 1) leaves
// room for both and is a millionth of what a missing term makes.
void check_central_differences(const Case& c) {
  INFO(c.name << ", central differences");
  const Evaluation e = evaluate(c, DType::f64);
  Arguments a = arguments_of(c, DType::f64);
  std::vector<Tensor> variables = a.inputs;
  for (const Parameter& p : a.parameters) variables.push_back(p.value);
  constexpr double h = 1e-5;
  for (size_t v = 0; v < variables.size(); ++v) {
    std::vector<double> differences;
    double* x = variables[v].data<double>();
    for (int64_t i = 0; i < variables[v].elements(); ++i) {
      const double saved = x[i];
      x[i] = saved + h;
      const double above = loss_of(c, a);
      x[i] = saved - h;
      const double below = loss_of(c, a);
      x[i] = saved;
      differences.push_back((above - below) / (2 * h));
    }
    check_close(c.name + ", gradient of variable " + std::to_string(v), e.gradients[v], differences,
                2e-8 * std::max({1.0, largest(differences), std::abs(e.loss) / 10}));
  }
}

// Sums of some hundred terms in f32 (unit roundoff 6e-8), inputs rounded once: some ten roundoffs of the largest
// component, and twice that where a result passes through exp and its argument's own rounding: 4e-6, with a margin of
// five.
void check_single_against_double(const Case& c) {
  const Evaluation wide = evaluate(c, DType::f64);
  for (const Device device : tested_devices()) {
    INFO(c.name << ", f32 on " << to_string(device) << " against f64");
    const Evaluation narrow = evaluate(c, DType::f32, device);
    check_close(c.name + ", result", narrow.result, wide.result, 2e-5 * std::max(1.0, largest(wide.result)));
    for (size_t v = 0; v < wide.gradients.size(); ++v)
      check_close(c.name + ", gradient of variable " + std::to_string(v), narrow.gradients[v], wide.gradients[v],
                  2e-5 * std::max(1.0, largest(wide.gradients[v])));
  }
}

void check_case(const Case& c) {
  check_central_differences(c);
  check_single_against_double(c);
}

}  // namespace lathe::test
