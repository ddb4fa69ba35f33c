// The trainable weights of a model in one flat stretch of memory, their gradients in another: what the optimizer, the
// norm of the gradients, clipping and ranks see is two tensors.
#pragma once
#include <string>
#include <vector>

#include "llm/causal_lm.h"

namespace lathe {

class ParameterArena {
 public:
  // Elements of a parameter in the arena; its value and gradient are views of them.
  struct Slice {
    std::string name;
    const Parameter* parameter;
    int64_t begin, size;
    int64_t room;  // what is kept for it: its size, and what is zero up to where another may begin
    bool decays;   // matrices, tables and routers; norms and biases do not
    bool matrix;   // of a linear layer other than the head: what Muon is for
  };

  // Slices of at least so many elements begin and end at blocks of optimizer states (kStateBlock), smaller ones at
  // cache lines.
  static constexpr int64_t kLarge = 4096;

  // Moves the values (f32) of what is trainable here, and gives it gradients of zero. Matrices come first, then what
  // else decays, then the rest. Throws Error where nothing is trainable. The model must outlive it.
  explicit ParameterArena(CausalLM& model);

  const std::vector<Slice>& slices() const { return slices_; }
  int64_t size() const { return values_.elements(); }

  Tensor values_of(int64_t begin, int64_t end) const { return values_.row_range(begin, end); }
  Tensor gradients_of(int64_t begin, int64_t end) const { return gradients_.row_range(begin, end); }
  const Tensor& values() const { return values_; }        // (size) f32
  const Tensor& gradients() const { return gradients_; }  // (size) f32

  int64_t trainable_parameters() const;  // those of other ranks, which share weights out, among them
  std::vector<std::string> decayed_names() const;

 private:
  std::vector<Slice> slices_;
  Tensor values_, gradients_;
};

}  // namespace lathe
