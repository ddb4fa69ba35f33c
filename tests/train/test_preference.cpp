// Learning from preferences: the loss, its gradient, and what is kept of the model that a run began with.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>

#include "tests/catch.h"
#include "tests/support.h"
#include "tests/thread_ranks.h"
#include "tests/train/goldens.h"
#include "train/run.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Pairs of answers of other lengths behind a prompt of four tokens.
class Pairs : public Dataset {
 public:
  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    for (int64_t r = first; r < first + count; ++r)
      for (int64_t side = 0; side < 2; ++side) {
        const int64_t record = 2 * (r % kRows) + side, answer = 2 + (record * 5) % 7;
        rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
        rows.pieces.push_back(record);
        for (int64_t i = 0; i < 3 + answer; ++i) {
          rows.tokens.push_back(id(record, i));
          rows.targets.push_back(i < 3 ? kIgnoredTarget : id(record, i + 1));
        }
        rows.target_count += answer;
      }
    rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
    return rows;
  }
  static constexpr int64_t kRows = 10;
  int64_t rows_per_epoch() const override { return kRows; }
  Counts counts() const override { return {200, 100}; }
  const std::string& key() const override { return key_; }

 private:
  // The prompt is the pair's, the answers differ.
  static int32_t id(int64_t record, int64_t i) {
    return static_cast<int32_t>((i < 4 ? record / 2 * 3 + i : record * 13 + i * 7) % 61);
  }
  std::string key_ = "pairs";
};

Recipe recipe_of(const std::string& checkpoint, int64_t steps, bool with_adapter) {
  Recipe r;
  r.model.checkpoint = checkpoint;
  if (with_adapter) {
    r.adapter.emplace();
    r.adapter->targets = {"q_proj", "v_proj", "up_proj"};
  }
  r.data.format = DataRecipe::Format::preference;
  r.training.batch_size = 4;
  r.training.steps = steps;
  r.optimizer.learning_rate = 5e-3;
  r.optimizer.weight_decay = 0.0;
  return r;
}

}  // namespace

TEST_CASE("the first step's loss is ln 2, and steps raise the margin, with an adapter or the weights themselves") {
  for (const bool with_adapter : {true, false}) {
    const Recipe recipe = recipe_of(golden_path("llama_untied_gqa"), 20, with_adapter);
    const TrainingModel made = make_training_model(recipe);
    const Pairs data;
    ReferenceScores reference;
    Trainer trainer(made.model(), recipe, data, {20, 0}, Communicator::one(), &reference);
    const TemporaryDirectory place;
    reference.prepare(made.model(), data, 12, 4, (place.path() / "reference.safetensors").string());
    TrainingStep step = trainer.step();
    CHECK(std::abs(step.loss - std::numbers::ln2) < 1e-6);
    CHECK(std::abs(step.preference->margin) < 1e-6);
    CHECK(step.preference->pairs == 4);
    while (trainer.steps_done < 20) step = trainer.step();
    CHECK(step.loss < 0.65);
    CHECK(step.preference->margin > 0.05);
    CHECK(step.preference->accuracy == 1.0);
    const Evaluation e = evaluate_preferences(made.model(), data, reference, recipe.training.dpo_beta, 4, 0);
    CHECK(e.preference->pairs == 10);
    CHECK(e.loss < 0.65);
    CHECK(e.preference->accuracy == 1.0);
  }
}

TEST_CASE("ranks that share pairs make the steps of one rank, figures included") {
  const Pairs data;
  const Recipe recipe = recipe_of(golden_path("llama_untied_gqa"), 5, true);
  const auto train = [&](Communicator& ranks, const std::string& file) {
    const TrainingModel made = make_training_model(recipe);
    ReferenceScores reference;
    reference.prepare(made.model(), data, 10, 4, file);
    Trainer trainer(made.model(), recipe, data, {5, 18}, ranks, &reference);  // the last step has two pairs
    std::vector<double> figures;
    while (trainer.steps_done < 5) {
      const TrainingStep s = trainer.step();
      figures.insert(figures.end(), {s.loss, s.gradient_norm, s.preference->margin, s.preference->accuracy,
                                     static_cast<double>(s.preference->pairs)});
    }
    const Evaluation e = evaluate_preferences(made.model(), data, reference, recipe.training.dpo_beta, 4, 0, ranks);
    figures.insert(figures.end(), {e.loss, e.preference->margin, e.preference->accuracy});
    return figures;
  };
  const TemporaryDirectory place;
  const std::string file = (place.path() / "reference.safetensors").string();
  const std::vector<double> one = train(Communicator::one(), file);
  CHECK(one[4] == 4.0);
  CHECK(one[24] == 2.0);
  for (const int size : {2, 3}) {
    std::vector<std::vector<double>> of_rank(static_cast<size_t>(size));
    ThreadRanks(size).run(
        [&](Communicator& ranks) { of_rank[static_cast<size_t>(ranks.rank())] = train(ranks, file); });
    // Other orders of f32 sums, by 1e-7 a step, of terms of about 1.
    for (size_t i = 0; i < one.size(); ++i) CHECK(std::abs(of_rank[0][i] - one[i]) < 2e-6 * std::max(1.0, one[i]));
    CHECK(of_rank[static_cast<size_t>(size) - 1] == of_rank[0]);
  }
}

TEST_CASE("the loss of pairs and its gradient are those of Rafailov et al., equation 7") {
  const LoadedModel loaded = load_model(golden_path("llama_untied_gqa"), {.trainable = true});
  const Pairs data;
  const TrainingRows rows = data.rows(0, 3);
  const Batch batch = make_training_batch(*loaded.model, rows);
  ReferenceScores reference;
  const TemporaryDirectory place;
  reference.prepare(*loaded.model, data, 10, 4, (place.path() / "reference.safetensors").string());
  ScoredAnswers answers = score_answers(*loaded.model, batch, rows);
  for (size_t s = 0; s < answers.sums.size(); ++s) answers.sums[s] += 0.7 * static_cast<double>(s % 3) - 0.5;
  constexpr double kBeta = 0.3;
  const auto loss_of = [&](const std::vector<double>& sums) {
    double total = 0.0;
    for (size_t pair = 0; pair < 3; ++pair) {
      const auto gain = [&](size_t s) { return sums[s] - reference[rows.pieces[s]]; };
      total -= std::log(1.0 / (1.0 + std::exp(-kBeta * (gain(2 * pair) - gain(2 * pair + 1))))) / 5.0;
    }
    return total;
  };
  const PreferenceLoss loss = preference_loss(answers, rows, reference, kBeta, 5);
  CHECK(loss.loss == Catch::Approx(loss_of(answers.sums)).epsilon(1e-12));
  for (size_t i = 0; i < answers.sequence_of.size(); ++i) {
    constexpr double h = 1e-5;
    std::vector<double> above = answers.sums, below = answers.sums;
    above[static_cast<size_t>(answers.sequence_of[i])] += h;
    below[static_cast<size_t>(answers.sequence_of[i])] -= h;
    const double difference = (loss_of(above) - loss_of(below)) / (2 * h);
    CHECK(loss.seed.gradient.host<float>()[i] == Catch::Approx(difference).epsilon(1e-6));
  }
}

TEST_CASE("what the first model makes of a record is computed once and found again") {
  const Recipe recipe = recipe_of(golden_path("llama_untied_gqa"), 4, true);
  const TrainingModel made = make_training_model(recipe);
  const Pairs data;
  const TemporaryDirectory place;
  const std::string file = (place.path() / "reference.safetensors").string();
  ReferenceScores reference;
  reference.prepare(made.model(), data, 8, 4, file);
  const double kept = reference[5];
  // Another model: what is there is not computed anew, what is missing is.
  for (const NamedParameter& p : adapter_parameters(made.model()))
    for (int64_t i = 0; i < p.parameter->value.elements(); ++i) p.parameter->value.host<float>()[i] = 0.1f;
  ReferenceScores again;
  again.prepare(made.model(), data, 8, 4, file);
  CHECK(again[5] == kept);
  again.prepare(made.model(), data, 10, 4, file);
  CHECK(again[5] == kept);
  CHECK(std::isfinite(again[19]));
}

TEST_CASE("lathe train learns preferences from a file and keeps what it began with") {
  const GoldenLlama model;
  model.write_characters("abcdefghijklmnopqrstuvwxyz .,?!");
  std::string lines;
  for (int i = 0; i < 12; ++i)
    lines += R"({"prompt": "say )" + std::string(1, static_cast<char>('a' + i)) +
             R"(", "chosen": " yes.", "rejected": " no no"})" + "\n";
  const std::string data = model.write("pairs.jsonl", lines), output = model.file("run");
  const std::string recipe =
      model.write("recipe.yaml", "model: {checkpoint: " + model.folder.path().string() + "}\ndata: {train: " + data +
                                     ", format: preference, validation: 0.25}\n"
                                     "training: {context: 32, batch_size: 3, steps: 8, dtype: bfloat16}\n"
                                     "optimizer: {learning_rate: 0.01}\n"
                                     "adapter: {rank: 2, targets: all-linear}\n"
                                     "checkpoint: {every: 4}\nlogging: {every: 1}\n");
  const CommandResult result = run_lathe({"train", "--config", recipe, "--output", output, "--threads", "1"});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  std::ifstream metrics(output + "/metrics.jsonl");
  std::vector<nlohmann::json> steps;
  for (std::string line; std::getline(metrics, line);) steps.push_back(nlohmann::json::parse(line));
  REQUIRE(steps.size() == 8);
  CHECK(std::abs(steps[0]["loss"].get<double>() - std::numbers::ln2) < 1e-6);
  CHECK(steps[7]["loss"].get<double>() < 0.5);
  CHECK(steps[7]["accuracy"] == 1.0);
  CHECK(steps[7]["validation_accuracy"] == 1.0);
  CHECK(steps[7]["validation_loss"].get<double>() < 0.6);
  for (const char* file : {"/reference.safetensors", "/reference_validation.safetensors", "/model/adapter_config.json"})
    CHECK(std::filesystem::exists(output + file));
}
