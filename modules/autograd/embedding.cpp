// Rows of a table by token id, from its own dtype or from its packed form.
#include "kernels/embedding.h"

#include <algorithm>
#include <vector>

#include "autograd/check_ids.h"
#include "autograd/low_rank.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

void look_up(const Tensor& y, const Parameter& table, const Tensor& ids) {
  const Tensor& w = table.value;
  dispatch("embedding", y, [&](auto on, auto element) {
    if (table.packed)
      kernel::embedding(on, y.data<float>(), table.packed->matrix, ids.data<int32_t>(), ids.dim(0));
    else if constexpr (std::is_same_v<decltype(element), double>)
      kernel::select_rows(on, y.data<double>(), rows_of<double>(w), ids.data<int32_t>(), ids.dim(0), y.dim(1));
    else
      kernel::embedding(on, y.data<float>(), w.raw(), w.dtype(), bytes_of(w.dtype(), w.stride()), ids.data<int32_t>(),
                        ids.dim(0), y.dim(1));
  });
}

// Adds rows dy (N, C) to the gradient of the rows `ids` of the table.
void add_to_gradient(const Parameter& table, const Tensor& dy, const Tensor& ids) {
  dispatch("embedding", dy, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::embedding_backward(on, table.gradient().data<Sum<T>>(), dy.data<T>(), ids.data<int32_t>(), dy.dim(0),
                               dy.dim(1));
  });
}

// The same of a table whose rows ranks share out: of those that this one has.
void add_to_own_gradient(const Parameter& table, const Tensor& dy, const Tensor& ids) {
  if (ids.device().kind == Device::Kind::plan) return add_to_gradient(table, dy, ids);
  const int64_t first = table.shard->first(), count = table.shard->count();
  const Tensor all = ids.to(Device{});  // (N)
  std::vector<int32_t> rows, own;       // of dy; of the own part of the table
  for (int64_t i = 0; i < all.dim(0); ++i) {
    const int64_t row = all.host<int32_t>()[i] - first;
    if (row < 0 || row >= count) continue;
    rows.push_back(static_cast<int32_t>(i));
    own.push_back(static_cast<int32_t>(row));
  }
  if (rows.empty()) return;
  const auto on_device = [&](const std::vector<int32_t>& list) {
    return Tensor::of<int32_t>({std::ssize(list)}, list.data()).to(ids.device());
  };
  add_to_gradient(table, select_rows(dy, on_device(rows)), on_device(own));
}

// Of a table whose rows ranks share out: each gives its own and zeros for others, which are added up.
void look_up_shared(const Tensor& y, const Parameter& table, const Tensor& ids) {
  if (ids.device().kind == Device::Kind::plan) return look_up(y, table, ids);
  const int64_t first = table.shard->first(), count = table.shard->count();
  const Tensor all = ids.to(Device{}), own = all.clone();  // (N)
  const auto is_own = [&](int64_t i) {
    return all.host<int32_t>()[i] >= first && all.host<int32_t>()[i] < first + count;
  };
  for (int64_t i = 0; i < all.dim(0); ++i)
    own.host<int32_t>()[i] = is_own(i) ? static_cast<int32_t>(all.host<int32_t>()[i] - first) : 0;
  look_up(y, table, own.to(ids.device()));
  in_host_memory(y, [&](float* rows) {
    for (int64_t i = 0; i < all.dim(0); ++i)
      if (!is_own(i)) std::fill_n(rows + i * y.dim(1), y.dim(1), 0.0f);
    table.shard->ranks->all_reduce_sum({rows, static_cast<size_t>(y.elements())});
  });
}

}  // namespace

Tensor embedding(const Parameter& table, const Tensor& ids) {
  check(table.shape.rank() == 2, "embedding", "the table must be (V, C), found {}", table.shape);
  check(table.packed || table.value.defined(), "embedding", "the table {} has no value", table.shape);
  check(table.packed || table.value.shape() == table.shape, "embedding", "the table {} holds {}", table.shape,
        table.value);
  check(table.device() == ids.device(), "embedding", "the table {} lies on {}, ids {}", table.shape,
        to_string(table.device()), ids);
  check_ids("embedding", "token id", ids, table.shard ? table.shard->whole() : table.shape[0]);
  const DType dtype = !table.packed && table.value.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Tensor y = Tensor::empty({ids.dim(0), table.shape[1]}, dtype, ids.device());  // (N, C)
  if (table.shard)
    look_up_shared(y, table, ids);
  else
    look_up(y, table, ids);
  if (Tape::recording(table))
    Tape::record("embedding", y, [&table, ids](const Tensor& dy, Gradients&) {
      if (table.shard)
        add_to_own_gradient(table, dy, ids);
      else
        add_to_gradient(table, dy, ids);
    });
  if (const LowRank* l = table.row_low_rank)
    return add(y, scale(linear(embedding(*l->a, ids), {l->b, nullptr}), l->scale));  // (N, C)
  return y;
}

}  // namespace lathe
