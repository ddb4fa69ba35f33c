#include "cli/conversation.h"

#include <nlohmann/json.hpp>

#include "cli/json_file.h"
#include "formats/atomic_file.h"
#include "tensor/errors.h"
#include "text/chat_template/messages.h"

namespace lathe {

using Json = nlohmann::ordered_json;

void Conversation::add(const char* role, std::string content) {
  messages_.push_back({{"role", role}, {"content", std::move(content)}});
}

void Conversation::clear() {
  messages_ = Json::array();
  if (!system_.empty()) add("system", system_);
}

std::size_t Conversation::after_last_question() const {
  std::size_t end = messages_.size();
  while (end > 0 && messages_[end - 1]["role"] != "user") --end;
  return end;
}

bool Conversation::drop_answer() {
  const std::size_t end = after_last_question();
  if (end == 0) return false;
  messages_.erase(messages_.begin() + static_cast<std::ptrdiff_t>(end), messages_.end());
  return true;
}

bool Conversation::undo() {
  if (!drop_answer()) return false;
  messages_.erase(messages_.size() - 1);
  return true;
}

void Conversation::save(const std::string& path) const {
  AtomicFile file(path);
  file.write(messages_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
}

void Conversation::load(const std::string& path) {
  Json messages = read_json_file(path);
  check_messages(messages, path + ": messages");
  messages_ = std::move(messages);
}

}  // namespace lathe
