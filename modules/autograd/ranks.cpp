// What ranks that share weights out tell each other.
//
// Forward it is columns, and nothing is added up, so that every number is computed whole on one rank and has the bits
// that one process gives it. Backward a tensor that all ranks have is one of two: where all did the same with it, its
// gradient is alike on all; where each went on with rows of a weight of its own, the gradient is a sum over ranks,
// which is made once for all of these weights, in the order of ranks. So what reaches the residual stream, norms and
// tables is whole and has the same bits on all ranks.
#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "autograd/running_loss.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

bool is_planned(const Tensor& x) { return x.device().kind == Device::Kind::plan; }

// (rows, all) as messages have it: the columns of the first rank, row by row, then those of the next. In the host's
// memory, through which ranks speak whatever device they compute on.
class ColumnBlocks {
 public:
  ColumnBlocks(const Tensor& like_x, int64_t rows, std::span<const int64_t> borders)
      : columns_(borders),
        rows_(rows),
        values_(Tensor::empty({rows * borders.back()}, DType::f32, is_planned(like_x) ? like_x.device() : Device{})) {
    for (const int64_t border : borders) borders_.push_back(border * rows);
  }
  // Of one rank: (rows, its columns).
  Tensor of(size_t rank) const {
    return values_.row_range(borders_[rank], borders_[rank + 1]).view({rows_, columns_[rank + 1] - columns_[rank]});
  }
  std::span<const int64_t> borders() const { return borders_; }
  float* data() const { return values_.host<float>(); }

 private:
  std::span<const int64_t> columns_;
  int64_t rows_;
  std::vector<int64_t> borders_ = {};  // in values_
  Tensor values_;
};

// x (N, own) -> (N, all)
Tensor gathered(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(ranks.rank());
  const ColumnBlocks blocks(x, x.dim(0), borders);
  Tensor y = Tensor::empty({x.dim(0), borders.back()}, x.dtype(), x.device());
  if (is_planned(x)) return y;
  blocks.of(me).copy_from(x);
  ranks.all_gather(blocks.data(), blocks.borders());
  for (size_t r = 0; r + 1 < borders.size(); ++r) y.column_range(borders[r], borders[r + 1]).copy_from(blocks.of(r));
  return y;
}

// The own columns of the sum of all ranks' x: (N, all) -> (N, own)
Tensor own_sums(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(ranks.rank());
  const ColumnBlocks blocks(x, x.dim(0), borders);
  Tensor y = Tensor::empty({x.dim(0), borders[me + 1] - borders[me]}, x.dtype(), x.device());
  if (is_planned(x)) return y;
  for (size_t r = 0; r + 1 < borders.size(); ++r) blocks.of(r).copy_from(x.column_range(borders[r], borders[r + 1]));
  ranks.reduce_scatter(blocks.data(), blocks.borders());
  y.copy_from(blocks.of(me));
  return y;
}

void check_columns(const char* operation, const Tensor& x, int64_t columns) {
  check(x.rank() == 2 && x.dtype() == DType::f32 && x.dim(1) == columns, operation,
        "expected {} columns in f32, found {}", columns, x);
}

}  // namespace

Tensor join_columns(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders, Behind behind) {
  const auto me = static_cast<size_t>(ranks.rank());
  check_columns("join_columns", x, borders[me + 1] - borders[me]);
  Tensor y = gathered(x, ranks, borders);
  if (Tape::recording(x))
    Tape::record("join_columns", y,
                 [x = x.without_elements(), &ranks, borders = std::vector(borders.begin(), borders.end()), me, behind](
                     const Tensor& dy, Gradients& g) {
                   g.add(x, behind == Behind::own_rows ? own_sums(dy, ranks, borders)
                                                       : dy.column_range(borders[me], borders[me + 1]).clone());
                 });
  return y;
}

Tensor own_columns(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(ranks.rank());
  check_columns("own_columns", x, borders.back());
  Tensor y = x.column_range(borders[me], borders[me + 1]);
  if (Tape::recording(x))
    Tape::record("own_columns", y,
                 [x = x.without_elements(), &ranks, borders = std::vector(borders.begin(), borders.end())](
                     const Tensor& dy, Gradients& g) { g.add(x, gathered(dy, ranks, borders)); });
  return y;
}

Tensor sum_gradients(const Tensor& x, Communicator& ranks) {
  if (!Tape::recording(x)) return x;
  Tensor y = x;
  Tape::record("sum_gradients", y, [x = x.without_elements(), &ranks](const Tensor& dy, Gradients& g) {
    const Tensor dx = dy.clone();
    if (!is_planned(dx))
      in_host_memory(dx, [&](float* d) { ranks.all_reduce_sum({d, static_cast<size_t>(dx.elements())}); });
    g.add(x, dx);
  });
  return y;
}

Tensor whole_input(const Tensor& x, const Parameter& weight) {
  const auto& shard = weight.shard;
  if (!shard) return x;
  if (shard->columns.empty()) return sum_gradients(x, *shard->ranks);
  return join_columns(x, *shard->ranks, shard->columns, Behind::own_rows);
}

Tensor whole_output(const Tensor& y, const Parameter& weight) {
  const auto& shard = weight.shard;
  return shard && !shard->columns.empty() ? join_columns(y, *shard->ranks, shard->rows) : y;
}

// The largest of the maxima, the sums scaled to it and added in the order of ranks; a target's logit is 0 on all ranks
// but the one that has its column.
void RunningLoss::join(Communicator& ranks) {
  if (is_planned(maximum)) return;
  check(maximum.dtype() == DType::f32, "cross_entropy", "ranks join logits in f32, found {}", maximum);
  const Tensor maxima = maximum.to(Device{}), sums = sum.to(Device{}), logits = target_logit.to(Device{});
  const auto rows = static_cast<size_t>(maxima.dim(0));
  std::vector<double> own(3 * rows);
  for (size_t i = 0; i < rows; ++i) {
    own[i] = maxima.host<float>()[i];
    own[rows + i] = sums.host<double>()[i];
    own[2 * rows + i] = logits.host<float>()[i];
  }
  const std::vector<double> all = ranks.gather_numbers(own);
  const auto of = [&](int rank, size_t column, size_t row) {
    return all[(3 * static_cast<size_t>(rank) + column) * rows + row];
  };
  for (size_t i = 0; i < rows; ++i) {
    double largest = of(0, 0, i), total = 0.0, logit = 0.0;
    for (int r = 1; r < ranks.size(); ++r) largest = std::max(largest, of(r, 0, i));
    for (int r = 0; r < ranks.size(); ++r) {
      if (of(r, 1, i) > 0.0) total += of(r, 1, i) * std::exp(of(r, 0, i) - largest);
      logit += of(r, 2, i);
    }
    maxima.host<float>()[i] = static_cast<float>(largest);
    sums.host<double>()[i] = total;
    logits.host<float>()[i] = static_cast<float>(logit);
  }
  if (maxima.device() == maximum.device()) return;
  maximum.copy_from(maxima);
  sum.copy_from(sums);
  target_logit.copy_from(logits);
}

}  // namespace lathe
