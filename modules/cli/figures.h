// Measured figures for people: what --json writes as one object, as lines.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "evaluate/perplexity.h"

namespace lathe {

// The report's fields, a comparison's within "compare_with".
nlohmann::ordered_json figures_of(const PerplexityReport& report);

// One line a field: its name, its value, and "+/-" what stands under the name with "_stderr" behind it. Objects within
// give their lines the prefix "name.".
void print_figures(const nlohmann::ordered_json& figures, const std::string& prefix = {});

}  // namespace lathe
