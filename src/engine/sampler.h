// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/grammar_machine.h"
#include "engine/model.h"

namespace syncyte {

// The usual names and defaults of llama.cpp. Filters apply in this order: repeat_penalty, top_k, top_p,
// min_p, temperature.
struct SamplingParams {
    float temperature = 0.8F;     // 0: always the likeliest token
    std::int32_t top_k = 40;      // 0: all
    float top_p = 0.95F;          // 1: all
    float min_p = 0.05F;          // 0: all
    float repeat_penalty = 1.0F;  // 1: none; looks at the last kRepeatWindow tokens, prompt included
    std::uint64_t seed = 0;
};

// One per request; one thread at a time. The n-th choice depends on the seed, n, the logits and the tokens
// seen so far, and on nothing else.
class Sampler {
  public:
    static constexpr std::size_t kRepeatWindow = 64;

    // `banned` tokens are never chosen. `prompt` counts for the repeat penalty. With a grammar, only tokens
    // that it allows are.
    Sampler(const SamplingParams& params, std::vector<Token> banned, std::span<const Token> prompt,
            std::shared_ptr<GrammarMachine> grammar = nullptr);

    // Overwrites some of the logits. Fails where the grammar leaves nothing to choose.
    Result<Token> sample(std::span<float> logits);
    // The grammar allows nothing after what was chosen.
    [[nodiscard]] bool must_end() const { return grammar_ && grammar_->must_end(); }

  private:
    struct Candidate {
        float logit;
        Token token;
    };

    void penalise(std::span<float> logits) const;
    Token choose(std::span<const float> logits);
    Result<Token> choose_allowed(std::span<float> logits);
    void remember(Token token);
    Token draw_from(std::span<const float> logits);
    void collect(std::span<const float> logits);
    void filter();
    Token draw();
    double next_uniform();

    SamplingParams params_;
    std::vector<Token> banned_;
    std::optional<GrammarCursor> grammar_;
    std::deque<Token> recent_;
    std::uint64_t draws_ = 0;
    // Kept between calls for their memory.
    std::vector<Candidate> candidates_;
    std::vector<float> maxima_;  // of blocks of logits
    std::vector<float> sorted_maxima_;
    std::vector<double> weights_;
};

}  // namespace syncyte
