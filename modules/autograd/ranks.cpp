// What ranks that share weights out tell each other: columns, and nothing that is added up, so that every number is
// computed whole on one rank and has the bits that one process gives it.
#include <algorithm>

#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {

Tensor join_columns(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(ranks.rank());
  const int64_t rows = x.dim(0), own = borders[me + 1] - borders[me], all = borders.back();
  check(x.rank() == 2 && x.dtype() == DType::f32 && x.dim(1) == own, "join_columns",
        "expected {} columns in f32, found {}", own, x);
  check(!Tape::recording(x), "join_columns", "gradients do not pass between ranks, x {}", x);
  if (x.device().kind == Device::Kind::plan) return Tensor::empty({rows, all}, x.dtype(), x.device());
  // Ranks speak through the host's memory, whatever device they compute on.
  const Tensor own_columns = x.to(Device{});
  const Tensor blocks = Tensor::empty({rows * all}, x.dtype(), Device{});  // the ranks' columns, one rank after another
  const Tensor y = Tensor::empty({rows, all}, x.dtype(), Device{});        // (N, all)
  std::vector<int64_t> parts(borders.begin(), borders.end());
  for (int64_t& border : parts) border *= rows;
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(own_columns.host<float>() + row * own_columns.stride(), own,
                blocks.host<float>() + parts[me] + row * own);
  ranks.all_gather(blocks.host<float>(), parts);
  for (size_t r = 0; r + 1 < parts.size(); ++r) {
    const int64_t count = borders[r + 1] - borders[r];
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(blocks.host<float>() + parts[r] + row * count, count, y.host<float>() + row * all + borders[r]);
  }
  return y.to(x.device());
}

Tensor whole_input(const Tensor& x, const Parameter& weight) {
  const auto& shard = weight.shard;
  return shard && !shard->columns.empty() ? join_columns(x, *shard->ranks, shard->columns) : x;
}

Tensor whole_output(const Tensor& y, const Parameter& weight) {
  const auto& shard = weight.shard;
  return shard && !shard->columns.empty() ? join_columns(y, *shard->ranks, shard->rows) : y;
}

}  // namespace lathe
