// Optimizer steps on the thread team: element by element, bound by memory. The sum of squares is cut into pieces by its
// length alone, whose sums are added in ascending order.
#include "kernels/optimizer.h"

#include <algorithm>

#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// A block of coded states, in f32 while it is stepped.
struct DecodedBlock {
  DecodedBlock(const cpu::OptimizerTable& kernels, const CodedState& state, int64_t block, StateMap map)
      : kernels(kernels), codes(state.codes + block * kStateBlock), scale(state.scales + block), map(map) {
    kernels.decode(values, codes, *scale, map);
  }
  void encode(const uint32_t* words, int shift) const { kernels.encode(codes, scale, values, map, words, shift); }

  const cpu::OptimizerTable& kernels;
  int8_t* codes;
  float* scale;
  StateMap map;
  alignas(64) float values[kStateBlock];
};

// f(block, words) for each block of n elements, shared out among the team, with the words that round it.
template <class F>
void for_each_block(int64_t n, const StateDraws& draws, const F& f) {
  const auto draw = cpu::training_kernels().optimizer.draw;
  parallel_for(n / kStateBlock, kGrainElements / kStateBlock, [&](int64_t begin, int64_t end) {
    alignas(64) uint32_t words[kStateBlock];
    for (int64_t block = begin; block < end; ++block) {
      constexpr int64_t kCounters = kStateBlock / 4;
      draw(words, draws.seed, draws.stream, static_cast<uint64_t>((draws.first_block + block) * kCounters));
      f(block, words);
    }
  });
}
constexpr int kFirst = 0, kSecond = 16;  // shifts of the words

}  // namespace

double sum_of_squares(Cpu, const float* x, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"sum_of_squares", 4 * n, 2 * n}; });
  constexpr int64_t kPieces = 256, kLeast = 4096;
  const int64_t piece = std::max(kLeast, (n + kPieces - 1) / kPieces), pieces = (n + piece - 1) / piece;
  double sums[kPieces];
  const auto kernel = cpu::training_kernels().optimizer.sum_of_squares;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = kernel(x + i * piece, std::min(piece, n - i * piece));
  });
  double sum = 0;
  for (int64_t i = 0; i < pieces; ++i) sum += sums[i];
  return sum;
}

void adamw_step(Cpu, float* w, float* m, float* v, float* g, int64_t n, const AdamwStep& step) {
  const ProfileScope profile([&] { return ProfiledCall{"adamw_step", (step.clear_gradient ? 32 : 28) * n, 14 * n}; });
  const AdamwFactors factors = factors_of(step);
  const auto kernel = cpu::training_kernels().optimizer.adamw;
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    kernel(w + begin, m + begin, v + begin, g + begin, end - begin, factors);
  });
}

void adamw_step(Cpu, float* w, CodedState m, CodedState v, float* g, int64_t n, const AdamwStep& step,
                const StateDraws& draws) {
  const ProfileScope profile([&] { return ProfiledCall{"adamw_step", (step.clear_gradient ? 20 : 16) * n, 80 * n}; });
  const AdamwFactors factors = factors_of(step);
  const cpu::OptimizerTable& kernels = cpu::training_kernels().optimizer;
  for_each_block(n, draws, [&](int64_t block, const uint32_t* words) {
    DecodedBlock first(kernels, m, block, StateMap::any_sign), second(kernels, v, block, StateMap::positive);
    const int64_t at = block * kStateBlock;
    kernels.adamw(w + at, first.values, second.values, g + at, kStateBlock, factors);
    first.encode(words, kFirst);
    second.encode(words, kSecond);
  });
}

void sgd_step(Cpu, float* w, float* m, float* g, int64_t n, const SgdStep& step) {
  const ProfileScope profile([&] {
    return ProfiledCall{"sgd_step", (m != nullptr ? 20 : 12) * n + (step.clear_gradient ? 4 * n : 0), 6 * n};
  });
  const SgdFactors factors = factors_of(step);
  const auto kernel = cpu::training_kernels().optimizer.sgd;
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    kernel(w + begin, m != nullptr ? m + begin : nullptr, g + begin, end - begin, factors);
  });
}

void sgd_step(Cpu, float* w, CodedState m, float* g, int64_t n, const SgdStep& step, const StateDraws& draws) {
  const ProfileScope profile([&] { return ProfiledCall{"sgd_step", (step.clear_gradient ? 18 : 14) * n, 40 * n}; });
  const SgdFactors factors = factors_of(step);
  const cpu::OptimizerTable& kernels = cpu::training_kernels().optimizer;
  for_each_block(n, draws, [&](int64_t block, const uint32_t* words) {
    DecodedBlock momentum(kernels, m, block, StateMap::any_sign);
    const int64_t at = block * kStateBlock;
    kernels.sgd(w + at, momentum.values, g + at, kStateBlock, factors);
    momentum.encode(words, kFirst);
  });
}

void decode_state(Cpu, float* x, CodedState state, int64_t n, StateMap map) {
  const ProfileScope profile([&] { return ProfiledCall{"decode_state", 5 * n, 4 * n}; });
  const auto decode = cpu::training_kernels().optimizer.decode;
  parallel_for(n / kStateBlock, kGrainElements / kStateBlock, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      decode(x + b * kStateBlock, state.codes + b * kStateBlock, state.scales[b], map);
  });
}

void encode_state(Cpu, CodedState state, const float* x, int64_t n, StateMap map, const StateDraws& draws) {
  const ProfileScope profile([&] { return ProfiledCall{"encode_state", 5 * n, 40 * n}; });
  const auto encode = cpu::training_kernels().optimizer.encode;
  for_each_block(n, draws, [&](int64_t block, const uint32_t* words) {
    encode(state.codes + block * kStateBlock, state.scales + block, x + block * kStateBlock, map, words, kFirst);
  });
}

}  // namespace lathe::kernel
