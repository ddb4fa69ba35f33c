// Mixtures of experts: which experts a token goes to, with which weights, and the weighted sum of what they give.
//
// Shazeer et al. 2017, eq. 3 to 5 without noise; Jiang et al. 2024 (Mixtral), section 2.1. T: float, double. Everything
// about a token depends on that token alone, in one order, so its bits are the same in any batch.
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// The k largest of each row of logits (N, E), the largest first, of equal ones the lowest index:
// experts (N, k). weights (N, k): their softmax over all E, or over the k alone when `normalise` (which is the softmax
// over all divided by the sum of the chosen).
template <class T>
void choose_experts(Cpu, T* weights, int32_t* experts, ConstRows<T> logits, int64_t n, int64_t e, int64_t k,
                    bool normalise);
template <class T>
void choose_experts(Cuda, T* weights, int32_t* experts, ConstRows<T> logits, int64_t n, int64_t e, int64_t k,
                    bool normalise);
// dlogits (N, E) = the gradient through the weights; the choice itself has none.
template <class T>
void choose_experts_backward(Cpu, T* dlogits, const T* dweights, const T* weights, ConstRows<T> logits,
                             const int32_t* experts, int64_t n, int64_t e, int64_t k, bool normalise);
template <class T>
void choose_experts_backward(Cuda, T* dlogits, const T* dweights, const T* weights, ConstRows<T> logits,
                             const int32_t* experts, int64_t n, int64_t e, int64_t k, bool normalise);

// The N k pairs of a token and an expert sorted by expert, then by token: rows (N k), the token at each place; places
// (N, k), where a token's pairs are; starts (E + 1), places [starts[e], starts[e + 1]) being expert e's.
void sort_by_expert(Cpu, int32_t* starts, int32_t* rows, int32_t* places, const int32_t* experts, int64_t n, int64_t k,
                    int64_t e);
void sort_by_expert(Cuda, int32_t* starts, int32_t* rows, int32_t* places, const int32_t* experts, int64_t n, int64_t k,
                    int64_t e);

// y (N, C): y[n] = sum_j weights[n, j] x[places[n, j]], j ascending; x (N k, C), each of whose rows is named once.
template <class T>
void combine_experts(Cpu, T* y, const T* x, const T* weights, const int32_t* places, int64_t n, int64_t k, int64_t c);
template <class T>
void combine_experts(Cuda, T* y, const T* x, const T* weights, const int32_t* places, int64_t n, int64_t k, int64_t c);
// dx (N k, C) and dweights (N, k), both set.
template <class T>
void combine_experts_backward(Cpu, T* dx, T* dweights, const T* dy, const T* x, const T* weights, const int32_t* places,
                              int64_t n, int64_t k, int64_t c);
template <class T>
void combine_experts_backward(Cuda, T* dx, T* dweights, const T* dy, const T* x, const T* weights,
                              const int32_t* places, int64_t n, int64_t k, int64_t c);

// Over the rows of logits (N, E): chosen (E) += how often each is among `experts` (N, k), the largest first;
// probability (E) += its softmax.
template <class T>
void add_expert_loads(Cpu, double* chosen, double* probability, ConstRows<T> logits, const int32_t* experts, int64_t n,
                      int64_t e, int64_t k);
template <class T>
void add_expert_loads(Cuda, double* chosen, double* probability, ConstRows<T> logits, const int32_t* experts, int64_t n,
                      int64_t e, int64_t k);
// loss (1) = E sum_e f_e P_e with f_e = chosen[e] / rows, P_e = probability[e] / rows, and slope (E), the loss's slope
// by each probability[e].
template <class T>
void load_balancing(Cpu, T* loss, double* slope, const double* chosen, const double* probability, int64_t e,
                    int64_t rows);
template <class T>
void load_balancing(Cuda, T* loss, double* slope, const double* chosen, const double* probability, int64_t e,
                    int64_t rows);
// dlogits (N, E) = the gradient of dloss sum_e slope[e] softmax(logits)[e], row by row. dloss (1).
template <class T>
void load_balancing_backward(Cpu, T* dlogits, const T* dloss, const double* slope, ConstRows<T> logits, int64_t n,
                             int64_t e);
template <class T>
void load_balancing_backward(Cuda, T* dlogits, const T* dloss, const double* slope, ConstRows<T> logits, int64_t n,
                             int64_t e);

}  // namespace lathe::kernel
