// The kernels of avx512_vnni with the linears of many tokens in AMX tiles.
#include "kernels/cpu/dispatch.h"

#if defined(__AMX_TILE__) || defined(__AMXTILE__)  // as GCC and as Clang spell it
#include "kernels/cpu/packed_linear_amx.h"
#include "kernels/cpu/paged_attention_amx.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {

Kernels with_amx(Kernels table) {
  using Tiles = AmxTiles<Avx512Amx>;
  LinearTable& linear = table.linear;
  const int bf16 = static_cast<int>(Arithmetic::bf16), int8 = static_cast<int>(Arithmetic::int8);
  linear.few[bf16] = Tiles::kFewBf16;
  linear.many[bf16] = Tiles::kBf16;
  linear.few_tokens[bf16] = Tiles::kFewTokensBf16;
  linear.many[int8] = Tiles::kInt8;
  linear.few_tokens[int8] = Tiles::kFewTokensInt8;
  table.attention.bf16 = AmxAttention<Avx512Amx>::kernels(table.attention.floats);
  table.attention.bf16_head_dim = AmxAttention<Avx512Amx>::kHeadDim;
  table.peaks.bf16 = table.peaks.integers = Tiles::peak;
  return table;
}

}  // namespace

const Kernels* kernels_amx() {
  static const Kernels table = with_amx(*kernels_avx512_vnni());
  return &table;
}

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_amx() { return nullptr; }
}  // namespace lathe::cpu
#endif
