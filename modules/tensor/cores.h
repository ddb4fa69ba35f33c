// How many cores a process should use.
#pragma once
#include <vector>

namespace lathe {

// The CPUs that the system lets this process run on, ascending; empty where it does not say.
std::vector<int> allowed_cpus();
// Physical cores among them, no more than the control group's quota allows; at least 1.
int usable_cores();

}  // namespace lathe
