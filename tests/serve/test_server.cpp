// The server over loopback sockets: what the threads hand each other, and what clients may do to it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "serve/server.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;

namespace {

using Catch::Matchers::ContainsSubstring;

struct RunningServer {
  test::TinyChat folder;
  std::promise<void> let_go;  // of the load
  Server server;
  std::thread thread;

  explicit RunningServer(ServerOptions options = {}, bool loaded = true)
      : server(on_any_port(std::move(options)), {{"tiny",
                                                  [this, may_load = let_go.get_future().share()] {
                                                    may_load.wait();
                                                    return folder.load();
                                                  }},
                                                 {"second", [this] { return folder.load(); }}}) {
    thread = std::thread([this] { server.run(); });
    if (loaded) finish_loading();
  }
  ~RunningServer() {
    if (!thread.joinable()) return;
    server.stop();
    server.stop();
    thread.join();
  }
  static ServerOptions on_any_port(ServerOptions options) {
    options.port = 0;
    return options;
  }
  void finish_loading() {
    let_go.set_value();
    while (ask("GET /health").find(" 200 ") == std::string::npos) std::this_thread::yield();
  }

  int connect() const {
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server.port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Thrown, not asserted: Catch's assertions are for one thread.
    check(::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "test", "no connection");
    return client;
  }
  int send(const std::string& line, const std::string& body = {}, const std::string& headers = {}) const {
    const int client = connect();
    const std::string text =
        fmt::format("{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{}", line,
                    body.size(), headers, body);
    // The server may answer and hang up before all of it is sent.
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t count = ::send(client, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<size_t>(count);
    }
    return client;
  }
  static std::string receive(int client) {
    std::string text;
    char buffer[4096];
    for (ssize_t count; (count = recv(client, buffer, sizeof buffer, 0)) > 0;)
      text.append(buffer, static_cast<size_t>(count));
    close(client);
    return text;
  }
  std::string ask(const std::string& line, const std::string& body = {}, const std::string& headers = {}) const {
    return receive(send(line, body, headers));
  }
  double metric(const std::string& name) const {
    const std::string text = ask("GET /metrics"), line = "\nlathe_" + name + "{model_name=\"tiny\"} ";
    return std::stod(text.substr(text.find(line) + line.size()));
  }
};

nlohmann::ordered_json body_of(const std::string& answer) {
  return parse_ordered_json(answer.substr(answer.find("\r\n\r\n") + 4), "answer");
}

// 4,000 sequences, in whose time much can happen.
std::string long_request(bool stream) {
  const std::vector<std::vector<int>> prompts(40, {1, 2});
  return nlohmann::ordered_json{
      {"prompt", prompts}, {"max_tokens", 60}, {"ignore_eos", true}, {"n", 100}, {"stream", stream}}
      .dump();
}

}  // namespace

TEST_CASE("a server listens while its model loads, and is ready when it has") {
  RunningServer s({}, false);
  CHECK_THAT(s.ask("GET /health"), ContainsSubstring(" 503 "));
  CHECK_THAT(s.ask("GET /health/live"), ContainsSubstring(" 200 "));
  CHECK_THAT(s.ask("POST /v1/completions", R"({"prompt": "ab"})"), ContainsSubstring("still loading"));
  s.finish_loading();
  CHECK_THAT(s.ask("GET /health/ready"), ContainsSubstring(" 200 "));
  CHECK(body_of(s.ask("GET /v1/models"))["data"][0]["max_model_len"] == 64);
}

TEST_CASE("requests from many threads are answered as one alone is") {
  const RunningServer s;
  const std::string body = R"({"prompt": "abc", "max_tokens": 12, "ignore_eos": true, "temperature": 1, "seed": 5})";
  const auto text = [&] {
    return body_of(s.ask("POST /v1/completions", body))["choices"][0]["text"].get<std::string>();
  };
  const std::string alone = text();
  CHECK(alone.size() == 12);
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 16; ++i) answers.push_back(std::async(std::launch::async, text));
  for (auto& answer : answers) CHECK(answer.get() == alone);
}

TEST_CASE("times between tokens are those of a sequence, whatever comes beside it") {
  const RunningServer s;
  s.ask("POST /v1/completions", R"({"prompt": "abc", "max_tokens": 4, "n": 3, "ignore_eos": true})");
  CHECK(s.metric("time_to_first_token_seconds_count") == 1);
  CHECK(s.metric("time_between_tokens_seconds_count") == 3 * 3);
}

TEST_CASE("the field model chooses among the models that are served") {
  const RunningServer s;
  const auto listed = body_of(s.ask("GET /v1/models"))["data"];
  CHECK(listed.size() == 2);
  CHECK(listed[1]["id"] == "second");
  const auto model_of = [&](const std::string& model) {
    return body_of(s.ask("POST /v1/completions", fmt::format(R"({{"prompt": "abc", "max_tokens": 2{}}})", model)));
  };
  CHECK(model_of("")["model"] == "tiny");
  CHECK(model_of(R"(, "model": null)")["model"] == "tiny");
  CHECK(model_of(R"(, "model": "second")")["model"] == "second");
  CHECK(model_of(R"(, "model": "third")")["error"]["message"] == "no model 'third': tiny, second is served");
  CHECK(model_of(R"(, "model": "third")")["error"]["code"] == "model_not_found");
  CHECK(model_of(R"(, "model": 3)")["error"]["param"] == "model");
  CHECK(s.metric("requests_accepted_total") == 2);
  CHECK_THAT(s.ask("GET /metrics"), ContainsSubstring("lathe_requests_accepted_total{model_name=\"second\"} 1"));
  CHECK_THAT(s.ask("GET /v1/models/third"), ContainsSubstring(" 404 "));
}

TEST_CASE("clients that leave take their sequences with them") {
  const RunningServer s;
  for (const bool stream : {true, false}) {
    const int client = s.send("POST /v1/completions", long_request(stream));
    while (s.metric("sequences_running") == 0) std::this_thread::yield();
    close(client);
    while (s.metric("sequences_running") > 0 || s.metric("cache_pages_used") > 0) std::this_thread::yield();
  }
  CHECK(s.metric("requests_cancelled_total") == 2);
}

TEST_CASE("what may not be asked has a status that says so") {
  ServerOptions options;
  options.api_keys = {"one", "two"};
  options.http.body = 1000;
  const RunningServer s(options);
  const std::string key = "x-api-key: two\r\n";
  CHECK_THAT(s.ask("GET /v1/models"), ContainsSubstring(" 401 "));
  CHECK_THAT(s.ask("GET /v1/models", "", "Authorization: Bearer on\r\n"), ContainsSubstring(" 401 "));
  CHECK_THAT(s.ask("GET /v1/models", "", key), ContainsSubstring(" 200 "));
  CHECK_THAT(s.ask("GET /v1/models", "", key + "Origin: http://elsewhere\r\n"), ContainsSubstring(" 403 "));
  CHECK_THAT(s.ask("GET /v1/models", "", key + "Origin: http://localhost\r\n"), ContainsSubstring(" 200 "));
  // A page of another name that was made to resolve to this machine.
  const int rebound = s.connect();
  const std::string foreign =
      "GET /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + key + "Origin: http://h\r\n\r\n";
  REQUIRE(::send(rebound, foreign.data(), foreign.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(foreign.size()));
  CHECK_THAT(RunningServer::receive(rebound), ContainsSubstring(" 403 "));
  CHECK_THAT(s.ask("POST /v1/completions", std::string(1 << 20, ' '), key), ContainsSubstring(" 413 "));
  const int chunked = s.connect();
  const std::string text = "POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + key +
                           "Transfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(0x800, ' ') + "\r\n0\r\n\r\n";
  REQUIRE(::send(chunked, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  CHECK_THAT(RunningServer::receive(chunked), ContainsSubstring(" 413 "));
  CHECK_THAT(s.ask("POST /v1/completions", "{", key), ContainsSubstring("invalid_request_error"));
  CHECK_THAT(s.ask("POST /v1/messages", "{", key), ContainsSubstring(R"({"type":"error")"));
  CHECK_THAT(s.ask("DELETE /v1/models", "", key), ContainsSubstring(" 405 "));
  CHECK_THAT(s.ask("GET /nowhere", "", key), ContainsSubstring(" 404 "));
}

TEST_CASE("the page comes with the program, for who has a key") {
  ServerOptions options;
  options.api_keys = {"secret"};
  const RunningServer s(options);
  CHECK_THAT(s.ask("GET /"), ContainsSubstring(" 401 ") && ContainsSubstring("WWW-Authenticate: Basic"));
  CHECK_THAT(s.ask("GET /", "", "Authorization: Basic YW55Om90aGVy\r\n"), ContainsSubstring(" 401 "));  // any:other
  const std::string key = "Authorization: Basic YW55OnNlY3JldA==\r\n";                                  // any:secret
  const std::string page = s.ask("GET /", "", key);
  CHECK_THAT(page, ContainsSubstring(" 200 ") && ContainsSubstring("text/html") &&
                       ContainsSubstring("<!doctype html>") &&
                       ContainsSubstring("Content-Security-Policy: default-src 'none'"));
  const size_t tag = page.find("ETag: ") + 6;
  const std::string known = "If-None-Match: " + page.substr(tag, page.find('\r', tag) - tag) + "\r\n";
  CHECK_THAT(s.ask("GET /", "", key + known), ContainsSubstring(" 304 "));
  CHECK_THAT(s.ask("GET /page/main.js", "", key), ContainsSubstring("text/javascript"));
  CHECK_THAT(s.ask("GET /page/../server.cpp", "", key), ContainsSubstring(" 404 "));
  CHECK_THAT(s.ask("POST /v1/inspect", R"({"what": "logit_lens", "prompt": "abc"})", key),
             ContainsSubstring(" 200 ") && ContainsSubstring("\"inspection\""));
  CHECK_THAT(s.ask("POST /v1/inspect", R"({"what": "attention", "prompt": "abc"})", key), ContainsSubstring(" 400 "));
  CHECK(body_of(s.ask("GET /v1/engine", "", key))["sequences"].empty());
}

TEST_CASE("a server that is to stop finishes what it has begun, and begins nothing more") {
  RunningServer s;
  const int client =
      s.send("POST /v1/completions", R"({"prompt": [[1], [2], [3]], "max_tokens": 50, "ignore_eos": true, "n": 100})");
  while (s.metric("requests_accepted_total") == 0) std::this_thread::yield();
  s.server.stop();
  std::string refused;
  try {
    refused = s.ask("POST /v1/completions", R"({"prompt": [1]})");
  } catch (const Error&) {  // it has ended already, and nobody listens
  }
  CHECK_THAT(refused, !ContainsSubstring(" 200 "));
  CHECK(body_of(RunningServer::receive(client))["usage"]["completion_tokens"] == 300 * 50);
  s.thread.join();
}

TEST_CASE("a stop that is asked for twice waits for nothing, and a failed load ends the server") {
  RunningServer s;
  const int client = s.send("POST /v1/completions", long_request(true));
  while (s.metric("requests_accepted_total") == 0) std::this_thread::yield();
  s.server.stop();
  s.server.stop();
  s.thread.join();
  RunningServer::receive(client);
  Server broken(RunningServer::on_any_port({}),
                {{"tiny", []() -> std::unique_ptr<ChatModel> { throw Error("no weights"); }}});
  CHECK_THROWS_WITH(broken.run(), "no weights");
}
