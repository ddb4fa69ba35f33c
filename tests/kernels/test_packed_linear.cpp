#include <cmath>
#include <cstring>
#include <random>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/linear_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// To a whole number of steps of the largest / 127, 32 by 32.
void quantise_rows_of_32(std::vector<float>& v) {
  for (size_t b = 0; b < v.size(); b += 32) {
    float amax = 0;
    for (size_t i = b; i < b + 32; ++i) amax = std::max(amax, std::abs(v[i]));
    const float inverse = amax > 0 ? 127.0f / amax : 0.0f;
    for (size_t i = b; i < b + 32; ++i) v[i] = std::nearbyint(v[i] * inverse) * (amax / 127.0f);
  }
}

// What the arithmetic makes of an activation row: the value that meets the weights.
std::vector<float> rounded(const float* x, int64_t columns, Arithmetic arithmetic, DType dtype) {
  std::vector<float> v(x, x + columns);
  if (arithmetic == Arithmetic::bf16)
    for (float& value : v) value = bf16_to_f32(f32_to_bf16(value));
  if (arithmetic == Arithmetic::int8 && is_quantised(dtype)) quantise_rows_of_32(v);
  if (arithmetic == Arithmetic::int16 && is_quantised(dtype)) {
    std::vector<float> rest(v.size());
    std::vector<float> first = v;
    quantise_rows_of_32(first);
    for (size_t i = 0; i < v.size(); ++i) rest[i] = v[i] - first[i];
    quantise_rows_of_32(rest);
    for (size_t i = 0; i < v.size(); ++i) v[i] = first[i] + rest[i];
  }
  return v;
}

struct Size {
  int64_t rows, columns;
};
constexpr Size kSizes[] = {{1, 32}, {16, 96}, {33, 172}, {70, 545}, {48, 1056}, {5, 1}, {129, 64}, {37, 768}};

template <class F>
void for_each_weight(F&& f) {
  for (DType dtype : kWeightDTypes)
    for (const Size& size : kSizes) {
      if (size.columns % info(dtype).block_size != 0) continue;
      INFO(name(dtype) << " weight (" << size.rows << ", " << size.columns << ")");
      Weight w(dtype, size.rows, size.columns, static_cast<unsigned>(size.rows));
      f(w);
    }
}

}  // namespace

TEST_CASE("packed linear agrees with a product in double") {
  for_each_weight([&](Weight& w) {
    constexpr int64_t kTokens = 14;
    const int64_t ldx = w.columns + 3, ldy = w.rows + 5;
    const std::vector<float> x = random_floats(kTokens * ldx, 5);
    std::vector<float> row(static_cast<size_t>(w.columns));
    for (Arithmetic arithmetic : kArithmetics) {
      INFO("arithmetic " << static_cast<int>(arithmetic));
      // The product of what the arithmetic rounds weights and activations to, and the sum of its magnitudes.
      std::vector<double> expected, magnitude;
      for (int64_t t = 0; t < kTokens; ++t) {
        const std::vector<float> activations = rounded(x.data() + t * ldx, w.columns, arithmetic, w.dtype);
        for (int64_t r = 0; r < w.rows; ++r) {
          dequantise_row(row.data(), w.row(r), w.dtype, w.columns);
          double sum = w.bias[static_cast<size_t>(r)], size = std::abs(sum);
          for (int64_t k = 0; k < w.columns; ++k) {
            float weight = row[static_cast<size_t>(k)];
            if (arithmetic == Arithmetic::bf16) weight = bf16_to_f32(f32_to_bf16(weight));
            const double product = static_cast<double>(weight) * activations[static_cast<size_t>(k)];
            sum += product;
            size += std::abs(product);
          }
          expected.push_back(sum);
          magnitude.push_back(size);
        }
      }
      for_each_isa([&](CpuIsa) {
        Guarded y(kTokens * ldy);
        multiply(w, y, ldy, x.data(), ldx, kTokens, arithmetic);
        CHECK(y.intact());
        double worst = 0;
        for (int64_t t = 0; t < kTokens; ++t) {
          for (int64_t r = 0; r < w.rows; ++r) {
            const size_t at = static_cast<size_t>(t * w.rows + r);
            const double error = std::abs(y[t * ldy + r] - expected[at]) / magnitude[at];
            worst = worse(worst, error);
          }
          for (int64_t r = w.rows; r < ldy; ++r) CHECK(std::isnan(y[t * ldy + r]));  // the gap between tokens
        }
        // K additions (twice as many roundings without fma), each off by at most epsilon of a partial sum, which the
        // sum of magnitudes bounds; on average far less, so the bound is not tight for large K. The int8 form rounds
        // the scale, the product of the scales and the minimum's factor as well.
        CHECK(worst <= (2.0 * static_cast<double>(w.columns) + 8) * kEpsilon);
      });
    }
  });
}

TEST_CASE("packed linear gives a token the same bits alone and among others") {
  for_each_weight([&](Weight& w) {
    constexpr int64_t kTokens = 33;
    const std::vector<float> x = random_floats(kTokens * w.columns, 5);
    for (Arithmetic arithmetic : kArithmetics)
      for_each_isa([&](CpuIsa) {
        INFO("arithmetic " << static_cast<int>(arithmetic));
        Guarded all(kTokens * w.rows), alone(kTokens * w.rows), few(kTokens * w.rows);
        multiply(w, all, w.rows, x.data(), w.columns, kTokens, arithmetic);
        for (int64_t t = 0; t < kTokens; ++t) {
          Guarded y(w.rows);
          multiply(w, y, w.rows, x.data() + t * w.columns, w.columns, 1, arithmetic);
          std::copy(y.data(), y.data() + w.rows, alone.data() + t * w.rows);
        }
        for (int64_t t = 0, m = 2; t < kTokens; t += m, m = std::min<int64_t>(m + 3, kTokens - t)) {
          Guarded y(m * w.rows);
          multiply(w, y, w.rows, x.data() + t * w.columns, w.columns, m, arithmetic);
          std::copy(y.data(), y.data() + m * w.rows, few.data() + t * w.rows);
        }
        CHECK(alone.same_bits(all));
        CHECK(few.same_bits(all));
      });
  });
}

TEST_CASE("packed linear gives the same bits with one thread and several, one part and several") {
  // Large enough to fork, many tokens over more than one block, dtypes mixed as GGUF files mix them.
  constexpr int64_t kTokens = 500, kColumns = 544;
  Weight parts[] = {Weight(DType::q4_1, 200, kColumns, 1), Weight(DType::q8_0, 72, kColumns, 2),
                    Weight(DType::f16, 72, kColumns, 3)};
  const int64_t ldy = 200 + 72 + 72;
  const std::vector<float> x = random_floats(kTokens * kColumns, 5);
  for (Arithmetic arithmetic : kArithmetics)
    for_each_isa([&](CpuIsa isa) {
      const int64_t m = isa == CpuIsa::portable ? 60 : kTokens;
      const LinearPart parts_of[] = {{parts[0].matrix()}, {parts[1].matrix()}, {parts[2].matrix()}};
      Aligned scratch(kernel::packed_linear_scratch_bytes(Cpu{}, parts_of, 3, m, arithmetic));
      Guarded one(m * ldy);
      int64_t column = 0;
      for (Weight& w : parts) {
        const Threads threads(1);
        const LinearPart part{w.matrix(), w.bias.data(), one.data() + column};
        kernel::packed_linear(Cpu{}, &part, 1, ldy, {x.data(), kColumns}, m, arithmetic, scratch.data());
        column += w.rows;
      }
      for (int members : {1, 2, 5}) {
        const Threads threads(members);
        Guarded together(m * ldy);
        const LinearPart all[] = {{parts[0].matrix(), parts[0].bias.data(), together.data()},
                                  {parts[1].matrix(), parts[1].bias.data(), together.data() + 200},
                                  {parts[2].matrix(), parts[2].bias.data(), together.data() + 272}};
        kernel::packed_linear(Cpu{}, all, 3, ldy, {x.data(), kColumns}, m, arithmetic, scratch.data());
        CHECK(together.intact());
        CHECK(together.same_bits(one));
      }
    });
}

TEST_CASE("int8 arithmetic has the same bits on every instruction set") {
  for (DType dtype : kWeightDTypes) {
    if (!is_quantised(dtype)) continue;
    Weight w(dtype, 40, 256, 9);
    // The extremes: every quant the least or the largest (in the formats of 256 columns every bit of the scales, too)
    // against activations of the largest magnitude, so that a 16-bit intermediate would saturate.
    for (int64_t r = 0; r < 8; ++r)
      for (int64_t b = 0; b < 256 / info(dtype).block_size; ++b) {
        uint8_t* block = w.row(r) + b * info(dtype).block_bytes;
        const auto bytes = static_cast<size_t>(info(dtype).block_bytes);
        const std::vector<uint8_t> before(block, block + bytes);
        std::memset(block, dtype == DType::q8_0 ? (r % 2 != 0 ? 0x80 : 0x7f) : r % 2 != 0 ? 0x00 : 0xff, bytes);
        for (const size_t at : factors_at(dtype)) std::memcpy(block + at, before.data() + at, 2);
      }
    kernel::pack(Cpu{}, w.packed.data(), w.source.data(), dtype, w.rows, w.columns);
    std::vector<float> x = random_floats(6 * 256, 5);
    for (int64_t i = 0; i < 512; ++i) x[static_cast<size_t>(i)] = i < 256 ? 1.0f : -1.0f;
    Guarded portable(6 * 40);
    for_each_isa([&](CpuIsa isa) {
      Guarded y(6 * 40);
      multiply(w, y, 40, x.data(), 256, 6, Arithmetic::int8);
      if (isa == CpuIsa::portable) std::copy(y.data(), y.data() + 6 * 40, portable.data());
      CHECK(y.same_bits(portable));
    });
  }
}

TEST_CASE("int8 arithmetic keeps zeros, tiny values and NaN apart") {
  Weight w(DType::q8_0, 16, 64, 9);
  for_each_isa([&](CpuIsa) {
    std::vector<float> x(3 * 64, 0.0f);
    for (size_t i = 0; i < 64; ++i) x[64 + i] = 1e-40f;
    x[128 + 5] = std::numeric_limits<float>::quiet_NaN();
    x[128 + 40] = std::numeric_limits<float>::infinity();
    Guarded y(3 * 16);
    multiply(w, y, 16, x.data(), 64, 3, Arithmetic::int8);
    for (int64_t r = 0; r < 16; ++r) {
      CHECK(y[r] == w.bias[static_cast<size_t>(r)]);
      CHECK(y[16 + r] == w.bias[static_cast<size_t>(r)]);
      CHECK(std::isnan(y[32 + r]));
    }
  });
}

TEST_CASE("packing loses nothing") {
  for_each_weight([&](Weight& w) {
    std::vector<float> stored(static_cast<size_t>(w.columns));
    for (int64_t r = 0; r < w.rows; ++r) {
      Guarded unpacked(w.columns);
      dequantise_row(stored.data(), w.row(r), w.dtype, w.columns);
      kernel::unpack_rows(Cpu{}, unpacked.data(), w.matrix(), r, 1);
      CHECK(unpacked.intact());
      CHECK(std::memcmp(stored.data(), unpacked.data(), stored.size() * sizeof(float)) == 0);
    }
  });
  // Quantised weights take no more memory than in the file, or two or four bytes of 256 columns more, for scales (and
  // minima) of six bits that become bytes.
  for (DType dtype : kWeightDTypes) {
    if (!is_quantised(dtype)) continue;
    const bool widened = dtype == DType::q3_k || dtype == DType::q4_k || dtype == DType::q5_k;
    const size_t more = widened ? 4 : dtype == DType::iq4_xs ? 2 : 0;
    CHECK(kernel::packed_bytes(Cpu{}, dtype, 576, 1536) == 576 * (bytes_of(dtype, 1536) + 1536 / 256 * more));
  }
}

TEST_CASE("packing refuses what has no packed form") {
  CHECK_THROWS_WITH(kernel::packed_bytes(Cpu{}, DType::q4_0, 4, 48),
                    Catch::Matchers::ContainsSubstring("multiple of 32"));
  CHECK_THROWS_WITH(kernel::packed_bytes(Cpu{}, DType::i32, 4, 48),
                    Catch::Matchers::ContainsSubstring("no packed form"));
  CHECK_THROWS_WITH(kernel::packed_bytes(Cpu{}, DType::f32, 0, 48),
                    Catch::Matchers::ContainsSubstring("at least one row"));
}
