#include "generate/kv_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "tensor/device_memory.h"

namespace lathe {
namespace {

constexpr double kDefaultSequences = 4.0;  // whole contexts that the cache holds where nobody says otherwise
constexpr double kMostPages = 0x1p31 / kPageTokens - 1.0;  // slots are 32-bit integers
constexpr double kDefaultShare = 0.5;                      // of the available memory, at most

// The number at the head of a file; absent where there is no such file, or it says "max".
std::optional<size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  size_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

size_t system_available() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) * 1024;
  const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  return pages > 0 && page_bytes > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page_bytes) : 0;
}

// Files that the system has read ahead or keeps for later count as used, and go where memory is wanted.
size_t reclaimable(const std::string& folder, const std::string& prefix) {
  std::ifstream file(folder + "memory.stat");
  size_t sum = 0, bytes = 0;
  for (std::string name; file >> name >> bytes;)
    if (name == prefix + "inactive_file" || name == prefix + "active_file") sum += bytes;
  return sum;
}

// What a limit leaves, where there is one; control groups of version 2, then 1, as a container sees its own.
size_t cgroup_available() {
  struct Version {
    std::string folder, limit, usage, prefix;
  };
  const Version versions[] = {{"/sys/fs/cgroup/", "memory.max", "memory.current", ""},
                              {"/sys/fs/cgroup/memory/", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"}};
  for (const Version& v : versions)
    if (const auto limit = number_in(v.folder + v.limit), usage = number_in(v.folder + v.usage); limit && usage) {
      const size_t used = *usage - std::min(*usage, reclaimable(v.folder, v.prefix));
      return *limit > used ? *limit - used : 0;
    }
  return std::numeric_limits<size_t>::max();
}

}  // namespace

size_t available_memory(Device device) {
  if (device.kind == Device::Kind::cuda) return free_device_memory(device);
  return std::min(system_available(), cgroup_available());
}

std::vector<PageGroup> cache_pages(const ModelSizes& config, DType dtype, size_t kv_memory, int64_t context,
                                   int64_t chunk, int64_t max_sequences, Device device) {
  double sequence_bytes = 0.0, smallest_bytes = 0.0;  // of a sequence of the whole context; of one page of each group
  const std::vector<LayerGroup> groups = layer_groups(config);
  for (const LayerGroup& g : groups) {
    const auto page_bytes = static_cast<double>(KVCache::page_bytes(config, g, dtype));
    sequence_bytes += page_bytes * static_cast<double>(peak_pages(g.window, context, chunk));
    smallest_bytes += page_bytes;
  }
  auto memory = static_cast<double>(kv_memory);
  if (kv_memory == 0) {
    memory = kDefaultSequences * sequence_bytes;
    if (const size_t available = available_memory(device); available > 0)
      memory = std::max(smallest_bytes, std::min(memory, kDefaultShare * static_cast<double>(available)));
  }
  check(memory >= smallest_bytes, "kv cache", "{} bytes are too few for one page of {} tokens, which takes {}",
        kv_memory, kPageTokens, smallest_bytes);

  memory = std::min(memory, sequence_bytes * static_cast<double>(max_sequences));
  std::vector<PageGroup> pages;
  for (const LayerGroup& g : groups) {
    const double count = memory * static_cast<double>(peak_pages(g.window, context, chunk)) / sequence_bytes;
    pages.push_back({g.window, static_cast<int64_t>(std::clamp(count, 1.0, kMostPages))});
  }
  return pages;
}

}  // namespace lathe
