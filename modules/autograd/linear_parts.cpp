// What linear and grouped_linear compute over rows that share their weights.
//
// Weights packed for inference go to their own kernels, all parts of one arithmetic in a single call; others to a
// library product whose result starts from the bias. A packed weight is frozen: its backward gives dx alone, from rows
// unpacked a panel at a time.
#include "autograd/linear_parts.h"

#include <algorithm>
#include <array>

#include "autograd/dispatch.h"
#include "autograd/tape.h"
#include "kernels/bias.h"
#include "kernels/gemm.h"
#include "kernels/packed_linear.h"

namespace lathe {
namespace {

constexpr size_t kMaximumParts = 8;
constexpr int64_t kPanelRows = 256;  // of a packed weight that are unpacked at a time

// All packed parts, grouped by the arithmetic that they were packed for.
void packed_forward(const Tensor& y, const Tensor& x, std::span<const LinearWeight> parts) {
  std::array<bool, kMaximumParts> done{};
  for (size_t first = 0; first < parts.size(); ++first) {
    if (done[first] || !parts[first].weight->packed) continue;
    const Arithmetic arithmetic = parts[first].weight->packed->arithmetic;
    check(x.dtype() == DType::f32, "linear", "weights packed for inference take f32 activations, found {}", x);
    std::array<cpu::LinearPart, kMaximumParts> group;
    std::array<Tensor, kMaximumParts> biases;  // keeps the converted ones alive
    int count = 0;
    int64_t column = 0;
    for (size_t i = 0; i < parts.size(); column += out_features(parts[i]), ++i) {
      const auto& packed = parts[i].weight->packed;
      if (i < first || !packed || packed->arithmetic != arithmetic) continue;
      if (parts[i].bias) biases[i] = values_of(*parts[i].bias, DType::f32, "linear");
      group[count++] = {packed->matrix, parts[i].bias ? biases[i].data<float>() : nullptr, y.data<float>() + column};
      done[i] = true;
    }
    const size_t bytes = cpu::packed_linear_scratch_bytes(x.dim(0), x.dim(1), arithmetic);
    const Tensor scratch = Tensor::empty({static_cast<int64_t>(bytes / 4 + 1)}, DType::i32);
    cpu::packed_linear(group.data(), count, y.stride(), x.data<float>(), x.stride(), x.dim(0), arithmetic,
                       scratch.raw());
  }
}

template <class T>
void library_forward(T* y, int64_t ldy, const Tensor& x, const LinearWeight& part) {
  const Tensor w = values_of(*part.weight, x.dtype(), "linear");  // (out, in)
  const int64_t rows = x.dim(0), in = x.dim(1), out = w.dim(0);
  if (part.bias) cpu::broadcast_rows(y, ldy, values_of(*part.bias, x.dtype(), "linear").template data<T>(), rows, out);
  cpu::gemm(y, ldy, x.data<T>(), x.stride(), false, w.data<T>(), in, true, rows, out, in, part.bias != nullptr);
}

// dx (N, in) = or += dy W, dy at `dy` with row stride ldy.
template <class T>
void input_gradient(const Tensor& dx, const T* dy, int64_t ldy, const Parameter& weight, bool accumulate) {
  const int64_t rows = dx.dim(0), in = dx.dim(1), out = weight.shape[0];
  if (!weight.packed) {
    const Tensor w = values_of(weight, dx.dtype(), "linear");
    return cpu::gemm(dx.data<T>(), in, dy, ldy, false, w.data<T>(), in, false, rows, in, out, accumulate);
  }
  const Tensor panel = Tensor::empty({std::min(kPanelRows, out), in}, DType::f32);
  for (int64_t first = 0; first < out; first += kPanelRows) {
    const int64_t count = std::min(kPanelRows, out - first);
    for (int64_t i = 0; i < count; ++i) cpu::unpack_row(panel.data<float>() + i * in, weight.packed->matrix, first + i);
    const Tensor w = convert(panel, dx.dtype());
    cpu::gemm(dx.data<T>(), in, dy + first, ldy, false, w.data<T>(), in, false, rows, in, count,
              accumulate || first > 0);
  }
}

template <class T>
void backward(const Tensor& dx, const Tensor& dy, const Tensor& x, std::span<const LinearWeight> parts) {
  const int64_t rows = dy.dim(0), ldy = dy.dim(1);
  const T* d = dy.data<T>();
  for (const LinearWeight& part : parts) {
    const int64_t in = part.weight->shape[1], out = out_features(part);
    if (dx.defined()) input_gradient(dx, d, ldy, *part.weight, d != dy.data<T>());
    if (part.weight->trainable && !part.weight->packed)
      cpu::gemm(part.weight->gradient().template data<T>(), in, d, ldy, true, x.data<T>(), x.stride(), false, out, in,
                rows, true);
    if (part.bias && part.bias->trainable)
      cpu::add_column_sums(part.bias->gradient().template data<T>(), d, ldy, rows, out);
    d += out;
  }
}

}  // namespace

int64_t check_parts(const Tensor& x, std::span<const LinearWeight> parts) {
  check(x.rank() == 2, "linear", "input must be (N, in), found {}", x);
  check(!parts.empty() && parts.size() <= kMaximumParts, "linear", "takes 1 to {} weights, found {}", kMaximumParts,
        parts.size());
  int64_t columns = 0;
  for (const LinearWeight& part : parts) {
    const Shape& shape = part.weight->shape;
    check(shape.rank() == 2 && shape[1] == x.dim(1), "linear", "weight {} does not fit input {}", shape, x);
    check(!part.bias || (part.bias->shape.rank() == 1 && part.bias->shape[0] == shape[0]), "linear",
          "bias {} does not fit weight {}", part.bias ? part.bias->shape : Shape{}, shape);
    columns += shape[0];
  }
  return columns;
}

bool linear_records(const Tensor& x, std::span<const LinearWeight> parts) {
  bool recording = false;
  for (const LinearWeight& part : parts)
    recording = recording || Tape::recording(x, *part.weight) || (part.bias && Tape::recording(*part.bias));
  if (!recording) return false;
  for (const LinearWeight& part : parts) {
    if (!part.weight->packed) check_gradient_dtype(*part.weight, x.dtype(), "linear");
    if (part.bias) check_gradient_dtype(*part.bias, x.dtype(), "linear");
  }
  return true;
}

bool weights_train(std::span<const LinearWeight> parts) {
  return std::any_of(parts.begin(), parts.end(), [](auto& p) { return p.weight->trainable && !p.weight->packed; });
}

void linear_forward(const Tensor& y, const Tensor& x, std::span<const LinearWeight> parts) {
  packed_forward(y, x, parts);
  dispatch("linear", x, [&](auto element) {
    using T = decltype(element);
    int64_t column = 0;
    for (const LinearWeight& part : parts) {
      if (!part.weight->packed) library_forward(y.data<T>() + column, y.stride(), x, part);
      column += out_features(part);
    }
  });
}

void linear_backward(const Tensor& dx, const Tensor& dy, const Tensor& x, std::span<const LinearWeight> parts) {
  dispatch("linear", dy, [&](auto element) { backward<decltype(element)>(dx, dy, x, parts); });
}

}  // namespace lathe
