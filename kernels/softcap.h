// The end of an output head: logits scaled and softcapped.
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// x (n contiguous, in place) = c tanh(scale x / c), or scale x when c is 0. Gemma Team 2024 (Gemma 2), section 2.
template <class T>
void scale_softcap(Cpu, T* x, double scale, double cap, int64_t n);
template <class T>
void scale_softcap(Cuda, T* x, double scale, double cap, int64_t n);
// dy (n, in place) *= scale (1 - (y / c)^2), y being the output above.
template <class T>
void scale_softcap_backward(Cpu, T* dy, const T* y, double scale, double cap, int64_t n);
template <class T>
void scale_softcap_backward(Cuda, T* dy, const T* y, double scale, double cap, int64_t n);

}  // namespace lathe::kernel
