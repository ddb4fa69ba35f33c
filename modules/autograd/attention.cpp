// Attention over packed sequences without a cache.
#include "kernels/attention.h"

#include <algorithm>

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/precision.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seq_start) {
  check(q.rank() == 3 && k.rank() == 3 && k.dim(0) == q.dim(0) && k.dim(2) == q.dim(2) && k.shape() == v.shape() &&
            k.dtype() == q.dtype() && v.dtype() == q.dtype(),
        "attention", "needs q (N, Hq, D), k and v (N, Hk, D) of one dtype, found q {}, k {}, v {}", q, k, v);
  check(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0, "attention", "{} query heads do not divide into {} key-value heads",
        q.dim(1), k.dim(1));
  check(seq_start.rank() == 1 && seq_start.dtype() == DType::i32 && seq_start.dim(0) >= 1 && seq_start.contiguous(),
        "attention", "sequence borders must be (S + 1) i32, found {}", seq_start);
  if (seq_start.device().kind != Device::Kind::cpu) return;
  const int32_t* start = seq_start.host<int32_t>();
  const int64_t sequences = seq_start.dim(0) - 1;
  for (int64_t s = 0; s < sequences; ++s)
    check(start[s] <= start[s + 1], "attention", "sequence {} ends at {} before its start {}", s, start[s + 1],
          start[s]);
  check(start[0] == 0 && start[sequences] == q.dim(0), "attention",
        "sequence borders must run from 0 to the {} tokens of q, found {} to {}", q.dim(0), start[0], start[sequences]);
}

// The pointer is good as long as the tensor is.
PackedSequences sequences_of(const Tensor& q, const Tensor& k, const Tensor& seq_start) {
  return {seq_start.data<int32_t>(), seq_start.dim(0) - 1, q.dim(0), q.dim(1), k.dim(1), q.dim(2)};
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seq_start,
                 const AttentionOptions& options) {
  check_attention(q, k, v, seq_start);
  const PackedSequences sequences = sequences_of(q, k, seq_start);
  Tensor y = like(q);                                                                   // (N, Hq, D)
  const Tensor logsumexp = Tensor::empty({q.dim(0), q.dim(1)}, q.dtype(), q.device());  // (N, Hq)
  const Arithmetic products = Precision::products();
  dispatch("attention", q, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::attention(on, y.data<T>(), logsumexp.data<Sum<T>>(), tokens_of<T>(q), tokens_of<T>(k), tokens_of<T>(v),
                      sequences, score_options(options, products));
  });
  if (!Tape::recording(q, k, v)) return y;
  Tape::record(
      "attention", y, [q, k, v, out = y, logsumexp, seq_start, options, products](const Tensor& dy, Gradients& g) {
        const PackedSequences sequences = sequences_of(q, k, seq_start);
        const auto place = [&](const Tensor& x) { return g.place(x, Gradients::Layout::tokens); };
        const Gradients::Place dq = place(q), dk = place(k), dv = place(v);
        dispatch("attention", q, [&](auto on, auto element) {
          using T = decltype(element);
          kernel::attention_backward(on, tokens_of<T>(dq.to), tokens_of<T>(dk.to), tokens_of<T>(dv.to), dy.data<T>(),
                                     out.data<T>(), logsumexp.data<Sum<T>>(), tokens_of<T>(q), tokens_of<T>(k),
                                     tokens_of<T>(v), sequences, score_options(options, products));
        });
        g.put(q, dq);
        g.put(k, dk);
        g.put(v, dv);
      });
  return y;
}

Tensor attention_probabilities(const Tensor& q, const Tensor& k, const Tensor& seq_start, int64_t longest,
                               const AttentionOptions& options) {
  check_attention(q, k, k, seq_start);
  const PackedSequences sequences = sequences_of(q, k, seq_start);
  Tensor probabilities = Tensor::empty({q.dim(0), q.dim(1), longest}, q.dtype(), q.device());  // (N, Hq, longest)
  dispatch("attention", q, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::attention_probabilities(on, probabilities.data<T>(), longest, tokens_of<T>(q), tokens_of<T>(k), sequences,
                                    score_options(options));
  });
  return probabilities;
}

}  // namespace lathe
