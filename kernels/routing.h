// Mixtures of experts: which experts a token goes to, with which weights, and the weighted sum of what they give.
//
// Shazeer et al. 2017, eq. 3 to 5 without noise; Jiang et al. 2024 (Mixtral), section 2.1. T: float, double. Everything
// about a token depends on that token alone, in one order, so its bits are the same in any batch.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// The k largest of each row of logits (N, E; row stride ldl), the largest first, of equal ones the lowest index:
// experts (N, k). weights (N, k): their softmax over all E, or over the k alone when `normalise` (which is the softmax
// over all divided by the sum of the chosen).
template <class T>
void choose_experts(T* weights, int32_t* experts, const T* logits, int64_t ldl, int64_t n, int64_t e, int64_t k,
                    bool normalise);
// dlogits (N, E) = the gradient through the weights; the choice itself has none.
template <class T>
void choose_experts_backward(T* dlogits, const T* dweights, const T* weights, const T* logits, int64_t ldl,
                             const int32_t* experts, int64_t n, int64_t e, int64_t k, bool normalise);

// y (N, C): y[n] = sum_j weights[n, j] x[places[n, j]], j ascending; x (N k, C), each of whose rows is named once.
template <class T>
void combine_experts(T* y, const T* x, const T* weights, const int32_t* places, int64_t n, int64_t k, int64_t c);
// dx (N k, C) and dweights (N, k), both set.
template <class T>
void combine_experts_backward(T* dx, T* dweights, const T* dy, const T* x, const T* weights, const int32_t* places,
                              int64_t n, int64_t k, int64_t c);

// Over the rows of logits (N, E): chosen (E) += how often each is among `experts` (N, k), the largest first;
// probability (E) += its softmax.
template <class T>
void add_expert_loads(double* chosen, double* probability, const T* logits, int64_t ldl, const int32_t* experts,
                      int64_t n, int64_t e, int64_t k);
// dlogits (N, E) = the gradient of sum_e dprobability[e] softmax(logits)[e], row by row.
template <class T>
void softmax_rows_backward(T* dlogits, const double* dprobability, const T* logits, int64_t ldl, int64_t n, int64_t e);

}  // namespace lathe::cpu
