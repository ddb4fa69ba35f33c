// lathe plan: what running a model takes, with the equations, before it is downloaded, loaded or run.
#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/json_file.h"
#include "cli/plan_report.h"
#include "cli/training_plan_report.h"
#include "config/model_config.h"
#include "llm/registry.h"
#include "tensor/device_memory.h"
#include "tensor/process_memory.h"
#include "tensor/stream.h"

namespace lathe {
namespace {

struct PlanOptions {
  ModelOptions model;
  std::string config, memory;
  std::vector<std::string> settings;
  int64_t batch = 1;
  bool json = false;
};

LoadedModel open(const PlanOptions& o, const LoadOptions& load) {
  if (o.config.empty()) return open_model(o.model.model, load);
  return describe_config(read_config(o.config, family_configs()), load);
}

// Many checkpoints have no vocabulary beside them, and ids need none.
std::shared_ptr<const Tokenizer> tokenizer_if_any(const PlanOptions& o, const LoadedModel& opened) {
  if (!o.config.empty()) return nullptr;
  try {
    return load_tokenizer(opened.checkpoint);
  } catch (const Error&) {
    return nullptr;
  }
}

// A device is planned for without being there, but its layouts are those of its kernels.
Device planned_device(const std::string& text) {
  const Device device = text.empty() ? chosen_device(text) : parse_device(text);
  if (device.kind == Device::Kind::cuda && !Stream::built_in())
    throw Error(fmt::format("plan: --device {}: this program is built without CUDA", text),
                "make build CUDA=1 builds with it; a plan needs no device");
  return device;
}

void print_training_plan(const PlanOptions& o, Device device) {
  if (device.kind == Device::Kind::cuda && !o.model.device.empty())
    throw Error(fmt::format("plan: --device {}: the memory of training is counted for the CPU alone", o.model.device),
                "a device that runs out of memory says what was asked for, used and free");
  const Recipe recipe = read_recipe(o.config, o.settings);
  const TrainingPlanReport report(recipe, o.memory.empty() ? 0 : parse_size(o.memory, "--memory"),
                                  measure_training_runtime(recipe));
  fmt::print("{}", o.json ? dump_line(report.json()) + "\n" : report.text());
}

void run_plan(const PlanOptions& o) {
  if (o.model.model.empty() == o.config.empty())
    throw UsageError("expected --model or --config, and one of them alone");
  const Device device = planned_device(o.model.device);
  ModelOptions on_host = o.model;
  on_host.device = "cpu";
  on_host.apply_machine_options();
  if (is_recipe(o.config)) return print_training_plan(o, device);
  if (!o.settings.empty()) throw UsageError("--set needs a recipe of training as --config");
  PlanReport report;
  LoadOptions load = on_host.load_options();
  load.device = device;
  const LoadedModel opened = open(o, load);
  for (const std::string& warning : opened.warnings) fmt::print(stderr, "lathe: warning: {}\n", warning);
  const auto tokenizer = tokenizer_if_any(o, opened);
  report.opened = &opened;
  report.runtime = device.kind == Device::Kind::cuda ? foreign_device_memory(device) : resident_memory();
  report.memory = o.memory.empty() ? 0 : parse_size(o.memory, "--memory");
  report.request = {o.model.context_limit(opened.model->sizes), o.batch, EngineOptions().max_batch_tokens,
                    o.model.cache_dtype(opened), load};
  report.plan = plan_inference(opened, report.request);
  if (device.kind == Device::Kind::cpu) report.measure_speed();
  report.suggest();
  if (o.json)
    fmt::print("{}\n", dump_line(report.json()));
  else
    fmt::print("{}", report.text());
}

}  // namespace

void add_plan(CommandLine& app) {
  const auto o = std::make_shared<PlanOptions>();
  const Command command =
      app.add("plan", "memory, operations and speed of running or training a model, before it is loaded");
  o->model.declare(command);
  command.find("--model").required(false).description("folder, file, or name of a model");
  for (const char* unused : {"--kv-memory", "--profile", "--verbose", "--deterministic"}) command.remove(unused);
  command.option("--config", o->config, "instead: a YAML file under configs/, a config.json, or a recipe of training");
  command.option("--set", o->settings, "section.key=value in place of what the recipe says; may be repeated");
  command.find("--context").description("tokens of a sequence; default: the model's limit");
  command.option("--batch", o->batch, "sequences at once").shows_default().between(int64_t{1}, int64_t{1} << 20);
  command.option("--memory", o->memory, "what there is, such as 16GiB: whether it fits, and what would");
  command.flag("--json", o->json, "one JSON object");
  command.example(
      "Example: lathe plan --config configs/llama/3.2-1b.yaml --context 8192 --quantize q4_0 --memory 2GiB");
  command.run([o] { run_plan(*o); });
}

}  // namespace lathe
