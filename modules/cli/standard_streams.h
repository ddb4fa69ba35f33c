// Standard input, output and error that are closed, full, or whose reader has gone.
//
// Output that cannot be written is a failure of the program; a message on standard error that cannot be written is
// none. A reader of a pipe that has seen enough (`| head -1`) ends the program without a word, as it ends other tools.
#pragma once
#include <cstdio>
#include <string_view>

namespace lathe {

// At the start of the program, before any file is opened.
void guard_standard_streams();
// Writes to standard output at once, past no buffer. Throws Error where it cannot.
void write_output(std::string_view text);
// From here on, what is written to standard output or standard error is dropped, but for what goes to error_stream().
void drop_all_but_errors();
std::FILE* error_stream();
// Whether standard output has failed because the reader of its pipe has gone.
bool reader_has_gone();
// At the end: flushes standard output. The exit code: `code`, or 1 with an error line where output was lost.
int finish_output(int code);

}  // namespace lathe
