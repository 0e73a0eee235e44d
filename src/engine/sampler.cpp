#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <utility>

namespace syncyte {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Likeliest first; equal logits by token, so that the order is a total one.
struct Likelier {
    template <class C>
    bool operator()(const C& a, const C& b) const {
        return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
    }
};

// Logits are read by blocks whose largest value is found first: a vocabulary has tens of thousands of tokens,
// all sequences are sampled one after another between two steps, and the other cores wait for it.
constexpr std::size_t kBlock = 64;

// NaN is less than everything. Lane by lane, so that it compiles to vector instructions.
float largest(std::span<const float> logits) {
    constexpr std::size_t kLanes = 16;
    std::array<float, kLanes> lanes;
    lanes.fill(kNever);
    std::size_t i = 0;
    for (; i + kLanes <= logits.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float logit = logits[i + lane];
            lanes[lane] = logit > lanes[lane] ? logit : lanes[lane];
        }
    }
    float best = kNever;
    for (const float lane : lanes) best = lane > best ? lane : best;
    for (; i < logits.size(); ++i) best = logits[i] > best ? logits[i] : best;
    return best;
}

// The first among equals; 0 when no token can be chosen.
Token likeliest(std::span<const float> logits) {
    float best = kNever;
    std::size_t block = 0;
    for (std::size_t first = 0; first < logits.size(); first += kBlock) {
        const float here = largest(logits.subspan(first, std::min(kBlock, logits.size() - first)));
        if (here > best) {
            best = here;
            block = first;
        }
    }
    if (best == kNever) return 0;
    return static_cast<Token>(std::ranges::find(logits.subspan(block), best) - logits.begin());
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::vector<Token> banned, std::span<const Token> prompt,
                 std::shared_ptr<GrammarMachine> grammar, Breaks breaks)
    : params_(params),
      banned_(std::move(banned)),
      breaks_(std::move(breaks)),
      surprise_limit_(2.0 * params.mirostat_tau) {
    if (grammar) grammar_.emplace(std::move(grammar));
    if (params_.dry.multiplier > 0) {
        dry_.emplace(params_.dry);
        for (const Token token : prompt) dry_->add(token, breaks_ && breaks_(token));
    }
    const std::size_t seen = std::min(prompt.size(), kRepeatWindow);
    for (const Token token : prompt.last(seen)) note_recent(token);
}

void Sampler::remember(Token token) {
    if (dry_) dry_->add(token, breaks_ && breaks_(token));
    note_recent(token);
}

void Sampler::note_recent(Token token) {
    if (!params_.penalises()) return;
    recent_.push_back(token);
    if (recent_.size() > kRepeatWindow) recent_.pop_front();
}

void Sampler::penalise(std::span<float> logits) {
    for (const auto& [token, bias] : params_.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
    if (dry_) dry_->penalise(logits);
    if (!params_.penalises()) return;
    std::vector<Token> sorted(recent_.begin(), recent_.end());
    std::ranges::sort(sorted);
    for (auto first = sorted.begin(); first != sorted.end();) {
        const auto next = std::ranges::upper_bound(first, sorted.end(), *first);
        float& logit = logits[static_cast<std::size_t>(*first)];
        logit = logit > 0 ? logit / params_.repeat_penalty : logit * params_.repeat_penalty;
        logit -= static_cast<float>(next - first) * params_.frequency_penalty + params_.presence_penalty;
        first = next;
    }
}

// The top_k likeliest (all when top_k is 0), in no order.
void Sampler::collect(std::span<const float> logits, std::int32_t top_k) {
    const auto limit = top_k <= 0 ? logits.size() : std::min(logits.size(), static_cast<std::size_t>(top_k));
    maxima_.clear();
    for (std::size_t first = 0; first < logits.size(); first += kBlock) {
        maxima_.push_back(largest(logits.subspan(first, std::min(kBlock, logits.size() - first))));
    }
    // With `limit` blocks that reach so far there are `limit` tokens that do: nobody below is among them.
    float least = kNever;
    if (limit < maxima_.size()) {
        sorted_maxima_ = maxima_;
        const auto last = sorted_maxima_.begin() + static_cast<std::ptrdiff_t>(limit - 1);
        std::ranges::nth_element(sorted_maxima_, last, std::greater{});
        least = *last;
    }
    candidates_.clear();
    for (std::size_t block = 0; block < maxima_.size(); ++block) {
        if (maxima_[block] < least) continue;
        const std::size_t end = std::min((block + 1) * kBlock, logits.size());
        for (std::size_t i = block * kBlock; i < end; ++i) {
            if (logits[i] >= least && logits[i] > kNever) {
                candidates_.push_back({logits[i], static_cast<Token>(i)});
            }
        }
    }
    if (candidates_.size() <= limit) return;
    std::ranges::nth_element(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(limit),
                             Likelier{});
    candidates_.resize(limit);
}

double Sampler::next_uniform() {
    // splitmix64 of a counter: the n-th number does not depend on how the others were used.
    std::uint64_t x = params_.seed + 0x9E3779B97F4A7C15ULL * ++draws_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
    return static_cast<double>(x >> 11) * 0x1.0p-53;
}

// Sorts the candidates, likeliest first, and drops what top_p and min_p exclude. At least one stays.
void Sampler::filter() {
    if (params_.typical_p < 1) keep_typical();
    const float best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
    double total = 0;
    if (params_.top_p < 1) {
        for (const Candidate& candidate : candidates_) total += std::exp(candidate.logit - best);
    }
    // Both keep the likeliest, so their order does not matter: what min_p drops need not be sorted. Without
    // top_k that is nearly everything.
    if (params_.min_p > 0) {
        const float least = best + std::log(params_.min_p);
        std::erase_if(candidates_,
                      [least, best](const Candidate& c) { return c.logit < least && c.logit < best; });
    }
    std::ranges::sort(candidates_, Likelier{});
    if (params_.top_p >= 1) return;
    std::size_t kept = 0;
    for (double sum = 0; kept < candidates_.size() && (kept == 0 || sum < params_.top_p * total); ++kept) {
        sum += std::exp(candidates_[kept].logit - best);
    }
    candidates_.resize(kept);
}

// Those whose surprise is nearest to what is to be expected, until they have the probability typical_p.
void Sampler::keep_typical() {
    const float best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
    double total = 0;
    double weighted = 0;
    for (const Candidate& candidate : candidates_) {
        const double above = static_cast<double>(candidate.logit) - best;
        total += std::exp(above);
        weighted += std::exp(above) * above;
    }
    // The surprise of each is log(total) - above, its mean log(total) - weighted / total.
    const double mean = weighted / total;
    const auto oddness = [mean, best](const Candidate& c) {
        return std::abs(static_cast<double>(c.logit) - best - mean);
    };
    std::ranges::sort(candidates_, [&oddness](const Candidate& a, const Candidate& b) {
        const double one = oddness(a);
        const double other = oddness(b);
        return one < other || (one == other && Likelier{}(a, b));
    });
    std::size_t kept = 0;
    for (double sum = 0; kept < candidates_.size() && (kept == 0 || sum < params_.typical_p * total);
         ++kept) {
        sum += std::exp(static_cast<double>(candidates_[kept].logit) - best);
    }
    candidates_.resize(kept);
}

// Mirostat: of the sorted candidates those first ones that keep the surprise near its aim.
void Sampler::keep_unsurprising() {
    weigh();
    double total = 0;
    for (const double weight : weights_) total += weight;
    std::size_t kept = 1;
    if (params_.mirostat == Mirostat::kSecond) {
        const double least = total * std::exp2(-surprise_limit_);
        while (kept < candidates_.size() && weights_[kept] >= least) ++kept;
    } else {
        // Zipf's exponent from the likeliest tokens, and from it how many keep the surprise at its limit.
        constexpr std::size_t kLooked = 100;
        double products = 0;
        double squares = 0;
        for (std::size_t i = 0; i + 1 < std::min(kLooked, weights_.size()) && weights_[i + 1] > 0; ++i) {
            const double rank = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
            products += rank * std::log(weights_[i] / weights_[i + 1]);
            squares += rank * rank;
        }
        const double exponent = squares > 0 ? products / squares : 1;
        const double beyond = exponent - 1;
        const auto size = static_cast<double>(candidates_.size());
        // At 1 the fraction's limit is 1 / log(size).
        const double spread = std::abs(beyond) < 1e-6 ? 1 / std::log(std::max(size, 2.0))
                                                      : beyond / (1 - std::pow(size, -beyond));
        const double count =
            exponent > 1e-6 ? std::pow(spread * std::exp2(surprise_limit_), 1 / exponent) : size;
        kept = std::isfinite(count) ? static_cast<std::size_t>(std::clamp(std::round(count), 1.0, size))
                                    : candidates_.size();
    }
    candidates_.resize(kept);
}

Token Sampler::draw_from(std::span<const float> logits) {
    const bool mirostat = params_.mirostat != Mirostat::kOff;
    collect(logits, mirostat ? 0 : params_.top_k);
    if (candidates_.empty()) return 0;
    if (mirostat) {
        std::ranges::sort(candidates_, Likelier{});
        keep_unsurprising();
    } else {
        filter();
    }
    return draw();
}

void Sampler::weigh() {
    const float best = candidates_.front().logit;
    weights_.clear();
    for (const Candidate& candidate : candidates_) {
        weights_.push_back(std::exp(static_cast<double>(candidate.logit - best) / params_.temperature));
    }
}

Token Sampler::draw() {
    weigh();
    double total = 0;
    for (const double weight : weights_) total += weight;
    double mark = next_uniform() * total;
    std::size_t chosen = 0;
    while (chosen + 1 < candidates_.size() && (mark -= weights_[chosen]) >= 0) ++chosen;
    surprise_ = std::log2(total / std::max(weights_[chosen], total * 1e-12));
    return candidates_[chosen].token;
}

void Sampler::note_logprobs(std::span<const float> logits, Token chosen) {
    const float best = largest(logits);
    double total = 0;
    for (const float logit : logits) {
        if (logit > kNever) total += std::exp(static_cast<double>(logit) - best);
    }
    const auto logprob = [&](float logit) {
        return static_cast<float>(static_cast<double>(logit) - best - std::log(total));
    };
    logprobs_.emplace();
    logprobs_->chosen = logprob(logits[static_cast<std::size_t>(chosen)]);
    if (params_.logprobs == 0) return;
    collect(logits, params_.logprobs);
    std::ranges::sort(candidates_, Likelier{});
    for (const Candidate& one : candidates_) logprobs_->top.emplace_back(one.token, logprob(one.logit));
}

Result<Token> Sampler::choose(std::span<const float> logits) {
    const Token chosen = params_.temperature <= 0 ? likeliest(logits) : draw_from(logits);
    if (std::isfinite(logits[static_cast<std::size_t>(chosen)])) return chosen;
    return failure(ErrorCode::kModel,
                   "no token can be chosen: the model computes no numbers (NaN or infinity), so its file may "
                   "be damaged");
}

// A model that knows what is wanted rarely needs the whole vocabulary looked through: what it would choose
// freely is tried first. Where that is not allowed the choice is made again among what is; both together
// choose as if the rest had never been there.
Result<Token> Sampler::choose_allowed(std::span<float> logits) {
    Result<Token> free = choose(logits);
    if (!free || grammar_->allows(*free)) return free;
    if (grammar_->restrict(logits)) return choose(logits);
    // Only the end is left, and it was banned.
    if (grammar_->may_end() && !banned_.empty()) return banned_.front();
    return std::unexpected(grammar_->dead_end());
}

Result<Token> Sampler::sample(std::span<float> logits) {
    if (params_.logprobs >= 0) raw_.assign(logits.begin(), logits.end());
    penalise(logits);
    for (const Token token : banned_) logits[static_cast<std::size_t>(token)] = kNever;
    Result<Token> chosen = grammar_ ? choose_allowed(logits) : choose(logits);
    if (!chosen) return chosen;
    if (grammar_) grammar_->accept(*chosen);
    remember(*chosen);
    if (params_.mirostat != Mirostat::kOff) {
        surprise_limit_ -= params_.mirostat_eta * (surprise_ - params_.mirostat_tau);
    }
    if (params_.logprobs >= 0) note_logprobs(raw_, *chosen);
    return chosen;
}

}  // namespace syncyte
