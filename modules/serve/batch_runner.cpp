#include "serve/batch_runner.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "formats/atomic_file.h"
#include "formats/json_node.h"
#include "formats/strict_json.h"
#include "serve/answer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using BatchJson = nlohmann::ordered_json;
constexpr int64_t kMostRequests = 50000;  // OpenAI's
constexpr size_t kMostErrors = 100;       // that are listed
constexpr size_t kMostTick = 64;          // lines that are looked at before others have their turn

bool is_over(const std::string& status) {
  return status == "completed" || status == "failed" || status == "cancelled" || status == "expired";
}

std::string custom_id_of(const BatchJson& line) { return OrderedJsonNode(line, "line").at("custom_id").string(); }

// Throws ApiError where a line is no request to the endpoint.
void check_line(const BatchJson& json, const std::string& endpoint, std::set<std::string>& ids) {
  const OrderedJsonNode line(json, "line");
  if (!ids.insert(custom_id_of(json)).second)
    throw ApiError(400, fmt::format("custom_id {} is there twice", quote(custom_id_of(json))), "custom_id",
                   "duplicate_custom_id");
  if (line.at("method").string() != "POST") line.at("method").expected("\"POST\"");
  if (line.at("url").string() != endpoint) line.at("url").expected("the batch's endpoint, " + quote(endpoint));
  if (!line.at("body").value().is_object()) line.at("body").expected("an object");
  if (line.at("body").boolean_or("stream", false)) line.at("body").at("stream").expected("false");
}

// The ids of the whole lines of a file; what is behind the last of them is cut off.
std::set<std::string> written_ids(const std::string& path) {
  std::set<std::string> ids;
  std::ifstream file(path, std::ios::binary);
  uintmax_t whole = 0;
  for (std::string line; std::getline(file, line) && !file.eof(); whole += line.size() + 1)
    ids.insert(custom_id_of(parse_ordered_json(line, path)));
  file.close();
  if (fs::exists(path)) fs::resize_file(path, whole);
  return ids;
}

}  // namespace

BatchFileCheck check_batch_file(const std::string& path, const std::string& endpoint) {
  BatchFileCheck check;
  std::set<std::string> ids;
  std::ifstream file(path, std::ios::binary);
  int64_t number = 0;
  const auto complain = [&](const std::string& message, const std::string& field, const std::string& code) {
    check.errors.push_back({{"code", code},
                            {"line", number},
                            {"message", message},
                            {"param", field.empty() ? BatchJson() : BatchJson(field)}});
  };
  for (std::string text; check.errors.size() < kMostErrors && std::getline(file, text);) {
    ++number;
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    ++check.requests;
    try {
      check_line(parse_ordered_json(text, "line"), endpoint, ids);
    } catch (const ApiError& e) {
      complain(e.what(), e.field(), e.code());
    } catch (const Error& e) {
      complain(e.what(), "", "invalid_request");
    }
  }
  if (check.requests == 0) complain("the file has no request", "", "empty_file");
  if (check.requests > kMostRequests)
    complain(fmt::format("{} requests, at most {} are taken", check.requests, kMostRequests), "", "too_many_requests");
  return check;
}

struct BatchRunner::Line {
  std::string custom_id, body;
};

struct BatchRunner::Job {
  BatchJson object;
  std::ifstream input;
  std::set<std::string> done;  // before this server began
  std::deque<Line> again;      // that the server had no room for
  int64_t under_way = 0;
  bool expired = false;
  std::string failure;  // of the disk
  std::ofstream output, errors;

  std::string status() const { return object["status"]; }
  void turn(const char* status, const char* time) {
    object["status"] = status;
    object[time] = unix_seconds();
  }
  int64_t& count(const char* name) { return object["request_counts"][name].get_ref<int64_t&>(); }
};

BatchRunner::BatchRunner(const std::string& folder, FileStore& files, BatchHost host)
    : folder_(folder + "/batches"), files_(files), host_(std::move(host)) {
  fs::create_directories(folder_);
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != ".json") continue;
    auto job = std::make_unique<Job>();
    const std::string file = entry.path().string();
    std::ifstream text(file, std::ios::binary);
    job->object = parse_ordered_json(std::string(std::istreambuf_iterator<char>(text), {}), file);
    for (const char* name : {"total", "completed", "failed"})
      job->object["request_counts"][name] = job->object["request_counts"][name].get<int64_t>();
    jobs_[job->object["id"]] = std::move(job);
  }
  for (const auto& [id, job] : jobs_) resume(*job);
}

BatchRunner::~BatchRunner() = default;

std::string BatchRunner::path(const Job& job, const char* extension) const {
  return folder_ + "/" + job.object["id"].get<std::string>() + extension;
}

BatchRunner::Job& BatchRunner::job(const std::string& id) const {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) throw ApiError(404, fmt::format("no batch {}", quote(id)), "batch_id");
  return *found->second;
}

void BatchRunner::save(const Job& job) const {
  AtomicFile file(path(job, ".json"));
  file.write(job.object.dump());
  file.commit();
}

// Where no request waits to be told: what is in memory holds, and a restart goes on from what was saved last.
void BatchRunner::keep(const Job& job) const try { save(job); } catch (const Error& e) {
  fmt::print(stderr, "lathe: the batch {} is not saved: {}\n", job.object["id"].get<std::string>(), e.what());
}

BatchJson BatchRunner::create(BatchJson batch) {
  const std::string id = batch["id"];
  Job& job = *(jobs_[id] = std::make_unique<Job>());
  job.object = std::move(batch);
  save(job);
  resume(job);
  return job.object;
}

std::vector<BatchJson> BatchRunner::list() const {
  std::vector<BatchJson> list;
  for (const auto& [id, job] : jobs_) list.push_back(job->object);
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a["created_at"] > b["created_at"]; });
  return list;
}

BatchJson BatchRunner::find(const std::string& id) const { return job(id).object; }

BatchJson BatchRunner::cancel(const std::string& id) {
  Job& j = job(id);
  if (is_over(j.status())) throw ApiError(409, fmt::format("the batch {} is {} already", id, j.status()), "batch_id");
  if (j.status() != "cancelling") j.turn("cancelling", "cancelling_at");
  save(j);
  return j.object;
}

bool BatchRunner::reads(const std::string& file_id) const {
  return std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& entry) {
    return !is_over(entry.second->status()) && entry.second->object["input_file_id"] == file_id;
  });
}

// From the status that it had when it was last saved.
void BatchRunner::resume(Job& job) {
  if (is_over(job.status())) return;
  try {
    job.status() == "validating" ? validate(job) : begin(job);
  } catch (const Error& e) {  // a file is gone
    fail(job, e.what());
  }
}

// What was answered is handed over all the same, as far as the disk lets it.
void BatchRunner::fail(Job& job, const std::string& message) {
  try {
    hand_over(job);
  } catch (const std::exception& e) {
    fmt::print(stderr, "lathe: the answers of batch {} stay in {}: {}\n", job.object["id"].get<std::string>(), folder_,
               e.what());
  }
  job.object["errors"] = {
      {"object", "list"},
      {"data", {{{"code", "server_error"}, {"line", nullptr}, {"message", message}, {"param", nullptr}}}}};
  job.turn("failed", "failed_at");
  keep(job);
}

void BatchRunner::validate(Job& job) {
  const std::string path = files_.path(job.object["input_file_id"]), endpoint = job.object["endpoint"];
  host_.work([this, &job, path, endpoint] {
    host_.post([this, &job, check = check_batch_file(path, endpoint)] {
      job.count("total") = check.requests;
      if (!check.errors.empty()) {
        job.object["errors"] = {{"object", "list"}, {"data", check.errors}};
        job.turn("failed", "failed_at");
      } else if (job.status() == "validating") {  // and was not cancelled meanwhile
        job.turn("in_progress", "in_progress_at");
      }
      keep(job);
      if (!is_over(job.status())) begin(job);
    });
  });
}

void BatchRunner::begin(Job& job) {
  // A server that was killed at the batch's end may have handed them over already.
  const auto written = [&](const char* extension) {
    const std::string here = path(job, extension);
    return written_ids(fs::exists(here) ? here : files_.content(output_id(job, extension)));
  };
  job.done = written(".output");
  job.count("completed") = std::ssize(job.done);
  const std::set<std::string> failed = written(".errors");
  job.count("failed") = std::ssize(failed);
  job.done.insert(failed.begin(), failed.end());
  job.input.open(files_.path(job.object["input_file_id"]), std::ios::binary);
  job.output.open(path(job, ".output"), std::ios::binary | std::ios::app);
  job.errors.open(path(job, ".errors"), std::ios::binary | std::ios::app);
}

void BatchRunner::tick() {
  for (const auto& [id, job] : jobs_) {
    if (!job->input.is_open() || is_over(job->status())) continue;
    try {
      advance(*job);
    } catch (const std::exception& e) {
      job->failure = e.what();
    }
    if (job->failure.empty() || job->under_way > 0) continue;
    try {
      fail(*job, job->failure);
    } catch (const std::exception& e) {  // it is tried again when the server begins anew
      fmt::print(stderr, "lathe: warning: batch {}: {}\n", id, e.what());
    }
  }
}

void BatchRunner::advance(Job& job) {
  job.expired |= job.object["expires_at"] < unix_seconds();
  bool more = job.failure.empty() && !job.expired && job.status() == "in_progress";
  for (size_t i = 0; more && i < kMostTick && under_way_ < host_.most_at_once && host_.may_begin(); ++i)
    more = send_next(job);
  if (job.failure.empty() && job.under_way == 0 && !more) end(job);
}

// False where none is left.
bool BatchRunner::send_next(Job& job) {
  if (!job.again.empty()) {
    Line line = std::move(job.again.front());
    job.again.pop_front();
    send(job, std::move(line));
    return true;
  }
  std::string text;
  if (!std::getline(job.input, text)) return false;
  if (text.find_first_not_of(" \t\r") == text.npos) return true;
  const BatchJson json = parse_ordered_json(text, "line");
  Line line{custom_id_of(json), dump_json(json["body"])};
  if (!job.done.contains(line.custom_id)) send(job, std::move(line));
  return true;
}

void BatchRunner::send(Job& job, Line line) {
  const auto exchange = std::make_shared<Exchange>();
  exchange->request.method = "POST";
  exchange->request.path = job.object["endpoint"];
  exchange->request.body = line.body;
  ++job.under_way;
  ++under_way_;
  exchange->on_end([this, &job, line = std::move(line), &answer = *exchange] { take(job, line, answer); });
  host_.handle(exchange);
}

void BatchRunner::take(Job& job, const Line& line, const Exchange& exchange) {
  --job.under_way;
  --under_way_;
  if (exchange.status() == 429 || exchange.status() == 503) return job.again.push_back(line);
  write(job, line, exchange.status() == 200,
        fmt::format(R"("response":{{"status_code":{},"request_id":"{}","body":{}}},"error":null)", exchange.status(),
                    new_id("req"), exchange.output()));
}

void BatchRunner::write(Job& job, const Line& line, bool success, const std::string& outcome) {
  std::ofstream& to = success ? job.output : job.errors;
  to << fmt::format(R"({{"id":"{}","custom_id":{},{}}})", new_id("batch_req"), dump_json(line.custom_id), outcome)
     << '\n'
     << std::flush;
  ++job.count(success ? "completed" : "failed");
  if (!to) job.failure = fmt::format("cannot write to {}", path(job, success ? ".output" : ".errors"));
}

std::string BatchRunner::output_id(const Job& job, const char* extension) const {
  std::string id = "file-" + job.object["id"].get<std::string>() + extension;
  std::replace(id.begin(), id.end(), '.', '-');
  return id;
}

// What was written becomes files.
void BatchRunner::hand_over(Job& job) {
  job.input.close();
  job.output.close();
  job.errors.close();
  for (const auto& [extension, field] : {std::pair(".output", "output_file_id"), {".errors", "error_file_id"}}) {
    StoredFile file;
    const std::string id = job.object["id"], from = path(job, extension);
    file.id = output_id(job, extension);
    file.filename = id + extension + ".jsonl";
    file.purpose = "batch_output";
    file.created = unix_seconds();
    if (fs::exists(from) && fs::file_size(from) == 0) fs::remove(from);
    // The content alone is there where the server was killed midway.
    if (fs::exists(from) || fs::exists(files_.content(file.id))) job.object[field] = files_.adopt(from, file).id;
  }
  job.done.clear();
}

// Nothing is under way, and nothing more is sent.
void BatchRunner::end(Job& job) {
  if (job.status() == "in_progress" && !job.expired) job.turn("finalizing", "finalizing_at");
  keep(job);
  hand_over(job);
  if (job.status() == "in_progress") job.turn("expired", "expired_at");
  if (job.status() == "finalizing") job.turn("completed", "completed_at");
  if (job.status() == "cancelling") job.turn("cancelled", "cancelled_at");
  keep(job);
}

}  // namespace lathe
