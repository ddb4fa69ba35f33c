// See adapter_targets.h. The rules are those of peft/tuners/tuners_utils.py (check_target_module_exists) and
// peft/utils/other.py (get_pattern_key).
#include "llm/adapter_targets.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "config/nearest_name.h"
#include "formats/quote.h"
#include "text/tokenizer/regex.h"

namespace lathe {
namespace {

using Kind = AdaptableModule::Kind;

const char* const kAllLinear = "all-linear";

bool is_end_of(const std::string& end, const std::string& name) { return name == end || name.ends_with("." + end); }

bool is_whole_match(const std::string& pattern, const std::string& text) {
  const Regex regex("\\A(?:" + pattern + ")\\z");
  Regex::Matches matches(regex, text);
  size_t begin = 0, end = 0;
  return matches.next(begin, end);
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool names(const std::vector<std::string>& ends, const std::string& pattern, const std::string& name) {
  return pattern.empty() ? std::any_of(ends.begin(), ends.end(), [&](auto& end) { return is_end_of(end, name); })
                         : is_whole_match(pattern, name);
}

// Whether the first number in the name is one of the layers, behind one of the names.
bool is_in_layers(const AdapterConfig& config, const std::string& name) {
  if (config.layers.empty()) return true;
  std::string before;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (part.find_first_not_of("0123456789") == part.npos) {
      const auto has = [](const auto& list, const auto& x) {
        return std::find(list.begin(), list.end(), x) != list.end();
      };
      return has(config.layers, std::stoll(part)) && (config.layer_names.empty() || has(config.layer_names, before));
    }
    before = part;
    begin = end + 1;
  }
  return false;
}

bool is_target(const AdaptableModule& m, const AdapterConfig& config) {
  if (m.kind == Kind::experts) return names(config.parameters, "", m.name);
  if (names(config.excluded, config.excluded_pattern, m.name)) return false;
  if (config.pattern == kAllLinear) return m.kind == Kind::linear && !m.is_head;
  return names(config.targets, config.pattern, m.name) && is_in_layers(config, m.name);
}

[[noreturn]] void fail_unmatched(const std::vector<AdaptableModule>& modules, const std::string& target,
                                 bool of_experts, const std::string& source) {
  std::set<std::string> set;
  for (const AdaptableModule& m : modules)
    if ((m.kind == Kind::experts) == of_experts) set.insert((of_experts ? "experts." : "") + last_part(m.name));
  const std::vector<std::string> known(set.begin(), set.end());
  const auto nearest = nearest_name(of_experts ? "experts." + last_part(target) : last_part(target), known);
  throw Error(fmt::format("{}: {} names no module of this model", source, quote(target)),
              nearest         ? fmt::format("did you mean {}?", *nearest)
              : known.empty() ? "the model has no experts"
                              : fmt::format("the model has {}", fmt::join(known, ", ")));
}

// PEFT rewrites targets on mixtures, whose experts and routers were linear layers once: neither their names nor a
// pattern, which may match them, mean what they say.
void check_mixture(const AdapterConfig& config, const std::string& source) {
  const char* const hint = "experts are named by target_parameters: [experts.gate_up_proj, experts.down_proj]";
  if (!config.pattern.empty())
    throw Error(fmt::format("{}: {} on a mixture of experts, expected a list of names", source, quote(config.pattern)),
                hint);
  for (const std::string& target : config.targets)
    for (const char* name : {"gate", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"})
      if (is_end_of(name, target))
        throw Error(fmt::format("{}: {} stands for experts or their router on this model", source, quote(target)),
                    hint);
}

}  // namespace

std::vector<AdaptableModule> targeted_modules(const std::vector<AdaptableModule>& modules, const AdapterConfig& config,
                                              const std::string& source) {
  if (std::any_of(modules.begin(), modules.end(), [](auto& m) { return m.kind == Kind::experts; }))
    check_mixture(config, source);
  std::vector<AdaptableModule> chosen;
  for (const AdaptableModule& m : modules)
    if (is_target(m, config)) chosen.push_back(m);
  const auto matched = [&](const std::string& target, bool of_experts) {
    return std::any_of(modules.begin(), modules.end(),
                       [&](auto& m) { return (m.kind == Kind::experts) == of_experts && is_end_of(target, m.name); });
  };
  for (const std::string& target : config.targets)
    if (!matched(target, false)) fail_unmatched(modules, target, false, source);
  for (const std::string& target : config.parameters)
    if (!matched(target, true)) fail_unmatched(modules, target, true, source);
  if (chosen.empty() && !config.pattern.empty()) fail_unmatched(modules, config.pattern, false, source);
  if (chosen.empty()) throw Error(fmt::format("{}: what is left out leaves no module", source));
  return chosen;
}

int64_t rank_of(const AdapterConfig& config, const std::string& name) {
  for (const auto& [pattern, rank] : config.rank_pattern)
    if (is_whole_match("(.*\\.)?(" + pattern + ")", name)) return rank;
  return config.rank;
}

double alpha_of(const AdapterConfig& config, const std::string& name) {
  for (const auto& [pattern, alpha] : config.alpha_pattern)
    if (is_whole_match("(.*\\.)?(" + pattern + ")", name)) return alpha;
  return config.alpha;
}

}  // namespace lathe
