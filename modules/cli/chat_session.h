// A conversation with a model: what `lathe chat` does with one line after the other.
#pragma once
#include <string>

#include "cli/conversation.h"
#include "cli/model_options.h"
#include "cli/request_options.h"
#include "generate/chat_model.h"
#include "text/chat_template/chat_template.h"

namespace lathe {

class ChatSession {
 public:
  // Loads the model. Throws Error where it has no chat template.
  ChatSession(const ModelOptions& model, const RequestOptions& request, const std::string& system);

  // Engine::follow.
  bool follow() { return model_.engine().follow(); }
  // A user's message: the answer appears on standard output as it comes and joins the conversation. Where nothing can
  // be answered (the context is full, the template refuses) the message is taken back and the Error passes through.
  void ask(const std::string& message);
  // A line that begins with "/". False when it ends the chat. Throws Error for what is no command, or fails.
  bool command(const std::string& line);

 private:
  void answer(const Conversation& otherwise);
  void set(const std::string& name, const std::string& value);

  RequestOptions request_;
  ChatModel model_;
  ChatTemplate template_;
  Conversation conversation_;
};

}  // namespace lathe
