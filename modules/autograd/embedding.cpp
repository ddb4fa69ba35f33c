// Rows of a table by token id, from its own dtype or from its packed form.
#include "kernels/embedding.h"

#include "autograd/check_ids.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tensor/profiler.h"

namespace lathe {
namespace {

void look_up(const Tensor& y, const Parameter& table, const Tensor& ids) {
  const ProfileScope profile([&] { return ProfiledCall{"embedding", 8 * ids.dim(0) * y.dim(1)}; });
  const int64_t n = ids.dim(0), columns = y.dim(1);
  const int32_t* id = ids.data<int32_t>();
  const Tensor& w = table.value;
  if (table.packed) {
    for (int64_t i = 0; i < n; ++i) cpu::unpack_row(y.data<float>() + i * columns, table.packed->matrix, id[i]);
  } else if (y.dtype() == DType::f64) {
    cpu::embedding(y.data<double>(), w.data<double>(), w.stride(), id, n, columns);
  } else {
    cpu::embedding(y.data<float>(), w.raw(), w.dtype(), bytes_of(w.dtype(), w.stride()), id, n, columns);
  }
}

}  // namespace

Tensor embedding(const Parameter& table, const Tensor& ids) {
  check(table.shape.rank() == 2, "embedding", "the table must be (V, C), found {}", table.shape);
  check(table.packed || table.value.defined(), "embedding", "the table {} has no value", table.shape);
  check(table.packed || table.value.shape() == table.shape, "embedding", "the table {} holds {}", table.shape,
        table.value);
  check_ids("embedding", "token id", ids, table.shape[0]);
  const DType dtype = !table.packed && table.value.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Tensor y = Tensor::empty({ids.dim(0), table.shape[1]}, dtype);  // (N, C)
  look_up(y, table, ids);
  if (Tape::recording(table))
    Tape::record("embedding", y, [&table, ids](const Tensor& dy, Gradients&) {
      dispatch("embedding", dy, [&](auto element) {
        using T = decltype(element);
        cpu::embedding_backward(table.gradient().data<T>(), dy.data<T>(), ids.data<int32_t>(), dy.dim(0), dy.dim(1));
      });
    });
  return y;
}

}  // namespace lathe
