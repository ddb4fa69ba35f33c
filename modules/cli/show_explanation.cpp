#include "cli/show_explanation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include "text/unicode/utf8.h"

namespace lathe {
namespace {

using Kind = ModelStep::Kind;
constexpr size_t kSymbolsShown = 32;
constexpr const char* kBegins = "begins as";

// `text` in which every byte shows something.
std::string visible(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    if (c == ' ')
      shown += "\u00B7";
    else if (c == '\n')
      shown += "\\n";
    else if (c == '\t')
      shown += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      shown += fmt::format("\\x{:02x}", c);
    else
      shown += c;
  }
  return shown;
}

// Spaces that make `text` as wide as `width`, a column a character.
std::string padding(std::string_view text, size_t width) {
  const size_t characters = count_characters(text);
  return std::string(characters < width ? width - characters : 0, ' ');
}

class TextWriter {
 public:
  TextWriter(const Tokenizer& tokenizer, const Explanation& explanation)
      : tokenizer_(tokenizer), explanation_(explanation) {}

  std::string write() {
    tokens("before the text", explanation_.before);
    for (const auto& stretch : explanation_.stretches) {
      if (stretch.token >= 0) {
        line("added token  {}", visible(stretch.text));
        tokens("", {stretch.token});
        continue;
      }
      line("text         {}", visible(stretch.text));
      line("normalised   {}", stretch.normalized == stretch.text ? "(the same)" : visible(stretch.normalized));
      std::string cut;
      for (const auto& part : stretch.pieces) cut += (cut.empty() ? "" : " | ") + visible(part.text);
      line("pieces       {}", cut);
      for (const auto& part : stretch.pieces) piece(part);
    }
    tokens("after the text", explanation_.after);
    return std::move(out_);
  }

 private:
  template <class... Arguments>
  void line(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Arguments>(arguments)...);
    out_ += '\n';
  }

  using Symbols = std::map<size_t, size_t>;  // where those that are left begin, and end

  void tokens(const char* title, const std::vector<int32_t>& ids) {
    if (title[0] && !ids.empty()) line("{}", title);
    for (const int32_t id : ids) {
      const std::string text = visible(tokenizer_.token_text(id));
      line("  id {:>8}  {}{}  {}", id, text, padding(text, 16), show_bytes(tokenizer_.token_bytes(id)));
    }
  }

  void piece(const Explanation::Piece& piece) {
    line("\n{}  {}", piece.added ? "added token" : "piece", visible(piece.text));
    size_t width = std::string_view(kBegins).size();
    for (const ModelStep& step : piece.steps) width = std::max(width, weight_of(step).size());
    Symbols now;
    double sum = 0;
    bool begun = false;
    for (const ModelStep& step : piece.steps) {
      if (step.kind == Kind::symbol) {
        now[step.begin] = step.end;
        continue;
      }
      if (!begun && !now.empty()) line("  {:>{}}  {}", kBegins, width, symbols(piece.text, now));
      begun = true;
      const std::string what = step.kind == Kind::merge ? merged(piece.text, step, now) : taken(piece.text, step, sum);
      line("  {:>{}}  {}", weight_of(step), width, what);
    }
    if (!begun && !now.empty()) line("  {:>{}}  {}", kBegins, width, symbols(piece.text, now));
    tokens("", piece.ids);
  }

  // "rank 41"; ranks are whole numbers.
  std::string weight_of(const ModelStep& step) const {
    if (std::isnan(step.weight)) return "";
    const std::string& measure = explanation_.measure;
    return measure + (measure == "rank" ? fmt::format(" {:.0f}", step.weight) : fmt::format(" {:.6g}", step.weight));
  }

  std::string taken(std::string_view text, const ModelStep& step, double& sum) const {
    // Of the byte tokens of a character only one has a stretch of the text.
    std::string shown = "takes " + visible(step.begin < step.end ? text.substr(step.begin, step.end - step.begin)
                                                                 : std::string_view(tokenizer_.token_text(step.id)));
    if (std::isnan(step.weight) || explanation_.measure != "log probability") return shown;
    sum += step.weight;
    return shown + padding(shown, 22) + fmt::format("  sum {:.6g}", sum);
  }

  static std::string merged(std::string_view text, const ModelStep& step, Symbols& now) {
    now[step.begin] = step.end;
    now.erase(step.middle);
    const auto part = [&](size_t begin, size_t end) { return visible(text.substr(begin, end - begin)); };
    const std::string pair = part(step.begin, step.middle) + " + " + part(step.middle, step.end);
    const std::string rest = now.size() < kSymbolsShown ? symbols(text, now) : "\u2192 " + part(step.begin, step.end);
    return pair + padding(pair, 16) + "  " + rest;
  }

  static std::string symbols(std::string_view text, const Symbols& now) {
    std::string shown;
    for (const auto& [begin, end] : now) shown += (shown.empty() ? "" : " ") + visible(text.substr(begin, end - begin));
    return shown;
  }

  const Tokenizer& tokenizer_;
  const Explanation& explanation_;
  std::string out_;
};

}  // namespace

std::string explanation_text(const Tokenizer& tokenizer, const Explanation& explanation) {
  return TextWriter(tokenizer, explanation).write();
}

}  // namespace lathe
