// Which of the freer forms the machine takes.
#include "tests/bench/free_forms.h"

namespace lathe::bench {

const FreeForms* free_forms() {
  [[maybe_unused]] const CpuIsa isa = cpu_isa();
#if defined(LATHE_HAS_avx512_vnni)
  if (isa >= CpuIsa::avx512_vnni) return &free_forms_avx512_vnni();
#endif
#if defined(LATHE_HAS_avx512)
  if (isa >= CpuIsa::avx512) return &free_forms_avx512();
#endif
#if defined(LATHE_HAS_avx2)
  if (isa >= CpuIsa::avx2) return &free_forms_avx2();
#endif
  return nullptr;
}

}  // namespace lathe::bench
