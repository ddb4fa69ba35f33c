// The end of an output head: logits scaled and softcapped.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// x (n contiguous, in place) = c tanh(scale x / c), or scale x when c is 0. Gemma Team 2024 (Gemma 2), section 2.
template <class T>
void scale_softcap(T* x, T scale, T cap, int64_t n);
// dy (n, in place) *= scale (1 - (y / c)^2), y being the output above.
template <class T>
void scale_softcap_backward(T* dy, const T* y, T scale, T cap, int64_t n);

}  // namespace lathe::cpu
