#include <cmath>
#include <numeric>

#include "kernels/paged_attention.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Case {
  int64_t heads, kv_heads, head_dim;
  std::vector<int64_t> contexts;  // of each sequence
  DType dtype = DType::f32;
  int64_t window = 0;
  float softcap = 0.0f;
  bool alibi = false;
};

// One value as the cache holds it.
float stored(float v, DType dtype) {
  if (dtype == DType::f16) return f16_to_f32(f32_to_f16(v));
  if (dtype == DType::bf16) return bf16_to_f32(f32_to_bf16(v));
  return v;
}

// Sequences with all their queries, keys and values, and a cache whose pages lie in a given order.
struct World {
  Case c;
  int64_t tokens = 0, pages_per_sequence = 0;
  std::vector<int64_t> start;  // first token of each sequence
  std::vector<float> q, k, v, slopes;
  std::vector<int32_t> table;
  std::vector<uint8_t> k_pages, v_pages;

  World(const Case& of, unsigned page_seed) : c(of) {
    for (int64_t context : c.contexts) {
      start.push_back(tokens);
      tokens += context;
      pages_per_sequence = std::max(pages_per_sequence, (context + kPageTokens - 1) / kPageTokens + 1);
    }
    q = random_floats(tokens * c.heads * c.head_dim, 1);
    k = random_floats(tokens * c.kv_heads * c.head_dim, 2);
    v = random_floats(tokens * c.kv_heads * c.head_dim, 3);
    for (int64_t h = 0; h < c.heads; ++h) slopes.push_back(std::exp2(-static_cast<float>(h + 1)));
    const int64_t sequences = static_cast<int64_t>(c.contexts.size()), pages = sequences * pages_per_sequence;
    table.resize(static_cast<size_t>(pages));
    std::iota(table.begin(), table.end(), 0);
    if (page_seed != 0) std::shuffle(table.begin(), table.end(), std::mt19937(page_seed));
    // Every bit set is a NaN in all three dtypes: what nobody wrote must not be read.
    const size_t bytes = static_cast<size_t>(pages * kPageTokens * c.kv_heads * c.head_dim) * 4;
    k_pages.assign(bytes, 0xff);
    v_pages.assign(bytes, 0xff);
    std::vector<int32_t> slots;
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t i = 0; i < c.contexts[static_cast<size_t>(s)]; ++i)
        slots.push_back(table[static_cast<size_t>(s * pages_per_sequence + i / kPageTokens)] * kPageTokens +
                        static_cast<int32_t>(i % kPageTokens));
    const int64_t ld = c.kv_heads * c.head_dim;
    cpu::write_kv(layer(), k.data(), ld, v.data(), ld, slots.data(), tokens, c.kv_heads, c.head_dim);
  }

  cpu::LayerPages layer() const {
    return {const_cast<uint8_t*>(k_pages.data()), const_cast<uint8_t*>(v_pages.data()), c.dtype,
            c.kv_heads * c.head_dim * kPageTokens};
  }

  AttentionOptions options() const {
    return {1.0f / std::sqrt(static_cast<float>(c.head_dim)), c.window, c.softcap, c.alibi ? slopes.data() : nullptr};
  }

  // Tokens [from, to) of each listed sequence as one call; row t of `out` is token t of the world.
  void attend(Guarded& out, const std::vector<int64_t>& sequences, const std::vector<int64_t>& from,
              const std::vector<int64_t>& to) const {
    const int64_t row = c.heads * c.head_dim;
    std::vector<int32_t> seq_start{0}, context_len, pages;
    std::vector<float> queries;
    int64_t longest = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const size_t s = static_cast<size_t>(sequences[i]);
      seq_start.push_back(seq_start.back() + static_cast<int32_t>(to[i] - from[i]));
      context_len.push_back(static_cast<int32_t>(to[i]));
      longest = std::max(longest, to[i]);
      const auto first = table.begin() + static_cast<int64_t>(s) * pages_per_sequence;
      pages.insert(pages.end(), first, first + pages_per_sequence);
      queries.insert(queries.end(), q.begin() + (start[s] + from[i]) * row, q.begin() + (start[s] + to[i]) * row);
    }
    const int64_t n = seq_start.back();
    Guarded y(n * row);
    Aligned scratch(cpu::paged_attention_scratch_bytes(n, c.heads, c.head_dim, longest));
    cpu::paged_attention(y.data(), queries.data(), row, layer(),
                         {seq_start.data(), context_len.data(), pages.data(), static_cast<int64_t>(sequences.size()),
                          pages_per_sequence},
                         c.heads, c.kv_heads, c.head_dim, options(), scratch.data());
    CHECK(y.intact());
    int64_t at = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const size_t s = static_cast<size_t>(sequences[i]);
      const int64_t count = (to[i] - from[i]) * row;
      std::copy(y.data() + at, y.data() + at + count, out.data() + (start[s] + from[i]) * row);
      at += count;
    }
  }
  std::vector<int64_t> all_sequences() const {
    std::vector<int64_t> s(c.contexts.size());
    std::iota(s.begin(), s.end(), 0);
    return s;
  }
  Guarded whole() const {
    Guarded out(tokens * c.heads * c.head_dim);
    attend(out, all_sequences(), std::vector<int64_t>(c.contexts.size(), 0), c.contexts);
    return out;
  }

  // softmax(transform(q k^T)) v in double.
  double expected(int64_t s, int64_t i, int64_t head, int64_t d) const {
    const int64_t kv = head / (c.heads / c.kv_heads), base = start[static_cast<size_t>(s)];
    const float* query = q.data() + ((base + i) * c.heads + head) * c.head_dim;
    const int64_t first = c.window > 0 ? std::max<int64_t>(0, i + 1 - c.window) : 0;
    double most = -1e300, sum = 0, y = 0;
    std::vector<double> scores;
    for (int64_t j = first; j <= i; ++j) {
      double score = 0;
      for (int64_t e = 0; e < c.head_dim; ++e)
        score += static_cast<double>(query[e]) *
                 static_cast<double>(
                     stored(k[static_cast<size_t>(((base + j) * c.kv_heads + kv) * c.head_dim + e)], c.dtype));
      score *= static_cast<double>(options().scale);
      if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
      if (c.alibi) score += static_cast<double>(slopes[static_cast<size_t>(head)]) * static_cast<double>(j - i);
      most = std::max(most, score);
      scores.push_back(score);
    }
    for (int64_t j = first; j <= i; ++j) {
      const double p = std::exp(scores[static_cast<size_t>(j - first)] - most);
      sum += p;
      y += p * static_cast<double>(
                   stored(v[static_cast<size_t>(((base + j) * c.kv_heads + kv) * c.head_dim + d)], c.dtype));
    }
    return y / sum;
  }
};

const Case kCases[] = {
    {4, 2, 16, {1, 5, 40}},
    {9, 3, 64, {300, 20}, DType::f16},
    {3, 1, 80, {70, 257}, DType::bf16},
    {2, 2, 7, {33, 530}},
    {4, 4, 1, {18}},
    {8, 1, 32, {100}, DType::f16, 24},
    {4, 2, 48, {600}, DType::f32, 300},
    {4, 2, 20, {90}, DType::bf16, 1},
    {4, 2, 16, {290}, DType::f32, 0, 5.0f},
    {4, 4, 16, {290, 31}, DType::f32, 0, 0.0f, true},
    {6, 2, 16, {280}, DType::f16, 40, 3.0f, true},
};

}  // namespace

TEST_CASE("paged attention agrees with softmax in double") {
  for (const Case& c : kCases) {
    INFO("heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " " << name(c.dtype) << " window "
                  << c.window);
    std::vector<double> expected;
    for_each_isa([&](CpuIsa) {
      const World world(c, 7);
      const Guarded out = world.whole();
      size_t at = 0;
      const bool first_isa = expected.empty();
      double worst = 0;
      for (size_t s = 0; s < c.contexts.size(); ++s)
        for (int64_t i = 0; i < c.contexts[s]; i += i < 20 ? 1 : 13)
          for (int64_t h = 0; h < c.heads; ++h)
            for (int64_t d = 0; d < c.head_dim; d += d < 4 || d + 4 >= c.head_dim ? 1 : 9, ++at) {
              if (first_isa) expected.push_back(world.expected(static_cast<int64_t>(s), i, h, d));
              const double error = std::abs(out[((world.start[s] + i) * c.heads + h) * c.head_dim + d] - expected[at]);
              worst = error > worst || std::isnan(error) ? error : worst;
            }
      // A score is a sum of D products near 1, times D^-1/2: an error of some sqrt(D) epsilon each way, which the
      // exponential turns into a relative one; the weighted mean of values near 1 adds a few epsilon. Ten times that.
      CHECK(worst < 10 * (std::sqrt(static_cast<double>(c.head_dim)) + 8) * kEpsilon);
    });
  }
}

TEST_CASE("paged attention gives a token the same bits however it is computed") {
  for (const Case& c : kCases) {
    INFO("heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " " << name(c.dtype) << " window "
                  << c.window);
    for_each_isa([&](CpuIsa) {
      const World world(c, 7);
      const Guarded whole = world.whole();
      const int64_t row = c.heads * c.head_dim;
      {
        INFO("pages in another order");
        CHECK(World(c, 99).whole().same_bits(whole));
      }
      for (int members : {1, 2, 3}) {
        INFO(members << " threads");
        const Threads threads(members);
        CHECK(world.whole().same_bits(whole));
      }
      const auto in_chunks = [&](int64_t chunk) {
        Guarded out(world.tokens * row);
        for (int64_t s : world.all_sequences()) {
          const int64_t context = c.contexts[static_cast<size_t>(s)];
          for (int64_t i = 0; i < context; i += chunk) world.attend(out, {s}, {i}, {std::min(i + chunk, context)});
        }
        return out;
      };
      for (int64_t chunk : {1, 7, 64}) {
        INFO("in chunks of " << chunk << ", sequences alone");
        CHECK(in_chunks(chunk).same_bits(whole));
      }
      {
        INFO("the last tokens of all sequences together");
        Guarded out(world.tokens * row);
        std::vector<int64_t> from;
        for (int64_t context : c.contexts) from.push_back(context - 1);
        world.attend(out, world.all_sequences(), from, c.contexts);
        for (size_t s = 0; s < c.contexts.size(); ++s) {
          const int64_t at = (world.start[s] + c.contexts[s] - 1) * row;
          CHECK(std::memcmp(out.data() + at, whole.data() + at, static_cast<size_t>(row) * sizeof(float)) == 0);
        }
      }
    });
  }
}

TEST_CASE("a freed page before the window is not touched") {
  const Case c{4, 2, 16, {600}, DType::f32, 100};
  for_each_isa([&](CpuIsa) {
    World world(c, 0);
    Guarded kept(world.tokens * 64), freed(world.tokens * 64);
    world.attend(kept, {0}, {599}, {600});
    for (int64_t page = 0; page < (600 - 100) / kPageTokens; ++page) world.table[static_cast<size_t>(page)] = -1;
    world.attend(freed, {0}, {599}, {600});
    CHECK(std::memcmp(kept.data() + 599 * 64, freed.data() + 599 * 64, 64 * sizeof(float)) == 0);
  });
}

TEST_CASE("an infinite value of a later token does not reach an earlier one") {
  const Case c{4, 2, 16, {40}};
  for_each_isa([&](CpuIsa) {
    World world(c, 0);
    const Guarded clean = world.whole();
    // Element (page 1, head 0, token 4, component 0): position 20.
    const float infinity = std::numeric_limits<float>::infinity();
    std::memcpy(world.v_pages.data() + (2 * 16 * 16 + 4 * 16) * sizeof(float), &infinity, sizeof infinity);
    const Guarded spoilt = world.whole();
    CHECK(std::memcmp(clean.data(), spoilt.data(), 20 * 64 * sizeof(float)) == 0);
    CHECK_FALSE(std::isfinite(spoilt[20 * 64]));
  });
}

TEST_CASE("write_kv skips slot -1 and rounds to nearest even") {
  for_each_isa([&](CpuIsa) {
    const std::vector<float> k = random_floats(2 * 3 * 5, 1), v = random_floats(2 * 3 * 5, 2);
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      std::vector<uint8_t> keys(2 * 3 * 5 * 16 * 4, 0xee), values = keys;
      const int32_t slots[] = {-1, 16 + 9};
      cpu::write_kv({keys.data(), values.data(), dtype, 3 * 5 * 16}, k.data(), 15, v.data(), 15, slots, 2, 3, 5);
      const size_t element = static_cast<size_t>(info(dtype).block_bytes);
      size_t written = 0;
      for (uint8_t byte : keys) written += byte != 0xee;
      CHECK(written <= 15 * element);
      for (size_t h = 0; h < 3; ++h)
        for (size_t d = 0; d < 5; ++d) {
          float key = 0, value = 0;
          const uint8_t* key_at = keys.data() + ((3 + h) * 5 * 16 + d * 16 + 9) * element;
          const uint8_t* value_at = values.data() + ((3 + h) * 5 * 16 + 9 * 5 + d) * element;
          if (dtype == DType::f32) {
            std::memcpy(&key, key_at, 4);
            std::memcpy(&value, value_at, 4);
          } else {
            uint16_t key_bits, value_bits;
            std::memcpy(&key_bits, key_at, 2);
            std::memcpy(&value_bits, value_at, 2);
            key = dtype == DType::f16 ? f16_to_f32(key_bits) : bf16_to_f32(key_bits);
            value = dtype == DType::f16 ? f16_to_f32(value_bits) : bf16_to_f32(value_bits);
          }
          CHECK(key == stored(k[15 + h * 5 + d], dtype));
          CHECK(value == stored(v[15 + h * 5 + d], dtype));
        }
    }
  });
}
