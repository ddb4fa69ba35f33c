// Products of groups of rows, each with weights of its own: the experts of a mixture.
//
// A group is an ordinary product over its rows, so a token's bits are those that it would have with its expert alone.
#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/tape.h"

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
  for_each_group(starts, x.dim(0), weights, [&](int64_t begin, int64_t end, std::span<const LinearWeight> parts) {
    linear_forward(y.row_range(begin, end), x.row_range(begin, end), parts);
  });
  if (!linear_records(x, weights)) return y;
  const Tensor values = backward_reads_input(weights) ? x : Tensor{};
  Tape::record("grouped_linear", y,
               [x = x.without_elements(), values, starts, weights = std::vector(weights.begin(), weights.end())](
                   const Tensor& dy, Gradients& g) {
                 const Tensor dx = Gradients::wanted(x) ? like(x) : Tensor{};  // (N, in)
                 for_each_group(
                     starts, x.dim(0), weights, [&](int64_t begin, int64_t end, std::span<const LinearWeight> parts) {
                       linear_backward(dx.defined() ? dx.row_range(begin, end) : dx, false, dy.row_range(begin, end),
                                       values.defined() ? values.row_range(begin, end) : values, parts);
                     });
                 if (dx.defined()) g.add(x, dx);
               });
  return y;
}

}  // namespace lathe
