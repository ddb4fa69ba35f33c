// The inference linears: one token against weights that come from memory, and 512 tokens; then their errors.
#include <fmt/core.h>

#include "kernels/cpu/dispatch.h"
#include "tensor/threads.h"
#include "tests/bench/bench.h"
#include "tests/kernels/linear_cases.h"
#include "tests/kernels/linear_errors.h"

namespace lathe::bench {
namespace {

using test::Weight;

struct Shape {
  int64_t rows, columns;
};
// SmolLM2's gate and up, and down; a wider model's square. Rows of 576 are no multiple of 256: no K formats.
constexpr Shape kShapes[] = {{3072, 576}, {576, 1536}, {2048, 2048}};
constexpr Shape kBriefShapes[] = {{2048, 2048}};
constexpr Shape kHead = {49152, 576};

bool natural(DType dtype, Arithmetic arithmetic) {  // what --dtype auto takes on some machine
  if (is_quantised(dtype)) return arithmetic == Arithmetic::int8;
  return arithmetic == Arithmetic::f32 || dtype == DType::bf16;
}

void run(const PackedMatrix& w, const float* x, float* y, int64_t m, Arithmetic arithmetic, void* scratch) {
  const LinearPart part{w, nullptr, y};
  kernel::packed_linear(Cpu{}, &part, 1, w.rows, {x, w.columns}, m, arithmetic, scratch);
}

void decode(Report& report, Weight& w, Arithmetic arithmetic, double read) {
  PackedMatrix matrix = w.matrix();
  const size_t bytes = kernel::packed_bytes(Cpu{}, w.dtype, w.rows, w.columns);
  FromMemory copies(matrix.data, bytes);
  const std::vector<float> x = test::random_floats(w.columns, 2);
  std::vector<float> y(static_cast<size_t>(w.rows));
  test::Aligned scratch(w.scratch_bytes(1, arithmetic));
  const double seconds = best_seconds(
      [&] {
        matrix.data = copies.next();
        run(matrix, x.data(), y.data(), 1, arithmetic, scratch.data());
      },
      copies.copies());
  report.speed("decode", fmt::format("{} {}", name(w.dtype), test::name(arithmetic)),
               fmt::format("{} x {}", w.rows, w.columns), static_cast<double>(bytes), seconds, Ceiling::read, read);
}

Ceiling ceiling_of(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::int8   ? Ceiling::integers
         : arithmetic == Arithmetic::bf16 ? Ceiling::bf16
                                          : Ceiling::floats;
}

void prefill(Report& report, Weight& w, Arithmetic arithmetic) {
  const int64_t m = cpu_isa() == CpuIsa::portable ? kPromptTokens / 8 : kPromptTokens;  // it is slow
  const std::vector<float> x = test::random_floats(m * w.columns, 2);
  std::vector<float> y(static_cast<size_t>(m * w.rows));
  test::Aligned scratch(w.scratch_bytes(m, arithmetic));
  report.time("prefill", fmt::format("{} {}", name(w.dtype), test::name(arithmetic)),
              fmt::format("{} x {}", w.rows, w.columns), 2.0 * static_cast<double>(m * w.rows * w.columns),
              ceiling_of(arithmetic), [&] { run(w.matrix(), x.data(), y.data(), m, arithmetic, scratch.data()); });
}

// Rows of a packed table, which is also the head.
void look_up(Report& report, Weight& table) {
  const std::vector<float> rows = test::random_floats(kPromptTokens, 3);
  std::vector<float> y(static_cast<size_t>(kPromptTokens * table.columns));
  const PackedMatrix matrix = table.matrix();
  report.time("small", fmt::format("embedding {}", name(table.dtype)),
              fmt::format("{} x {}", kPromptTokens, table.columns),
              4.0 * static_cast<double>(kPromptTokens * table.columns), Ceiling::none, [&] {
                for (int64_t t = 0; t < kPromptTokens; ++t)
                  kernel::unpack_rows(Cpu{}, y.data() + t * table.columns, matrix, t * 97 % table.rows, 1);
              });
}

template <size_t kCount>
void over_shapes(Report& report, DType dtype, const Shape (&shapes)[kCount], bool thorough) {
  for (const Shape& shape : shapes) {
    if (shape.columns % info(dtype).block_size != 0) continue;
    Weight w(dtype, shape.rows, shape.columns, 1);
    const double read = measure(Ceiling::read);
    for (const Arithmetic arithmetic : test::kArithmetics) {
      if (arithmetic == Arithmetic::int8 && !is_quantised(dtype)) continue;
      if (!thorough && !natural(dtype, arithmetic)) continue;
      decode(report, w, arithmetic, std::max(read, measure(Ceiling::read)));
      prefill(report, w, arithmetic);
    }
  }
}

}  // namespace

void linears(Report& report, bool thorough) {
  for (const DType dtype : test::kWeightDTypes) {
    if (thorough)
      over_shapes(report, dtype, kShapes, thorough);
    else
      over_shapes(report, dtype, kBriefShapes, thorough);
  }
  for (const DType dtype : {DType::f16, DType::q8_0, DType::q4_1}) {
    if (!thorough) break;
    Weight head(dtype, kHead.rows, kHead.columns, 1);
    decode(report, head, is_quantised(dtype) ? Arithmetic::int8 : Arithmetic::f32, measure(Ceiling::read));
    look_up(report, head);
  }
}

void quantisers(Report& report) {
  constexpr int64_t kColumns = 1536;
  for (const int64_t m : {int64_t{1}, kPromptTokens}) {
    const cpu::LinearKernels& tiles = cpu::kernels().linear.of(Arithmetic::int8, m);
    const std::vector<float> x = test::random_floats(m * kColumns, 2);
    std::vector<int32_t> words(x.size());  // more than any form takes
    std::vector<cpu::TokenBlock> blocks(x.size() / 32);
    const cpu::PackedTokens to{nullptr, words.data(), blocks.data()};
    const double bytes =
        4.0 * static_cast<double>(x.size()) + static_cast<double>(m * kColumns / 32 * tiles.block_bytes);
    report.time("small", "quantise activations", fmt::format("{} x {}", m, kColumns), bytes,
                m > 1 ? Ceiling::copy : Ceiling::none, [&] {
                  parallel_for(m, tiles.tile_tokens, [&](int64_t begin, int64_t end) {
                    tiles.pack(to, x.data(), kColumns, kColumns, begin, end);
                  });
                });
  }
  const std::vector<float> x = test::random_floats(kColumns, 2, 0.05f);
  std::vector<uint8_t> row(static_cast<size_t>(kColumns) * 4);
  for (const DType dtype : test::kWeightDTypes)
    if (is_quantised(dtype) && dtype != DType::q2_k && dtype != DType::q3_k)
      report.time("small", fmt::format("quantise_row {}", name(dtype)), fmt::format("1 x {}", kColumns), 4.0 * kColumns,
                  Ceiling::none, [&] { quantise_row(row.data(), x.data(), dtype, kColumns); });
}

void errors(Report& report) {
  for (const DType dtype : test::kWeightDTypes)
    for (const Arithmetic arithmetic : test::kArithmetics) {
      if (arithmetic == Arithmetic::int8 && !is_quantised(dtype)) continue;
      const test::LinearErrors e = test::linear_errors(dtype, arithmetic);
      report.error(std::string(name(dtype)), test::name(arithmetic), e.gaussian, e.outliers);
    }
}

}  // namespace lathe::bench
