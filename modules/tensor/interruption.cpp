// The active interruption of each thread.
#include "tensor/interruption.h"

namespace lathe {

template <>
const std::function<void()>*& Active<const std::function<void()>>::slot() {
  static thread_local const std::function<void()>* ask = nullptr;
  return ask;
}

void Interruption::point() {
  if (const auto* ask = current(); ask != nullptr && *ask) (*ask)();
}

}  // namespace lathe
