// What a simd struct is: the parameter of every kernel template, one for each instruction set (Portable, Avx2, AvxVnni,
// Avx512, Avx512Vnni, Neon, NeonDot, NeonI8mm), chosen at run time by dispatch.h. It has
//   Floats, Ints           16 lanes of f32 and i32; Floats has + - * /
//   zero set1 load store   and *_partial forms, which touch only the first n lanes (the others read as zero)
//   fma(a, b, c)           a * b + c as fast as the target can; fused(a, b, c) always rounds once
//   maximum, minimum       the second operand when either is NaN
//   sqrt                   rounded correctly
//   round                  to the nearest integer, ties to even, for |v| < 2^22
//   scale_by_power(v, n)   v * 2^n for integral n in [-252, 254]
//   keep_lanes             lanes [first, last) of v, another value elsewhere
//   transpose<n>           16 vectors as the rows of a matrix, turned in place; only lanes [0, n) of the results count
//   sum, largest           over the lanes; sum adds halves to halves, in the same order everywhere
//   largest_magnitude      of two: the largest bit pattern without its sign
//   load_ints store_ints   64 bytes
//   store_bytes            lanes that are whole numbers within +-127, as int8
//   load_signed_bytes      16 int8 as lanes; to_floats: lanes as f32
//   bits, raised_bits      (v >> shift) & mask, (v << shift) & mask; bits that the shift brings in must be masked
//   either                 v | w
//   look_up(v, table)      every byte of v, below 16, replaced by the byte of the table (16) that it counts to
//   split_bf16             lanes of pairs of bf16: the first and the second of each
//   IntegerSum<bits>       the sum of products of up to 32 columns, exact: unsigned weight bytes of so many bits times
//                          signed activation bytes, 4 in a lane; `start` is -offset * (sum of the activations). One
//                          that begins in 16 bits has kShortWords, how many words fit there, and carry(), due after as
//                          many
//   kMultipliesMatrices    whether there is a MatrixSum: such sums of two tokens, from eight bytes of each at a time
//   kMultipliesBf16        whether there are add_pair_products (of pairs of bf16) and pair_bf16
// and the sizes of the tiles that fit the registers.
//
// A translation unit that is compiled for an instruction set must not leave weak symbols that other units could be
// linked to: it includes no library header with inline functions, and every template carries its simd struct's name.
#pragma once
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

#define LATHE_INLINE inline __attribute__((always_inline))
// What is called once a tile: compiled once, however many callers it has.
#define LATHE_NOINLINE __attribute__((noinline))
// A loop over [0, n) that is unrolled in full: what it indexes lives in registers.
#define LATHE_FOR(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); ++i)
// The same over the words of a block, for shifts by constants; the portable form would become a megabyte.
#if defined(__AVX2__) || defined(LATHE_UNROLL_WORDS)
#define LATHE_FOR_WORDS(i, n) LATHE_FOR(i, n)
#else
#define LATHE_FOR_WORDS(i, n) for (int i = 0; i < (n); ++i)
#endif
