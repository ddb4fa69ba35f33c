// Collects what the routers of a forward pass say, for the loss that balances their experts.
#pragma once
#include <vector>

#include "tensor/active.h"
#include "tensor/tensor.h"

namespace lathe {

// While one is active on a thread, each mixture adds its logits (N, E), which the tape follows.
class RouterLogits : public Active<std::vector<Tensor>> {
 public:
  explicit RouterLogits(std::vector<Tensor>& list) : Active(&list) {}
  static void add(const Tensor& logits) {
    if (std::vector<Tensor>* list = current()) list->push_back(logits);
  }
};

}  // namespace lathe
