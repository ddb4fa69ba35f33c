// The messages of a chat, and what can be done with them besides going on.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace lathe {

class Conversation {
 public:
  explicit Conversation(std::string system = {}) : system_(std::move(system)) { clear(); }

  // [{"role": ..., "content": ...}, ...]
  const nlohmann::ordered_json& messages() const { return messages_; }
  void add(const char* role, std::string content);
  void clear();        // all but the system message that it began with
  bool undo();         // takes the last question and what follows it back; false where there is none
  bool drop_answer();  // takes what follows the last question back; false where there is no question

  // JSON, atomically. Throws Error naming the file.
  void save(const std::string& path) const;
  // Takes the place of all messages. Throws Error naming the file and the message, and then changes nothing.
  void load(const std::string& path);

 private:
  std::size_t after_last_question() const;  // 0 where there is none
  std::string system_;
  nlohmann::ordered_json messages_;
};

}  // namespace lathe
