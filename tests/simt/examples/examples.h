// Three kernels on which the emulator is tried: a reduction, an attention, a matrix product on tensor cores.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

// residual += x; y = residual / sqrt(mean(residual^2) + eps) * w. All (rows, n) but w (n); n a multiple of 8.
void example_rms_norm(Cuda cuda, bf16* y, bf16* residual, const bf16* x, const bf16* w, int rows, int n, float eps);

}  // namespace lathe::kernel
