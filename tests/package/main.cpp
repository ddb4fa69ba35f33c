// The smallest program over liblathe: names the families it knows; given a model, loads it.
#include <cstdio>

#include "llm/load.h"
#include "llm/registry.h"

int main(int argc, char** argv) {
  for (const lathe::ModelFamily& family : lathe::model_families()) std::printf("%s\n", family.name.c_str());
  if (argc > 1) std::printf("%s\n", lathe::load_model(argv[1]).model->sizes.architecture.c_str());
  return lathe::model_families().empty() ? 1 : 0;
}
