// A plugin that was built from other headers.
#include "llm/plugin.h"

extern "C" const lathe::Plugin* lathe_plugin() {
  static constexpr lathe::Plugin plugin = {"headers 0123456789abcdef, GCC 1.0, libstdc++ 1", [] {}};
  return &plugin;
}
