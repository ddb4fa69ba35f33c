// See weight_mapping.h.
#include "load_model/weight_mapping.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "tensor/errors.h"

namespace lathe {
namespace {

// A decimal number at the start of `text`, without leading zeros so that printing it gives the same text; its digits,
// 0 when there is none.
size_t number_at(std::string_view text, int64_t* number) {
  constexpr size_t kMostDigits = 9;
  size_t digits = 0;
  *number = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
    if (digits == kMostDigits || (digits == 1 && text[0] == '0')) return 0;
    *number = *number * 10 + (text[digits++] - '0');
  }
  return digits;
}

// Matches `pattern` up to its end or a `*`. Cuts what it has matched from both; false when something differs.
bool match_literally(std::string_view& pattern, std::string_view& name, std::vector<int64_t>* numbers) {
  while (!pattern.empty() && pattern[0] != '*') {
    if (pattern.starts_with("{}")) {
      int64_t number = 0;
      const size_t digits = number_at(name, &number);
      if (digits == 0) return false;
      if (numbers) numbers->push_back(number);
      pattern.remove_prefix(2);
      name.remove_prefix(digits);
    } else {
      if (name.empty() || name[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
    }
  }
  return true;
}

bool matches_glob(std::string_view pattern, std::string_view name) {
  if (!match_literally(pattern, name, nullptr)) return false;
  if (pattern.empty()) return name.empty();
  pattern.remove_prefix(1);
  if (pattern.empty()) return true;
  for (; !name.empty(); name.remove_prefix(1))
    if (matches_glob(pattern, name)) return true;
  return false;
}

}  // namespace

WeightMapping& WeightMapping::rename(std::string source, std::string target) {
  return split(std::move(source), {std::move(target)});
}

WeightMapping& WeightMapping::split(std::string source, std::vector<std::string> targets) {
  rules.push_back({.sources = {std::move(source)}, .targets = std::move(targets), .source_row = nullptr});
  return *this;
}

WeightMapping& WeightMapping::skip(std::string source) {
  skipped.push_back(std::move(source));
  return *this;
}

WeightMapping& WeightMapping::transposed() {
  check(!rules.empty(), "weight_mapping", "transposed() marks the rule before it, there is none");
  rules.back().transposed = true;
  return *this;
}

WeightMapping& WeightMapping::stacked(int64_t count) {
  check(!rules.empty(), "weight_mapping", "stacked() marks the rule before it, there is none");
  rules.back().stacked = count;
  return *this;
}

WeightMapping& WeightMapping::alternative() {
  check(!rules.empty(), "weight_mapping", "alternative() marks the rule before it, there is none");
  rules.back().alternative = true;
  return *this;
}

void WeightMapping::choose_alternatives(const std::vector<StoredTensor>& tensors) {
  std::vector<int64_t> numbers;
  const auto present = [&](const MappingRule& rule) {
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const StoredTensor& t) { return match_name(rule.sources[0], t.name, &numbers); });
  };
  std::vector<MappingRule> chosen, others;
  for (MappingRule& rule : rules) {
    if (rule.alternative && !present(rule)) continue;
    auto& list = rule.alternative ? chosen : others;
    rule.alternative = false;
    list.push_back(std::move(rule));
  }
  rules = std::move(chosen);
  rules.insert(rules.end(), std::make_move_iterator(others.begin()), std::make_move_iterator(others.end()));
}

WeightMapping& WeightMapping::rows(RowPermutation source_row) {
  check(!rules.empty(), "weight_mapping", "rows() marks the rule before it, there is none");
  rules.back().source_row = std::move(source_row);
  return *this;
}

bool WeightMapping::skips(const std::string& name) const {
  for (const std::string& pattern : skipped)
    if (matches_glob(pattern, name)) return true;
  return false;
}

std::optional<RuleMatch> WeightMapping::rule_for(const std::string& target) const {
  for (const MappingRule& rule : rules)
    for (size_t i = 0; i < rule.targets.size() && !rule.alternative; ++i) {
      std::vector<int64_t> numbers;
      if (match_name(rule.targets[i], target, &numbers)) return RuleMatch{&rule, i, std::move(numbers)};
    }
  return std::nullopt;
}

RowPermutation interleaved_rope_rows(int64_t head_dim) {
  return [head_dim](int64_t, int64_t row) {
    const int64_t head = row / head_dim, component = row % head_dim, half = head_dim / 2;
    return head * head_dim + (component < half ? 2 * component : 2 * (component - half) + 1);
  };
}

RowPermutation grouped_qkv_rows(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return [group = heads / kv_heads, head_dim](int64_t target, int64_t row) {
    const int64_t head = row / head_dim, component = row % head_dim;
    const int64_t kv_head = target == 0 ? head / group : head;
    const int64_t within = target == 0 ? head % group : group + target - 1;
    return (kv_head * (group + 2) + within) * head_dim + component;
  };
}

bool match_name(const std::string& pattern, const std::string& name, std::vector<int64_t>* numbers) {
  std::string_view rest_of_pattern = pattern, rest = name;
  numbers->clear();
  return match_literally(rest_of_pattern, rest, numbers) && rest_of_pattern.empty() && rest.empty();
}

std::string fill_name(const std::string& pattern, const std::vector<int64_t>& numbers) {
  std::string name;
  size_t next = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.compare(i, 2, "{}") != 0) {
      name += pattern[i];
      continue;
    }
    check(next < numbers.size(), "weight_mapping", "the name {} takes more than {} numbers", pattern, numbers.size());
    name += std::to_string(numbers[next++]);
    ++i;
  }
  return name;
}

}  // namespace lathe
