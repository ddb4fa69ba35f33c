// Norms, activations, rope and element-wise sums.
#include <cmath>

#include "kernels/activation.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

double exact(Activation f, double x) {
  switch (f) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_exact: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh: return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return 0;
}

constexpr Activation kRowActivations[] = {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh};

}  // namespace

TEST_CASE("activations agree with double") {
  std::vector<float> x;
  for (float v = -30.0f; v <= 30.0f; v += 0.0137f) x.push_back(v);
  const int64_t n = static_cast<int64_t>(x.size());
  for (Activation f : kRowActivations)
    for_each_isa([&](CpuIsa) {
      INFO("activation " << static_cast<int>(f));
      Guarded y(n);
      kernel::activation(Cpu{}, y.data(), {x.data(), n}, 1, n, f);
      CHECK(y.intact());
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double v = x[static_cast<size_t>(i)], expected = exact(f, v);
        // exp(u) is off by u epsilon for the rounding of its argument alone; u is up to 2 v for gelu at the sizes
        // where the result is not yet nothing.
        const double scale = (8 + 4 * std::abs(v) + (f == Activation::silu ? 0 : 2 * v * v)) * kEpsilon;
        worst = worse(worst, std::abs(y[i] - expected) / (std::abs(expected) * scale + 1e-37));
      }
      CHECK(worst <= 1);
    });
}

TEST_CASE("activations keep NaN, infinities and zero") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float x[] = {std::numeric_limits<float>::quiet_NaN(), infinity, -200.0f, 0.0f, -0.0f, 200.0f};
  for (Activation f : kRowActivations)
    for_each_isa([&](CpuIsa) {
      Guarded y(6);
      kernel::activation(Cpu{}, y.data(), {x, 6}, 1, 6, f);
      CHECK(std::isnan(y[0]));
      CHECK(y[1] == infinity);
      CHECK(y[2] == 0.0f);
      CHECK(y[3] == 0.0f);
      CHECK(y[4] == 0.0f);
      CHECK(y[5] == 200.0f);
    });
}

TEST_CASE("gated activation is the activation times up, of strided rows") {
  const std::vector<float> gate = random_floats(5 * 50, 1), up = random_floats(5 * 60, 2);
  for (Activation f : kRowActivations)
    for_each_isa([&](CpuIsa) {
      Guarded y(5 * 37), plain(5 * 37);
      kernel::gated_activation(Cpu{}, y.data(), {gate.data(), 50}, {up.data(), 60}, 5, 37, f);
      kernel::activation(Cpu{}, plain.data(), {gate.data(), 50}, 5, 37, f);
      CHECK(y.intact());
      for (int64_t r = 0; r < 5; ++r)
        for (int64_t i = 0; i < 37; ++i)
          CHECK(y[r * 37 + i] == plain[r * 37 + i] * up[static_cast<size_t>(r * 60 + i)]);
    });
}

TEST_CASE("norms agree with double and do not depend on the other rows") {
  for (int64_t n : {1, 7, 16, 64, 100, 576}) {
    const int64_t rows = 70, ldx = n + 9;
    const std::vector<float> x = random_floats(rows * ldx, 1, 2.0f, 0.5f), w = random_floats(n, 2),
                             b = random_floats(n, 3);
    for_each_isa([&](CpuIsa) {
      INFO("n " << n);
      Guarded rms(rows * n), layer(rows * n), rms_scale(rows), mean(rows), layer_scale(rows);
      kernel::rms_norm(Cpu{}, rms.data(), rms_scale.data(), {x.data(), ldx}, w.data(), rows, n, 1e-5f, 1.0f);
      kernel::layer_norm(Cpu{}, layer.data(), mean.data(), layer_scale.data(), {x.data(), ldx}, w.data(), b.data(),
                         rows, n, 1e-5f);
      CHECK((rms.intact() && layer.intact() && rms_scale.intact() && mean.intact() && layer_scale.intact()));
      double worst = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const float* row = x.data() + r * ldx;
        double squares = 0, sum = 0, variance = 0;
        for (int64_t i = 0; i < n; ++i) {
          squares += static_cast<double>(row[i]) * row[i];
          sum += row[i];
        }
        const double centre = sum / static_cast<double>(n);
        for (int64_t i = 0; i < n; ++i) variance += (row[i] - centre) * (row[i] - centre);
        const double s = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5),
                     t = 1 / std::sqrt(variance / static_cast<double>(n) + 1e-5);
        CHECK(rms_scale[r] == Catch::Approx(s).epsilon(1e-6));
        CHECK(mean[r] == Catch::Approx(centre).margin(1e-6));
        if (n > 1) CHECK(layer_scale[r] == Catch::Approx(t).epsilon(1e-5));
        for (int64_t i = 0; i < n; ++i) {
          const size_t k = static_cast<size_t>(i);
          worst = worse(
              worst, std::abs(rms[r * n + i] - row[i] * s * (w[k] + 1.0)) / (1 + std::abs(row[i] * s * (w[k] + 1.0))));
          if (n > 1) {
            const double expected = (row[i] - centre) * t * w[k] + b[k];
            worst = worse(worst, std::abs(layer[r * n + i] - expected) / (1 + std::abs(row[i] * t * w[k])));
          }
        }
      }
      // A sum of n / 16 steps and 4 halvings, halved by the root, then three roundings; the mean's error counts by
      // 1 / deviation. 20 epsilon holds for all of these sizes.
      CHECK(worst < 20 * kEpsilon);

      Guarded alone(rows * n), null(rows * n);
      for (int64_t r = 0; r < rows; ++r)
        kernel::rms_norm(Cpu{}, alone.data() + r * n, nullptr, {x.data() + r * ldx, ldx}, w.data(), 1, n, 1e-5f, 1.0f);
      CHECK(alone.same_bits(rms));
      kernel::layer_norm(Cpu{}, null.data(), nullptr, nullptr, {x.data(), ldx}, w.data(), nullptr, rows, n, 1e-5f);
      CHECK(null.intact());
    });
  }
}

TEST_CASE("large inputs give the same bits with one thread and two") {
  const int64_t rows = 200, n = 576;
  const std::vector<float> x = random_floats(rows * n, 1), w = random_floats(n, 2), cos = random_floats(rows * 32, 3);
  const std::vector<int32_t> places = counted(rows);
  for_each_isa([&](CpuIsa) {
    const auto all = [&](int members, Guarded& out) {
      const Threads threads(members);
      float* y = out.data();
      kernel::rms_norm(Cpu{}, y, nullptr, {x.data(), n}, w.data(), rows, n, 1e-5f, 0.0f);
      kernel::activation(Cpu{}, y + rows * n, {x.data(), n}, rows, n, Activation::silu);
      kernel::rope<float>(Cpu{}, {y + 2 * rows * n, n}, {x.data(), n},
                          Rotation<float>{cos.data(), cos.data(), places.data(), 64, RopeStyle::half_split}, rows, 9,
                          64, 1);
      kernel::add(Cpu{}, y + 3 * rows * n, x.data(), y, rows * n);
      kernel::multiply(Cpu{}, y + 4 * rows * n, x.data(), y, rows * n);
      kernel::scale(Cpu{}, y + 5 * rows * n, x.data(), 0.3f, rows * n);
    };
    Guarded one(6 * rows * n), two(6 * rows * n);
    all(1, one);
    all(2, two);
    CHECK((one.intact() && two.intact()));
    CHECK(two.same_bits(one));
  });
}

TEST_CASE("a sum with its norm has the bits of the two operations") {
  for (const int64_t n : {7, 64, 576})
    for_each_isa([&](CpuIsa) {
      constexpr int64_t kRows = 40;
      const std::vector<float> a = random_floats(kRows * n, 1), b = random_floats(kRows * n, 2),
                               w = random_floats(n, 3);
      Guarded sum(kRows * n), normal(kRows * n), both_sum(kRows * n), both_normal(kRows * n);
      Guarded mean(kRows), rstd(kRows), both_mean(kRows), both_rstd(kRows);
      kernel::add(Cpu{}, sum.data(), a.data(), b.data(), kRows * n);
      for (const int members : {1, 2}) {
        const Threads threads(members);
        kernel::rms_norm(Cpu{}, normal.data(), rstd.data(), {sum.data(), n}, w.data(), kRows, n, 1e-5f, 1.0f);
        kernel::add_rms_norm(Cpu{}, both_sum.data(), both_normal.data(), both_rstd.data(), a.data(), b.data(), w.data(),
                             kRows, n, 1e-5f, 1.0f);
        CHECK((both_rstd.same_bits(rstd) && both_rstd.intact()));
        CHECK((both_sum.same_bits(sum) && both_normal.same_bits(normal) && both_sum.intact() && both_normal.intact()));
        for (const float* bias : {static_cast<const float*>(nullptr), b.data()}) {
          kernel::layer_norm(Cpu{}, normal.data(), mean.data(), rstd.data(), {sum.data(), n}, w.data(), bias, kRows, n,
                             1e-5f);
          kernel::add_layer_norm(Cpu{}, both_sum.data(), both_normal.data(), both_mean.data(), both_rstd.data(),
                                 a.data(), b.data(), w.data(), bias, kRows, n, 1e-5f);
          CHECK((both_mean.same_bits(mean) && both_rstd.same_bits(rstd) && both_mean.intact() && both_rstd.intact()));
          CHECK(
              (both_sum.same_bits(sum) && both_normal.same_bits(normal) && both_sum.intact() && both_normal.intact()));
        }
      }
    });
}

TEST_CASE("rope rotates pairs, copies the rest and turns back, the same bits on every instruction set") {
  const int64_t n = 3, heads = 2, head_dim = 74, ldx = 150;
  const std::vector<float> x = random_floats(n * ldx, 1);
  const CpuIsa before = cpu_isa();
  for (int64_t rotary : {74, 64, 6, 0})
    for (RopeStyle style : {RopeStyle::half_split, RopeStyle::interleaved}) {
      const int64_t half = rotary / 2;
      std::vector<float> cos, sin;
      for (int64_t i = 0; i < n * half; ++i) {
        cos.push_back(std::cos(static_cast<float>(i)));
        sin.push_back(std::sin(static_cast<float>(i)));
      }
      Guarded y(n * heads * head_dim), back(n * heads * head_dim), portable(n * heads * head_dim);
      set_cpu_isa(CpuIsa::portable);
      const std::vector<int32_t> places = counted(n);
      const Rotation<float> rotation{cos.data(), sin.data(), places.data(), rotary, style};
      kernel::rope<float>(Cpu{}, {portable.data(), heads * head_dim}, {x.data(), ldx}, rotation, n, heads, head_dim, 1);
      for_each_isa([&](CpuIsa) {
        kernel::rope<float>(Cpu{}, {y.data(), heads * head_dim}, {x.data(), ldx}, rotation, n, heads, head_dim, 1);
        CHECK(y.same_bits(portable));
      });
      kernel::rope<float>(Cpu{}, {y.data(), heads * head_dim}, {x.data(), ldx}, rotation, n, heads, head_dim, 1);
      kernel::rope<float>(Cpu{}, {back.data(), heads * head_dim}, {y.data(), heads * head_dim}, rotation, n, heads,
                          head_dim, -1);
      CHECK((y.intact() && back.intact()));
      for (int64_t t = 0; t < n; ++t)
        for (int64_t h = 0; h < heads; ++h) {
          const float* from = x.data() + t * ldx + h * head_dim;
          const float* to = y.data() + (t * heads + h) * head_dim;
          for (int64_t i = 0; i < half; ++i) {
            const int64_t a = style == RopeStyle::half_split ? i : 2 * i,
                          b = style == RopeStyle::half_split ? i + half : 2 * i + 1;
            const float c = cos[static_cast<size_t>(t * half + i)], s = sin[static_cast<size_t>(t * half + i)];
            CHECK(to[a] == Catch::Approx(from[a] * c - from[b] * s).margin(1e-6));
            CHECK(to[b] == Catch::Approx(from[b] * c + from[a] * s).margin(1e-6));
          }
          for (int64_t i = rotary; i < head_dim; ++i) CHECK(to[i] == from[i]);
          for (int64_t i = 0; i < head_dim; ++i)
            CHECK(back[(t * heads + h) * head_dim + i] == Catch::Approx(from[i]).margin(1e-6));
        }
    }
  set_cpu_isa(before);
}
