// Which instruction set the kernels use, decided once: the best that the machine has, or what LATHE_CPU names.
#pragma once
#include <string_view>
#include <vector>

namespace lathe {

// portable, then those of x86-64 and those of AArch64, each in ascending order of speed.
// avx2: AVX2 + FMA + F16C. avx_vnni: also AVX-VNNI, which not all that have AVX-512 have. avx512: F BW DQ VL.
// avx512_vnni: also VNNI and BF16. amx: also tiles of int8 and bf16, which the operating system grants to a process
// that asks. neon: every AArch64. neon_dot: also products of bytes (FEAT_DotProd). neon_i8mm: also their matrices
// (FEAT_I8MM).
enum class CpuIsa { portable, avx2, avx_vnni, avx512, avx512_vnni, amx, neon, neon_dot, neon_i8mm };

std::string_view name(CpuIsa isa);  // as LATHE_CPU spells it
// All that this machine can run, ascending; portable is always there.
std::vector<CpuIsa> available_isas();
// The one that kernels use. Throws Error when LATHE_CPU names an unknown one, or one that the machine lacks.
CpuIsa cpu_isa();
// For tests that run every one in a process; throws as above.
void set_cpu_isa(CpuIsa isa);
// Whether it has products of pairs of bf16.
constexpr bool multiplies_bf16(CpuIsa isa) { return isa == CpuIsa::avx512_vnni || isa == CpuIsa::amx; }

}  // namespace lathe
