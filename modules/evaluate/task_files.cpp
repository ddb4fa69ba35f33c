// The files of HellaSwag and MMLU (see evaluate/multiple_choice.h).
#include <algorithm>
#include <filesystem>

#include "evaluate/csv.h"
#include "evaluate/multiple_choice.h"
#include "formats/mapped_file.h"

namespace lathe {
namespace {

constexpr size_t kChoices = 4;
constexpr int64_t kDefaultShots = 5;

std::string read_whole(const std::string& path) {
  const auto file = MappedFile::open(path);
  return {file->bytes().begin(), file->bytes().end()};
}

[[noreturn]] void fail(const std::string& source, int64_t line, const std::string& fact) {
  throw Error(fmt::format("{}: line {}: {}", source, line, fact));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string& line = lines.emplace_back(text.substr(begin, end - begin));
    if (line.ends_with('\r')) line.pop_back();
    begin = end + 1;
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

// Code points of UTF-8: all bytes but those that continue one.
int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; });
}

std::string trimmed(const std::string& text) {
  constexpr const char* kSpaces = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kSpaces);
  return begin == std::string::npos ? std::string() : text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

struct MmluQuestion {
  int64_t line;
  std::string text;  // the question, its choices and "Answer:"
  int64_t answer;
};

MmluQuestion read_question(const CsvRow& row, const std::string& source) {
  if (row.fields.size() != kChoices + 2)
    fail(source, row.line, fmt::format("expected 6 fields (question, 4 choices, answer), found {}", row.fields.size()));
  const std::string& answer = row.fields.back();
  const size_t index = answer.size() == 1 ? std::string_view("0123ABCD").find(answer) : std::string_view::npos;
  if (index == std::string_view::npos)
    fail(source, row.line, fmt::format("expected 0 to 3 or A to D as the answer, found \"{}\"", answer));
  std::string text = trimmed(row.fields[0]);
  for (size_t c = 0; c < kChoices; ++c) text += fmt::format("\n{}. {}", "ABCD"[c], row.fields[c + 1]);
  return {row.line, text + "\nAnswer:", static_cast<int64_t>(index % kChoices)};
}

std::vector<MmluQuestion> read_questions(const std::string& path) {
  std::vector<MmluQuestion> questions;
  for (const CsvRow& row : parse_csv(read_whole(path), path))
    if (row.fields.back() != "answer") questions.push_back(read_question(row, path));
  if (questions.empty()) throw Error(fmt::format("{}: no questions", path));
  return questions;
}

// The first `shots` questions of the file of examples; unset: up to 5, none where there is no such file.
std::vector<MmluQuestion> read_examples(const std::string& path, std::optional<int64_t> shots) {
  if (shots.value_or(std::filesystem::exists(path) ? kDefaultShots : 0) == 0) return {};
  std::vector<MmluQuestion> examples = read_questions(path);
  check(std::ssize(examples) >= shots.value_or(1), "--shots", "{} has {} examples, {} are wanted", path,
        examples.size(), shots.value_or(1));
  examples.resize(std::min(examples.size(), static_cast<size_t>(shots.value_or(kDefaultShots))));
  return examples;
}

}  // namespace

MultipleChoiceFile read_hellaswag(const std::string& path) {
  constexpr size_t kLines = kChoices + 2;
  const std::vector<std::string> lines = lines_of(read_whole(path));
  MultipleChoiceFile file{path, 0, {}};
  for (size_t at = 0; at < lines.size(); at += kLines) {
    MultipleChoiceTask& task = file.tasks.emplace_back();
    task.line = static_cast<int64_t>(at) + 1;
    if (lines.size() - at < kLines)
      fail(path, task.line, fmt::format("a task has {} lines, found {} to the end", kLines, lines.size() - at));
    for (size_t i = at; i < at + kLines; ++i)
      if (trimmed(lines[i]).empty()) fail(path, static_cast<int64_t>(i) + 1, "expected text, found an empty line");
    const std::string& label = lines[at + 1];
    if (label.size() != 1 || label[0] < '0' || label[0] > '3')
      fail(path, task.line + 1, fmt::format("expected the index of the right ending, 0 to 3, found \"{}\"", label));
    task.context = lines[at];
    task.label = label[0] - '0';
    for (size_t i = at + 2; i < at + kLines; ++i) {
      task.choices.push_back(" " + lines[i]);
      task.lengths.push_back(characters(lines[i]));
    }
  }
  return file;
}

MultipleChoiceFile read_mmlu(const std::string& path, std::optional<int64_t> shots) {
  const std::filesystem::path place(path);
  std::string subject = place.stem().string();
  for (const std::string_view part : {"_test", "_val", "_dev"})
    if (subject.ends_with(part)) subject.resize(subject.size() - part.size());
  const std::string dev = (place.parent_path() / (subject + "_dev.csv")).string();
  const std::vector<MmluQuestion> examples = read_examples(dev, shots);
  MultipleChoiceFile file{path, std::ssize(examples), {}};

  std::string spoken = subject;
  std::replace(spoken.begin(), spoken.end(), '_', ' ');
  std::string head = fmt::format("The following are multiple choice questions (with answers) about {}.\n\n", spoken);
  for (const MmluQuestion& q : examples) head += fmt::format("{} {}\n\n", q.text, "ABCD"[q.answer]);
  for (const MmluQuestion& q : read_questions(path))
    file.tasks.push_back({q.line, head + q.text, {" A", " B", " C", " D"}, {1, 1, 1, 1}, q.answer});
  return file;
}

}  // namespace lathe
