#include "scheduler/embedding_job.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace syncyte {

namespace {

// Of zero length, or no number: stays as it is.
void normalize(std::span<float> vector) {
    double squares = 0;
    for (const float x : vector) squares += double{x} * double{x};
    if (!(squares > 0) || !std::isfinite(squares)) return;
    const double factor = 1 / std::sqrt(squares);
    for (float& x : vector) x = static_cast<float>(double{x} * factor);
}

}  // namespace

EmbeddingJob::EmbeddingJob(Texts texts, std::size_t length, Normalize normalize,
                           std::shared_ptr<const Model> model)
    : Request({}, std::move(model)),
      texts_(std::move(texts)),
      length_(length),
      normalize_(normalize),
      missing_(texts_.size()),
      vectors_(texts_.size() * length) {
    if (missing_ == 0) complete(FinishReason::kStop, {});
}

void EmbeddingJob::put(std::size_t text, std::span<const float> vector) {
    check(vector.size() == length_ && missing_ > 0, "one vector of each text");
    const std::span<float> place(vectors_.data() + text * length_, length_);
    std::ranges::copy(vector, place.begin());
    if (normalize_ == Normalize::kYes) normalize(place);
    if (--missing_ == 0) complete(FinishReason::kStop, {});
}

}  // namespace syncyte
