// The families of models that the library knows; one line each in registry.cpp.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

struct Family;  // llm/family.h

// A deque, because references to its entries outlive the arrival of another one.
const std::deque<Family>& families();
// The same, as readers of configurations take them.
FamilyConfigs family_configs();
// Adds a family to those that the library knows, from then on like any other. Not while another thread opens a model.
// Throws Error, and adds nothing, where it has no architecture, no model type or no function, where a name is taken, or
// where a rule of its weight mapping fills a parameter that no model has.
void register_family(Family family);
// The targets of a family's weight mapping, of either format, that are no parameter of its model in any variant of its
// configuration (biases, norms of heads, one norm or two, a head of its own, experts), nor of any registered family: a
// mapping may be another family's with rules added. Such a rule does nothing, and where the file's tensor has the
// parameter's own name, loading does not notice.
std::vector<std::string> dead_targets(const Family& family);
// The family of config.architecture (or model_type where that is empty). Throws Error that lists the known ones.
const Family& family_of(const ModelConfig& config);

}  // namespace lathe
