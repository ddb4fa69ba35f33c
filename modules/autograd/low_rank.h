// A change of low rank to a frozen weight: W + s B A (Hu et al. 2021, section 4.1), computed beside the product with W
// and never added to it. Internal to autograd/, but for the adapters that own such changes and the batches that want
// them.
#pragma once
#include <unordered_map>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/active.h"

namespace lathe {

// What a Parameter points to; its owner outlives the model's use of it.
struct LowRank {
  const Parameter* a = nullptr;  // (r, in); of a table whose rows are looked up: (rows, r)
  const Parameter* b = nullptr;  // (out, r)
  double scale = 1.0;
  double dropout = 0.0;  // rate at which elements of x are dropped before A (not of tables)
  uint64_t stream = 0;   // of their random numbers: equal where changes share A, so that they drop the same elements
};

// The seed of a micro-batch's dropout before A, active in its forward and its backward; without one nothing is dropped.
struct LowRankDropout {
  Tensor seed;  // dropout_seed

  class Scope : public Active<LowRankDropout> {
   public:
    explicit Scope(LowRankDropout& dropout) : Active(&dropout) {}
  };
};

// Changes of several adapters over one frozen model, each for its own rows of a batch; active in an inference pass.
using LowRankChanges = std::unordered_map<const Parameter*, const LowRank*>;
struct RowChanges {
  struct Run {
    int64_t begin, end;  // rows of the batch's tokens
    const LowRankChanges* changes;
  };
  std::vector<Run> runs;

  class Scope : public Active<RowChanges> {
   public:
    explicit Scope(RowChanges& changes) : Active(changes.runs.empty() ? nullptr : &changes) {}
  };
};

// One product with a change of low rank: y += s B A dropout(x), and its gradients. B may come in chunks of its rows.
class LowRankProduct {
 public:
  // x (N, in), kept. Computes s A dropout(x).
  LowRankProduct(const LowRank& low_rank, const Tensor& x);
  // y (N, count; rows may be strided) += the columns of rows [first, first + count) of B.
  void add_to(const Tensor& y, int64_t first = 0) const;
  // Of dy (N, count; rows may be strided) for the same rows: adds to the gradient of B and to what reaches A.
  void backward(const Tensor& dy, int64_t first = 0);
  // Behind the last `backward`: adds to the gradient of A, and to dx (N, in) where it is defined.
  void finish(const Tensor& dx) const;

 private:
  Tensor dropped(const Tensor& x) const;

  const LowRank& low_rank_;
  Tensor x_;        // (N, in), dropout applied
  Tensor inner_;    // (N, r): s A x
  Tensor d_inner_;  // (N, r): the sum of dy B
};

}  // namespace lathe
