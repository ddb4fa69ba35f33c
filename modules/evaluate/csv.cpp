#include "evaluate/csv.h"

#include "tensor/errors.h"

namespace lathe {
namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, const std::string& source) : text_(text), source_(source) {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
  }

  std::vector<CsvRow> rows() {
    std::vector<CsvRow> rows;
    while (at_ < text_.size()) {
      if (line_end()) continue;
      CsvRow& row = rows.emplace_back(CsvRow{line_, {}});
      do row.fields.push_back(peek() == '"' ? quoted() : plain());
      while (comma());
      if (at_ < text_.size() && !line_end()) fail(line_, "text after a closing quote");
    }
    return rows;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool comma() {
    const bool found = peek() == ',';
    at_ += found ? 1 : 0;
    return found;
  }

  bool line_end() {
    const std::string_view rest = text_.substr(at_);
    const size_t length = rest.starts_with("\r\n") ? 2 : rest.starts_with('\n') ? 1 : 0;
    at_ += length;
    line_ += length > 0 ? 1 : 0;
    return length > 0;
  }

  std::string plain() {
    const size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n'; ++at_) {
      if (text_[at_] == '"') fail(line_, "a quote inside a field that does not begin with one");
      if (text_[at_] != '\r') continue;
      if (text_.substr(at_, 2) != "\r\n") fail(line_, "a carriage return without a line feed");
      break;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    std::string field;
    const int64_t opened = line_;
    for (++at_; at_ < text_.size(); ++at_) {
      line_ += text_[at_] == '\n' ? 1 : 0;
      if (text_[at_] == '"') {
        if (text_.substr(at_, 2) != "\"\"") {
          ++at_;
          return field;
        }
        ++at_;
      }
      field += text_[at_];
    }
    fail(opened, "a quote is never closed");
  }

  [[noreturn]] void fail(int64_t line, const char* fact) const {
    throw Error(fmt::format("{}: line {}: {}", source_, line, fact),
                "a field with commas, quotes or line ends stands in quotes, and a quote in it is written twice");
  }

  std::string_view text_;
  const std::string& source_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& source) {
  return CsvParser(text, source).rows();
}

}  // namespace lathe
