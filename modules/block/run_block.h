// One block of a decoder, the way that the pass asks for.
#pragma once
#include "attention/batch.h"
#include "autograd/recompute.h"
#include "common/dropout.h"
#include "common/router_logits.h"
#include "tensor/interruption.h"

namespace lathe {

// block(x, batch): (N, C) -> (N, C). Where the batch says so, the activations of a block are computed again in the
// backward pass in place of being kept.
template <class Block>
Tensor run_block(const Block& block, int64_t layer, const Tensor& x, const Batch& batch) {
  Interruption::point();
  Dropout::enter_block(layer);
  if (!batch.recompute) return block(x, batch);
  const auto outputs = recomputed(x, [&block, layer, batch](const Tensor& input) {
    RecomputedOutputs made;
    const RouterLogits collecting(made.more);
    Dropout::enter_block(layer);
    made.y = block(input, batch);
    return made;
  });
  for (const Tensor& logits : outputs.more) RouterLogits::add(logits);
  return outputs.y;
}

}  // namespace lathe
