// How a checkpoint's tensors become a model's parameters, written once a family and format and read both ways:
// forwards to load, backwards to export weights and gradients.
//
// A rule moves whole rows, nothing else, so every rule has an inverse and quantised rows move as they are. Names may
// hold `{}`, which stands for one decimal number, the same in sources and targets; a second `{}` is a second number.
// What no rule names keeps its name.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/stored_tensor.h"

namespace lathe {

// The row of the source (after transposition) for a row of target number `target`.
using RowPermutation = std::function<int64_t(int64_t target, int64_t row)>;

enum class CheckpointFormat : uint8_t { hugging_face, gguf };

struct MappingRule {
  // One source and one target, one source whose rows are several targets', or several sources stacked in one target.
  std::vector<std::string> sources;  // tensors of the checkpoint
  std::vector<std::string> targets;  // parameters of the model
  // The checkpoint holds (in, out) where the model has (out, in): GPT-2's Conv1D. Not for quantised tensors.
  bool transposed = false;
  // The sources have their rows under this many, of a dimension of their own: (2, 3, 4) where the rule counts six rows
  // of 4. 0: they have not.
  int64_t stacked = 0;
  // A second published layout: used where its tensors are there; exports use the canonical one.
  bool alternative = false;
  // Null: the targets' rows follow one another. Must be a bijection.
  RowPermutation source_row;
};

// The rule that fills a parameter: which of its targets the parameter is, and the numbers that its `{}` stand for.
struct RuleMatch {
  const MappingRule* rule = nullptr;
  size_t target = 0;
  std::vector<int64_t> numbers;
};

struct WeightMapping {
  std::vector<MappingRule> rules;
  // Tensors that hold nothing to learn (masks, inverse frequencies), skipped by name; `{}` and a leading or trailing
  // `*`.
  std::vector<std::string> skipped;
  // What files of the bare base model lack before its names ("transformer." of GPT-2): when no tensor has it, it is
  // understood before every name but the head's.
  std::string base_prefix;

  WeightMapping& rename(std::string source, std::string target);
  // The rows of `source` are those of the targets, one after another.
  WeightMapping& split(std::string source, std::vector<std::string> targets);
  WeightMapping& skip(std::string source);
  // Marks the rule added last.
  WeightMapping& transposed();
  WeightMapping& rows(RowPermutation source_row);
  WeightMapping& stacked(int64_t count);
  WeightMapping& alternative();

  // Puts the alternatives whose sources are among `tensors` before all other rules, and drops the others.
  void choose_alternatives(const std::vector<StoredTensor>& tensors);

  bool skips(const std::string& source) const;
  // The first rule that has the parameter `target`; none: the tensor has the parameter's name.
  std::optional<RuleMatch> rule_for(const std::string& target) const;
};

// For `rows`: the checkpoint pairs rotated components as (2i, 2i + 1) where the model has (i, i + D/2), head by head.
RowPermutation interleaved_rope_rows(int64_t head_dim);
// For `rows` of a split into q, k and v: the fused rows are those of one key-value head after another, its group of
// query heads, then its key, then its value (GPT-NeoX, where a group is one head; Falcon).
RowPermutation grouped_qkv_rows(int64_t heads, int64_t kv_heads, int64_t head_dim);

// The name for which `pattern` matches: fills `numbers`. "model.layers.{}.mlp" matches "model.layers.12.mlp".
bool match_name(const std::string& pattern, const std::string& name, std::vector<int64_t>* numbers);
std::string fill_name(const std::string& pattern, const std::vector<int64_t>& numbers);

}  // namespace lathe
