// What the promise on bits costs (docs/architecture.md, "Bits"): each of its rules against a form that need not keep
// it.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_layout.h"
#include "tensor/threads.h"
#include "tests/bench/free_forms.h"
#include "tests/bench/paged_world.h"
#include "tests/kernels/linear_cases.h"

namespace lathe::bench {
namespace {

using test::Aligned;
using test::Weight;

constexpr int kTurns = 6;

std::string shape_of(const Weight& w) { return fmt::format("{} {} x {}", name(w.dtype), w.rows, w.columns); }

// The best of a few tries each, taken in turns, as the machine's neighbours change.
template <class Kept, class Freer>
void compare(Report& report, const std::string& what, const std::string& shape, Kept&& kept, Freer&& freer,
             int64_t calls = 0) {
  double best_kept = 1e300, best_freer = 1e300;
  for (int round = 0; round < kTurns; ++round) {
    best_kept = std::min(best_kept, best_seconds(kept, calls));
    best_freer = std::min(best_freer, best_seconds(freer, calls));
  }
  report.promise(what, shape, best_kept, best_freer);
}

// f(group0, group1) over the row groups of a matrix, handed out in a few chunks for each member.
template <class F>
void over_groups(int64_t groups, F f) {
  const int64_t chunk = std::max<int64_t>(1, groups / (thread_team().size() * 4));
  parallel((groups + chunk - 1) / chunk, [&](int64_t unit) { f(unit * chunk, std::min(groups, (unit + 1) * chunk)); });
}

// Rule 1: an output has one sum, and K one order.
void sums_of_an_output(Report& report, const FreeForms& forms, DType dtype, int64_t rows, int64_t columns) {
  const bool integers = is_quantised(dtype);
  const cpu::LinearKernels& tiles = cpu::kernels().linear.of(integers ? Arithmetic::int8 : Arithmetic::f32, 1);
  Weight w(dtype, rows, columns, 1);
  const std::vector<float> x = test::random_floats(columns, 2);
  std::vector<float> y(static_cast<size_t>(rows)), words(static_cast<size_t>(columns));
  std::vector<int32_t> int8_words(static_cast<size_t>(columns / 4));
  std::vector<cpu::TokenBlock> blocks(static_cast<size_t>(columns / 32));
  cpu::LinearTask task{w.matrix(), nullptr, y.data(), rows, {words.data(), int8_words.data(), blocks.data()}};
  tiles.pack(task.x, x.data(), columns, columns, 0, 1);
  const auto kept = [&] {
    over_groups(rows / 16, [&](int64_t begin, int64_t end) { tiles.multiply(task, begin, end, 0, 1); });
  };
  const auto freer = [&] {
    over_groups(rows / 16, [&](int64_t begin, int64_t end) {
      if (integers)
        forms.multiply_q4_1(y.data(), task.weight, int8_words.data(), blocks.data(), begin, end);
      else
        forms.multiply_f16(y.data(), task.weight, words.data(), begin, end);
    });
  };
  const std::string what = "one sum an output, against four";
  compare(report, what, shape_of(w) + ", in cache", kept, freer);
  FromMemory copies(w.packed.data(), kernel::packed_bytes(Cpu{}, dtype, rows, columns));
  const auto from_memory = [&](auto& f) {
    return [&] {
      task.weight.data = copies.next();
      f();
    };
  };
  compare(report, what, shape_of(w) + ", from memory", from_memory(kept), from_memory(freer), copies.copies());
}

// Rule 1: threads split rows and never K.
void columns_never_split(Report& report, int64_t rows, int64_t columns) {
  const int64_t parts = std::min(thread_team().size(), 4);
  if (parts < 2) return;
  Weight whole(DType::q4_1, rows, columns, 1);
  std::vector<std::unique_ptr<Weight>> cut;
  for (int64_t p = 0; p < parts; ++p)
    cut.push_back(std::make_unique<Weight>(DType::q4_1, rows, columns / parts / 32 * 32, 1));
  const std::vector<float> x = test::random_floats(columns, 2);
  std::vector<float> y(static_cast<size_t>(rows * parts));
  const size_t scratch_bytes = whole.scratch_bytes(1, Arithmetic::int8);
  Aligned scratch(scratch_bytes * static_cast<size_t>(parts));
  const auto run = [&](Weight& w, int64_t part) {
    const LinearPart linear{w.matrix(), nullptr, y.data() + part * rows};
    kernel::packed_linear(Cpu{}, &linear, 1, rows, {x.data() + part * w.columns, w.columns}, 1, Arithmetic::int8,
                          scratch.data() + static_cast<size_t>(part) * scratch_bytes);
  };
  compare(
      report, "threads split rows, against columns", shape_of(whole), [&] { run(whole, 0); },
      [&] {
        parallel(parts, [&](int64_t part) { run(*cut[static_cast<size_t>(part)], part); });
        for (int64_t part = 1; part < parts; ++part)
          for (int64_t r = 0; r < rows; ++r) y[static_cast<size_t>(r)] += y[static_cast<size_t>(part * rows + r)];
      });
}

// Rule 2: prompts in the arithmetic of decoding, which takes f16 weights as they are.
void arithmetic_of_prompts(Report& report, DType dtype, Arithmetic kept, Arithmetic freer, int64_t rows,
                           int64_t columns) {
  const int64_t m = kPromptTokens;
  Weight w(dtype, rows, columns, 1);
  const std::vector<float> x = test::random_floats(m * columns, 2);
  std::vector<float> y(static_cast<size_t>(m * rows));
  const auto run = [&](Arithmetic arithmetic) {
    return [&, arithmetic, scratch = std::make_shared<Aligned>(w.scratch_bytes(m, arithmetic))] {
      const LinearPart part{w.matrix(), nullptr, y.data()};
      kernel::packed_linear(Cpu{}, &part, 1, rows, {x.data(), columns}, m, arithmetic, scratch->data());
    };
  };
  compare(report, fmt::format("prompts in {}, as decoding, against {}", test::name(kept), test::name(freer)),
          shape_of(w), run(kept), run(freer));
}

// Rule 3: segments of 256 keys merged in order, against one piece of the context for each member.
void attention_split(Report& report, const FreeForms& forms, int64_t context) {
  constexpr int64_t kGroup = 3, kKvHeads = 3, kHeadDim = 64, kState = kHeadDim + 16;
  PagedWorld world(kGroup * kKvHeads, kKvHeads, kHeadDim, context, 1, DType::f16);
  world.from_memory();
  const int64_t pages = context / kPageTokens, parts = thread_team().size();
  std::vector<float> states(static_cast<size_t>(kKvHeads * parts * kGroup * kState));
  std::vector<float> scores(static_cast<size_t>(kKvHeads * parts * kGroup * kPageTokens * (pages / parts + 1)));
  const auto state = [&](int64_t unit, int64_t row) { return states.data() + (unit * kGroup + row) * kState; };
  const auto attend_part = [&](const CacheLayer& layer, int64_t unit) {
    const int64_t head = unit / parts, begin = pages * (unit % parts) / parts, end = pages * (unit % parts + 1) / parts;
    std::vector<const uint16_t*> keys, values;
    for (int64_t page = begin; page < end; ++page) {
      const int64_t at = world.table()[page] * layer.page_stride + head * page_head_bytes(DType::f16, kHeadDim);
      keys.push_back(reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(layer.keys) + at));
      values.push_back(reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(layer.values) + at));
    }
    forms.attend_f16(state(unit, 0), world.q() + head * kGroup * kHeadDim, keys.data(), values.data(), end - begin,
                     kHeadDim, world.options().scale,
                     scores.data() + unit * kGroup * kPageTokens * (pages / parts + 1));
  };
  const auto merge = [&](int64_t row) {
    float* out = world.out() + row * kHeadDim;
    float most = -INFINITY, sum = 0;
    for (int64_t p = 0; p < parts; ++p) most = std::max(most, state(row / kGroup * parts + p, row % kGroup)[kHeadDim]);
    std::fill_n(out, kHeadDim, 0.0f);
    for (int64_t p = 0; p < parts; ++p) {
      const float* of = state(row / kGroup * parts + p, row % kGroup);
      const float factor = std::exp(of[kHeadDim] - most);
      sum += factor * of[kHeadDim + 1];
      for (int64_t d = 0; d < kHeadDim; ++d) out[d] += factor * of[d];
    }
    for (int64_t d = 0; d < kHeadDim; ++d) out[d] /= sum;
  };
  compare(
      report, "attention in segments of 256, against equal shares", fmt::format("f16, {} keys", context),
      [&] { world.attend(); },
      [&] {
        const CacheLayer layer = world.next_layer();
        parallel(kKvHeads * parts, [&](int64_t unit) { attend_part(layer, unit); });
        for (int64_t row = 0; row < kKvHeads * kGroup; ++row) merge(row);
      },
      world.copies());
}

// Rule 3 for prompts: the merges of segments, timed alone, are what a single piece would save.
void merges_of_prompts(Report& report, int64_t context) {
  constexpr int64_t kHeads = 9, kHeadDim = 64;
  PagedWorld world(kHeads, 3, kHeadDim, context, kPromptTokens, DType::f16);
  std::vector<float> out(kHeadDim, 0.5f), segment(kHeadDim, 0.25f);
  float maximum = 1, sum = 2;
  const auto merge = cpu::kernels().attention.floats.merge;
  const double one = best_seconds([&] { merge(out.data(), maximum, sum, segment.data(), 0.5f, 1e-30f, kHeadDim); });
  int64_t merges = 0;
  for (int64_t t = context - kPromptTokens; t < context; ++t) merges += kHeads * (t / kSegmentTokens + 1);
  double kept = 1e300;
  for (int round = 0; round < kTurns; ++round) kept = std::min(kept, best_seconds([&] { world.attend(); }));
  report.promise("merging segments of 256 in prompts", fmt::format("f16, 512 of {} keys", context), kept,
                 kept - one * static_cast<double>(merges) / thread_team().size());
}

}  // namespace

void promise(Report& report) {
  if (const FreeForms* forms = free_forms()) {
    for (const auto& [rows, columns] : {std::pair{3072, 576}, {576, 1536}, {2048, 2048}})
      for (const DType dtype : {DType::f16, DType::q4_1}) sums_of_an_output(report, *forms, dtype, rows, columns);
    for (const int64_t context : {272, 512, 2048, 8192}) attention_split(report, *forms, context);
  }
  merges_of_prompts(report, 2048);
  columns_never_split(report, 576, 1536);
  columns_never_split(report, 64, 8192);
  arithmetic_of_prompts(report, DType::f16, Arithmetic::f32, Arithmetic::bf16, 3072, 576);
  arithmetic_of_prompts(report, DType::q4_1, Arithmetic::int8, Arithmetic::bf16, 3072, 576);
}

}  // namespace lathe::bench
