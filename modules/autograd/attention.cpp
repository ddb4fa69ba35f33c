// Attention over packed sequences without a cache.
#include "kernels/attention.h"

#include <algorithm>

#include "autograd/dispatch.h"
#include "autograd/ops.h"
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
  const int32_t* start = seq_start.data<int32_t>();
  const int64_t sequences = seq_start.dim(0) - 1;
  for (int64_t s = 0; s < sequences; ++s)
    check(start[s] <= start[s + 1], "attention", "sequence {} ends at {} before its start {}", s, start[s + 1],
          start[s]);
  check(start[0] == 0 && start[sequences] == q.dim(0), "attention",
        "sequence borders must run from 0 to the {} tokens of q, found {} to {}", q.dim(0), start[0], start[sequences]);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seq_start,
                 const AttentionOptions& options) {
  check_attention(q, k, v, seq_start);
  // The borders' pointer stays valid: the closure below holds the tensor.
  const cpu::PackedSequences sequences{seq_start.data<int32_t>(), seq_start.dim(0) - 1, q.dim(1), k.dim(1), q.dim(2)};
  Tensor y = like(q);                                                       // (N, Hq, D)
  const Tensor logsumexp = Tensor::empty({q.dim(0), q.dim(1)}, q.dtype());  // (N, Hq)
  dispatch("attention", q, [&](auto element) {
    using T = decltype(element);
    cpu::attention(y.data<T>(), logsumexp.data<T>(), q.data<T>(), q.stride(), k.data<T>(), k.stride(), v.data<T>(),
                   v.stride(), sequences, options);
  });
  if (!Tape::recording(q, k, v)) return y;
  // Slopes lie in the model, which outlives the tape.
  Tape::record("attention", y,
               [q, k, v, out = y, logsumexp, seq_start, sequences, options](const Tensor& dy, Gradients& g) {
                 const Tensor dq = like(q), dk = like(k), dv = like(v);
                 dispatch("attention", q, [&](auto element) {
                   using T = decltype(element);
                   cpu::attention_backward(dq.data<T>(), dk.data<T>(), dv.data<T>(), dy.data<T>(), out.data<T>(),
                                           logsumexp.data<T>(), q.data<T>(), q.stride(), k.data<T>(), k.stride(),
                                           v.data<T>(), v.stride(), sequences, options);
                 });
                 g.add(q, dq);
                 g.add(k, dk);
                 g.add(v, dv);
               });
  return y;
}

Tensor attention_probabilities(const Tensor& q, const Tensor& k, const Tensor& seq_start,
                               const AttentionOptions& options) {
  check_attention(q, k, k, seq_start);
  const int32_t* start = seq_start.data<int32_t>();
  const cpu::PackedSequences sequences{start, seq_start.dim(0) - 1, q.dim(1), k.dim(1), q.dim(2)};
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.sequences; ++s) longest = std::max<int64_t>(longest, start[s + 1] - start[s]);
  Tensor probabilities = Tensor::empty({q.dim(0), q.dim(1), longest}, q.dtype());  // (N, Hq, longest)
  dispatch("attention", q, [&](auto element) {
    using T = decltype(element);
    cpu::attention_probabilities(probabilities.data<T>(), longest, q.data<T>(), q.stride(), k.data<T>(), k.stride(),
                                 sequences, options);
  });
  return probabilities;
}

}  // namespace lathe
