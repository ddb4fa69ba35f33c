// Rotary position embedding (Su et al. 2021, eq. 34): pairs of components are rotated by an angle of the position.
#pragma once
#include "kernels/device.h"

namespace lathe {

// Which components form a pair: half_split (i, i + R/2), as Hugging Face stores weights; interleaved (2i, 2i + 1), as
// Meta does.
enum class RopeStyle : uint8_t { half_split, interleaved };

namespace kernel {

// y (N, H, D) contiguous = x (N, H D) with the first `rotary_dim` components of each head rotated, the rest copied.
// cos, sin (N, rotary_dim / 2). `direction` 1 forwards, -1 backwards (the transposed rotation). T: float, double.
template <class T>
void rope(Cpu, T* y, ConstRows<T> x, const T* cos, const T* sin, int64_t n, int64_t heads, int64_t head_dim,
          int64_t rotary_dim, RopeStyle style, int direction);

}  // namespace kernel
}  // namespace lathe
