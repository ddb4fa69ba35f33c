// Records of .jsonl files as ids: what each form of them looks like, and what is learnt of it.
//
//   text        {"text": "..."}
//   completion  {"prompt": "...", "completion": "..."}
//   chat        {"messages": [{"role": "user", "content": "..."}, ...]}
//   preference  {"prompt": "...", "chosen": "...", "rejected": "..."}
//
// Prompt and answers may be lists of messages in place of texts; they then go through the chat template, as the
// messages of a chat do. Conversations may have "tools", and "chat_template_kwargs", an object of variables of the
// template:
// {"enable_thinking": false}. Other keys are left alone.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/json_node.h"
#include "text/chat_template/chat_template.h"
#include "train/data_tokenizer.h"

namespace lathe {

class RecordReader {
 public:
  // Throws Error where a chat has no template. `tokenizer` must outlive it.
  RecordReader(DataRecipe::Format format, const DataTokenizer& tokenizer);
  // One document, or of a preference two: ids, complements where they are not learnt. Throws Error for a record of
  // another form and one of which nothing is learnt.
  std::vector<std::vector<int32_t>> read(const OrderedJsonNode& record) const;
  // A text as a document.
  std::vector<int32_t> read_text(std::string_view text, bool ends) const;

 private:
  std::vector<int32_t> answered(const OrderedJsonNode& record, const char* answer) const;
  std::vector<int32_t> conversation(const OrderedJsonNode& record, nlohmann::ordered_json messages, size_t given) const;

  DataRecipe::Format format_;
  const DataTokenizer& tokenizer_;
  std::optional<ChatTemplate> template_, tool_template_;
};

}  // namespace lathe
