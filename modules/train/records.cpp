// See records.h.
#include "train/records.h"

#include <algorithm>

#include "text/chat_template/encode_chat.h"
#include "text/chat_template/messages.h"
#include "train/answer_targets.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using Format = DataRecipe::Format;

// What a template takes for today, so that the same records are the same ids every day: the date that Llama 3.1's
// writes where it is told none.
constexpr const char* kToday = "2024-07-26";

bool is_list(const OrderedJsonNode& node) { return node.value().is_array(); }

// A text that answers messages is the content of one.
Json messages_of(const OrderedJsonNode& node, const char* role) {
  if (!is_list(node)) return Json::array({{{"role", role}, {"content", node.string()}}});
  check_messages(node.value(), node.where());
  return node.value();
}

size_t common_beginning(const Json& a, const Json& b) {
  size_t count = 0;
  while (count < std::min(a.size(), b.size()) && a[count] == b[count]) ++count;
  return count;
}

void check_learnt(const OrderedJsonNode& record, const std::vector<int32_t>& ids, Format format) {
  if (std::any_of(ids.begin() + !ids.empty(), ids.end(), [](int32_t id) { return id >= 0; })) return;
  record.fail("nothing of the record is learnt", format == Format::chat   ? "expected a message of the role assistant"
                                                 : format == Format::text ? "expected a text of two tokens at least"
                                                                          : "expected an answer that is not empty");
}

}  // namespace

RecordReader::RecordReader(Format format, const DataTokenizer& tokenizer) : format_(format), tokenizer_(tokenizer) {
  const auto& templates = tokenizer.tokenizer->chat_templates();
  if (const auto& text = tokenizer.tokenizer->chat_template()) template_ = ChatTemplate::parse(*text);
  if (const auto found = templates.find("tool_use"); found != templates.end())
    tool_template_ = ChatTemplate::parse(found->second);
  if (!template_ && format == Format::chat)
    throw Error("data: format chat: the tokenizer has no chat template",
                "put chat_template.jinja beside the tokenizer, or give prompts and completions as texts");
}

std::vector<int32_t> RecordReader::read_text(std::string_view text, bool ends) const {
  std::vector<int32_t> ids = tokenizer_.tokenizer->encode(text);
  if (ends && tokenizer_.end && (ids.empty() || ids.back() != *tokenizer_.end)) ids.push_back(*tokenizer_.end);
  return ids;
}

std::vector<int32_t> RecordReader::conversation(const OrderedJsonNode& record, Json messages, size_t given) const {
  if (!template_) record.fail("holds messages, and the tokenizer has no chat template");
  ChatTemplate::Inputs inputs = chat_inputs(*tokenizer_.tokenizer);
  inputs.now = kToday;
  inputs.messages = std::move(messages);
  const bool tools = record.has("tools");
  if (tools) check_tools(inputs.tools = record.at("tools").value(), record.at("tools").where());
  if (record.has("chat_template_kwargs")) {
    inputs.arguments = record.at("chat_template_kwargs").value();
    if (!inputs.arguments.is_object()) record.at("chat_template_kwargs").expected("an object");
  }
  return encode_answers(*tokenizer_.tokenizer, tools && tool_template_ ? *tool_template_ : *template_,
                        std::move(inputs), given);
}

std::vector<int32_t> RecordReader::answered(const OrderedJsonNode& record, const char* answer) const {
  const OrderedJsonNode text = record.at(answer);
  if (format_ == Format::preference && !record.has("prompt") &&
      is_list(text)) {  // preferences: what both conversations begin with is the prompt
    const Json messages = messages_of(text, "assistant");
    return conversation(record, messages, common_beginning(record.at("chosen").value(), record.at("rejected").value()));
  }
  const OrderedJsonNode prompt = record.at("prompt");
  if (!is_list(prompt) && !is_list(text))
    return encode_completion(*tokenizer_.tokenizer, prompt.string(), text.string(), tokenizer_.end.value_or(-1));
  Json messages = messages_of(prompt, "user");
  const size_t given = messages.size();
  for (Json& message : messages_of(text, "assistant")) messages.push_back(std::move(message));
  return conversation(record, std::move(messages), given);
}

std::vector<std::vector<int32_t>> RecordReader::read(const OrderedJsonNode& record) const {
  if (!record.value().is_object()) record.expected("an object");
  std::vector<std::vector<int32_t>> documents;
  switch (format_) {
    case Format::text: documents.push_back(read_text(record.at("text").string(), true)); break;
    case Format::completion: documents.push_back(answered(record, "completion")); break;
    case Format::preference: documents = {answered(record, "chosen"), answered(record, "rejected")}; break;
    case Format::chat: {
      const OrderedJsonNode messages = record.at("messages");
      check_messages(messages.value(), messages.where());
      documents.push_back(conversation(record, messages.value(), 0));
    }
  }
  for (const std::vector<int32_t>& ids : documents) check_learnt(record, ids, format_);
  return documents;
}

}  // namespace lathe
