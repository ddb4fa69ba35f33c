// Norms on a CUDA device. A row of up to 768 elements belongs to a warp, a longer one to a block of 256 threads: the
// length alone decides, and so a row's sums are the same tree in any batch. A thread takes fours of elements in turn
// and keeps its first 6 in registers; only rows beyond 6,144 are read again (from the second-level cache).
//
// Gradients: see kernels/cpu/norm.cpp. With scratch one pass makes dx and adds dw and db up in registers, by groups of
// threads that take rows in turn; column_sums.h adds their shares. Without, or beyond 6,144 columns, it reads x and dy
// again.
//
// Limits derived at 3.0 TB/s for (65,536, 768), a training step's rows; not measured yet: no GPU has run it.
//                                 bytes an element        limit
//   rms_norm, layer_norm          8                       134 us
//   add_rms_norm, add_layer_norm  16                      268 us
//   backward                      12 (16 where added to)  201 us (268 us), shares: 19 MB more, 6 us
//     without scratch             20 (24)                 335 us (402 us)
#include "kernels/cuda/column_sums.h"
#include "kernels/norm.h"

namespace lathe::kernel {
namespace {

constexpr int kHeld = 6;  // fours that a thread keeps
constexpr int kLongestOfWarp = 4 * 32 * kHeld;

// f(k, i) for each four of the row that this thread takes: from element i on; k below kHeld where it may be kept.
template <int kThreads, class F>
__device__ __forceinline__ void over_row(int n, F&& f) {
  const int first = 4 * (static_cast<int>(threadIdx.x) % kThreads);
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (first + k * 4 * kThreads < n) f(k, first + k * 4 * kThreads);
  for (int i = first + kHeld * 4 * kThreads; i < n; i += 4 * kThreads) f(kHeld, i);
}

template <int kThreads>
__device__ __forceinline__ float row_sum(float v) {
  if constexpr (kThreads == 32)
    return warp_sum(v);
  else
    return block_sum(v);
}

// Threads of a block: four warps, a row each, or one row.
template <int kRowThreads>
constexpr int kBlockThreads = kRowThreads == 32 ? 128 : kRowThreads;

// The row that this thread works on.
template <int kThreads>
__device__ __forceinline__ int64_t own_row() {
  return int64_t{blockIdx.x} * (kBlockThreads<kThreads> / kThreads) + threadIdx.x / kThreads;
}

// launch(threads a row, whether fours are aligned), both as constants.
template <class F>
void by_length(int64_t n, bool aligned, F&& launch) {
  using Warp = std::integral_constant<int, 32>;
  using Block = std::integral_constant<int, 256>;
  if (n <= kLongestOfWarp)
    aligned ? launch(Warp(), std::true_type()) : launch(Warp(), std::false_type());
  else
    aligned ? launch(Block(), std::true_type()) : launch(Block(), std::false_type());
}
template <int kThreads>
dim3 row_grid(int64_t rows) {
  return {blocks_of(rows, kBlockThreads<kThreads> / kThreads)};
}

// ---- forward ----

template <class T>
struct Forward {
  T *sum, *y;  // sum: of the fused forms
  float *mean, *rstd;
  Rows<const T> x;
  const T* addend;
  const float *w, *bias;
  float eps, offset;
};

template <class T, bool kLayer, bool kAdd, int kThreads, bool kVector>
__global__ void __launch_bounds__(kBlockThreads<kThreads>, 512 / kBlockThreads<kThreads>)
    norm_kernel(const Forward<T> p, int64_t rows, int n) {
  const int64_t row = own_row<kThreads>();
  if (row >= rows) return;  // whole warps, and only where a warp has a row
  const T* const x = row_of(p.x, row);
  const float length = static_cast<float>(n);
  Four held[kHeld];
  float sum = 0.0f;  // of x, or of its squares
  over_row<kThreads>(n, [&](int k, int i) {
    Four v = load_four<kVector>(x + i, n - i);
    if constexpr (kAdd) {
      const Four b = load_four<kVector>(p.addend + row * n + i, n - i);
#pragma unroll
      for (int j = 0; j < 4; ++j) v.v[j] += b.v[j];
      store_four<kVector>(p.sum + row * n + i, v, n - i);
    }
    if (k < kHeld) held[k] = v;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += kLayer ? v.v[j] : v.v[j] * v.v[j];
  });
  const auto value = [&](int k, int i) {
    return k < kHeld ? held[k] : load_four<kVector>(kAdd ? p.sum + row * n + i : x + i, n - i);
  };
  float mean = 0.0f;
  sum = row_sum<kThreads>(sum);
  if constexpr (kLayer) {
    mean = sum / length;
    float squares = 0.0f;
    over_row<kThreads>(n, [&](int k, int i) {
      const Four v = value(k, i);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (i + j < n) squares += (v.v[j] - mean) * (v.v[j] - mean);
    });
    sum = row_sum<kThreads>(squares);
  }
  const float scale = 1.0f / sqrtf(sum / length + p.eps);
  over_row<kThreads>(n, [&](int k, int i) {
    const Four v = value(k, i), w = load_four<kVector>(p.w + i, n - i);
    Four y = {}, bias = {};
    if (kLayer && p.bias != nullptr) bias = load_four<kVector>(p.bias + i, n - i);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      y.v[j] = kLayer ? (v.v[j] - mean) * scale * w.v[j] + bias.v[j] : v.v[j] * scale * (w.v[j] + p.offset);
    store_four<kVector>(p.y + row * n + i, y, n - i);
  });
  if (threadIdx.x % kThreads == 0) {
    if (kLayer && p.mean != nullptr) p.mean[row] = mean;
    if (p.rstd != nullptr) p.rstd[row] = scale;
  }
}

template <bool kLayer, bool kAdd, class T>
void forward(Cuda on, const Forward<T>& p, int64_t rows, int64_t n) {
  if (rows == 0) return;
  const bool aligned = n % 4 == 0 && fours_aligned(p.x) && fours_aligned(p.y) && fours_aligned(p.sum) &&
                       fours_aligned(p.addend) && fours_aligned(p.w) && fours_aligned(p.bias);
  by_length(n, aligned, [&](auto threads, auto vector) {
    constexpr int kThreads = threads.value;
    constexpr bool kVector = vector.value;
    LAUNCH((norm_kernel<T, kLayer, kAdd, kThreads, kVector>), row_grid<kThreads>(rows), dim3(kBlockThreads<kThreads>),
           0, on.stream, p, rows, static_cast<int>(n));
  });
}

// ---- backward ----

template <class T>
struct Backward {
  T* dx;
  bool accumulate;
  const T* dy;
  Rows<const T> x;
  const float *w, *mean, *rstd;
  float offset;
  float* parts;  // (groups of threads, 2, n): their shares of dw and db
};

constexpr int64_t kLongestHeld = 4 * 256 * kHeld;

// Groups of threads that share out the rows where each adds up shares of dw and db: three blocks of four warps, or two
// of one group, for each of 132 multiprocessors.
template <int kThreads>
constexpr int64_t kGroups = kThreads == 32 ? 12 * 132 : 2 * 132;
static_assert(kGroups<32> % (kBlockThreads<32> / 32) == 0, "no block has groups behind the last");

// kShares: rows are taken in turn, and their shares of dw and db added up, else there is a group for every row.
template <class T, bool kLayer, bool kShares, int kThreads, bool kVector>
__global__ void __launch_bounds__(kBlockThreads<kThreads>, kThreads == 32 ? 3 : 1)
    norm_dx_kernel(const Backward<T> p, int64_t rows, int n) {
  constexpr int kSums = kShares ? kHeld : 1;
  Four dw[kSums] = {}, db[kSums] = {};
  const int64_t group = own_row<kThreads>();
  for (int64_t row = group; row < rows; row += kShares ? kGroups<kThreads> : rows) {
    const T *const x = row_of(p.x, row), *const dy = p.dy + row * n;
    T* const dx = p.dx + row * n;
    const float rstd = p.rstd[row], mean = kLayer ? p.mean[row] : 0.0f;
    struct Pair {
      Four d, z;  // dy and the normalised x; zeros where elements are missing
    };
    const auto pair = [&](int i) {
      Pair r{load_four<kVector>(dy + i, n - i), load_four<kVector>(x + i, n - i)};
#pragma unroll
      for (int j = 0; j < 4; ++j) r.z.v[j] = (r.z.v[j] - mean) * rstd;
      return r;
    };
    const auto weight = [&](int i) {
      Four w = load_four<kVector>(p.w + i, n - i);
#pragma unroll
      for (int j = 0; j < 4; ++j) w.v[j] += kLayer ? 0.0f : p.offset;
      return w;
    };
    Pair held[kHeld];
    float sum = 0.0f, dot = 0.0f;  // of g = dy * weight; of g and z
    over_row<kThreads>(n, [&](int k, int i) {
      const Pair r = pair(i);
      const Four w = weight(i);
      if (k < kHeld) held[k] = r;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float g = r.d.v[j] * w.v[j];
        sum += g;
        dot += g * r.z.v[j];
        if (kShares && k < kHeld) {
          dw[k < kSums ? k : 0].v[j] += r.d.v[j] * r.z.v[j];
          if (kLayer) db[k < kSums ? k : 0].v[j] += r.d.v[j];
        }
      }
    });
    const float mean_g = kLayer ? row_sum<kThreads>(sum) / static_cast<float>(n) : 0.0f;
    const float mean_gz = row_sum<kThreads>(dot) / static_cast<float>(n);
    over_row<kThreads>(n, [&](int k, int i) {
      const Pair r = k < kHeld ? held[k] : pair(i);
      const Four w = weight(i);
      Four y = {};
      if (p.accumulate) y = load_four<kVector>(dx + i, n - i);
#pragma unroll
      for (int j = 0; j < 4; ++j) y.v[j] += rstd * (r.d.v[j] * w.v[j] - mean_g - r.z.v[j] * mean_gz);
      store_four<kVector>(dx + i, y, n - i);
    });
  }
  if constexpr (kShares) {
    if (group >= rows) return;
    over_row<kThreads>(n, [&](int k, int i) {
      float* const part = p.parts + 2 * group * n + i;
      store_four<kVector>(part, dw[k % kHeld], n - i);
      if (kLayer) store_four<kVector>(part + n, db[k % kHeld], n - i);
    });
  }
}

// What a row adds to dw and db.
template <class T, bool kLayer, bool kVector>
struct RowTerms {
  Backward<T> p;
  int64_t n;
  template <int kSums>
  __device__ __forceinline__ void terms(Four (&terms)[kSums], int64_t row, int64_t i, int64_t left) const {
    const Four d = load_four<kVector>(p.dy + row * n + i, left), v = load_four<kVector>(row_of(p.x, row) + i, left);
    const float rstd = p.rstd[row], mean = kLayer ? p.mean[row] : 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) terms[0].v[j] = d.v[j] * ((v.v[j] - mean) * rstd);
    if constexpr (kSums == 2) terms[1] = d;
  }
};
// What a group's share adds.
template <bool kVector>
struct PartTerms {
  const float* parts;
  int64_t n;
  template <int kSums>
  __device__ __forceinline__ void terms(Four (&terms)[kSums], int64_t row, int64_t i, int64_t left) const {
#pragma unroll
    for (int s = 0; s < kSums; ++s) terms[s] = load_four<kVector>(parts + (2 * row + s) * n + i, left);
  }
};

template <bool kLayer, class T>
void backward(Cuda on, const Backward<T>& p, float* dw, float* db, int64_t rows, int64_t n) {
  if (rows == 0) return;
  constexpr int kSums = kLayer ? 2 : 1;
  const bool aligned = n % 4 == 0 && fours_aligned(p.x) && fours_aligned(p.dx) && fours_aligned(p.dy) &&
                       fours_aligned(p.w) && fours_aligned(p.parts);
  const bool sums = dw != nullptr || db != nullptr, shares = sums && p.dx != nullptr && p.parts != nullptr;
  by_length(n, aligned, [&](auto threads, auto vector) {
    constexpr int kThreads = threads.value;
    constexpr bool kVector = vector.value;
    const dim3 block(kBlockThreads<kThreads>);
    if (shares && n <= kLongestHeld) {
      const int64_t groups = std::min(rows, kGroups<kThreads>);
      LAUNCH((norm_dx_kernel<T, kLayer, true, kThreads, kVector>), row_grid<kThreads>(groups), block, 0, on.stream, p,
             rows, static_cast<int>(n));
      add_column_terms<kSums>(on, {dw, db}, groups, n, PartTerms<kVector>{p.parts, n});
      return;
    }
    if (p.dx != nullptr)
      LAUNCH((norm_dx_kernel<T, kLayer, false, kThreads, kVector>), row_grid<kThreads>(rows), block, 0, on.stream, p,
             rows, static_cast<int>(n));
    if (sums) add_column_terms<kSums>(on, {dw, db}, rows, n, RowTerms<T, kLayer, kVector>{p, n});
  });
}

}  // namespace

template <class T>
void rms_norm(Cuda on, T* y, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, int64_t rows, int64_t n, double eps,
              double offset) {
  forward<false, false, T>(on,
                           {.sum = nullptr,
                            .y = y,
                            .mean = nullptr,
                            .rstd = rstd,
                            .x = x,
                            .addend = nullptr,
                            .w = w,
                            .bias = nullptr,
                            .eps = static_cast<float>(eps),
                            .offset = static_cast<float>(offset)},
                           rows, n);
}

void add_rms_norm(Cuda on, float* sum, float* y, float* rstd, const float* a, const float* b, const float* w,
                  int64_t rows, int64_t n, double eps, double offset) {
  forward<false, true, float>(on,
                              {.sum = sum,
                               .y = y,
                               .mean = nullptr,
                               .rstd = rstd,
                               .x = {a, n},
                               .addend = b,
                               .w = w,
                               .bias = nullptr,
                               .eps = static_cast<float>(eps),
                               .offset = static_cast<float>(offset)},
                              rows, n);
}

template <class T>
void layer_norm(Cuda on, T* y, Sum<T>* mean, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, const Sum<T>* b,
                int64_t rows, int64_t n, double eps) {
  forward<true, false, T>(on,
                          {.sum = nullptr,
                           .y = y,
                           .mean = mean,
                           .rstd = rstd,
                           .x = x,
                           .addend = nullptr,
                           .w = w,
                           .bias = b,
                           .eps = static_cast<float>(eps),
                           .offset = 0.0f},
                          rows, n);
}

void add_layer_norm(Cuda on, float* sum, float* y, float* mean, float* rstd, const float* a, const float* b,
                    const float* w, const float* bias, int64_t rows, int64_t n, double eps) {
  forward<true, true, float>(on,
                             {.sum = sum,
                              .y = y,
                              .mean = mean,
                              .rstd = rstd,
                              .x = {a, n},
                              .addend = b,
                              .w = w,
                              .bias = bias,
                              .eps = static_cast<float>(eps),
                              .offset = 0.0f},
                             rows, n);
}

int64_t norm_backward_scratch(Cuda, int64_t rows, int64_t n) {
  if (n > kLongestHeld) return 0;
  return 2 * n * std::min(rows, n <= kLongestOfWarp ? kGroups<32> : kGroups<256>);
}

template <class T>
void rms_norm_backward(Cuda on, T* dx, bool accumulate, Sum<T>* dw, const T* dy, ConstRows<T> x, const Sum<T>* w,
                       const Sum<T>* rstd, int64_t rows, int64_t n, double offset, Sum<T>* scratch) {
  backward<false, T>(on, {dx, accumulate, dy, x, w, nullptr, rstd, static_cast<float>(offset), scratch}, dw, nullptr,
                     rows, n);
}

template <class T>
void layer_norm_backward(Cuda on, T* dx, bool accumulate, Sum<T>* dw, Sum<T>* db, const T* dy, ConstRows<T> x,
                         const Sum<T>* w, const Sum<T>* mean, const Sum<T>* rstd, int64_t rows, int64_t n,
                         Sum<T>* scratch) {
  backward<true, T>(on, {dx, accumulate, dy, x, w, mean, rstd, 0.0f, scratch}, dw, db, rows, n);
}

template void rms_norm(Cuda, float*, float*, ConstRows<float>, const float*, int64_t, int64_t, double, double);
template void layer_norm(Cuda, float*, float*, float*, ConstRows<float>, const float*, const float*, int64_t, int64_t,
                         double);
template void rms_norm_backward(Cuda, float*, bool, float*, const float*, ConstRows<float>, const float*, const float*,
                                int64_t, int64_t, double, float*);
template void layer_norm_backward(Cuda, float*, bool, float*, float*, const float*, ConstRows<float>, const float*,
                                  const float*, const float*, int64_t, int64_t, float*);

}  // namespace lathe::kernel
