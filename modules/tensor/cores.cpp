#include "tensor/cores.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace lathe {

std::vector<int> allowed_cpus() {
#if defined(__linux__)
  for (int capacity = 1024; capacity <= 1 << 16; capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(capacity));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(capacity));
    std::vector<int> cpus;
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; known && cpu < capacity; ++cpu)
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    CPU_FREE(set);
    if (known) return cpus;
  }
#endif
  return {};
}

#if defined(__linux__)
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Hyper-threads of a core have the same list of siblings and count once.
int physical_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings = first_line(topology + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return static_cast<int>(cores.size());
}

double number_or(const std::string& text, double otherwise) {
  std::istringstream in(text);
  double value;
  return in >> value ? value : otherwise;
}

// CPUs' worth of time that control group `path` below `mount` or one of its parents allows; 0: no limit.
// Version 2 has "<quota|max> <period>" in cpu.max, version 1 two files with -1 for none.
double cgroup_limit(const std::string& mount, std::string path) {
  double limit = 0;
  while (true) {
    const std::string folder = mount + path + "/";
    double quota, period;
    if (const std::string both = first_line(folder + "cpu.max"); !both.empty()) {
      quota = number_or(both, -1);
      period = number_or(both.substr(both.find(' ') + 1), 0);
    } else {
      quota = number_or(first_line(folder + "cpu.cfs_quota_us"), -1);
      period = number_or(first_line(folder + "cpu.cfs_period_us"), 0);
    }
    if (quota > 0 && period > 0 && (limit == 0 || quota / period < limit)) limit = quota / period;
    if (path.empty() || path == "/") return limit;
    path.resize(path.rfind('/'));
  }
}

double cgroup_quota() {
  std::ifstream groups("/proc/self/cgroup");  // lines: "id:controllers:path"; version 2: "0::path"
  double limit = 0;
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    double found = 0;
    if (controllers.empty())
      found = cgroup_limit("/sys/fs/cgroup", path);
    else if (("," + controllers + ",").find(",cpu,") != std::string::npos)
      found = cgroup_limit("/sys/fs/cgroup/" + controllers, path);
    if (found > 0 && (limit == 0 || found < limit)) limit = found;
  }
  return limit;
}

}  // namespace
#endif

int usable_cores() {
#if defined(__linux__)
  int cores = physical_cores(allowed_cpus());
  // Rounded down: a team that spins beyond its quota is stopped for the rest of each period.
  if (const double quota = cgroup_quota(); quota > 0 && quota < cores) cores = static_cast<int>(quota);
#else
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#endif
  return cores < 1 ? 1 : cores;
}

}  // namespace lathe
