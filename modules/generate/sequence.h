// One sequence as the scheduler sees it: its tokens, and where their keys and values lie.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "attention/rope_table.h"
#include "generate/block_manager.h"

namespace lathe {

enum class SequenceStatus : uint8_t { waiting, running, finished };

struct Sequence {
  uint64_t id = 0;  // counts up in the order of arrival: older sequences go first
  // The sequence with the same prompt whose prompt pages this one may share (the first of its request).
  std::optional<uint64_t> leader;
  SequenceStatus status = SequenceStatus::waiting;

  std::vector<int32_t> tokens;  // the prompt, then what was generated
  int64_t prompt_tokens = 0;
  int64_t token_limit = 0;  // tokens.size() at which the sequence ends at the latest

  // Draft tokens, to be verified by the next step.
  std::vector<int32_t> draft;

  int64_t cached = 0;   // tokens from the first on whose keys and values are in the pages
  SequencePages pages;  // of the positions from 0, by layer group
  PublishedPrefix published;
  int32_t prefix_kind = 0;   // sequences of one kind have the same keys for the same tokens
  bool prefix_cache = true;  // takes pages from the prefix cache and leaves its own there
  // Logits of every token of the prompt are wanted: nothing of it is taken from the prefix cache.
  bool scores_prompt = false;
  bool admitted = false;  // has run before: its prefill may be a repetition
  int64_t shared = 0;     // tokens that it found in the cache when it was first admitted
  int64_t preemptions = 0;

  // Of the prompt, or of the text since it has passed rope_switch. Null without rope.
  std::shared_ptr<RopeTable> rope;

  int64_t length() const { return static_cast<int64_t>(tokens.size()); }
  // Tokens to compute before the next one can be sampled: 1 while it decodes.
  int64_t remaining() const { return length() - cached; }
};

}  // namespace lathe
