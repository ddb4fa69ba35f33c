// Messages that a user types: edited where there is a terminal, one a line where there is none.
#pragma once
#include <memory>
#include <string>

#include "cli/line_editor.h"

namespace lathe {

class LineReader {
 public:
  // The history is kept only where there is a terminal.
  explicit LineReader(const std::string& history_file);

  // Standard input and output are a terminal: lines are edited.
  bool is_terminal() const { return editor_ != nullptr; }

  // A message: a line; lines that end in a backslash go on in the next, and so does a paste of several lines, which
  // arrives at once (not behind a line that begins with a slash). The newlines between them are kept. What was typed of
  // an interrupted message is its text.
  LineEditor::Outcome read(std::string& message);

 private:
  LineEditor::Outcome read_line(bool continues, std::string& line);
  std::unique_ptr<LineEditor> editor_;
};

// $XDG_STATE_HOME/lathe/history, else ~/.local/state/lathe/history; empty where neither variable is set.
std::string default_history_file();

}  // namespace lathe
