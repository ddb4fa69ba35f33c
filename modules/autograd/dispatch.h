// The only place that chooses a back end and an element type. Internal to autograd/.
//
//   dispatch("rms_norm", x, [&](auto element) {
//     using T = decltype(element);
//     cpu::rms_norm(y.data<T>(), ...);
//   });
#pragma once
#include "autograd/convert.h"
#include "autograd/parameter.h"
#include "tensor/tensor.h"

namespace lathe {

// Calls f with a zero of x's element type, float or double; throws Error for any other.
template <class F>
void dispatch(const char* operation, const Tensor& x, F&& f) {
  check(x.device().kind == Device::Kind::cpu, operation, "built without CUDA, x {}", x);
  check(x.dtype() == DType::f32 || x.dtype() == DType::f64, operation, "computes in f32 or f64, x {}", x);
  if (x.dtype() == DType::f32)
    f(float{});
  else
    f(double{});
}

// x itself when kernels can walk it with one stride between rows of the last dimension, else a contiguous copy.
inline Tensor with_row_stride(const Tensor& x) {
  if (x.rank() == 2 || x.contiguous()) return x;
  Tensor copy = x.clone();
  copy.tape_id = x.tape_id;
  return copy;
}
// The stride between the rows that `with_row_stride` leaves.
inline int64_t row_stride(const Tensor& x) { return x.rank() == 2 ? x.stride() : x.dim(-1); }

// x contiguous, copied when it is not. The copy keeps the tape id: its gradient is x's.
inline Tensor as_contiguous(const Tensor& x) {
  if (x.contiguous()) return x;
  Tensor copy = x.clone();
  copy.tape_id = x.tape_id;
  return copy;
}

// The values of a norm weight, bias or unpacked matrix in the dtype of the activations, converted where they differ.
inline Tensor values_of(const Parameter& w, DType dtype, const char* operation) {
  check(w.value.defined(), operation, "a weight of shape {} has no value", w.shape);
  check(w.value.shape() == w.shape, operation, "a weight of shape {} holds {}", w.shape, w.value);
  check(w.value.dtype() != DType::f64 || dtype == DType::f64, operation, "weight {} meets activations in {}", w.value,
        name(dtype));
  return convert(w.value, dtype);
}

// Throws unless the gradient of w has the dtype that the backward of an op over `dtype` writes.
inline void check_gradient_dtype(const Parameter& w, DType dtype, const char* operation) {
  check(!w.trainable || w.value.dtype() == DType::f64 || dtype != DType::f64, operation,
        "a gradient in f64 needs f64 weights, weight {}", w.value);
}

}  // namespace lathe
