#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "fake_model.h"
#include "scheduler/embedding_queue.h"
#include "scheduler/engine_thread.h"

namespace syncyte {
namespace {

// Texts of so many tokens, each its own.
EmbeddingJob::Texts texts_of(std::initializer_list<std::size_t> sizes) {
    EmbeddingJob::Texts texts;
    for (const std::size_t size : sizes) {
        std::vector<Token>& text = texts.emplace_back();
        for (std::size_t i = 0; i < size; ++i) {
            text.push_back(static_cast<Token>('a' + (i * 7 + texts.size()) % 26));
        }
    }
    return texts;
}

std::vector<float> expected(const std::vector<Token>& text, Pooling pooling) {
    const auto end = static_cast<Position>(text.size()) - 1;
    if (pooling == Pooling::kCls) return fake_vector(text.front(), 0);
    if (pooling != Pooling::kMean) return fake_vector(text.back(), end);
    std::vector<double> sum(2);
    for (Position i = 0; i <= end; ++i) {
        const auto one = fake_vector(text[static_cast<std::size_t>(i)], i);
        sum[0] += double{one[0]};
        sum[1] += double{one[1]};
    }
    const auto count = static_cast<double>(text.size());
    return {static_cast<float>(sum[0] / count), static_cast<float>(sum[1] / count)};
}

class EmbeddingTest : public ::testing::Test {
  protected:
    void make(Pooling pooling, bool causal = true) {
        model_ = std::make_shared<FakeModel>();
        model_->facts().causal = causal;
        model_->on_context([this](const ContextOptions& options, FakeCache& cache) -> Result<void> {
            if (refuses_) return failure(ErrorCode::kModel, "no memory");
            contexts_.push_back(options);
            cache.before_step = [this] {
                ++steps_;
                return before_step_();
            };
            cache.while_computing = [this](std::span<const BatchRow> rows) {
                rows_.emplace_back(rows.begin(), rows.end());
            };
            return {};
        });
        queue_ = std::make_unique<EmbeddingQueue>(
            model_, EmbeddingOptions{.pooling = pooling, .longest = 2000, .threads = 1});
    }

    Ref<EmbeddingJob> submit(EmbeddingJob::Texts texts, Normalize normalize = Normalize::kNo) {
        auto job = make_ref<EmbeddingJob>(std::move(texts), 2U, normalize, nullptr);
        queue_->submit(job);
        return job;
    }

    void run() {
        for (int i = 0; i < 10'000 && queue_->step(); ++i) {
        }
        ASSERT_FALSE(queue_->step()) << "it never came to rest";
    }

    static bool ended(const Ref<EmbeddingJob>& job) {
        const auto end = job->finish(Deadline::now());
        return end && end->outcome;
    }

    static ErrorCode error_of(const Ref<EmbeddingJob>& job) {
        const auto end = job->finish(Deadline::now());
        EXPECT_FALSE(end);
        return end ? ErrorCode::kEmpty : end.error().code;
    }

    static void expect_vectors(const Ref<EmbeddingJob>& job, Pooling pooling) {
        ASSERT_TRUE(ended(job));
        for (std::size_t i = 0; i < job->texts().size(); ++i) {
            const auto wanted = expected(job->texts()[i], pooling);
            EXPECT_NEAR(job->vectors()[2 * i], wanted[0], 1e-3) << "text " << i;
            EXPECT_NEAR(job->vectors()[2 * i + 1], wanted[1], 1e-3) << "text " << i;
        }
    }

    bool refuses_ = false;
    int steps_ = 0;
    std::function<Result<void>()> before_step_ = [] { return Result<void>{}; };
    std::vector<ContextOptions> contexts_;
    std::vector<std::vector<BatchRow>> rows_;
    std::shared_ptr<FakeModel> model_;
    std::unique_ptr<EmbeddingQueue> queue_;
};

TEST_F(EmbeddingTest, pools_texts_of_all_lengths_whole_or_in_pieces) {
    for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
        for (const bool causal : {true, false}) {
            make(pooling, causal);
            const auto job = submit(texts_of({1, 2, 127, 128, 129, 300, 512, 5, 1, 40}));
            run();
            expect_vectors(job, pooling);
        }
    }
}

TEST_F(EmbeddingTest, many_texts_share_a_step) {
    make(Pooling::kMean);
    const auto job = submit(texts_of({4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}));
    run();
    expect_vectors(job, Pooling::kMean);
    EXPECT_EQ(steps_, 1);
}

TEST_F(EmbeddingTest, a_text_whose_tokens_see_each_other_is_in_one_step) {
    make(Pooling::kMean, false);
    const auto job = submit(texts_of({300, 300, 100, 500}));
    run();
    expect_vectors(job, Pooling::kMean);
    for (const auto& step : rows_) {
        std::map<SequenceId, std::size_t> sizes;
        for (const BatchRow& row : step) ++sizes[row.sequence];
        for (const auto& [sequence, size] : sizes) {
            EXPECT_TRUE(size == 300 || size == 100 || size == 500) << size;
        }
    }
}

TEST_F(EmbeddingTest, steps_stay_short_where_texts_may_come_in_pieces) {
    make(Pooling::kLast);
    const auto job = submit(texts_of({500, 3, 400}));
    run();
    expect_vectors(job, Pooling::kLast);
    for (const auto& step : rows_) EXPECT_LE(step.size(), 128U);
}

TEST_F(EmbeddingTest, the_context_grows_with_the_texts) {
    make(Pooling::kMean);
    run();
    EXPECT_TRUE(contexts_.empty());
    const auto small = submit(texts_of({3, 512, 7}));
    run();
    const auto large = submit(texts_of({3, 513, 7, 2000}));
    run();
    expect_vectors(small, Pooling::kMean);
    expect_vectors(large, Pooling::kMean);
    ASSERT_EQ(contexts_.size(), 3U);
    EXPECT_EQ(contexts_[0].cells, 512);
    EXPECT_EQ(contexts_[1].cells, 1024);
    EXPECT_EQ(contexts_[2].cells, 2000);
    EXPECT_EQ(contexts_[2].pooling, Pooling::kMean);
}

TEST_F(EmbeddingTest, jobs_take_turns) {
    make(Pooling::kMean);
    EmbeddingJob::Texts many(500, std::vector<Token>(100, 'x'));
    const auto large = submit(std::move(many));
    const auto small = submit(texts_of({100}));
    for (int i = 0; i < 10 && !ended(small); ++i) queue_->step();
    expect_vectors(small, Pooling::kMean);
    EXPECT_FALSE(ended(large));
    run();
    expect_vectors(large, Pooling::kMean);
}

TEST_F(EmbeddingTest, vectors_that_are_no_numbers_are_errors) {
    make(Pooling::kMean);
    EmbeddingJob::Texts texts = texts_of({4, 700, 5, 6});
    texts[2][1] = kNumberless;
    const auto damaged = submit(std::move(texts));
    const auto sound = submit(texts_of({4, 300, 5}));
    run();
    EXPECT_EQ(error_of(damaged), ErrorCode::kModel);
    expect_vectors(sound, Pooling::kMean);
}

TEST_F(EmbeddingTest, vectors_are_normalised_on_request) {
    make(Pooling::kMean);
    const auto job = submit(texts_of({5, 9}), Normalize::kYes);
    run();
    ASSERT_TRUE(ended(job));
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_NEAR(std::hypot(job->vectors()[2 * i], job->vectors()[2 * i + 1]), 1, 1e-6);
    }
    const auto zero = make_ref<EmbeddingJob>(texts_of({1}), 2U, Normalize::kYes, nullptr);
    zero->put(0, std::vector<float>{0, 0});
    EXPECT_EQ(zero->vectors(), (std::vector<float>{0, 0}));
}

TEST_F(EmbeddingTest, no_texts_are_done_at_once) {
    make(Pooling::kMean);
    const auto job = submit({});
    EXPECT_TRUE(ended(job));
    EXPECT_TRUE(job->vectors().empty());
    EXPECT_FALSE(queue_->step());
}

TEST_F(EmbeddingTest, a_cancelled_job_leaves_within_a_step) {
    make(Pooling::kMean);
    const auto gone = submit(EmbeddingJob::Texts(50, std::vector<Token>(200, 'x')));
    const auto stays = submit(texts_of({300, 3}));
    queue_->step();
    gone->cancel();
    const int before = steps_;
    run();
    EXPECT_LE(steps_ - before, 4);
    const auto end = gone->finish(Deadline::now());
    ASSERT_TRUE(end && end->outcome);
    EXPECT_EQ(end->outcome->reason, FinishReason::kCancelled);
    expect_vectors(stays, Pooling::kMean);
}

TEST_F(EmbeddingTest, a_failed_step_fails_its_jobs_and_no_later_ones) {
    make(Pooling::kMean);
    before_step_ = [] { return failure(ErrorCode::kModel, "out of order"); };
    const auto failing = submit(texts_of({200, 200, 200}));
    run();
    EXPECT_EQ(error_of(failing), ErrorCode::kModel);
    before_step_ = [] { return Result<void>{}; };
    const auto later = submit(texts_of({200, 2}));
    run();
    expect_vectors(later, Pooling::kMean);
    EXPECT_EQ(contexts_.size(), 2U);  // the broken one is not used again
}

TEST_F(EmbeddingTest, without_a_context_jobs_fail_one_by_one) {
    make(Pooling::kMean);
    refuses_ = true;
    const auto first = submit(texts_of({2}));
    const auto second = submit(texts_of({3, 4}));
    run();
    EXPECT_EQ(error_of(first), ErrorCode::kModel);
    EXPECT_EQ(error_of(second), ErrorCode::kModel);
    refuses_ = false;
    const auto third = submit(texts_of({2}));
    run();
    expect_vectors(third, Pooling::kMean);
}

TEST_F(EmbeddingTest, what_is_left_when_the_model_closes_fails) {
    make(Pooling::kMean);
    const auto running = submit(texts_of({400, 2}));
    queue_->step();
    const auto waiting = submit(texts_of({2}));
    queue_->fail_all(Error(ErrorCode::kClosed));
    const auto late = submit(texts_of({2}));
    for (const auto& job : {running, waiting, late}) EXPECT_EQ(error_of(job), ErrorCode::kClosed);
    EXPECT_FALSE(queue_->step());
}

TEST_F(EmbeddingTest, an_interrupt_ends_what_runs_and_what_comes) {
    make(Pooling::kMean);
    const auto running = submit(texts_of({400}));
    queue_->step();
    queue_->interrupt();
    EXPECT_FALSE(queue_->step());
    EXPECT_EQ(error_of(running), ErrorCode::kClosed);
}

TEST_F(EmbeddingTest, an_interrupt_before_the_first_text_counts) {
    make(Pooling::kMean);
    queue_->interrupt();
    const auto job = submit(texts_of({4}));
    EXPECT_FALSE(queue_->step());
    EXPECT_EQ(error_of(job), ErrorCode::kClosed);
}

TEST(EmbeddingThreads, many_ask_while_the_engine_works) {
    auto model = std::make_shared<FakeModel>();
    const auto queue = std::make_shared<EmbeddingQueue>(
        model, EmbeddingOptions{.pooling = Pooling::kMean, .longest = 600, .threads = 1});
    ASSERT_TRUE(EngineThread::of_process().add(queue));
    std::vector<std::jthread> threads;
    threads.reserve(6);
    for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&queue, i] {
            for (int k = 0; k < 40; ++k) {
                auto job = make_ref<EmbeddingJob>(texts_of({1, static_cast<std::size_t>(1 + (k * 13) % 550)}),
                                                  2U, Normalize::kNo, nullptr);
                queue->submit(job);
                EngineThread::of_process().wake();
                if ((i + k) % 5 == 0) job->cancel();
                const auto end = job->finish(Deadline::after(60));
                ASSERT_TRUE(end && end->outcome);
                if (end->outcome->reason != FinishReason::kStop) continue;
                EXPECT_NEAR(job->vectors()[2], expected(job->texts()[1], Pooling::kMean)[0], 1e-2);
            }
        });
    }
    threads.clear();
    EngineThread::of_process().remove(queue);
}

}  // namespace
}  // namespace syncyte
