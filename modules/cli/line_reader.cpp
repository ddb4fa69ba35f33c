#include "cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "tensor/errors.h"

namespace lathe {
namespace {

using Outcome = LineEditor::Outcome;

bool input_is_waiting() {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, 20) > 0 && (input.revents & POLLIN) != 0;  // milliseconds: a paste, and no typist, is so fast
}

}  // namespace

LineReader::LineReader(const std::string& history_file) {
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) editor_ = std::make_unique<LineEditor>(history_file);
}

Outcome LineReader::read_line(bool continues, std::string& line) {
  if (editor_) return editor_->read(continues, line);
  if (std::getline(std::cin, line)) return Outcome::line;
  if (std::ferror(stdin)) throw Error("standard input: cannot be read");
  return Outcome::end;
}

Outcome LineReader::read(std::string& message) {
  message.clear();
  for (bool continues = false;; continues = true) {
    std::string line;
    const Outcome outcome = read_line(continues, line);
    message += line;
    if (outcome == Outcome::end && continues) return Outcome::line;
    if (outcome != Outcome::line) return outcome;
    const bool goes_on = message.ends_with('\\');
    if (goes_on) message.pop_back();
    const bool is_command = message.starts_with('/');
    if (!goes_on && (is_command || !editor_ || !input_is_waiting())) return Outcome::line;
    message += '\n';
  }
}

std::string default_history_file() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state) return std::string(state) + "/lathe/history";
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.local/state/lathe/history";
  return {};
}

}  // namespace lathe
