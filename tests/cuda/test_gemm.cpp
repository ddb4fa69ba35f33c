// Products of training on CUDA against those of the CPU and against double; the laws of bits.
#include <cmath>

#include "kernels/gemm.h"
#include "tests/cuda/cuda_cases.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Operands between which every row has a few elements that are no part of it.
struct CudaProduct {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  int64_t gap = 3;
  int64_t lda = (transpose_a ? m : k) + gap, ldb = (transpose_b ? k : n) + gap;
  // They end with their last element, for AddressSanitizer to see.
  std::vector<float> a = stored(transpose_a ? k : m, transpose_a ? m : k, 1);
  std::vector<float> b = stored(transpose_b ? n : k, transpose_b ? k : n, 2);

  std::vector<float> stored(int64_t rows, int64_t columns, unsigned seed) const {
    return random_floats(rows == 0 ? 0 : (rows - 1) * (columns + gap) + columns, seed);
  }

  double a_at(int64_t i, int64_t l) const { return a[static_cast<size_t>(transpose_a ? l * lda + i : i * lda + l)]; }
  double b_at(int64_t l, int64_t j) const { return b[static_cast<size_t>(transpose_b ? j * ldb + l : l * ldb + j)]; }
  void run(float* c, int64_t ldc, bool accumulate, const GemmOptions<float>& options = {}) const {
    kernel::gemm<float>(kOnDevice, {c, ldc}, {a.data(), lda}, transpose_a, {b.data(), ldb}, transpose_b, m, n, k,
                        accumulate, options);
  }
};

double as_bf16(double v) { return static_cast<double>(bf16_to_f32(f32_to_bf16(static_cast<float>(v)))); }

// Single elements, tiles that are whole, short by one and long by one, several stages, no terms at all.
const CudaProduct kProducts[] = {
    {1, 1, 1, false, true},   {64, 64, 32, false, true, 0}, {65, 63, 33, true, false},     {13, 70, 17, false, false},
    {66, 12, 50, true, true}, {3, 7, 0, false, false},      {17, 20, 100, false, true, 4},
};

}  // namespace

// A sum of K products in any order is off by (K - 1) halves of an ulp of the sum of magnitudes at most, and each
// product and the last addition by one more.
TEST_CASE("gemm on CUDA is the product, in f32 and in bf16, with every transpose") {
  for (const CudaProduct& p : kProducts)
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16})
      for (const bool accumulate : {false, true}) {
        INFO(p.m << " x " << p.n << " x " << p.k << " " << p.transpose_a << p.transpose_b);
        const int64_t ldc = p.n + 2;
        Guarded c(p.m * ldc);
        const std::vector<float> before = random_floats(p.m * ldc, 3), bias = random_floats(p.n, 4);
        std::copy(before.begin(), before.end(), c.data());
        p.run(c.data(), ldc, accumulate, {.arithmetic = arithmetic, .bias = accumulate ? nullptr : bias.data()});
        double worst = 0;
        for (int64_t i = 0; i < p.m; ++i)
          for (int64_t j = 0; j < ldc; ++j) {
            if (j >= p.n) {
              CHECK(c[i * ldc + j] == before[static_cast<size_t>(i * ldc + j)]);
              continue;
            }
            double sum = accumulate ? before[static_cast<size_t>(i * ldc + j)] : bias[static_cast<size_t>(j)];
            double magnitude = std::abs(sum);
            for (int64_t l = 0; l < p.k; ++l) {
              double x = p.a_at(i, l), y = p.b_at(l, j);
              if (arithmetic == Arithmetic::bf16) x = as_bf16(x), y = as_bf16(y);
              sum += x * y;
              magnitude += std::abs(x * y);
            }
            worst = worse(worst, std::abs(c[i * ldc + j] - sum) / (kEpsilon * magnitude));
          }
        CHECK(worst <= static_cast<double>(p.k + 2));
        CHECK(c.intact());
      }
}

TEST_CASE("an element of gemm on CUDA has the same bits in tiles of either size and beside any others") {
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
    INFO(static_cast<int>(arithmetic));
    // 2 x 66 tiles of 128 are as many as an H100 has multiprocessors, and a piece of the rows has half of them; K is
    // one more than a stage.
    const bool f32 = arithmetic == Arithmetic::f32;
    const int64_t m = 130, n = 65 * 128 + 2, k = f32 ? 17 : 33;
    const CudaProduct p{m, n, k, true, f32};
    Guarded all(m * n), pieces(m * n), sums(m), sums_of_pieces(m);
    std::fill_n(sums.data(), m, 1.0f);
    std::fill_n(sums_of_pieces.data(), m, 1.0f);
    p.run(all.data(), n, false, {.arithmetic = arithmetic, .row_sums = sums.data()});
    for (const int64_t first : {0, 100})
      kernel::gemm<float>(kOnDevice, {pieces.data() + first * n, n}, {p.a.data() + first, p.lda}, true,
                          {p.b.data(), p.ldb}, p.transpose_b, first == 0 ? 100 : m - 100, n, k, false,
                          {.arithmetic = arithmetic, .row_sums = sums_of_pieces.data() + first});
    CHECK((pieces.same_bits(all) && sums_of_pieces.same_bits(sums)));
    CHECK((all.intact() && pieces.intact() && sums.intact() && sums_of_pieces.intact()));
  }
}

// The sums of K elements: off by K halves of an ulp of the sum of magnitudes at most, here below 4 K.
TEST_CASE("gemm on CUDA sums the rows of a transposed operand on its way") {
  for (const CudaProduct& p : kProducts) {
    if (!p.transpose_a) continue;
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
      Guarded c(p.m * p.n), sums(p.m);
      for (int64_t i = 0; i < p.m; ++i) sums.data()[i] = 1.0f;
      p.run(c.data(), p.n, false, {.arithmetic = arithmetic, .row_sums = sums.data()});
      for (int64_t i = 0; i < p.m; ++i) {
        double sum = 1;
        for (int64_t l = 0; l < p.k; ++l) sum += p.a_at(i, l);
        CHECK(std::abs(sums[i] - sum) <= kEpsilon * 4 * static_cast<double>(p.k * p.k));
      }
      CHECK((c.intact() && sums.intact()));
    }
  }
}

// Both sides are off by K + 1 halves of an ulp of the sum of magnitudes, and the CPU's exp, tanh and erf differ from
// CUDA's by some 4 ulp: 92 halves in all. In bf16 roundings can fall to the other side besides, one part in 2^8 of a
// term then. The sum of magnitudes is at most four times the largest result here.
TEST_CASE("gemm on CUDA activates an operand and applies a slope as the CPU does") {
  const int64_t m = 37, n = 33, k = 41, ld = 44;
  const std::vector<float> x = random_floats(n * ld, 1), up = random_floats(n * ld, 2), w = random_floats(n * ld, 3),
                           tall = random_floats(k * ld, 4), z = random_floats(m * ld, 5),
                           z_up = random_floats(m * ld, 6), rows = random_floats(k * ld, 7),
                           rows_up = random_floats(k * ld, 8);
  const std::vector<float> a = random_floats(m * ld, 9), a_up = random_floats(m * ld, 10);
  for (const Activation f : {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh})
    for (const bool gated : {false, true})
      for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
        INFO(static_cast<int>(f) << gated << static_cast<int>(arithmetic));
        const double tolerance = 4 * (92 * kEpsilon + (arithmetic == Arithmetic::f32 ? 0 : 0x1p-8));
        const auto with = [&](const std::vector<float>& v) {
          return gated ? ConstRows<float>{v.data(), ld} : ConstRows<float>{};
        };
        const auto both = [&](auto run) {
          Guarded on_cpu(m * n), on_cuda(m * n), dup(m * n), dup_cuda(m * n);
          run(Cpu{}, on_cpu, dup);
          run(kOnDevice, on_cuda, dup_cuda);
          for (const auto& [expected, found] : {std::pair{&on_cpu, &on_cuda}, {&dup, &dup_cuda}}) {
            double worst = 0, magnitude = 0;
            for (int64_t i = 0; i < m * n; ++i) {
              if (expected == &dup && std::isnan(dup[i]) && std::isnan(dup_cuda[i])) continue;  // not asked for
              worst = worse(worst, std::abs((*expected)[i] - (*found)[i]));
              magnitude = std::max<double>(magnitude, std::abs((*expected)[i]));
            }
            CHECK(worst <= tolerance * magnitude);
          }
          CHECK((on_cuda.intact() && dup_cuda.intact()));
        };
        both([&](auto on, Guarded& c, Guarded&) {  // f(A) B^T
          kernel::gemm<float>(on, {c.data(), n}, {a.data(), ld}, false, {w.data(), ld}, true, m, n, k, false,
                              {.arithmetic = arithmetic, .activated_a = GemmActivated<float>{f, with(a_up)}});
        });
        both([&](auto on, Guarded& c, Guarded&) {  // A^T f(B)
          kernel::gemm<float>(on, {c.data(), n}, {tall.data(), ld}, true, {rows.data(), ld}, false, m, n, k, false,
                              {.arithmetic = arithmetic, .activated_b = GemmActivated<float>{f, with(rows_up)}});
        });
        both([&](auto on, Guarded& c, Guarded& dup) {  // the slope over A B^T
          GemmSlope<float> slope{f, {z.data(), ld}, with(z_up)};
          if (gated) slope.dup = {dup.data(), n};
          kernel::gemm<float>(on, {c.data(), n}, {a.data(), ld}, false, {w.data(), ld}, true, m, n, k, false,
                              {.arithmetic = arithmetic, .slope = slope});
        });
      }
}

TEST_CASE("gemm on CUDA gives the same bits in every order of threads") {
  for (const CudaProduct& p : kProducts)
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
      const auto run = [&](Guarded& c, std::vector<float>& sums) {
        GemmOptions<float> options{.arithmetic = arithmetic};
        if (p.transpose_a) options.row_sums = sums.data();
        p.run(c.data(), p.n, false, options);
      };
      Guarded first(p.m * p.n);
      std::vector<float> first_sums(static_cast<size_t>(p.m));
      run(first, first_sums);
      simt::in_every_schedule([&] {
        Guarded c(p.m * p.n);
        std::vector<float> sums(static_cast<size_t>(p.m));
        run(c, sums);
        CHECK((c.same_bits(first) && sums == first_sums));
      });
    }
}

TEST_CASE("gemm on CUDA reads its fragments without bank conflicts") {
  if (!kEmulated) return skip("the emulator alone counts them");
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      const CudaProduct p{64, 64, 64, transpose_a, transpose_b};
      Guarded c(64 * 64);
      const simt::Statistics before = simt::statistics;
      p.run(c.data(), 64, false, {.arithmetic = Arithmetic::bf16});
      CHECK(simt::statistics.matrix_products - before.matrix_products == 4 * 8 * 4);  // of 16 x 8 x 16
      CHECK(simt::statistics.bank_conflicts == before.bank_conflicts);
    }
}
