// What this process holds in memory, as the system counts it.
#pragma once
#include <cstddef>

namespace lathe {

// Bytes resident now, and the most there have been since the program began; 0 where the system does not say. (getrusage
// is no substitute for the latter: its peak begins with that of the process that started this one.)
size_t resident_memory();
size_t peak_resident_memory();

}  // namespace lathe
