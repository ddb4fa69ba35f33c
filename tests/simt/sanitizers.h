// What the sanitizers must be told of fibers; nothing in a build without one.
#pragma once
#include <simt/simt.h>

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIMT_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define SIMT_TSAN 1
#endif

#if !defined(SIMT_ASAN)
#define SIMT_ASAN 0
#endif
#if !defined(SIMT_TSAN)
#define SIMT_TSAN 0
#endif
#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if SIMT_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void* address, unsigned long bytes);
extern "C" void __tsan_write_range(void* address, unsigned long bytes);
#endif

namespace simt {

#if SIMT_TSAN
inline constexpr bool kFindsRaces = true;
#else
inline constexpr bool kFindsRaces = false;
#endif

// Happens-before: what one fiber did before it released an address comes before what another does after acquiring it.
SIMT_RAW inline void release([[maybe_unused]] void* address) {
#if SIMT_TSAN
  __tsan_release(address);
#endif
}
SIMT_RAW inline void acquire([[maybe_unused]] void* address) {
#if SIMT_TSAN
  __tsan_acquire(address);
#endif
}
// An access that stands for the kernel's own.
SIMT_RAW inline void note_read([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#if SIMT_TSAN
  __tsan_read_range(const_cast<void*>(address), bytes);
#endif
}
SIMT_RAW inline void note_write([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#if SIMT_TSAN
  __tsan_write_range(address, bytes);
#endif
}
inline void forbid([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#if SIMT_ASAN
  __asan_poison_memory_region(address, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#if SIMT_ASAN
  __asan_unpoison_memory_region(address, bytes);
#endif
}

}  // namespace simt
