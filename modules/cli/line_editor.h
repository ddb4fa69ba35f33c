// One line, edited in the terminal, with history.
//
// libedit does the editing; its wide interface knows how many columns a character takes; a person's ~/.editrc is read.
// The surprising decision: while a line is edited the terminal sends no signals for keys, and Ctrl-C and Ctrl-Z are
// keys like any other; libedit would swallow the interrupt or leave its terminal settings behind.
#pragma once
#include <histedit.h>

#include <string>

namespace lathe {

class LineEditor {
 public:
  // `history_file`: where the lines of earlier runs are and those of this one go, readable by the user alone; it need
  // not exist, and nothing fails where it cannot be written. Empty: no file.
  explicit LineEditor(std::string history_file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  enum class Outcome { line, interrupted, end };  // Enter, Ctrl-C, Ctrl-D on an empty line
  // `line` is without its newline; of an interrupted one, what had been typed. `continues` chooses the prompt.
  Outcome read(bool continues, std::string& line);

 private:
  static LineEditor& of(EditLine* editor);
  static wchar_t* prompt(EditLine* editor);
  static unsigned char interrupt(EditLine* editor, wint_t);
  static unsigned char suspend(EditLine* editor, wint_t);
  void save_history();

  EditLine* editor_;
  HistoryW* history_;
  const std::string history_file_;
  bool continues_ = false, interrupted_ = false;
  std::string left_;  // what stood in the line that was interrupted
};

}  // namespace lathe
