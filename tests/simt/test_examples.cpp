// Whole kernels under the emulator, beside double precision.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/catch.h"
#include "tests/simt/examples/examples.h"
#include "tests/simt/schedules.h"

namespace lathe::kernel {
namespace {

// n elements between -1 and 1, no two of these series alike.
std::vector<bf16> series(int n, double frequency) {
  std::vector<bf16> list(static_cast<size_t>(n));
  for (size_t i = 0; i < list.size(); ++i)
    list[i] = to_bf16(static_cast<float>(std::sin(frequency * static_cast<double>(i * i % 1009))));
  return list;
}
// Rounding to bf16 moves a value by 2^-9 of the next power of two, 2^-8 of itself; `sums` is what f32 may err by.
void require_near(bf16 found, double expected, double sums) {
  REQUIRE(std::abs(to_float(found) - expected) <= 0x1.01p-8 * std::abs(expected) + sums);
}

TEST_CASE("A reduction over blocks of 256 threads gives what double precision gives") {
  simt::in_every_schedule([] {
    const int rows = 5, n = 1000;
    const std::vector<bf16> x = series(rows * n, 0.3), w = series(n, 0.4), before = series(rows * n, 0.7);
    std::vector<bf16> residual = before, y(rows * n);
    example_rms_norm({}, y.data(), residual.data(), x.data(), w.data(), rows, n, 1e-6f);
    for (size_t r = 0; r < rows; ++r) {
      double squares = 0;
      std::vector<double> sums(n);
      for (size_t i = 0; i < n; ++i) {
        sums[i] = to_float(to_bf16(to_float(x[r * n + i]) + to_float(before[r * n + i])));
        squares += sums[i] * sums[i];
      }
      for (size_t i = 0; i < n; ++i) {
        REQUIRE(to_float(residual[r * n + i]) == sums[i]);
        require_near(y[r * n + i], sums[i] / std::sqrt(squares / n + 1e-6) * to_float(w[i]), 1e-6);
      }
    }
  });
}

TEST_CASE("Attention over pages, shared out to several blocks, gives what double precision gives") {
  const int sequences = 3, heads = 2, group = 2, size = 128, page = 16, max_pages = 6, splits = 4, pages = 20;
  const std::vector<bf16> q = series(sequences * heads * group * size, 0.11);
  const std::vector<bf16> keys = series(pages * heads * page * size, 0.13),
                          values = series(pages * heads * page * size, 0.17);
  const float scale = 4;  // scores differ by more than exp can tell apart: no sum may leave the maximum out
  const int lengths[sequences] = {1, 37, max_pages * page};
  std::vector<int> tables(sequences * max_pages);
  for (int i = 0; i < sequences * max_pages; ++i) tables[static_cast<size_t>(i)] = (i * 7 + 3) % pages;
  const auto at = [&](int sequence, int head, int token, int i) {
    const int number = tables[static_cast<size_t>(sequence * max_pages + token / page)];
    return static_cast<size_t>(((number * heads + head) * page + token % page) * size + i);
  };
  simt::in_every_schedule([&] {
    std::vector<bf16> out(q.size());
    std::vector<float> part(q.size() * splits);
    std::vector<float2> part_sum(part.size() / size);
    example_paged_decode({}, out.data(), part.data(), part_sum.data(), q.data(), keys.data(), values.data(),
                         tables.data(), lengths, sequences, heads, splits, max_pages, scale);
    for (int row = 0; row < sequences * heads * group; ++row) {
      const int sequence = row / (heads * group), head = row / group % heads;
      std::vector<double> weights(static_cast<size_t>(lengths[sequence]));
      double total = 0;
      for (int t = 0; t < lengths[sequence]; ++t) {
        double score = 0;
        for (int i = 0; i < size; ++i)
          score += to_float(q[static_cast<size_t>(row * size + i)]) *
                   static_cast<double>(to_float(keys[at(sequence, head, t, i)]));
        total += weights[static_cast<size_t>(t)] = std::exp(score * scale);
      }
      for (int i = 0; i < size; ++i) {
        double expected = 0;
        for (int t = 0; t < lengths[sequence]; ++t)
          expected += weights[static_cast<size_t>(t)] / total * to_float(values[at(sequence, head, t, i)]);
        require_near(out[static_cast<size_t>(row * size + i)], expected, 1e-5);
      }
    }
  });
}

TEST_CASE("A product on tensor cores gives what double precision gives, in sizes that are no multiple of its tiles") {
  for (const auto& [m, n, k] : {dim3(64, 64, 64), dim3(70, 40, 136), dim3(3, 130, 8)}) {
    const std::vector<bf16> a = series(static_cast<int>(m * k), 0.19), b = series(static_cast<int>(n * k), 0.23);
    simt::in_every_schedule([&, m = m, n = n, k = k] {
      std::vector<bf16> c(m * n);
      simt::statistics = {};
      example_gemm({}, c.data(), a.data(), b.data(), static_cast<int>(m), static_cast<int>(n), static_cast<int>(k));
      CHECK(simt::statistics.bank_conflicts == 0);
      for (size_t i = 0; i < m * n; ++i) {
        double expected = 0;
        for (size_t j = 0; j < k; ++j)
          expected += static_cast<double>(to_float(a[i / n * k + j])) * to_float(b[i % n * k + j]);
        require_near(c[i], expected, 1e-5);
      }
    });
  }
}

TEST_CASE("Sums and maxima of blocks and warps are the same in every thread") {
  const int blocks = 2;
  for (const int threads : {32, 96, 1024}) {
    const auto n = static_cast<size_t>(blocks * threads);
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 70);  // sums are exact
    simt::in_every_schedule([&] {
      std::vector<float> sums(n), maxima(n), warp_maxima(n);
      std::vector<int> counts(n);
      example_reduce({}, sums.data(), maxima.data(), counts.data(), warp_maxima.data(), x.data(), blocks, threads);
      for (size_t i = 0; i < n; ++i) {
        const auto block = x.begin() + static_cast<int>(i) / threads * threads,
                   warp = x.begin() + static_cast<int>(i / 32 * 32);
        REQUIRE(sums[i] == 3 * std::accumulate(block, block + threads, 0.0f));
        REQUIRE(maxima[i] == *std::max_element(block, block + threads));
        REQUIRE(counts[i] == std::count_if(block, block + threads, [](float v) { return v > 0; }));
        REQUIRE(warp_maxima[i] == *std::max_element(warp, warp + 32));
      }
    });
  }
}

TEST_CASE("Matrix instructions have PTX's fragments") {
  std::vector<bf16> a(256), b(256);
  for (size_t i = 0; i < 256; ++i) {
    a[i] = to_bf16(static_cast<float>(i * 37 % 31) - 15);
    b[i] = to_bf16(static_cast<float>(i * 41 % 29) / 4);
  }
  for (const bool transposed : {false, true}) {
    std::vector<float> c(256);
    example_multiply({}, c.data(), a.data(), b.data(), transposed);
    for (size_t i = 0; i < 256; ++i) {
      float expected = 0;  // exact
      for (size_t k = 0; k < 16; ++k)
        expected += to_float(a[i / 16 * 16 + k]) * to_float(b[transposed ? k * 16 + i % 16 : i % 16 * 16 + k]);
      REQUIRE(c[i] == expected);
    }
  }
}

}  // namespace
}  // namespace lathe::kernel
