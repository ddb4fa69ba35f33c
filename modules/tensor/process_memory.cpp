// Source: proc(5), /proc/pid/status: VmRSS and VmHWM in kibibytes.
#include "tensor/process_memory.h"

#include <fstream>
#include <string>

namespace lathe {
namespace {

size_t status_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(field)) return std::stoull(line.substr(field.size())) * 1024;
  return 0;
}

}  // namespace

size_t resident_memory() { return status_bytes("VmRSS:"); }
size_t peak_resident_memory() { return status_bytes("VmHWM:"); }

}  // namespace lathe
