// Requests with adapters: whose turn it is, what each of them gives, and what they do not share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/adapter_turns.h"
#include "scheduler_test.h"

namespace syncyte {
namespace {

using ::testing::Each;

Clock::time_point the_time;

Clock::time_point test_time() { return the_time; }

Clock::duration seconds(double count) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

class AdapterTest : public SchedulerTest {
  protected:
    void make_timed(SchedulerOptions options, FakeNext next = hashed_letter) {
        options.now = &test_time;
        make(options, std::move(next));
        cache_->before_step = [this]() -> Result<void> {
            the_time += seconds(step_seconds_);
            return {};
        };
    }

    // Shifts every letter by `by`.
    AppliedAdapter adapter(int by) {
        return {.weights = *model_->load_adapter(""), .scale = static_cast<float>(by)};
    }

    Ref<Request> submit_with(const AppliedAdapter& adapter, std::string_view prompt, int max_tokens,
                             int priority = 0, Deadline deadline = Deadline::never(), int drafted = 0) {
        RequestOptions options = ask(prompt, max_tokens);
        options.draft_tokens = drafted;
        options.adapter = adapter;
        options.priority = priority;
        options.deadline = deadline;
        return submit(std::move(options));
    }

    static std::string alone(std::string_view prompt, int count, int by,
                             const FakeNext& next = hashed_letter) {
        return expected(prompt, count, [&next, by](const std::vector<Token>& sequence) {
            return adapted(next(sequence), by);
        });
    }

    // Which of `adapters` each step was of.
    std::vector<int> turns(const std::vector<AppliedAdapter>& adapters) const {
        std::vector<int> found;
        for (const AppliedAdapter& applied : cache_->applied) {
            const auto at = std::ranges::find(adapters, applied);
            found.push_back(at == adapters.end() ? -1 : static_cast<int>(at - adapters.begin()));
        }
        return found;
    }

    static bool ended(const std::vector<Ref<Request>>& requests) {
        return std::ranges::none_of(requests, [](const auto& one) {
            return one->watch(Request::Until::kFinished, {}, 0) == Request::Watch::kWaits;
        });
    }
    bool all_end(const std::vector<Ref<Request>>& requests, int steps) {
        for (; steps > 0 && !ended(requests); --steps) scheduler_->step();
        return ended(requests);
    }

    double step_seconds_ = 0.02;
};

// Repeats itself whatever the adapter, but now and then not: guesses are right in runs.
Token repeated_letter(const std::vector<Token>& sequence) {
    const Token hashed = hashed_letter(sequence);
    return hashed == 'q' ? hashed : static_cast<Token>('a' + sequence.size() * 5 % 12);
}

const SchedulerOptions kRoomy{.max_sequences = 8, .context_length = 512, .cells = 4096};

TEST_F(AdapterTest, EachGivesWhatItGivesAlone) {
    make_timed(kRoomy);
    const std::vector<AppliedAdapter> adapters{{}, adapter(1), adapter(5)};
    std::vector<Ref<Request>> requests;
    for (int round = 0; round < 4; ++round) {
        for (const AppliedAdapter& one : adapters) {
            requests.push_back(submit_with(one, long_prefix() + std::to_string(round), 30));
        }
    }
    run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const int by = static_cast<int>(adapters[i % 3].scale);
        EXPECT_EQ(done(requests[i]).text, alone(long_prefix() + std::to_string(i / 3), 30, by));
    }
    expect_empty();
}

TEST_F(AdapterTest, RequestsOfOneAdapterShareTheirSteps) {
    make_timed(kRoomy);
    const AppliedAdapter one = adapter(1);
    for (int i = 0; i < 4; ++i) submit_with(one, "abc" + std::to_string(i), 20);
    run();
    EXPECT_THAT(turns({one}), Each(0));
    EXPECT_LE(cache_->steps.size(), 22U);
}

TEST_F(AdapterTest, NothingIsReusedAcrossAdaptersOrScales) {
    make_timed(kRoomy);
    const AppliedAdapter one = adapter(1);
    AppliedAdapter stronger = one;
    stronger.scale = 2;
    const AppliedAdapter other = adapter(1);
    const auto reused = [&](const AppliedAdapter& which) {
        const Ref<Request> request = submit_with(which, long_prefix(40), 4);
        run();
        return done(request).outcome->reused_tokens;
    };
    EXPECT_EQ(reused({}), 0);
    EXPECT_EQ(reused(one), 0);
    EXPECT_EQ(reused(stronger), 0);
    EXPECT_EQ(reused(other), 0);
    EXPECT_EQ(reused(one), 39);
    EXPECT_EQ(reused(stronger), 39);
    EXPECT_EQ(reused({}), 39);
}

TEST_F(AdapterTest, ASaltCannotLookLikeAnAdapter) {
    make_timed(kRoomy);
    const AppliedAdapter one = adapter(1);
    submit_with(one, long_prefix(), 4);
    run();
    for (const char* prefix : {"", "base ", "adapter "}) {
        RequestOptions options = ask(long_prefix(), 4);
        options.cache_salt = prefix + std::to_string(one.weights->number()) + " 1065353216 ";
        const Ref<Request> request = submit(std::move(options));
        run();
        EXPECT_EQ(done(request).outcome->reused_tokens, 0);
    }
}

TEST_F(AdapterTest, TurnsAreEvenAndShort) {
    make_timed(kRoomy);
    const std::vector<AppliedAdapter> adapters{{}, adapter(1), adapter(2)};
    // Of the first there are many requests: its turns are no longer for that.
    for (int i = 0; i < 5; ++i) submit_with(adapters[0], "many" + std::to_string(i), 200);
    submit_with(adapters[1], "few", 200);
    submit_with(adapters[2], "few", 200);
    for (int i = 0; i < 300; ++i) scheduler_->step();
    const std::vector<int> found = turns(adapters);
    for (int which = 0; which < 3; ++which) {
        EXPECT_NEAR(static_cast<double>(std::ranges::count(found, which)), 100, 6);
        int gap = 0;
        for (const int turn : found) {
            gap = turn == which ? 0 : gap + 1;
            EXPECT_LE(gap, 11);  // two turns of five steps, and a part of a step
        }
    }
}

TEST_F(AdapterTest, TheMoreUrgentComesAtOnceAndStarvesNobody) {
    make_timed(kRoomy);
    const std::vector<AppliedAdapter> adapters{adapter(1), adapter(2)};
    submit_with(adapters[0], "usual", 400);
    scheduler_->step();
    scheduler_->step();
    submit_with(adapters[1], "urgent", 400, 5);
    for (int i = 0; i < 350; ++i) scheduler_->step();
    const std::vector<int> found = turns(adapters);
    EXPECT_EQ(found[2], 1);
    const auto usual = std::ranges::count(found.begin() + 2, found.end(), 0);
    EXPECT_GE(usual, 10);  // a turn of five steps about every two seconds
    EXPECT_LE(usual, 25);
    int gap = 0;
    for (const int turn : found) {
        gap = turn == 0 ? 0 : gap + 1;
        EXPECT_LE(gap, 101);
    }
}

TEST_F(AdapterTest, AFloodOfOneKeepsNobodyWaiting) {
    SchedulerOptions options = kRoomy;
    options.max_sequences = 4;
    for (const double pace : {0.001, 0.02, 1.0}) {  // seconds a step: waits that count as priority, and not
        make_timed(options);
        step_seconds_ = pace;
        const AppliedAdapter flooded = adapter(1);
        const AppliedAdapter other = adapter(2);
        for (int i = 0; i < 60; ++i) submit_with(flooded, "flood" + std::to_string(i), 30);
        for (int i = 0; i < 5; ++i) scheduler_->step();
        const std::vector<Ref<Request>> few{submit_with(other, "one", 20), submit_with({}, "two", 20),
                                            submit_with(other, "three", 20)};
        // A place is free when the first of the flood end, after 30 steps. Then the steps are of three.
        EXPECT_TRUE(all_end(few, 180)) << pace;
        EXPECT_EQ(done(few[0]).text, alone("one", 20, 2));
        EXPECT_EQ(done(few[1]).text, alone("two", 20, 0));
        EXPECT_EQ(done(few[2]).text, alone("three", 20, 2));
        EXPECT_GT(scheduler_->stats().waiting, 30);
    }
}

TEST_F(AdapterTest, WhoAsksNowAndThenIsServedBesideFloodsThatNeverEnd) {
    SchedulerOptions options = kRoomy;
    options.max_sequences = 4;
    make_timed(options);
    const std::vector<AppliedAdapter> adapters{adapter(1), {}, adapter(2), adapter(3)};
    std::vector<Ref<Request>> floods;
    const auto flood = [&] {
        std::erase_if(floods, [](const auto& one) { return one->finish(Deadline::now()).has_value(); });
        while (floods.size() < 40) floods.push_back(submit_with(adapters[floods.size() % 2], "flood", 30));
    };
    for (int asked = 0; asked < 30; ++asked) {
        const std::vector<Ref<Request>> few{submit_with(adapters[2], "one", 10),
                                            submit_with(adapters[3], "other", 10)};
        int steps = 0;
        for (; steps < 300 && !ended(few); ++steps) {
            flood();
            scheduler_->step();
        }
        // For a place: until one of four has made 30 tokens in half of the steps, twice. Then a quarter of
        // the steps is its own.
        EXPECT_LE(steps, 200) << asked;
        for (const auto& one : few) EXPECT_EQ(done(one).tokens.size(), 10U);
    }
}

TEST_F(AdapterTest, MoreFloodsThanPlacesTakeTurnsOfPlaces) {
    SchedulerOptions options = kRoomy;
    options.max_sequences = 2;
    make_timed(options);
    std::vector<AppliedAdapter> adapters;
    for (int by = 1; by <= 5; ++by) adapters.push_back(adapter(by));
    std::vector<Ref<Request>> requests;
    for (const AppliedAdapter& one : adapters) {
        for (int i = 0; i < 40; ++i) requests.push_back(submit_with(one, "flood", 10));
    }
    for (int i = 0; i < 400; ++i) scheduler_->step();
    const std::vector<int> found = turns(adapters);
    for (int which = 0; which < 5; ++which) {
        EXPECT_NEAR(static_cast<double>(std::ranges::count(found, which)), 80, 25) << which;
    }
}

TEST_F(AdapterTest, AFloodOfMorePriorityStillGoesFirst) {
    SchedulerOptions options = kRoomy;
    options.max_sequences = 2;
    make_timed(options);
    const AppliedAdapter flooded = adapter(1);
    const AppliedAdapter other = adapter(2);
    std::vector<Ref<Request>> requests;
    for (int i = 0; i < 20; ++i) requests.push_back(submit_with(flooded, "flood", 10, 1));
    const std::vector<Ref<Request>> few{submit_with(other, "one", 10)};
    EXPECT_FALSE(all_end(few, 90));
    EXPECT_TRUE(all_end(requests, 60));
    EXPECT_TRUE(all_end(few, 20));
}

TEST_F(AdapterTest, TheEarlierDeadlineComesFirst) {
    make_timed(kRoomy);
    const std::vector<AppliedAdapter> adapters{adapter(1), adapter(2), adapter(3)};
    submit_with(adapters[0], "none", 20);
    submit_with(adapters[1], "later", 20, 0, Deadline::at(the_time + seconds(60)));
    submit_with(adapters[2], "soon", 20, 0, Deadline::at(the_time + seconds(0.5)));
    run();
    const std::vector<int> found = turns(adapters);
    EXPECT_TRUE(std::ranges::is_sorted(found, std::greater{})) << ::testing::PrintToString(found);
    EXPECT_EQ(found.front(), 2);
    EXPECT_EQ(found.back(), 0);
}

TEST_F(AdapterTest, WhoWaitsForRoomGoesOnAsBefore) {
    SchedulerOptions options = kRoomy;
    options.context_length = 100;
    options.cells = 160;  // not enough for all of them at once
    make_timed(options);
    const std::vector<AppliedAdapter> adapters{{}, adapter(1), adapter(2), adapter(3)};
    std::vector<Ref<Request>> requests;
    for (int i = 0; i < 16; ++i) {
        requests.push_back(
            submit_with(adapters[static_cast<std::size_t>(i) % 4], "p" + std::to_string(i), 60, i % 3));
    }
    run();
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    for (int i = 0; i < 16; ++i) {
        EXPECT_EQ(done(requests[static_cast<std::size_t>(i)]).text,
                  alone("p" + std::to_string(i), 60, i % 4));
    }
    expect_empty();
}

TEST_F(AdapterTest, GuessesChangeNoText) {
    for (const int drafted : {1, 8, kDraftWhatPays}) {
        make_timed(kRoomy, repeated_letter);
        const std::vector<AppliedAdapter> adapters{{}, adapter(1), adapter(5)};
        std::vector<Ref<Request>> requests;
        for (std::size_t i = 0; i < 8; ++i) {
            requests.push_back(
                submit_with(adapters[i % 3], "p" + std::to_string(i), 150, 0, Deadline::never(), drafted));
        }
        run();
        for (std::size_t i = 0; i < requests.size(); ++i) {
            const int by = static_cast<int>(adapters[i % 3].scale);
            EXPECT_EQ(done(requests[i]).text, alone("p" + std::to_string(i), 150, by, repeated_letter));
        }
        EXPECT_GT(scheduler_->stats().accepted_tokens, 100U);
        EXPECT_GT(scheduler_->stats().drafted_tokens, scheduler_->stats().accepted_tokens);
        expect_empty();
    }
}

TEST_F(AdapterTest, GuessesComeFromTextsOfTheSameAdapterAlone) {
    make_timed(kRoomy);
    const std::string prompt = long_prefix(60);
    const std::string answer = alone(prompt, 100, 1);
    const AppliedAdapter one = adapter(1);
    AppliedAdapter as_one = one;
    as_one.scale = 27;  // says the same
    submit_with(one, prompt + answer, 1);
    run();
    const auto accepted = [&](const AppliedAdapter& which) {
        const auto request = submit_with(which, prompt, 80, 0, Deadline::never(), 8);
        run();
        const RequestProgress progress = done(request);
        EXPECT_EQ(progress.text, answer.substr(0, 80));
        return progress.outcome->accepted_tokens;
    };
    EXPECT_LT(accepted(as_one), 10);
    EXPECT_LT(accepted(adapter(1)), 10);
    EXPECT_GT(accepted(one), 60);
}

TEST_F(AdapterTest, RandomRequestsThatGuessAreAnsweredAsIfAlone) {
    SchedulerOptions options{.max_sequences = 5, .context_length = 160, .cells = 500, .rows_per_step = 40};
    make_timed(options, repeated_letter);
    const std::vector<AppliedAdapter> adapters{{}, adapter(1), adapter(2), adapter(27)};
    std::mt19937 random(11);
    struct Asked {
        Ref<Request> request;
        std::string prompt;
        int count;
        int by;
        bool cancelled;
    };
    std::vector<Asked> asked;
    for (int i = 0; i < 300; ++i) {
        const AppliedAdapter& which = adapters[random() % adapters.size()];
        const std::string prompt =
            long_prefix(1 + static_cast<int>(random() % 60)) + static_cast<char>('A' + random() % 5);
        const int count = 1 + static_cast<int>(random() % 90);
        const auto priority = static_cast<int>(random() % 3);
        const auto drafted = static_cast<int>(random() % 12) - 1;
        asked.push_back({submit_with(which, prompt, count, priority, Deadline::never(), drafted), prompt,
                         count, static_cast<int>(which.scale), false});
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
        const std::string text = alone(one.prompt, one.count, one.by, repeated_letter);
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

TEST_F(AdapterTest, ItIsLetGoWithItsLastRequest) {
    make_timed(kRoomy);
    AppliedAdapter one = adapter(1);
    const std::weak_ptr<const Adapter> watched = one.weights;
    Ref<Request> request = submit_with(one, long_prefix(), 10);
    one = {};
    scheduler_->step();
    request->cancel();
    request = nullptr;
    EXPECT_FALSE(watched.expired());
    run();
    cache_->applied.clear();
    EXPECT_FALSE(cache_->computed_with.empty());
    cache_->computed_with.clear();
    cache_->saved.clear();
    EXPECT_TRUE(watched.expired());
}

TEST_F(AdapterTest, AFailedContextLetsItGoToo) {
    make_timed(kRoomy);
    AppliedAdapter one = adapter(1);
    const std::weak_ptr<const Adapter> watched = one.weights;
    Ref<Request> request = submit_with(one, "abc", 100);
    one = {};
    scheduler_->step();
    cache_->before_step = []() -> Result<void> { return failure(ErrorCode::kModel, "broken"); };
    scheduler_->step();
    EXPECT_FALSE(request->finish(Deadline::now()));
    request = nullptr;
    cache_->applied.clear();
    cache_->computed_with.clear();
    EXPECT_TRUE(watched.expired());
}

TEST(AdapterTurnsTest, WhoOnlyComesBackWaitsAgain) {
    FakeModel model;
    const AppliedAdapter a{*model.load_adapter(""), 1};
    const AppliedAdapter b{*model.load_adapter(""), 1};
    const std::vector<AdapterTurns::Claim> both{{.adapter = a}, {.adapter = b}};
    const std::vector<AdapterTurns::Claim> only_a{{.adapter = a}};
    AdapterTurns turns;
    const Clock::time_point now{};
    EXPECT_EQ(turns.choose({}, now), AppliedAdapter{});
    EXPECT_EQ(turns.choose(both, now), a);
    turns.note(0.05);
    EXPECT_EQ(turns.choose(both, now + seconds(0.05)), a);
    turns.note(0.06);
    EXPECT_EQ(turns.choose(both, now + seconds(0.11)), b);
    EXPECT_EQ(turns.choose(only_a, now + seconds(0.12)), a);
    turns.note(1);
    EXPECT_EQ(turns.choose(only_a, now + seconds(1.2)), a);
    turns.note(0.01);
    EXPECT_EQ(turns.choose(both, now + seconds(1.3)), a);
}

}  // namespace
}  // namespace syncyte
