#include "common/dropout.h"

namespace lathe {

template <>
Dropout*& Active<Dropout>::slot() {
  static thread_local Dropout* dropout = nullptr;
  return dropout;
}

void Dropout::enter_block(int64_t layer) {
  constexpr uint64_t kStreams = 64;  // of a block, more than it has calls; what comes before the blocks has as many
  if (Dropout* d = Active<Dropout>::current()) d->stream = kStreams * static_cast<uint64_t>(layer + 1);
}

Tensor dropout(const Tensor& x) {
  Dropout* d = Active<Dropout>::current();
  return d != nullptr && d->rate > 0.0 ? dropout(x, d->rate, d->seed, d->stream++) : x;
}

}  // namespace lathe
