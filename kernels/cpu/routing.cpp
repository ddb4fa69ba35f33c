// Routing of tokens to experts. Plain loops: a router's row is some hundred numbers beside the millions of an expert.
#include "kernels/routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

int64_t grain(int64_t row_elements) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, row_elements));
}

// The indices of the k largest. Not-a-number is never larger, so there are always k different ones.
template <class T>
void largest(int32_t* ids, const T* z, int64_t e, int64_t k) {
  for (int64_t j = 0; j < k; ++j) {
    int32_t best = -1;
    for (int32_t i = 0; i < e; ++i) {
      if (best >= 0 && !(z[i] > z[best])) continue;
      if (std::find(ids, ids + j, i) == ids + j) best = i;
    }
    ids[j] = best;
  }
}

// p (E) = softmax(z), shifted by the largest, of index `top`.
template <class T>
void softmax(T* p, const T* z, int64_t e, int64_t top) {
  T sum = 0;
  for (int64_t i = 0; i < e; ++i) sum += p[i] = std::exp(z[i] - z[top]);
  for (int64_t i = 0; i < e; ++i) p[i] /= sum;
}

// w (k) = the weights of the chosen.
template <class T>
void chosen_weights(T* w, const T* z, const int32_t* ids, int64_t e, int64_t k, bool normalise) {
  const T top = z[ids[0]];
  T chosen = 0, all = 0;
  for (int64_t j = 0; j < k; ++j) chosen += w[j] = std::exp(z[ids[j]] - top);
  for (int64_t i = 0; i < e && !normalise; ++i) all += std::exp(z[i] - top);
  for (int64_t j = 0; j < k; ++j) w[j] /= normalise ? chosen : all;
}

}  // namespace

template <class T>
void choose_experts(Cpu, T* weights, int32_t* experts, ConstRows<T> logits, int64_t n, int64_t e, int64_t k,
                    bool normalise) {
  const ProfileScope profile([&] {
    return ProfiledCall{"choose_experts", static_cast<int64_t>(sizeof(T)) * n * (e + k), n * (e + 2 * k)};
  });
  parallel_for(n, grain(e * k), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      largest(experts + row * k, logits[row], e, k);
      chosen_weights(weights + row * k, logits[row], experts + row * k, e, k, normalise);
    }
  });
}

// Normalised, with w the softmax over the chosen: dz_j = w_j (dw_j - sum_m w_m dw_m), nothing for the others. Otherwise
// with p the softmax over all: dz_i = p_i (dp_i - sum_m p_m dp_m), dp being dw at the chosen and 0 elsewhere.
template <class T>
void choose_experts_backward(Cpu, T* dlogits, const T* dweights, const T* weights, ConstRows<T> logits,
                             const int32_t* experts, int64_t n, int64_t e, int64_t k, bool normalise) {
  const ProfileScope profile([&] {
    return ProfiledCall{"choose_experts_backward", int64_t{sizeof(T)} * n * (2 * e + 3 * k), n * 5 * e};
  });
  for (int64_t row = 0; row < n; ++row) {
    const int32_t* ids = experts + row * k;
    const T *dw = dweights + row * k, *w = weights + row * k, *z = logits[row];
    T* dz = dlogits + row * e;
    T dot = 0;
    for (int64_t j = 0; j < k; ++j) dot += w[j] * dw[j];
    if (normalise)
      std::fill_n(dz, e, T{0});
    else
      softmax(dz, z, e, ids[0]);
    for (int64_t i = 0; i < e; ++i) dz[i] *= -dot;
    for (int64_t j = 0; j < k; ++j) dz[ids[j]] += w[j] * (normalise ? dw[j] - dot : dw[j]);
  }
}

// A counting sort.
void sort_by_expert(Cpu, int32_t* starts, int32_t* rows, int32_t* places, const int32_t* experts, int64_t n, int64_t k,
                    int64_t e) {
  std::fill_n(starts, e + 1, 0);
  for (int64_t i = 0; i < n * k; ++i) ++starts[experts[i] + 1];
  std::partial_sum(starts, starts + e + 1, starts);
  for (int64_t i = 0; i < n * k; ++i) {
    places[i] = starts[experts[i]]++;
    rows[places[i]] = static_cast<int32_t>(i / k);
  }
  std::copy_backward(starts, starts + e, starts + e + 1);  // each start has become the next one's
  starts[0] = 0;
}

template <class T>
void combine_experts(Cpu, T* y, const T* x, const T* weights, const int32_t* places, int64_t n, int64_t k, int64_t c) {
  const ProfileScope profile([&] {
    return ProfiledCall{"combine_experts", static_cast<int64_t>(sizeof(T)) * n * (k + 1) * c, 2 * n * k * c};
  });
  parallel_for(n, grain(k * c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      T* out = y + row * c;
      std::fill_n(out, c, T{0});
      for (int64_t j = row * k; j < (row + 1) * k; ++j) {
        const T* in = x + places[j] * c;
        for (int64_t i = 0; i < c; ++i) out[i] += weights[j] * in[i];
      }
    }
  });
}

template <class T>
void combine_experts_backward(Cpu, T* dx, T* dweights, const T* dy, const T* x, const T* weights, const int32_t* places,
                              int64_t n, int64_t k, int64_t c) {
  const ProfileScope profile([&] {
    return ProfiledCall{"combine_experts_backward", int64_t{sizeof(T)} * n * (3 * k + 1) * c, 3 * n * k * c};
  });
  parallel_for(n, grain(k * c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* d = dy + row * c;
      for (int64_t j = row * k; j < (row + 1) * k; ++j) {
        T dot = 0;
        for (int64_t i = 0; i < c; ++i) {
          dx[places[j] * c + i] = weights[j] * d[i];
          dot += d[i] * x[places[j] * c + i];
        }
        dweights[j] = dot;
      }
    }
  });
}

template <class T>
void add_expert_loads(Cpu, double* chosen, double* probability, ConstRows<T> logits, const int32_t* experts, int64_t n,
                      int64_t e, int64_t k) {
  for (int64_t row = 0; row < n; ++row) {
    const T *z = logits[row], top = z[experts[row * k]];
    T sum = 0;
    for (int64_t i = 0; i < e; ++i) sum += std::exp(z[i] - top);
    for (int64_t i = 0; i < e; ++i) probability[i] += static_cast<double>(std::exp(z[i] - top) / sum);
    for (int64_t j = row * k; j < (row + 1) * k; ++j) chosen[experts[j]] += 1.0;
  }
}

template <class T>
void load_balancing(Cpu, T* loss, double* slope, const double* chosen, const double* probability, int64_t e,
                    int64_t rows) {
  const double count = static_cast<double>(std::max<int64_t>(1, rows));
  double sum = 0;
  for (int64_t i = 0; i < e; ++i) {
    slope[i] = static_cast<double>(e) * chosen[i] / (count * count);
    sum += slope[i] * probability[i];
  }
  *loss = static_cast<T>(sum);
}

template <class T>
void load_balancing_backward(Cpu, T* dlogits, const T* dloss, const double* slope, ConstRows<T> logits, int64_t n,
                             int64_t e) {
  const ProfileScope profile([&] {
    return ProfiledCall{"load_balancing_backward", int64_t{sizeof(T)} * 2 * n * e, 7 * n * e};
  });
  const auto dprobability = [&](int64_t i) { return static_cast<T>(slope[i] * static_cast<double>(*dloss)); };
  for (int64_t row = 0; row < n; ++row) {
    T* dz = dlogits + row * e;
    const T* z = logits[row];
    softmax(dz, z, e, std::max_element(z, z + e) - z);
    T dot = 0;
    for (int64_t i = 0; i < e; ++i) dot += dz[i] * dprobability(i);
    for (int64_t i = 0; i < e; ++i) dz[i] *= dprobability(i) - dot;
  }
}

#define LATHE_INSTANTIATE(T)                                                                                          \
  template void choose_experts(Cpu, T*, int32_t*, ConstRows<T>, int64_t, int64_t, int64_t, bool);                     \
  template void choose_experts_backward(Cpu, T*, const T*, const T*, ConstRows<T>, const int32_t*, int64_t, int64_t,  \
                                        int64_t, bool);                                                               \
  template void combine_experts(Cpu, T*, const T*, const T*, const int32_t*, int64_t, int64_t, int64_t);              \
  template void combine_experts_backward(Cpu, T*, T*, const T*, const T*, const T*, const int32_t*, int64_t, int64_t, \
                                         int64_t);                                                                    \
  template void add_expert_loads<T>(Cpu, double*, double*, ConstRows<T>, const int32_t*, int64_t, int64_t, int64_t);  \
  template void load_balancing(Cpu, T*, double*, const double*, const double*, int64_t, int64_t);                     \
  template void load_balancing_backward(Cpu, T*, const T*, const double*, ConstRows<T>, int64_t, int64_t);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
