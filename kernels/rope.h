// Rotary position embedding (Su et al. 2021, eq. 34): pairs of components are rotated by an angle of the position.
#pragma once
#include "kernels/device.h"

namespace lathe {

// Which components form a pair: half_split (i, i + R/2), as Hugging Face stores weights; interleaved (2i, 2i + 1), as
// Meta does.
enum class RopeStyle : uint8_t { half_split, interleaved };

// What tokens are rotated by: tables of cos and sin (P, R / 2), contiguous, and the row that each token takes (N).
template <class T>
struct Rotation {
  const T *cos = nullptr, *sin = nullptr;  // null: no rotation
  const int32_t* rows = nullptr;
  int64_t rotary_dim = 0;  // R
  RopeStyle style = RopeStyle::half_split;

  const T* cos_of(int64_t token) const { return cos + rows[token] * (rotary_dim / 2); }
  const T* sin_of(int64_t token) const { return sin + rows[token] * (rotary_dim / 2); }
};

namespace kernel {

// y (N, H D) = x (N, H D) with the first R components of each head rotated, the rest copied. `direction` 1
// forwards, -1 backwards (the transposed rotation). T: float, double.
template <class T>
void rope(Cpu, Rows<T> y, ConstRows<T> x, const Rotation<T>& rotation, int64_t n, int64_t heads, int64_t head_dim,
          int direction);
template <class T>
void rope(Cuda, Rows<T> y, ConstRows<T> x, const Rotation<T>& rotation, int64_t n, int64_t heads, int64_t head_dim,
          int direction);

// Rows [first, end) of cos and sin (P, half): of the angles position * inverse[i], position being the row, times
// `factor`. `inverse` (half) lies on the host. T: float, double.
template <class T>
void rope_rows(Cpu, T* cos, T* sin, const float* inverse, float factor, int64_t first, int64_t end, int64_t half);
template <class T>
void rope_rows(Cuda, T* cos, T* sin, const float* inverse, float factor, int64_t first, int64_t end, int64_t half);

}  // namespace kernel
}  // namespace lathe
