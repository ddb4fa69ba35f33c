// Dropout: Srivastava et al. 2014, in the inverted form (what stays is divided by the share that stays).
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// y (n) = x (n) / (1 - rate) with probability 1 - rate, else 0. The choice is a function of (seed, stream, index of the
// element), so the backward, which is the same function of dy, makes it anew. y may be x. T: float, double. The seed
// (1) lies where x does: a recorded launch chooses by what it finds there.
template <class T>
void dropout(Cpu, T* y, const T* x, int64_t n, double rate, const uint64_t* seed, uint64_t stream);
template <class T>
void dropout(Cuda, T* y, const T* x, int64_t n, double rate, const uint64_t* seed, uint64_t stream);

}  // namespace lathe::kernel
