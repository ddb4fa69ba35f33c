// Forms, files and batches: what is read, what outlives a server, what is sent again.
#include <nlohmann/json.hpp>

#include "serve/batch_endpoints.h"
#include "serve/multipart.h"
#include "serve/respond.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;

namespace {

using BatchJson = nlohmann::ordered_json;
using Catch::Matchers::ContainsSubstring;

const std::string kForm =
    "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
    "--b  \r\nX: y\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\n\r\n";

// A server whose only endpoint answers with the prompt, and is busy for those of `busy`.
struct Echo {
  std::vector<std::string> asked;
  std::set<std::string> busy, broken;
  int64_t texts = 0;  // of bodies that a worker had
  BatchHost host() {
    return {[this](const std::shared_ptr<Exchange>& e) {
              const std::string prompt = BatchJson::parse(e->request.body)["prompt"];
              asked.push_back(prompt);
              const int status = busy.erase(prompt) ? 429 : broken.contains(prompt) ? 400 : 200;
              e->respond(status, BatchJson{{"text", prompt}}.dump());
            },
            [this](const std::shared_ptr<Exchange>& e, const std::function<void(const std::string&)>& f) {
              ++texts;
              try {
                f(e->take_body());
              } catch (const std::exception& error) {
                respond_error(*e, api_error(error));
              }
            },
            [](const std::function<void()>& f) { f(); }, [](const std::function<void()>& f) { f(); },
            [] { return true; }};
  }
};

BatchJson asked_for(BatchEndpoints& endpoints, const std::string& method, const std::string& path,
                    const std::string& body = {}, const std::string& type = {}) {
  const auto exchange = std::make_shared<Exchange>();
  exchange->request.method = method;
  exchange->request.path = path;
  exchange->request.body = body;
  exchange->request.headers["content-type"] = type;
  CHECK(endpoints.handle(exchange));
  return BatchJson::parse(exchange->output());
}

std::string batch_line(const std::string& id) {
  return R"({"custom_id": ")" + id + R"(", "method": "POST", "url": "/v1/completions", "body": {"prompt": ")" + id +
         "\"}}\n";
}

}  // namespace

TEST_CASE("a form's parts have names and bytes, and what is no form says why") {
  const std::string body = kForm + "\r\n--bx\r\n\0\r\n--b--";
  CHECK_THROWS_WITH(parse_form("multipart/form-data; boundary=b", body), ContainsSubstring("no line ends"));
  const std::string bytes("one\r\n--a\0\r\n", 11);
  const std::string sound = kForm + bytes + "\r\n--b--\r\nafter";
  for (const char* boundary : {"b", "\"b\"", "\"\\b\"; charset=x"}) {
    const auto parts = parse_form(std::string("multipart/form-data; boundary=") + boundary, sound);
    REQUIRE(parts.size() == 2);
    CHECK(parts[0].name == "purpose");
    CHECK(parts[0].data == "batch");
    CHECK(parts[1].filename == "a \"b\".jsonl");
    CHECK(parts[1].data == bytes);
  }
  for (size_t length = 0; length < sound.size() - 9; ++length)  // any end but that of the closing boundary
    CHECK_THROWS_AS(parse_form("multipart/form-data; boundary=b", std::string_view(sound).substr(0, length)), ApiError);
  for (const char* type : {"", "text/plain", "multipart/form-data", "multipart/form-data; boundary="})
    CHECK_THROWS_AS(parse_form(type, sound), ApiError);
}

TEST_CASE("a file of requests is checked whole, and each of its faults has its line") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "in.jsonl";
  test::write_file(path,
                   batch_line("a") + "\n" + batch_line("a") + "{\n" +
                       R"({"custom_id": "c", "method": "GET", "url": "/v1/completions", "body": {}})" + "\n" +
                       R"({"custom_id": "d", "method": "POST", "url": "/v1/embeddings", "body": {}})" + "\n" +
                       R"({"custom_id": "e", "method": "POST", "url": "/v1/completions", "body": {"stream": true}})");
  const BatchFileCheck found = check_batch_file(path.string(), "/v1/completions");
  CHECK(found.requests == 6);
  std::vector<int> lines;
  for (const BatchJson& e : found.errors) lines.push_back(e["line"]);
  CHECK(lines == std::vector<int>{3, 4, 5, 6, 7});
  CHECK(found.errors[0]["code"] == "duplicate_custom_id");
  test::write_file(path, "\n");
  CHECK(check_batch_file(path.string(), "/v1/completions").errors.size() == 1);
}

TEST_CASE("a batch goes on where a server has left it, and a busy server is asked again") {
  const test::TemporaryDirectory folder;
  const std::string data = folder.path().string();
  Echo echo;
  echo.busy = {"b"};
  echo.broken = {"c"};
  std::string file, batch;
  {
    BatchEndpoints endpoints(data, echo.host());
    CHECK_THROWS_WITH(FileStore(data), ContainsSubstring("another server"));
    const std::string text = batch_line("a") + batch_line("b") + batch_line("c") + batch_line("d");
    file =
        asked_for(endpoints, "POST", "/v1/files", kForm + text + "\r\n--b--", "multipart/form-data; boundary=b")["id"];
    CHECK(asked_for(endpoints, "GET", "/v1/files/" + file)["bytes"] == text.size());
    batch = asked_for(
        endpoints, "POST", "/v1/batches",
        BatchJson{{"input_file_id", file}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}}.dump())["id"];
    CHECK(asked_for(endpoints, "GET", "/v1/batches/" + batch)["status"] == "in_progress");
    CHECK(echo.texts == 2);  // all bodies go where the server counts them
  }                          // before anything was sent
  // What a server would have written that was killed while it wrote of "b".
  test::write_file(folder.path() / "batches" / (batch + ".output"), "{\"custom_id\": \"a\"}\n{\"custom_id\": \"b");
  BatchEndpoints endpoints(data, echo.host());
  BatchJson found;
  for (int i = 0; i < 3; ++i) endpoints.tick();
  found = asked_for(endpoints, "GET", "/v1/batches/" + batch);
  CHECK(found["status"] == "completed");
  CHECK(found["request_counts"].dump() == R"({"total":4,"completed":3,"failed":1})");
  CHECK(echo.asked == std::vector<std::string>{"b", "b", "c", "d"});
  const std::string id = found["error_file_id"];
  const BatchJson failed = BatchJson::parse(test::read_file(folder.path() / "files" / id));
  CHECK(failed["custom_id"] == "c");
  CHECK(failed["response"]["status_code"] == 400);
  CHECK(failed["response"]["body"]["text"] == "c");
  CHECK(test::read_file(folder.path() / "files" / found["output_file_id"].get<std::string>())
            .starts_with("{\"custom_id\": \"a\"}\n{\"id\":\"batch_req-"));
  CHECK(asked_for(endpoints, "DELETE", "/v1/files/" + file)["deleted"] == true);
  const auto missing = std::make_shared<Exchange>();
  missing->request.method = "GET";
  missing->request.path = "/v1/files/../lock";
  CHECK_THROWS_AS(endpoints.handle(missing), ApiError);
}

TEST_CASE("a batch whose server was killed at its end counts what was handed over, and asks nothing again") {
  const test::TemporaryDirectory folder;
  const std::string data = folder.path().string();
  Echo echo;
  std::string batch;
  BatchJson whole;
  {
    BatchEndpoints endpoints(data, echo.host());
    const std::string file =
        asked_for(endpoints, "POST", "/v1/files", kForm + batch_line("a") + batch_line("b") + "\r\n--b--",
                  "multipart/form-data; boundary=b")["id"];
    batch = asked_for(
        endpoints, "POST", "/v1/batches",
        BatchJson{{"input_file_id", file}, {"endpoint", "/v1/completions"}, {"completion_window", "24h"}}.dump())["id"];
    for (int i = 0; i < 3; ++i) endpoints.tick();
    whole = asked_for(endpoints, "GET", "/v1/batches/" + batch);
    CHECK(whole["status"] == "completed");
  }
  BatchJson before = whole;  // as it was saved before the answers moved
  before["status"] = "finalizing";
  before["output_file_id"] = nullptr;
  test::write_file(folder.path() / "batches" / (batch + ".json"), before.dump());
  BatchEndpoints endpoints(data, echo.host());
  endpoints.tick();
  const BatchJson found = asked_for(endpoints, "GET", "/v1/batches/" + batch);
  CHECK(found["status"] == "completed");
  CHECK(found["request_counts"] == whole["request_counts"]);
  CHECK(found["output_file_id"] == whole["output_file_id"]);
  CHECK(echo.asked.size() == 2);
}
