// Which modules of a model an adapter's configuration names, as PEFT decides it.
#pragma once
#include <string>
#include <vector>

#include "llm/adapter.h"

namespace lathe {

// Those of `modules`, in their order. Throws Error as attach_adapter does.
std::vector<AdaptableModule> targeted_modules(const std::vector<AdaptableModule>& modules, const AdapterConfig& config,
                                              const std::string& source);
// Of one module.
int64_t rank_of(const AdapterConfig& config, const std::string& name);
double alpha_of(const AdapterConfig& config, const std::string& name);

}  // namespace lathe
