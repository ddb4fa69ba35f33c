// Rotary position embedding on a CUDA device: a thread turns four pairs of one head, or copies four components beyond
// them. In place too: a thread writes only what it has read.
//
// Limit derived at 3.0 TB/s: 8 bytes an element. Not measured yet: no GPU has run it.
#include "kernels/cuda/over_grid.h"
#include "kernels/rope.h"

namespace lathe::kernel {
namespace {

template <bool kVector, bool kInterleaved, class T>
struct Rotate {
  Rows<T> y;
  Rows<const T> x;
  const T *cos, *sin;
  const int32_t* table_rows;
  int head_dim, half;        // half: pairs of a head
  int turns, items_of_head;  // fours of pairs, and those and fours beyond
  float sine_sign;

  __device__ void operator()(int64_t token, int64_t item) const {
    const int head = static_cast<int>(item) / items_of_head, part = static_cast<int>(item) % items_of_head;
    const T* const in = row_of(x, token) + int64_t{head} * head_dim;
    T* const out = row_of(y, token) + int64_t{head} * head_dim;
    if (part >= turns) {
      const int i = 2 * half + 4 * (part - turns);
      store_four<kVector>(out + i, load_four<kVector>(in + i, head_dim - i), head_dim - i);
      return;
    }
    const int pair = 4 * part, left = half - pair;
    const int64_t angles = int64_t{table_rows[token]} * half + pair;
    const Four c = load_four<kVector>(cos + angles, left), s = load_four<kVector>(sin + angles, left);
    if constexpr (kInterleaved) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {  // two pairs in a four
        const int i = 2 * pair + 4 * h, elements = 2 * half - i;
        if (elements <= 0) break;
        const Four v = load_four<kVector>(in + i, elements);
        Four turned;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float cosine = c.v[2 * h + k], sine = sine_sign * s.v[2 * h + k];
          turned.v[2 * k] = v.v[2 * k] * cosine - v.v[2 * k + 1] * sine;
          turned.v[2 * k + 1] = v.v[2 * k + 1] * cosine + v.v[2 * k] * sine;
        }
        store_four<kVector>(out + i, turned, elements);
      }
    } else {
      const Four a = load_four<kVector>(in + pair, left), b = load_four<kVector>(in + half + pair, left);
      Four first, second;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float sine = sine_sign * s.v[j];
        first.v[j] = a.v[j] * c.v[j] - b.v[j] * sine;
        second.v[j] = b.v[j] * c.v[j] + a.v[j] * sine;
      }
      store_four<kVector>(out + pair, first, left);
      store_four<kVector>(out + half + pair, second, left);
    }
  }
};

// ---- angles ----

constexpr int kFrequencies = 128;  // that one launch takes

template <class T>
struct Angles {
  T *cos, *sin;
  float inverse[kFrequencies];
  float factor;
  int64_t first, half, from;  // from: the frequency of inverse[0]

  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t position = first + row, at = position * half + from + item;
    // A product of f32 values, as on the CPU.
    const double angle = static_cast<double>(static_cast<float>(position) * inverse[item]);
    cos[at] = static_cast<T>(::cos(angle) * static_cast<double>(factor));
    sin[at] = static_cast<T>(::sin(angle) * static_cast<double>(factor));
  }
};

}  // namespace

template <class T>
void rope(Cuda on, Rows<T> y, ConstRows<T> x, const Rotation<T>& r, int64_t n, int64_t heads, int64_t head_dim,
          int direction) {
  const int64_t half = r.rotary_dim / 2, turns = ceil_divide(half, 4), rest = ceil_divide(head_dim - 2 * half, 4);
  const bool aligned = half % 4 == 0 && head_dim % 4 == 0 && fours_aligned(y) && fours_aligned(x) &&
                       fours_aligned(r.cos) && fours_aligned(r.sin);
  const auto launch = [&](auto vector, auto interleaved) {
    const Rotate<decltype(vector)::value, decltype(interleaved)::value, T> f{
        .y = y,
        .x = x,
        .cos = r.cos,
        .sin = r.sin,
        .table_rows = r.rows,
        .head_dim = static_cast<int>(head_dim),
        .half = static_cast<int>(half),
        .turns = static_cast<int>(turns),
        .items_of_head = static_cast<int>(turns + rest),
        .sine_sign = direction < 0 ? -1.0f : 1.0f};
    over_grid(on, n, heads * (turns + rest), f);
  };
  const auto by_style = [&](auto vector) {
    r.style == RopeStyle::interleaved ? launch(vector, std::true_type()) : launch(vector, std::false_type());
  };
  aligned ? by_style(std::true_type()) : by_style(std::false_type());
}

template <class T>
void rope_rows(Cuda on, T* cos, T* sin, const float* inverse, float factor, int64_t first, int64_t end, int64_t half) {
  for (int64_t from = 0; from < half; from += kFrequencies) {
    Angles<T> f{cos, sin, {}, factor, first, half, from};
    const int64_t count = std::min<int64_t>(kFrequencies, half - from);
    std::copy_n(inverse + from, count, f.inverse);
    over_grid(on, end - first, count, f);
  }
}

template void rope(Cuda, Rows<float>, ConstRows<float>, const Rotation<float>&, int64_t, int64_t, int64_t, int);
template void rope_rows(Cuda, float*, float*, const float*, float, int64_t, int64_t, int64_t);

}  // namespace lathe::kernel
