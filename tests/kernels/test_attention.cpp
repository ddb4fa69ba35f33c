// Attention of training in f32 against its loops in double; the laws of bits.
#include <cmath>
#include <numeric>

#include "kernels/attention.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Case {
  std::vector<int32_t> starts;
  int64_t heads, kv_heads, dim;
  int64_t window = 0;
  float softcap = 0;
  bool alibi = false;
  float deviation = 1;  // of queries and keys
};

// Sequences of one tile and of several, of more keys than a tile has, and empty ones; heads that share keys; dims that
// end inside of a vector and of a tile.
const Case kCases[] = {
    {.starts = {0, 1, 6, 39, 39, 110}, .heads = 4, .kv_heads = 2, .dim = 12},
    {.starts = {0, 64, 161}, .heads = 2, .kv_heads = 2, .dim = 64, .deviation = 3},
    {.starts = {0, 530}, .heads = 3, .kv_heads = 1, .dim = 40},
    {.starts = {0, 70, 75}, .heads = 2, .kv_heads = 1, .dim = 16, .window = 9},
    {.starts = {0, 600}, .heads = 1, .kv_heads = 1, .dim = 8, .window = 37},
    {.starts = {0, 47}, .heads = 2, .kv_heads = 2, .dim = 100, .softcap = 2},
    {.starts = {0, 33, 90}, .heads = 4, .kv_heads = 4, .dim = 20, .alibi = true},
    {.starts = {0, 60}, .heads = 2, .kv_heads = 1, .dim = 24, .window = 13, .softcap = 1, .alibi = true},
};

struct Gradients {
  std::vector<double> out, dq, dk, dv;
};

struct Data {
  const Case& c;
  int64_t tokens = c.starts.back(), q_width = c.heads * c.dim, kv_width = c.kv_heads * c.dim;
  int64_t ld = q_width + 2 * kv_width + 5;  // queries, keys and values of a token lie side by side
  std::vector<float> packed = random_floats(tokens * ld, 1, c.deviation), dout = random_floats(tokens * q_width, 2);
  std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  ScoreOptions options{1 / std::sqrt(static_cast<float>(c.dim)), c.window, c.softcap,
                       c.alibi ? slopes.data() : nullptr};
  PackedSequences sequences{c.starts.data(), std::ssize(c.starts) - 1, tokens, c.heads, c.kv_heads, c.dim};

  template <class T>
  Gradients run(Guarded* guards = nullptr) const {
    const std::vector<T> x(packed.begin(), packed.end()), d(dout.begin(), dout.end());
    const auto q = [&](const auto* data) { return Rows{data, ld}; };
    std::vector<T> out(static_cast<size_t>(tokens * q_width)), logsumexp(static_cast<size_t>(tokens * c.heads)),
        dx(static_cast<size_t>(tokens * ld));
    const Rows<const T> rows[3] = {q(x.data()), q(x.data() + q_width), q(x.data() + q_width + kv_width)};
    kernel::attention<T>(Cpu{}, out.data(), logsumexp.data(), rows[0], rows[1], rows[2], sequences, options);
    T* to = dx.data();
    if constexpr (std::is_same_v<T, float>)
      if (guards != nullptr) to = guards->data();
    kernel::attention_backward<T>(Cpu{}, {to, ld}, {to + q_width, ld}, {to + q_width + kv_width, ld}, d.data(),
                                  out.data(), logsumexp.data(), rows[0], rows[1], rows[2], sequences, options);
    Gradients g{{out.begin(), out.end()}, {}, {}, {}};
    for (int64_t t = 0; t < tokens; ++t) {
      const T* row = to + t * ld;
      g.dq.insert(g.dq.end(), row, row + q_width);
      g.dk.insert(g.dk.end(), row + q_width, row + q_width + kv_width);
      g.dv.insert(g.dv.end(), row + q_width + kv_width, row + q_width + 2 * kv_width);
    }
    return g;
  }
};

double largest(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0, [](double a, double b) { return std::max(a, std::abs(b)); });
}
double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = worse(most, std::abs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE("attention and its gradients agree with double") {
  for (const Case& c : kCases) {
    const Data data{c};
    const Gradients exact = data.run<double>();
    for_each_isa([&](CpuIsa) {
      INFO("head_dim " << c.dim << ", last token " << c.starts.back());
      Guarded guard(data.tokens * data.ld);
      const Gradients g = data.run<float>(&guard);
      CHECK(guard.intact());
      // A score is off by the rounding of dim terms, and an exponential by that of its argument besides: relative to
      // the largest of each result, some dim + 16 roundings of scores of up to a few tens.
      const double bound = kEpsilon * 4 * static_cast<double>(c.dim + 16) * std::max(1.0f, c.deviation * c.deviation);
      CHECK(difference(g.out, exact.out) <= bound * largest(exact.out));
      CHECK(difference(g.dq, exact.dq) <= bound * largest(exact.dq));
      CHECK(difference(g.dk, exact.dk) <= bound * largest(exact.dk));
      CHECK(difference(g.dv, exact.dv) <= bound * largest(exact.dv));
    });
  }
}

TEST_CASE("attention gives the same bits on any number of threads, and whatever other sequences there are") {
  for (const Case& c : kCases)
    for_each_isa([&](CpuIsa) {
      const Data data{c};
      Gradients one, three;
      {
        const Threads threads(1);
        one = data.run<float>();
      }
      {
        const Threads threads(3);
        three = data.run<float>();
      }
      CHECK((one.out == three.out && one.dq == three.dq && one.dk == three.dk && one.dv == three.dv));
      if (c.starts.size() < 3) return;
      const auto first = static_cast<size_t>(c.starts[1]);
      Case alone = c;
      alone.starts.resize(2);
      Data other{alone};
      other.packed.assign(data.packed.begin(), data.packed.begin() + static_cast<int64_t>(first) * data.ld);
      other.dout.assign(data.dout.begin(), data.dout.begin() + static_cast<int64_t>(first) * data.q_width);
      const Gradients beginning = other.run<float>();
      CHECK(std::equal(beginning.out.begin(), beginning.out.end(), one.out.begin()));
      CHECK(std::equal(beginning.dk.begin(), beginning.dk.end(), one.dk.begin()));
      CHECK(std::equal(beginning.dv.begin(), beginning.dv.end(), one.dv.begin()));
    });
}
