// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/dry.h"
#include "engine/grammar_machine.h"
#include "engine/model.h"

namespace syncyte {

enum class Mirostat : std::uint8_t { kOff, kFirst, kSecond };

// The usual names and defaults of llama.cpp. Applied in this order: penalties, logit_bias, top_k, typical_p,
// top_p, min_p, temperature; with mirostat penalties, logit_bias, temperature, and it chooses how many tokens
// to draw among.
struct SamplingParams {
    float temperature = 0.8F;        // 0: always the likeliest token
    std::int32_t top_k = 40;         // 0: all
    float top_p = 0.95F;             // 1: all
    float min_p = 0.05F;             // 0: all
    float repeat_penalty = 1.0F;     // 1: none; looks at the last kRepeatWindow tokens, prompt included
    float frequency_penalty = 0.0F;  // off the logit for each time among those tokens
    float presence_penalty = 0.0F;   // off the logit once for being among them
    DryParams dry{};
    float typical_p = 1.0F;  // 1: all
    Mirostat mirostat = Mirostat::kOff;
    float mirostat_tau = 5.0F;  // surprise per token that is aimed at, in bits
    float mirostat_eta = 0.1F;  // how fast it is followed
    std::vector<std::pair<Token, float>> logit_bias{};
    std::int32_t logprobs = -1;  // alternatives to report with each token; below 0: nothing
    std::uint64_t seed = 0;

    [[nodiscard]] bool penalises() const {
        return repeat_penalty != 1.0F || frequency_penalty != 0.0F || presence_penalty != 0.0F;
    }
};

// Natural logarithms of probabilities, of the model's own choice: before penalties, biases and filters.
struct TokenLogprobs {
    float chosen = 0;
    std::vector<std::pair<Token, float>> top{};  // likeliest first
};

// One per request; one thread at a time. The n-th choice depends on the seed, n, the logits and the tokens
// seen so far, and on nothing else.
class Sampler {
  public:
    static constexpr std::size_t kRepeatWindow = 64;

    // Whether a repetition ends with a token; see Dry.
    using Breaks = std::function<bool(Token)>;

    // `banned` tokens are never chosen. `prompt` counts for the penalties. With a grammar, only tokens that
    // it allows are chosen. `breaks` is asked where params.dry is on.
    Sampler(const SamplingParams& params, std::vector<Token> banned, std::span<const Token> prompt,
            std::shared_ptr<GrammarMachine> grammar = nullptr, Breaks breaks = {});

    // Overwrites some of the logits. Fails where the grammar leaves nothing to choose; kModel where no logit
    // is a number.
    Result<Token> sample(std::span<float> logits);
    // Of the last choice, if params.logprobs asks for them.
    [[nodiscard]] std::optional<TokenLogprobs> take_logprobs() { return std::exchange(logprobs_, {}); }
    // The grammar allows nothing after what was chosen.
    [[nodiscard]] bool must_end() const { return grammar_ && grammar_->must_end(); }

  private:
    struct Candidate {
        float logit;
        Token token;
    };

    void penalise(std::span<float> logits);
    Result<Token> choose(std::span<const float> logits);
    Result<Token> choose_allowed(std::span<float> logits);
    void remember(Token token);
    void note_recent(Token token);
    Token draw_from(std::span<const float> logits);
    void collect(std::span<const float> logits, std::int32_t top_k);
    void filter();
    void keep_typical();
    void keep_unsurprising();
    Token draw();
    void weigh();
    void note_logprobs(std::span<const float> logits, Token chosen);
    double next_uniform();

    SamplingParams params_;
    std::vector<Token> banned_;
    std::optional<GrammarCursor> grammar_;
    std::deque<Token> recent_;
    std::optional<Dry> dry_;
    Breaks breaks_;
    std::uint64_t draws_ = 0;
    double surprise_limit_;  // mirostat's, in bits
    double surprise_ = 0;    // of the last draw
    std::optional<TokenLogprobs> logprobs_;
    std::vector<float> raw_;  // logits before anything was done to them, if needed
    // Kept between calls for their memory.
    std::vector<Candidate> candidates_;
    std::vector<float> maxima_;  // of blocks of logits
    std::vector<float> sorted_maxima_;
    std::vector<double> weights_;
};

}  // namespace syncyte
