// What the kernel tests share: every instruction set in turn. Their data is in kernel_data.h.
#pragma once
#include "tensor/cpu_features.h"
#include "tests/catch.h"
#include "tests/kernels/kernel_data.h"
#include "tests/support.h"

namespace lathe::test {

// Runs `f` under every instruction set of the machine, then goes back to the one that was in force.
template <class F>
void for_each_isa(F&& f) {
  const CpuIsa before = cpu_isa();
  for (CpuIsa isa : tested_isas()) {
    set_cpu_isa(isa);
    INFO("LATHE_CPU=" << name(isa));
    f(isa);
  }
  set_cpu_isa(before);
}

}  // namespace lathe::test
