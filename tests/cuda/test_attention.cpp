// Attention of training on CUDA against the CPU's in double; the laws of bits.
#include <cmath>

#include "kernels/attention.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct SequenceCase {
  std::vector<int32_t> starts;
  int64_t heads, kv_heads, dim;
  int64_t window = 0;
  float softcap = 0;
  bool alibi = false;
  int64_t padding = 5;  // of a token's row
  float deviation = 1;
};

// `n` sequences of two tokens.
std::vector<int32_t> pairs(int64_t n) {
  std::vector<int32_t> starts = counted(n + 1);
  for (int32_t& start : starts) start *= 2;
  return starts;
}

// Sequences shorter and longer than a tile, and empty ones; heads that share keys, so that a tile ends inside of a
// token; dims of a part of a quad, of a piece, of several; rows that do and do not begin at 16 bytes; more sequences
// than a warp has lanes; scores whose exponentials f32 does not hold.
const SequenceCase kSequenceCases[] = {
    {.starts = {0, 1, 6, 39, 39, 110}, .heads = 4, .kv_heads = 2, .dim = 12, .padding = 4},
    {.starts = {0, 64, 130}, .heads = 2, .kv_heads = 2, .dim = 64, .padding = 0},
    {.starts = {0, 70, 75}, .heads = 3, .kv_heads = 1, .dim = 7, .window = 9},
    {.starts = {0, 140}, .heads = 1, .kv_heads = 1, .dim = 8, .window = 67, .padding = 0},
    {.starts = {0, 35}, .heads = 2, .kv_heads = 2, .dim = 100, .softcap = 2},
    {.starts = {0, 33, 50}, .heads = 4, .kv_heads = 4, .dim = 20, .alibi = true},
    {.starts = {0, 60}, .heads = 2, .kv_heads = 1, .dim = 24, .window = 13, .softcap = 1, .alibi = true},
    {.starts = {0, 20}, .heads = 3, .kv_heads = 1, .dim = 256, .padding = 0},
    {.starts = {0, 17}, .heads = 1, .kv_heads = 1, .dim = 1},
    {.starts = pairs(40), .heads = 2, .kv_heads = 1, .dim = 4},
    {.starts = {0, 70}, .heads = 2, .kv_heads = 1, .dim = 16, .deviation = 20},
};

struct Gradients {
  std::vector<double> out, logsumexp, dq, dk, dv;
  bool operator==(const Gradients&) const = default;
};

struct PackedData {
  SequenceCase c;
  int64_t tokens = c.starts.back(), q_width = c.heads * c.dim, kv_width = c.kv_heads * c.dim;
  int64_t ld = q_width + 2 * kv_width + c.padding;  // queries, keys and values of a token lie side by side
  std::vector<float> packed = random_floats(tokens * ld, 1, c.deviation), dout = random_floats(tokens * q_width, 2);
  std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  ScoreOptions options{1 / std::sqrt(static_cast<float>(c.dim)), c.window, c.softcap,
                       c.alibi ? slopes.data() : nullptr};
  PackedSequences sequences{c.starts.data(), std::ssize(c.starts) - 1, tokens, c.heads, c.kv_heads, c.dim};

  explicit PackedData(const SequenceCase& of) : c(of) {}
  PackedData(const PackedData&) = delete;
  PackedData& operator=(const PackedData&) = delete;

  // With products in bf16 where `bf16`.
  template <class T, class On>
  Gradients run(On on, bool bf16 = false) const {
    const std::vector<T> x(packed.begin(), packed.end()), d(dout.begin(), dout.end());
    const Rows<const T> rows[3] = {{x.data(), ld}, {x.data() + q_width, ld}, {x.data() + q_width + kv_width, ld}};
    std::vector<T> out(static_cast<size_t>(tokens * q_width + 2 * kBand), kMark),
        logsumexp(static_cast<size_t>(tokens * c.heads + 2 * kBand), kMark),
        dx(static_cast<size_t>(tokens * ld + 2 * kBand), kMark);
    T *y = out.data() + kBand, *lse = logsumexp.data() + kBand, *to = dx.data() + kBand;
    const Rows<T> dq{to, ld}, dk{to + q_width, ld}, dv{to + q_width + kv_width, ld};
    ScoreOptions used = options;
    if (bf16) used.products = Arithmetic::bf16;
    kernel::attention<T>(on, y, lse, rows[0], rows[1], rows[2], sequences, used);
    // They end with their last element, for AddressSanitizer to see.
    const std::vector<T> y_read(y, y + tokens * q_width), lse_read(lse, lse + tokens * c.heads);
    kernel::attention_backward<T>(on, dq, dk, dv, d.data(), y_read.data(), lse_read.data(), rows[0], rows[1], rows[2],
                                  sequences, used);
    for (const auto* guarded : {&out, &logsumexp, &dx})
      for (int64_t i = 0; i < kBand; ++i)
        REQUIRE(((*guarded)[i] == kMark && (*guarded)[guarded->size() - 1 - i] == kMark));
    Gradients g{{y, y + tokens * q_width}, {lse, lse + tokens * c.heads}, {}, {}, {}};
    for (int64_t t = 0; t < tokens; ++t) {
      const T* row = to + t * ld;
      g.dq.insert(g.dq.end(), row, row + q_width);
      g.dk.insert(g.dk.end(), row + q_width, row + q_width + kv_width);
      g.dv.insert(g.dv.end(), row + q_width + kv_width, row + q_width + 2 * kv_width);
      for (int64_t i = ld - c.padding; i < ld; ++i) REQUIRE(row[i] == kMark);
    }
    return g;
  }

 private:
  static constexpr int64_t kBand = 32;
  static constexpr float kMark = 12345.0f;
};

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = worse(most, std::abs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE("attention and its gradients on CUDA agree with double") {
  for (const SequenceCase& c : kSequenceCases) {
    INFO("head_dim " << c.dim << ", last token " << c.starts.back());
    const PackedData data{c};
    const Gradients exact = data.run<double>(Cpu{}), g = data.run<float>(kOnDevice);
    // A score is off by the rounding of dim terms, and an exponential by that of its argument besides: relative to
    // the largest of each result, some dim + 16 roundings of scores of up to a few tens.
    const double bound = kEpsilon * 4 * static_cast<double>(c.dim + 16) * std::max(1.0f, c.deviation * c.deviation);
    CHECK(difference(g.out, exact.out) <= bound * largest(exact.out));
    CHECK(difference(g.logsumexp, exact.logsumexp) <= bound * std::max(1.0, largest(exact.logsumexp)));
    CHECK(difference(g.dq, exact.dq) <= bound * largest(exact.dq));
    CHECK(difference(g.dk, exact.dk) <= bound * largest(exact.dk));
    CHECK(difference(g.dv, exact.dv) <= bound * largest(exact.dv));
  }
}

TEST_CASE("attention on CUDA gives a sequence the same bits whatever other sequences there are") {
  for (const SequenceCase& c : kSequenceCases) {
    if (c.starts.size() < 3) continue;
    const PackedData data{c};
    // The last one alone.
    const int32_t first = c.starts[c.starts.size() - 2];
    SequenceCase alone = c;
    alone.starts = {0, c.starts.back() - first};
    PackedData other{alone};
    other.packed.assign(data.packed.begin() + first * data.ld, data.packed.end());
    other.dout.assign(data.dout.begin() + first * data.q_width, data.dout.end());
    for (const bool bf16 : {false, true}) {
      const Gradients all = data.run<float>(kOnDevice, bf16), last = other.run<float>(kOnDevice, bf16);
      CHECK(std::equal(last.out.begin(), last.out.end(), all.out.begin() + first * data.q_width));
      CHECK(std::equal(last.logsumexp.begin(), last.logsumexp.end(), all.logsumexp.begin() + first * c.heads));
      CHECK(std::equal(last.dq.begin(), last.dq.end(), all.dq.begin() + first * data.q_width));
      CHECK(std::equal(last.dk.begin(), last.dk.end(), all.dk.begin() + first * data.kv_width));
      CHECK(std::equal(last.dv.begin(), last.dv.end(), all.dv.begin() + first * data.kv_width));
    }
  }
}

TEST_CASE("attention on CUDA with products in bf16 agrees with double over the same rounded operands") {
  for (const SequenceCase& c : kSequenceCases) {
    INFO("head_dim " << c.dim << ", last token " << c.starts.back());
    PackedData data{c};
    for (std::vector<float>* x : {&data.packed, &data.dout})
      for (float& v : *x) v = bf16_to_f32(f32_to_bf16(v));
    const Gradients exact = data.run<double>(Cpu{}), g = data.run<float>(kOnDevice, true);
    // What is rounded besides: weights and gradients of scores, by 2^-9 of each at most. Relative to the largest result
    // the sum of what they are multiplied with, whose signs differ, is some 4; delta is a sum of rounded outputs. f32
    // alone where heads are wider than the tensor cores' form takes.
    const double bound = c.dim > kernel::kBf16HeadDim ? kEpsilon * 4 * static_cast<double>(c.dim + 16) *
                                                            std::max(1.0f, c.deviation * c.deviation)
                                                      : 4 * 0x1p-9;
    CHECK(difference(g.out, exact.out) <= bound * largest(exact.out));
    CHECK(difference(g.logsumexp, exact.logsumexp) <= kEpsilon * 4 * static_cast<double>(c.dim + 16) *
                                                          std::max(1.0f, c.deviation * c.deviation) *
                                                          std::max(1.0, largest(exact.logsumexp)));
    CHECK(difference(g.dq, exact.dq) <= bound * largest(exact.dq));
    CHECK(difference(g.dk, exact.dk) <= bound * largest(exact.dk));
    CHECK(difference(g.dv, exact.dv) <= bound * largest(exact.dv));
  }
}

TEST_CASE("attention on CUDA is the same in every schedule of its threads") {
  const PackedData data{{.starts = {0, 3, 70}, .heads = 2, .kv_heads = 1, .dim = 20, .window = 40}};
  for (const bool bf16 : {false, true}) {
    const Gradients expected = data.run<float>(kOnDevice, bf16);
    simt::in_every_schedule([&] {
      const bool same = data.run<float>(kOnDevice, bf16) == expected;
      REQUIRE(same);
    });
  }
}

TEST_CASE("what an observer sees of attention on CUDA is what it sees on the CPU") {
  for (const SequenceCase& c : kSequenceCases) {
    const PackedData data{c};
    int64_t longest = 1;
    for (size_t s = 1; s < c.starts.size(); ++s) longest = std::max<int64_t>(longest, c.starts[s] - c.starts[s - 1]);
    const int64_t elements = data.tokens * c.heads * longest;
    Guarded expected(elements), found(elements);
    const Rows<const float> q{data.packed.data(), data.ld}, k{data.packed.data() + data.q_width, data.ld};
    kernel::attention_probabilities<float>(Cpu{}, expected.data(), longest, q, k, data.sequences, data.options);
    kernel::attention_probabilities<float>(kOnDevice, found.data(), longest, q, k, data.sequences, data.options);
    CHECK(found.intact());
    double worst = 0;
    for (int64_t i = 0; i < elements; ++i) {
      const double off = std::abs(static_cast<double>(expected[i]) - static_cast<double>(found[i]));
      worst = worse(worst, off);
    }
    CHECK(worst <= kEpsilon * 4 * static_cast<double>(c.dim + 16) *
                       std::max(1.0f, c.deviation * c.deviation));  // as above, of weights of at most 1
  }
}
