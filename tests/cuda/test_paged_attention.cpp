// Attention over the paged cache of CUDA, and the write into it.
#include <cmath>

#include "tests/cuda/cuda_cases.h"
#include "tests/kernels/paged_world.h"

using namespace lathe;
using namespace lathe::test;

namespace {

using CudaWorld = World<Cuda>;

// More rows than a tile has, and fewer; segments and chunks that end inside of the context and at its end; heads of
// several pieces and of a part of one, of which some pack into 16 bytes and some do not.
const PagedCase kCudaCases[] = {
    {4, 2, 16, {1, 5, 40}},
    {3, 1, 64, {70, 20}, DType::f16},
    {3, 1, 80, {257}, DType::bf16},
    {2, 2, 7, {33, 280}},
    {4, 4, 1, {18}},
    {8, 1, 32, {100}, DType::f16, 24},
    {2, 1, 12, {530}, DType::f32, 300},
    {4, 2, 20, {90}, DType::bf16, 1},
    {40, 2, 64, {9, 30}, DType::bf16},
    {2, 1, 128, {270}, DType::bf16, 200, 3.0f, true},
    {2, 2, 7, {33, 70}, DType::bf16, 40},
    {4, 2, 16, {70}, DType::f32, 0, 5.0f},
    {4, 4, 16, {64, 31}, DType::f32, 0, 0.0f, true},
    {6, 2, 16, {80}, DType::f16, 40, 3.0f, true},
    {40, 2, 64, {9}, DType::q8_0},
    {4, 2, 16, {40, 257}, DType::q8_0},
    {7, 1, 80, {30}, DType::q8_0},
    {2, 2, 7, {33, 300}, DType::q8_0, 100},
    {2, 1, 256, {20}, DType::bf16},
    {4, 1, 200, {20}, DType::q8_0, 7, 3.0f, true},
};

std::string case_name(const PagedCase& c) {
  return std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) + " heads of " + std::to_string(c.head_dim) + ", " +
         std::string(name(c.dtype)) + ", window " + std::to_string(c.window);
}

}  // namespace

TEST_CASE("paged attention on CUDA agrees with softmax in double") {
  for (const PagedCase& c : kCudaCases) {
    INFO(case_name(c));
    const CudaWorld world(c, 7);
    const Guarded out = world.whole();
    double worst = 0;
    for (size_t s = 0; s < c.contexts.size(); ++s)
      for (int64_t i = 0; i < c.contexts[s]; i += i < 20 ? 1 : 13)
        for (int64_t h = 0; h < c.heads; ++h) {
          const std::vector<double> expected = world.expected(static_cast<int64_t>(s), i, h);
          for (int64_t d = 0; d < c.head_dim; ++d) {
            const double error =
                std::abs(static_cast<double>(out[((world.start[s] + i) * c.heads + h) * c.head_dim + d]) -
                         expected[static_cast<size_t>(d)]);
            worst = worse(worst, error);
          }
        }
    // As in tests/kernels/test_paged_attention.cpp, with AMX where products are in bf16.
    const double rounding = c.dtype == DType::bf16 && c.head_dim <= kernel::kBf16HeadDim ? 5 * 0x1p-8 : 0.0;
    CHECK(worst < 10 * (std::sqrt(static_cast<double>(c.head_dim)) + 8) * kEpsilon + rounding);
  }
}

TEST_CASE("paged attention on CUDA gives a token the same bits decoded or prefilled, whatever its neighbours") {
  for (const PagedCase& c : kCudaCases) {
    INFO(case_name(c));
    const CudaWorld world(c, 7);
    const Guarded whole = world.whole();
    if (c.contexts.size() > 1) CHECK(CudaWorld(c, 99).whole().same_bits(whole));  // pages in another order
    const int64_t row = c.heads * c.head_dim;
    for (const int64_t chunk : {1, 99}) {
      INFO("in chunks of " << chunk << ", sequences alone");
      for (int64_t s : world.all_sequences()) {
        const int64_t context = c.contexts[static_cast<size_t>(s)];
        Guarded out(world.tokens * row);
        for (int64_t i = context - 1 - (context - 1) % chunk; i >= 0; i -= chunk * (1 + 100 / chunk)) {
          const int64_t to = std::min(i + chunk, context), at = (world.start[static_cast<size_t>(s)] + i) * row;
          world.attend(out, {s}, {i}, {to});
          CHECK(std::memcmp(out.data() + at, whole.data() + at, static_cast<size_t>((to - i) * row) * sizeof(float)) ==
                0);
        }
      }
    }
    CHECK(world.last_tokens_alike(whole));
  }
}

TEST_CASE("paged attention on CUDA is the same in every schedule of its threads") {
  for (const DType dtype : {DType::q8_0, DType::bf16}) {
    const CudaWorld world({3, 1, 24, {70, 3}, dtype}, 7);
    const Guarded expected = world.whole();
    simt::in_every_schedule([&] { CHECK(world.whole().same_bits(expected)); });
  }
}

TEST_CASE("pages of a cache may begin anywhere on CUDA") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    const PagedCase c{2, 1, 32, {20}, dtype};
    CHECK(CudaWorld(c, 7, 4).whole().same_bits(CudaWorld(c, 7).whole()));
  }
}

TEST_CASE("a freed page before the window is not touched on CUDA") {
  for (const DType dtype : {DType::f32, DType::q8_0, DType::bf16}) {
    CudaWorld world({4, 2, 16, {600}, dtype, 100}, 0);
    Guarded kept(world.tokens * 64), freed(world.tokens * 64);
    const auto both = [&](int64_t from, Guarded& out) { world.attend(out, {0}, {from}, {600}); };
    for (const int64_t from : {599, 590}) {
      both(from, kept);
      const std::vector<int32_t> table = world.table;
      for (int64_t page = 0; page < (from + 1 - 100) / kPageTokens; ++page) world.table[static_cast<size_t>(page)] = -1;
      both(from, freed);
      world.table = table;
      CHECK(std::memcmp(kept.data() + from * 64, freed.data() + from * 64, (600 - from) * 64 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("padding is no work on CUDA: sequences without tokens, rows without keys, tokens behind the last sequence") {
  const int64_t heads = 2, dim = 8, row = heads * dim;
  // Segments are units; a block has all segments.
  for (const auto& [n, dtype] : {std::pair{5, DType::f32}, {300, DType::f32}, {300, DType::bf16}}) {
    INFO(n << " tokens, two of them real");
    const std::vector<float> k = random_floats(2 * row, 1), q = random_floats(n * row, 3),
                             v = stored(random_floats(2 * row, 2), dtype, dim);
    const int64_t page_bytes = heads * page_head_bytes(dtype, dim);
    std::vector<uint8_t> pages(static_cast<size_t>(2 * page_bytes), 0xff);  // NaN
    const CacheLayer layer{pages.data(), pages.data() + page_bytes, dtype, page_bytes};
    std::vector<int32_t> slots(static_cast<size_t>(n), -1);
    slots[0] = 0, slots[1] = 1;
    std::vector<float> all_k(static_cast<size_t>(n * row)), all_v = all_k;
    std::copy(k.begin(), k.end(), all_k.begin());
    std::copy(v.begin(), v.end(), all_v.begin());
    kernel::write_kv(Cuda{}, layer, {all_k.data(), row}, {all_v.data(), row}, slots.data(), n, heads, dim);
    const std::vector<int32_t> seq_start{0, 2, 2, 3, 4}, context{2, 0, 0, 0}, table{0, -1, -1, -1};
    Guarded out(n * row);
    Aligned scratch(kernel::paged_attention_scratch_bytes(Cuda{}, dtype, n, heads, dim, 300));
    kernel::paged_attention(Cuda{}, out.data(), {q.data(), row}, layer,
                            {seq_start.data(), context.data(), table.data(), 4, 1, n, 300}, heads, heads, dim,
                            {0.5f, 0, 0.0f, nullptr}, scratch.data());
    CHECK(out.intact());
    for (int64_t i = 0; i < row; ++i) {
      CHECK(out[i] == v[static_cast<size_t>(i)]);  // one key: its value
      CHECK(std::isfinite(out[row + i]));
      CHECK((out[2 * row + i] == 0.0f && out[3 * row + i] == 0.0f));  // no key
    }
    for (int64_t i = 4 * row; i < n * row; ++i) CHECK(std::isnan(out[i]));  // as it was
  }
}

TEST_CASE("an infinite value of a token reaches neither earlier ones nor those whose window it left on CUDA") {
  CudaWorld world({4, 2, 16, {90}, DType::f32, 30}, 0);
  const Guarded clean = world.whole();
  std::vector<float> k(32, 0.0f), v(32, std::numeric_limits<float>::infinity());
  const int32_t slot = 55;  // in a tile of 64 keys that ends before the last rows
  kernel::write_kv(Cuda{}, world.layer(), {k.data(), 32}, {v.data(), 32}, &slot, 1, 2, 16);
  const Guarded spoilt = world.whole();
  for (int64_t i = 0; i < 90 * 64; ++i) {
    const bool sees = i / 64 >= 55 && i / 64 < 85;
    REQUIRE((sees ? !std::isfinite(spoilt[i]) : spoilt[i] == clean[i]));
  }
}

// Blocks of zeros, of values whose scale f16 rounds down to 2^-24, of values whose scale is 0, and with an infinity.
TEST_CASE("write_kv on CUDA in q8_0 clamps to the scale as it is stored, and keeps what is not finite in its block") {
  const int64_t dim = 4 * kCacheBlock, bytes = page_head_bytes(DType::q8_0, dim);
  std::vector<float> x(static_cast<size_t>(dim));
  for (int64_t i = 0; i < kCacheBlock; ++i) {
    const float sign = i % 2 == 0 ? 1.0f : -1.0f;
    x[static_cast<size_t>(kCacheBlock + i)] = sign * 0x1p-24f * static_cast<float>(6 * i);  // up to 186 steps
    x[static_cast<size_t>(2 * kCacheBlock + i)] = sign * 1e-10f;
    x[static_cast<size_t>(3 * kCacheBlock + i)] = i == 5 ? INFINITY : sign;
  }
  std::vector<uint8_t> keys(static_cast<size_t>(bytes), 0xee), values = keys;
  const int32_t slot = 3;
  kernel::write_kv(kOnDevice, {keys.data(), values.data(), DType::q8_0, bytes}, {x.data(), dim}, {x.data(), dim}, &slot,
                   1, 1, dim);
  const uint8_t *steps = keys.data() + slot * dim, *scales = keys.data() + kPageTokens * dim + slot * 4 * 2;
  for (int64_t block = 0; block < 4; ++block) {
    uint16_t half = 0;
    std::memcpy(&half, scales + 2 * block, 2);
    const float scale = f16_to_f32(half);
    CHECK((block == 3 ? std::isnan(scale) : scale == (block == 1 ? 0x1p-24f : 0.0f)));
    for (int64_t i = 0; i < kCacheBlock; ++i) {
      const int64_t exact = (i % 2 == 0 ? 6 : -6) * i, step = static_cast<int8_t>(steps[block * kCacheBlock + i]);
      CHECK(step == (block == 1 ? std::clamp<int64_t>(exact, -127, 127) : 0));
    }
  }
}

TEST_CASE(
    "write_kv on CUDA stores a head's components side by side, rounded as on the CPU, and touches no other slot") {
  constexpr int64_t kHeads = 3, kOffset = 9;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    for (const int64_t head_dim : {5, 32, 80}) {
      INFO(name(dtype) << ", head dim " << head_dim);
      const int64_t row = kHeads * head_dim, head_bytes = page_head_bytes(dtype, head_dim);
      const std::vector<float> k = random_floats(2 * row, 1), v = random_floats(2 * row, 2);
      const std::vector<float> stored_k = stored(k, dtype, head_dim), stored_v = stored(v, dtype, head_dim);
      std::vector<uint8_t> keys(static_cast<size_t>(2 * kHeads * head_bytes), 0xee), values = keys;
      const int32_t slots[] = {-1, 16 + kOffset};
      kernel::write_kv(Cuda{}, {keys.data(), values.data(), dtype, kHeads * head_bytes}, {k.data(), row},
                       {v.data(), row}, slots, 2, kHeads, head_dim);
      const int64_t blocks = (head_dim + kCacheBlock - 1) / kCacheBlock;
      const int64_t element = dtype == DType::q8_0 ? 1 : info(dtype).block_bytes;
      for (int64_t h = 0; h < kHeads; ++h)
        for (const bool is_key : {true, false}) {
          std::vector<uint8_t>& pages = is_key ? keys : values;
          uint8_t *head = pages.data() + (kHeads + h) * head_bytes, *elements = head + kOffset * head_dim * element,
                  *scales = head + head_dim * 16 + kOffset * blocks * 2;
          for (int64_t d = 0; d < head_dim; ++d) {
            uint16_t half = 0;
            float value = 0;
            if (dtype == DType::f32) {
              std::memcpy(&value, elements + d * 4, 4);
            } else if (dtype == DType::q8_0) {
              std::memcpy(&half, scales + d / kCacheBlock * 2, 2);
              value = f16_to_f32(half) * static_cast<float>(static_cast<int8_t>(elements[d]));
            } else {
              std::memcpy(&half, elements + d * 2, 2);
              value = dtype == DType::f16 ? f16_to_f32(half) : bf16_to_f32(half);
            }
            CHECK(value == (is_key ? stored_k : stored_v)[static_cast<size_t>(row + h * head_dim + d)]);
          }
          std::fill_n(elements, head_dim * element, uint8_t{0xee});
          if (dtype == DType::q8_0) std::fill_n(scales, blocks * 2, uint8_t{0xee});
        }
      for (const std::vector<uint8_t>* pages : {&keys, &values})
        CHECK(std::count(pages->begin(), pages->end(), 0xee) == std::ssize(*pages));
    }
}
