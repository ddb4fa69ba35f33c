// A sum and its norm in one pass: a row is read once, and is in the first-level cache when it is normalised. On the
// tape they are two operations. In double precision they run one after the other.
#include "autograd/dispatch.h"
#include "autograd/norm_parts.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/norm.h"

namespace lathe {
namespace {

bool in_one_pass(const Tensor& a, const Tensor& b, const Parameter& w, const Parameter* bias) {
  return a.rank() > 0 && a.shape() == b.shape() && w.shape == Shape{a.dim(-1)} && (!bias || bias->shape == w.shape) &&
         a.dtype() == DType::f32 && b.dtype() == DType::f32 && a.contiguous() && b.contiguous();
}

}  // namespace

AddNorm add_rms_norm(const Tensor& a, const Tensor& b, const Parameter& w, double eps, double offset) {
  if (!in_one_pass(a, b, w, nullptr)) {
    const Tensor sum = add(a, b);
    return {sum, rms_norm(sum, w, eps, offset)};
  }
  const Tensor weight = values_of(w, DType::f32, "rms_norm");  // (n)
  const bool recording = Tape::recording(a, b, w);
  const Tensor rstd = recording ? Tensor::empty({a.rows()}, DType::f32, a.device()) : Tensor{};
  AddNorm y{like(a), like(a)};
  dispatch_device("add_rms_norm", a, [&](auto on) {
    kernel::add_rms_norm(on, y.sum.data<float>(), y.normal.data<float>(), data_or_null<float>(rstd), a.data<float>(),
                         b.data<float>(), weight.data<float>(), a.rows(), a.dim(-1), eps, offset);
  });
  if (Tape::recording(a, b)) record_sum(y.sum, a, b);
  if (recording) record_rms_norm(y.normal, y.sum, w, weight, rstd, offset);
  return y;
}

AddNorm add_layer_norm(const Tensor& a, const Tensor& b, const Parameter& w, const Parameter* bias, double eps) {
  if (!in_one_pass(a, b, w, bias)) {
    const Tensor sum = add(a, b);
    return {sum, layer_norm(sum, w, bias, eps)};
  }
  const Tensor weight = values_of(w, DType::f32, "layer_norm");                        // (n)
  const Tensor offset = bias ? values_of(*bias, DType::f32, "layer_norm") : Tensor{};  // (n)
  const bool recording = Tape::recording(a, b, w) || (bias && Tape::recording(*bias));
  const Tensor statistics = recording ? Tensor::empty({2, a.rows()}, DType::f32, a.device()) : Tensor{};  // mean, rstd
  AddNorm y{like(a), like(a)};
  dispatch_device("add_layer_norm", a, [&](auto on) {
    float* const mean = data_or_null<float>(statistics);
    kernel::add_layer_norm(on, y.sum.data<float>(), y.normal.data<float>(), mean, recording ? mean + a.rows() : nullptr,
                           a.data<float>(), b.data<float>(), weight.data<float>(), data_or_null<float>(offset),
                           a.rows(), a.dim(-1), eps);
  });
  if (Tape::recording(a, b)) record_sum(y.sum, a, b);
  if (recording) record_layer_norm(y.normal, y.sum, w, bias, weight, statistics);
  return y;
}

}  // namespace lathe
