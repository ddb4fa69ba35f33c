// Where a long computation may be ended from outside, by Ctrl-C for instance.
//
// While an Interruption is active on a thread, what the thread computes asks it between layers, between the
// operations of a backward pass and between the tensors of an export. What `ask` throws ends it and reaches its caller.
#pragma once
#include <functional>

#include "tensor/active.h"

namespace lathe {

class Interruption : public Active<const std::function<void()>> {
 public:
  // `ask` must outlive this.
  explicit Interruption(const std::function<void()>& ask) : Active(&ask) {}

  // Asks the active one; nothing where there is none.
  static void point();
};

}  // namespace lathe
