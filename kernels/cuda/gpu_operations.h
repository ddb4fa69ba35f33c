// What kernels do with one thread, one warp or one block: conversions, the PTX instructions that C++ has no word for,
// sums and maxima. Included through kernels/cuda/gpu.h.
#pragma once
#include "kernels/device.h"
#include "tensor/dtype.h"
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace lathe::kernel {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// n / by, rounded up.
template <class N, class By>
__host__ __device__ constexpr auto ceil_divide(N n, By by) {
  return (n + by - 1) / by;
}
// A dimension of a grid whose blocks take `of_block` of n each.
inline unsigned blocks_of(int64_t n, int64_t of_block) { return static_cast<unsigned>(ceil_divide(n, of_block)); }

// 16 bytes of elements: what one thread reads or writes at once. The address must be a multiple of 16.
template <class T>
struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[size];
};
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T>*>(p);
}
template <class T>
__device__ __forceinline__ void store_pack(T* p, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(p) = pack;
}

// Conversions round to nearest, ties to even.
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
#if defined(__CUDACC__)
__device__ __forceinline__ float to_float(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ __forceinline__ bf16 to_bf16(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
__device__ __forceinline__ f16 to_f16(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
#else
inline float to_float(f16 x) { return f16_to_f32(x.bits); }
inline bf16 to_bf16(float x) { return {f32_to_bf16(x)}; }
inline f16 to_f16(float x) { return {f32_to_f16(x)}; }
#endif
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_bf16(x);
  else if constexpr (std::is_same_v<T, f16>)
    return to_f16(x);
  else
    return static_cast<T>(x);
}
// Two elements in the 32 bits that a fragment of mma_bf16_16816 holds: `low` has the lower index.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if defined(__CUDACC__)
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
#else
  return to_bf16(low).bits | static_cast<uint32_t>(to_bf16(high).bits) << 16;
#endif
}

// ---- the warp's matrix instructions, and copies that a thread does not wait for ----
// c (16, 8) += a (16, 16) b (16, 8), a by rows, b by columns. Of lane 4 g + t: c[0..1] are columns 2 t, 2 t + 1 of row
// g, c[2..3] of row g + 8; a[0] columns 2 t, 2 t + 1 of row g, a[1] of row g + 8, a[2], a[3] the same 8 columns on;
// b[0] rows 2 t, 2 t + 1 of column g, b[1] 8 rows on. (PTX ISA, mma.m16n8k16.) ldmatrix_x4: four matrices of 8 rows of
// 8 16-bit elements; lane 8 q + i gives the address of row i of matrix q, in shared memory and a multiple of 16;
// matrices[q] gets elements 2 t, 2 t + 1 of row g (_trans: of column g). cp_async16: 16 bytes from global to shared
// memory, zeros where !`read`; they are there for the thread that issued it after cp_async_wait<N>() with N groups
// committed later at most, for the others after a barrier behind that.
#if defined(__CUDACC__)
__device__ __forceinline__ void mma_bf16_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&matrices)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&matrices)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool read = true) {
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(read ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroupsLeft>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}
#else
inline void mma_bf16_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           simt::Location at = simt::Location::here()) {
  simt::mma_bf16(c, a, b, at);
}
inline void ldmatrix_x4(uint32_t (&matrices)[4], const void* row, simt::Location at = simt::Location::here()) {
  simt::load_matrices(matrices, row, false, at);
}
inline void ldmatrix_x4_trans(uint32_t (&matrices)[4], const void* row, simt::Location at = simt::Location::here()) {
  simt::load_matrices(matrices, row, true, at);
}
inline void cp_async16(void* shared, const void* global, bool read = true, simt::Location at = simt::Location::here()) {
  simt::copy_async(shared, global, 16, read ? 16 : 0, at);
}
inline void cp_async_commit() { simt::copy_async_commit(); }
template <int kGroupsLeft>
void cp_async_wait() {
  simt::copy_async_wait(kGroupsLeft);
}
#endif

// ---- sums and maxima: every thread gets the same bits ----
// All 32 lanes take part, so blocks have a multiple of 32 threads.
struct Plus {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Greater {  // of a number and NaN, the number
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return max(a, b);
  }
};
template <class T, class Join>
__device__ __forceinline__ T warp_join(T value, Join join) {
  for (int distance = 16; distance > 0; distance /= 2) value = join(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}
// The sum over the lanes up to this one, itself included.
template <class T>
__device__ __forceinline__ T warp_scan(T value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int distance = 1; distance < 32; distance *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}
// Over a block of up to 1,024 threads; `none` joined with any value is that value. Contains two barriers.
template <class T, class Join>
__device__ __forceinline__ T block_join(T value, T none, Join join) {
  SHARED_ARRAY(T, of_warp, [32]);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z), lane = thread % 32;
  const int warps = blockDim.x * blockDim.y * blockDim.z / 32;
  value = warp_join(value, join);
  if (lane == 0) of_warp[thread / 32] = value;
  __syncthreads();
  value = warp_join(lane < warps ? of_warp[lane] : none, join);
  __syncthreads();  // before the next call writes of_warp
  return value;
}
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_join(value, Plus{});
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_join(value, Greater{});
}
template <class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_join(value, T(0), Plus{});
}
__device__ __forceinline__ float block_max(float value) { return block_join(value, -INFINITY, Greater{}); }

}  // namespace lathe::kernel
