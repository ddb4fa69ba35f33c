// What the processor says of itself: CPUID on x86-64, and the operating system's share of it, for an instruction set
// counts only when its registers are saved as well (Intel SDM volume 2A, CPUID leaves 1 and 7; volume 1 section 13.3,
// XCR0); on AArch64 what the operating system reports (Linux: getauxval; macOS: sysctl).
#include "tensor/cpu_features.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tensor/errors.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace lathe {
namespace {

// detect(): what this machine can run, in ascending order.
#if defined(__x86_64__)
// Linux gives a process the eight kilobytes of tiles in each thread's state only when it asks: arch_prctl(2),
// ARCH_REQ_XCOMP_PERM, state component 18.
bool may_use_tiles() {
#if defined(__linux__)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}

std::vector<CpuIsa> detect() {
  const auto bit = [](uint32_t word, int n) { return (word >> n & 1u) != 0; };
  std::vector<CpuIsa> isas = {CpuIsa::portable};
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return isas;
  const bool fma = bit(c, 12), osxsave = bit(c, 27), avx = bit(c, 28), f16c = bit(c, 29);
  if (!(fma && osxsave && avx && f16c)) return isas;
  uint32_t saved, high;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return isas;
  if (!bit(b, 5) || (saved & 0x06u) != 0x06u) return isas;  // AVX2; xmm and ymm saved
  isas.push_back(CpuIsa::avx2);
  const bool avx512 = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);    // F DQ BW VL
  const bool vnni = bit(c, 11), amx = bit(d, 22) && bit(d, 24) && bit(d, 25);  // AMX: BF16, tiles, INT8
  uint32_t more = 0;
  if (!__get_cpuid_count(7, 1, &more, &b, &c, &d)) more = 0;
  if (bit(more, 4)) isas.push_back(CpuIsa::avx_vnni);
  if (!avx512 || (saved & 0xe6u) != 0xe6u) return isas;  // zmm and mask registers saved
  isas.push_back(CpuIsa::avx512);
  if (!vnni || !bit(more, 5)) return isas;  // BF16
  isas.push_back(CpuIsa::avx512_vnni);
  if (amx && (saved & 0x60000u) == 0x60000u && may_use_tiles()) isas.push_back(CpuIsa::amx);
  return isas;
}
#elif defined(__aarch64__)
std::vector<CpuIsa> detect() {
  bool dot = false, i8mm = false;
#if defined(__linux__)
  dot = (getauxval(AT_HWCAP) >> 20 & 1u) != 0;    // HWCAP_ASIMDDP
  i8mm = (getauxval(AT_HWCAP2) >> 13 & 1u) != 0;  // HWCAP2_I8MM
#elif defined(__APPLE__)
  const auto has = [](const char* feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  dot = has("hw.optional.arm.FEAT_DotProd");
  i8mm = has("hw.optional.arm.FEAT_I8MM");
#endif
  std::vector<CpuIsa> isas = {CpuIsa::portable, CpuIsa::neon};
  if (dot) isas.push_back(CpuIsa::neon_dot);
  if (dot && i8mm) isas.push_back(CpuIsa::neon_i8mm);
  return isas;
}
#else
std::vector<CpuIsa> detect() { return {CpuIsa::portable}; }
#endif

const std::vector<CpuIsa>& available() {
  static const std::vector<CpuIsa> isas = detect();
  return isas;
}

std::string list_of_available() {
  std::string names;
  for (CpuIsa isa : available()) names += (names.empty() ? "" : ", ") + std::string(name(isa));
  return names;
}

void check_available(CpuIsa isa) {
  if (std::find(available().begin(), available().end(), isa) == available().end())
    throw Error(
        fmt::format("cpu: instruction set {} is not available, this machine has {}", name(isa), list_of_available()));
}

CpuIsa from_environment() {
  const char* wanted = std::getenv("LATHE_CPU");
  if (wanted == nullptr || *wanted == '\0') return available().back();
  for (CpuIsa isa : available())
    if (name(isa) == wanted) return isa;
  throw Error(
      fmt::format("cpu: LATHE_CPU is '{}', which is not available: this machine has {}", wanted, list_of_available()));
}

constexpr int kUndecided = -1;
std::atomic<int> active_isa{kUndecided};

}  // namespace

std::string_view name(CpuIsa isa) {
  constexpr std::string_view names[] = {"portable", "avx2", "avx_vnni", "avx512",   "avx512_vnni",
                                        "amx",      "neon", "neon_dot", "neon_i8mm"};
  return names[static_cast<int>(isa)];
}

std::vector<CpuIsa> available_isas() { return available(); }

CpuIsa cpu_isa() {
  int isa = active_isa.load(std::memory_order_relaxed);
  if (isa == kUndecided) {
    isa = static_cast<int>(from_environment());
    active_isa.store(isa, std::memory_order_relaxed);
  }
  return static_cast<CpuIsa>(isa);
}

void set_cpu_isa(CpuIsa isa) {
  check_available(isa);
  active_isa.store(static_cast<int>(isa), std::memory_order_relaxed);
}

}  // namespace lathe
