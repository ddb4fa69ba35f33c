// lathe convert: a model in another form.
#include <fmt/core.h>

#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "llm/export.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

struct ConvertOptions {
  std::string model, output, adapter, dtype = "auto", quantize, shard_size = "5GB";
  bool merge = false;
  int threads = 0;
};

}  // namespace

void add_convert(CommandLine& app) {
  const auto o = std::make_shared<ConvertOptions>();
  const Command command = app.add("convert", "write a model as a Hugging Face folder or as GGUF");
  command.option("--model", o->model, "folder, file, or name of a model").required();
  command.output("--output", o->output, "F.gguf, F.safetensors, or a folder that is new or empty").required();
  command
      .option("--dtype", o->dtype,
              "of the weights: auto (as stored; with --merge bfloat16), float32, bfloat16 or float16")
      .shows_default();
  command.option("--adapter", o->adapter, "folder of an adapter in PEFT's form, which --merge adds to the weights");
  command.flag("--merge", o->merge, "add the changes of --adapter to the weights");
  command.option("--quantize", o->quantize,
                 "matrices of a .gguf file: q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, iq4_nl or iq4_xs");
  command.option("--shard-size", o->shard_size, "most bytes of one file of a folder").shows_default();
  command.option("--threads", o->threads, "default: the physical cores that the process may use").between(1, 1024);
  command.example("Example: lathe convert --model models/SmolLM2-135M --output SmolLM2-135M-Q8_0.gguf --quantize q8_0");
  command.run([o] {
    if (o->threads > 0) set_threads(o->threads);
    if (o->merge == o->adapter.empty())
      throw UsageError(
          "--adapter and --merge go together: a model is written with an adapter's changes in its weights");
    ExportOptions options;
    options.adapter = o->adapter;
    options.dtype = parse_stored_dtype(o->dtype);
    if (o->merge && !options.dtype && !options.quantize) options.dtype = DType::bf16;
    options.quantize = parse_quantize(o->quantize);
    options.shard_bytes = parse_size(o->shard_size, "--shard-size");
    for (const std::string& remark : export_model(o->model, o->output, options))
      fmt::print(stderr, "lathe: warning: {}\n", remark);
    fmt::print(stderr, "lathe: wrote {}\n", o->output);
  });
}

}  // namespace lathe
