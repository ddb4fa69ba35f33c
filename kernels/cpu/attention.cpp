// Attention of training on the thread team, a head of a sequence at a time: in f32 by the tiles of attention_tiles.h,
// in double, the oracle, by plain loops over rows of scores.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// Products of queries and keys that are seen, over all heads, times head_dim: what forward and backward are made of.
int64_t seen_products(const PackedSequences& s, const ScoreOptions& options) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < s.sequences; ++i) {
    const int64_t t = s.seq_start[i + 1] - s.seq_start[i];
    const int64_t window = options.window > 0 ? std::min(options.window, t) : t;
    pairs += window * (window + 1) / 2 + (t - window) * window;
  }
  return pairs * s.heads * s.head_dim;
}
ProfiledCall forward_call(int64_t bytes, const PackedSequences& s, const ScoreOptions& options) {
  return {"attention", bytes * s.tokens * 2 * (s.heads + s.kv_heads) * s.head_dim, 4 * seen_products(s, options)};
}
ProfiledCall backward_call(int64_t bytes, const PackedSequences& s, const ScoreOptions& options) {
  return {"attention_backward", bytes * s.tokens * 4 * (s.heads + s.kv_heads) * s.head_dim,
          10 * seen_products(s, options)};
}

int64_t longest_of(const PackedSequences& s) {
  int64_t longest = 0;
  for (int64_t i = 0; i < s.sequences; ++i) longest = std::max<int64_t>(longest, s.seq_start[i + 1] - s.seq_start[i]);
  return longest;
}

// f(sequence, head) for every head of every sequence.
template <class F>
void by_head(const PackedSequences& s, int64_t heads, F&& f) {
  parallel(s.sequences * heads, [&](int64_t unit) { f(unit / heads, unit % heads); });
}

// ---- in f32 ----

cpu::SequenceHead head_of(const PackedSequences& s, const ScoreOptions& options, int64_t sequence, int64_t head,
                          ConstRows<float> q, ConstRows<float> k, ConstRows<float> v) {
  const int64_t first = s.seq_start[sequence], kv_head = head / (s.heads / s.kv_heads);
  return {.q = q[first] + head * s.head_dim,
          .k = k[first] + kv_head * s.head_dim,
          .v = v[first] + kv_head * s.head_dim,
          .ldq = q.stride,
          .ldk = k.stride,
          .ldv = v.stride,
          .tokens = s.seq_start[sequence + 1] - first,
          .dim = s.head_dim,
          .options = options,
          .slope = options.alibi_slopes != nullptr ? options.alibi_slopes[head] : 0.0f};
}

// ---- in double ----

// The scores of one query over the keys that it sees, softcapped and biased; `slopes`, where not null, their
// derivatives by q k.
struct ScoreRow {
  int64_t first;  // key
  std::vector<double> scores, slopes;
  ScoreRow(const PackedSequences& s, const ScoreOptions& options, int64_t sequence, int64_t head, int64_t query,
           ConstRows<double> q, ConstRows<double> k)
      : first(options.window > 0 ? std::max<int64_t>(0, query - options.window + 1) : 0) {
    const int64_t start = s.seq_start[sequence], kv_head = head / (s.heads / s.kv_heads);
    const double slope = options.alibi_slopes != nullptr ? static_cast<double>(options.alibi_slopes[head]) : 0.0;
    const double scale = options.scale, cap = options.softcap;
    for (int64_t key = first; key <= query; ++key) {
      double score = 0, derivative = scale;
      for (int64_t d = 0; d < s.head_dim; ++d)
        score += q[start + query][head * s.head_dim + d] * k[start + key][kv_head * s.head_dim + d];
      score *= scale;
      if (cap > 0) {
        const double t = std::tanh(score / cap);
        score = cap * t;
        derivative *= 1 - t * t;
      }
      scores.push_back(score + slope * static_cast<double>(key - query));
      slopes.push_back(derivative);
    }
  }
  // Scores become weights; gives their logsumexp.
  double softmax() {
    const double highest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) sum += std::exp(score - highest);
    const double logsumexp = highest + std::log(sum);
    for (double& score : scores) score = std::exp(score - logsumexp);
    return logsumexp;
  }
};

}  // namespace

template <>
void attention(Cpu, float* out, float* logsumexp, ConstRows<float> q, ConstRows<float> k, ConstRows<float> v,
               const PackedSequences& s, const ScoreOptions& options) {
  const ProfileScope profile([&] { return forward_call(4, s, options); });
  const cpu::SequenceAttentionKernels& kernels = cpu::training_kernels().attention;
  const int64_t floats = kernels.forward_floats(longest_of(s), s.head_dim), ldo = s.heads * s.head_dim;
  by_head(s, s.heads, [&](int64_t sequence, int64_t head) {
    const int64_t first = s.seq_start[sequence];
    kernels.forward(out + first * ldo + head * s.head_dim, ldo, logsumexp + first * s.heads + head, s.heads,
                    head_of(s, options, sequence, head, q, k, v), cpu::scratch(cpu::ScratchOf::rows, floats));
  });
}

template <>
void attention_backward(Cpu, Rows<float> dq, Rows<float> dk, Rows<float> dv, const float* dout, const float* out,
                        const float* logsumexp, ConstRows<float> q, ConstRows<float> k, ConstRows<float> v,
                        const PackedSequences& s, const ScoreOptions& options) {
  const ProfileScope profile([&] { return backward_call(4, s, options); });
  const cpu::SequenceAttentionKernels& kernels = cpu::training_kernels().attention;
  const int64_t group = s.heads / s.kv_heads, ldo = s.heads * s.head_dim;
  const int64_t floats = kernels.backward_floats(longest_of(s), s.head_dim);
  by_head(s, s.kv_heads, [&](int64_t sequence, int64_t kv_head) {
    const int64_t first = s.seq_start[sequence];
    float* const scratch = cpu::scratch(cpu::ScratchOf::rows, floats);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const int64_t column = head * s.head_dim, kv_column = kv_head * s.head_dim;
      kernels.backward({.dq = dq[first] + column,
                        .dk = dk[first] + kv_column,
                        .dv = dv[first] + kv_column,
                        .lddq = dq.stride,
                        .lddk = dk.stride,
                        .lddv = dv.stride,
                        .dout = dout + first * ldo + column,
                        .out = out + first * ldo + column,
                        .ldo = ldo,
                        .logsumexp = logsumexp + first * s.heads + head,
                        .ldl = s.heads},
                       head_of(s, options, sequence, head, q, k, v), scratch, head == kv_head * group);
    }
  });
}

template <>
void attention(Cpu, double* out, double* logsumexp, ConstRows<double> q, ConstRows<double> k, ConstRows<double> v,
               const PackedSequences& s, const ScoreOptions& options) {
  const ProfileScope profile([&] { return forward_call(8, s, options); });
  by_head(s, s.heads, [&](int64_t sequence, int64_t head) {
    const int64_t kv_column = head / (s.heads / s.kv_heads) * s.head_dim;
    for (int64_t start = s.seq_start[sequence], query = 0; query < s.seq_start[sequence + 1] - start; ++query) {
      ScoreRow row(s, options, sequence, head, query, q, k);
      logsumexp[(start + query) * s.heads + head] = row.softmax();
      double* y = out + ((start + query) * s.heads + head) * s.head_dim;
      std::fill_n(y, s.head_dim, 0.0);
      for (int64_t key = row.first; key <= query; ++key)
        for (int64_t d = 0; d < s.head_dim; ++d)
          y[d] += row.scores[static_cast<size_t>(key - row.first)] * v[start + key][kv_column + d];
    }
  });
}

template <>
void attention_backward(Cpu, Rows<double> dq, Rows<double> dk, Rows<double> dv, const double* dout, const double* out,
                        const double* /*logsumexp*/, ConstRows<double> q, ConstRows<double> k, ConstRows<double> v,
                        const PackedSequences& s, const ScoreOptions& options) {
  const ProfileScope profile([&] { return backward_call(8, s, options); });
  const int64_t group = s.heads / s.kv_heads, dim = s.head_dim;
  by_head(s, s.kv_heads, [&](int64_t sequence, int64_t kv_head) {
    const int64_t start = s.seq_start[sequence], tokens = s.seq_start[sequence + 1] - start, kv = kv_head * dim;
    for (int64_t key = 0; key < tokens; ++key) {
      std::fill_n(dk[start + key] + kv, dim, 0.0);
      std::fill_n(dv[start + key] + kv, dim, 0.0);
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
      for (int64_t query = 0; query < tokens; ++query) {
        ScoreRow row(s, options, sequence, head, query, q, k);
        row.softmax();
        const int64_t at = (start + query) * s.heads * dim + head * dim;
        const double* query_row = q[start + query] + head * dim;
        double* dq_row = dq[start + query] + head * dim;
        double delta = 0;
        for (int64_t d = 0; d < dim; ++d) delta += dout[at + d] * out[at + d];
        std::fill_n(dq_row, dim, 0.0);
        for (int64_t key = row.first; key <= query; ++key) {
          const double weight = row.scores[static_cast<size_t>(key - row.first)];
          double dweight = 0;
          for (int64_t d = 0; d < dim; ++d) dweight += dout[at + d] * v[start + key][kv + d];
          const double dscore = weight * (dweight - delta) * row.slopes[static_cast<size_t>(key - row.first)];
          for (int64_t d = 0; d < dim; ++d) {
            dv[start + key][kv + d] += weight * dout[at + d];
            dk[start + key][kv + d] += dscore * query_row[d];
            dq_row[d] += dscore * k[start + key][kv + d];
          }
        }
      }
  });
}

template <class T>
void attention_probabilities(Cpu, T* probabilities, int64_t longest, ConstRows<T> q, ConstRows<T> k,
                             const PackedSequences& s, const ScoreOptions& options) {
  std::fill_n(probabilities, s.tokens * s.heads * longest, T(0));
  if (s.tokens == 0) return;
  // For observers: in double, whatever the elements are.
  const std::vector<double> wide_q(q.data, q.data + (s.tokens - 1) * q.stride + s.heads * s.head_dim);
  const std::vector<double> wide_k(k.data, k.data + (s.tokens - 1) * k.stride + s.kv_heads * s.head_dim);
  by_head(s, s.heads, [&](int64_t sequence, int64_t head) {
    for (int64_t start = s.seq_start[sequence], query = 0; query < s.seq_start[sequence + 1] - start; ++query) {
      ScoreRow row(s, options, sequence, head, query, {wide_q.data(), q.stride}, {wide_k.data(), k.stride});
      row.softmax();
      std::transform(row.scores.begin(), row.scores.end(),
                     probabilities + ((start + query) * s.heads + head) * longest + row.first,
                     [](double weight) { return static_cast<T>(weight); });
    }
  });
}
template void attention_probabilities(Cpu, float*, int64_t, ConstRows<float>, ConstRows<float>, const PackedSequences&,
                                      const ScoreOptions&);
template void attention_probabilities(Cpu, double*, int64_t, ConstRows<double>, ConstRows<double>,
                                      const PackedSequences&, const ScoreOptions&);

}  // namespace lathe::kernel
