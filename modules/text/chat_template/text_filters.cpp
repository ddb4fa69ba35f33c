// The filters that write for people and for the web: HTML, URLs, wrapped and pretty-printed text.
//
// jinja2/filters.py, markupsafe, textwrap and pprint of Python are the references. No chat template needs them; they
// are here so that none of Jinja2's filters but `random` is missing.
#include "text/chat_template/text_filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <utility>

#include "text/chat_template/operators.h"
#include "text/chat_template/unicode.h"
#include "text/tokenizer/regex.h"

namespace lathe::jinja {
namespace {

constexpr std::int64_t pattern_steps = 1500;  // that compiling a regular expression is worth

Value quoted_url(const Value& value, bool in_query) {
  constexpr std::string_view unreserved = "_.-~", digits = "0123456789ABCDEF";
  TextBuilder output;
  for (const char c : to_text(value)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = (byte < 0x80 && is_in_class(byte, CharacterClass::letter)) || (byte >= '0' && byte <= '9') ||
                          unreserved.find(c) != unreserved.npos || (c == '/' && !in_query);
    if (is_plain)
      output.append(1, c);
    else if (c == ' ' && in_query)
      output.append("+");
    else
      output.append(std::string{'%', digits[byte >> 4], digits[byte & 15]});
  }
  return output.take();
}

Value url_encode(BoundCall& call) {
  if (call.self.is_string() || !is_iterable(call.self)) return quoted_url(call.self, false);
  std::vector<Value> pairs;
  if (call.self.is_dict())
    for (const auto& [key, value] : call.self.dict().entries()) pairs.push_back(Value::tuple({key, value}));
  else
    pairs = iterate(call.self);
  TextBuilder output;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const std::vector<Value> pair = iterate(pairs[i]);
    if (pair.size() != 2) fail("urlencode: expected pairs, found {} values", pair.size());
    output.append(
        fmt::format("{}{}={}", i ? "&" : "", quoted_url(pair[0], true).text(), quoted_url(pair[1], true).text()));
  }
  return output.take();
}

Value xml_attributes(BoundCall& call) {
  if (!call.self.is_dict()) fail("xmlattr needs a dict, not {}", type_name(call.self));
  TextBuilder output;
  for (const auto& [key, value] : call.self.dict().entries()) {
    if (value.is_none() || value.is_undefined()) continue;
    const std::string name = to_text(key);
    if (name.find_first_of(" \t\n\f\r\v/>=") != name.npos)
      fail("Invalid character in attribute name: {}", representation(key));
    if (!output.text().empty() || call.flag(0, true)) output.append(" ");
    output.append(fmt::format("{}=\"{}\"", escaped(key).text(), escaped(value).text()));
  }
  return output.take();
}

// Numeric references, and the names that HTML had from its beginning.
std::string unescape_html(std::string_view text) {
  constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"amp;", "&"}, {"lt;", "<"}, {"gt;", ">"}, {"quot;", "\""}, {"apos;", "'"}, {"nbsp;", "\xC2\xA0"}};
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i + 1);
    const std::size_t size_before = result.size();
    if (text[i] == '&' && rest.starts_with('#')) {
      const bool is_hexadecimal = rest.starts_with("#x") || rest.starts_with("#X");
      std::uint32_t code = 0;
      const char* first = rest.data() + (is_hexadecimal ? 2 : 1);
      const auto [end, error] = std::from_chars(first, rest.data() + rest.size(), code, is_hexadecimal ? 16 : 10);
      if (error == std::errc() && end != first && code < 0x110000 && (code < 0xD800 || code > 0xDFFF) && code != 0) {
        append_code_point(result, code);
        i = static_cast<std::size_t>(end - text.data());
        i += i < text.size() && text[i] == ';';
      }
    } else if (text[i] == '&') {
      for (const auto& [name, character] : names)
        if (rest.starts_with(name)) result += character, i += 1 + name.size();
    }
    if (result.size() == size_before) result += text[i++];
  }
  return result;
}

Value strip_tags(BoundCall& call) {
  const std::string text = to_text(call.self);
  charge_text(text.size());
  std::string kept;
  std::size_t position = 0;
  for (std::size_t start; (start = text.find('<', position)) != text.npos;) {
    const bool is_comment = text.compare(start, 4, "<!--") == 0;
    const std::size_t end = is_comment ? text.find("-->", start + 4) : text.find('>', start);
    if (end == text.npos) break;
    kept.append(text, position, start - position);
    position = end + (is_comment ? 3 : 1);
  }
  kept.append(text, position);
  std::string spaced;
  Arguments none;
  const Value words = call_method(call.interpreter, "split", kept, none);
  for (const Value& word : words.list().items) spaced += (spaced.empty() ? "" : " ") + word.text();
  return unescape_html(spaced);
}

Value file_size(BoundCall& call) {
  Arguments none;
  const Builtin& to_float = *find_filter("float");
  const Value not_a_number(std::nan(""));
  Arguments otherwise{{not_a_number}, {}};
  BoundCall convert(call.interpreter, to_float, call.self, otherwise);
  const Value number = to_float.function(convert);
  const double bytes = number.real(), base = call.flag(0) ? 1024 : 1000;
  if (std::isnan(bytes)) fail("could not convert {} to float", representation(call.self));
  if (bytes == 1) return "1 Byte";
  if (bytes < base) return fmt::format("{:.0f} Bytes", std::trunc(bytes));
  constexpr std::string_view prefixes = "kMGTPEZY";
  double unit = base * base;
  std::size_t i = 0;
  for (; bytes >= unit && i + 1 < prefixes.size(); ++i) unit *= base;
  const char prefix = call.flag(0) && i == 0 ? 'K' : prefixes[i];
  return fmt::format("{:.1f} {}{}B", base * bytes / unit, prefix, call.flag(0) ? "i" : "");
}

// --- textwrap

constexpr const char* word_borders =  // of Python's TextWrapper
    "([\\t\\n\\x0b\\x0c\\r ]+"
    "|(?<=[\\w!\"'&.,?])-{2,}(?=\\w)"
    "|[^\\t\\n\\x0b\\x0c\\r ]+?(?:-(?:(?<=[^\\d\\W]{2}-)|(?<=[^\\d\\W]-[^\\d\\W]-))(?=[^\\d\\W]-?[^\\d\\W])"
    "|(?=[\\t\\n\\x0b\\x0c\\r ]|\\z)|(?<=[\\w!\"'&.,?])(?=-{2,}\\w)))";
constexpr const char* space_borders = "[\\t\\n\\x0b\\x0c\\r ]+|[^\\t\\n\\x0b\\x0c\\r ]+";

// Lines of at most `width` code points.
class Wrapper {
 public:
  Wrapper(std::size_t width, bool breaks_words, bool breaks_at_hyphens)
      : width_(width),
        breaks_words_(breaks_words),
        breaks_at_hyphens_(breaks_at_hyphens),
        borders_(breaks_at_hyphens ? word_borders : space_borders) {}

  std::vector<std::string> wrap(std::string_view text) {
    std::vector<std::string> lines;
    Regex::Matches matches(borders_, text);
    std::deque<std::string_view> chunks;
    for (std::size_t begin = 0, end = 0; matches.next(begin, end);) chunks.push_back(text.substr(begin, end - begin));
    while (!chunks.empty()) {
      charge(1);
      if (!lines.empty() && is_blank(chunks.front())) chunks.pop_front();
      std::string line = take_line(chunks);
      if (!line.empty()) lines.push_back(std::move(line));
    }
    return lines;
  }

 private:
  static bool is_blank(std::string_view chunk) { return strip(chunk, Side::left).empty(); }
  static std::size_t offset_of(std::string_view text, std::size_t code_points) {
    std::size_t position = 0;
    for (; code_points > 0 && position < text.size(); --code_points) next_code_point(text, position);
    return position;
  }

  std::string take_line(std::deque<std::string_view>& chunks) {
    std::vector<std::string_view> parts;
    std::size_t length = 0;
    while (!chunks.empty() && length + count_code_points(chunks.front()) <= width_) {
      length += count_code_points(chunks.front());
      parts.push_back(chunks.front());
      chunks.pop_front();
    }
    if (!chunks.empty() && count_code_points(chunks.front()) > width_) {
      std::string_view& chunk = chunks.front();
      if (breaks_words_) {
        std::size_t end = offset_of(chunk, width_ - length);
        const std::size_t hyphen = end > 0 ? chunk.rfind('-', end - 1) : chunk.npos;
        if (breaks_at_hyphens_ && hyphen != chunk.npos && hyphen > 0 &&
            chunk.substr(0, hyphen).find_first_not_of('-') != chunk.npos)
          end = hyphen + 1;
        parts.push_back(chunk.substr(0, end));
        chunk.remove_prefix(end);
      } else if (parts.empty()) {
        parts.push_back(chunk);
        chunks.pop_front();
      }
    }
    if (!parts.empty() && is_blank(parts.back())) parts.pop_back();
    std::string line;
    for (const std::string_view part : parts) line += part;
    return line;
  }

  const std::size_t width_;
  const bool breaks_words_, breaks_at_hyphens_;
  const Regex borders_;
};

Value word_wrap(BoundCall& call) {
  charge(pattern_steps);
  const std::int64_t width = call.integer_or(0, 79);
  if (!call.self.is_string()) fail("wordwrap needs a str, not {}", type_name(call.self));
  charge_unicode(4 * call.self.text().size());  // a regular expression looks at each character several times
  if (width <= 0 && !call.self.text().empty()) fail("invalid width {} (must be > 0)", width);
  const std::string newline = call.has(2) ? call.text(2) : "\n";
  Wrapper wrapper(static_cast<std::size_t>(std::max<std::int64_t>(width, 1)), call.flag(1, true), call.flag(3, true));
  Arguments none;
  const Value paragraphs = call_method(call.interpreter, "splitlines", call.self, none);
  TextBuilder output;
  bool is_first = true;
  for (const Value& paragraph : paragraphs.list().items) {
    const std::vector<std::string> lines = wrapper.wrap(paragraph.text());
    if (!std::exchange(is_first, false)) output.append(newline);
    for (std::size_t i = 0; i < lines.size(); ++i) output.append((i ? newline : "") + lines[i]);
  }
  return output.take();
}

// --- urlize

constexpr const char* url_pattern =
    "^(?i:(?:https?://|www\\.)(?:(?:[\\w%-]+\\.)+)?(?:[a-z]{2,63}|xn--[\\w%]{2,59})"
    "|(?:[\\w%-]{2,63}\\.)+(?:com|net|int|edu|gov|org|info|mil)"
    "|https?://(?:\\d{1,3}(?:\\.\\d{1,3}){3}|\\[(?:[\\da-f]{0,4}:){2}(?:[\\da-f]{0,4}:?){1,6}\\]))"
    "(?::\\d{1,5})?(?:[/?#]\\S*)?\\z";
constexpr const char* address_pattern = "^\\S+@\\w[\\w.-]*\\.\\w+\\z";

class Linker {
 public:
  Linker(std::int64_t limit, std::string attributes, std::vector<std::string> schemes)
      : limit_(limit), attributes_(std::move(attributes)), schemes_(std::move(schemes)) {}

  std::string link(std::string_view word) const {
    std::string_view head, middle = word, tail;
    std::size_t size = 0;
    while (const std::size_t opening = starting(middle.substr(size), {"(", "<", "&lt;"})) size += opening;
    head = middle.substr(0, size);
    middle.remove_prefix(size);
    size = middle.size();
    while (const std::size_t closing = ending(middle.substr(0, size), {")", ">", ".", ",", "\n", "&gt;"}))
      size -= closing;
    tail = middle.substr(size);
    middle = middle.substr(0, size);
    for (const auto& [open, close] : {std::pair{"(", ")"}, std::pair{"<", ">"}, std::pair{"&lt;", "&gt;"}}) {
      const std::string_view closing = close;
      std::size_t missing = count(middle, open) > count(middle, closing) ? count(middle, open) : 0;
      for (missing = std::min(missing, count(tail, closing)); missing > 0; --missing) {
        const std::size_t taken = tail.find(closing) + closing.size();
        middle = std::string_view(middle.data(), middle.size() + taken);  // the tail lies right behind it
        tail.remove_prefix(taken);
      }
    }
    return std::string(head) + linked(middle) + std::string(tail);
  }

 private:
  using Ends = std::initializer_list<std::string_view>;
  static std::size_t starting(std::string_view text, Ends parts) {
    for (const std::string_view part : parts)
      if (text.starts_with(part)) return part.size();
    return 0;
  }
  static std::size_t ending(std::string_view text, Ends parts) {
    for (const std::string_view part : parts)
      if (text.ends_with(part)) return part.size();
    return 0;
  }
  static std::size_t count(std::string_view text, std::string_view part) {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++found;
    return found;
  }
  static bool matches(const Regex& pattern, std::string_view text) {
    std::size_t begin = 0, end = 0;
    return Regex::Matches(pattern, text).next(begin, end);
  }

  std::string shown(std::string_view url) const {
    if (limit_ < 0 || static_cast<std::int64_t>(count_code_points(url)) <= limit_) return std::string(url);
    return get_slice(Value(url), Value(), Value(limit_), Value()).text() + "...";
  }

  std::string linked(std::string_view word) const {
    constexpr std::string_view mail = "mailto:";
    if (matches(url_, word)) {
      const bool has_scheme = word.starts_with("https://") || word.starts_with("http://");
      return fmt::format("<a href=\"{}{}\"{}>{}</a>", has_scheme ? "" : "https://", word, attributes_, shown(word));
    }
    if (word.starts_with(mail) && matches(address_, word.substr(mail.size())))
      return fmt::format("<a href=\"{}\">{}</a>", word, word.substr(mail.size()));
    if (word.find('@') != word.npos && !word.starts_with("www.") && !word.starts_with('@') &&
        word.find(':') == word.npos && matches(address_, word))
      return fmt::format("<a href=\"mailto:{0}\">{0}</a>", word);
    std::string result(word);
    for (const std::string& scheme : schemes_)
      if (result != scheme && result.starts_with(scheme))
        result = fmt::format("<a href=\"{0}\"{1}>{0}</a>", result, attributes_);
    return result;
  }

  const Regex url_{url_pattern}, address_{address_pattern};
  const std::int64_t limit_;
  const std::string attributes_;
  const std::vector<std::string> schemes_;
};

std::vector<std::string> texts(const Value& values) {
  std::vector<std::string> result;
  for (const Value& value : iterate(values)) result.push_back(to_text(value));
  return result;
}

Value make_links(BoundCall& call) {
  charge(2 * pattern_steps);
  std::vector<std::string> relations = {"noopener"};
  if (call.flag(1)) relations.push_back("nofollow");
  if (call.has(3)) {
    Arguments none;
    for (std::string& word : texts(call_method(call.interpreter, "split", call[3], none))) relations.push_back(word);
  }
  std::sort(relations.begin(), relations.end());
  relations.erase(std::unique(relations.begin(), relations.end()), relations.end());
  std::string attributes = " rel=\"";
  for (std::size_t i = 0; i < relations.size(); ++i) attributes += (i ? " " : "") + escaped(relations[i]).text();
  attributes += "\"";
  if (call.has(2)) attributes += fmt::format(" target=\"{}\"", escaped(call[2]).text());
  std::vector<std::string> schemes;
  if (call.has(4)) schemes = texts(call[4]);
  for (const std::string& scheme : schemes) {
    const std::size_t word =
        scheme.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-");
    if (word == 0 || word == scheme.npos || (scheme.substr(word) != ":" && scheme.substr(word) != "://"))
      fail("{} is not a valid URI scheme prefix.", python_quote(scheme));
  }
  const Linker linker(call.integer_or(0, -1), std::move(attributes), std::move(schemes));
  const Value text = escaped(call.self);
  charge_unicode(8 * text.text().size());
  static const thread_local Regex words("\\s+|\\S+");
  Regex::Matches matches(words, text.text());
  TextBuilder output;
  for (std::size_t begin = 0, end = 0; matches.next(begin, end);)
    output.append(linker.link(std::string_view(text.text()).substr(begin, end - begin)));
  return output.take();
}

// --- pprint

// With the entries of every dict in order of their keys, as pprint shows them.
Value in_key_order(const Value& value) {
  if (value.kind() == Kind::list) {
    std::vector<Value> items;
    for (const Value& item : value.list().items) items.push_back(in_key_order(item));
    return value.list().is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
  }
  if (!value.is_dict()) return value;
  auto entries = value.dict().entries();
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    if (type_name(a.first) != type_name(b.first)) return type_name(a.first) < type_name(b.first);
    return !a.first.is_none() && compare(a.first, b.first, "<") == -1;
  });
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key, item] : entries) dict->set(key, in_key_order(item));
  return std::shared_ptr<const DictObject>(std::move(dict));
}

class PrettyPrinter {
 public:
  explicit PrettyPrinter(TextBuilder& output) : output_(output) {}

  // `indent`: the column that the value begins at. `allowance`: how much follows on its last line.
  void print(const Value& value, std::int64_t indent, std::int64_t allowance, int level) {
    const std::string text = representation(value);
    if (width(text) <= line_width - indent - allowance) return output_.append(text);
    if (value.is_string() && !value.text().empty()) return print_string(value, indent, allowance, level + 1);
    if (value.is_dict()) return print_dict(value.dict(), indent, allowance, level + 1);
    if (value.kind() != Kind::list) return output_.append(text);
    const ListObject& list = value.list();
    const std::string_view close = !list.is_tuple ? "]" : list.items.size() == 1 ? ",)" : ")";
    output_.append(list.is_tuple ? "(" : "[");
    const auto size = static_cast<std::int64_t>(close.size());
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i) new_line(indent + 1, ",");
      print(list.items[i], indent + 1, i + 1 == list.items.size() ? allowance + size : 1, level + 1);
    }
    output_.append(close);
  }

 private:
  static constexpr std::int64_t line_width = 80;
  static std::int64_t width(const std::string& text) { return static_cast<std::int64_t>(count_code_points(text)); }

  void new_line(std::int64_t indent, std::string_view separator) {
    output_.append(separator);
    output_.append("\n");
    output_.append(static_cast<std::size_t>(indent), ' ');
  }

  void print_dict(const DictObject& dict, std::int64_t indent, std::int64_t allowance, int level) {
    output_.append("{");
    for (std::size_t i = 0; i < dict.entries().size(); ++i) {
      const auto& [key, value] = dict.entries()[i];
      if (i) new_line(indent + 1, ",");
      const std::string name = representation(key);
      output_.append(name + ": ");
      print(value, indent + 1 + width(name) + 2, i + 1 == dict.entries().size() ? allowance + 1 : 1, level);
    }
    output_.append("}");
  }

  // Neighbouring literals, cut behind newlines and spaces.
  void print_string(const Value& value, std::int64_t indent, std::int64_t allowance, int level) {
    const bool in_parentheses = level == 1;
    indent += in_parentheses, allowance += in_parentheses;
    std::vector<std::string> chunks;
    const std::vector<std::string_view> lines = lines_of(value.text());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const bool is_last_line = i + 1 == lines.size();
      const std::string whole = python_quote(lines[i]);
      if (width(whole) <= line_width - indent - (is_last_line ? allowance : 0)) {
        chunks.push_back(whole);
        continue;
      }
      std::string current;
      const std::vector<std::string_view> words = words_of(lines[i]);
      for (std::size_t j = 0; j < words.size(); ++j) {
        const bool is_last = is_last_line && j + 1 == words.size();
        const std::string candidate = current + std::string(words[j]);
        if (width(python_quote(candidate)) > line_width - indent - (is_last ? allowance : 0) && !current.empty()) {
          chunks.push_back(python_quote(current));
          current = words[j];
        } else {
          current = candidate;
        }
      }
      if (!current.empty()) chunks.push_back(python_quote(current));
    }
    if (chunks.size() == 1) return output_.append(chunks[0]);
    if (in_parentheses) output_.append("(");
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      if (i) new_line(indent, "");
      output_.append(chunks[i]);
    }
    if (in_parentheses) output_.append(")");
  }

  static std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    std::size_t begin = 0;
    for (std::size_t position = 0; position < text.size();) {
      const char32_t c = next_code_point(text, position);
      if (c == '\r' && text.substr(position).starts_with('\n')) ++position;
      if (!is_line_break(c) && position < text.size()) continue;
      lines.push_back(text.substr(begin, position - begin));
      begin = position;
    }
    return lines;
  }

  // Each with the white space behind it.
  static std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    std::size_t begin = 0;
    bool after_space = false;
    for (std::size_t position = 0; position < text.size();) {
      const std::size_t at = position;
      const bool space = is_space(next_code_point(text, position));
      if (after_space && !space) words.push_back(text.substr(begin, at - begin)), begin = at;
      after_space = space;
    }
    words.push_back(text.substr(begin));
    return words;
  }

  TextBuilder& output_;
};

Value pretty_print(BoundCall& call) {
  TextBuilder output;
  PrettyPrinter(output).print(in_key_order(call.self), 0, 0, 0);
  return output.take();
}

constexpr Builtin text_filters[] = {
    {"filesizeformat", "binary?", file_size},
    {"pprint", "", pretty_print},
    {"striptags", "", strip_tags},
    {"urlencode", "", url_encode},
    {"urlize", "trim_url_limit? nofollow? target? rel? extra_schemes?", make_links},
    {"wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", word_wrap},
    {"xmlattr", "autospace?", xml_attributes},
};

}  // namespace

const Builtin* find_text_filter(std::string_view name) {
  const Builtin* found = std::find_if(std::begin(text_filters), std::end(text_filters),
                                      [&](const Builtin& row) { return row.name == name; });
  return found == std::end(text_filters) ? nullptr : found;
}

}  // namespace lathe::jinja
