// Packed weights on CUDA against the CPU's.
#include <cmath>

#include "kernels/embedding.h"
#include "kernels/packed_linear.h"
#include "tests/cuda/cuda_cases.h"
#include "tests/kernels/linear_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// The same weight in both packed forms.
struct BothPacked {
  Weight cpu;
  Aligned packed;
  BothPacked(DType type, int64_t n, int64_t k, unsigned seed)
      : cpu(type, n, k, seed), packed(kernel::packed_bytes(kOnDevice, type, n, k)) {
    kernel::pack(kOnDevice, packed.data(), cpu.source.data(), type, n, k);
  }
  PackedMatrix matrix() { return {cpu.dtype, cpu.rows, cpu.columns, packed.data()}; }
};

int64_t columns_of(DType type, int64_t blocks) {
  return info(type).block_size == 1 ? blocks * 37 : blocks * info(type).block_size;
}

}  // namespace

TEST_CASE("rows packed on CUDA widen to the CPU's bits, and so do embedded ones") {
  for (const DType type : kWeightDTypes)
    for (const int64_t blocks : {1, 3}) {
      INFO(name(type) << " " << blocks);
      BothPacked w(type, 19, columns_of(type, blocks), 5);
      const int64_t k = w.cpu.columns;
      Guarded expected(19 * k), y(19 * k);
      kernel::unpack_rows(Cpu{}, expected.data(), w.cpu.matrix(), 0, 19);
      kernel::unpack_rows(kOnDevice, y.data(), w.matrix(), 0, 19);
      CHECK((y.same_bits(expected) && y.intact()));

      const std::vector<int32_t> ids = {18, 0, 7, 8, 18};
      Guarded chosen(5 * k), embedded(5 * k);
      kernel::embedding(Cpu{}, chosen.data(), w.cpu.matrix(), ids.data(), 5);
      kernel::embedding(kOnDevice, embedded.data(), w.matrix(), ids.data(), 5);
      CHECK((embedded.same_bits(chosen) && embedded.intact()));
    }
}

namespace {

struct Outputs {
  Guarded y;
  // x ends with its last token, for AddressSanitizer to see.
  Outputs(BothPacked& w, const std::vector<float>& x, int64_t ldx, int64_t m, int64_t ldy, Arithmetic arithmetic)
      : y(m * ldy) {
    const LinearPart part{w.matrix(), w.cpu.bias.data(), y.data()};
    const size_t bytes = kernel::packed_linear_scratch_bytes(kOnDevice, &part, 1, m, arithmetic);
    Aligned scratch(bytes);
    std::fill_n(scratch.data(), bytes, 0xff);
    const std::vector<float> own(x.begin(), x.begin() + (m - 1) * ldx + w.cpu.columns);
    kernel::packed_linear(kOnDevice, &part, 1, ldy, {own.data(), ldx}, m, arithmetic, scratch.data());
  }
};

double rounded(Arithmetic arithmetic, float v) {
  return static_cast<double>(arithmetic == Arithmetic::f32 ? v : bf16_to_f32(f32_to_bf16(v)));
}

}  // namespace

// Against double on the values that each arithmetic means: a sum of K terms in any order is off by K - 1 halves of an
// ulp of the sum of magnitudes, a product by one, the bias by one.
TEST_CASE("linears on CUDA multiply every dtype, alone and among many, by the same bits") {
  for (const DType type : kWeightDTypes)
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
      const int64_t n = 21, k = columns_of(type, info(type).block_size == 32 ? 5 : 1), most = 70, ldx = k + 3,
                    ldy = n + 2;
      INFO(name(type) << " " << name(arithmetic) << " " << k);
      BothPacked w(type, n, k, 7);
      const std::vector<float> x = random_floats(most * ldx, 3);
      std::vector<float> wide(static_cast<size_t>(n * k));
      kernel::unpack_rows(Cpu{}, wide.data(), w.cpu.matrix(), 0, n);
      const Outputs many(w, x, ldx, most, ldy, arithmetic);
      double worst = 0;
      for (int64_t token = 0; token < most; ++token)
        for (int64_t i = 0; i < ldy; ++i) {
          const float found = many.y[token * ldy + i];
          if (i >= n) {
            CHECK(std::isnan(found));
            continue;
          }
          double sum = w.cpu.bias[static_cast<size_t>(i)], magnitude = std::abs(sum);
          for (int64_t c = 0; c < k; ++c) {
            const double term = rounded(arithmetic, wide[static_cast<size_t>(i * k + c)]) *
                                rounded(arithmetic, x[static_cast<size_t>(token * ldx + c)]);
            sum += term;
            magnitude += std::abs(term);
          }
          worst = worse(worst, std::abs(found - sum) / (kEpsilon * magnitude));
        }
      CHECK(worst <= static_cast<double>(k + 2));
      CHECK(many.y.intact());
      for (const int64_t m : {1, 3, 8, 9}) {
        const Outputs few(w, x, ldx, m, ldy, arithmetic);
        bool same = few.y.intact();
        for (int64_t i = 0; i < m * ldy; ++i) same = same && (i % ldy >= n || few.y[i] == many.y[i]);
        CHECK(same);
      }
    }
}

// Segments of more than one tile, the last of them short: K = 1,060 is 17 tiles, nine segments of two tiles and of one.
TEST_CASE("linears on CUDA cut a long K into the same segments for one token and for many") {
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
    const int64_t n = 5, k = 1060, most = 130;
    BothPacked w(DType::bf16, n, k, 7);
    const std::vector<float> x = random_floats(most * k, 3);
    const Outputs many(w, x, k, most, n, arithmetic);
    for (const int64_t m : {1, 8, 64}) {
      const Outputs few(w, x, k, m, n, arithmetic);
      bool same = few.y.intact();
      for (int64_t i = 0; i < m * n; ++i) same = same && few.y[i] == many.y[i];
      CHECK(same);
    }
  }
}

TEST_CASE("linears on CUDA take parts of several dtypes, and int8 as bf16 where weights are quantised") {
  const int64_t k = 256, ldy = 20 + 33 + 7;
  BothPacked q(DType::q4_k, 20, k, 1), v(DType::q6_k, 33, k, 2), f(DType::q4_k, 7, k, 3);
  for (const int64_t m : {2, 11}) {
    const std::vector<float> x = random_floats(m * k, 3);
    Guarded y(m * ldy);
    const LinearPart parts[] = {{q.matrix(), q.cpu.bias.data(), y.data()},
                                {v.matrix(), nullptr, y.data() + 20},
                                {f.matrix(), f.cpu.bias.data(), y.data() + 53}};
    Aligned scratch(kernel::packed_linear_scratch_bytes(kOnDevice, parts, 3, m, Arithmetic::int8));
    kernel::packed_linear(kOnDevice, parts, 3, ldy, {x.data(), k}, m, Arithmetic::int8, scratch.data());
    CHECK(y.intact());
    BothPacked* const weights[] = {&q, &v, &f};
    const int64_t at[] = {0, 20, 53};
    for (int p = 0; p < 3; ++p) {
      std::vector<float> none(33);
      if (p == 1) weights[p]->cpu.bias = none;
      const int64_t n = weights[p]->cpu.rows;
      const Outputs alone(*weights[p], x, k, m, n, Arithmetic::bf16);
      for (int64_t i = 0; i < m * n; ++i) CHECK(alone.y[i] == y[i / n * ldy + at[p] + i % n]);
    }
  }
}

TEST_CASE("linears on CUDA give the same bits in every order of threads and of copies") {
  const int64_t n = 37, k = 320, most = 70;
  BothPacked w(DType::q4_0, n, k, 7);
  const std::vector<float> x = random_floats(most * k, 3);
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16})
    for (const int64_t m : {int64_t{3}, int64_t{20}, most}) {
      const Outputs first(w, x, k, m, n, arithmetic);
      simt::in_every_schedule([&] { CHECK(Outputs(w, x, k, m, n, arithmetic).y.same_bits(first.y)); });
    }
}

TEST_CASE("a token's outputs on CUDA are the same bits beside none, 254, 255 and 256 others") {
  const int64_t n = 3, k = 64, most = 257;
  BothPacked w(DType::q8_0, n, k, 7);
  const std::vector<float> x = random_floats(most * k, 3);
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
    const Outputs all(w, x, k, most, n, arithmetic);
    for (const int64_t m : {1, 255, 256}) {
      const Outputs some(w, x, k, m, n, arithmetic);
      CHECK(std::equal(some.y.data(), some.y.data() + m * n, all.y.data()));
    }
  }
}
