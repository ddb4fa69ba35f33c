// Lets a real device read and write this program's own memory, so that the tests of tests/cuda, which give kernels
// pointers to vectors and variables as the emulator allows, run on it as they stand. Empty beside the emulator.
//
// Where the driver maps all memory of a process (heterogeneous memory management) nothing is to be done. Elsewhere the
// heap, the stack and the program's variables are registered before main: the heap grows to what all tests need first,
// and never by a mapping of its own. Launches are made to wait (CUDA_LAUNCH_BLOCKING), so that a test can look at its
// results after a call.
#if !__has_include(<simt/simt.h>)
#include <alloca.h>
#include <cuda_runtime_api.h>
#include <malloc.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/support.h"

namespace lathe::test {
namespace {

constexpr size_t kHeap = size_t{1} << 30, kStack = size_t{1} << 20;

[[gnu::noinline]] void grow_stack() { std::memset(alloca(kStack), 0, kStack); }

void grow_heap() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, static_cast<int>(kHeap));
  std::free(std::malloc(kHeap / 2));  // moves the break; what follows comes out of it
}

// What /proc/self/maps lists as heap, stack, and this program's variables with the zeroes behind them.
void register_memory() {
  char program[PATH_MAX] = {};
  if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return;
  std::ifstream maps("/proc/self/maps");
  uintptr_t program_end = 0;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    char access[8] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %7s", &begin, &end, access) != 3) continue;
    const bool own = line.find(program) != std::string::npos || begin == program_end;
    if (own) program_end = end;
    if (!own && line.find("[heap]") == std::string::npos && line.find("[stack]") == std::string::npos) continue;
    // A constant may be out of a device's reach: the test that gives it to a kernel says so.
    const unsigned flags = access[1] == 'w' ? cudaHostRegisterDefault : cudaHostRegisterReadOnly;
    const cudaError_t result = cudaHostRegister(reinterpret_cast<void*>(begin), end - begin, flags);
    if (result != cudaSuccess && access[1] == 'w')
      std::printf("test_cuda: %s is not registered: %s\n", line.c_str(), cudaGetErrorString(result));
    cudaGetLastError();
  }
}

[[maybe_unused]] const bool kPrepared = [] {
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
  needs_cuda_device("test_cuda");
  int maps_all = 0;
  cudaDeviceGetAttribute(&maps_all, cudaDevAttrPageableMemoryAccess, 0);
  if (maps_all != 0) return true;
  grow_stack();
  grow_heap();
  register_memory();
  return true;
}();

}  // namespace
}  // namespace lathe::test
#endif
