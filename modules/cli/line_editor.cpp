#include "cli/line_editor.h"

#include <langinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "text/unicode/utf8.h"

namespace lathe {
namespace {

constexpr int history_lines = 1000;

// Keys that libedit leaves to ~/.editrc: delete, home, end, and Ctrl with the arrows; Ctrl-R searches backwards.
constexpr const wchar_t* key_bindings[][2] = {
    {L"\\e[3~", L"ed-delete-next-char"}, {L"\\e[H", L"ed-move-to-beg"},    {L"\\e[F", L"ed-move-to-end"},
    {L"\\e[1~", L"ed-move-to-beg"},      {L"\\e[4~", L"ed-move-to-end"},   {L"\\eOH", L"ed-move-to-beg"},
    {L"\\eOF", L"ed-move-to-end"},       {L"\\e[1;5D", L"ed-prev-word"},   {L"\\e[1;5C", L"em-next-word"},
    {L"^R", L"em-inc-search-prev"},      {L"^C", L"lathe-interrupt-line"}, {L"^Z", L"lathe-suspend"}};

std::string narrow(const wchar_t* text, std::size_t size) {
  std::string result;
  for (std::size_t i = 0; i < size; ++i) {
    const auto code_point = static_cast<char32_t>(text[i]);
    const bool is_character = code_point < 0xD800 || (code_point >= 0xE000 && code_point <= 0x10FFFF);
    append_character(result, is_character ? code_point : U'\uFFFD');
  }
  return result;
}

// libedit asks the locale what bytes mean; without one ("C") it would see bytes instead of characters.
void use_utf8() {
  if (std::setlocale(LC_CTYPE, "") && std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0) return;
  std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

LineEditor::LineEditor(std::string history_file) : history_file_(std::move(history_file)) {
  use_utf8();
  editor_ = el_init("lathe", stdin, stdout, stderr);
  history_ = history_winit();
  HistEventW event;
  history_w(history_, &event, H_SETSIZE, history_lines);
  history_w(history_, &event, H_SETUNIQUE, 1);
  if (!history_file_.empty()) history_w(history_, &event, H_LOAD, history_file_.c_str());
  el_wset(editor_, EL_CLIENTDATA, this);
  el_wset(editor_, EL_EDITOR, L"emacs");
  el_wset(editor_, EL_PROMPT, &LineEditor::prompt);
  el_wset(editor_, EL_SIGNAL, 1);  // a resized window, a stopped process
  el_wset(editor_, EL_HIST, history_w, history_);
  el_wset(editor_, EL_ADDFN, L"lathe-interrupt-line", L"Leave the line", &LineEditor::interrupt);
  el_wset(editor_, EL_ADDFN, L"lathe-suspend", L"Stop the process", &LineEditor::suspend);
  for (const auto& [key, function] : key_bindings) el_wset(editor_, EL_BIND, key, function, nullptr);
  el_wset(editor_, EL_SETTY, L"-d", L"-isig", nullptr);
  el_source(editor_, nullptr);
}

LineEditor::~LineEditor() {
  history_wend(history_);
  el_end(editor_);
}

// To a temporary name first. Nothing depends on it, so failures are left alone.
void LineEditor::save_history() {
  if (history_file_.empty()) return;
  std::error_code ignored;
  const std::filesystem::path path = history_file_;
  std::filesystem::create_directories(path.parent_path(), ignored);
  const std::string temporary = history_file_ + "." + std::to_string(getpid());
  HistEventW event;
  if (history_w(history_, &event, H_SAVE, temporary.c_str()) < 0) return;  // libedit gives the file mode 0600
  std::filesystem::rename(temporary, path, ignored);
}

LineEditor& LineEditor::of(EditLine* editor) {
  void* data = nullptr;
  el_wget(editor, EL_CLIENTDATA, &data);
  return *static_cast<LineEditor*>(data);
}

wchar_t* LineEditor::prompt(EditLine* editor) {
  static wchar_t first[] = L"> ", further[] = L". ";
  return of(editor).continues_ ? further : first;
}

unsigned char LineEditor::interrupt(EditLine* editor, wint_t) {
  LineEditor& self = of(editor);
  const LineInfoW* line = el_wline(editor);
  self.interrupted_ = true;
  self.left_ = narrow(line->buffer, static_cast<std::size_t>(line->lastchar - line->buffer));
  el_wpush(editor, L"\n");  // Enter knows how to leave a line that takes several rows
  return CC_NORM;
}

unsigned char LineEditor::suspend(EditLine*, wint_t) {
  std::raise(SIGTSTP);  // libedit's handler gives the terminal back, and takes it again later
  return CC_REDISPLAY;
}

LineEditor::Outcome LineEditor::read(bool continues, std::string& line) {
  continues_ = continues, interrupted_ = false;
  int size = 0;
  const wchar_t* text = el_wgets(editor_, &size);
  if (interrupted_) {
    line = std::move(left_);
    return Outcome::interrupted;
  }
  if (!text || size <= 0) {
    std::cout << std::endl;
    return Outcome::end;
  }
  line = narrow(text, static_cast<std::size_t>(size));
  HistEventW event;
  if (line != "\n" && history_w(history_, &event, H_ENTER, text) >= 0) save_history();
  if (line.ends_with('\n')) line.pop_back();
  return Outcome::line;
}

}  // namespace lathe
