#include "scheduler/pace.h"

#include <algorithm>

namespace syncyte {

namespace {

// What ggml's kernels are good at: multiples of sixteen rows in matrix products, and of 64 in attention,
// where 63 rows over a long context take half as long again as 64.
constexpr std::size_t kGrain = 16;
constexpr std::size_t kTile = 64;
constexpr double kWorthATile = 40;       // rows in small grains that take as long as a tile
constexpr std::size_t kLeastRows = 8;    // so many of a prompt in any step: it must get on
constexpr double kFirstRows = 32;        // before anything was measured
constexpr std::size_t kTellingRows = 8;  // fewer rows of prompts say nothing of their cost
constexpr double kPart = 0.3;            // of a new measurement in the mean

// One slow step among quick ones is the machine's doing: it counts as twice the mean at most.
void blend(double& mean, double seconds) {
    mean = mean == 0 ? seconds : mean + (std::min(seconds, 2 * mean) - mean) * kPart;
}

// The rows of a good step of `rows` at most, about.
std::size_t good_step(double rows) {
    const auto whole = static_cast<std::size_t>(rows);
    if (rows < kWorthATile) return whole / kGrain * kGrain;
    return std::max(whole / kTile, std::size_t{1}) * kTile;
}

// The rows of a good step of `rows` at least.
std::size_t good_step_above(std::size_t rows) {
    if (rows <= 2 * kGrain) return (rows + kGrain - 1) / kGrain * kGrain;
    return (rows + kTile - 1) / kTile * kTile;
}

}  // namespace

void Pace::note(std::size_t decoding, std::size_t prompt, double seconds) {
    if (seconds <= 0) return;
    if (prompt == 0) blend(step_, seconds);
    if (prompt >= kTellingRows) blend(row_, seconds / static_cast<double>(decoding + prompt));
}

std::size_t Pace::prompt_rows(std::size_t decoding, std::size_t most) const {
    if (decoding == 0) return most;
    const double fitting = row_ == 0 ? kFirstRows : std::min(kTarget / row_, 1e6);
    const std::size_t total = std::max(good_step(fitting), good_step_above(decoding + kLeastRows));
    return std::min(total - decoding, most);
}

std::size_t Pace::rows_within(double seconds, std::size_t decoding) const {
    if (row_ == 0) return static_cast<std::size_t>(kFirstRows);
    const auto rows = static_cast<std::size_t>(std::clamp(seconds / row_, 0.0, 1e6));
    return std::max(rows - std::min(rows, decoding), kLeastRows);
}

double Pace::least_seconds(std::size_t rows) const {
    if (rows == 0) return 0;
    // A step reads all weights, however few its rows.
    return rows == 1 ? step_ : std::max(step_, row_ * static_cast<double>(rows) / 2);
}

}  // namespace syncyte
