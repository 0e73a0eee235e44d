#include "scheduler/pace.h"

#include <algorithm>

namespace syncyte {

namespace {

constexpr std::size_t kLeastRows = 16;   // so many of a prompt in any step: it must get on
constexpr std::size_t kFirstRows = 32;   // before anything was measured
constexpr std::size_t kTellingRows = 8;  // fewer rows of prompts say nothing of their cost
constexpr double kPart = 0.3;            // of a new measurement in the mean

// One slow step among quick ones is the machine's doing: it counts as twice the mean at most.
void blend(double& mean, double seconds) {
    mean = mean == 0 ? seconds : mean + (std::min(seconds, 2 * mean) - mean) * kPart;
}

}  // namespace

void Pace::note(std::size_t decoding, std::size_t prompt, double seconds) {
    if (seconds <= 0) return;
    if (prompt == 0) blend(step_, seconds);
    if (prompt >= kTellingRows) blend(row_, seconds / static_cast<double>(decoding + prompt));
}

std::size_t Pace::prompt_rows(std::size_t decoding, std::size_t most) const {
    if (decoding == 0) return most;
    if (row_ == 0) return std::min(kFirstRows, most);
    // ggml's kernels take rows by eight.
    const auto fitting = static_cast<std::size_t>(std::clamp(kTarget / row_ / 8, 1.0, 1e6)) * 8;
    return std::min(std::max(fitting > decoding ? fitting - decoding : 0, kLeastRows), most);
}

double Pace::least_seconds(std::size_t rows) const {
    if (rows == 0) return 0;
    // A step reads all weights, however few its rows.
    return rows == 1 ? step_ : std::max(step_, row_ * static_cast<double>(rows) / 2);
}

}  // namespace syncyte
