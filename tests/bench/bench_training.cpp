// A whole training step without a trainer: forward, backward, the gradient's norm and AdamW, of GPT-2 in three sizes.
//   bench_training [--sizes small,base,gpt2] [--dtype float32|bfloat16] [--steps N] [--table]
// Prints tokens a second (the median of the steps) and where the time goes; --table adds a row an operation.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <map>
#include <sstream>

#include "autograd/precision.h"
#include "autograd/tape.h"
#include "config/model_config.h"
#include "kernels/optimizer.h"
#include "llm/family.h"
#include "llm/registry.h"
#include "tensor/cpu_features.h"
#include "tensor/profiler.h"
#include "tensor/storage.h"
#include "tensor/threads.h"

using namespace lathe;

namespace {

struct Size {
  int64_t vocabulary, layers, heads, width, context, sequences;
};
const std::map<std::string, Size> kSizes{
    {"small", {65, 4, 4, 128, 64, 12}}, {"base", {65, 6, 6, 384, 256, 16}}, {"gpt2", {50257, 12, 12, 768, 256, 2}}};

ModelConfig config_of(const Size& s) {
  ModelConfig c;
  c.architecture = "GPT2LMHeadModel";
  c.vocab_size = s.vocabulary;
  c.hidden_size = s.width;
  c.intermediate_size = 4 * s.width;
  c.num_hidden_layers = s.layers;
  c.num_attention_heads = c.num_key_value_heads = s.heads;
  c.head_dim = s.width / s.heads;
  c.max_position_embeddings = s.context;
  c.tie_word_embeddings = true;
  c.hidden_act = "gelu_new";
  c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
  return c;
}

// Weights, gradients and states as flat memory that the parameters are views of.
class Training {
 public:
  explicit Training(const Size& size) : size_(size), config_(config_of(size)) {
    model_ = family_of(config_).make(config_);
    initialise(*model_, 1337);
    for (const NamedParameter& p : named_parameters(*model_)) elements_ += p.parameter->shape.elements();
    for (Tensor* t : {&weights_, &gradients_, &first_, &second_}) *t = Tensor::zeros({elements_}, DType::f32);
    int64_t at = 0;
    for (const NamedParameter& p : named_parameters(*model_)) {
      const int64_t count = p.parameter->shape.elements();
      const auto part = [&](const Tensor& all) { return all.row_range(at, at + count).view(p.parameter->shape); };
      std::memcpy(part(weights_).raw(), p.parameter->value.raw(), p.parameter->value.bytes());
      p.parameter->value = part(weights_);
      p.parameter->grad = part(gradients_);
      at += count;
    }
    tokens_.resize(static_cast<size_t>(size.context * size.sequences));
    for (size_t i = 0; i < tokens_.size(); ++i)
      tokens_[i] = static_cast<int32_t>((i * 2654435761u) % static_cast<uint64_t>(size.vocabulary));
    for (int64_t s = 0; s < size.sequences; ++s) {
      BatchSequence sequence;
      sequence.tokens =
          std::span(tokens_).subspan(static_cast<size_t>(s * size.context), static_cast<size_t>(size.context));
      sequences_.push_back(sequence);
    }
    targets_ = Tensor::of<int32_t>({std::ssize(tokens_)}, tokens_.data());
  }

  int64_t tokens() const { return std::ssize(tokens_); }
  // 6 operations a weight that multiplies and causal attention, forward and backward.
  double operations() const {
    const auto d = static_cast<double>(size_.width), l = static_cast<double>(size_.layers);
    const double token = 6 * (l * 12 * d * d + static_cast<double>(size_.vocabulary) * d) +
                         6 * l * static_cast<double>(size_.context) * d;
    return token * static_cast<double>(tokens());
  }

  float step(Arithmetic arithmetic) {
    const Precision precision(arithmetic);
    Tape tape;
    Tensor y;
    {
      Tape::Scope recording(tape);
      y = loss(*model_, make_batch(sequences_, nullptr), targets_);
    }
    tape.backward(y);
    const double norm = std::sqrt(kernel::sum_of_squares(Cpu{}, gradients_.data<float>(), elements_));
    ++steps_;
    kernel::adamw_step(Cpu{}, weights_.data<float>(), first_.data<float>(), second_.data<float>(),
                       gradients_.data<float>(), elements_,
                       {.learning_rate = 1e-3,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .epsilon = 1e-8,
                        .weight_decay = 0.1,
                        .bias_correction1 = 1 - std::pow(0.9, steps_),
                        .bias_correction2 = 1 - std::pow(0.999, steps_),
                        .gradient_scale = std::min(1.0, 1.0 / (norm + 1e-6)),
                        .clear_gradient = true});
    return *y.host<float>();
  }

 private:
  Size size_;
  ModelConfig config_;
  std::unique_ptr<CausalLM> model_;
  int64_t elements_ = 0;
  Tensor weights_, gradients_, first_, second_, targets_;
  std::vector<int32_t> tokens_;
  std::vector<BatchSequence> sequences_;
  int steps_ = 0;
};

// Of a step: by the clock, and by the processor, which neighbours on the machine do not lengthen.
struct Seconds {
  double clock, processor;
};
Seconds seconds_of(Training& training, Arithmetic arithmetic) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t used = std::clock();
  training.step(arithmetic);
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC};
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void print_table(Training& training, Arithmetic arithmetic) {
  Profiler profiler(false);
  training.step(arithmetic);
  profiler.stop();
  std::vector<Profiler::Row> rows = profiler.rows();
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  double rest = profiler.seconds();
  for (const Profiler::Row& row : rows) {
    rest -= row.seconds;
    fmt::print("  {:28} {:6} calls {:9.2f} ms {:5.1f} % {:8.1f} Gop/s {:7.1f} GB/s\n", row.name, row.calls,
               row.seconds * 1e3, 100 * row.seconds / profiler.seconds(),
               static_cast<double>(row.operations) / row.seconds / 1e9,
               static_cast<double>(row.bytes) / row.seconds / 1e9);
  }
  fmt::print("  {:28} {:6}       {:9.2f} ms {:5.1f} %\n", "between kernels", "", rest * 1e3,
             100 * rest / profiler.seconds());
}

void run(const std::string& name, Arithmetic arithmetic, int steps, bool table) {
  Training training(kSizes.at(name));
  std::vector<double> clock, processor;
  for (int i = 0; i < 2; ++i) training.step(arithmetic);
  for (int i = 0; i < steps; ++i) {
    const Seconds seconds = seconds_of(training, arithmetic);
    clock.push_back(seconds.clock);
    processor.push_back(seconds.processor);
  }
  const double median = median_of(clock);
  fmt::print("{:6} {:12} {:9.0f} tok/s {:9.2f} ms a step ({:.2f} of processor time) {:7.1f} Gop/s\n", name,
             lathe::name(cpu_isa()), static_cast<double>(training.tokens()) / median, median * 1e3,
             median_of(processor) * 1e3, training.operations() / median / 1e9);
  if (table) print_table(training, arithmetic);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string sizes = "small,base,gpt2";
  Arithmetic arithmetic = Arithmetic::f32;
  int steps = 5;
  bool table = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--sizes" && i + 1 < argc) {
      sizes = argv[++i];
    } else if (argument == "--steps" && i + 1 < argc) {
      steps = std::max(1, std::atoi(argv[++i]));
    } else if (argument == "--dtype" && i + 1 < argc) {
      arithmetic = std::strcmp(argv[++i], "bfloat16") == 0 ? Arithmetic::bf16 : Arithmetic::f32;
    } else if (argument == "--table") {
      table = true;
    } else {
      fmt::print(stderr,
                 "usage: bench_training [--sizes small,base,gpt2] [--dtype float32|bfloat16] [--steps N] [--table]\n");
      return 2;
    }
  }
  StoragePool::set_limit(size_t{4} << 30);
  std::istringstream names(sizes);
  for (std::string name; std::getline(names, name, ',');) run(name, arithmetic, steps, table);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "bench_training: {}\n", error.what());
  return 1;
}
