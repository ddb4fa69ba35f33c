// The smallest program over liblathe: names the families it knows; given a model, loads it.
#include <cstdio>

#include "llm/family.h"
#include "llm/load.h"
#include "llm/registry.h"

int main(int argc, char** argv) {
  for (const lathe::Family& family : lathe::families()) std::printf("%s\n", family.name.c_str());
  if (argc > 1) std::printf("%s\n", lathe::load_model(argv[1]).model->sizes.architecture.c_str());
  return lathe::families().empty() ? 1 : 0;
}
