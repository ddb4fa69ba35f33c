// See plugin.h.
#include "llm/plugin.h"

#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "formats/git_lfs.h"
#include "formats/quote.h"

namespace lathe {
namespace {

constexpr const char* kEntry = "lathe_plugin";

// The dynamic linker maps what a library's head promises and crashes where the file ends earlier. The table of sections
// is the last thing in it.
void check_whole(const std::string& path) {
  Elf64_Ehdr head{};
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(&head), sizeof head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
    return refuse_git_lfs_pointer({reinterpret_cast<const char*>(&head), sizeof head}, path);
  const uint64_t end = head.e_shoff + uint64_t{head.e_shentsize} * head.e_shnum;
  const uint64_t bytes = std::filesystem::file_size(path);
  check(end <= bytes, "plugin", "{} is cut off: it has {} bytes, expected {}", quote(path), bytes, end);
}

// Symbols are bound when they are called, as far as the file allows: what a file lacks because it was built for other
// headers is told by its ABI, and not by a mangled name.
void* open_library(const std::string& path) {
  std::error_code ignored;
  check(std::filesystem::is_regular_file(path, ignored), "plugin", "{} does not exist", quote(path));
  check_whole(path);
  void* library = dlopen(std::filesystem::absolute(path).c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (library != nullptr) return library;
  std::string reason = dlerror();
  if (const size_t after = reason.find(": "); after != std::string::npos) reason.erase(0, after + 2);
  const bool other = reason.find("undefined symbol") != std::string::npos;
  throw Error(fmt::format("plugin: {} cannot be loaded: {}", quote(path), reason),
              other ? "it was built for another version of Lathe: build it again"
                    : "a plugin is a shared library; docs/plugins.md shows how one is built");
}

}  // namespace

void load_plugin(const std::string& path) {
  static std::set<void*> loaded;
  void* library = open_library(path);
  if (loaded.contains(library)) return;
  using Entry = const Plugin* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kEntry));
  if (entry == nullptr)
    throw Error(fmt::format("plugin: {} has no function {}", quote(path), kEntry),
                "LATHE_PLUGIN(function) in one of its files makes it");
  const Plugin* plugin = entry();
  if (std::strcmp(plugin->abi, kPluginAbi) != 0)
    throw Error(fmt::format("plugin: {} was built with {}, expected {}", quote(path), quote(plugin->abi), kPluginAbi),
                "build it with this program's headers and compiler");
  plugin->register_families();
  loaded.insert(library);
}

void load_plugins(const std::string& list) {
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin) load_plugin(list.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace lathe
