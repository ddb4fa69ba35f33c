// The only place that chooses a back end and an element type. Internal to autograd/.
//
//   dispatch("rms_norm", x, [&](auto on, auto element) {
//     using T = decltype(element);
//     kernel::rms_norm(on, y.data<T>(), ...);
//   });
//
// `on` is the first argument of every kernel and chooses its overload (kernels/device.h).
#pragma once
#include "autograd/convert.h"
#include "autograd/ops.h"
#include "autograd/parameter.h"
#include "kernels/device.h"
#include "tensor/storage_forecast.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace lathe {

// Calls f with the stream that work on the device of x is queued on.
template <class F>
void on_cuda(const char* operation, const Tensor& x, [[maybe_unused]] F&& f) {
#if LATHE_CUDA
  static_cast<void>(operation);
  f(Cuda{Stream::current(x.device())});
#else
  check(false, operation, "built without CUDA, x {}", x);
#endif
}

// Calls f with the device of x, for kernels that know the elements by their dtype. On the plan device nothing runs.
template <class F>
void dispatch_device(const char* operation, const Tensor& x, F&& f) {
  if (x.device().kind == Device::Kind::cpu) return f(Cpu{});
  if (x.device().kind == Device::Kind::plan) return;
  on_cuda(operation, x, [&](auto on) {
    f(on);
    Stream::check_launch(operation);
  });
}

// What f gives for the device of x, f being a layout's or a scratch's size. The plan device has those of the device
// that its forecast stands for.
template <class F>
int64_t dispatch_size([[maybe_unused]] const char* operation, const Tensor& x, F&& f) {
  const Device::Kind kind = x.device().kind;
  if (kind != Device::Kind::cuda && (kind != Device::Kind::plan || !StorageForecast::of_cuda()))
    return static_cast<int64_t>(f(Cpu{}));
#if LATHE_CUDA
  return static_cast<int64_t>(f(Cuda{}));
#else
  check(false, operation, "built without CUDA, x {}", x);
  return 0;
#endif
}

// Calls f with the device of x and a zero of its element type, float or, on the CPU, double; throws Error for any
// other.
template <class F>
void dispatch(const char* operation, const Tensor& x, F&& f) {
  check(x.dtype() == DType::f32 || x.dtype() == DType::f64, operation, "computes in f32 or f64, x {}", x);
  dispatch_device(operation, x, [&](auto on) {
    if (x.dtype() == DType::f32)
      f(on, float{});
    else if constexpr (std::is_same_v<decltype(on), Cpu>)
      f(on, double{});
    else
      check(false, operation, "computes in f32 on {}, x {}", to_string(x.device()), x);
  });
}

// What kernels take of a tensor: the rows of its last dimension (after `with_row_stride`), what lies under each index
// of its first dimension, and a pointer that is null where there is no tensor.
template <class T>
Rows<T> rows_of(const Tensor& x) {
  return {x.data<T>(), x.rank() == 2 ? x.stride() : x.dim(-1)};
}
template <class T>
Rows<T> tokens_of(const Tensor& x) {
  return {x.data<T>(), x.stride()};
}
template <class T>
T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}
// Where the gradient of w is added up; null where it is not trained.
template <class T>
T* gradient_or_null(const Parameter& w) {
  return w.trainable && !w.packed ? w.gradient().data<T>() : nullptr;
}

template <class T>
Rotation<T> rotation_of(const RopeAngles& a) {
  return {a.cos.data<T>(), a.sin.data<T>(), a.rows.data<int32_t>(), 2 * a.cos.dim(1), a.style};
}
// Throws Error unless the angles fit x (N, H, D).
void check_angles(const char* operation, const RopeAngles& angles, const Tensor& x);

inline ScoreOptions score_options(const AttentionOptions& o, Arithmetic products = Arithmetic::f32) {
  return {o.scale, o.window, o.softcap, data_or_null<float>(o.alibi_slopes), products};
}

// x itself when kernels can walk it with one stride between rows of the last dimension, else a contiguous copy.
inline Tensor with_row_stride(const Tensor& x) {
  if (x.rank() == 2 || x.contiguous()) return x;
  Tensor copy = x.clone();
  copy.tape_id = x.tape_id;
  return copy;
}
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
