// Dropout of a training step. Modules call `dropout(x)` where their reference has one; without an active Dropout, which
// is evaluation and inference, that is x itself.
#pragma once
#include <cstdint>

#include "autograd/ops.h"
#include "tensor/active.h"

namespace lathe {

struct Dropout {
  double rate = 0.0;
  Tensor seed = {};     // of one micro-batch (dropout_seed)
  uint64_t stream = 0;  // of the next call

  class Scope : public Active<Dropout> {
   public:
    explicit Scope(Dropout& dropout) : Active(&dropout) {}
  };
  // A block has streams of its own, so that one that is computed again drops the same elements.
  static void enter_block(int64_t layer);
};

Tensor dropout(const Tensor& x);

}  // namespace lathe
