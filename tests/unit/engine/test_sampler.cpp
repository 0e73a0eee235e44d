#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "engine/sampler.h"

namespace syncyte {
namespace {

SamplingParams plain() {
    return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .seed = 1};
}

// How often each token is chosen from fixed logits.
std::map<Token, int> choices(SamplingParams params, const std::vector<float>& logits, int draws = 4000) {
    Sampler sampler(params, {}, {});
    std::map<Token, int> counts;
    for (int i = 0; i < draws; ++i) {
        std::vector<float> copy = logits;
        ++counts[*sampler.sample(copy)];
    }
    return counts;
}

const std::vector<float> kTenths = {std::log(0.1F), std::log(0.2F), std::log(0.3F), std::log(0.4F)};

TEST(Sampler, temperature_zero_takes_the_likeliest) {
    SamplingParams params = plain();
    params.temperature = 0;
    EXPECT_EQ(choices(params, kTenths, 10), (std::map<Token, int>{{3, 10}}));
    EXPECT_EQ(choices(params, {1, 1, 1}, 5), (std::map<Token, int>{{0, 5}})) << "the first among equals";
}

TEST(Sampler, draws_follow_the_probabilities) {
    const auto counts = choices(plain(), kTenths);
    for (Token token = 0; token < 4; ++token) {
        EXPECT_NEAR(counts.at(token), 400 * (token + 1), 120) << token;
    }
}

TEST(Sampler, temperature_sharpens_and_flattens) {
    SamplingParams params = plain();
    params.temperature = 0.25F;
    EXPECT_GT(choices(params, kTenths)[3], 2600);
    params.temperature = 100;
    EXPECT_GT(choices(params, kTenths)[0], 850);
}

TEST(Sampler, top_k_top_p_and_min_p_bound_the_choice) {
    const auto kept = [](SamplingParams params) {
        std::set<Token> tokens;
        for (const auto& [token, count] : choices(params, kTenths)) tokens.insert(token);
        return tokens;
    };
    SamplingParams params = plain();
    params.top_k = 2;
    EXPECT_EQ(kept(params), (std::set<Token>{2, 3}));
    params = plain();
    params.top_p = 0.65F;
    EXPECT_EQ(kept(params), (std::set<Token>{2, 3}));
    params.top_p = 0;
    EXPECT_EQ(kept(params), (std::set<Token>{3}));
    params = plain();
    params.min_p = 0.45F;  // of the likeliest: 0.18
    EXPECT_EQ(kept(params), (std::set<Token>{1, 2, 3}));
    params.top_k = 100;
    EXPECT_EQ(kept(params), (std::set<Token>{1, 2, 3}));
    params.min_p = 1;
    EXPECT_EQ(kept(params), (std::set<Token>{3}));
}

TEST(Sampler, same_seed_same_choices) {
    const auto sequence = [](std::uint64_t seed) {
        SamplingParams params = plain();
        params.seed = seed;
        Sampler sampler(params, {}, {});
        std::vector<Token> tokens;
        for (int i = 0; i < 64; ++i) {
            std::vector<float> copy = kTenths;
            tokens.push_back(*sampler.sample(copy));
        }
        return tokens;
    };
    EXPECT_EQ(sequence(7), sequence(7));
    EXPECT_NE(sequence(7), sequence(8));
}

TEST(Sampler, banned_tokens_never_come) {
    Sampler greedy({.temperature = 0}, {3}, {});
    std::vector<float> logits = kTenths;
    EXPECT_EQ(*greedy.sample(logits), 2);
    Sampler drawing(plain(), {0, 1, 3}, {});
    for (int i = 0; i < 100; ++i) {
        logits = kTenths;
        EXPECT_EQ(*drawing.sample(logits), 2);
    }
}

TEST(Sampler, the_repeat_penalty_lowers_what_was_there) {
    SamplingParams params = {.temperature = 0, .repeat_penalty = 2};
    const std::array<Token, 1> prompt = {1};
    Sampler sampler(params, {}, prompt);
    std::vector<float> logits = {1.0F, 1.5F, 0.9F};
    EXPECT_EQ(*sampler.sample(logits), 0) << "1 was in the prompt";
    logits = {1.0F, 1.5F, 0.9F};
    EXPECT_EQ(*sampler.sample(logits), 2) << "0 was chosen";
    logits = {-1.0F, -1.5F, -1.9F};
    EXPECT_EQ(*sampler.sample(logits), 0) << "negative logits are lowered too";
}

TEST(Sampler, logits_that_are_no_numbers_are_not_chosen) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float temperature : {0.0F, 1.0F}) {
        SamplingParams params = plain();
        params.temperature = temperature;
        EXPECT_EQ(choices(params, {nan, 1, nan}, 5), (std::map<Token, int>{{1, 5}}));
        for (std::vector<float> none : {std::vector{nan, nan}, {1, infinity}, {-infinity, nan}}) {
            Sampler sampler(params, {}, {});
            const Result<Token> token = sampler.sample(none);
            ASSERT_FALSE(token);
            EXPECT_EQ(token.error().code, ErrorCode::kModel);
        }
    }
}

TEST(Sampler, large_vocabularies_with_small_top_k_agree_with_sorting) {
    std::vector<float> logits(5000);
    std::uint32_t state = 1;
    for (float& logit : logits) {
        state = state * 1664525 + 1013904223;
        logit = static_cast<float>(state >> 8) / 1e6F;
    }
    std::vector<std::size_t> order(logits.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, [&](auto a, auto b) { return logits[a] > logits[b]; });
    SamplingParams params = plain();
    params.top_k = 5;
    params.temperature = 50;
    std::set<Token> best;
    for (int i = 0; i < 5; ++i) best.insert(static_cast<Token>(order[static_cast<std::size_t>(i)]));
    for (const auto& [token, count] : choices(params, logits, 300)) EXPECT_TRUE(best.contains(token));
}

TEST(Sampler, the_likeliest_is_found_wherever_it_is) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Sampler greedy({.temperature = 0}, {}, {});
    for (const std::size_t size : {1U, 15U, 63U, 64U, 65U, 1000U}) {
        for (std::size_t best = 0; best < size; ++best) {
            std::vector<float> logits(size, -3.0F);
            if (best > 0) logits[best - 1] = nan;
            logits[best] = -1.0F;
            logits[size - 1] = -1.0F;  // an equal one: the first counts
            ASSERT_EQ(*greedy.sample(logits), static_cast<Token>(best)) << size;
        }
    }
}

TEST(Sampler, top_p_counts_what_min_p_drops) {
    // 0.5, and 500 times 0.001: top_p 0.6 keeps a hundred of the small ones, min_p only the large one.
    std::vector<float> logits(501, std::log(0.001F));
    logits[250] = std::log(0.5F);
    SamplingParams params = plain();
    params.top_p = 0.6F;
    EXPECT_NEAR(static_cast<double>(choices(params, logits, 20000).size()), 101, 2);
    params.min_p = 0.1F;
    EXPECT_EQ(choices(params, logits, 100), (std::map<Token, int>{{250, 100}}));
}

TEST(Sampler, frequency_and_presence_penalties_are_taken_off) {
    SamplingParams params = plain();
    params.temperature = 0;
    params.frequency_penalty = 0.5F;
    params.presence_penalty = 1.0F;
    const std::vector<Token> prompt = {1, 1, 2};
    Sampler sampler(params, {}, prompt);
    std::vector<float> logits = {0, 2.1F, 1.55F};  // 1 loses 2.0, 2 loses 1.5
    EXPECT_EQ(*sampler.sample(logits), 1);
    logits = {0.07F, 2.1F, 1.55F};  // 1 loses 2.5 now
    EXPECT_EQ(*sampler.sample(logits), 0);
}

TEST(Sampler, biases_are_added) {
    SamplingParams params = plain();
    params.logit_bias = {{3, -100.0F}, {0, 5.0F}};
    const auto counts = choices(params, kTenths);
    EXPECT_FALSE(counts.contains(3));
    EXPECT_GT(counts.at(0), 3700);
}

TEST(Sampler, typical_p_leaves_out_the_odd_ones) {
    SamplingParams params = plain();
    params.typical_p = 0.29F;
    // Surprises 0.92, 1.2, 1.61, 2.3 nats; 1.28 is to be expected: 0.3 and its neighbours come first.
    auto counts = choices(params, kTenths);
    EXPECT_EQ(counts.size(), 1U);
    EXPECT_TRUE(counts.contains(2));
    params.typical_p = 0.65F;
    counts = choices(params, kTenths);
    EXPECT_FALSE(counts.contains(0));
    EXPECT_TRUE(counts.contains(1));
}

// Over many draws the mean surprise comes near its aim, where the model allows it.
TEST(Sampler, mirostat_keeps_the_surprise_at_its_aim) {
    std::vector<float> zipf(2000);
    for (std::size_t i = 0; i < zipf.size(); ++i) zipf[i] = -std::log(static_cast<float>(i + 1));
    for (const Mirostat version : {Mirostat::kFirst, Mirostat::kSecond}) {
        for (const float aim : {2.0F, 4.0F}) {
            SamplingParams params = plain();
            params.mirostat = version;
            params.mirostat_tau = aim;
            Sampler sampler(params, {}, {});
            Token largest = 0;
            double surprise = 0;
            constexpr int kDraws = 4000;
            std::map<Token, int> counts;
            for (int i = 0; i < kDraws; ++i) {
                std::vector<float> copy = zipf;
                const Token chosen = *sampler.sample(copy);
                ++counts[chosen];
                largest = std::max(largest, chosen);
            }
            for (const auto& [token, count] : counts) {
                const double share = static_cast<double>(count) / kDraws;
                surprise -= share * std::log2(share);
            }
            EXPECT_NEAR(surprise, aim, 0.7) << "version " << static_cast<int>(version);
            EXPECT_LT(largest, 1500);
        }
    }
}

TEST(Sampler, logprobs_are_the_models_own) {
    SamplingParams params = plain();
    params.temperature = 0;
    params.logprobs = 2;
    params.logit_bias = {{0, 50.0F}};
    Sampler sampler(params, {}, {});
    std::vector<float> logits = kTenths;
    EXPECT_EQ(*sampler.sample(logits), 0);
    const auto found = sampler.take_logprobs();
    ASSERT_TRUE(found);
    EXPECT_NEAR(found->chosen, std::log(0.1), 1e-5);
    ASSERT_EQ(found->top.size(), 2U);
    EXPECT_EQ(found->top[0].first, 3);
    EXPECT_NEAR(found->top[0].second, std::log(0.4), 1e-5);
    EXPECT_EQ(found->top[1].first, 2);
    EXPECT_FALSE(sampler.take_logprobs());
}

// What DRY takes off each token, after a text.
std::map<Token, float> taken(const std::vector<Token>& text, Token breaker = -1) {
    Dry dry({.multiplier = 1.0F, .base = 2.0F, .allowed_length = 2});
    for (const Token token : text) dry.add(token, token == breaker);
    std::vector<float> logits(10, 0.0F);
    dry.penalise(logits);
    std::map<Token, float> found;
    for (Token token = 0; token < 10; ++token) {
        if (logits[static_cast<std::size_t>(token)] < 0)
            found[token] = -logits[static_cast<std::size_t>(token)];
    }
    return found;
}

TEST(Sampler, dry_takes_more_off_the_longer_the_repetition) {
    EXPECT_TRUE(taken({}).empty());
    EXPECT_TRUE(taken({1, 2, 3}).empty());
    EXPECT_TRUE(taken({1, 5, 1}).empty()) << "one token is no repetition";
    EXPECT_EQ(taken({1, 2, 3, 9, 1, 2}), (std::map<Token, float>{{3, 1.0F}}));
    EXPECT_EQ(taken({0, 1, 2, 3, 9, 0, 1, 2}), (std::map<Token, float>{{3, 2.0F}}));
    EXPECT_EQ(taken({0, 1, 2, 3, 1, 2, 4, 0, 1, 2}), (std::map<Token, float>{{3, 2.0F}, {4, 1.0F}}));
    EXPECT_EQ(taken({7, 7, 7, 7}), (std::map<Token, float>{{7, 2.0F}})) << "it overlaps itself";
    EXPECT_EQ(taken({0, 1, 2, 3, 9, 0, 1, 2}, 0), (std::map<Token, float>{{3, 1.0F}})) << "0 breaks it";
    EXPECT_TRUE(taken({0, 1, 2, 3, 9, 0, 1, 2}, 1).empty());
}

TEST(Sampler, dry_ends_a_loop) {
    SamplingParams params = plain();
    params.temperature = 0;
    params.dry.multiplier = 1;
    const std::vector<Token> prompt = {1, 2, 3, 1, 2, 3, 1, 2};
    Sampler sampler(params, {}, prompt);
    std::vector<float> logits = {0.5F, 0, 0, 5};
    EXPECT_EQ(*sampler.sample(logits), 0);
}

}  // namespace
}  // namespace syncyte
