// The line on standard error that explains the speed to come.
#pragma once
#include <string>

#include "llm/load.h"

namespace lathe {

// Architecture, threads, instruction set, dtype, the weights' size; how fast the team reads these weights just now, and
// the tokens per second that this allows one sequence with an empty cache. The measurement takes about 10 ms. On a CUDA
// device: what it is, and whether its driver had to compile the kernels.
void print_start_line(const LoadedModel& loaded, const std::string& dtype);

}  // namespace lathe
