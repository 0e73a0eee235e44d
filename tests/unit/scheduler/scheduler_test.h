// A scheduler over the fake model, driven step by step.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fake_model.h"
#include "scheduler/scheduler.h"

namespace syncyte {

inline std::vector<Token> tokens_of(std::string_view text) {
    std::vector<Token> tokens;
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    return tokens;
}

// What greedy generation gives for a prompt, computed without a scheduler.
inline std::string expected(std::string_view prompt, int count, const FakeNext& next = hashed_letter) {
    std::vector<Token> sequence = tokens_of(prompt);
    std::string text;
    for (int i = 0; i < count; ++i) {
        const Token token = next(sequence);
        if (token == kFakeEnd) break;
        sequence.push_back(token);
        text += static_cast<char>(token);
    }
    return text;
}

class SchedulerTest : public ::testing::Test {
  protected:
    void make(const SchedulerOptions& options, FakeNext next = hashed_letter) {
        model_ = std::make_shared<FakeModel>(std::move(next));
        cache_ = std::make_shared<FakeCache>();
        cache_->cells = options.cells;
        scheduler_ =
            std::make_unique<Scheduler>(model_, model_->make_context(cache_, options.rows_per_step), options);
    }

    static RequestOptions ask(std::string_view prompt, int max_tokens) {
        RequestOptions options;
        options.prompt = tokens_of(prompt);
        options.max_tokens = max_tokens;
        options.sampling.temperature = 0;
        options.draft_tokens = 0;
        return options;
    }

    Ref<Request> submit(RequestOptions options) {
        Ref<Request> request = make_ref<Request>(std::move(options), nullptr);
        EXPECT_TRUE(scheduler_->submit(request));
        return request;
    }
    Ref<Request> submit(std::string_view prompt, int max_tokens) { return submit(ask(prompt, max_tokens)); }

    void run() {
        for (int i = 0; i < 10'000 && scheduler_->step(); ++i) {
        }
        ASSERT_FALSE(scheduler_->step()) << "the scheduler never came to rest";
    }

    static RequestProgress done(const Ref<Request>& request) {
        Result<RequestProgress> progress = request->finish(Deadline::now());
        EXPECT_TRUE(progress.has_value()) << "not finished";
        return progress ? *progress : RequestProgress{};
    }

    // Nothing is held any more, but for what is kept and counted.
    void expect_empty() {
        const SchedulerStats stats = scheduler_->stats();
        EXPECT_EQ(stats.running, 0);
        EXPECT_EQ(stats.waiting, 0);
        EXPECT_EQ(stats.paused, 0);
        EXPECT_EQ(stats.cell_use.used, stats.kept_cells);
        EXPECT_EQ(stats.reserved_cells, 0);
        EXPECT_EQ(cache_->used(), stats.kept_cells);
    }

    std::shared_ptr<FakeModel> model_;
    std::shared_ptr<FakeCache> cache_;
    std::unique_ptr<Scheduler> scheduler_;
};

inline std::string long_prefix(int length = 100) {
    std::string text;
    for (int i = 0; i < length; ++i) text += static_cast<char>('a' + i * 7 % 26);
    return text;
}

}  // namespace syncyte
