// The check of index tensors: token ids, rows, targets. Internal to autograd/.
#pragma once
#include "autograd/dispatch.h"

namespace lathe {

// Throws Error unless ids is (N) i32 and contiguous, each in [0, limit) as far as the host can see them. `what` names
// one: "token id".
inline void check_ids(const char* operation, const char* what, const Tensor& ids, int64_t limit) {
  check(ids.rank() == 1 && ids.dtype() == DType::i32 && ids.contiguous(), operation, "needs {}s (N) i32, found {}",
        what, ids);
  if (ids.device().kind != Device::Kind::cpu) return;
  const int32_t* values = ids.host<int32_t>();
  for (int64_t i = 0; i < ids.dim(0); ++i)
    check(values[i] >= 0 && values[i] < limit, operation, "{} {} at index {} is outside [0, {})", what, values[i], i,
          limit);
}

}  // namespace lathe
