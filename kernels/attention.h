// Attention over packed sequences without a cache, forward and backward: training and gradients.
// Causal within each sequence; heads of a group share a key-value head (Hq % Hk == 0).
#pragma once
#include "kernels/paged_attention.h"

namespace lathe {

struct PackedSequences {
  const int32_t* seq_start;  // (S + 1)
  int64_t sequences;
  int64_t tokens;  // N
  int64_t heads, kv_heads, head_dim;
};

namespace kernel {

// out (N, Hq, D) contiguous, logsumexp (N, Hq); q (N, Hq, D), k and v (N, Hk, D) by token. T: float, double.
// Source: Dao 2023, FlashAttention-2, algorithm 1 (rows of scores are recomputed in the backward, never stored).
template <class T>
void attention(Cpu, T* out, Sum<T>* logsumexp, ConstRows<T> q, ConstRows<T> k, ConstRows<T> v,
               const PackedSequences& sequences, const ScoreOptions& options);
// float; head_dim up to 256, here and in the backward. Where options.products is bf16 and heads have at most
// kBf16HeadDim (kernels/paged_attention.h), the operands of products are rounded to it, with sums and elements in f32.
template <class T>
void attention(Cuda, T* out, Sum<T>* logsumexp, ConstRows<T> q, ConstRows<T> k, ConstRows<T> v,
               const PackedSequences& sequences, const ScoreOptions& options);
// dq, dk, dv (N, H, D) by token are overwritten. One thread owns a key-value head, so the sums have one order.
template <class T>
void attention_backward(Cpu, Rows<T> dq, Rows<T> dk, Rows<T> dv, const T* dout, const T* out, const Sum<T>* logsumexp,
                        ConstRows<T> q, ConstRows<T> k, ConstRows<T> v, const PackedSequences& sequences,
                        const ScoreOptions& options);
template <class T>  // float; one block owns the rows that it writes
void attention_backward(Cuda, Rows<T> dq, Rows<T> dk, Rows<T> dv, const T* dout, const T* out, const Sum<T>* logsumexp,
                        ConstRows<T> q, ConstRows<T> k, ConstRows<T> v, const PackedSequences& sequences,
                        const ScoreOptions& options);
// probabilities (N, Hq, L) for the observer: row i of a sequence holds its weights over the sequence's tokens from the
// first; L is the longest sequence, zeros behind.
template <class T>
void attention_probabilities(Cpu, T* probabilities, int64_t longest, ConstRows<T> q, ConstRows<T> k,
                             const PackedSequences& sequences, const ScoreOptions& options);
template <class T>  // float
void attention_probabilities(Cuda, T* probabilities, int64_t longest, ConstRows<T> q, ConstRows<T> k,
                             const PackedSequences& sequences, const ScoreOptions& options);

}  // namespace kernel
}  // namespace lathe
