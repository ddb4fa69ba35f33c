#include <cmath>
#include <numeric>

#include "kernels/paged_attention.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/paged_world.h"

using namespace lathe;
using namespace lathe::test;

namespace {

using CpuWorld = test::World<Cpu>;

const PagedCase kPagedCases[] = {
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
    {9, 3, 64, {300, 20}, DType::q8_0},
    {4, 2, 16, {40, 270}, DType::q8_0},
    {7, 1, 80, {257}, DType::q8_0},
    {2, 2, 7, {33, 530}, DType::q8_0, 100},
    {8, 2, 128, {70}, DType::q8_0, 24, 3.0f, true},
    {9, 3, 64, {300, 20}, DType::bf16},
    {40, 2, 16, {290}, DType::bf16, 40, 3.0f, true},
    {2, 2, 7, {33, 530}, DType::bf16, 100},
    {4, 4, 33, {290, 31}, DType::bf16, 0, 0.0f, true},
    {6, 1, 128, {600}, DType::bf16, 300},
    {1, 1, 520, {40}, DType::bf16},
};

}  // namespace

TEST_CASE("paged attention agrees with softmax in double") {
  for (const PagedCase& c : kPagedCases) {
    INFO("heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " " << name(c.dtype) << " window "
                  << c.window);
    std::vector<std::vector<double>> expected;  // by head
    for_each_isa([&](CpuIsa isa) {
      const CpuWorld world(c, 7);
      const Guarded out = world.whole();
      size_t at = 0;
      const bool first_isa = expected.empty();
      double worst = 0;
      for (size_t s = 0; s < c.contexts.size(); ++s)
        for (int64_t i = 0; i < c.contexts[s]; i += i < 20 ? 1 : 13)
          for (int64_t h = 0; h < c.heads; ++h, ++at) {
            if (first_isa) expected.push_back(world.expected(static_cast<int64_t>(s), i, h));
            for (int64_t d = 0; d < c.head_dim; ++d) {
              const double y = out[((world.start[s] + i) * c.heads + h) * c.head_dim + d];
              const double error = std::abs(y - expected[at][static_cast<size_t>(d)]);
              worst = worse(worst, error);
            }
          }
      // A score is a sum of D products near 1, times D^-1/2: an error of some sqrt(D) epsilon each way, which the
      // exponential turns into a relative one; the weighted mean of values near 1 adds a few epsilon. Ten times that.
      // Where queries and weights are rounded to bf16, each component moves by 2^-9 of itself at most: a score then by
      // 2^-9 of a number near 1, and a weight by as much again; five times that for the worst of many.
      const bool rounds = isa == CpuIsa::amx && c.dtype == DType::bf16;
      const double rounding = rounds ? 5 * std::ldexp(1.0, -8) : 0.0;
      CHECK(worst < 10 * (std::sqrt(static_cast<double>(c.head_dim)) + 8) * kEpsilon + rounding);
    });
  }
}

TEST_CASE("paged attention gives a token the same bits however it is computed") {
  for (const PagedCase& c : tried<PagedCase>(kPagedCases, 5, kCrossBuilt)) {
    INFO("heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " " << name(c.dtype) << " window "
                  << c.window);
    for_each_isa([&](CpuIsa) {
      const CpuWorld world(c, 7);
      const Guarded whole = world.whole();
      const int64_t row = c.heads * c.head_dim;
      {
        INFO("pages in another order");
        CHECK(CpuWorld(c, 99).whole().same_bits(whole));
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
      CHECK(world.last_tokens_alike(whole));
    });
  }
}

TEST_CASE("sequences that share pages have the bits that each has alone") {
  const PagedCase shared_cases[] = {{9, 3, 64, {800, 790, 600, 530, 300, 800, 40}, DType::f16},
                                    {4, 2, 20, {800, 790, 600, 530, 300, 800, 40}, DType::q8_0, 350, 3.0f, true},
                                    {4, 1, 33, {800, 790, 600, 530, 300, 800, 40}, DType::bf16}};
  for (const PagedCase& c : shared_cases) {
    INFO("heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " " << name(c.dtype));
    for_each_isa([&](CpuIsa) {
      CpuWorld world(c, 7);
      const auto share = [&](int64_t s, int64_t of, int64_t tokens) {
        const auto page = [&](int64_t sequence) { return world.table.begin() + sequence * world.pages_per_sequence; };
        std::copy_n(page(of), tokens / kPageTokens, page(s));
      };
      share(1, 0, 512);
      share(5, 1, 768);  // a branch of a branch
      share(2, 0, 512);
      share(3, 0, 400);  // which ends within a segment
      share(4, 0, 256);
      const int64_t row = c.heads * c.head_dim;
      const std::vector<int64_t> one_each(7, 1), few_each(7, 3), uneven = {1, 1, 150, 1, 100, 2, 40};
      for (const std::vector<int64_t>& counts : {one_each, few_each, uneven}) {
        std::vector<int64_t> from;
        for (size_t s = 0; s < counts.size(); ++s) from.push_back(c.contexts[s] - counts[s]);
        Guarded alone(world.tokens * row);
        for (size_t s = 0; s < counts.size(); ++s)
          world.attend(alone, {static_cast<int64_t>(s)}, {from[s]}, {c.contexts[s]});
        for (int members : {1, 2, 5}) {
          const Threads threads(members);
          INFO(counts[2] << " new tokens, " << members << " threads");
          Guarded together(world.tokens * row);
          world.attend(together, world.all_sequences(), from, c.contexts);
          CHECK(together.same_bits(alone));
        }
      }
    });
  }
}

TEST_CASE("a freed page before the window is not touched") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    INFO(name(dtype));
    const PagedCase c{4, 2, 16, {600}, dtype, 100};
    for_each_isa([&](CpuIsa) {
      CpuWorld world(c, 0);
      Guarded kept(world.tokens * 64), freed(world.tokens * 64);
      world.attend(kept, {0}, {599}, {600});
      for (int64_t page = 0; page < (600 - 100) / kPageTokens; ++page) world.table[static_cast<size_t>(page)] = -1;
      world.attend(freed, {0}, {599}, {600});
      CHECK(std::memcmp(kept.data() + 599 * 64, freed.data() + 599 * 64, 64 * sizeof(float)) == 0);
    });
  }
}

TEST_CASE("an infinite value of a later token does not reach an earlier one") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    INFO(name(dtype));
    const PagedCase c{4, 2, 16, {40}, dtype};
    for_each_isa([&](CpuIsa) {
      CpuWorld world(c, 0);
      const Guarded clean = world.whole();
      // Element (page 1, head 0, token 4, component 0): position 20.
      const size_t element = 2 * 16 * 16 + 4 * 16;
      const float infinity = std::numeric_limits<float>::infinity();
      const uint16_t rounded = f32_to_bf16(infinity);
      if (dtype == DType::f32)
        std::memcpy(world.v_pages.data() + element * sizeof(float), &infinity, sizeof infinity);
      else
        std::memcpy(world.v_pages.data() + element * sizeof(uint16_t), &rounded, sizeof rounded);
      const Guarded spoilt = world.whole();
      CHECK(std::memcmp(clean.data(), spoilt.data(), 20 * 64 * sizeof(float)) == 0);
      CHECK_FALSE(std::isfinite(spoilt[20 * 64]));
    });
  }
}

TEST_CASE("write_kv skips slot -1, touches its own slot alone and rounds to nearest") {
  constexpr int64_t kHeads = 3;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    for (const int64_t head_dim : {5, 32, 80})
      for_each_isa([&](CpuIsa) {
        INFO(name(dtype) << ", head dim " << head_dim);
        const int64_t row = kHeads * head_dim, head_bytes = page_head_bytes(dtype, head_dim);
        const std::vector<float> k = random_floats(2 * row, 1), v = random_floats(2 * row, 2);
        const std::vector<float> stored_k = stored(k, dtype, head_dim), stored_v = stored(v, dtype, head_dim);
        std::vector<uint8_t> keys(static_cast<size_t>(2 * kHeads * head_bytes), 0xee), values = keys;
        const int32_t slots[] = {-1, 16 + 9};
        kernel::write_kv(Cpu{}, {keys.data(), values.data(), dtype, kHeads * head_bytes}, {k.data(), row},
                         {v.data(), row}, slots, 2, kHeads, head_dim);
        const int64_t blocks = dtype == DType::q8_0 ? (head_dim + kCacheBlock - 1) / kCacheBlock : 0;
        const int64_t element = dtype == DType::q8_0 ? 1 : info(dtype).block_bytes;
        for (const std::vector<uint8_t>* page : {&keys, &values})
          CHECK(std::count_if(page->begin(), page->end(), [](uint8_t byte) { return byte != 0xee; }) <=
                kHeads * (head_dim * element + blocks * 2));
        for (int64_t h = 0; h < kHeads; ++h)
          for (int64_t d = 0; d < head_dim; ++d) {
            const auto read = [&](const std::vector<uint8_t>& pages, int64_t at) {
              const uint8_t* head = pages.data() + (kHeads + h) * head_bytes;
              uint16_t half = 0;
              float value = 0;
              if (dtype == DType::f32) {
                std::memcpy(&value, head + at * 4, 4);
              } else if (dtype == DType::q8_0) {
                std::memcpy(&half, head + head_dim * 16 + (d / kCacheBlock * 16 + 9) * 2, 2);
                value = f16_to_f32(half) * static_cast<float>(static_cast<int8_t>(head[at]));
              } else {
                std::memcpy(&half, head + at * 2, 2);
                value = dtype == DType::f16 ? f16_to_f32(half) : bf16_to_f32(half);
              }
              return value;
            };
            CHECK(read(keys, d * 16 + 9) == stored_k[static_cast<size_t>(row + h * head_dim + d)]);
            CHECK(read(values, 9 * head_dim + d) == stored_v[static_cast<size_t>(row + h * head_dim + d)]);
          }
      });
}

TEST_CASE("a q8_0 block is off by half a step at most, and nothing but zeros is exact") {
  std::vector<float> x = random_floats(20 * 32, 5);
  for (size_t i = 0; i < 32; ++i) x[i] = 0.0f;
  for (size_t i = 32; i < 64; ++i) x[i] *= 1e4f;
  for (size_t i = 64; i < 96; ++i) x[i] *= 1e-3f;
  const std::vector<float> held = stored(x, DType::q8_0, 32);
  for (size_t block = 0; block < 20; ++block) {
    float most = 0;
    for (size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(x[block * 32 + i]));
    for (size_t i = 0; i < 32; ++i)
      // Half a step; the scale is rounded to f16, by 2^-11 of it (of the largest multiple, 127, a sixteenth of a step).
      CHECK(std::abs(x[block * 32 + i] - held[block * 32 + i]) <= most / 127.0f * (0.5f + 127.0f * 0x1p-11f));
  }
}

TEST_CASE("a key that is not finite spoils the queries that see it and no others, in q8_0 too") {
  const PagedCase c{4, 2, 16, {40}, DType::q8_0};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for_each_isa([&](CpuIsa) {
      CpuWorld world(c, 0);
      const Guarded clean = world.whole();
      std::vector<float> k(32, 0.0f), v(32, 0.0f);
      k[3] = bad;
      const int32_t slot = 20;
      kernel::write_kv(Cpu{}, world.layer(), {k.data(), 32}, {v.data(), 32}, &slot, 1, 2, 16);
      const Guarded spoilt = world.whole();
      CHECK(std::memcmp(clean.data(), spoilt.data(), 20 * 64 * sizeof(float)) == 0);
      CHECK_FALSE(std::isfinite(spoilt[20 * 64]));
    });
}
