// Encoding of conversations; see the header.
#include "text/chat_template/encode_chat.h"

#include <algorithm>
#include <map>
#include <optional>

#include "tensor/errors.h"
#include "text/chat_template/special_text.h"
#include "text/unicode/utf8.h"

namespace lathe {
namespace {

// Places that spell the same token in the same string are marked alike.
using Group = std::pair<std::size_t, int32_t>;
enum class Mark {
  none,
  within,
  around,
  padded,   // around, with white space between the markers and the place: a probe
  replaced  // the same with another marker in the token's stead
};
using Marks = std::map<Group, Mark>;

constexpr std::string_view padding = "\n \n";
constexpr std::size_t maximum_groups = 1000;  // that are looked at one by one, with up to two renderings each

class Reconciliation {
 public:
  Reconciliation(const Tokenizer& tokenizer, const ChatTemplate& chat_template, const ChatTemplate::Inputs& inputs,
                 std::string text, std::vector<SpecialText> places)
      : tokenizer_(tokenizer),
        template_(chat_template),
        inputs_(inputs),
        text_(std::move(text)),
        places_(std::move(places)) {
    choose_markers();
  }

  std::vector<std::size_t> plain_bytes() {
    Marks marks;
    for (const SpecialText& place : places_) marks[group_of(place)] = Mark::within;
    std::optional<std::string> marked = render(marks);
    if (!agrees(marked)) {
      check(marks.size() <= maximum_groups, "chat", "{} strings spell special tokens that the template looks at",
            marks.size());
      for (auto& [group, mark] : marks) mark = settle(group);
      marked = render(marks);
      if (!agrees(marked)) fail(places_.front());
    }
    return offsets(*marked, marks);
  }

 private:
  static Group group_of(const SpecialText& place) { return {place.string, place.token}; }

  // Two characters that occur nowhere: symbols, which templates treat as they treat any letter, and which Python prints
  // as they are (it would escape private characters).
  void choose_markers() {
    std::string all = text_;
    map_strings(inputs_, [&](const std::string&, const std::string& text) {
      all += text;
      return text;
    });
    for (char32_t candidate = 0x2801; around_.empty(); ++candidate) {  // Braille patterns, then all else
      check(candidate < 0xD800, "chat", "the messages hold every character there is");
      std::string character;
      append_character(character, candidate);
      if (all.find(character) == std::string::npos) (within_.empty() ? within_ : around_) = std::move(character);
    }
  }

  std::string marked_string(std::string_view text, std::size_t index, const Marks& marks) const {
    std::map<std::size_t, std::string> inserted;  // by offset
    std::map<std::size_t, std::size_t> removed;   // where that many bytes are left out
    for (const SpecialText& place : places_) {
      if (place.string != index) continue;
      const auto found = marks.find(group_of(place));
      const Mark mark = found == marks.end() ? Mark::none : found->second;
      const std::string pad(mark == Mark::around ? "" : padding);
      if (mark == Mark::within) {
        inserted.try_emplace(within(text, place.begin, place.size), within_);
      } else if (mark != Mark::none) {
        inserted[place.begin] = around_ + pad + (mark == Mark::replaced ? within_ : "");
        inserted[place.begin + place.size] = pad + around_;
        if (mark == Mark::replaced) removed[place.begin] = place.size;
      }
    }
    std::string result;
    std::size_t done = 0;
    for (const auto& [offset, marker] : inserted) {
      if (offset > done) result.append(text.substr(done, offset - done));
      result.append(marker);
      const auto left_out = removed.find(offset);
      done = std::max(done, offset + (left_out == removed.end() ? 0 : left_out->second));
    }
    return result.append(text.substr(done));
  }

  // Behind the first character of a place, or before the only one.
  static std::size_t within(std::string_view text, std::size_t begin, std::size_t size) {
    const std::size_t second = begin + character_length(text[begin]);
    return second < begin + size ? second : begin;
  }

  // Nothing where the template fails on it.
  std::optional<std::string> render(const Marks& marks) const {
    std::size_t index = 0;
    const ChatTemplate::Inputs marked = map_strings(
        inputs_, [&](const std::string&, const std::string& text) { return marked_string(text, index++, marks); });
    try {
      return template_.render(marked);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  // Whether a marked rendering is the plain one without its markers.
  bool agrees(const std::optional<std::string>& marked) const {
    if (!marked) return false;
    std::size_t matched = 0;
    for (std::size_t i = 0; i < marked->size();) {
      if (const std::size_t marker = marker_at(*marked, i)) {
        i += marker;
      } else {
        if (matched == text_.size() || text_[matched] != (*marked)[i]) return false;
        ++matched, ++i;
      }
    }
    return matched == text_.size();
  }

  // The size of the marker at an offset, 0 where there is none.
  std::size_t marker_at(std::string_view text, std::size_t at) const {
    const std::string_view rest = text.substr(at);
    return rest.starts_with(within_) ? within_.size() : rest.starts_with(around_) ? around_.size() : 0;
  }

  // How the places of a group can be marked; none where the template consumes them.
  Mark settle(const Group& group) const {
    if (agrees(render({{group, Mark::within}}))) return Mark::within;
    const auto place =
        std::find_if(places_.begin(), places_.end(), [&](const auto& p) { return group_of(p) == group; });
    const std::optional<std::string> marked = render({{group, Mark::around}});
    if (!marked) fail(*place);
    const std::vector<std::string> texts = texts_of(group);
    const bool comes_out = std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
      return marked->find(around_ + text + around_) != std::string::npos;
    });
    if (!comes_out || is_rewritten(group, texts)) return Mark::none;
    if (!agrees(marked)) fail(*place);
    return Mark::around;
  }

  // A template that takes a token out and writes it again at the same place does not keep the white space round it as
  // it keeps that round any other text.
  bool is_rewritten(const Group& group, const std::vector<std::string>& texts) const {
    const std::optional<std::string> padded = render({{group, Mark::padded}}),
                                     other = render({{group, Mark::replaced}});
    if (!padded || !other) return false;
    const auto usual = surroundings(*other, within_);
    return usual && std::none_of(texts.begin(), texts.end(),
                                 [&](const std::string& text) { return surroundings(*padded, text) == usual; });
  }

  // What stands between the first place of `part` that has markers on both sides and these markers.
  std::optional<std::pair<std::string, std::string>> surroundings(std::string_view text, std::string_view part) const {
    for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; ++at) {
      const std::size_t before = text.substr(0, at).rfind(around_), after = text.find(around_, at + part.size());
      if (before == text.npos || after == text.npos) continue;
      const std::size_t begin = before + around_.size(), end = at + part.size();
      return std::pair(std::string(text.substr(begin, at - begin)), std::string(text.substr(end, after - end)));
    }
    return std::nullopt;
  }

  std::vector<std::string> texts_of(const Group& group) const {
    std::vector<std::string> texts;
    const std::string token = tokenizer_.token_text(group.second);
    for (const SpecialText& place : places_) {
      if (group_of(place) != group) continue;
      if (place.is_whole)
        texts.push_back(token);
      else if (place.begin == 0)
        texts.push_back(token.substr(token.size() - place.size));
      if (!place.is_whole) texts.push_back(token.substr(0, place.size));
    }
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    return texts;
  }

  // Of the plain rendering: the byte behind each inner marker, and the inside of each place that stands in markers.
  std::vector<std::size_t> offsets(std::string_view marked, const Marks& marks) const {
    std::vector<std::string> enclosed;
    for (const auto& [group, mark] : marks)
      if (mark == Mark::around)
        for (std::string& text : texts_of(group)) enclosed.push_back(std::move(text));
    std::vector<std::size_t> result;
    std::size_t offset = 0;
    for (std::size_t i = 0; i < marked.size();) {
      const std::size_t marker = marker_at(marked, i);
      offset += marker == 0;
      i += marker ? marker : 1;
      if (marker == 0) continue;
      if (marked.substr(i - marker, marker) == within_) result.push_back(offset);
      for (const std::string& text : enclosed)
        if (marked.substr(i).starts_with(text + around_)) result.push_back(offset + within(text, 0, text.size()));
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  [[noreturn]] void fail(const SpecialText& place) const {
    throw Error(fmt::format("{} holds text of the special token {}, and the template treats it so that it cannot be "
                            "told from the template's own",
                            place.in, tokenizer_.token_text(place.token)),
                "remove the token from the text");
  }

  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
  const ChatTemplate::Inputs& inputs_;
  const std::string text_;
  const std::vector<SpecialText> places_;
  std::string within_, around_;  // the markers
};

}  // namespace

const std::string& chat_template_of(const Tokenizer& tokenizer, const std::string& model, bool for_tools) {
  const auto& named = tokenizer.chat_templates();
  if (const auto found = named.find("tool_use"); for_tools && found != named.end()) return found->second;
  if (const auto& source = tokenizer.chat_template()) return *source;
  throw Error(fmt::format("{}: the model has no chat template", model),
              "a base model continues text: give it a prompt that is no conversation");
}

ChatTemplate::Inputs chat_inputs(const Tokenizer& tokenizer) {
  ChatTemplate::Inputs inputs;
  inputs.variables = tokenizer.named_tokens();
  return inputs;
}

ChatRendering render_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                          const ChatTemplate::Inputs& inputs) {
  ChatRendering rendering{chat_template.render(inputs), {}};
  std::vector<SpecialText> places = find_special_text(tokenizer, inputs);
  if (!places.empty())
    rendering.plain_bytes =
        Reconciliation(tokenizer, chat_template, inputs, rendering.text, std::move(places)).plain_bytes();
  return rendering;
}

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                 const ChatTemplate::Inputs& inputs) {
  const ChatRendering rendering = render_chat(tokenizer, chat_template, inputs);
  EncodeOptions options;
  options.add_special_tokens = false;
  options.parse_special = EncodeOptions::ParseSpecial::yes;
  options.plain_bytes = rendering.plain_bytes;
  return tokenizer.encode(rendering.text, options);
}

}  // namespace lathe
