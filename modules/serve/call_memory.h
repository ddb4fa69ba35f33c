// What models wrote in turns that called tools, kept by the ids of the calls.
//
// A client sends such a turn back as JSON, and the template writes it in its own spelling: other tokens than the
// model's, so that all behind them would be computed again. Here the model's own tokens are put in their place, and the
// next turn computes only what is new. What is no longer known, or was changed by the client, stays as the template
// writes it.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "serve/tool_calls.h"

namespace lathe {

class CallMemory {
 public:
  struct Turn {
    std::string content;          // as the client was told
    std::vector<ToolCall> calls;  // at least one; the first one's id names the turn
    bool thought = false;         // it began with thinking, which templates keep until the user's next message
    std::vector<int32_t> tokens;  // with the stop token, if one ended it
  };

  // `prompt`: what the turn answered. Forgets the oldest turns beyond a bound. From any thread.
  void keep(const std::vector<int32_t>& prompt, Turn turn);
  // `ids` is the encoding of `messages`. From any thread.
  std::vector<int32_t> with_own_tokens(std::vector<int32_t> ids, const nlohmann::ordered_json& messages,
                                       const std::vector<int32_t>& stop_tokens) const;

 private:
  struct Kept {
    Turn turn;
    std::ptrdiff_t prompt_size;
    size_t prompt_hash;
  };
  std::shared_ptr<const Kept> find(const std::string& id) const;

  mutable std::mutex mutex_;  // of what follows; what is kept changes no more and is looked at without it
  std::deque<std::shared_ptr<const Kept>> turns_;  // the oldest first
  std::map<std::string, std::shared_ptr<const Kept>> by_id_;
  size_t tokens_ = 0;
};

}  // namespace lathe
