// Standard streams that are full, closed, or read no further: output that is lost is a failure, a message that is lost
// is none.
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_shell;

// The golden Llama, and a vocabulary of five characters for the commands that need text.
struct Files : lathe::test::GoldenLlama {
  Files() {
    write_characters("abcd ");
    write("m.json", R"([{"role": "user", "content": "a"}])");
    write("t.jinja", "{{ messages[0].content }}");
    write("lines.jsonl", "{\"tokens\": [1]}\n{\"tokens\": [2]}\n");
    write("texts.jsonl", "\"ab\"\n\"c\"\n");
    std::string text;
    for (int i = 0; i < 60; ++i) text += "a b c d";
    write("text", text);
  }
  CommandResult run(const std::string& arguments, const std::string& streams) const {
    return run_shell("cd '" + folder.path().string() + "' && \"$LATHE\" " + arguments + " " + streams);
  }
};

size_t error_lines(const std::string& text) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find("lathe: error: ", at)) != text.npos; ++at) ++count;
  return count;
}

}  // namespace

TEST_CASE("output that cannot be written is a failure of every command") {
  const Files files;
  for (const char* command :
       {"--help", "help generate", "models", "models --json", "inspect --model . --json", "plan --model . --json",
        "tokenize --model . --text ab", "tokenize --model . --text ab --explain",
        "tokenize --model . --batch texts.jsonl", "detokenize --model . --tokens 0,1 --json",
        "render-chat --template t.jinja --messages m.json",
        "generate --model . --tokens 1 --max-new-tokens 2 --greedy --no-stream",
        "generate --model . --prompt a --max-new-tokens 2 --greedy --ignore-eos",
        "generate --model . --batch lines.jsonl --max-new-tokens 2 --greedy",
        "perplexity --model . --text-file text --json",
        "bench --model . --prompt-tokens 4 --new-tokens 2 --repetitions 1 --json"}) {
    for (const char* stream : {">/dev/full", ">&-"}) {
      INFO(command << " " << stream);
      const CommandResult result = files.run(command, stream);
      INFO(result.standard_error);
      CHECK(result.exit_code == 1);
      CHECK(error_lines(result.standard_error) == 1);
      CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: standard output: "));
    }
  }
}

TEST_CASE("a message that cannot be written changes nothing") {
  const Files files;
  for (const char* stream : {"2>/dev/full", "2>&-", "2>&1 >out | true"}) {
    INFO(stream);
    CHECK(files.run("tokenize --model . --text ab", stream).exit_code == 0);
    CHECK(files.run("trace --model . --tokens 1,2 --output o.safetensors", stream).exit_code == 0);
    CHECK(fs::exists(files.folder.path() / "o.safetensors"));
    fs::remove(files.folder.path() / "o.safetensors");
  }
  for (const char* stream : {"2>/dev/full", "2>&-"}) {
    CHECK(files.run("tokenize --model nowhere --text ab", stream).exit_code == 1);
    CHECK(files.run("tokenize --model", stream).exit_code == 2);
  }
}

TEST_CASE("a closed descriptor is no file's that is opened later") {
  const Files files;
  const std::string before = lathe::test::read_file(files.folder.path() / "model.safetensors");
  CHECK(files.run("logits --model . --tokens 1,2 --output l.npy", "<&- >&- 2>&-").exit_code == 0);
  CHECK(lathe::test::read_file(files.folder.path() / "l.npy").substr(1, 5) == "NUMPY");
  CHECK(lathe::test::read_file(files.folder.path() / "model.safetensors") == before);
}

TEST_CASE("a reader that has seen enough ends the program without a word") {
  const Files files;
  // The program starts when the reader has closed the pipe.
  const std::string begin = "cd '" + files.folder.path().string() + "' && rm -f gone && ";
  const std::string wait = "{ while [ ! -e gone ]; do sleep 0.01; done; ";
  const std::string end = " echo $? >code; } | { exec <&-; touch gone; }; cat code err";
  const CommandResult result =
      run_shell(begin + wait + "\"$LATHE\" bench --model . --prompt-tokens 4 --new-tokens 2 --json 2>err;" + end);
  INFO(result.standard_output);
  CHECK(result.standard_output.substr(0, 4) == "141\n");  // 128 + SIGPIPE
  CHECK(error_lines(result.standard_output) == 0);
  // Where that signal is ignored, it is an error like any other.
  const CommandResult ignored = run_shell(begin + "trap '' PIPE; " + wait + "\"$LATHE\" models 2>err;" + end);
  INFO(ignored.standard_output);
  CHECK(ignored.standard_output.substr(0, 2) == "1\n");
  CHECK(error_lines(ignored.standard_output) == 1);
}

TEST_CASE("input that cannot be read is named") {
  const Files files;
  for (const char* stream : {"<.", "<&-"}) {
    INFO(stream);
    for (const char* command :
         {"tokenize --model .", "generate --model .", "logits --model . --tokens - --output o.npy"}) {
      const CommandResult result = files.run(command, stream);
      INFO(command << ": " << result.standard_error);
      CHECK(result.exit_code == 1);
      CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: standard input: cannot be read: "));
    }
  }
  for (const char* command :
       {"tokenize --model . --text-file .", "tokenize --model . --batch .", "perplexity --model . --text-file .",
        "generate --model . --batch .", "render-chat --template t.jinja --messages .",
        "render-chat --template . --messages m.json"}) {
    const CommandResult result = files.run(command, "");
    INFO(command << ": " << result.standard_error);
    CHECK(result.exit_code == 1);
    CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: .: cannot be read: "));
  }
}
