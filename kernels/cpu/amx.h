// AMX tiles: eight registers of up to 16 rows x 64 bytes. Intel SDM volume 1, chapter 18; volume 2, TDPBF16PS.
//
// Spelt in assembly: the header of GCC 12 tells the compiler neither that LDTILECFG reads 64 bytes (it then removes the
// stores to the rest of the configuration as dead) nor that TILELOADD reads memory at all.
#pragma once
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace lathe::cpu {

struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

struct Amx {
  // Also zeroes every tile. `release` lets the operating system forget the tiles when it changes threads.
  static LATHE_INLINE void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  static LATHE_INLINE void release() { asm volatile("tilerelease"); }

  template <int kTile>
  static LATHE_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static LATHE_INLINE void load(const void* rows, int64_t stride) {  // bytes
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static LATHE_INLINE void store(void* rows, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  // c[m][n] += sum over k of a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1], bf16 to f32: one chain of fused
  // multiply-adds over the first products and one over the second, both from zero, then c += first + second. Subnormal
  // numbers count as zero.
  template <int kC, int kA, int kB>
  static LATHE_INLINE void add_products_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace lathe::cpu
