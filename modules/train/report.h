// Pages that show training runs, made from what DIR of `lathe train --output DIR` holds (metrics.h): self-contained
// HTML.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "train/metrics.h"

namespace lathe {

// What a run came to; kNotLogged where it does not say.
struct RunFigures {
  double train_loss = kNotLogged;                                   // smoothed, at the end
  double validation_loss = kNotLogged, bits_per_byte = kNotLogged;  // the last
  double best_validation_loss = kNotLogged, best_step = kNotLogged;
  double perplexity = kNotLogged;  // of the last validation loss or, without one, of the training loss
  double steps = 0, tokens = kNotLogged, seconds = kNotLogged;
  double tokens_per_second = kNotLogged;  // the median
};
RunFigures figures_of(const TrainingRun& run);

// Writes DIR/report.html: figures (with the model's number of parameters where it is given), curves, samples, recipe.
// Throws Error as read_training_run does, and where the page cannot be written; what lies there under this name is then
// as it was.
void write_report(const std::string& folder, std::optional<int64_t> parameters = {});

// The curves of several runs over each other, what they came to, and where their recipes differ.
std::string comparison_page(const std::vector<TrainingRun>& runs);
// Short names for them: the folders' last parts where these differ.
std::vector<std::string> run_names(const std::vector<TrainingRun>& runs);

}  // namespace lathe
