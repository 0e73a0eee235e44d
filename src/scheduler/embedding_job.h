// Texts to embed, and the vectors that come of them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "scheduler/request.h"

namespace syncyte {

enum class Normalize : bool { kNo, kYes };  // to a length of one

// A request that ends with a vector of each text. Waited for and cancelled like any other.
class EmbeddingJob final : public Request {
  public:
    using Texts = std::vector<std::vector<Token>>;

    // `length`: numbers of one vector. No text is empty.
    EmbeddingJob(Texts texts, std::size_t length, Normalize normalize, std::shared_ptr<const Model> model);
    ~EmbeddingJob() override = default;

    [[nodiscard]] const Texts& texts() const { return texts_; }
    [[nodiscard]] std::size_t length() const { return length_; }
    // Consumer, after the job has ended well: one vector after the other, in the order of the texts.
    [[nodiscard]] const std::vector<float>& vectors() const { return vectors_; }

    // Engine thread. Completes the job with the last one.
    void put(std::size_t text, std::span<const float> vector);

  private:
    const Texts texts_;
    const std::size_t length_;
    const Normalize normalize_;
    std::size_t missing_;
    // Written by the engine thread until complete(), whose lock hands it over.
    std::vector<float> vectors_;
};

}  // namespace syncyte
