// See answer_targets.h.
#include "train/answer_targets.h"

#include <algorithm>
#include <optional>
#include <string>

#include "tensor/errors.h"
#include "text/chat_template/encode_chat.h"
#include "text/tokenizer/explanation.h"
#include "text/unicode/utf8.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// A text as ids, and where in it each of them ends.
class EncodedText {
 public:
  EncodedText(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options)
      : tokenizer_(tokenizer), text_(text), options_(options), ids_(tokenizer.encode(text, options)) {
    std::string surface;
    for (const int32_t id : ids_) {
      surface += tokenizer.token_bytes(id);
      ends_.push_back(surface.size());
    }
    exact_ = surface == text;
  }

  const std::vector<int32_t>& ids() const { return ids_; }
  // The first token that covers bytes from `offset` on.
  size_t first_from(size_t offset) const {
    return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), in_tokens(offset)) - ends_.begin());
  }
  // Behind the last token that covers bytes before `offset`.
  size_t behind(size_t offset) const {
    const size_t bytes = in_tokens(offset);
    if (bytes == 0) return 0;
    const auto last = std::lower_bound(ends_.begin(), ends_.end(), bytes);
    return static_cast<size_t>(last - ends_.begin()) + (last != ends_.end());
  }
  bool is_blank(size_t token) const {
    return tokenizer_.token_bytes(ids_[token]).find_first_not_of(" \n\r\t") == std::string::npos;
  }

 private:
  // What tokens spell is not always the text (a space is put before it, a normal form taken): then a beginning of the
  // text is as long as what it becomes by itself.
  size_t in_tokens(size_t offset) const {
    if (exact_) return offset;
    EncodeOptions options = options_;
    const auto& plain = options_.plain_bytes;
    options.plain_bytes =
        plain.first(static_cast<size_t>(std::lower_bound(plain.begin(), plain.end(), offset) - plain.begin()));
    size_t bytes = 0;
    for (const int32_t id : tokenizer_.encode(text_.substr(0, offset), options))
      bytes += tokenizer_.token_bytes(id).size();
    return bytes;
  }

  const Tokenizer& tokenizer_;
  std::string_view text_;
  EncodeOptions options_;
  std::vector<int32_t> ids_;
  std::vector<size_t> ends_;
  bool exact_ = false;
};

// Finds the bytes of answers in a rendered conversation.
class AnswerFinder {
 public:
  AnswerFinder(const ChatTemplate& chat_template, ChatTemplate::Inputs inputs, std::string_view text)
      : template_(chat_template), inputs_(std::move(inputs)), text_(text) {}

  struct Answer {
    size_t begin = 0;
    size_t content_end = 0;  // it does not end before this
    size_t limit = 0;        // it ends before this
    bool limited = false;    // `limit` is where the next message begins, and not somewhere behind
  };
  // Of the answer `message`, which begins at `from` or later.
  Answer find(size_t message, size_t from) const {
    const std::optional<std::string> prompt = render(first(message), true), turn = render(first(message + 1), false);
    const bool prompted = prompt && prompt->size() >= from && text_.starts_with(*prompt);
    Answer answer;
    answer.limited = turn && text_.starts_with(*turn);
    if (prompted) answer.begin = answer.content_end = prompt->size();
    if (answer.limited) answer.limit = turn->size();
    if (prompted && answer.limited) return answer;

    const Bytes content = content_in(inputs_.messages, text_, message, false);
    if (!answer.limited)
      answer.limit = message + 1 < inputs_.messages.size()
                         ? content_in(inputs_.messages, text_, message + 1, false).begin
                         : text_.size();
    if (!prompted) answer.begin = behind_prompt(message, prompt).value_or(content.begin);
    check(answer.begin >= from && answer.begin < text_.size(), "chat",
          "messages[{}]: the answer cannot be found in what the template makes of the conversation", message);
    answer.content_end = content.begin < text_.size() ? std::max(answer.begin, content.end) : answer.begin;
    return answer;
  }

 private:
  struct Bytes {
    size_t begin, end;
  };

  Json first(size_t count) const { return {inputs_.messages.begin(), inputs_.messages.begin() + count}; }

  // Nothing where the template refuses the messages.
  std::optional<std::string> render(Json messages, bool add_generation_prompt) const {
    ChatTemplate::Inputs inputs = inputs_;
    inputs.messages = std::move(messages);
    inputs.add_generation_prompt = add_generation_prompt;
    try {
      return template_.render(inputs);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  // Where the answer begins if the end of its prompt follows the content of the message before it.
  std::optional<size_t> behind_prompt(size_t message, const std::optional<std::string>& prompt) const {
    if (!prompt || message == 0) return std::nullopt;
    const size_t in_prompt = content_in(first(message), *prompt, message - 1, true).end,
                 in_text = content_in(inputs_.messages, text_, message - 1, false).end;
    const std::string_view end = std::string_view(*prompt).substr(in_prompt);
    if (end.empty() || !text_.substr(in_text).starts_with(end)) return std::nullopt;
    return in_text + end.size();
  }

  // The bytes of `text`, which `messages` render as, that change with the content of one of them, in whole characters.
  // All behind the end where none does.
  Bytes content_in(Json messages, std::string_view text, size_t message, bool add_generation_prompt) const {
    messages[message]["content"] = unused_character();
    const std::string other = render(std::move(messages), add_generation_prompt).value_or(std::string(text));
    auto begin =
        static_cast<size_t>(std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first - text.begin());
    size_t tail = 0;
    const size_t most = std::min(text.size(), other.size()) - std::min(begin, other.size());
    while (tail < most && text[text.size() - 1 - tail] == other[other.size() - 1 - tail]) ++tail;
    size_t end = text.size() - tail;
    while (begin > 0 && begin < text.size() && !begins_character(text[begin])) --begin;
    while (end < text.size() && !begins_character(text[end])) ++end;
    return {begin, end};
  }
  std::string unused_character() const {
    for (char32_t candidate = 0x2801;; ++candidate) {  // Braille patterns: letters to a template
      std::string character;
      append_character(character, candidate);
      if (text_.find(character) == text_.npos) return character;
    }
  }

  const ChatTemplate& template_;
  ChatTemplate::Inputs inputs_;
  std::string_view text_;
};

// Tokens [first, end) are learnt.
void learn(std::vector<int32_t>& ids, size_t first, size_t end) {
  for (size_t i = first; i < end; ++i)
    if (ids[i] < 0) ids[i] = ~ids[i];
}

std::vector<int32_t> unlearnt(std::vector<int32_t> ids) {
  for (int32_t& id : ids) id = ~id;
  return ids;
}

}  // namespace

std::vector<int32_t> encode_answers(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                    ChatTemplate::Inputs inputs, size_t given) {
  inputs.add_generation_prompt = false;
  const ChatRendering rendering = render_chat(tokenizer, chat_template, inputs);
  EncodeOptions options;
  options.add_special_tokens = false;
  options.parse_special = EncodeOptions::ParseSpecial::yes;
  options.plain_bytes = rendering.plain_bytes;
  const EncodedText text(tokenizer, rendering.text, options);
  const std::vector<int32_t> ends = tokenizer.end_of_turn_tokens();
  // Behind the first token of [begin, end) that ends a turn, or behind the last one that does not just follow another;
  // `begin` where there is none.
  const auto end_of_turn = [&](size_t begin, size_t end, bool last) {
    size_t found = begin;
    bool blank = false;  // nothing but white space since the one that was found
    for (size_t i = begin; i < end && (last || found == begin); ++i) {
      const bool ends_turn = std::binary_search(ends.begin(), ends.end(), text.ids()[i]);
      if (ends_turn && !blank) found = i + 1;
      blank = found > begin && (ends_turn || (blank && text.is_blank(i)));
    }
    return found;
  };

  const AnswerFinder finder(chat_template, inputs, rendering.text);
  std::vector<int32_t> ids = unlearnt(text.ids());
  size_t from = 0;  // the answers before end here
  for (size_t i = given; i < inputs.messages.size(); ++i) {
    if (inputs.messages[i].at("role") != "assistant") continue;
    const AnswerFinder::Answer answer = finder.find(i, from);
    // The last token that ends a turn before the next message; where it is not known where that begins, the first one
    // behind the content.
    const size_t content_end = text.behind(answer.content_end), limit = text.behind(answer.limit);
    const size_t end = end_of_turn(content_end, limit, answer.limited);
    learn(ids, text.first_from(answer.begin), end > content_end ? end : answer.limited ? limit : content_end);
    from = answer.limited ? answer.limit : answer.content_end;
  }
  return ids;
}

std::vector<int32_t> encode_completion(const Tokenizer& tokenizer, std::string_view prompt, std::string_view completion,
                                       int32_t end) {
  const std::string whole = std::string(prompt).append(completion);
  EncodeOptions options;
  options.add_special_tokens = false;
  const EncodedText text(tokenizer, whole, options);
  std::vector<int32_t> ids = unlearnt(text.ids());
  learn(ids, text.first_from(prompt.size()), ids.size());
  const Explanation around = tokenizer.explain("");
  const std::vector<int32_t> before = unlearnt(around.before);
  ids.insert(ids.begin(), before.begin(), before.end());
  ids.insert(ids.end(), around.after.begin(), around.after.end());
  if (end >= 0 && (around.after.empty() || around.after.back() != end)) ids.push_back(end);
  return ids;
}

}  // namespace lathe
