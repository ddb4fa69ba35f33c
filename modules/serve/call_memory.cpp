#include "serve/call_memory.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "formats/strict_json.h"

namespace lathe {
namespace {

using KeptJson = nlohmann::ordered_json;
constexpr size_t kMostTokens = size_t{1} << 20;  // 4 MiB

size_t hash_of(const int32_t* ids, std::ptrdiff_t count) {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(ids), static_cast<size_t>(count) * sizeof *ids});
}

std::string first_call_id(const KeptJson& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array() || calls->empty()) return {};
  const auto id = (*calls)[0].find("id");
  return id != (*calls)[0].end() && id->is_string() ? id->get<std::string>() : std::string();
}

// Whether the client has sent the turn back as it was.
bool is_unchanged(const CallMemory::Turn& turn, const KeptJson& message) {
  const KeptJson content = message.value("content", KeptJson(nullptr));
  if ((content.is_null() ? KeptJson("") : content) != turn.content) return false;
  const KeptJson& calls = message["tool_calls"];
  return std::equal(
      calls.begin(), calls.end(), turn.calls.begin(), turn.calls.end(), [](const KeptJson& call, const ToolCall& kept) {
        const auto function = call.find("function");
        return function != call.end() && function->is_object() && function->value("name", KeptJson()) == kept.name &&
               function->value("arguments", KeptJson()) == parse_ordered_json(kept.arguments, "call");
      });
}

}  // namespace

void CallMemory::keep(const std::vector<int32_t>& prompt, Turn turn) {
  const auto kept = std::make_shared<const Kept>(
      Kept{std::move(turn), std::ssize(prompt), hash_of(prompt.data(), std::ssize(prompt))});
  const std::lock_guard lock(mutex_);
  tokens_ += kept->turn.tokens.size();
  turns_.push_back(kept);
  by_id_[kept->turn.calls[0].id] = kept;
  while (tokens_ > kMostTokens) {
    tokens_ -= turns_.front()->turn.tokens.size();
    by_id_.erase(turns_.front()->turn.calls[0].id);
    turns_.pop_front();
  }
}

std::shared_ptr<const CallMemory::Kept> CallMemory::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

std::vector<int32_t> CallMemory::with_own_tokens(std::vector<int32_t> ids, const KeptJson& messages,
                                                 const std::vector<int32_t>& stop_tokens) const {
  const auto last_question =
      std::find_if(messages.rbegin(), messages.rend(), [](const KeptJson& m) { return m["role"] == "user"; }).base();
  for (auto message = messages.begin(); message != messages.end(); ++message) {
    const std::shared_ptr<const Kept> found = find(first_call_id(*message));
    if (!found) continue;
    const Kept& kept = *found;
    if ((kept.turn.thought && message < last_question) || !is_unchanged(kept.turn, *message)) continue;
    if (std::ssize(ids) <= kept.prompt_size || hash_of(ids.data(), kept.prompt_size) != kept.prompt_hash) continue;
    const auto begin = ids.begin() + kept.prompt_size;
    const auto end = std::find_first_of(begin, ids.end(), stop_tokens.begin(), stop_tokens.end());
    if (end == ids.end()) continue;
    // A turn that its grammar ended has no stop token of its own.
    const bool ended = std::find(stop_tokens.begin(), stop_tokens.end(), kept.turn.tokens.back()) != stop_tokens.end();
    const auto at = ids.erase(begin, end + ended);
    ids.insert(at, kept.turn.tokens.begin(), kept.turn.tokens.end());
  }
  return ids;
}

}  // namespace lathe
