// `lathe chat` as a program reads it, one message a line, on a tiny model with random weights; `render-chat --lint`.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_lathe;
using nlohmann::ordered_json;

// The golden Llama with a vocabulary of letters and a template: 61 tokens, a context of 64.
struct ChatLlama : lathe::test::GoldenLlama {
  explicit ChatLlama(
      const char* chat_template =
          "{% for m in messages %}<s>{{ m.role[0] }}:{{ m.content }}{% endfor %}{% if add_generation_prompt %}"
          "<s>a:{% endif %}") {
    ordered_json vocabulary = ordered_json::object();
    int id = 0;
    for (const char* letter = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:<>/"; *letter; ++letter)
      vocabulary[std::string(1, *letter)] = id++;
    vocabulary["\u0120"] = id++;  // the space of byte-level vocabularies
    ordered_json tokenizer = {{"added_tokens",
                               {{{"id", id},
                                 {"content", "<s>"},
                                 {"special", true},
                                 {"single_word", false},
                                 {"lstrip", false},
                                 {"rstrip", false},
                                 {"normalized", false}}}},
                              {"normalizer", nullptr},
                              {"post_processor", nullptr}};
    tokenizer["pre_tokenizer"] = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    tokenizer["decoder"] = {{"type", "ByteLevel"}};
    tokenizer["model"] = {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", ordered_json::array()}};
    write("tokenizer.json", tokenizer.dump());
    ordered_json config = {{"bos_token", "<s>"}};
    if (chat_template) config["chat_template"] = chat_template;
    write("tokenizer_config.json", config.dump());
  }

  CommandResult chat(const std::string& lines, std::vector<std::string> options = {}) const {
    std::vector<std::string> arguments = {"chat", "--model",     folder.path().string(), "--greedy", "--max-new-tokens",
                                          "4",    "--ignore-eos"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run_lathe(arguments, lines, {"XDG_STATE_HOME=" + file("state").string()});
  }
  // What /save wrote after these lines.
  ordered_json saved(const std::string& lines, std::vector<std::string> options = {}) const {
    const CommandResult result = chat(lines + "/save " + file("saved.json").string() + "\n", std::move(options));
    INFO(result.standard_error);
    CHECK(result.exit_code == 0);
    return ordered_json::parse(lathe::test::read_file(file("saved.json")));
  }
};

// "suau": the first letters of the roles.
std::string roles(const ordered_json& messages) {
  std::string letters;
  for (const auto& message : messages) letters += message["role"].get<std::string>()[0];
  return letters;
}

void check_chat_error(const CommandResult& result, const std::string& part) {
  INFO(result.standard_error);
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: ") && ContainsSubstring(part));
}

}  // namespace

TEST_CASE("a chat answers one message a line, and nothing but answers is on standard output") {
  const ChatLlama model;
  const auto messages = model.saved("Hello\nAnd now\n", {"--system", "Be brief."});
  CHECK(roles(messages) == "suaua");
  CHECK(messages[0]["content"] == "Be brief.");
  CHECK(messages[1]["content"] == "Hello");
  const CommandResult result = model.chat("Hello\n\n  \nAnd now", {"--system", "Be brief."});
  CHECK(result.exit_code == 0);
  CHECK(result.standard_output ==
        messages[2]["content"].get<std::string>() + "\n" + messages[4]["content"].get<std::string>() + "\n");
  CHECK_FALSE(fs::exists(model.file("state")));  // no history where there is no terminal
}

TEST_CASE("a chat's answer is that of generate for the same messages") {
  const ChatLlama model;
  const auto messages = model.saved("Hello\nAnd now\n");
  ordered_json request = {{"messages", {messages[0], messages[1], messages[2]}},
                          {"max_new_tokens", 4},
                          {"greedy", true},
                          {"ignore_eos", true}};
  model.write("batch.jsonl", request.dump() + "\n");
  const CommandResult result =
      run_lathe({"generate", "--model", model.folder.path().string(), "--batch", model.file("batch.jsonl").string()});
  CHECK(ordered_json::parse(result.standard_output)["text"] == messages[3]["content"]);
}

TEST_CASE("a backslash at the end of a line goes on in the next") {
  const ChatLlama model;
  CHECK(model.saved("one\\\ntwo\\\n\\\nthree\n")[0]["content"] == "one\ntwo\n\nthree");
  CHECK(model.saved("//save\n")[0]["content"] == "/save");
}

TEST_CASE("undo, retry, clear, load and set") {
  const ChatLlama model;
  CHECK(roles(model.saved("One\nTwo\n/undo\n")) == "ua");
  CHECK(roles(model.saved("One\n/clear\n", {"--system", "S"})) == "s");
  const auto once = model.saved("One\n"), again = model.saved("One\n/retry\n");
  CHECK(once == again);  // greedy
  CHECK(model.saved("/set max-new-tokens 1\nOne\n")[1]["content"].get<std::string>().size() <=
        once[1]["content"].get<std::string>().size());
  model.write("loaded.json", R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])");
  const std::string load = "/load " + model.file("loaded.json").string() + "\n";
  CHECK(model.saved(load)[1]["content"] == "A");
  CHECK(model.saved(load + "/retry\n")[1]["content"] != "A");
  CHECK(model.chat("/help\n/exit\nnever read\n").standard_output.empty());
}

TEST_CASE("wrong commands and files are errors that name them") {
  const ChatLlama model;
  check_chat_error(model.chat("/fly\n"), "/fly");
  check_chat_error(model.chat("/undo\n"), "no question");
  check_chat_error(model.chat("/retry\n"), "no question");
  check_chat_error(model.chat("/set\n"), "/set");
  check_chat_error(model.chat("/set wings 2\n"), "wings");
  check_chat_error(model.chat("/set temperature warm\n"), "warm");
  check_chat_error(model.chat("/set temperature -1\nHello\n"), "temperature");
  check_chat_error(model.chat("/load no-such-file.json\n"), "no-such-file.json");
  check_chat_error(model.chat("/save /no-such-folder/m.json\n"), "no-such-folder");
  for (const char* wrong : {"{", "{}", "[1]", R"([{"content": "x"}])", R"([{"role": "user"}])"}) {
    model.write("wrong.json", wrong);
    check_chat_error(model.chat("/load " + model.file("wrong.json").string() + "\n"), "wrong.json");
  }
}

TEST_CASE("a conversation that outgrows the context says so, with the counts") {
  const ChatLlama model;
  const CommandResult result = model.chat(std::string(80, 'x') + "\n");
  check_chat_error(result, "86 tokens, the context holds 64");
  CHECK_THAT(result.standard_error, ContainsSubstring("/clear"));
}

TEST_CASE("a model without a chat template does not chat") {
  check_chat_error(ChatLlama(nullptr).chat("Hello\n"), "no chat template");
  check_chat_error(ChatLlama("{{ raise_exception('never') }}").chat("Hello\n"), "never");
  check_chat_error(ChatLlama("{% if %}").chat("Hello\n"), "line 1");
}

TEST_CASE("a special token that a user writes does not reach the model as one") {
  const ChatLlama model;
  const CommandResult plain = run_lathe({"generate", "--model", model.folder.path().string(), "--chat", "--greedy",
                                         "--prompt", "a<s>b", "--max-new-tokens", "1", "--json"});
  INFO(plain.standard_error);
  CHECK(ordered_json::parse(plain.standard_output)["prompt_tokens"] == 11);  // <s> u : a < s > b <s> a :
}

TEST_CASE("lint warns of what is probably wrong, and says so when nothing is") {
  const auto lint = [](const ChatLlama& model, const std::string& messages) {
    model.write("m.json", messages);
    return run_lathe({"render-chat", "--model", model.folder.path().string(), "--messages",
                      model.file("m.json").string(), "--lint"});
  };
  const std::string usual = R"([{"role": "system", "content": "S."}, {"role": "user", "content": " Hi "}])";
  const CommandResult fine = lint(ChatLlama(), usual);
  CHECK(fine.standard_error == "lathe: lint: ok\n");
  CHECK(fine.standard_output == "<s>s:S.<s>u: Hi <s>a:");
  CHECK(fine.exit_code == 0);
  const auto warns = [&](const char* chat_template, const std::string& messages, const std::string& part) {
    const CommandResult result = lint(ChatLlama(chat_template), messages);
    CHECK(result.exit_code == 0);
    CHECK_THAT(result.standard_error, ContainsSubstring("lathe: lint: ") && ContainsSubstring(part));
  };
  warns("{{ bos_token }}<s>{{ messages[0].content }}", usual, "begins with two <s>");
  warns("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", usual, "system message 0");
  warns("{{ messages[0].content }}", usual, "user message 1");
  warns("{{ messages }}", usual, "add_generation_prompt changes nothing");
  warns("{{ messages }}{{ persona }}", usual, "'persona'");
  warns("{{ messages }}", R"([{"role": "user", "content": "a<s>b"}])", "messages[0].content holds");
  warns("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages }}",
        R"([{"role": "user", "content": "x"}])", "a system message and a user's: the template refuses");
  warns("{{ messages }}{{ tools[0].name.x.y if tools }}", usual, "with tools");
  check_chat_error(lint(ChatLlama("{{ raise_exception('boom') }}"), usual), "boom");
}
