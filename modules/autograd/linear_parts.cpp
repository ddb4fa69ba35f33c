// What linear and grouped_linear compute over rows that share their weights.
//
// Weights packed for inference go to their own kernels, all parts of one arithmetic in a single call; others to the
// products of training, in the arithmetic that precision.h says. A packed weight is frozen: its backward gives dx
// alone, from rows unpacked a panel at a time.
#include "autograd/linear_parts.h"

#include <algorithm>
#include <array>

#include "autograd/dispatch.h"
#include "autograd/low_rank.h"
#include "autograd/precision.h"
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
    std::array<LinearPart, kMaximumParts> group;
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
    const int64_t bytes = dispatch_size("linear", x, [&](auto on) {
      return kernel::packed_linear_scratch_bytes(on, group.data(), count, x.dim(0), arithmetic);
    });
    const Tensor scratch = Tensor::empty({bytes / 4 + 1}, DType::i32, x.device());
    dispatch_device("linear", x, [&](auto on) {
      kernel::packed_linear(on, group.data(), count, y.stride(), tokens_of<float>(x), x.dim(0), arithmetic,
                            scratch.raw());
    });
  }
}

// y (N, out; rows may be strided) = x W^T + b of an unpacked weight.
void plain_forward(const Tensor& y, const Tensor& x, const LinearWeight& part) {
  const Tensor w = values_of(*part.weight, x.dtype(), "linear");                          // (out, in)
  const Tensor bias = part.bias ? values_of(*part.bias, x.dtype(), "linear") : Tensor{};  // (out)
  const int64_t rows = x.dim(0), in = x.dim(1), out = w.dim(0);
  dispatch("linear", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::gemm<T>(on, tokens_of<T>(y), tokens_of<T>(x), false, tokens_of<T>(w), true, rows, out, in, false,
                    {.arithmetic = Precision::products(), .bias = data_or_null<T>(bias)});
  });
}

// dx (N, in) = or += dy W; dy (N, out), rows may be strided.
void input_gradient(const Tensor& dx, const Tensor& dy, const Parameter& weight, bool accumulate) {
  const int64_t rows = dx.dim(0), in = dx.dim(1), out = weight.shape[0];
  const int64_t panel = weight.packed ? std::min(kPanelRows, out) : out;
  for (int64_t first = 0; first < out; first += panel) {
    const int64_t count = std::min(panel, out - first);
    const Tensor w =
        weight.packed ? weight_rows(weight, first, count, dx.dtype()) : values_of(weight, dx.dtype(), "linear");
    dispatch("linear", dx, [&](auto on, auto element) {
      using T = decltype(element);
      const Rows<T> d{dy.data<T>() + first, dy.stride()};
      kernel::gemm<T>(on, tokens_of<T>(dx), d, false, tokens_of<T>(w), false, rows, in, count, accumulate || first > 0,
                      {.arithmetic = Precision::products()});
    });
  }
}

// Adds to the gradients of one part: dW += dy^T x, db += the sums of dy's columns, which the product takes on its way.
void weight_gradients(const Tensor& dy, const Tensor& x, const LinearWeight& part) {
  const int64_t rows = dy.dim(0), out = dy.dim(1);
  dispatch("linear", dy, [&](auto on, auto element) {
    using T = decltype(element);
    T* const bias = part.bias ? gradient_or_null<T>(*part.bias) : nullptr;
    if (part.weight->trainable && !part.weight->packed)
      kernel::gemm<T>(on, tokens_of<T>(part.weight->gradient()), tokens_of<T>(dy), true, tokens_of<T>(x), false, out,
                      part.weight->shape[1], rows, true, {.arithmetic = Precision::products(), .row_sums = bias});
    else if (bias != nullptr)
      kernel::add_column_sums(on, bias, tokens_of<T>(dy), rows, out);
  });
}

// y (N, out) += what each run's adapter adds to x (N, in) W^T: row by row the bits that it adds to the whole.
void add_row_changes(const Tensor& y, const Tensor& x, const Parameter& weight) {
  const RowChanges* active = Active<RowChanges>::current();
  if (active == nullptr) return;
  for (const RowChanges::Run& run : active->runs)
    if (const auto found = run.changes->find(&weight); found != run.changes->end())
      LowRankProduct(*found->second, x.row_range(run.begin, run.end)).add_to(y.row_range(run.begin, run.end));
}

}  // namespace

Tensor weight_rows(const Parameter& weight, int64_t first, int64_t count, DType dtype) {
  if (!weight.packed) {
    check(weight.value.defined(), "linear", "a weight of shape {} has no value", weight.shape);
    return convert(weight.value.row_range(first, first + count), dtype);
  }
  const Tensor rows = Tensor::empty({count, weight.shape[1]}, DType::f32, weight.packed->storage.device());
  dispatch_device("linear", rows,
                  [&](auto on) { kernel::unpack_rows(on, rows.data<float>(), weight.packed->matrix, first, count); });
  return convert(rows, dtype);
}

int64_t check_parts(const Tensor& x, std::span<const LinearWeight> parts) {
  check(x.rank() == 2, "linear", "input must be (N, in), found {}", x);
  check(!parts.empty() && parts.size() <= kMaximumParts, "linear", "takes 1 to {} weights, found {}", kMaximumParts,
        parts.size());
  int64_t columns = 0;
  for (const LinearWeight& part : parts) {
    const Shape& shape = part.weight->shape;
    check(shape.rank() == 2 && shape[1] == x.dim(1), "linear", "weight {} does not fit input {}", shape, x);
    check(part.weight->device() == x.device(), "linear", "the weight {} lies on {}, input {}", shape,
          to_string(part.weight->device()), x);
    check(!part.bias || (part.bias->shape.rank() == 1 && part.bias->shape[0] == shape[0]), "linear",
          "bias {} does not fit weight {}", part.bias ? part.bias->shape : Shape{}, shape);
    columns += shape[0];
  }
  return columns;
}

bool linear_records(const Tensor& x, std::span<const LinearWeight> parts) {
  bool recording = false;
  for (const LinearWeight& part : parts) {
    recording = recording || Tape::recording(x, *part.weight) || (part.bias && Tape::recording(*part.bias));
    if (const LowRank* l = part.weight->low_rank) recording = recording || Tape::recording(*l->a, *l->b);
  }
  if (!recording) return false;
  for (const LinearWeight& part : parts) {
    if (!part.weight->packed) check_gradient_dtype(*part.weight, x.dtype(), "linear");
    if (part.bias) check_gradient_dtype(*part.bias, x.dtype(), "linear");
  }
  return true;
}

bool backward_reads_input(std::span<const LinearWeight> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [](auto& p) { return (p.weight->trainable && !p.weight->packed) || p.weight->low_rank; });
}

void linear_forward(const Tensor& y, const Tensor& x, std::span<const LinearWeight> parts) {
  packed_forward(y, x, parts);
  int64_t column = 0;
  for (const LinearWeight& part : parts) {
    const Tensor columns = y.column_range(column, column + out_features(part));
    if (!part.weight->packed) plain_forward(columns, x, part);
    if (part.weight->low_rank) LowRankProduct(*part.weight->low_rank, x).add_to(columns);
    add_row_changes(columns, x, *part.weight);
    column += out_features(part);
  }
}

void linear_backward(const Tensor& dx, bool accumulate, const Tensor& dy, const Tensor& x,
                     std::span<const LinearWeight> parts) {
  int64_t column = 0;
  for (const LinearWeight& part : parts) {
    const Tensor d = dy.column_range(column, column + out_features(part));  // (N, out)
    if (dx.defined()) input_gradient(dx, d, *part.weight, accumulate || column > 0);
    weight_gradients(d, x, part);
    if (part.weight->low_rank) {
      LowRankProduct low_rank(*part.weight->low_rank, x);
      low_rank.backward(d);
      low_rank.finish(dx);
    }
    column += out_features(part);
  }
}

}  // namespace lathe
