// The differentiable operations against central differences, and f32 against f64.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "autograd/convert.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe::test {

// Standard normal values in double (f64) or rounded from them (f32); each call of one seed gives the same.
Tensor random_tensor(Shape shape, uint64_t seed, DType dtype = DType::f64);
Parameter random_parameter(Shape shape, uint64_t seed, Parameter::Kind kind = Parameter::Kind::matrix);
// Small tensors that a case's function makes, on the device where it is evaluated.
Tensor ids_of(const std::vector<int32_t>& values);
Tensor here(const Tensor& x);
std::vector<double> values_in_double(const Tensor& t);

using Inputs = std::vector<Tensor>;
using Parameters = std::vector<Parameter>;

// A function of tensors and parameters; what it returns may have any shape.
struct Case {
  std::string name;
  std::vector<Shape> inputs;
  std::vector<Shape> parameters;
  std::function<Tensor(const Inputs& inputs, const Parameters& parameters)> function;
};

// Value and gradients of the sum of the function's results, each times a fixed random number of the order of 1.
struct Evaluation {
  double loss = 0;
  std::vector<double> result;
  std::vector<std::vector<double>> gradients;  // of the inputs, then of the parameters
};
Evaluation evaluate(const Case& c, DType dtype, Device device = {});

// Compares every component of every gradient with (f(x + h) - f(x - h)) / 2h in double.
void check_central_differences(const Case& c);
// Compares results and gradients in f32 with those in f64, on the CPU and, where the build has one, on a CUDA device.
void check_single_against_double(const Case& c);
// Both.
void check_case(const Case& c);

}  // namespace lathe::test
