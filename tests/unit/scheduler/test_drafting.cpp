// Guessed tokens: where the guesses come from, what they may cost, and that nobody sees them.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/grammar.h"
#include "engine/grammar_machine.h"
#include "engine/token_trie.h"
#include "scheduler/acceptance.h"
#include "scheduler/lookup.h"
#include "scheduler/step_cost.h"
#include "scheduler_test.h"

namespace syncyte {
namespace {

TEST(Lookup, FindsTheLongestMatchAndOfEqualsTheLatest) {
    const std::vector<Token> text = tokens_of("xabc1 abc2 yabc3 zabc4 yabc");
    const TextMatch match = longest_match(text, text);
    EXPECT_EQ(match.length, 5U);
    EXPECT_EQ(match.next, std::string_view("xabc1 abc2 yabc").size());
    const std::vector<Token> end = tokens_of("..abc");
    EXPECT_EQ(longest_match(tokens_of("abc1abc2"), end).next, 7U);
}

TEST(Lookup, KnowsNothingOfWhatIsNewOrShort) {
    EXPECT_EQ(longest_match(tokens_of("abcdefgh"), tokens_of("xyz")).length, 0U);
    EXPECT_EQ(longest_match(tokens_of("xbc1abc"), tokens_of("abc")).length, 0U) << "nothing follows";
    EXPECT_EQ(longest_match(tokens_of(""), tokens_of("abc")).length, 0U);
    EXPECT_EQ(longest_match(tokens_of("abab"), tokens_of("ab")).length, 0U);
}

TEST(Lookup, LooksAtTheLastPartOfLongTexts) {
    std::vector<Token> text = tokens_of("abcd");
    text.resize(kSearched + 4, 'z');
    text.append_range(tokens_of("abc"));
    EXPECT_EQ(longest_match(text, text).length, 0U);
    text.erase(text.begin() + 4, text.begin() + 104);
    EXPECT_EQ(longest_match(text, text).length, 3U);
}

TEST(Lookup, WhatRepeatsItselfGoesOn) {
    std::vector<Token> out;
    repeat_from(tokens_of("abcab"), 2, 7, out);
    EXPECT_EQ(out, tokens_of("cabcabc"));
    repeat_from(tokens_of("aaa"), 2, 4, out);
    EXPECT_EQ(out, tokens_of("aaaa"));
}

TEST(Acceptance, FollowsWhatWasSeenOfSuchGuesses) {
    using Kind = Acceptance::Kind;
    Acceptance acceptance(16);
    EXPECT_DOUBLE_EQ(acceptance.rate(Kind::kMatchOf3, 0.3), 0.3);
    for (int i = 0; i < 50; ++i) acceptance.note(Acceptance::of_match(3), false);
    for (int i = 0; i < 400; ++i) acceptance.note(Acceptance::of_match(16), true);
    for (int i = 0; i < 50; ++i) acceptance.note(Acceptance::of_probability(0.95), true);
    EXPECT_LT(acceptance.rate(Kind::kMatchOf3, 0.3), 0.05);
    EXPECT_GT(acceptance.rate(Kind::kMatchOf16, 0.3), 0.9);
    EXPECT_DOUBLE_EQ(acceptance.rate(Kind::kMatchOf8, 0.3), 0.3);
    EXPECT_GT(acceptance.rate(Kind::kSure, 0.3), 0.75);
    EXPECT_DOUBLE_EQ(acceptance.rate(Kind::kLikely, 0.3), 0.3);
    for (int i = 0; i < 50; ++i) acceptance.note(Kind::kMatchOf3, true);
    EXPECT_GT(acceptance.rate(Kind::kMatchOf3, 0.3), 0.9) << "old guesses fade";
    acceptance.forget_drafted();
    EXPECT_DOUBLE_EQ(acceptance.rate(Kind::kSure, 0.3), 0.3);
    EXPECT_GT(acceptance.rate(Kind::kMatchOf3, 0.3), 0.9);
}

TEST(StepCost, KnowsProportionsWhateverTheMachineDoes) {
    StepCost cost;
    EXPECT_FALSE(cost.knows(1));
    EXPECT_GT(cost.of(8), cost.of(4));
    for (int i = 0; i < 20; ++i) {
        cost.note(1, 0.010);
        cost.note(9, 0.030);
    }
    EXPECT_TRUE(cost.knows(1));
    EXPECT_NEAR(cost.of(9) / cost.of(1), 3, 0.1);
    EXPECT_NEAR(cost.of(5) / cost.of(1), 2, 0.1);
    EXPECT_GT(cost.of(17), cost.of(9));
    for (int i = 0; i < 60; ++i) cost.note(9, 0.060);
    EXPECT_LT(cost.of(9) / cost.of(1), 5) << "a slower machine is slower for all";
    for (int i = 0; i < 70; ++i) cost.note(9, 0.060);
    EXPECT_FALSE(cost.knows(1)) << "too long ago";
    cost.note(0, 1);
    cost.note(StepCost::kMostRows + 1, 1);
    cost.note(1, 0);
    EXPECT_GT(cost.of(100'000), 0);
}

// Repeats the last 12 tokens, but now and then not: guesses are right in runs.
Token mostly_repeated(const std::vector<Token>& sequence) {
    constexpr std::size_t kPeriod = 12;
    const Token hashed = hashed_letter(sequence);
    if (sequence.size() < kPeriod) return hashed;
    if (hashed == 'q') return static_cast<Token>('a' + sequence.size() * 7 % 26);
    return sequence[sequence.size() - kPeriod];
}

class DraftingTest : public SchedulerTest {
  protected:
    static RequestOptions ask_drafting(std::string_view prompt, int max_tokens, int drafted = 8) {
        RequestOptions options = ask(prompt, max_tokens);
        options.draft_tokens = drafted;
        return options;
    }

    // What the cache holds in all sequences, and how it got there in how many steps.
    struct Run {
        RequestProgress progress;
        std::map<SequenceId, std::vector<Token>> cache;
        std::int32_t used = 0;
        std::size_t steps = 0;
    };
    Run run_alone(RequestOptions options, const FakeNext& next, const SchedulerOptions& limits) {
        make(limits, next);
        const auto request = submit(std::move(options));
        run();
        expect_empty();
        return {done(request), cache_->sequences, cache_->used(), cache_->steps.size()};
    }
    // The same request with and without guesses. Gives the one with.
    Run compare(RequestOptions options, const FakeNext& next = mostly_repeated) {
        const SchedulerOptions limits{.max_sequences = 4, .context_length = 400, .cells = 1000};
        RequestOptions plain_options = options;
        plain_options.draft_tokens = 0;
        const Run plain = run_alone(std::move(plain_options), next, limits);
        Run drafted = run_alone(std::move(options), next, limits);
        EXPECT_EQ(drafted.progress.text, plain.progress.text);
        EXPECT_EQ(drafted.progress.tokens, plain.progress.tokens);
        EXPECT_EQ(drafted.progress.outcome->reason, plain.progress.outcome->reason);
        EXPECT_EQ(drafted.progress.logprobs.size(), plain.progress.logprobs.size());
        EXPECT_EQ(drafted.cache, plain.cache) << "the cache is as if nothing had been guessed";
        EXPECT_EQ(drafted.used, plain.used);
        EXPECT_EQ(plain.progress.outcome->drafted_tokens, 0);
        EXPECT_LE(drafted.steps, plain.steps);
        const auto& outcome = *drafted.progress.outcome;
        EXPECT_LE(outcome.accepted_tokens, outcome.drafted_tokens);
        EXPECT_EQ(scheduler_->stats().drafted_tokens, static_cast<std::uint64_t>(outcome.drafted_tokens));
        EXPECT_EQ(scheduler_->stats().accepted_tokens, static_cast<std::uint64_t>(outcome.accepted_tokens));
        return drafted;
    }
};

TEST_F(DraftingTest, GreedyTextIsThatOfPlainDecoding) {
    const Run drafted = compare(ask_drafting(long_prefix(40), 200));
    EXPECT_LT(drafted.steps, 120U);
    EXPECT_GT(drafted.progress.outcome->accepted_tokens, 80);
    EXPECT_LT(drafted.progress.outcome->accepted_tokens, drafted.progress.outcome->drafted_tokens);
}

TEST_F(DraftingTest, SampledTextIsThatOfPlainDecoding) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        RequestOptions options = ask_drafting(long_prefix(40), 100, 1 + static_cast<int>(seed % 9));
        options.sampling = {.temperature = 1.5F, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed};
        options.sampling.logit_bias = {{kFakeBroken, -100.0F}};
        options.sampling.logprobs = 2;
        compare(options);
        options.sampling = {.temperature = 2.0F, .repeat_penalty = 1.3F, .mirostat = Mirostat::kSecond};
        options.sampling.seed = seed;
        options.sampling.logit_bias = {{kFakeBroken, -100.0F}};
        options.sampling.dry.multiplier = 0.5F;
        compare(options);
    }
}

TEST_F(DraftingTest, EndsInTheMiddleOfARun) {
    const FakeNext loop = [](const std::vector<Token>& s) { return s[s.size() - 10]; };
    RequestOptions options = ask_drafting("0123456789", 300);
    options.stops = {"45"};
    compare(options, loop);
    options.stops = {"96"};  // never
    EXPECT_LT(compare(options, loop).steps, 60U);
    options.stops.clear();
    options.stop_tokens = {'7'};
    compare(options, loop);
    options.stop_tokens.clear();
    for (int most = 1; most < 40; ++most) {
        options.max_tokens = most;
        EXPECT_EQ(compare(options, loop).progress.tokens.size(), static_cast<std::size_t>(most));
    }
    options.max_tokens = 100'000;  // the end of the context
    EXPECT_EQ(compare(options, loop).progress.tokens.size(), 390U);
    const FakeNext ends = [](const std::vector<Token>& s) {
        return s.size() == 64 ? kFakeEnd : s[s.size() - 10];
    };
    EXPECT_EQ(compare(options, ends).progress.outcome->reason, FinishReason::kStop);
    const FakeNext breaks = [](const std::vector<Token>& s) {
        return s.size() == 64 ? kFakeBroken : s[s.size() - 10];
    };
    make({.max_sequences = 1, .context_length = 400, .cells = 400}, breaks);
    const auto request = submit(options);
    run();
    EXPECT_EQ(request->finish(Deadline::now()).error().code, ErrorCode::kModel);
    expect_empty();
}

TEST_F(DraftingTest, AGrammarHoldsWithinARun) {
    const FakeNext loop = [](const std::vector<Token>& s) { return s[s.size() - 5]; };
    const auto grammar = parse_grammar("root ::= (\"ab,c \"){3} \"ab\" [x-z] \"!\"");
    ASSERT_TRUE(grammar);
    FakeModel model;
    const auto trie = std::make_shared<const TokenTrie>(model);
    for (int drafted = 1; drafted < 12; ++drafted) {
        RequestOptions options = ask_drafting("ab,c ab,c ", 50, drafted);
        options.grammar = *GrammarMachine::make(*grammar, trie);
        const Run made = compare(options, loop);
        EXPECT_EQ(made.progress.text, "ab,c ab,c ab,c abx!");
        EXPECT_GT(made.progress.outcome->accepted_tokens, 0);
    }
}

TEST_F(DraftingTest, CancelledInTheMiddle) {
    make({.max_sequences = 2, .context_length = 400, .cells = 400}, mostly_repeated);
    const auto request = submit(ask_drafting(long_prefix(40), 300));
    cache_->while_computing = [&](std::span<const BatchRow>) {
        if (cache_->steps.size() == 20) request->cancel();
    };
    run();
    const RequestProgress progress = done(request);
    EXPECT_EQ(progress.outcome->reason, FinishReason::kCancelled);
    EXPECT_EQ(progress.text,
              expected(long_prefix(40), static_cast<int>(progress.tokens.size()), mostly_repeated));
    expect_empty();
}

TEST_F(DraftingTest, GuessesFromWhatOthersOfItsSaltHaveSaid) {
    make({.max_sequences = 2, .context_length = 200, .cells = 2000});
    const std::string prompt = long_prefix(60);
    const std::string answer = expected(prompt, 100);
    submit(prompt + answer, 1);
    run();
    RequestOptions options = ask_drafting(prompt, 80);
    const auto same = submit(options);
    run();
    const RequestProgress first = done(same);
    EXPECT_EQ(first.text, answer.substr(0, 80));
    EXPECT_GT(first.outcome->accepted_tokens, 60);
    options.cache_salt = "another";
    const auto other = submit(options);
    run();
    const RequestProgress second = done(other);
    EXPECT_EQ(second.text, answer.substr(0, 80));
    EXPECT_LT(second.outcome->accepted_tokens, 10);
}

TEST_F(DraftingTest, TakesNoCellsThatOthersHold) {
    make({.max_sequences = 4, .context_length = 120, .cells = 240, .rows_per_step = 16}, mostly_repeated);
    std::vector<Ref<Request>> requests;
    std::vector<std::string> prompts;
    for (int i = 0; i < 6; ++i) {
        prompts.push_back(std::string(1, static_cast<char>('A' + i)) + long_prefix(24));
        requests.push_back(submit(ask_drafting(prompts.back(), 90)));
    }
    run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(done(requests[i]).text, expected(prompts[i], 90, mostly_repeated));
    }
    EXPECT_GT(scheduler_->stats().accepted_tokens, 0U);
    expect_empty();
}

TEST_F(DraftingTest, AFullContextGetsTheStepWithoutGuesses) {
    const FakeNext ends = [](const std::vector<Token>& s) {
        return s.size() == 64 ? kFakeEnd : s[s.size() - 10];
    };
    make({.max_sequences = 2, .context_length = 200, .cells = 200}, ends);
    cache_->cells = 64;  // less than the scheduler was told, and enough for this text
    std::size_t attempts = 0;
    cache_->before_step = [&]() -> Result<void> {
        ++attempts;
        return {};
    };
    const auto request = submit(ask_drafting("0123456789", 150, 16));
    run();
    EXPECT_EQ(done(request).text, expected("0123456789", 150, ends));
    EXPECT_GT(attempts, cache_->steps.size()) << "guesses did not fit in the end";
    expect_empty();
}

// A clock that the rows of each step move.
class PayingTest : public DraftingTest {
  protected:
    static Clock::time_point now() { return time_; }
    void make_timed(double per_row, const FakeNext& next, std::int32_t sequences = 1) {
        make({.max_sequences = sequences, .context_length = 1000, .cells = 4000, .now = &PayingTest::now},
             next);
        cache_->while_computing = [per_row](std::span<const BatchRow> rows) {
            const double seconds = 0.01 * (1 + per_row * static_cast<double>(rows.size() - 1));
            time_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
        };
    }
    static double seconds_of(const std::function<void()>& act) {
        const Clock::time_point start = time_;
        act();
        return seconds_between(start, time_);
    }
    static inline Clock::time_point time_ = Clock::now();
};

TEST_F(PayingTest, DraftsWhatRepeats) {
    const auto seconds = [this](int drafted) {
        make_timed(0.25, mostly_repeated);
        submit(ask_drafting(long_prefix(30), 400, drafted));
        return seconds_of([this] { run(); });
    };
    EXPECT_GT(seconds(0) / seconds(kDraftWhatPays), 1.3);
}

TEST_F(PayingTest, LeavesAloneWhatDoesNotRepeat) {
    // Few letters: matches everywhere, and hardly any guess is right.
    const FakeNext next = [](const std::vector<Token>& s) { return 'a' + (hashed_letter(s) - 'a') % 4; };
    for (const double per_row : {0.05, 0.25, 0.6}) {
        const auto seconds = [&](int drafted) {
            make_timed(per_row, next);
            submit(ask_drafting(long_prefix(30), 900, drafted));
            return seconds_of([this] { run(); });
        };
        EXPECT_GT(seconds(0) / seconds(kDraftWhatPays), 0.97) << per_row;
    }
}

TEST_F(PayingTest, RowsThatCostAsMuchAsStepsAreNotSpent) {
    make_timed(1.0, mostly_repeated);
    const auto request = submit(ask_drafting(long_prefix(30), 400, kDraftWhatPays));
    run();
    EXPECT_LT(done(request).outcome->drafted_tokens, 60) << "once it was measured";
}

TEST_F(PayingTest, ManySequencesShareWhatPays) {
    const auto seconds = [this](int drafted) {
        make_timed(0.1, mostly_repeated, 8);
        std::vector<Ref<Request>> requests;
        for (int i = 0; i < 8; ++i) {
            requests.push_back(submit(
                ask_drafting(std::string(1, static_cast<char>('A' + i)) + long_prefix(30), 300, drafted)));
        }
        const double taken = seconds_of([this] { run(); });
        for (int i = 0; i < 8; ++i) {
            EXPECT_EQ(
                done(requests[static_cast<std::size_t>(i)]).text,
                expected(std::string(1, static_cast<char>('A' + i)) + long_prefix(30), 300, mostly_repeated));
        }
        return taken;
    };
    EXPECT_GT(seconds(0) / seconds(kDraftWhatPays), 1.0);
}

TEST_F(DraftingTest, RandomRequestsAreAnsweredAsIfAlone) {
    std::mt19937 random(7);
    make({.max_sequences = 5, .context_length = 160, .cells = 500, .rows_per_step = 40}, mostly_repeated);
    struct Asked {
        Ref<Request> request;
        std::string prompt;
        int count;
        bool cancelled;
    };
    std::vector<Asked> asked;
    for (int i = 0; i < 300; ++i) {
        cache_->tiles.rows = i / 100 % 2 == 0 ? 0 : 9;
        const std::string prompt =
            long_prefix(1 + static_cast<int>(random() % 60)) + static_cast<char>('A' + random() % 5);
        const int count = 1 + static_cast<int>(random() % 90);
        RequestOptions options = ask_drafting(prompt, count, static_cast<int>(random() % 12) - 1);
        options.priority = static_cast<std::int32_t>(random() % 3);
        asked.push_back({submit(std::move(options)), prompt, count, false});
        for (auto steps = random() % 20; steps > 0; --steps) scheduler_->step();
        if (random() % 6 == 0) {
            Asked& any = asked[random() % asked.size()];
            any.request->cancel();
            any.cancelled = true;
        }
    }
    run();
    for (const Asked& one : asked) {
        const RequestProgress progress = done(one.request);
        const std::string text = expected(one.prompt, one.count, mostly_repeated);
        if (one.cancelled) {
            EXPECT_TRUE(text.starts_with(progress.text));
        } else {
            EXPECT_EQ(progress.text, text);
        }
    }
    EXPECT_GT(scheduler_->stats().accepted_tokens, 1000U);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    expect_empty();
}

}  // namespace
}  // namespace syncyte
