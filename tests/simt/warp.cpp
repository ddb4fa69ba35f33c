// What the operations of a warp compute, over what its 32 lanes brought.
#include <simt/engine.h>

#include <algorithm>

namespace simt {
namespace {

struct Vote {
  unsigned value, result;
};
template <Reduction kind>
SIMT_RAW void act_reduce(void* const* lanes) {
  unsigned all = kind == Reduction::min || kind == Reduction::bit_and ? ~0u : 0u;
  for (unsigned i = 0; i < 32; ++i) {
    if (lanes[i] == nullptr) continue;
    const unsigned v = static_cast<Vote*>(lanes[i])->value;
    if constexpr (kind == Reduction::ballot) all |= (v != 0 ? 1u : 0u) << i;
    if constexpr (kind == Reduction::add) all += v;
    if constexpr (kind == Reduction::min) all = v < all ? v : all;
    if constexpr (kind == Reduction::max) all = v > all ? v : all;
    if constexpr (kind == Reduction::bit_or) all |= v;
    if constexpr (kind == Reduction::bit_and) all &= v;
  }
  for (int i = 0; i < 32; ++i)
    if (lanes[i] != nullptr) static_cast<Vote*>(lanes[i])->result = all;
}

// ---- mma ----
struct Fragments {
  float* c;
  const uint32_t *a, *b;
};
SIMT_RAW float element(uint32_t word, int i) { return std::bit_cast<float>(word >> 16 * i << 16); }
// m16 n8 k16: lane 4 g + t holds the words of a's rows g and g + 8 and of b's column g that begin at element 2 t, and
// those half of k further on; columns 2 t and 2 t + 1 of c's rows g and g + 8.
SIMT_RAW void act_mma(void* const* lanes) {
  constexpr int depth = 16;
  float a[16][depth], b[8][depth], product[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* f = static_cast<const Fragments*>(lanes[lane]);
    const int g = lane / 4, first = lane % 4 * 2;
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 2; ++i) {
        const int k = first + half * depth / 2 + i;
        a[g][k] = element(f->a[2 * half], i);
        a[g + 8][k] = element(f->a[2 * half + 1], i);
        b[g][k] = element(f->b[half], i);
      }
  }
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = 0;
      for (int k = 0; k < depth; ++k) sum += a[row][k] * b[column][k];
      product[row][column] = sum;
    }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<const Fragments*>(lanes[lane])->c[i] += product[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

// ---- ldmatrix ----
struct MatrixRow {
  uint32_t* matrices;
  const uint16_t* row;
};
// 8 rows of 16 bytes are read at once if they lie in different ones of the 8 groups of 4 banks.
SIMT_RAW uint64_t extra_wavefronts(void* const* rows) {
  int in_group[8] = {};
  int most = 0;
  for (int i = 0; i < 8; ++i)
    most = std::max(most, ++in_group[reinterpret_cast<uintptr_t>(static_cast<MatrixRow*>(rows[i])->row) / 16 % 8]);
  return static_cast<uint64_t>(most - 1);
}
template <bool transpose>
SIMT_RAW void act_load_matrices(void* const* lanes) {
  ++statistics.matrix_loads;
  for (int q = 0; q < 4; ++q) {
    void* const* rows = lanes + 8 * q;
    statistics.bank_conflicts += extra_wavefronts(rows);
    const auto at = [&](int row, int column) SIMT_RAW { return static_cast<MatrixRow*>(rows[row])->row[column]; };
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, first = lane % 4 * 2;
      const uint32_t low = transpose ? at(first, g) : at(g, first);
      const uint32_t high = transpose ? at(first + 1, g) : at(g, first + 1);
      static_cast<MatrixRow*>(lanes[lane])->matrices[q] = low | high << 16;
    }
  }
}
// So that the sanitizers see each lane read its row.
__attribute__((noinline)) void touch(const void* row) {
  const auto* words = static_cast<const volatile uint64_t*>(row);
  const uint64_t first = words[0], second = words[1];
  static_cast<void>(first + second);
}

}  // namespace

SIMT_RAW unsigned reduce(const char* name, Reduction kind, unsigned mask, unsigned value, Location at) {
  constexpr WarpAction actions[] = {act_reduce<Reduction::ballot>, act_reduce<Reduction::add>,
                                    act_reduce<Reduction::min>,    act_reduce<Reduction::max>,
                                    act_reduce<Reduction::bit_or>, act_reduce<Reduction::bit_and>};
  Vote vote{value, 0};
  collective(name, mask, &vote, actions[static_cast<int>(kind)], false, at);
  return vote.result;
}

SIMT_RAW void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at) {
  Fragments fragments{c, a, b};
  if (lane_index() == 0) ++statistics.matrix_products;
  collective("mma.sync bf16", ~0u, &fragments, act_mma, false, at);
}

SIMT_RAW void load_matrices(uint32_t (&matrices)[4], const void* row, bool transpose, Location at) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail(at, "ldmatrix: the address of a row is not a multiple of 16");
  touch(row);
  MatrixRow lane{matrices, static_cast<const uint16_t*>(row)};
  collective(transpose ? "ldmatrix.trans" : "ldmatrix", ~0u, &lane,
             transpose ? act_load_matrices<true> : act_load_matrices<false>, false, at);
}

}  // namespace simt
