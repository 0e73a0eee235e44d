// A second model that guesses: nobody sees it but in the number of steps, and it may fail as it likes.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "scheduler/draft_model.h"
#include "scheduler_test.h"

namespace syncyte {
namespace {

// As the hashed letters go, but for one place in three.
Token often_right(const std::vector<Token>& sequence) {
    return sequence.size() % 3 == 0 ? 'A' : hashed_letter(sequence);
}
Token never_right(const std::vector<Token>& /*sequence*/) { return 'A'; }

class DraftModelTest : public SchedulerTest {
  protected:
    void make_drafting(const SchedulerOptions& options, FakeNext draft_next = hashed_letter,
                       const FakeNext& next = hashed_letter) {
        small_ = std::make_shared<FakeModel>(std::move(draft_next));
        small_cache_ = std::make_shared<FakeCache>();
        small_cache_->cells = options.cells;
        make(options, next);
        const DraftOptions draft{
            .sequences = Scheduler::context_sequences(options.max_sequences, CacheLayout::kUnified),
            .context_length = options.context_length,
            .cells = options.cells,
            .rows_per_step = options.rows_per_step,
            .vocabulary = kFakeVocabulary,
            .now = options.now};
        scheduler_ = std::make_unique<Scheduler>(
            model_, model_->make_context(cache_, options.rows_per_step), options,
            std::make_unique<DraftModel>(small_, small_->make_context(small_cache_, options.rows_per_step),
                                         draft));
    }

    static RequestOptions ask_drafting(std::string_view prompt, int max_tokens, int drafted = 4) {
        RequestOptions options = ask(prompt, max_tokens);
        options.draft_tokens = drafted;
        return options;
    }

    // The draft model's cache has no more of a text than has come of it, after prompts of so many tokens.
    void expect_settled(std::size_t prompt = 40) {
        expect_empty();
        std::set<std::vector<Token>> prefixes;
        for (const auto& [id, tokens] : small_cache_->sequences) {
            ASSERT_LE(std::ssize(tokens), scheduler_->options().context_length);
            for (std::size_t i = prompt; i < tokens.size(); ++i) {
                const std::vector<Token> before(tokens.begin(),
                                                tokens.begin() + static_cast<std::ptrdiff_t>(i));
                EXPECT_EQ(tokens[i], hashed_letter(before)) << "a guess that did not come, at " << i;
            }
        }
    }

    const SchedulerOptions limits_{.max_sequences = 4, .context_length = 300, .cells = 900};
    std::shared_ptr<FakeModel> small_;
    std::shared_ptr<FakeCache> small_cache_;
};

TEST_F(DraftModelTest, SavesStepsWhereItIsRight) {
    make_drafting(limits_);
    const auto request = submit(ask_drafting(long_prefix(40), 101, 4));
    run();
    const RequestProgress progress = done(request);
    EXPECT_EQ(progress.text, expected(long_prefix(40), 101));
    EXPECT_EQ(progress.outcome->accepted_tokens, progress.outcome->drafted_tokens);
    EXPECT_EQ(progress.outcome->accepted_tokens, 80);
    EXPECT_EQ(cache_->steps.size(), 21U);
    EXPECT_EQ(scheduler_->stats().draft_error, "");
    expect_settled();
}

TEST_F(DraftModelTest, IsNotSeenWhereItIsWrong) {
    for (const FakeNext& guesses : {FakeNext(often_right), FakeNext(never_right)}) {
        for (int drafted = 1; drafted < 9; ++drafted) {
            make_drafting(limits_, guesses);
            const auto request = submit(ask_drafting(long_prefix(40), 150, drafted));
            run();
            const RequestProgress progress = done(request);
            EXPECT_EQ(progress.text, expected(long_prefix(40), 150));
            EXPECT_GT(progress.outcome->drafted_tokens, progress.outcome->accepted_tokens);
            expect_settled();
        }
    }
    EXPECT_EQ(scheduler_->stats().accepted_tokens, 0U);
}

TEST_F(DraftModelTest, SampledTextIsThatOfPlainDecoding) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        RequestOptions options = ask_drafting(long_prefix(40), 100, 3);
        options.sampling = {.temperature = 3.5F, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed};
        options.sampling.logit_bias = {{kFakeBroken, -100.0F}};
        make_drafting(limits_);
        const auto drafted = submit(options);
        run();
        options.draft_tokens = 0;
        make(limits_);
        const auto plain = submit(options);
        run();
        EXPECT_EQ(done(drafted).tokens, done(plain).tokens);
        EXPECT_GT(done(drafted).outcome->drafted_tokens, 0);
    }
}

TEST_F(DraftModelTest, LeavesWhoDoesNotAskAlone) {
    make_drafting(limits_);
    const auto request = submit(long_prefix(40), 50);
    run();
    EXPECT_EQ(done(request).outcome->drafted_tokens, 0);
    EXPECT_TRUE(small_cache_->steps.empty());
}

TEST_F(DraftModelTest, ComputesALongPromptInPieces) {
    SchedulerOptions limits = limits_;
    limits.rows_per_step = 16;
    make_drafting(limits);
    const auto request = submit(ask_drafting(long_prefix(200), 60, 4));
    run();
    EXPECT_EQ(done(request).text, expected(long_prefix(200), 60));
    EXPECT_GT(done(request).outcome->accepted_tokens, 30);
    EXPECT_GT(small_cache_->steps.size(), 12U);
    for (const auto& step : small_cache_->steps) EXPECT_LE(step.size(), 16U);
    // Meanwhile the text went on, a token a step.
    EXPECT_GT(cache_->steps.size(), 13U + 12U);
    expect_settled(200);
}

TEST_F(DraftModelTest, SharesBeginnings) {
    make_drafting(limits_);
    submit(ask_drafting(long_prefix(200), 20));
    run();
    std::size_t rows = 0;
    for (const auto& step : small_cache_->steps) rows += step.size();
    const auto second = submit(ask_drafting(long_prefix(200) + "!", 20));
    run();
    EXPECT_EQ(done(second).text, expected(long_prefix(200) + "!", 20));
    std::size_t all = 0;
    for (const auto& step : small_cache_->steps) all += step.size();
    EXPECT_LT(all - rows, 60U);
    expect_settled(201);
}

TEST_F(DraftModelTest, AFailureIsItsOwn) {
    make_drafting(limits_);
    small_cache_->before_step = [&]() -> Result<void> {
        if (small_cache_->steps.size() < 20) return {};
        return failure(ErrorCode::kModel, "it broke");
    };
    const auto request = submit(ask_drafting(long_prefix(40), 150));
    run();
    EXPECT_EQ(done(request).text, expected(long_prefix(40), 150));
    EXPECT_GT(done(request).outcome->accepted_tokens, 10);
    EXPECT_EQ(scheduler_->stats().draft_error, "it broke");
    const auto next = submit(ask_drafting(long_prefix(50), 50));
    run();
    EXPECT_EQ(done(next).text, expected(long_prefix(50), 50));
    EXPECT_EQ(done(next).outcome->accepted_tokens, 0);
    EXPECT_EQ(small_cache_->steps.size(), 20U);
    expect_empty();
}

TEST_F(DraftModelTest, AFullCacheOfItsOwnCostsGuessesOnly) {
    make_drafting(limits_);
    small_cache_->cells = 90;  // less than it was told
    const auto request = submit(ask_drafting(long_prefix(40), 150));
    run();
    EXPECT_EQ(done(request).text, expected(long_prefix(40), 150));
    EXPECT_GT(done(request).outcome->accepted_tokens, 20);
    EXPECT_EQ(scheduler_->stats().draft_error, "its KV cache has less room than it said");
    expect_settled();
}

TEST_F(DraftModelTest, AFullStepOfTheModelLeavesNoGuessBehind) {
    make_drafting(limits_);
    int failures = 0;
    cache_->before_step = [&]() -> Result<void> {
        const bool again = cache_->steps.size() % 7 == 5 && failures++ % 3 < 2;  // also without guesses
        return again ? failure(ErrorCode::kFull) : Result<void>{};
    };
    const auto one = submit(ask_drafting(long_prefix(40), 100));
    const auto other = submit(ask_drafting("B" + long_prefix(40), 100));
    run();
    EXPECT_EQ(done(one).text, expected(long_prefix(40), 100));
    EXPECT_EQ(done(other).text, expected("B" + long_prefix(40), 100));
    EXPECT_GT(failures, 3);
    EXPECT_EQ(scheduler_->stats().draft_error, "");
    expect_settled(41);
}

TEST_F(DraftModelTest, OneThatGoesOnAsAnotherSharesNoCellThatIsComputedAgain) {
    make_drafting(limits_);
    const std::string prompt = long_prefix(40);
    const auto first = submit(ask_drafting(prompt, 100, 1));
    for (int i = 0; i < 10; ++i) scheduler_->step();
    std::vector<Ref<Request>> others;
    for (int i = 5; i < 30; i += 5) {
        others.push_back(submit(ask_drafting(prompt + expected(prompt, i), 20, 2)));
        scheduler_->step();
    }
    run();
    EXPECT_EQ(done(first).text, expected(prompt, 100));
    for (std::size_t i = 0; i < others.size(); ++i) {
        EXPECT_EQ(done(others[i]).text, expected(prompt + expected(prompt, 5 * static_cast<int>(i + 1)), 20));
    }
    EXPECT_EQ(scheduler_->stats().draft_error, "");
    expect_settled();
}

TEST_F(DraftModelTest, GuessesToTheEndOfTheContextAndNotFurther) {
    make_drafting(limits_);
    const auto request = submit(ask_drafting(long_prefix(40), 1000));
    run();
    const RequestProgress progress = done(request);
    EXPECT_EQ(progress.outcome->reason, FinishReason::kLength);
    EXPECT_EQ(progress.tokens.size(), 260U);
    EXPECT_EQ(progress.text, expected(long_prefix(40), 260));
    expect_settled();
}

TEST_F(DraftModelTest, GuessesNoTokenThatTheModelDoesNotKnow) {
    small_ = std::make_shared<FakeModel>();
    make_drafting(limits_, [](const std::vector<Token>&) { return kFakeBroken; });
    const auto request = submit(ask_drafting(long_prefix(40), 50));
    run();
    EXPECT_EQ(done(request).text, expected(long_prefix(40), 50));
}

TEST_F(DraftModelTest, TextsGiveTheGuessWhereTheyMatchWell) {
    const FakeNext loop = [](const std::vector<Token>& s) { return s[s.size() - 10]; };
    make_drafting(limits_, never_right, loop);
    const auto request = submit(ask_drafting("01234567890123456789", 100));
    run();
    EXPECT_GT(done(request).outcome->accepted_tokens, 70);
    EXPECT_TRUE(small_cache_->steps.empty());
}

TEST_F(DraftModelTest, CancelledInTheMiddle) {
    make_drafting(limits_);
    const auto request = submit(ask_drafting(long_prefix(40), 200));
    small_cache_->while_computing = [&](std::span<const BatchRow>) {
        if (small_cache_->steps.size() == 30) request->cancel();
    };
    run();
    EXPECT_EQ(done(request).outcome->reason, FinishReason::kCancelled);
    expect_settled();
}

TEST_F(DraftModelTest, EverythingEndsWithTheModel) {
    make_drafting(limits_);
    const auto request = submit(ask_drafting(long_prefix(40), 200));
    for (int i = 0; i < 10; ++i) scheduler_->step();
    scheduler_->fail_all(Error(ErrorCode::kClosed, "over"));
    EXPECT_EQ(request->finish(Deadline::now()).error().code, ErrorCode::kClosed);
    make_drafting(limits_);
    const auto interrupted = submit(ask_drafting(long_prefix(40), 200));
    for (int i = 0; i < 10; ++i) scheduler_->step();
    scheduler_->interrupt();
    EXPECT_TRUE(small_cache_->interrupted);
    run();
    EXPECT_EQ(interrupted->finish(Deadline::now()).error().code, ErrorCode::kClosed);
}

TEST_F(DraftModelTest, RandomRequestsAreAnsweredAsIfAlone) {
    std::mt19937 random(11);
    make_drafting({.max_sequences = 5, .context_length = 160, .cells = 500, .rows_per_step = 40},
                  often_right);
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
        options.cache_salt = random() % 4 == 0 ? "other" : "";
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
        const std::string text = expected(one.prompt, one.count);
        if (one.cancelled) {
            EXPECT_TRUE(text.starts_with(progress.text));
        } else {
            EXPECT_EQ(progress.text, text);
        }
    }
    EXPECT_GT(scheduler_->stats().accepted_tokens, 1000U);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    EXPECT_EQ(scheduler_->stats().draft_error, "");
    expect_empty();
}

// The draft model knows nothing of adapters: it guesses as for the model alone, and each keeps its text.
TEST_F(DraftModelTest, RequestsWithAdaptersAreAnsweredAsIfAlone) {
    std::mt19937 random(12);
    make_drafting({.max_sequences = 5, .context_length = 160, .cells = 500, .rows_per_step = 40},
                  often_right);
    struct Asked {
        Ref<Request> request;
        std::string prompt;
        int count;
        int by;
    };
    std::vector<AppliedAdapter> adapters(1);
    for (const float by : {1.0F, 2.0F}) {
        adapters.push_back({.weights = *model_->load_adapter(""), .scale = by});
    }
    std::vector<Asked> asked;
    for (int i = 0; i < 200; ++i) {
        const std::string prompt =
            long_prefix(1 + static_cast<int>(random() % 60)) + static_cast<char>('A' + random() % 5);
        const int count = 1 + static_cast<int>(random() % 90);
        RequestOptions options = ask_drafting(prompt, count, static_cast<int>(random() % 12) - 1);
        options.adapter = adapters[random() % adapters.size()];
        options.priority = static_cast<std::int32_t>(random() % 3);
        const int by = static_cast<int>(options.adapter.scale);
        asked.push_back({submit(std::move(options)), prompt, count, by});
        for (auto steps = random() % 20; steps > 0; --steps) scheduler_->step();
    }
    run();
    for (const Asked& one : asked) {
        const auto next = [&](const std::vector<Token>& s) { return adapted(hashed_letter(s), one.by); };
        EXPECT_EQ(done(one.request).text, expected(one.prompt, one.count, next));
    }
    EXPECT_GT(scheduler_->stats().accepted_tokens, 500U);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    EXPECT_EQ(scheduler_->stats().draft_error, "");
    expect_empty();
}

// A clock that the rows of each step move: those of the draft model a tenth as much.
class DraftPayingTest : public DraftModelTest {
  protected:
    static Clock::time_point now() { return time_; }
    double seconds(const FakeNext& guesses, double per_row, int drafted, int sequences = 1,
                   double draft_cost = 0.1) {
        make_drafting({.max_sequences = sequences,
                       .context_length = 3000,
                       .cells = 12000,
                       .now = &DraftPayingTest::now},
                      guesses);
        const auto moves = [per_row](double scale) {
            return [per_row, scale](std::span<const BatchRow> rows) {
                const double seconds = scale * 0.01 * (1 + per_row * static_cast<double>(rows.size() - 1));
                time_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
            };
        };
        cache_->while_computing = moves(1);
        small_cache_->while_computing = moves(draft_cost);
        std::vector<Ref<Request>> requests;
        std::vector<std::string> prompts;
        for (int i = 0; i < sequences; ++i) {
            prompts.push_back(static_cast<char>('A' + i) + long_prefix(60));
            requests.push_back(submit(ask_drafting(prompts.back(), 900, drafted)));
        }
        const Clock::time_point start = time_;
        run();
        for (std::size_t i = 0; i < requests.size(); ++i) {
            EXPECT_EQ(done(requests[i]).text, expected(prompts[i], 900));
        }
        return seconds_between(start, time_);
    }
    static inline Clock::time_point time_ = Clock::now();
};

TEST_F(DraftPayingTest, GuessesWhatPays) {
    const double plain = seconds(hashed_letter, 0.1, 0);
    EXPECT_GT(plain / seconds(hashed_letter, 0.1, kDraftWhatPays), 2.5);
    EXPECT_GT(plain / seconds(often_right, 0.1, kDraftWhatPays), 1.4);
    EXPECT_GT(seconds(hashed_letter, 0.05, 0, 2) / seconds(hashed_letter, 0.05, kDraftWhatPays, 2), 1.2);
}

TEST_F(DraftPayingTest, LeavesAloneWhatDoesNot) {
    for (const double per_row : {0.05, 0.25, 0.6}) {
        const double plain = seconds(never_right, per_row, 0);
        EXPECT_GT(plain / seconds(never_right, per_row, kDraftWhatPays), 0.97) << per_row;
    }
    // As slow as the model itself.
    EXPECT_GT(seconds(often_right, 0.25, 0) / seconds(often_right, 0.25, kDraftWhatPays, 1, 1.0), 0.97);
    // A row costs as much as a step.
    EXPECT_GT(seconds(hashed_letter, 1.0, 0) / seconds(hashed_letter, 1.0, kDraftWhatPays), 0.97);
}

TEST_F(DraftPayingTest, GivesADraftModelAnotherChance) {
    const FakeNext later = [](const std::vector<Token>& sequence) {
        return sequence.size() < 400 ? Token{'A'} : hashed_letter(sequence);
    };
    make_drafting({.max_sequences = 1, .context_length = 8000, .cells = 8000, .now = &DraftPayingTest::now},
                  later);
    cache_->while_computing = [](std::span<const BatchRow> rows) {
        time_ += std::chrono::microseconds(9000 + 1000 * rows.size());
    };
    small_cache_->while_computing = [](std::span<const BatchRow> rows) {
        time_ += std::chrono::microseconds(900 + 100 * rows.size());
    };
    const auto request = submit(ask_drafting(long_prefix(60), 6000, kDraftWhatPays));
    run();
    EXPECT_EQ(done(request).text, expected(long_prefix(60), 6000));
    EXPECT_GT(done(request).outcome->accepted_tokens, 2000);
}

TEST(DraftModelFits, WhereTheVocabularyIsTheSame) {
    FakeModel large;
    FakeModel small;
    EXPECT_TRUE(DraftModel::check_fits(large, small));
    small.facts().vocabulary_size -= 1;
    EXPECT_TRUE(DraftModel::check_fits(large, small)) << "sizes may be padded";
    small.facts().vocabulary_size += 100'000;
    EXPECT_TRUE(DraftModel::check_fits(large, small).error().message.contains("100257 tokens"));
    small.facts().vocabulary_size = large.facts().vocabulary_size;
    small.facts().generates = false;
    EXPECT_EQ(DraftModel::check_fits(large, small).error().code, ErrorCode::kInvalidArgument);
    small.facts().generates = true;
    small.set_piece(65, "another");
    EXPECT_TRUE(DraftModel::check_fits(large, small).error().message.contains("token 65"));
}

}  // namespace
}  // namespace syncyte
