// The inference linears: which tiles run where. The tiles themselves are in packed_linear_tiles.h.
//
// A unit of work is a chunk of row groups; what it computes does not depend on its borders.
//
// One core of a Sapphire Rapids class Xeon (a virtual machine with neighbours; seconds of the thread's own time),
// 3072 x 576. Decode: weights from memory, M = 1, GB/s, where a plain read gives 14.5. Prefill: M = 256, Gop/s.
//                q8_0 int8      q4_0 int8      q4_1 int8      bf16 bf16      f16 f32        f32 f32        q4_1 f32
//   portable      5.8 /  12      3.1 /  12      2.7 /   9     10.4 /  26      4.0 /   7     11.0 /  34      2.7 /  34
//   avx2          9.9 / 115      9.9 / 223      9.6 / 210     10.5 / 103     11.9 / 102     11.8 /  98      3.6 / 106
//   avx512       10.8 / 160     10.3 / 290      9.6 / 298     12.5 / 174     12.0 / 168     14.3 / 167      4.4 / 179
//   avx512_vnni  12.4 / 427     10.7 / 391     11.1 / 365     11.6 / 137     11.0 / 138     13.2 / 137      4.3 / 145
// Prefill of avx2 and avx512 is of another day, when fma alone reached 118 and 197; rows compare only within a day.
// With vdpbf16ps the bf16 column of avx512_vnni would be 97 on this processor and twice its f32 on Zen 4. In AMX tiles
// the whole model prefills in bf16 at 2.6 times the speed (docs/performance.md has each kernel, docs/log.md the steps).
#include "kernels/packed_linear.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_layout.h"
#include "tensor/errors.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kSerialActivations = 1 << 14;
constexpr int64_t kChunkBytes = 16 << 10;        // least bytes of weights in a chunk
constexpr int64_t kTokenBlockBytes = 768 << 10;  // activations that should stay in the second-level cache

int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

Arithmetic effective(Arithmetic arithmetic, DType dtype) {
  return is_integer(arithmetic) && !is_quantised(dtype) ? Arithmetic::f32 : arithmetic;
}

// How many tokens a row is to the tiles.
int64_t halves_of(Arithmetic arithmetic) { return arithmetic == Arithmetic::int16 ? 2 : 1; }

struct Scratch {
  int64_t words, int8_words, blocks;  // bytes of each; AMX tiles take 16 tokens and 32 columns whole
  // `integers`: tokens of the integer tiles, 0 where there are none
  Scratch(int64_t tokens, int64_t columns, bool floats, int64_t integers) {
    const auto whole = [](int64_t m) { return (m + kAmxTokens - 1) / kAmxTokens * kAmxTokens; };
    const int64_t k = (columns + 31) / 32 * 32;
    words = floats ? align(whole(tokens) * k * 4) : 0;
    static_assert(sizeof(AmxTokenBlock) / kAmxTokens <= sizeof(TokenBlock));
    int8_words = align(whole(integers) * k * 2);
    blocks = align(whole(integers) * (k / kBlockColumns) * static_cast<int64_t>(sizeof(TokenBlock)));
  }
};

// f(begin, end) over tokens in whole tiles, on the team when there are many.
template <class F>
void over_tiles(int64_t m, int64_t columns, int tile, F f) {
  if (m * columns < kSerialActivations) return f(int64_t{0}, m);
  parallel_for(m, tile, f);
}

// x for the tiles of each arithmetic in use; a row is `halves` tokens to the integer tiles.
PackedTokens pack_tokens(const LinearKernels* floats, const LinearKernels* integers, int64_t halves, const float* x,
                         int64_t ldx, int64_t m, int64_t columns, void* scratch) {
  const Scratch sizes(m, columns, floats != nullptr, integers != nullptr ? halves * m : 0);
  uint8_t* bytes = static_cast<uint8_t*>(scratch);
  const PackedTokens packed{reinterpret_cast<float*>(bytes), reinterpret_cast<int32_t*>(bytes + sizes.words),
                            reinterpret_cast<TokenBlock*>(bytes + sizes.words + sizes.int8_words)};
  const auto pack_by = [&](const LinearKernels& tiles, auto pack, int64_t tokens) {
    over_tiles(tokens, columns, tiles.tile_tokens,
               [&](int64_t begin, int64_t end) { pack(packed, x, ldx, columns, begin, end); });
  };
  if (floats != nullptr) pack_by(*floats, floats->pack, m);
  if (integers != nullptr) pack_by(*integers, halves == 2 ? integers->pack_halves : integers->pack, halves * m);
  return packed;
}

// Row groups [group, group_end) of tokens [token, token_end), which are the halves of activations: their products are
// added where they are in the first-level cache.
void multiply_halves(const LinearKernels& tiles, const LinearTask& task, int64_t group, int64_t group_end,
                     int64_t token, int64_t token_end) {
  constexpr int64_t kTokens = 96, kGroups = 2;  // of a block; fewer tokens leave room for more groups
  alignas(64) float memory[kTokens * kGroups * kGroupRows];
  float* const halves = memory;
  const int64_t tokens = std::min(kTokens, token_end - token), groups = kTokens * kGroups / tokens / 2 * 2,
                ld = groups * kGroupRows;
  for (int64_t g = group; g < group_end; g += groups)
    for (int64_t t = token; t < token_end; t += tokens) {
      const int64_t groups_end = std::min(g + groups, group_end), tokens_end = std::min(t + tokens, token_end);
      LinearTask part = task;
      part.bias = nullptr;
      part.y = halves - (t * ld + g * kGroupRows);  // tiles count from token 0 and row 0
      part.ldy = ld;
      tiles.multiply(part, g, groups_end, t, tokens_end);
      const int64_t row0 = g * kGroupRows, rows = std::min(task.weight.rows, groups_end * kGroupRows) - row0;
      for (int64_t i = t / 2; i < tokens_end / 2; ++i) {
        const float *first = halves + (2 * i - t) * ld, *second = first + ld;
        float* y = task.y + i * task.ldy + row0;
        for (int64_t r = 0; r < rows; ++r)
          y[r] = first[r] + second[r] + (task.bias != nullptr ? task.bias[row0 + r] : 0.0f);
      }
    }
}

// The chunks of all parts in a row: each is some row groups times a block of tokens.
struct Plan {
  int64_t chunks_before[kMaxParts + 1] = {};
  int64_t chunk_groups[kMaxParts] = {};
  int64_t token_block, token_blocks;
  int64_t units() const { return chunks_before[kMaxParts] * token_blocks; }

  Plan(const LinearPart* parts, int part_count, int64_t m, int64_t columns, int64_t block_bytes, int members) {
    constexpr int64_t kTiles = 96;  // a multiple of every tile height: 12, 6, 4, 3 and 2 tokens, and 32 in AMX
    const int64_t bytes = m * ((columns + kBlockColumns - 1) / kBlockColumns) * block_bytes;
    token_blocks = (bytes + kTokenBlockBytes - 1) / kTokenBlockBytes;
    token_block = ((m + token_blocks - 1) / token_blocks + kTiles - 1) / kTiles * kTiles;
    token_blocks = (m + token_block - 1) / token_block;
    int64_t all_bytes = 0;
    for (int p = 0; p < part_count; ++p)
      all_bytes += row_groups(parts[p].weight.rows) * group_bytes(parts[p].weight.dtype, columns);
    const int64_t wanted = all_bytes / (members * 4), chunk_bytes = wanted > kChunkBytes ? wanted : kChunkBytes;
    for (int p = 0; p < kMaxParts; ++p) {
      chunks_before[p + 1] = chunks_before[p];
      if (p >= part_count) continue;
      const int64_t groups = row_groups(parts[p].weight.rows);
      chunk_groups[p] = even(chunk_bytes / group_bytes(parts[p].weight.dtype, columns) + 1);  // tiles hold two groups
      chunks_before[p + 1] += (groups + chunk_groups[p] - 1) / chunk_groups[p];
    }
  }
};

// "linear q4_1 3072x576 int8": what the parts hold, their rows together and the arithmetic of the first.
ProfiledCall describe(const LinearPart* parts, int part_count, int64_t m, Arithmetic arithmetic) {
  constexpr const char* kArithmetic[] = {"f32", "bf16", "int8", "int16"};
  const int64_t columns = parts[0].weight.columns;
  std::string dtypes;
  int64_t rows = 0, bytes = 0;
  for (const LinearPart* p = parts; p < parts + part_count; ++p) {
    const std::string_view dtype = name(p->weight.dtype);
    if (dtypes.find(dtype) == std::string::npos) dtypes += (dtypes.empty() ? "" : "+") + std::string(dtype);
    rows += p->weight.rows;
    bytes += row_groups(p->weight.rows) * group_bytes(p->weight.dtype, columns);
  }
  const Arithmetic used = effective(arithmetic, parts[0].weight.dtype);
  return {fmt::format("linear {} {}x{} {}", dtypes, rows, columns, kArithmetic[static_cast<int>(used)]),
          bytes + 4 * m * (rows + columns), 2 * m * rows * columns,
          is_integer(used) ? ProfiledCall::Kind::integers : ProfiledCall::Kind::floats};
}

}  // namespace
}  // namespace lathe::cpu

namespace lathe::kernel {
using namespace cpu;

size_t packed_linear_scratch_bytes(Cpu, const LinearPart* parts, int part_count, int64_t m, Arithmetic arithmetic) {
  bool floats = false, integers = false;
  for (const LinearPart* p = parts; p < parts + part_count; ++p)
    (is_integer(effective(arithmetic, p->weight.dtype)) ? integers : floats) = true;
  const Scratch sizes(m, parts[0].weight.columns, floats, integers ? halves_of(arithmetic) * m : 0);
  return static_cast<size_t>(sizes.words + sizes.int8_words + sizes.blocks);
}

void packed_linear(Cpu, const LinearPart* parts, int part_count, int64_t ldy, ConstRows<float> x, int64_t m,
                   Arithmetic arithmetic, void* scratch) {
  const ProfileScope profile([&] { return describe(parts, part_count, m, arithmetic); });
  check_parts(part_count);
  if (m <= 0) return;
  const int64_t columns = parts[0].weight.columns;
  const LinearTable& table = kernels().linear;
  const int64_t halves = halves_of(arithmetic), tokens = halves * m;
  const LinearKernels *floats = nullptr, *integers = nullptr;
  int64_t rows = 0;
  for (int p = 0; p < part_count; ++p) {
    check(parts[p].weight.columns == columns, "packed_linear", "part {} has {} columns, part 0 has {}", p,
          parts[p].weight.columns, columns);
    const Arithmetic own = effective(arithmetic, parts[p].weight.dtype);
    if (is_integer(own))
      integers = &table.of(own, tokens);
    else
      floats = &table.of(own, m);
    rows += parts[p].weight.rows;
  }
  const PackedTokens packed = pack_tokens(floats, integers, halves, x.data, x.stride, m, columns, scratch);
  const Plan plan(parts, part_count, tokens, columns, (floats != nullptr ? floats : integers)->block_bytes,
                  thread_team().size());

  const auto run_unit = [&](int64_t unit) {
    const int64_t chunk = unit % plan.chunks_before[kMaxParts], block = unit / plan.chunks_before[kMaxParts];
    int p = 0;
    while (chunk >= plan.chunks_before[p + 1]) ++p;
    const LinearPart& part = parts[p];
    const LinearTask task{part.weight, part.bias, part.y, ldy, packed};
    const int64_t group = (chunk - plan.chunks_before[p]) * plan.chunk_groups[p], groups = row_groups(part.weight.rows);
    const int64_t group_end = group + plan.chunk_groups[p] < groups ? group + plan.chunk_groups[p] : groups;
    const int64_t token = block * plan.token_block, token_end = std::min(token + plan.token_block, tokens);
    if (!is_integer(effective(arithmetic, part.weight.dtype)))
      floats->multiply(task, group, group_end, token / halves, token_end / halves);
    else if (halves == 2)
      multiply_halves(*integers, task, group, group_end, token, token_end);
    else
      integers->multiply(task, group, group_end, token, token_end);
  };

  if (rows * columns * m < kSerialProducts || plan.units() < 2) {
    for (int64_t unit = 0; unit < plan.units(); ++unit) run_unit(unit);
    return;
  }
  parallel(plan.units(), run_unit);
}

}  // namespace lathe::kernel
