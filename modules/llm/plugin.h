// Families that live in shared libraries of their own, loaded while the program runs.
//
// A plugin is one file that ends in LATHE_PLUGIN(function); the function calls register_family. What the library and
// the plugin pass to each other are C++ objects, so both must have been compiled from the same headers, by the same
// compiler, for the same standard library: a text that says all three is compared before anything is called. A family
// whose functions are in use cannot go: plugins are never unloaded.
#pragma once
#include <string>

#include "llm/family.h"
#include "llm/headers_hash.h"
#include "llm/registry.h"

#define LATHE_TEXT_OF(macro) LATHE_TEXT(macro)
#define LATHE_TEXT(tokens) #tokens
#if defined(__clang__)
#define LATHE_COMPILER __VERSION__
#else
#define LATHE_COMPILER "GCC " __VERSION__
#endif
#if defined(_LIBCPP_VERSION)
#define LATHE_STANDARD_LIBRARY "libc++ " LATHE_TEXT_OF(_LIBCPP_VERSION)
#else
#define LATHE_STANDARD_LIBRARY \
  "libstdc++ " LATHE_TEXT_OF(__GLIBCXX__) " with CXX11_ABI " LATHE_TEXT_OF(_GLIBCXX_USE_CXX11_ABI)
#endif

namespace lathe {

// The one thing that never changes between versions: the first member can be read before the rest is trusted.
struct Plugin {
  const char* abi;
  void (*register_families)();
};

inline constexpr const char* kPluginAbi = "headers " LATHE_HEADERS_HASH ", " LATHE_COMPILER ", " LATHE_STANDARD_LIBRARY;

// Loads a shared library and registers its families; a library that is loaded already is left alone. Throws Error that
// names the file where it is no shared library, has no entry, was built for another ABI, or cannot be registered.
void load_plugin(const std::string& path);
// Every file of a list with colons between; what LATHE_PLUGINS holds.
void load_plugins(const std::string& list);

}  // namespace lathe

// The entry of a plugin; `function` takes nothing and calls lathe::register_family.
#define LATHE_PLUGIN(function)                                             \
  extern "C" const lathe::Plugin* lathe_plugin() {                         \
    static constexpr lathe::Plugin plugin = {lathe::kPluginAbi, function}; \
    return &plugin;                                                        \
  }
