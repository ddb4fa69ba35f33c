// Columns and rows of a matrix.
#include "autograd/check_ids.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/embedding.h"

namespace lathe {
Tensor slice_columns(const Tensor& x, int64_t begin, int64_t width) {
  check(x.rank() == 2 && begin >= 0 && width >= 0 && begin <= x.dim(1) - width, "slice_columns",
        "columns from {}, {} wide, of {}", begin, width, x);
  Tensor y = x.column_range(begin, begin + width);  // (N, width)
  if (Tape::recording(x)) Tape::record_columns("slice_columns", y, x, begin);
  return y;
}

Tensor select_rows(const Tensor& x, const Tensor& rows) {
  check(x.rank() == 2, "select_rows", "x must be (N, C), found {}", x);
  check_ids("select_rows", "row", rows, x.dim(0));
  Tensor y = Tensor::empty({rows.dim(0), x.dim(1)}, x.dtype(), x.device());  // (R, C)
  dispatch("select_rows", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::select_rows(on, y.data<T>(), rows_of<T>(x), rows.data<int32_t>(), y.dim(0), y.dim(1));
  });
  if (Tape::recording(x))
    Tape::record("select_rows", y, [x = x.without_elements(), rows](const Tensor& dy, Gradients& g) {
      const Tensor dx = Tensor::zeros(x.shape(), x.dtype(), x.device());
      dispatch("select_rows", x, [&](auto on, auto element) {
        using T = decltype(element);
        kernel::embedding_backward(on, dx.data<T>(), dy.data<T>(), rows.data<int32_t>(), dy.dim(0), dy.dim(1));
      });
      g.add(x, dx);
    });
  return y;
}

}  // namespace lathe
