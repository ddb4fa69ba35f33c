// Attention over packed sequences without a cache, forward and backward: training and gradients.
// Causal within each sequence; heads of a group share a key-value head (Hq % Hk == 0).
#pragma once
#include <cstdint>

#include "kernels/paged_attention.h"

namespace lathe::cpu {

struct PackedSequences {
  const int32_t* seq_start;  // (S + 1)
  int64_t sequences;
  int64_t heads, kv_heads, head_dim;
};

// out (N, Hq, D) contiguous, logsumexp (N, Hq); q (N, Hq, D), k and v (N, Hk, D) with token strides. T: float, double.
// Source: Dao 2023, FlashAttention-2, algorithm 1 (rows of scores are recomputed in the backward, never stored).
template <class T>
void attention(T* out, T* logsumexp, const T* q, int64_t ldq, const T* k, int64_t ldk, const T* v, int64_t ldv,
               const PackedSequences& sequences, const AttentionOptions& options);
// dq, dk, dv are contiguous (N, H, D) and overwritten. One thread owns a key-value head, so the sums have one order.
template <class T>
void attention_backward(T* dq, T* dk, T* dv, const T* dout, const T* out, const T* logsumexp, const T* q, int64_t ldq,
                        const T* k, int64_t ldk, const T* v, int64_t ldv, const PackedSequences& sequences,
                        const AttentionOptions& options);
// probabilities (N, Hq, L) for the observer: row i of a sequence holds its weights over the sequence's tokens from the
// first; L is the longest sequence, zeros behind.
template <class T>
void attention_probabilities(T* probabilities, int64_t longest, const T* q, int64_t ldq, const T* k, int64_t ldk,
                             const PackedSequences& sequences, const AttentionOptions& options);

}  // namespace lathe::cpu
