// Products of groups of rows, each with weights of its own: the experts of a mixture.
//
// A group is an ordinary product over its rows, so a token's bits are those that it would have with its expert alone.
// On CUDA, where only the device knows the borders of the groups, one launch multiplies all of them; what it has no
// kernel for (adapters, experts of several dtypes, gradients behind packed weights) waits for the borders.
#include <algorithm>
#include <vector>

#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/precision.h"
#include "autograd/tape.h"
#include "kernels/grouped.h"

namespace lathe {
namespace {

// f(rows' begin, rows' end, the weights of the group) for every group that has rows. What is planned for is the worst
// case: all rows in one group.
template <class F>
void for_each_group(const Tensor& starts, int64_t rows, std::span<const LinearWeight> weights, F&& f) {
  const auto groups = static_cast<size_t>(starts.dim(0) - 1), parts = weights.size() / groups;
  if (starts.device().kind == Device::Kind::plan) return f(0, rows, weights.first(parts));
  const Tensor on_host = starts.to(Device{});
  const int32_t* start = on_host.host<int32_t>();
  for (size_t group = 0; group < groups; ++group)
    if (start[group] < start[group + 1]) f(start[group], start[group + 1], weights.subspan(group * parts, parts));
}

// The weights of one part, by group, where one launch can multiply with all of them.
struct PartOfGroups {
  std::vector<const LinearWeight*> weights;

  PartOfGroups(std::span<const LinearWeight> all, size_t parts, size_t part) {
    for (size_t i = part; i < all.size(); i += parts) weights.push_back(&all[i]);
  }
  const Parameter& first() const { return *weights.front()->weight; }
  int64_t groups() const { return std::ssize(weights); }
  bool alike() const {
    return std::all_of(weights.begin(), weights.end(), [&](const LinearWeight* w) {
      const Parameter &a = *w->weight, &b = first();
      if (a.shape != b.shape || a.low_rank != nullptr || a.packed.has_value() != b.packed.has_value()) return false;
      if (a.packed)
        return a.packed->matrix.dtype == b.packed->matrix.dtype && a.packed->arithmetic == b.packed->arithmetic;
      return a.value.stride() == b.value.stride();
    });
  }
};

// Whether one launch for each part does: `backward`, the gradients too.
bool multiplies_at_once(const Tensor& x, std::span<const LinearWeight> weights, size_t parts, bool backward) {
  if (x.device().kind != Device::Kind::cuda) return false;
  for (size_t part = 0; part < parts; ++part) {
    const PartOfGroups all(weights, parts, part);
    if (!all.alike() || (backward && all.first().packed)) return false;
  }
  return true;
}

// Values of parameters in f32, kept alive, and where they lie; a null parameter's is null.
struct ValuePointers {
  std::vector<Tensor> values;
  std::vector<const float*> pointers;

  void add(const Parameter* p) {
    values.push_back(p != nullptr ? values_of(*p, DType::f32, "grouped_linear") : Tensor{});
    pointers.push_back(data_or_null<float>(values.back()));
  }
};

void forward_at_once(const Tensor& y, const Tensor& x, const Tensor& starts, const PartOfGroups& all) {
  ValuePointers weights, biases;
  std::vector<PackedMatrix> packed;
  for (const LinearWeight* w : all.weights) {
    biases.add(w->bias);
    if (w->weight->packed)
      packed.push_back(w->weight->packed->matrix);
    else
      weights.add(w->weight);
  }
  const int64_t rows = x.dim(0), groups = all.groups();
  dispatch_device("grouped_linear", x, [&](auto on) {
    if constexpr (!std::is_same_v<decltype(on), Cpu>) {
      const int32_t* borders = starts.data<int32_t>();
      if (packed.empty())
        return kernel::grouped_gemm<float>(on, tokens_of<float>(y), tokens_of<float>(x), weights.pointers.data(),
                                           weights.values.front().stride(), true, biases.pointers.data(), borders,
                                           groups, rows, y.dim(1), x.dim(1), false, Precision::products());
      const Arithmetic arithmetic = all.first().packed->arithmetic;
      const size_t bytes = kernel::grouped_packed_linear_scratch_bytes(on, packed.data(), groups, rows, arithmetic);
      const Tensor scratch = Tensor::empty({static_cast<int64_t>(bytes) / 4 + 1}, DType::i32, x.device());
      kernel::grouped_packed_linear(on, tokens_of<float>(y), tokens_of<float>(x), packed.data(), biases.pointers.data(),
                                    borders, groups, rows, arithmetic, scratch.raw());
    }
  });
}

// dx as linear_backward's; adds to the gradients of the weights.
void backward_at_once(const Tensor& dx, bool accumulate, const Tensor& dy, const Tensor& x, const Tensor& starts,
                      const PartOfGroups& all) {
  ValuePointers weights;
  std::vector<float*> dw, db;
  bool wanted = false;
  for (const LinearWeight* w : all.weights) {
    weights.add(w->weight);
    dw.push_back(gradient_or_null<float>(*w->weight));
    db.push_back(w->bias != nullptr ? gradient_or_null<float>(*w->bias) : nullptr);
    wanted = wanted || dw.back() != nullptr || db.back() != nullptr;
  }
  const int64_t rows = dy.dim(0), out = dy.dim(1), in = all.first().shape[1];
  dispatch_device("grouped_linear", dy, [&](auto on) {
    if constexpr (!std::is_same_v<decltype(on), Cpu>) {
      const int32_t* borders = starts.data<int32_t>();
      if (dx.defined())
        kernel::grouped_gemm<float>(on, tokens_of<float>(dx), tokens_of<float>(dy), weights.pointers.data(),
                                    weights.values.front().stride(), false, nullptr, borders, all.groups(), rows, in,
                                    out, accumulate, Precision::products());
      if (wanted)
        kernel::grouped_gemm_weights_backward<float>(on, dw.data(), in, db.data(), tokens_of<float>(dy),
                                                     tokens_of<float>(x), borders, all.groups(), out, in,
                                                     Precision::products());
    }
  });
}

// f(part of all groups, its columns of y) for every part.
template <class F>
void for_each_part(const Tensor& y, std::span<const LinearWeight> weights, size_t parts, F&& f) {
  int64_t column = 0;
  for (size_t part = 0; part < parts; ++part) {
    const int64_t count = out_features(weights[part]);
    f(PartOfGroups(weights, parts, part), y.column_range(column, column + count));
    column += count;
  }
}

// The columns of the result: equal for all groups, so that the first one's weights tell.
int64_t check_groups(const Tensor& x, const Tensor& starts, std::span<const LinearWeight> weights) {
  check(starts.rank() == 1 && starts.dtype() == DType::i32 && starts.dim(0) > 1 && starts.contiguous(),
        "grouped_linear", "borders of groups must be (E + 1) i32, found {}", starts);
  const int64_t groups = starts.dim(0) - 1;
  check(!weights.empty() && std::ssize(weights) % groups == 0, "grouped_linear",
        "{} weights do not divide into {} groups", weights.size(), groups);
  const bool seen = starts.device().kind == Device::Kind::cpu;
  const int32_t* start = seen ? starts.host<int32_t>() : nullptr;
  for (int64_t group = 0; seen && group < groups; ++group)
    check(start[group] <= start[group + 1], "grouped_linear", "group {} ends at {} before its start {}", group,
          start[group + 1], start[group]);
  check(!seen || (start[0] == 0 && start[groups] == x.dim(0)), "grouped_linear",
        "borders of groups must run from 0 to the rows of {}, found {} to {}", x, seen ? start[0] : 0,
        seen ? start[groups] : 0);
  const auto parts = static_cast<size_t>(std::ssize(weights) / groups);
  const int64_t columns = check_parts(x, weights.first(parts));
  for (size_t group = 1; group < static_cast<size_t>(groups); ++group) {
    const int64_t others = check_parts(x, weights.subspan(group * parts, parts));
    check(others == columns, "grouped_linear", "group 0 gives {} columns, group {} gives {}", columns, group, others);
  }
  return columns;
}

}  // namespace

Tensor grouped_linear(const Tensor& x, const Tensor& starts, std::span<const LinearWeight> weights) {
  const int64_t columns = check_groups(x, starts, weights);
  Tensor y = Tensor::empty({x.dim(0), columns}, x.dtype(), x.device());  // (N, out_0 + out_1 + ...)
  const size_t parts = weights.size() / static_cast<size_t>(starts.dim(0) - 1);
  if (multiplies_at_once(x, weights, parts, false))
    for_each_part(y, weights, parts,
                  [&](const PartOfGroups& all, const Tensor& columns) { forward_at_once(columns, x, starts, all); });
  else
    for_each_group(starts, x.dim(0), weights, [&](int64_t begin, int64_t end, std::span<const LinearWeight> group) {
      linear_forward(y.row_range(begin, end), x.row_range(begin, end), group);
    });
  if (!linear_records(x, weights)) return y;
  const Tensor values = backward_reads_input(weights) ? x : Tensor{};
  Tape::record("grouped_linear", y,
               [x = x.without_elements(), values, starts, parts, weights = std::vector(weights.begin(), weights.end())](
                   const Tensor& dy, Gradients& g) {
                 const Tensor dx = Gradients::wanted(x) ? like(x) : Tensor{};  // (N, in)
                 bool accumulate = false;
                 if (multiplies_at_once(x, weights, parts, true))
                   for_each_part(dy, weights, parts, [&](const PartOfGroups& all, const Tensor& columns) {
                     backward_at_once(dx, accumulate, columns, values, starts, all);
                     accumulate = true;
                   });
                 else
                   for_each_group(
                       starts, x.dim(0), weights, [&](int64_t begin, int64_t end, std::span<const LinearWeight> group) {
                         linear_backward(dx.defined() ? dx.row_range(begin, end) : dx, false, dy.row_range(begin, end),
                                         values.defined() ? values.row_range(begin, end) : values, group);
                       });
                 if (dx.defined()) g.add(x, dx);
               });
  return y;
}

}  // namespace lathe
