// Products of training against double; the laws of bits.
#include <cmath>

#include "kernels/cpu/training.h"
#include "kernels/gemm.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Product {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  std::vector<float> a = random_floats(m * k, 1), b = random_floats(k * n, 2);

  double a_at(int64_t i, int64_t l) const {
    return static_cast<double>(a[static_cast<size_t>(transpose_a ? l * m + i : i * k + l)]);
  }
  double b_at(int64_t l, int64_t j) const {
    return static_cast<double>(b[static_cast<size_t>(transpose_b ? j * k + l : l * n + j)]);
  }

  void run(float* c, int64_t ldc, bool accumulate, const GemmOptions<float>& options = {}) const {
    kernel::gemm<float>(Cpu{}, {c, ldc}, {a.data(), transpose_a ? m : k}, transpose_a, {b.data(), transpose_b ? k : n},
                        transpose_b, m, n, k, accumulate, options);
  }
  // The largest deviation of c (m, n) from `start` + the product, in half ulps of the sum of magnitudes.
  template <class Start>
  double deviation(
      const Guarded& c, Start&& start, double (*rounded)(double) = [](double v) { return v; }) const {
    double worst = 0;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = start(i, j), magnitude = std::abs(sum);
        for (int64_t l = 0; l < k; ++l) {
          const double term = rounded(a_at(i, l)) * rounded(b_at(l, j));
          sum += term;
          magnitude += std::abs(term);
        }
        worst = worse(worst, std::abs(static_cast<double>(c[i * n + j]) - sum) / (kEpsilon * (magnitude + 1e-30)));
      }
    return worst;
  }
};

double as_bf16(double v) { return static_cast<double>(bf16_to_f32(f32_to_bf16(static_cast<float>(v)))); }

// Tiles whole and short in every direction, several blocks of depth and of columns, products of nothing.
const Product kProducts[] = {
    {1, 1, 1, false, false},     {12, 32, 16, false, true},  {13, 33, 17, true, false},  {97, 65, 300, false, true},
    {200, 40, 31, true, false},  {6, 1100, 5, false, false}, {50, 70, 515, true, true},  {3, 7, 0, false, false},
    {120, 48, 256, true, false}, {31, 16, 257, false, true}, {100, 1025, 2, true, true},
};

std::string shape_of(const Product& p) {
  return std::to_string(p.m) + " x " + std::to_string(p.n) + " x " + std::to_string(p.k);
}

}  // namespace

TEST_CASE("gemm agrees with double: set, accumulated, from a bias") {
  for (const Product& p : kProducts)
    for_each_isa([&](CpuIsa) {
      INFO(shape_of(p));
      // A term takes part in at most k + 2 additions, each rounding by half an ulp of what is no more than the
      // magnitudes.
      const double bound = static_cast<double>(p.k) + 3;
      Guarded set(p.m * p.n), sum(p.m * p.n), biased(p.m * p.n);
      p.run(set.data(), p.n, false);
      CHECK(p.deviation(set, [](int64_t, int64_t) { return 0.0; }) <= bound);
      const std::vector<float> before = random_floats(p.m * p.n, 3), bias = random_floats(p.n, 4);
      std::copy(before.begin(), before.end(), sum.data());
      p.run(sum.data(), p.n, true);
      CHECK(p.deviation(sum, [&](int64_t i, int64_t j) {
        return static_cast<double>(before[static_cast<size_t>(i * p.n + j)]);
      }) <= bound);
      p.run(biased.data(), p.n, false, {.bias = bias.data()});
      CHECK(p.deviation(biased, [&](int64_t, int64_t j) {
        return static_cast<double>(bias[static_cast<size_t>(j)]);
      }) <= bound);
      CHECK((set.intact() && sum.intact() && biased.intact()));
    });
}

TEST_CASE("gemm in bf16 is the product of rounded operands, its sums of rows those of exact ones") {
  for (const Product& p : kProducts)
    for_each_isa([&](CpuIsa) {
      INFO(shape_of(p));
      Guarded c(p.m * p.n);
      std::vector<float> sums(static_cast<size_t>(p.m), 1.0f);
      p.run(c.data(), p.n, false, {.arithmetic = Arithmetic::bf16, .row_sums = p.transpose_a ? sums.data() : nullptr});
      CHECK(p.deviation(
                c, [](int64_t, int64_t) { return 0.0; }, as_bf16) <= static_cast<double>(p.k) + 3);
      CHECK(c.intact());
      for (int64_t i = 0; i < p.m && p.transpose_a; ++i) {
        double sum = 1, magnitude = 1;
        for (int64_t l = 0; l < p.k; ++l) {
          sum += p.a_at(i, l);
          magnitude += std::abs(p.a_at(i, l));
        }
        CHECK(std::abs(static_cast<double>(sums[static_cast<size_t>(i)]) - sum) <=
              kEpsilon * static_cast<double>(p.k + 3) * magnitude);
      }
    });
}

TEST_CASE("pairs of bf16 give the product of rounded operands") {
  const cpu::GemmKernels* kernels = cpu::gemm_of_pairs();
  if (kernels == nullptr || !multiplies_bf16(cpu_isa())) return skip("no instruction for pairs of bf16");
  for (const Product& p : kProducts) {
    if (p.k == 0 || p.k > 300) continue;
    INFO(shape_of(p));
    const auto packed = [&](const auto& pack, const float* x, bool rows_of_k, int64_t count, int width) {
      const int64_t strips = (count + width - 1) / width;
      Aligned memory(static_cast<size_t>(strips * kernels->strip_floats(p.k, width)) * 4);
      pack(reinterpret_cast<float*>(memory.data()), {x, rows_of_k ? count : p.k, rows_of_k, count, p.k},
           {0, strips, 0, kernels->steps(p.k)}, nullptr);
      return memory;
    };
    Aligned a = packed(kernels->pack_a, p.a.data(), p.transpose_a, p.m, kernels->tile_rows);
    Aligned b = packed(kernels->pack_b, p.b.data(), !p.transpose_b, p.n, kernels->tile_columns);
    Guarded c(p.m * p.n);
    kernels->multiply({c.data(), p.n, nullptr, false}, reinterpret_cast<float*>(a.data()),
                      reinterpret_cast<float*>(b.data()), p.m, p.n, p.k);
    // The instruction rounds sums of two products, and not to nearest.
    CHECK(p.deviation(
              c, [](int64_t, int64_t) { return 0.0; }, as_bf16) <= 2 * static_cast<double>(p.k) + 3);
    CHECK(c.intact());
  }
}

TEST_CASE("gemm gives the same bits on any number of threads, and whatever stands beside an output") {
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16})
    for (const Product& p : kProducts)
      for_each_isa([&](CpuIsa) {
        INFO(shape_of(p));
        Guarded one(p.m * p.n), three(p.m * p.n);
        {
          const Threads threads(1);
          p.run(one.data(), p.n, false, {.arithmetic = arithmetic});
        }
        {
          const Threads threads(3);
          p.run(three.data(), p.n, false, {.arithmetic = arithmetic});
        }
        CHECK(one.same_bits(three));
        if (p.k == 0) return;
        // The last output alone.
        const int64_t i = p.m - 1, j = p.n - 1;
        Guarded corner(1);
        kernel::gemm<float>(Cpu{}, {corner.data(), 1},
                            {p.a.data() + (p.transpose_a ? i : i * p.k), p.transpose_a ? p.m : p.k}, p.transpose_a,
                            {p.b.data() + (p.transpose_b ? j * p.k : j), p.transpose_b ? p.k : p.n}, p.transpose_b, 1,
                            1, p.k, false, {.arithmetic = arithmetic});
        CHECK(corner[0] == one[p.m * p.n - 1]);
      });
}

TEST_CASE("gemm of activated operands and through a slope has the bits of the operations one by one") {
  constexpr int64_t m = 130, n = 810, k = 530, ld = 900;  // several blocks each way
  const std::vector<float> a = random_floats(m * ld, 1), b = random_floats(k * ld, 2), up = random_floats(k * ld, 3);
  const auto rows = [](const std::vector<float>& x) { return Rows<const float>{x.data(), ld}; };
  struct Form {
    bool gated;
    Arithmetic arithmetic;
  };
  const Form forms[] = {
      {false, Arithmetic::f32}, {true, Arithmetic::f32}, {false, Arithmetic::bf16}, {true, Arithmetic::bf16}};
  for (const Form& form : tried<Form>(forms, 3))
    for_each_isa([&](CpuIsa) {
      const bool gated = form.gated;
      const Arithmetic arithmetic = form.arithmetic;
      constexpr Activation f = Activation::gelu_tanh;
      const Rows<const float> gate_up = gated ? rows(up) : Rows<const float>{};
      const auto activated = [&](const std::vector<float>& x, int64_t count, int64_t width) {
        std::vector<float> y(static_cast<size_t>(count * width));
        if (gated)
          kernel::gated_activation<float>(Cpu{}, y.data(), rows(x), gate_up, count, width, f);
        else
          kernel::activation<float>(Cpu{}, y.data(), rows(x), count, width, f);
        return y;
      };
      Guarded c(m * n), expected(m * n);
      // f(A) B^T, B of n rows
      const std::vector<float> many = random_floats(n * ld, 4), fa = activated(a, m, k), fb = activated(b, k, n);
      kernel::gemm<float>(Cpu{}, {expected.data(), n}, {fa.data(), k}, false, rows(many), true, m, n, k, false,
                          {.arithmetic = arithmetic});
      kernel::gemm<float>(Cpu{}, {c.data(), n}, rows(a), false, rows(many), true, m, n, k, false,
                          {.arithmetic = arithmetic, .activated_a = GemmActivated<float>{f, gate_up}});
      CHECK((c.same_bits(expected) && c.intact()));
      // A^T f(B), A of k rows
      const std::vector<float> tall = random_floats(k * ld, 5);
      kernel::gemm<float>(Cpu{}, {expected.data(), n}, rows(tall), true, {fb.data(), n}, false, m, n, k, false,
                          {.arithmetic = arithmetic});
      kernel::gemm<float>(Cpu{}, {c.data(), n}, rows(tall), true, rows(b), false, m, n, k, false,
                          {.arithmetic = arithmetic, .activated_b = GemmActivated<float>{f, gate_up}});
      CHECK((c.same_bits(expected) && c.intact()));
      // the slope of f at x over A B^T
      const std::vector<float> x = random_floats(m * ld, 6);
      Guarded plain(m * n), dup(m * n), expected_dup(m * n);
      kernel::gemm<float>(Cpu{}, {plain.data(), n}, rows(a), false, rows(many), true, m, n, k, false,
                          {.arithmetic = arithmetic});
      if (gated)
        kernel::gated_activation_backward<float>(Cpu{}, {expected.data(), n}, {expected_dup.data(), n}, plain.data(),
                                                 rows(x), gate_up, m, n, f);
      else
        kernel::activation_backward<float>(Cpu{}, expected.data(), plain.data(), rows(x), m, n, f);
      GemmSlope<float> slope{f, rows(x), gate_up};
      if (gated) slope.dup = {dup.data(), n};
      kernel::gemm<float>(Cpu{}, {c.data(), n}, rows(a), false, rows(many), true, m, n, k, false,
                          {.arithmetic = arithmetic, .slope = slope});
      CHECK((c.same_bits(expected) && c.intact()));
      if (gated) CHECK((dup.same_bits(expected_dup) && dup.intact()));
    });
}

TEST_CASE("gemm in double is the product") {
  const std::vector<double> a = {1, 2, 3, 4, 5, 6}, b = {1, 0, 2, 1, 1, 3};  // (2, 3), (3, 2)
  std::vector<double> c(4), sums(3);
  kernel::gemm<double>(Cpu{}, {c.data(), 2}, {a.data(), 3}, false, {b.data(), 2}, false, 2, 2, 3, false);
  CHECK(c == std::vector<double>{8, 11, 20, 23});
  kernel::gemm<double>(Cpu{}, {c.data(), 2}, {a.data(), 3}, false, {b.data(), 2}, false, 2, 2, 3, true);
  CHECK(c == std::vector<double>{16, 22, 40, 46});
  std::vector<double> turned(9);  // a^T (3, 2) b^T (2, 3)
  kernel::gemm<double>(Cpu{}, {turned.data(), 3}, {a.data(), 3}, true, {b.data(), 2}, true, 3, 3, 2, false,
                       {.row_sums = sums.data()});
  CHECK(turned == std::vector<double>{1, 6, 13, 2, 9, 17, 3, 12, 21});
  CHECK(sums == std::vector<double>{5, 7, 9});
}
