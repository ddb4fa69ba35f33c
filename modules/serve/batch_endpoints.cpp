#include "serve/batch_endpoints.h"

#include <algorithm>
#include <charconv>

#include "formats/strict_json.h"
#include "serve/answer.h"
#include "serve/multipart.h"
#include "serve/request_fields.h"
#include "serve/respond.h"

namespace lathe {
namespace {

using EndpointJson = nlohmann::ordered_json;
using Pointer = std::shared_ptr<Exchange>;
constexpr int64_t kDaySeconds = 24 * 60 * 60;
constexpr const char* kBatchEndpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                           "/v1/responses"};

// A page of a list, the newest first: `limit` of them behind the one that is called `after`.
EndpointJson page_of(std::vector<EndpointJson> all, const HttpRequest& request) {
  const auto given = [&](const char* name) {
    const auto found = request.query.find(name);
    return found == request.query.end() ? std::string() : found->second;
  };
  size_t limit = 20;
  if (const std::string text = given("limit"); !text.empty()) {
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), limit);
    if (problem != std::errc() || end != text.data() + text.size() || limit < 1 || limit > 10000)
      throw ApiError(400, fmt::format("limit must be from 1 to 10000, found {}", quote(text)), "limit");
  }
  if (const std::string purpose = given("purpose"); !purpose.empty())
    std::erase_if(all, [&](const EndpointJson& o) { return o.value("purpose", purpose) != purpose; });
  if (const std::string after = given("after"); !after.empty()) {
    const auto last = std::find_if(all.begin(), all.end(), [&](const EndpointJson& o) { return o["id"] == after; });
    if (last == all.end()) throw ApiError(400, fmt::format("after names nothing: {}", quote(after)), "after");
    all.erase(all.begin(), last + 1);
  }
  const bool more = all.size() > limit;
  all.resize(std::min(all.size(), limit));
  const EndpointJson none;
  return {{"object", "list"},
          {"data", all},
          {"first_id", all.empty() ? none : all.front()["id"]},
          {"last_id", all.empty() ? none : all.back()["id"]},
          {"has_more", more}};
}

[[noreturn]] void refuse_method(const HttpRequest& request) {
  throw ApiError(405, fmt::format("{} does not take {}", request.path, request.method));
}

}  // namespace

BatchEndpoints::BatchEndpoints(const std::string& folder, BatchHost host) : host_(std::move(host)) {
  if (folder.empty()) return;
  store_ = std::make_unique<FileStore>(folder);
  runner_ = std::make_unique<BatchRunner>(folder, *store_, host_);
}

BatchEndpoints::~BatchEndpoints() = default;

void BatchEndpoints::tick() {
  if (runner_) runner_->tick();
}

bool BatchEndpoints::handle(const Pointer& exchange) {
  const std::string& path = exchange->request.path;
  for (const auto& [root, endpoint] :
       {std::pair(std::string("/v1/files"), &BatchEndpoints::files), {"/v1/batches", &BatchEndpoints::batches}}) {
    if (path != root && !path.starts_with(root + "/")) continue;
    if (!store_) throw ApiError(400, path + ": files and batches need a folder (lathe serve --data-dir DIR)");
    const std::string rest = path == root ? "" : path.substr(root.size() + 1);
    const size_t slash = std::min(rest.find('/'), rest.size());
    (this->*endpoint)(exchange, rest.substr(0, slash), rest.substr(std::min(slash + 1, rest.size())));
    return true;
  }
  return false;
}

void BatchEndpoints::files(const Pointer& exchange, const std::string& id, const std::string& part) {
  const std::string& method = exchange->request.method;
  const bool get = method == "GET" || method == "HEAD";
  if (id.empty() && method == "POST")
    return on_worker(exchange, [this, type = exchange->request.header("content-type")](const std::string& body) {
      return upload(type, body);
    });
  if (id.empty() && get) {
    std::vector<EndpointJson> all;
    for (const StoredFile& file : store_->list()) all.push_back(file.json());
    return respond_json(*exchange, page_of(std::move(all), exchange->request));
  }
  const StoredFile file = store_->find(id);
  if (part == "content" && get) return exchange->respond_file(store_->path(id), "application/octet-stream");
  if (!part.empty()) throw ApiError(404, fmt::format("no endpoint {}", quote(exchange->request.path)));
  if (get) return respond_json(*exchange, file.json());
  if (method != "DELETE") refuse_method(exchange->request);
  if (runner_->reads(id))
    throw ApiError(409, fmt::format("a batch that is under way reads the file {}", id), "file_id");
  store_->remove(id);
  respond_json(*exchange, {{"id", id}, {"object", "file"}, {"deleted", true}});
}

EndpointJson BatchEndpoints::upload(const std::string& content_type, const std::string& body) {
  const FormPart* file = nullptr;
  std::string purpose;
  const std::vector<FormPart> parts = parse_form(content_type, body);
  for (const FormPart& part : parts) {
    if (part.name == "file")
      file = &part;
    else if (part.name == "purpose")
      purpose = part.data;
    else
      throw ApiError(400, fmt::format("unknown field {}", quote(part.name)), part.name, "unknown_parameter");
  }
  if (!file) throw ApiError(400, "file is missing", "file");
  if (purpose != "batch")
    throw ApiError(400, fmt::format("purpose must be \"batch\", found {}", quote(purpose)), "purpose");
  return store_->add(file->filename, purpose, file->data).json();
}

void BatchEndpoints::batches(const Pointer& exchange, const std::string& id, const std::string& part) {
  const std::string& method = exchange->request.method;
  const bool get = method == "GET" || method == "HEAD";
  if (id.empty() && method == "POST")
    return on_worker(
        exchange, [this](const std::string& body) { return new_batch(body); },
        [this](EndpointJson batch) { return runner_->create(std::move(batch)); });
  if (id.empty() && get) return respond_json(*exchange, page_of(runner_->list(), exchange->request));
  const EndpointJson batch = runner_->find(id);
  if (part == "cancel" && method == "POST") return respond_json(*exchange, runner_->cancel(id));
  if (!part.empty() && part != "cancel")
    throw ApiError(404, fmt::format("no endpoint {}", quote(exchange->request.path)));
  if (!get || !part.empty()) refuse_method(exchange->request);
  respond_json(*exchange, batch);
}

EndpointJson BatchEndpoints::new_batch(const std::string& text) const {
  const EndpointJson body = parse_ordered_json(text, "body");
  const OrderedJsonNode node(body, "body");
  RequestFields fields(node);
  std::string input, endpoint, window;
  EndpointJson metadata;
  fields.read("input_file_id", [&](const OrderedJsonNode& n) {
    const StoredFile file = store_->find(input = n.string());
    if (file.purpose != "batch") n.fail(fmt::format("the file is of purpose {}, not \"batch\"", quote(file.purpose)));
  });
  fields.read("endpoint", [&](const OrderedJsonNode& n) {
    endpoint = n.string();
    if (std::find(std::begin(kBatchEndpoints), std::end(kBatchEndpoints), endpoint) == std::end(kBatchEndpoints))
      n.expected("an endpoint of batches: /v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses");
  });
  fields.read("completion_window", [&](const OrderedJsonNode& n) {
    if ((window = n.string()) != "24h") n.expected("\"24h\"");
  });
  fields.read("metadata", [&](const OrderedJsonNode& n) {
    if (!n.value().is_object()) n.expected("an object");
    metadata = n.value();
  });
  fields.finish();
  const std::pair<const char*, const std::string&> needed[] = {
      {"input_file_id", input}, {"endpoint", endpoint}, {"completion_window", window}};
  for (const auto& [name, value] : needed)
    if (value.empty()) throw ApiError(400, fmt::format("{} is missing", name), name);
  const int64_t now = unix_seconds();
  EndpointJson batch = {{"id", new_id("batch")},          {"object", "batch"},
                        {"endpoint", endpoint},           {"errors", nullptr},
                        {"input_file_id", input},         {"completion_window", window},
                        {"status", "validating"},         {"output_file_id", nullptr},
                        {"error_file_id", nullptr},       {"created_at", now},
                        {"expires_at", now + kDaySeconds}};
  for (const char* time :
       {"in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at"})
    batch[time] = nullptr;
  batch["request_counts"] = {{"total", int64_t{0}}, {"completed", int64_t{0}}, {"failed", int64_t{0}}};
  batch["metadata"] = metadata;
  return batch;
}

// Responds with make(body), of a worker, and what `then` makes of it on the server's thread.
void BatchEndpoints::on_worker(const Pointer& exchange, std::function<EndpointJson(const std::string&)> make,
                               std::function<EndpointJson(EndpointJson)> then) {
  host_.with_text(exchange, [this, exchange, make = std::move(make), then = std::move(then)](const std::string& body) {
    host_.post([exchange, then, json = make(body)] {
      try {
        respond_json(*exchange, then ? then(json) : json);
      } catch (const std::exception& e) {
        respond_error(*exchange, api_error(e));
      }
    });
  });
}

}  // namespace lathe
